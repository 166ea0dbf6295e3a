/* Compiled several times, as AUGMENT_NAME, with options from meson.build. A row is moved and
 * flipped while it is bytes, becomes floats, and is blurred: along the row, then across rows. Inner
 * loops run along rows without branches. */
#include "common/dataset/augment_isa.h"

#include <string.h>

#include "common/base/mem.h"

#define B 8 /* floats a step of the blur: the compiler's vectors, whatever registers there are */

typedef float vf __attribute__((vector_size(B * 4), aligned(4)));

static int clamp_int(int v, int lo, int hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

static void convert(const uint8_t *restrict in, size_t n, float *restrict out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (float)in[i] / 255.0f;
}

/* out[x] = in[x - dx], edges repeated. */
static void move_row(const uint8_t *in, int width, int dx, uint8_t *out)
{
	int left = clamp_int(dx, 0, width - 1), right = clamp_int(-dx, 0, width - 1);
	int n = width - left - right;
	memset(out, in[right], (size_t)left);
	memcpy(out + left, in + right, (size_t)n);
	memset(out + left + n, in[right + n - 1], (size_t)right);
}

static void flip_row(const uint8_t *restrict in, int width, uint8_t *restrict out)
{
	for (int x = 0; x < width; x++)
		out[x] = in[width - 1 - x];
}

/* Row y of the moved and flipped image, its edges repeated `pad` times. */
static void make_row(const struct augment_draw *d, const uint8_t *plane, int width, int height,
		     int y, int pad, uint8_t *bytes, float *out)
{
	const uint8_t *in = plane + (size_t)clamp_int(y - d->dy, 0, height - 1) * (size_t)width;
	uint8_t *row = bytes + pad, *moved = row + width + pad;
	move_row(in, width, d->dx, d->flip ? moved : row);
	if (d->flip)
		flip_row(moved, width, row);
	memset(bytes, row[0], (size_t)pad);
	memset(row + width, row[width - 1], (size_t)pad);
	convert(bytes, (size_t)(width + 2 * pad), out);
}

/* out[x] = taps[0] * lo[0][x] + the sum over j > 0 of taps[j] * (lo[j][x] + hi[j][x]). */
static inline __attribute__((always_inline)) void weigh_up_to(int radius, const float *taps,
							      const float *const *lo,
							      const float *const *hi, int width,
							      float *out)
{
	int x = 0;
	for (; x + B <= width; x += B) {
		vf v = taps[0] * *(const vf *)(lo[0] + x);
		for (int j = 1; j <= radius; j++)
			v += taps[j] * (*(const vf *)(lo[j] + x) + *(const vf *)(hi[j] + x));
		*(vf *)(out + x) = v;
	}
	for (; x < width; x++) {
		float v = taps[0] * lo[0][x];
		for (int j = 1; j <= radius; j++)
			v += taps[j] * (lo[j][x] + hi[j][x]);
		out[x] = v;
	}
}

/* The usual ones unrolled. */
static void weigh(int radius, const float *taps, const float *const *lo, const float *const *hi,
		  int width, float *out)
{
	switch (radius) {
	case 1:
		weigh_up_to(1, taps, lo, hi, width, out);
		break;
	case 2:
		weigh_up_to(2, taps, lo, hi, width, out);
		break;
	case 3:
		weigh_up_to(3, taps, lo, hi, width, out);
		break;
	default:
		weigh_up_to(radius, taps, lo, hi, width, out);
	}
}

static void blur(const struct augment_draw *d, const uint8_t *plane, int width, int height,
		 float *scratch, float *out)
{
	const float *lo[AUGMENT_RADIUS_MAX + 1], *hi[AUGMENT_RADIUS_MAX + 1];
	float *padded = scratch, *half = padded + width + 2 * AUGMENT_RADIUS_MAX;
	uint8_t *bytes = (uint8_t *)(half + (size_t)width * (size_t)height);
	for (int j = 0; j <= d->radius; j++) {
		lo[j] = padded + d->radius - j;
		hi[j] = padded + d->radius + j;
	}
	for (int y = 0; y < height; y++) {
		make_row(d, plane, width, height, y, d->radius, bytes, padded);
		weigh(d->radius, d->taps, lo, hi, width, half + (size_t)y * (size_t)width);
	}
	for (int y = 0; y < height; y++) {
		for (int j = 0; j <= d->radius; j++) {
			lo[j] = half + (size_t)MAX_OF(y - j, 0) * (size_t)width;
			hi[j] = half + (size_t)MIN_OF(y + j, height - 1) * (size_t)width;
		}
		weigh(d->radius, d->taps, lo, hi, width, out + (size_t)y * (size_t)width);
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

static void apply(const struct augment_draw *d, const uint8_t *planes, int width, int height,
		  int channels, float *scratch, float *out)
{
	size_t n = (size_t)width * (size_t)height;
	for (int c = 0; c < channels; c++, planes += n, out += n) {
		if (d->radius)
			blur(d, planes, width, height, scratch, out);
		else
			for (int y = 0; y < height; y++)
				make_row(d, planes, width, height, y, 0, (uint8_t *)scratch,
					 out + (size_t)y * (size_t)width);
		if (d->brighten)
			brighten(out, n, d->factor, d->offset);
	}
}

const struct augment_isa AUGMENT_NAME = {convert, apply};
