/* Element-wise arithmetic around the convolutions, fused so that each pass reads memory once.
 *
 * Layout "blocked": [n][ceil(c / B)][h][w][B], B = kernels.block channels side by side, as
 * oneDNN's nChw16c and nChw8c; channels past c are zero and stay so. A slice is one image's one
 * block: h * w groups of B. Elements are float32 or bfloat16 (the upper half of a float32, rounded
 * to nearest even); arithmetic is float32 either way, sums over a slice are handed out as double.
 *
 * A table per instruction set and element type, chosen once (kernels_for); the functions know
 * no threads: callers share slices out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNELS_BLOCK_MAX 16

/* How one slice is normalized and activated: pre = (z - mean) * a + b; y = pre > 0 ? pre :
 * slope * pre (slope 1: linear, 0: relu, .1: Darknet's leaky). Its gradient: with
 * g = dy * (pre > 0 ? 1 : slope), dz = g * c0 + (z - mean) * c1 + c2.
 * Arrays of B, zero past the last channel. */
struct norm {
	float mean[KERNELS_BLOCK_MAX], a[KERNELS_BLOCK_MAX], b[KERNELS_BLOCK_MAX];
	float c0[KERNELS_BLOCK_MAX], c1[KERNELS_BLOCK_MAX], c2[KERNELS_BLOCK_MAX];
	float slope;
};

/* Size of one slice; with pool, y and dy are the maxima of 2 x 2 windows every 2, clipped at
 * the right and lower edge: ceil(h / 2) x ceil(w / 2). */
struct slice {
	size_t h, w;
	bool pool;
};

/* Windows of a pooling layer: size x size every stride, the first at -pad; only what lies inside
 * counts. */
struct window {
	size_t size, stride, pad;
	size_t h, w, out_h, out_w;
};

struct kernels {
	size_t block;	   /* B */
	size_t elem_bytes; /* 4 or 2 */

	/* Sums over the slice of (z - shift) and its square are added to sum and squares (B each). */
	void (*moments)(const void *z, size_t hw, const float *shift, double *sum, double *squares);
	void (*norm)(const void *z, void *y, const struct slice *s, const struct norm *n);
	/* Adds the sums of g and of g * (z - mean). */
	void (*norm_sums)(const void *z, const void *dy, const struct slice *s,
			  const struct norm *n, double *sum_g, double *sum_gz);
	/* z is overwritten by dz. */
	void (*norm_back)(void *z, const void *dy, const struct slice *s,
			  const struct norm *n);

	void (*maxpool)(const void *x, void *y, const struct window *w);
	/* dx, float or bfloat16 as x, has been zeroed or holds what to add to. */
	void (*maxpool_back)(const void *x, const void *dy, void *dx, const struct window *w);
	/* Mean of a slice, B floats; and its gradient spread evenly, added if `add`. */
	void (*mean)(const void *x, size_t hw, float *y);
	void (*mean_back)(const float *dy, void *dx, size_t hw, bool add);

	/* Whole ranges of n elements: */
	void (*add)(void *x, const void *y, size_t n);				/* x += y */
	void (*scaled_sum)(const void *x, const void *y, void *z, size_t n, float p, float q,
			   float slope); /* z = act(p * x + q * y) */
	void (*slope_back)(const void *y, const void *dy, void *g, size_t n,
			   float slope); /* g = y > 0 ? dy : slope * dy */
	void (*scale)(const void *x, void *y, size_t n, float p, bool add); /* y (+)= p * x */

	/* One slice from and to c <= B planes of hw floats (NCHW). */
	void (*from_planes)(const float *planes, void *x, size_t hw, size_t c);
	void (*to_planes)(const void *x, float *planes, size_t hw, size_t c, bool add);
};

/* Darknet's step of stochastic gradient descent on n floats, gradients being in m already:
 * m -= decay * w; w += rate * m; m *= momentum. */
struct sgd {
	float decay, rate, momentum;
};

struct kernels_flat {
	void (*sgd)(float *w, float *m, size_t n, const struct sgd *s);
	void (*add)(float *x, const float *y, size_t n);
	/* Rows of k: y = act(x + bias); then g = dy * act'(y), and sums of g's columns added. */
	void (*bias)(float *x, const float *bias, size_t rows, size_t k, float slope);
	void (*bias_back)(const float *y, float *dy, size_t rows, size_t k, float slope);
	void (*columns)(const float *g, float *sums, size_t rows, size_t stride, size_t k);
	void (*to_bf16)(const float *x, uint16_t *y, size_t n);
};

/* For blocks of `block` channels on this CPU; NULL: none. */
const struct kernels *kernels_for(size_t block, bool bf16);
const struct kernels_flat *kernels_flat(void);
