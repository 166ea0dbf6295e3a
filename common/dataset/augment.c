/* Draws what is done to an image. What it comes to is arithmetic that IEEE 754 prescribes (and the
 * build lets no compiler fuse a product and a sum into one), in one order: the numbers are the same
 * on every machine, whichever instructions compute them. */
#include "common/dataset/augment.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/dataset/augment_isa.h"

#define BLUR_SIGMA_MIN 0.15 /* below it a Gaussian changes less than 8 bits show */

static const struct augment_isa *choose(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2"))
		return &augment_avx2;
#endif
	return &augment_base;
}

size_t augment_scratch(uint32_t width, uint32_t height)
{
	size_t row = (size_t)width + 2 * AUGMENT_RADIUS_MAX;
	size_t bytes = 2 * row; /* a row as it is and flipped */
	return row + (size_t)width * height + (bytes + sizeof(float) - 1) / sizeof(float);
}

/* exp(-x) for 0 <= x < 64, by arithmetic alone: that of libm differs in its last bit from machine
 * to machine. */
static double exp_minus(double x)
{
	double t = -x / 64, term = 1, sum = 1;
	for (int i = 1; i <= 18; i++) {
		term *= t / i;
		sum += term;
	}
	for (int i = 0; i < 6; i++)
		sum *= sum;
	return sum;
}

/* taps[0] is the middle one. Returns the radius. */
static int gaussian(double sigma, float taps[AUGMENT_RADIUS_MAX + 1])
{
	int radius = MIN_OF((int)ceil(2.5 * sigma), AUGMENT_RADIUS_MAX);
	double sum = 0;
	for (int i = 0; i <= radius; i++) {
		double v = exp_minus(0.5 * i * i / (sigma * sigma));
		taps[i] = (float)v;
		sum += i ? 2 * v : v;
	}
	for (int i = 0; i <= radius; i++)
		taps[i] = (float)(taps[i] / sum);
	return radius;
}

/* The same numbers are drawn whatever is switched on, so that one setting does not change what
 * another does. */
static void draw(const struct augment *a, struct rng *rng, struct augment_draw *d)
{
	uint32_t span = 2 * (uint32_t)MIN_OF(MAX_OF(a->shift_px, 0), DATASET_SIDE_MAX) + 1;
	d->dx = (int)rng_below(rng, span) - (int)(span / 2);
	d->dy = (int)rng_below(rng, span) - (int)(span / 2);
	d->flip = (rng_u64(rng) >> 63) && a->flip;
	double sigma = rng_unit(rng) * a->blur;
	d->factor = (float)(1 + rng_between(rng, -1, 1) * a->brightness);
	d->offset = (float)(rng_between(rng, -0.25, 0.25) * a->brightness);
	d->radius = sigma >= BLUR_SIGMA_MIN ? gaussian(sigma, d->taps) : 0;
	/* Also after a blur, whose rounding may leave 0..1 by a hair. */
	d->brighten = d->radius || a->brightness > 0;
}

void augment_apply(const struct augment *a, struct rng *rng, const uint8_t *planes, uint32_t width,
		   uint32_t height, uint32_t channels, float *scratch, float *out)
{
	const struct augment_isa *isa = choose();
	struct augment_draw d;
	if (!a) {
		isa->convert(planes, (size_t)width * height * channels, out);
		return;
	}
	draw(a, rng, &d);
	isa->apply(&d, planes, (int)width, (int)height, (int)channels, scratch, out);
}
