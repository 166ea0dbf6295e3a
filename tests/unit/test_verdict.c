/* The decision between checkpoints: what it lets through, what it keeps out, and how often it errs.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "device-agent/verdict.h"

#define CHALLENGERS 8
#define IMAGES      1000

static const struct verdict_conf plain = {.confidence = 0.95};

/* ---- outcomes ---- */

static void test_parses(void **state)
{
	struct outcomes o = {0};
	struct err err = {0};
	assert_int_equal(outcomes_parse("x", "80010000ffff7fff", &o, &err), 0);
	assert_int_equal(o.n, 4);
	assert_int_equal(o.image[0], WORKER_OUTCOME_CORRECT | 1);
	assert_int_equal(o.image[3], WORKER_OUTCOME_LOSS_STEPS);
	assert_int_equal(outcomes_correct(&o), 2);
	outcomes_done(&o);
	outcomes_done(&o);
	assert_int_equal(outcomes_parse("x", "", &o, &err), 0);
	assert_int_equal(o.n, 0);
	outcomes_done(&o);
}

static void test_refuses_hostile_text(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"8", "1 characters"},
		{"80001", "5 characters"},
		{"800g", "image 0"},
		{"8000 123", "image 1"},
		{"8000+123", "image 1"},
		{"0x80", "image 0"},
		{"80008F00", "image 1"}, /* one way to write a thing */
		{"8000\xff\xff\xff\xff", "image 1"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct outcomes o = {.n = 7};
		struct err err = {0};
		assert_int_equal(outcomes_parse("m.json", cases[i].text, &o, &err), -EINVAL);
		assert_non_null(strstr(err.text, "m.json"));
		assert_non_null(strstr(err.text, cases[i].says));
		assert_int_equal(o.n, 7);
	}
}

static void test_as_many_images_as_allowed(void **state)
{
	size_t most = (size_t)WORKER_OUTCOMES_MAX * 4;
	_cleanup_free_ char *text = malloc(most + 5);
	struct outcomes o;
	struct err err = {0};
	assert_non_null(text);
	memset(text, '8', most + 4);
	text[most + 4] = 0;
	assert_int_equal(outcomes_parse("x", text, &o, &err), -EFBIG);
	assert_non_null(strstr(err.text, "100000"));
	text[most] = 0;
	assert_int_equal(outcomes_parse("x", text, &o, &err), 0);
	assert_int_equal(o.n, WORKER_OUTCOMES_MAX);
	/* And judged: a hundred thousand images against the same. */
	struct contender c = {.outcomes = o};
	struct verdict v;
	assert_int_equal(verdict_choose(&plain, &c, &c, 1, &v, &err), 0);
	assert_int_equal(v.winner, -1);
	outcomes_done(&o);
}

/* ---- one challenger ---- */

/* An active one and challengers, image by image. */
struct bench {
	uint16_t active_image[IMAGES], image[CHALLENGERS][IMAGES];
	struct contender active, c[CHALLENGERS];
};

static void bench_init(struct bench *b, size_t n)
{
	memset(b, 0, sizeof(*b));
	b->active.outcomes = (struct outcomes){b->active_image, n};
	for (size_t i = 0; i < CHALLENGERS; i++)
		b->c[i].outcomes = (struct outcomes){b->image[i], n};
}

/* Challenger `i` alone is right on `won` images, the active one alone on `lost`, both on the
 * others. */
static void bench_pair(struct bench *b, size_t i, size_t won, size_t lost)
{
	size_t n = b->active.outcomes.n;
	assert_true(won + lost <= n);
	for (size_t k = 0; k < n; k++) {
		b->active_image[k] = k < won ? 0 : WORKER_OUTCOME_CORRECT;
		b->image[i][k] = k >= won && k < won + lost ? 0 : WORKER_OUTCOME_CORRECT;
	}
}

static struct verdict choose(const struct verdict_conf *conf, const struct bench *b, size_t n)
{
	struct verdict v;
	struct err err = {0};
	assert_int_equal(verdict_choose(conf, &b->active, b->c, n, &v, &err), 0);
	return v;
}

static double p_of(size_t n, size_t won, size_t lost)
{
	static struct bench b;
	bench_init(&b, n);
	bench_pair(&b, 0, won, lost);
	return choose(&plain, &b, 1).pair[0].p;
}

