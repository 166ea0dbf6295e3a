/* Decisions of many: several challengers at once, and many rounds on the same images. What is right
 * is drawn, losses take no part. */
#pragma once

#include <stddef.h>

#include "common/base/rng.h"

/* ---- several challengers at once ---- */

enum several_rule {
	SEVERAL_BEST,        /* the most correct one, if right on more */
	SEVERAL_UNCORRECTED, /* each at the full level */
	SEVERAL_VERDICT,     /* Holm */
	SEVERAL_HALVES, /* the most correct one on half of the images, confirmed on the other half
			 */
	SEVERAL_N
};

struct several {
	size_t n, challengers;
	double disagree, better; /* of each and the active one */
	double kin;              /* share of images on which all challengers are the same */
};
/* Shares of trials in which each rule swaps. */
void several_run(const struct several *s, int trials, struct rng *rng, double ret_swaps[SEVERAL_N]);

/* ---- rounds ---- */

enum rounds_rule {
	ROUNDS_BEST,
	ROUNDS_LENIENT, /* the agent's at a confidence of 80 % */
	ROUNDS_VERDICT, /* ... at 95 %, every time */
	ROUNDS_SPENT,   /* ..., shared out over all rounds beforehand */
	ROUNDS_N
};

/* One challenger a round, of an accuracy drawn from worst to best points above the first active
 * one. */
struct rounds {
	size_t n;
	int rounds;
	double worst, best;
};
struct rounds_result {
	double swaps;    /* a trial */
	double optimism; /* accuracy on the images less the true one of what is active in the end */
	double gain;     /* true accuracy of that less that of the first one */
};
void rounds_run(const struct rounds *r, int trials, struct rng *rng,
		struct rounds_result ret[ROUNDS_N]);

/* ---- the floor ---- */

/* Shares of trials in which a swap is forbidden for a class of n images, of which the
 * challenger's recall is `lost` lower: by the agent's rule (what is seen may not be more than
 * `points`), and if the loss had to be proven first. */
struct floor_result {
	double seen, proven;
};
struct floor_result floor_run(size_t n, double lost, double points, int trials, struct rng *rng);
