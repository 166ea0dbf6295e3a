/* Weights files compressed by libzstd (RFC 8878), which only this module includes. What is read is
 * bounded by the model: neither does a frame's header say how much is written, nor how large its
 * window is. As encoding_encode() and encoding_decode() otherwise. */
#pragma once

#include "common/base/err.h"
#include "common/checkpoint/model.h"

#define ZSTD_LEVEL      3  /* more gains nothing on weights */
#define ZSTD_WINDOW_LOG 23 /* 8 MiB, most that a receiver gives */

int lossless_encode(const struct model *m, const char *weights, const char *out,
		    const char *decoded, char ret_id[HASH_SIZE], struct err *err);
int lossless_decode(const struct model *m, const char *in, const char *out, char ret_id[HASH_SIZE],
		    struct err *err);