static void test_one_challenger(void **state)
{
	static const struct {
		size_t n, won, lost;
		enum verdict_why why;
	} cases[] = {
		{30, 0, 0, VERDICT_NOT_MORE},    /* the same on every image */
		{30, 5, 5, VERDICT_NOT_MORE},    /* a tie */
		{30, 5, 6, VERDICT_NOT_MORE},    /* worse */
		{30, 1, 0, VERDICT_UNSURE},      /* noise */
		{30, 3, 0, VERDICT_UNSURE},      /* 1/16 */
		{30, 4, 0, VERDICT_TAKES_OVER},  /* 1/32 */
		{30, 5, 1, VERDICT_UNSURE},      /* 1/64 + 3/64 = 0.0625 */
		{30, 6, 1, VERDICT_TAKES_OVER},  /* 1/128 + 3.5/128 */
		{30, 20, 2, VERDICT_TAKES_OVER}, /* a network at chance against one that learned */
		{4, 4, 0, VERDICT_UNSURE},       /* all discordant: 1/16, exact */
		{5, 5, 0, VERDICT_TAKES_OVER},   /* 1/32, exact */
		{1, 1, 0, VERDICT_UNSURE},
		{100, 12, 5, VERDICT_TAKES_OVER},  /* 0.0245 + 0.0236; the exact test: 0.0717 */
		{100, 12, 6, VERDICT_UNSURE},      /* 0.0481 + 0.0354 */
		{500, 29, 16, VERDICT_TAKES_OVER}, /* 0.0178 + 0.0092 */
		{1000, 1000, 0, VERDICT_TAKES_OVER},
	};
	static struct bench b;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bench_init(&b, cases[i].n);
		bench_pair(&b, 0, cases[i].won, cases[i].lost);
		struct verdict v = choose(&plain, &b, 1);
		assert_int_equal(v.pair[0].why, cases[i].why);
		assert_int_equal(v.winner, cases[i].why == VERDICT_TAKES_OVER ? 0 : -1);
		assert_int_equal(v.n, cases[i].n);
		assert_int_equal(v.pair[0].won, cases[i].won);
		assert_int_equal(v.pair[0].lost, cases[i].lost);
	}
}

/* Published: Bentur et al.'s 21 children, 7 against 1, two-sided mid-p 0.0391 and exact 0.0703 in
 * Fagerland, Lydersen and Laake (2013). Enumerated: Pascal's triangle in whole numbers. */
static void test_p_values(void **state)
{
	assert_float_equal(2 * p_of(21, 7, 1), 0.0390625, 1e-12);
	assert_float_equal(2 * p_of(8, 7, 1), 0.0703125, 1e-12); /* more than half: exact */
	for (size_t m = 1; m <= 60; m++) {
		uint64_t ways = 1, beyond = 0; /* of `lost` of m */
		for (size_t lost = 0; 2 * lost < m; lost++) {
			double scale = ldexp(1, -(int)m);
			double here = (double)ways * scale, p = (double)beyond * scale;
			assert_float_equal(p_of(2 * m, m - lost, lost) / (p + here / 2), 1, 1e-9);
			assert_float_equal(p_of(2 * m - 1, m - lost, lost) / (p + here), 1, 1e-9);
			beyond += ways;
			ways = ways * (m - lost) / (lost + 1);
		}
	}
	/* 1,000 fair coins, 60 % heads: the normal tail at z = 6.32, 1.4e-10 with its correction */
	assert_true(p_of(1000, 600, 400) > 5e-11 && p_of(1000, 600, 400) < 2.5e-10);
}

/* The losses decide nothing between a challenger and what is active. */
static void test_losses_do_not_swap(void **state)
{
	static struct bench b;
	bench_init(&b, 500);
	bench_pair(&b, 0, 20, 20);
	for (size_t k = 0; k < 500; k++)
		b.active_image[k] |= WORKER_OUTCOME_LOSS_STEPS;
	assert_int_equal(choose(&plain, &b, 1).winner, -1);
	bench_pair(&b, 0, 21, 20);
	assert_int_equal(choose(&plain, &b, 1).pair[0].why, VERDICT_UNSURE);
}

static void test_confidence_is_the_callers(void **state)
{
	static struct bench b;
	struct verdict_conf conf = plain;
	bench_init(&b, 100);
	bench_pair(&b, 0, 8, 1); /* 1/512 + 4.5/512 = 0.0107 */
	assert_int_equal(choose(&conf, &b, 1).winner, 0);
	conf.confidence = 0.99;
	assert_int_equal(choose(&conf, &b, 1).winner, -1);
	conf.confidence = 0.5;
	bench_pair(&b, 0, 1, 0);
	assert_int_equal(choose(&conf, &b, 1).winner, 0);
	/* Never at equal scores, whatever the confidence. */
	bench_pair(&b, 0, 7, 7);
	assert_int_equal(choose(&conf, &b, 1).winner, -1);
}

