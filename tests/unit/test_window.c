/* When a window closes, its shares, and the mixture's weights, as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/mixture.h"
#include "edge-trainer/window.h"

struct row {
	int64_t at_ms;
	struct window_seen seen; /* pulled, scored, busy */
	bool closes;
	int64_t next_ms; /* afterwards; -1: it is not open */
};

static void play(const struct window_conf *conf, const struct row *rows, size_t n)
{
	struct window w = {-1};

	for (size_t i = 0; i < n; i++) {
		if (window_step(&w, conf, &rows[i].seen, rows[i].at_ms) != rows[i].closes)
			fail_msg("row %zu: expected that it %s", i,
				 rows[i].closes ? "closes" : "does not close");
		if (window_next_ms(&w, conf) != rows[i].next_ms)
			fail_msg("row %zu: next %lld, expected %lld", i,
				 (long long)window_next_ms(&w, conf), (long long)rows[i].next_ms);
	}
}

#define PLAY(conf, ...)                                              \
	do {                                                         \
		const struct row rows_[] = {__VA_ARGS__};            \
		play(conf, rows_, sizeof(rows_) / sizeof(rows_[0])); \
	} while (0)

static void test_closing(void **state)
{
	const struct window_conf by_time = {60000, 0}, by_number = {60000, 3};

	(void)state;
	PLAY(&by_time, {0, {0, 0, false}, false, -1}, {1000, {1, 0, false}, false, 61000},
	     {2000, {1, 1, false}, false, 61000}, {60999, {9, 8, false}, false, 61000},
	     {61000, {9, 8, false}, true, -1},
	     /* the ninth opens the next */
	     {61001, {1, 0, false}, false, 121001});
	/* Its time is over, but nobody is scored; then there is one. */
	PLAY(&by_time, {0, {1, 0, false}, false, 60000}, {60000, {1, 0, false}, false, 60000},
	     {60500, {1, 1, false}, true, -1});
	/* All left again: it begins anew. */
	PLAY(&by_time, {0, {1, 1, false}, false, 60000}, {50000, {0, 0, false}, false, -1},
	     {55000, {1, 1, false}, false, 115000});
	/* As many as there are devices; and stragglers' time is limited all the same. */
	PLAY(&by_number, {0, {3, 2, false}, false, 60000}, {10, {3, 3, false}, true, -1},
	     {20, {2, 2, false}, false, 60020}, {60020, {2, 2, false}, true, -1});
	/* The one before it is at work: it gathers on. */
	PLAY(&by_number, {0, {3, 3, true}, false, 60000}, {70000, {5, 5, true}, false, 60000},
	     {70001, {5, 5, false}, true, -1});
	PLAY(&by_time, {0, {WINDOW_MEMBERS_MAX, WINDOW_MEMBERS_MAX - 1, false}, false, 60000},
	     {1, {WINDOW_MEMBERS_MAX + 9, WINDOW_MEMBERS_MAX, false}, true, -1});
}

