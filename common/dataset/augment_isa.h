/* The arithmetic of augmentation, between augment.c, which draws the numbers, and
 * augment_isa.c, which is compiled once for each set of instructions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/dataset/augment.h"

/* What was drawn for one image. */
struct augment_draw {
	int dx, dy; /* the image moves right and down, px; its edges are repeated */
	bool flip;  /* afterwards, left to right */
	int radius; /* of the blur, px; 0: none */
	float taps[AUGMENT_RADIUS_MAX + 1]; /* [0] is the middle one */
	bool brighten;                      /* v * factor + offset, kept within 0..1 */
	float factor, offset;
};

/* As augment_apply(). */
typedef void augment_fn(const struct augment_draw *draw, const uint8_t *planes, int width,
			int height, int channels, float *scratch, float *out);
typedef void augment_convert_fn(const uint8_t *planes, size_t n, float *out);

struct augment_isa {
	augment_convert_fn *convert; /* 0..255 to 0..1 */
	augment_fn *apply;
};

extern const struct augment_isa augment_base, augment_avx2;