/* ---- several ---- */

static void test_several_share_the_level(void **state)
{
	static struct bench b;
	bench_init(&b, 100);
	for (size_t i = 0; i < 4; i++)
		bench_pair(&b, i, 5, 0); /* 1/64 each */
	struct verdict v = choose(&plain, &b, 3);
	assert_int_equal(v.winner, 0);
	assert_float_equal(v.pair[0].p, 1.0 / 64, 1e-12);
	assert_float_equal(v.pair[2].p_adjusted, 3.0 / 64, 1e-12);
	assert_int_equal(v.pair[1].why, VERDICT_OUTSCORED);
	v = choose(&plain, &b, 4);
	assert_int_equal(v.winner, -1);
	assert_float_equal(v.pair[3].p_adjusted, 4.0 / 64, 1e-12);
	assert_int_equal(v.pair[0].why, VERDICT_UNSURE);
}

/* Holm: once the first is through, the second needs less; then the most correct takes over. */
static void test_most_correct_of_the_sure_ones(void **state)
{
	static struct bench b;
	bench_init(&b, 100);
	for (size_t k = 0; k < 100; k++) {
		b.active_image[k] = k < 20 ? 0 : WORKER_OUTCOME_CORRECT;
		b.image[0][k] = k >= 7 && k < 20 ? 0 : WORKER_OUTCOME_CORRECT;  /* 7 : 0 */
		b.image[1][k] = k >= 20 && k < 29 ? 0 : WORKER_OUTCOME_CORRECT; /* 20 : 9, 0.0205 */
	}
	struct verdict v = choose(&plain, &b, 2);
	assert_true(v.pair[1].p * 2 < 0.05);
	assert_int_equal(v.winner, 1);
	assert_int_equal(v.pair[0].why, VERDICT_OUTSCORED);
	/* 20 : 10 is 0.036 by itself: enough only as the last one. */
	b.image[1][29] = 0;
	v = choose(&plain, &b, 2);
	assert_true(v.pair[1].p * 2 > 0.05);
	assert_int_equal(v.winner, 1);
	assert_float_equal(v.pair[1].p_adjusted, v.pair[1].p, 1e-15);
	/* Without a sure one beside it, it waits. */
	bench_pair(&b, 2, 0, 0);
	for (size_t k = 0; k < 100; k++) {
		b.active_image[k] = k < 20 ? 0 : WORKER_OUTCOME_CORRECT;
		b.image[0][k] = b.active_image[k];
	}
	assert_int_equal(choose(&plain, &b, 2).winner, -1);
}

static void test_less_loss_then_the_first(void **state)
{
	static struct bench b;
	bench_init(&b, 100);
	for (size_t i = 0; i < 3; i++)
		bench_pair(&b, i, 10, 0);
	assert_int_equal(choose(&plain, &b, 3).winner, 0);
	b.image[0][50] |= 2;
	b.image[1][60] |= 1;
	b.image[2][70] |= 1;
	struct verdict v = choose(&plain, &b, 3);
	assert_int_equal(v.winner, 1);
	assert_int_equal(v.pair[0].why, VERDICT_OUTSCORED);
	assert_int_equal(v.pair[2].why, VERDICT_OUTSCORED);
}

static void test_nothing_is_active(void **state)
{
	static struct bench b;
	struct verdict v;
	struct err err = {0};
	bench_init(&b, 30);
	bench_pair(&b, 0, 0, 30);
	bench_pair(&b, 1, 0, 29);
	/* The most correct one at once, however little it knows. */
	assert_int_equal(verdict_choose(&plain, NULL, b.c, 2, &v, &err), 0);
	assert_int_equal(v.winner, 1);
	assert_int_equal(v.pair[1].why, VERDICT_FIRST);
	assert_int_equal(v.pair[0].why, VERDICT_OUTSCORED);
	assert_int_equal(v.n, 30);
	assert_int_equal(verdict_choose(&plain, NULL, b.c, 1, &v, &err), 0);
	assert_int_equal(v.winner, 0);
	assert_int_equal(verdict_choose(&plain, NULL, NULL, 0, &v, &err), 0);
	assert_int_equal(v.winner, -1);
	assert_int_equal(verdict_choose(&plain, &b.active, NULL, 0, &v, &err), 0);
	assert_int_equal(v.winner, -1);
}

