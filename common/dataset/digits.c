/* A digit is made as a person makes it: points of a way to write it (glyphs.c), moved at random;
 * a hand that slants, turns, stretches and waves; a pen of some width and pressure drawn along
 * Catmull-Rom curves through the points; then the paper: a stray stroke, blur, shading, noise.
 * Every number comes from one generator seeded with (seed, index, label).
 *
 * The same numbers make the same picture, to the bit, with every compiler and processor. So no two
 * draws share an expression, whose order C leaves open; the sine is ours, since those of C
 * libraries differ in their last digit; and products are not fused into sums (-ffp-contract=off).
 */
#include "common/dataset/digits.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/dataset/glyphs.h"
#include "common/dataset/idx.h"

#define SIDE        DIGITS_SIDE
#define PIXELS      (SIDE * SIDE)
#define CURVE_STEPS 8 /* straight pieces between two points */
#define CLASSES     10
/* Indexes of test images are far beyond those of any training image. */
#define TEST_INDEX ((uint64_t)1 << 32)

struct point {
	float x, y;
};

struct hand {
	float xx, xy, yx, yy;       /* unit box to pixels */
	struct point middle;        /* where the box's middle lies, px */
	float wave, wave_x, wave_y; /* a slow wave across the paper: px and phases */
};

struct pen {
	float radius, level; /* px; ink 0..1 */
	float swing, phase;  /* of pressure */
};

static float between(struct rng *r, double lo, double hi)
{
	return (float)rng_between(r, lo, hi);
}

/* About normal, standard deviation 1: four uniform numbers have a variance of 1/3 together. */
static float normal(struct rng *r)
{
	double sum = 0;
	for (int i = 0; i < 4; i++)
		sum += rng_unit(r);
	return (float)((sum - 2) * 1.7320508);
}

static bool chance(struct rng *r, double p)
{
	return rng_unit(r) < p;
}

