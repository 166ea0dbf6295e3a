/* Draws what two checkpoints make of the same images. Whether they are right follows from the cell
 * asked for (how often they disagree, how much better one is); their losses are those of images
 * that real networks were right or wrong on in the same way. */
#pragma once

#include "common/base/rng.h"
#include "device-agent/verdict.h"

/* An image's losses are taken of a random image of the same kind: right or wrong with which of
 * both. */
struct pool {
	struct pair {
		uint16_t active, challenger;
	} * cell[2][2]; /* [active is right][challenger is right] */
	size_t n[2][2];
};

enum losses {
	LOSSES_ALIKE,  /* of two networks trained alike, in either role */
	LOSSES_COOLED, /* ..., the challenger's logits halved: better calibrated */
	LOSSES_SHARP,  /* ..., doubled: overconfident */
	LOSSES_LATER,  /* the challenger is the active one trained on */
	LOSSES_N
};

/* The pools of one kind of network ("faces") from a file of lines `kind/seed/early|late outcomes`.
 */
struct pools {
	struct pool alike, later;
};
int pools_read(const char *path, const char *kind, struct pools *ret, struct err *err);
void pools_done(struct pools *p);

double outcome_loss(uint16_t image);

struct cell {
	size_t n;
	double disagree; /* share of the images */
	double better;   /* the challenger's accuracy less the active one's */
	enum losses losses;
};
/* Into room for cell->n images each. */
void draw(const struct pools *p, const struct cell *cell, struct rng *rng, uint16_t *active,
	  uint16_t *challenger);
