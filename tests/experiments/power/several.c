#include "tests/experiments/power/several.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "tests/experiments/power/rules.h"

#define IMAGES      1000
#define CHALLENGERS VERDICT_CONTENDERS_MAX
#define ACCURACY    0.7 /* of the first active one */

static uint16_t image_of(bool right)
{
	return right ? WORKER_OUTCOME_CORRECT : 0;
}

static struct verdict decide(double level, const struct outcomes *active, const struct outcomes *c,
			     size_t n)
{
	const struct verdict_conf conf = {.confidence = 1 - level};
	const struct contender a = {.outcomes = *active};
	struct contender all[CHALLENGERS] = {0};
	struct verdict v;
	for (size_t i = 0; i < n; i++)
		all[i].outcomes = c[i];
	if (verdict_choose(&conf, &a, all, n, &v, NULL) < 0)
		abort();
	return v;
}

static struct outcomes part(const struct outcomes *o, size_t from, size_t n)
{
	return (struct outcomes){o->image + from, n};
}

/* ---- several challengers at once ---- */

/* The images come in no order, so the first half is as good as any. */
static bool halves(const struct outcomes *active, const struct outcomes *c, size_t n)
{
	size_t half = active->n / 2, best = 0;
	for (size_t i = 0; i < n; i++) {
		struct outcomes this = part(&c[i], 0, half), that = part(&c[best], 0, half);
		if (outcomes_correct(&this) > outcomes_correct(&that))
			best = i;
	}
	struct outcomes a = part(active, half, active->n - half);
	struct outcomes b = part(&c[best], half, active->n - half);
	return outcomes_correct(&c[best]) > outcomes_correct(active) && verdict_p(&a, &b) <= LEVEL;
}

static void draw_several(const struct several *s, struct rng *rng, const struct outcomes *active,
			 const struct outcomes *c)
{
	double win = (s->disagree + s->better) / 2 / (1 - ACCURACY);
	double lose = (s->disagree - s->better) / 2 / ACCURACY;
	for (size_t i = 0; i < s->n; i++) {
		bool right = rng_unit(rng) < ACCURACY, alike = rng_unit(rng) < s->kin;
		double common = rng_unit(rng);
		active->image[i] = image_of(right);
		for (size_t k = 0; k < s->challengers; k++) {
			double u = alike ? common : rng_unit(rng);
			c[k].image[i] = image_of(right != (u < (right ? lose : win)));
		}
	}
}

void several_run(const struct several *s, int trials, struct rng *rng, double ret_swaps[SEVERAL_N])
{
	static uint16_t room[CHALLENGERS + 1][IMAGES];
	struct outcomes active = {room[0], s->n}, c[CHALLENGERS];
	int swaps[SEVERAL_N] = {0};
	for (size_t k = 0; k < s->challengers; k++)
		c[k] = (struct outcomes){room[k + 1], s->n};
	for (int t = 0; t < trials; t++) {
		draw_several(s, rng, &active, c);
		struct verdict v = decide(LEVEL, &active, c, s->challengers);
		bool more = false, sure = false;
		for (size_t k = 0; k < s->challengers; k++) {
			more |= v.pair[k].won > v.pair[k].lost;
			sure |= v.pair[k].p <= LEVEL;
		}
		swaps[SEVERAL_BEST] += more;
		swaps[SEVERAL_UNCORRECTED] += sure;
		swaps[SEVERAL_VERDICT] += v.winner >= 0;
		swaps[SEVERAL_HALVES] += halves(&active, c, s->challengers);
	}
	for (int r = 0; r < SEVERAL_N; r++)
		ret_swaps[r] = (double)swaps[r] / trials;
}

/* ---- rounds ---- */

/* Every checkpoint is right where a common one is, but for a tenth of the images; two of the same
 * accuracy so disagree on about 18 %. */
static void draw_round(const struct outcomes *common, double better, struct rng *rng,
		       struct outcomes *ret)
{
	const double differs = 0.1;
	double lose = (differs - better) / 2 / ACCURACY,
	       win = (differs + better) / 2 / (1 - ACCURACY);
	for (size_t i = 0; i < common->n; i++) {
		bool right = common->image[i] & WORKER_OUTCOME_CORRECT;
		ret->image[i] = image_of(right != (rng_unit(rng) < (right ? lose : win)));
	}
}

