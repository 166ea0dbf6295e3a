/* How weights files are made from others. Private to this folder. */
#pragma once

#include "common/checkpoint/weights.h"
#include "common/checkpoint/weights_stream.h"

struct edit {
	const struct model *m;
	struct weights_stream in[WEIGHTS_INPUTS_MAX];
	double shares[WEIGHTS_INPUTS_MAX]; /* of a sum; they add up to 1 */
	size_t n;
	uint32_t *out; /* as large as a stream's buffer */
	/* Rows first_row.. of that layer's tensors (-1: of none) do not come from in[0]. */
	int graft_layer;
	uint32_t first_row;
	void *user; /* of the edit_fn */
	/* Of weights_merge(), as long as `out`: sums, pooled means, and the means of one input. */
	double *sum, *mean;
	float *own_mean;
};

/* Fills e->out for a piece of the inputs' buffers. */
typedef int (*edit_fn)(const struct edit *e, const struct weights_piece *p, struct err *err);

/* Checks the inputs in full and opens them. e begins as zeros, but for what the edit_fn reads. */
int edit_open(struct edit *e, const struct model *m, const char *const *paths, size_t n,
	      struct err *err);
void edit_close(struct edit *e);
/* Reads all, has fn make the output of each piece, and writes it. */
int edit_run(struct edit *e, edit_fn fn, const uint8_t header[WEIGHTS_HEADER_SIZE], const char *out,
	     struct err *err);
double edit_value(const uint32_t *bits);
/* How many floats of a piece, from its first, are not of those rows. */
size_t edit_before_rows(const struct edit *e, const struct weights_piece *p);
