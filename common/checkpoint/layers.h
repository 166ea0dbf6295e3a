/* The layer types that model.c knows: shape, tensors and canonical line of each. Private to this
 * folder. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "common/checkpoint/cfg.h"
#include "common/checkpoint/model.h"

/* Where the reading of a model stands. */
struct layer_ctx {
	const struct cfg *cfg;
	const struct cfg_section *s; /* the layer at hand */
	struct model *m;             /* its layers so far */
	uint32_t w, h, c, n;         /* what comes in: shape (0: none) and floats per image */
	bool no_gradient;            /* Darknet keeps none of what comes in */
	FILE *canon;                 /* the canonical form grows here */
	/* Darknet's layers share one workspace, of the size the neediest one asks for. */
	uint64_t workspace_bytes; /* what Darknet will allocate */
	uint64_t local_bytes;     /* what its local layers will write (they ask for a quarter) */
	const struct cfg_section *local;
	int r; /* first error of the layer at hand */
	struct err *err;
};

/* Whether a section is of a type that layer_read() takes. -EOPNOTSUPP, -EINVAL. */
int layer_check_type(const struct cfg *c, const struct cfg_section *s, struct err *err);
/* layer_types.c: says what a type that it does not take is. */
int layer_refuse_type(const struct cfg *c, const struct cfg_section *s, struct err *err);

/* Reads x->s into l (zeroed), appends its tensors to x->m and its line to x->canon. The layer
 * is not yet counted in x->m->n_layers. -EINVAL, -EOPNOTSUPP, -E2BIG, -ENOMEM. */
int layer_read(struct layer_ctx *x, struct model_layer *l);