static void test_shares(void **state)
{
	static const struct {
		size_t n;
		struct window_count c[5]; /* images seen, epochs */
		double shares[5];
	} rows[] = {
		{1, {{700, 7}}, {1}},
		{2, {{700, 7}, {700, 7}}, {0.5, 0.5}},
		{2, {{700, 7}, {300, 1}}, {0.25, 0.75}}, /* images an epoch */
		{3, {{100, 1}, {200, 1}, {100, 1}}, {0.25, 0.5, 0.25}},
		/* A forger: no more than three times the median, however many there are. */
		{3, {{100, 1}, {INT64_C(1) << 52, 1}, {100, 1}}, {0.2, 0.6, 0.2}},
		{5,
		 {{100, 1}, {100, 1}, {9000, 1}, {100, 1}, {100, 1}},
		 {1. / 7, 1. / 7, 3. / 7, 1. / 7, 1. / 7}},
		{2, {{100, 1}, {INT64_C(1) << 52, 1}}, {0.25, 0.75}},
		/* Nothing said, or nonsense. */
		{2, {{0, 0}, {0, 9}}, {0.75, 0.25}},
		{2, {{-5, -1}, {1, 1}}, {0.5, 0.5}},
		/* A small one has a small share. */
		{3, {{1000, 1}, {1000, 1}, {10, 1}}, {1000. / 2010, 1000. / 2010, 10. / 2010}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		double got[WINDOW_MEMBERS_MAX];

		window_shares(rows[i].c, rows[i].n, got);
		for (size_t k = 0; k < rows[i].n; k++)
			if (fabs(got[k] - rows[i].shares[k]) > 1e-12)
				fail_msg("row %zu: share %zu: found %.12g, expected %.12g", i, k,
					 got[k], rows[i].shares[k]);
	}
}

#define E2 7.38905609893065 /* exp(2) */

static void test_mixture(void **state)
{
	static const struct {
		struct mixture_conf conf; /* eta, floor */
		size_t n;
		struct mixture_member m[4]; /* weight, error */
		double then[4];
	} rows[] = {
		{{4, 0.25}, 1, {{0, 0.9}}, {1}},
		/* Nothing was said: equal, or as it was. */
		{{4, 0.25}, 3, {{0, -1}, {0, -1}, {0, -1}}, {1, 1, 1}},
		{{4, 0.25}, 2, {{1.5, -1}, {0.5, -1}}, {1.5, 0.5}},
		/* The worst gains. */
		{{4, 0}, 2, {{1, 0.75}, {1, 0.25}}, {2 * E2 / (E2 + 1), 2 / (E2 + 1)}},
		{{0, 0}, 2, {{1, 0.75}, {1, 0.25}}, {1, 1}},
		/* Who has said nothing stays between. */
		{{4, 0},
		 3,
		 {{1, 0.6}, {1, 0.4}, {1, -1}},
		 {3 * 1.4918246976412703 / 3.1621447, 3 * 0.6703200460356393 / 3.1621447,
		  3 / 3.1621447}},
		/* A newcomer, and one that was away, mean the same in a window of any size. */
		{{4, 0}, 4, {{2, -1}, {0.5, -1}, {0.5, -1}, {0, -1}}, {2, 0.5, 0.5, 1}},
		/* The floor, and the most that one can have. */
		{{20, 0.25}, 4, {{1, 0}, {1, 0}, {1, 0}, {1, 1}}, {2. / 3, 2. / 3, 2. / 3, 2}},
		{{20, 0.25}, 4, {{1, 1}, {1, 1}, {1, 1}, {1, 0}}, {1.25, 1.25, 1.25, 0.25}},
		{{20, 1}, 3, {{1, 1}, {1, 0}, {1, 0}}, {1, 1, 1}},
		/* Not numbers. */
		{{4, 0.25}, 2, {{NAN, -1}, {-3, -1}}, {1, 1}},
		{{4, 0.25}, 2, {{INFINITY, -1}, {1, -1}}, {1, 1}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct mixture_member m[4];
		double sum = 0;

		memcpy(m, rows[i].m, sizeof(m));
		mixture_step(&rows[i].conf, m, rows[i].n);
		for (size_t k = 0; k < rows[i].n; k++) {
			sum += m[k].weight;
			assert_true(m[k].error < 0);
			if (fabs(m[k].weight - rows[i].then[k]) > 1e-6)
				fail_msg("row %zu: weight %zu: found %.9g, expected %.9g", i, k,
					 m[k].weight, rows[i].then[k]);
		}
		assert_true(fabs(sum - (double)rows[i].n) < 1e-6);
	}
}

/* A device that says that all fails it, window after window, and the others, which fare better and
 * better: it gets half at most, and they keep their floor. */
static void test_liar(void **state)
{
	struct mixture_conf conf = {4, 0.25};
	struct mixture_member m[10] = {0};

	(void)state;
	for (int round = 0; round < 1000; round++) {
		for (size_t i = 0; i < 10; i++)
			m[i].error = i == 0 ? 1 : 0.05;
		mixture_step(&conf, m, 10);
		for (size_t i = 0; i < 10; i++)
			assert_true(m[i].weight >= 0.25 - 1e-9 && m[i].weight <= 5 + 1e-9);
	}
	assert_true(m[0].weight > 4.9);
	/* Once it is found to fare as they do, they come back. */
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < 10; i++)
			m[i].error = i == 0 ? 0.05 : 0.3;
		mixture_step(&conf, m, 10);
	}
	assert_true(m[0].weight < 0.3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closing),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_mixture),
		cmocka_unit_test(test_liar),
	};

	return cmocka_run_group_tests_name("test_window", tests, NULL, NULL);
}
