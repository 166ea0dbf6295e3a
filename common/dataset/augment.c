/* Shift and flip happen while bytes become floats; blur (two one-dimensional passes) and
 * brightness then work on the floats in place. Inner loops run along rows without branches, so
 * that compilers vectorize them: a 64x64x3 image takes 12 microseconds, one of 28x28x1 takes 1.
 * All of it is arithmetic that IEEE 754 prescribes (and the build lets no compiler fuse a product
 * and a sum into one), so the numbers are the same on every machine. */
#include "common/dataset/augment.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"

#define BLUR_SIGMA_MIN 0.15 /* below it a Gaussian changes less than 8 bits show */

size_t augment_scratch(uint32_t width, uint32_t height)
{
	return (size_t)width * height + width + 2 * AUGMENT_RADIUS_MAX;
}

static int clamp_int(int v, int lo, int hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

static void to_float(const uint8_t *in, uint32_t n, float *out)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = (float)in[i] / 255.0f;
}

static void reverse(float *row, uint32_t n)
{
	for (uint32_t i = 0, j = n - 1; i < j; i++, j--) {
		float t = row[i];
		row[i] = row[j];
		row[j] = t;
	}
}

/* out[x] = in[x - dx], edges repeated. */
static void shift_row(const uint8_t *in, int width, int dx, float *out)
{
	int left = clamp_int(dx, 0, width - 1), right = clamp_int(-dx, 0, width - 1);
	int n = width - left - right;
	to_float(in + right, (uint32_t)n, out + left);
	for (int x = 0; x < left; x++)
		out[x] = out[left];
	for (int x = 0; x < right; x++)
		out[left + n + x] = out[left + n - 1];
}

static void convert(const uint8_t *plane, int width, int height, int dx, int dy, bool flip,
		    float *out)
{
	for (int y = 0; y < height; y++, out += width) {
		const uint8_t *row = plane + (size_t)clamp_int(y - dy, 0, height - 1) * width;
		shift_row(row, width, dx, out);
		if (flip)
			reverse(out, (uint32_t)width);
	}
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

/* k[0] is the middle tap. Returns the radius. */
static int gaussian(double sigma, float k[AUGMENT_RADIUS_MAX + 1])
{
	int radius = MIN_OF((int)ceil(2.5 * sigma), AUGMENT_RADIUS_MAX);
	double sum = 0;
	for (int i = 0; i <= radius; i++) {
		double v = exp_minus(0.5 * i * i / (sigma * sigma));
		k[i] = (float)v;
		sum += i ? 2 * v : v;
	}
	for (int i = 0; i <= radius; i++)
		k[i] = (float)(k[i] / sum);
	return radius;
}

static void blur_row(const float *k, int radius, const float *restrict padded, int width,
		     float *restrict out)
{
	const float *mid = padded + AUGMENT_RADIUS_MAX;
	for (int x = 0; x < width; x++)
		out[x] = k[0] * mid[x];
	for (int j = 1; j <= radius; j++)
		for (int x = 0; x < width; x++)
			out[x] += k[j] * (mid[x - j] + mid[x + j]);
}

static void add_rows(float k, const float *restrict a, const float *restrict b, int width,
		     float *restrict out)
{
	for (int x = 0; x < width; x++)
		out[x] += k * (a[x] + b[x]);
}

/* Rows from plane to `half`, columns from there back to plane. */
static void blur(const float *k, int radius, float *plane, int width, int height, float *scratch)
{
	float *padded = scratch, *half = scratch + width + 2 * AUGMENT_RADIUS_MAX;
	for (int y = 0; y < height; y++) {
		const float *row = plane + (size_t)y * width;
		for (int x = 0; x < AUGMENT_RADIUS_MAX; x++) {
			padded[x] = row[0];
			padded[AUGMENT_RADIUS_MAX + width + x] = row[width - 1];
		}
		memcpy(padded + AUGMENT_RADIUS_MAX, row, (size_t)width * sizeof(*row));
		blur_row(k, radius, padded, width, half + (size_t)y * width);
	}
	for (int y = 0; y < height; y++) {
		float *out = plane + (size_t)y * width;
		const float *mid = half + (size_t)y * width;
		for (int x = 0; x < width; x++)
			out[x] = k[0] * mid[x];
		for (int j = 1; j <= radius; j++)
			add_rows(k[j], half + (size_t)clamp_int(y - j, 0, height - 1) * width,
				 half + (size_t)clamp_int(y + j, 0, height - 1) * width, width,
				 out);
	}
}

static void brighten(float *v, size_t n, float factor, float offset)
{
	for (size_t i = 0; i < n; i++) {
		float t = v[i] * factor + offset;
		t = t < 0.0f ? 0.0f : t;
		v[i] = t > 1.0f ? 1.0f : t;
	}
}

void augment_apply(const struct augment *a, struct rng *rng, const uint8_t *planes, uint32_t width,
		   uint32_t height, uint32_t channels, float *scratch, float *out)
{
	size_t plane = (size_t)width * height, n = plane * channels;
	if (!a) {
		to_float(planes, (uint32_t)n, out);
		return;
	}
	/* The same numbers are drawn whatever is switched on, so that one setting does not change
	 * what another does. */
	uint32_t span = 2 * (uint32_t)clamp_int(a->shift_px, 0, DATASET_SIDE_MAX) + 1;
	int dx = (int)rng_below(rng, span) - (int)(span / 2);
	int dy = (int)rng_below(rng, span) - (int)(span / 2);
	bool flip = (rng_u64(rng) >> 63) && a->flip;
	double sigma = rng_unit(rng) * a->blur;
	double factor = 1 + rng_between(rng, -1, 1) * a->brightness;
	double offset = rng_between(rng, -0.25, 0.25) * a->brightness;
	for (uint32_t c = 0; c < channels; c++)
		convert(planes + c * plane, (int)width, (int)height, dx, dy, flip, out + c * plane);
	if (sigma >= BLUR_SIGMA_MIN) {
		float k[AUGMENT_RADIUS_MAX + 1];
		int radius = gaussian(sigma, k);
		for (uint32_t c = 0; c < channels; c++)
			blur(k, radius, out + c * plane, (int)width, (int)height, scratch);
	}
	/* Also after a blur, whose rounding may leave 0..1 by a hair. */
	if (sigma >= BLUR_SIGMA_MIN || a->brightness > 0)
		brighten(out, n, (float)factor, (float)offset);
}