static bool takes(enum rounds_rule rule, int rounds, const struct outcomes *active,
		  const struct outcomes *c)
{
	switch (rule) {
	case ROUNDS_BEST:
		return outcomes_correct(c) > outcomes_correct(active);
	case ROUNDS_LENIENT:
		return decide(0.2, active, c, 1).winner == 0;
	case ROUNDS_VERDICT:
		return decide(LEVEL, active, c, 1).winner == 0;
	default:
		return decide(LEVEL / rounds, active, c, 1).winner == 0;
	}
}

struct lineage {
	uint16_t room[IMAGES];
	double better;
	int swaps;
};

static void one_trial(const struct rounds *r, struct rng *rng, struct lineage of[ROUNDS_N])
{
	uint16_t room[2][IMAGES];
	struct outcomes common = {room[0], r->n}, c = {room[1], r->n};
	for (size_t i = 0; i < r->n; i++)
		common.image[i] = image_of(rng_unit(rng) < ACCURACY);
	draw_round(&common, 0, rng, &c);
	for (int rule = 0; rule < ROUNDS_N; rule++) {
		of[rule] = (struct lineage){0};
		for (size_t i = 0; i < r->n; i++)
			of[rule].room[i] = c.image[i];
	}
	for (int t = 0; t < r->rounds; t++) {
		double better = rng_between(rng, r->worst, r->best);
		draw_round(&common, better, rng, &c);
		for (int rule = 0; rule < ROUNDS_N; rule++) {
			struct outcomes active = {of[rule].room, r->n};
			if (!takes((enum rounds_rule)rule, r->rounds, &active, &c))
				continue;
			for (size_t i = 0; i < r->n; i++)
				of[rule].room[i] = c.image[i];
			of[rule].better = better;
			of[rule].swaps++;
		}
	}
}

void rounds_run(const struct rounds *r, int trials, struct rng *rng,
		struct rounds_result ret[ROUNDS_N])
{
	static struct lineage of[ROUNDS_N];
	for (int rule = 0; rule < ROUNDS_N; rule++)
		ret[rule] = (struct rounds_result){0};
	for (int t = 0; t < trials; t++) {
		one_trial(r, rng, of);
		for (int rule = 0; rule < ROUNDS_N; rule++) {
			const struct outcomes o = {of[rule].room, r->n};
			double seen = (double)outcomes_correct(&o) / (double)r->n;
			ret[rule].swaps += (double)of[rule].swaps / trials;
			ret[rule].gain += of[rule].better / trials;
			ret[rule].optimism += (seen - ACCURACY - of[rule].better) / trials;
		}
	}
}

/* ---- the floor ---- */

#define SURE_GAIN 100 /* images of other classes that only the challenger is right on */

struct floor_result floor_run(size_t n, double lost, double points, int trials, struct rng *rng)
{
	const double recall = 0.9, lucky = 0.5; /* of the active one; of what it is wrong on */
	static const int32_t protect[] = {1};
	const struct verdict_conf conf = {1 - LEVEL, points, protect, 1};
	static uint16_t none[SURE_GAIN], all[SURE_GAIN], had[IMAGES], has[IMAGES];
	int seen = 0, proven = 0;
	for (size_t i = 0; i < SURE_GAIN; i++)
		all[i] = image_of(true);
	for (int t = 0; t < trials; t++) {
		struct outcomes a = {had, n}, c = {has, n};
		for (size_t i = 0; i < n; i++) {
			bool right = rng_unit(rng) < recall;
			/* Without a loss it forgets as much as it learns. */
			double forgets = ((1 - recall) * lucky + lost) / recall;
			had[i] = image_of(right);
			has[i] = image_of(rng_unit(rng) < (right ? 1 - forgets : lucky));
		}
		struct class_score before = {1, (int64_t)n, (int64_t)outcomes_correct(&a)};
		struct class_score after = {1, (int64_t)n, (int64_t)outcomes_correct(&c)};
		struct contender active = {{none, SURE_GAIN}, &before, 1};
		struct contender other = {{all, SURE_GAIN}, &after, 1};
		struct verdict v;
		if (verdict_choose(&conf, &active, &other, 1, &v, NULL) < 0)
			abort();
		seen += v.pair[0].why == VERDICT_FLOOR;
		proven += verdict_p(&c, &a) <= LEVEL;
	}
	return (struct floor_result){(double)seen / trials, (double)proven / trials};
}