static float clamp_unit(float v)
{
	return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* Taylor's series in [-pi/2, pi/2], where the next term is below 1e-11; |x| up to some thousands.
 */
static float sine(double x)
{
	const double pi = 3.14159265358979323846;
	double turns = floor(x / pi + 0.5), v = x - turns * pi, square = v * v, sum = v, term = v;
	for (int k = 2; k <= 14; k += 2) {
		term *= -square / (k * (k + 1));
		sum += term;
	}
	return (float)((long)turns % 2 ? -sum : sum);
}

static float length_of(float x, float y)
{
	return (float)sqrt((double)x * x + (double)y * y);
}

static struct hand make_hand(struct rng *r)
{
	float height = between(r, 16, 22.5), width = height * between(r, 0.55, 1.0);
	float slant = 0.22f * normal(r), turn = 0.14f * normal(r);
	float s = sine(turn), c = sine(turn + 1.57079632679489661923);
	/* Stretch, then slant, then turn. */
	struct hand h = {
		.xx = c * width,
		.xy = (-c * slant - s) * height,
		.yx = s * width,
		.yy = (-s * slant + c) * height,
	};
	h.wave = between(r, 0, 1.2);
	h.wave_x = between(r, 0, 6.2832);
	h.wave_y = between(r, 0, 6.2832);
	float room = (SIDE - height) / 2 + 1;
	h.middle.x = SIDE / 2.0f + between(r, -0.6, 0.6) * room;
	h.middle.y = SIDE / 2.0f + between(r, -0.6, 0.6) * room;
	return h;
}

static struct pen make_pen(struct rng *r)
{
	struct pen p;
	p.radius = between(r, 0.65, 1.5);
	p.level = between(r, 0.55, 1);
	p.swing = between(r, 0, 0.4);
	p.phase = between(r, 0, 6.2832);
	return p;
}

static struct point place(const struct hand *h, float x, float y)
{
	x -= 0.5f;
	y -= 0.5f;
	struct point p = {h->middle.x + h->xx * x + h->xy * y, h->middle.y + h->yx * x + h->yy * y};
	float px = p.x;
	p.x += h->wave * sine(0.3f * p.y + h->wave_x);
	p.y += h->wave * sine(0.3f * px + h->wave_y);
	return p;
}

/* A piece of a stroke, round at both ends; ink covers, it does not add up. */
static void draw_piece(float *ink, struct point a, struct point b, float radius, float level)
{
	float reach = radius + 1;
	int x0 = (int)floorf(fminf(a.x, b.x) - reach), x1 = (int)ceilf(fmaxf(a.x, b.x) + reach);
	int y0 = (int)floorf(fminf(a.y, b.y) - reach), y1 = (int)ceilf(fmaxf(a.y, b.y) + reach);
	x0 = MAX_OF(x0, 0);
	y0 = MAX_OF(y0, 0);
	x1 = MIN_OF(x1, SIDE - 1);
	y1 = MIN_OF(y1, SIDE - 1);
	float dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy + 1e-6f;
	for (int y = y0; y <= y1; y++)
		for (int x = x0; x <= x1; x++) {
			float px = (float)x + 0.5f - a.x, py = (float)y + 0.5f - a.y;
			float t = clamp_unit((px * dx + py * dy) / length2);
			float ex = px - t * dx, ey = py - t * dy;
			float cover = clamp_unit(radius + 0.5f - sqrtf(ex * ex + ey * ey)) * level;
			ink[y * SIDE + x] = fmaxf(ink[y * SIDE + x], cover);
		}
}

/* Catmull and Rom's curve from p[1] to p[2]. */
static struct point curve_at(const struct point p[4], float t)
{
	float t2 = t * t, t3 = t2 * t;
	float k0 = -t3 + 2 * t2 - t, k1 = 3 * t3 - 5 * t2 + 2;
	float k2 = -3 * t3 + 4 * t2 + t, k3 = t3 - t2;
	return (struct point){0.5f * (k0 * p[0].x + k1 * p[1].x + k2 * p[2].x + k3 * p[3].x),
			      0.5f * (k0 * p[0].y + k1 * p[1].y + k2 * p[2].y + k3 * p[3].y)};
}

static void draw_curve(float *ink, const struct point p[4], const struct pen *pen, float *way)
{
	struct point from = p[1];
	for (int i = 1; i <= CURVE_STEPS; i++) {
		struct point to = curve_at(p, (float)i / CURVE_STEPS);
		float press = 1 + pen->swing * sine(0.25f * *way + pen->phase);
		draw_piece(ink, from, to, pen->radius * press,
			   pen->level * fminf(1, 0.75f + 0.25f * press));
		*way += length_of(to.x - from.x, to.y - from.y);
		from = to;
	}
}

static void draw_glyph(float *ink, const struct glyph *g, const struct hand *hand,
		       const struct pen *pen, struct rng *r)
{
	struct point at[GLYPH_POINTS_MAX];
	float shake = between(r, 0.015, 0.05), way = 0;
	for (size_t i = 0; i < g->n; i++) {
		float y = (float)g->points[i].y / 100 + shake * normal(r);
		float x = (float)g->points[i].x / 100 + shake * normal(r);
		at[i] = place(hand, x, y);
	}
	for (size_t i = 1; i < g->n; i++) {
		if (g->points[i].kind == GLYPH_START)
			continue;
		/* A curve knows nothing of what lies beyond a corner or an end. */
		bool bent_in = g->points[i - 1].kind == GLYPH_SMOOTH;
		bool bent_out = g->points[i].kind == GLYPH_SMOOTH && i + 1 < g->n &&
				g->points[i + 1].kind != GLYPH_START;
		const struct point p[4] = {at[bent_in ? i - 2 : i - 1], at[i - 1], at[i],
					   at[bent_out ? i + 1 : i]};
		draw_curve(ink, p, pen, &way);
	}
}

/* What else is on the paper: the end of a neighbour's stroke, a line, a slip of the pen. */
static void draw_stray(float *ink, const struct pen *pen, struct rng *r)
{
	struct pen other = *pen;
	other.level *= between(r, 0.35, 0.9);
	other.radius *= between(r, 0.5, 0.9);
	struct point p[4];
	bool vertical = chance(r, 0.5);
	float edge = chance(r, 0.5) ? between(r, 0, 5) : between(r, SIDE - 5, SIDE);
	float begin = between(r, -4, SIDE - 6), length = between(r, 6, 18);
	for (int i = 0; i < 4; i++) {
		float along = begin + length * (float)(i - 1), across = edge + 1.5f * normal(r);
		p[i] = vertical ? (struct point){across, along} : (struct point){along, across};
	}
	float way = 0;
	draw_curve(ink, p, &other, &way);
}

/* A rubber or a dry pen takes some ink away around a point. */
static void fade(float *ink, struct rng *r)
{
	float x0 = between(r, 6, SIDE - 6), y0 = between(r, 6, SIDE - 6);
	float radius = between(r, 1.5, 4), left = between(r, 0.1, 0.6);
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++) {
			float d = length_of((float)x + 0.5f - x0, (float)y + 0.5f - y0);
			float keep = clamp_unit(d - radius);
			ink[y * SIDE + x] *= left + (1 - left) * keep;
		}
}

/* (w, 1 - 2w, w) along one axis; step: distance of neighbours in memory. */
static void blur_lines(float *ink, float w, int step, int line_step)
{
	for (int line = 0; line < SIDE; line++) {
		float *p = ink + line * line_step, before = p[0];
		for (int i = 0; i < SIDE; i++) {
			float here = p[i * step], after = i + 1 < SIDE ? p[(i + 1) * step] : here;
			p[i * step] = (1 - 2 * w) * here + w * (before + after);
			before = here;
		}
	}
}

