/* Augmentation of one image on its way to the network. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/rng.h"
#include "common/dataset/dataset.h"

#define AUGMENT_RADIUS_MAX 8 /* of the blur, px; wider Gaussians are cut off there */

/* Floats of scratch space that augment_apply needs. */
size_t augment_scratch(uint32_t width, uint32_t height);
/* planes: CHW, 8 bits; out: CHW, 0..1. a NULL: only converts, and rng and scratch may be NULL. */
void augment_apply(const struct augment *a, struct rng *rng, const uint8_t *planes, uint32_t width,
		   uint32_t height, uint32_t channels, float *scratch, float *out);
