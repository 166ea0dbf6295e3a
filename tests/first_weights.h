/* Weights whose norms are those of Darknet's first ones, for tests that compute nothing with them:
 * others would be screened out (edge-trainer/screen.h). */
#pragma once

#include <math.h>
#include <string.h>

#include "common/checkpoint/model.h"

/* data: m->file_bytes, zeroed; the header is filled in, too. */
static inline void first_weights(const struct model *m, void *data, float scale)
{
	char *bytes = data;
	bytes[4] = 2; /* version 0.2.0 */
	for (size_t k = 0; k < m->n_tensors; k++) {
		const struct tensor *t = &m->tensors[k];
		float v = t->kind == TENSOR_WEIGHT  ? scale * sqrtf(2 * (float)t->rows / (float)t->count)
			  : t->kind == TENSOR_SCALE ? scale
						    : 0;
		for (uint64_t i = 0; i < t->count; i++)
			memcpy(bytes + WEIGHTS_HEADER_SIZE + 4 * (t->offset + i), &v, sizeof(v));
	}
}