static void test_no_images(void **state)
{
	static struct bench b;
	struct verdict v;
	bench_init(&b, 0);
	v = choose(&plain, &b, 2);
	assert_int_equal(v.winner, -1);
	assert_int_equal(v.n, 0);
	assert_int_equal(v.pair[0].why, VERDICT_NOT_MORE);
	assert_int_equal(verdict_choose(&plain, NULL, b.c, 2, &v, NULL), 0);
	assert_int_equal(v.winner, -1);
	assert_int_equal(v.pair[0].why, VERDICT_NOT_MORE);
}

/* ---- the floor ---- */

static void test_floor(void **state)
{
	/* Of the protected class 3: images, right before, right after, points it may lose. */
	static const struct {
		int64_t n, had, has;
		double points;
		bool holds;
	} cases[] = {
		{100, 90, 85, 5, true},  {100, 90, 84, 5, false}, {100, 90, 90, 0, true},
		{100, 90, 89, 0, false}, {5, 5, 4, 5, false},     {5, 5, 4, 20, true},
		{5, 5, 5, 5, true},      {19, 19, 18, 5, false},  {20, 20, 19, 5, true},
		{30, 10, 20, 0, true},   {0, 0, 0, 0, true},      {10, 10, 0, 100, true},
	};
	static const int32_t protect[] = {3};
	static struct bench b;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct class_score had[] = {{1, 50, 10}, {3, cases[i].n, cases[i].had}};
		struct class_score has[] = {{3, cases[i].n, cases[i].has}, {1, 50, 0}};
		struct verdict_conf conf = plain;
		conf.floor_points = cases[i].points;
		conf.protect = protect;
		conf.n_protect = 1;
		bench_init(&b, 200);
		bench_pair(&b, 0, 60, 0); /* whatever it gains in all */
		b.active.per_class = had;
		b.c[0].per_class = has;
		b.active.n_per_class = b.c[0].n_per_class = 2;
		struct verdict v = choose(&conf, &b, 1);
		assert_int_equal(v.pair[0].why,
				 cases[i].holds ? VERDICT_TAKES_OVER : VERDICT_FLOOR);
		assert_int_equal(v.winner, cases[i].holds ? 0 : -1);
		assert_int_equal(v.unwatched, cases[i].n == 0);
		if (!cases[i].holds)
			assert_int_equal(v.pair[0].floor_class, 3);
	}
}

/* The next best takes over where the best one falls through the floor. */
static void test_floor_leaves_the_others(void **state)
{
	static const int32_t protect[] = {0, 7};
	struct class_score whole[] = {{0, 10, 10}, {7, 10, 10}}, less[] = {{0, 10, 10}, {7, 10, 8}};
	struct verdict_conf conf = {0.95, 10, protect, 2};
	static struct bench b;
	bench_init(&b, 100);
	for (size_t k = 0; k < 100; k++) {
		b.active_image[k] = k < 30 ? 0 : WORKER_OUTCOME_CORRECT;
		b.image[0][k] = WORKER_OUTCOME_CORRECT;
		b.image[1][k] = k < 10 ? 0 : WORKER_OUTCOME_CORRECT;
	}
	b.active.per_class = b.c[1].per_class = whole;
	b.c[0].per_class = less;
	b.active.n_per_class = b.c[0].n_per_class = b.c[1].n_per_class = 2;
	struct verdict v = choose(&conf, &b, 2);
	assert_int_equal(v.winner, 1);
	assert_int_equal(v.pair[0].why, VERDICT_FLOOR);
	assert_int_equal(v.pair[0].floor_class, 7);
}

/* All private classes are watched as one, also beside a protected class; one of them may lose what
 * another gains, and all of them up to three images, as chance may have it. */
