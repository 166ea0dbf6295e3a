/* Darknet .weights files: checked in full before Darknet sees them. All functions stream with a
 * fixed buffer (64 KiB), so a 100 MB checkpoint costs no memory. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/checkpoint/model.h"

#define WEIGHTS_INPUTS_MAX 64 /* of a merge; each costs a buffer and a file descriptor */
#define WEIGHTS_SHARE_MAX  1e15
#define WEIGHTS_SEEN_MAX   ((uint64_t)1 << 40) /* images; a larger count in a header is a forgery */

struct weights_header {
	int32_t major, minor, revision;
	uint64_t seen; /* images the network was trained on */
};

/* Refuses any size but the model's exact one, a header other than 0.2.0, seen over the limit,
 * non-finite values, negative variances (each named with layer and kind). ret and id (sha256 of
 * the file) may be NULL. -EBADMSG for contents, -ENOENT/-EIO for the file. */
int weights_check(const struct model *m, const char *path, struct weights_header *ret,
		  char id[HASH_SIZE], struct err *err);

struct weights_stat {
	double l2, mean, min, max;
	uint64_t zeros;
};
/* One entry per tensor of the model (caller's array of m->n_tensors). The file must pass
 * weights_check first. */
int weights_stats(const struct model *m, const char *path, struct weights_stat *ret,
		  struct err *err);

/* The L2 norm of the difference in weights and scales, as one vector. As weights_stats(). */
int weights_distance(const struct model *m, const char *path, const char *from, double *ret,
		     struct err *err);

/* out = (1-alpha)*a + alpha*b, every tensor; 0 <= alpha <= 1; header of the input with the larger
 * seen. Checks a and b first; out is written atomically. */
int weights_blend(const struct model *m, const char *a, const char *b, double alpha,
		  const char *out, struct err *err);

struct weights_input {
	const char *path;
	double share; /* more than 0, in any unit, such as examples */
};
/* out = the mean of 2 to WEIGHTS_INPUTS_MAX files, weighted by their shares, every tensor. Rolling
 * statistics are pooled: a variance is the mean of the variances plus that of the squared
 * distances of the means from their mean. The header is that of the one in the middle by images
 * seen, the lower of two: no single input chooses it. Checks and writing as weights_blend(). */
int weights_merge(const struct model *m, const struct weights_input *inputs, size_t n,
		  const char *out, struct err *err);

/* out = base, but of the output layer's tensors (bias, weights, batch normalization) the rows
 * first_row.. from `rows`, or zeros when it is NULL: what private classes keep at home and graft
 * back. -EOPNOTSUPP when the last weights are not one row an output. Written atomically. */
int weights_graft(const struct model *m, const char *base, const char *rows, uint32_t first_row,
		  const char *out, struct err *err);

struct weights_noise {
	double clip;  /* most that the difference may be, L2 over all that travels */
	double noise; /* standard deviation on each weight, in clips; 0: none */
	/* Rows of the output layer from this one on do not travel: they are zeros, and count nowhere.
	 * The model's outputs: all travel. */
	uint32_t first_row;
};
#define WEIGHTS_CLIP_MIN  1e-6
#define WEIGHTS_CLIP_MAX  1e9
#define WEIGHTS_NOISE_MIN 1e-4 /* but for 0 */
#define WEIGHTS_NOISE_MAX 1e4

/* out = base + clip(weights - base) + noise, every tensor: a difference whose norm is more than
 * conf->clip is made shorter. With noise all that comes of the weights is whole numbers: the difference, in
 * steps of 1 / GAUSS_STEPS of the noise's deviation, cut off towards 0, and an exact discrete Gaussian
 * (common/privacy/gauss.h); what is made of these sums and the base says no more than they do. Variances
 * that come out below the noise's deviation (from 0, as nothing smaller can be told from it) are set to it.
 * Without noise, what is within conf->clip is the weights to the bit. The header is that of the weights.
 * ret_norm (may be NULL): of the difference, before; it is as private as the weights are. Checks and
 * writing as weights_blend(); -EIO: no randomness. */
int weights_noise(const struct model *m, const char *weights, const char *base,
		  const struct weights_noise *conf, const char *out, double *ret_norm,
		  struct err *err);
