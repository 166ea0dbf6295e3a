/* Checkpoints in fewer bytes. What is sent is a file that codes weights; what the receiver makes of
 * it is the checkpoint that has an id, and the sender makes the very same file, to the bit, when it
 * encodes: a lossy encoding changes the checkpoint before it is scored and offered, never on the
 * way.
 *
 *   zstd    the file as it is, compressed (RFC 8878)
 *   f16     weights in IEEE 754 half precision
 *   int8    each row of weights (an output's, a filter's) in 255 steps of its own largest value
 *   delta   the difference to a base that both have, in steps of its own standard deviation in that
 *           tensor: what was rounded off is in the next difference to what the receiver has
 *
 * Rounded are weights of connected, convolutional and local layers; biases, scales and batch
 * normalization's statistics stay exact, a row that is all zeros (of a private class) stays so, and
 * one that is the base's stays that. Small steps are for small tensors: they cost few bytes, and an
 * error in one of many thousand summands matters least, so a tensor of n weights has
 * sqrt(n / n of the largest) times the step of the largest one.
 *
 * Layout of the file, where it is not zstd: 4 bytes "TSK1", 1 byte encoding, 20 bytes header of the
 * weights file, as it is; then range-coded bits (range.h): tensor after tensor as in the weights
 * file, 32 bits a value of an exact one. Of the others with `delta`: the step, float32; both: row
 * after row, a bit that says it is all zeros, else with `int8` its step, float32; the values in
 * steps, each as: is it 0; its sign; its magnitude in unary up to MAGNITUDE_UNARY, then in
 * Exp-Golomb code (Golomb 1966, Teuhola 1978). Models of these bits begin anew with each tensor;
 * that of "is it 0" depends on the sizes of the two values before, as in DeepCABAC (Wiedemann et
 * al. 2020). A half has modelled sign and exponent, bit after bit from the top, and its 10 further
 * bits as they are.
 *
 * Nothing in such a file says how much is to be allocated or written: the model does. Memory is
 * constant but for 4 bytes a row. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/model.h"

#define ENCODING_HEADER   25
#define ENCODING_STEP_MIN 0.01 /* of a standard deviation: finer, raw is as small */
#define ENCODING_STEP_MAX 8.0
/* Bytes of a coded file that a receiver has room for: what would be larger is sent raw. */
#define ENCODING_BYTES_MAX(model) ((model)->file_bytes)

struct encoding_conf {
	enum encoding encoding; /* not RAW */
	double step; /* DELTA: of the largest tensor, in standard deviations of its difference */
};

/* Writes `out`, the coded file, and `decoded`, what a receiver makes of it (both atomically), from
 * `weights` and, with DELTA, `base` (else NULL), which are checked in full. ret_id: of decoded.
 * -EFBIG: it would be no smaller than raw; -ERANGE: a weight is too large for a half, or for
 * steps; -EINVAL: step; else as weights_check(). */
int encoding_encode(const struct model *m, const struct encoding_conf *conf, const char *weights,
		    const char *base, const char *out, const char *decoded, char ret_id[HASH_SIZE],
		    struct err *err);
/* The other way. The caller compares ret_id with what was promised. -EBADMSG: not what
 * encoding_encode() makes for this model and encoding; then there is no `out`. */
int encoding_decode(const struct model *m, enum encoding encoding, const char *in, const char *base,
		    const char *out, char ret_id[HASH_SIZE], struct err *err);
/* Which of `n` bases the weights are nearest to: the sum of squares over all that is rounded. */
int encoding_nearest(const struct model *m, const char *weights, const char *const *bases, size_t n,
		     size_t *ret, struct err *err);