static void test_floor_of_private_classes(void **state)
{
	static const int32_t protect[] = {1};
	/* Of class 1, and of the private classes 4 and 6, right after. */
	static const struct {
		int64_t of_1, of_4, of_6;
		int32_t lost; /* class, 0: none */
	} cases[] = {
		{10, 5, 5, 0}, {10, 5, 4, 0}, {10, 5, 2, 0}, {10, 4, 3, 0}, {10, 3, 3, 4},
		{10, 5, 1, 4}, {10, 0, 7, 0}, {10, 0, 6, 4}, {8, 5, 5, 1},  {8, 0, 0, 1},
	};
	struct class_score had[] = {{1, 10, 10}, {3, 10, 10}, {4, 5, 5}, {6, 10, 5}};
	static struct bench b;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct class_score has[] = {{6, 10, cases[i].of_6},
					    {3, 10, 0}, /* not watched */
					    {4, 5, cases[i].of_4},
					    {1, 10, cases[i].of_1}};
		struct verdict_conf conf = {0.95, 10, protect, 1, 4};
		bench_init(&b, 200);
		bench_pair(&b, 0, 60, 0);
		b.active.per_class = had;
		b.c[0].per_class = has;
		b.active.n_per_class = b.c[0].n_per_class = 4;
		struct verdict v = choose(&conf, &b, 1);
		assert_int_equal(v.pair[0].why, cases[i].lost ? VERDICT_FLOOR : VERDICT_TAKES_OVER);
		if (cases[i].lost)
			assert_int_equal(v.pair[0].floor_class, cases[i].lost);
		assert_int_equal(v.unwatched, 0);
		conf.private_from = 7; /* none has an image */
		v = choose(&conf, &b, 1);
		assert_int_equal(v.winner, cases[i].of_1 < 9 ? -1 : 0);
		assert_int_equal(v.unwatched, 1);
	}
}

/* ---- what is no question ---- */

static void test_refuses(void **state)
{
	static const int32_t protect[] = {1};
	static struct bench b;
	struct contender many[VERDICT_CONTENDERS_MAX + 1];
	struct class_score five[] = {{1, 5, 5}}, four[] = {{1, 4, 4}};
	struct verdict v = {.winner = 42};
	struct err err = {0};
	bench_init(&b, 30);
	static const double bad_confidence[] = {NAN, 0, 0.49, 1, 95, -1};
	for (size_t i = 0; i < ARRAY_LEN(bad_confidence); i++) {
		struct verdict_conf conf = {.confidence = bad_confidence[i]};
		assert_int_equal(verdict_choose(&conf, &b.active, b.c, 1, &v, &err), -EINVAL);
		assert_non_null(strstr(err.text, "confidence"));
	}
	static const double bad_floor[] = {NAN, -1, 101};
	for (size_t i = 0; i < ARRAY_LEN(bad_floor); i++) {
		struct verdict_conf conf = {.confidence = 0.95, .floor_points = bad_floor[i]};
		assert_int_equal(verdict_choose(&conf, &b.active, b.c, 1, &v, &err), -EINVAL);
		assert_non_null(strstr(err.text, "floor"));
	}
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = b.c[0];
	assert_int_equal(verdict_choose(&plain, &b.active, many, ARRAY_LEN(many), &v, &err),
			 -EINVAL);
	assert_int_equal(verdict_choose(&plain, &b.active, many, ARRAY_LEN(many) - 1, &v, &err), 0);
	v.winner = 42;
	b.c[1].outcomes.n = 29;
	assert_int_equal(verdict_choose(&plain, &b.active, b.c, 2, &v, &err), -EINVAL);
	assert_non_null(strstr(err.text, "29"));
	assert_int_equal(verdict_choose(&plain, NULL, b.c, 2, &v, &err), -EINVAL);
	struct verdict_conf floor = {0.95, 5, protect, 1};
	b.active.per_class = five;
	b.active.n_per_class = 1;
	assert_int_equal(verdict_choose(&floor, &b.active, b.c, 1, &v, &err), -EINVAL);
	b.c[0].per_class = four;
	b.c[0].n_per_class = 1;
	assert_int_equal(verdict_choose(&floor, &b.active, b.c, 1, &v, NULL), -EINVAL);
	assert_int_equal(v.winner, 42);
}

static void test_names(void **state)
{
	for (int w = 0; w < VERDICT_WHY_N; w++) {
		assert_non_null(verdict_why_name((enum verdict_why)w));
		for (int other = 0; other < w; other++)
			assert_string_not_equal(verdict_why_name((enum verdict_why)w),
						verdict_why_name((enum verdict_why)other));
	}
}

/* ---- how often it errs ---- */

/* How many of m discordant images a challenger must win of n to take over by itself. */
static size_t needed(size_t n, size_t m, double level)
{
	size_t won = m;
	while (2 * won > m && p_of(n, won, m - won) <= level)
		won--;
	return won + 1;
}

static double binomial(size_t n, size_t k, double p)
{
	return exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) +
		   (double)k * log(p) + (double)(n - k) * log1p(-p));
}