static void paper(const float *ink, struct rng *r, uint8_t *out)
{
	float noise = between(r, 0.01, 0.1), ground = between(r, 0, 0.12);
	float tilt_x = between(r, -0.12, 0.12), tilt_y = between(r, -0.12, 0.12);
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++) {
			float shade = ground + tilt_x * ((float)x / SIDE - 0.5f) +
				      tilt_y * ((float)y / SIDE - 0.5f);
			float v = shade + (1 - shade) * ink[y * SIDE + x] + noise * normal(r);
			out[y * SIDE + x] = (uint8_t)(clamp_unit(v) * 255 + 0.5f);
		}
}

static void seed_image(struct rng *r, uint64_t seed, uint64_t index, int label)
{
	rng_init(r, seed);
	rng_init(r, rng_u64(r) + index);
	rng_init(r, rng_u64(r) + (uint64_t)label);
	rng_init(r, rng_u64(r));
}

void digits_draw(uint64_t seed, uint64_t index, int label, uint8_t out[PIXELS])
{
	struct rng r;
	seed_image(&r, seed, index, label);
	float ink[PIXELS] = {0};
	const struct hand hand = make_hand(&r);
	const struct pen pen = make_pen(&r);
	size_t variant = rng_below(&r, (uint32_t)glyph_variants(label));
	if (chance(&r, 0.3))
		draw_stray(ink, &pen, &r);
	draw_glyph(ink, glyph_get(label, variant), &hand, &pen, &r);
	if (chance(&r, 0.15))
		fade(ink, &r);
	float w = between(&r, 0, 0.25);
	blur_lines(ink, w, 1, SIDE);
	blur_lines(ink, w, SIDE, 1);
	paper(ink, &r, out);
}

/* How many of n images each class gets: its share, the rest to the largest remainders. */
static int share_out(uint32_t n, const double *mix, uint32_t counts[CLASSES], struct err *err)
{
	double sum = 0, rest[CLASSES];
	for (int c = 0; c < CLASSES; c++) {
		double w = mix ? mix[c] : 1;
		if (!(w >= 0 && w <= 1e9))
			return err_set(err, -EINVAL,
				       "mix: weight %g of class %d, expected 0 to 1e9", w, c);
		sum += w;
	}
	if (!(sum > 0))
		return err_set(err, -EINVAL, "mix: all weights are 0, expected one above");
	uint32_t given = 0;
	for (int c = 0; c < CLASSES; c++) {
		double exact = n * ((mix ? mix[c] : 1) / sum);
		counts[c] = (uint32_t)exact;
		rest[c] = exact - counts[c];
		given += counts[c];
	}
	while (given < n) {
		int best = 0;
		for (int c = 1; c < CLASSES; c++)
			if (rest[c] > rest[best])
				best = c;
		counts[best]++;
		rest[best] -= 1;
		given++;
	}
	return 0;
}

static int write_part(const char *dir, const char *stem, uint32_t n, uint64_t seed,
		      uint64_t first_index, const double *mix, struct err *err)
{
	uint32_t counts[CLASSES];
	int r = share_out(n, mix, counts, err);
	if (r < 0)
		return r;
	_cleanup_free_ uint8_t *pixels = malloc((size_t)n * PIXELS);
	_cleanup_free_ uint8_t *labels = malloc(n);
	if (!pixels || !labels)
		return err_errno(err, -ENOMEM, "%s", dir);
	for (uint32_t c = 0, i = 0; c < CLASSES; c++)
		for (uint32_t k = 0; k < counts[c]; k++)
			labels[i++] = (uint8_t)c;
	struct rng rng;
	seed_image(&rng, seed, first_index, -1);
	for (uint32_t i = n; i > 1; i--) {
		uint32_t j = rng_below(&rng, i);
		uint8_t t = labels[i - 1];
		labels[i - 1] = labels[j];
		labels[j] = t;
	}
	for (uint32_t i = 0; i < n; i++)
		digits_draw(seed, first_index + i, labels[i], pixels + (size_t)i * PIXELS);
	return idx_write(dir, stem, n, SIDE, SIDE, pixels, labels, err);
}

int digits_write(const char *dir, uint32_t n, uint64_t seed, const double *mix, struct err *err)
{
	if (!n || n > DIGITS_MAX)
		return err_set(err, -EINVAL, "digits: %u images are asked for, expected 1 to %d", n,
			       DIGITS_MAX);
	int r = file_mkdirs(dir, err);
	if (r >= 0)
		r = write_part(dir, "train", n, seed, 0, mix, err);
	if (r >= 0)
		r = write_part(dir, "t10k", MAX_OF(n / 5, 1u), seed, TEST_INDEX, mix, err);
	return r;
}