/* Enumerated, not drawn: of two equally good ones, whatever share of images they disagree on. */
static void test_keeps_the_level(void **state)
{
	static const size_t sizes[] = {5, 10, 12, 30, 50, 70, 100, 150};
	static const double levels[] = {0.05, 0.025, 0.0125, 0.01, 0.00625};
	double most = 0, least = 1;
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
		for (size_t l = 0; l < ARRAY_LEN(levels); l++) {
			size_t n = sizes[s];
			double swapped[151], worst = 0;
			for (size_t m = 0; m <= n; m++) {
				swapped[m] = 0;
				for (size_t won = needed(n, m, levels[l]); won <= m; won++)
					swapped[m] += binomial(m, won, 0.5);
			}
			for (int d = 1; d < 200; d++) {
				double sum = 0;
				for (size_t m = 0; m <= n; m++)
					sum += binomial(n, m, d / 200.0) * swapped[m];
				worst = fmax(worst, sum / levels[l]);
			}
			most = fmax(most, worst);
			if (n >= 100)
				least = fmin(least, worst);
		}
	}
	assert_true(most < 1.003);
	/* And uses it: the exact test's is 0.85 of it at 100 images. */
	assert_true(least > 0.93);
}

/* Draws challengers that are as good as the active one: each is the same network but for `d` of the
 * images, on which either is right as often. */
static void draw_equals(struct bench *b, size_t n_challengers, double d, struct rng *rng)
{
	for (size_t k = 0; k < b->active.outcomes.n; k++) {
		unsigned active = rng_unit(rng) < 0.5;
		b->active_image[k] = (uint16_t)(active << 15);
		for (size_t i = 0; i < n_challengers; i++)
			b->image[i][k] = (uint16_t)((active ^ (rng_unit(rng) < d)) << 15);
	}
}

struct errs {
	double verdict, naive, uncorrected; /* shares of trials with a swap */
};

static struct errs errs_of(size_t n_challengers, int trials, struct rng *rng)
{
	static struct bench b;
	int verdict = 0, naive = 0, uncorrected = 0;
	bench_init(&b, 100);
	for (int t = 0; t < trials; t++) {
		draw_equals(&b, n_challengers, 0.2, rng);
		struct verdict v = choose(&plain, &b, n_challengers);
		bool more = false, sure = false;
		for (size_t i = 0; i < n_challengers; i++) {
			more |= v.pair[i].won > v.pair[i].lost;
			sure |= v.pair[i].p <= 0.05;
		}
		verdict += v.winner >= 0;
		naive += more;
		uncorrected += sure;
	}
	return (struct errs){(double)verdict / trials, (double)naive / trials,
			     (double)uncorrected / trials};
}

static void test_false_swaps(void **state)
{
	enum { TRIALS = 10000 };
	struct rng rng;
	double allowed = 0.05 + 3 * sqrt(0.05 * 0.95 / TRIALS);
	rng_init(&rng, 4);
	struct errs one = errs_of(1, TRIALS, &rng), many = errs_of(CHALLENGERS, TRIALS, &rng);
	assert_true(one.verdict <= allowed);
	assert_true(one.verdict >= 0.04);
	assert_true(one.naive > 0.4);
	assert_true(many.verdict <= allowed);
	assert_true(many.uncorrected > 2 * allowed);
}

static void test_deterministic(void **state)
{
	static struct bench b;
	struct rng rng;
	rng_init(&rng, 9);
	bench_init(&b, 300);
	draw_equals(&b, CHALLENGERS, 0.3, &rng);
	struct verdict first = choose(&plain, &b, CHALLENGERS);
	for (int i = 0; i < 3; i++) {
		struct verdict again = choose(&plain, &b, CHALLENGERS);
		assert_memory_equal(&again, &first, sizeof(first));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parses),
		cmocka_unit_test(test_refuses_hostile_text),
		cmocka_unit_test(test_as_many_images_as_allowed),
		cmocka_unit_test(test_one_challenger),
		cmocka_unit_test(test_p_values),
		cmocka_unit_test(test_losses_do_not_swap),
		cmocka_unit_test(test_confidence_is_the_callers),
		cmocka_unit_test(test_several_share_the_level),
		cmocka_unit_test(test_most_correct_of_the_sure_ones),
		cmocka_unit_test(test_less_loss_then_the_first),
		cmocka_unit_test(test_nothing_is_active),
		cmocka_unit_test(test_no_images),
		cmocka_unit_test(test_floor),
		cmocka_unit_test(test_floor_leaves_the_others),
		cmocka_unit_test(test_floor_of_private_classes),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_keeps_the_level),
		cmocka_unit_test(test_false_swaps),
		cmocka_unit_test(test_deterministic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
