/* Compiled several times: KERNELS_NAME and KERNELS_B (channels a block) come from meson.build
 * together with the instruction set. Written with the compiler's vectors of B floats, which it maps
 * to as many registers as the machine needs.
 *
 * Slices are walked row by row with a fixed order of operations, so that a result depends on
 * its input alone. */
#include "common/engine/plan/kernels_isa.h"

#include <string.h>

#define B	    KERNELS_B
#define CAT_(a, b)  a##b
#define CAT(a, b)   CAT_(a, b)
#define INLINE	    static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(B * 4)));
typedef int32_t vi __attribute__((vector_size(B * 4)));
typedef uint32_t vu __attribute__((vector_size(B * 4)));
typedef uint16_t vh __attribute__((vector_size(B * 2)));
/* The same without alignment, for what others laid out. */
typedef float vf_any __attribute__((vector_size(B * 4), aligned(4)));

/* Vectors go by pointer where a call is not inlined: no ABI has them all. */
INLINE vf pick(vi mask, vf yes, vf no)
{
	return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

INLINE vf activate(vf pre, float slope)
{
	return pick(pre > 0.f, pre, pre * slope);
}

INLINE vf load_f32(const float *p)
{
	return *(const vf *)p;
}

INLINE void store_f32(float *p, vf v)
{
	*(vf *)p = v;
}

INLINE vf load_bf16(const uint16_t *p)
{
	return (vf)(__builtin_convertvector(*(const vh *)p, vu) << 16);
}

INLINE vh round_bf16(vf v)
{
	vu u = (vu)v;
	u += 0x7fff + ((u >> 16) & 1);
	return __builtin_convertvector(u >> 16, vh);
}

INLINE void store_bf16(uint16_t *p, vf v)
{
	*(vh *)p = round_bf16(v);
}

INLINE void add_double(double *sum, vf v)
{
	for (size_t i = 0; i < B; i++)
		sum[i] += (double)v[i];
}

/* ---- flat ranges ---- */

static void flat_sgd(float *w, float *m, size_t n, const struct sgd *s)
{
	const float decay = s->decay, rate = s->rate, momentum = s->momentum;
	for (size_t i = 0; i < n; i++) {
		float v = m[i] - decay * w[i];
		w[i] += rate * v;
		m[i] = momentum * v;
	}
}

static void flat_add(float *restrict x, const float *restrict y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += y[i];
}

static void flat_bias(float *restrict x, const float *restrict bias, size_t rows, size_t k,
		      float slope)
{
	for (size_t r = 0; r < rows; r++, x += k) {
		for (size_t i = 0; i < k; i++) {
			float v = x[i] + bias[i];
			x[i] = v > 0 ? v : slope * v;
		}
	}
}

static void flat_bias_back(const float *restrict y, float *restrict dy, size_t rows, size_t k,
			   float slope)
{
	for (size_t i = 0; i < rows * k; i++)
		dy[i] = y[i] > 0 ? dy[i] : slope * dy[i];
}

static void flat_columns(const float *restrict g, float *restrict sums, size_t rows,
			 size_t stride, size_t k)
{
	for (size_t r = 0; r < rows; r++, g += stride)
		for (size_t i = 0; i < k; i++)
			sums[i] += g[i];
}

static void flat_to_bf16(const float *restrict x, uint16_t *restrict y, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t u;
		memcpy(&u, &x[i], 4);
		y[i] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
	}
}

const struct kernels_flat CAT(KERNELS_NAME, _flat) = {
	.sgd = flat_sgd,
	.add = flat_add,
	.bias = flat_bias,
	.bias_back = flat_bias_back,
	.columns = flat_columns,
	.to_bf16 = flat_to_bf16,
};

/* ---- slices, once for each element type ---- */

#define T	float
#define F(name) CAT(f32_, name)
#define load	load_f32
#define store	store_f32
#include "common/engine/plan/kernels_slice.h"
#undef T
#undef F
#undef load
#undef store

#define T	uint16_t
#define F(name) CAT(bf16_, name)
#define load	load_bf16
#define store	store_bf16
#include "common/engine/plan/kernels_slice.h"

#define TABLE(t, bytes)                                                                           \
	{                                                                                         \
		.block = B, .elem_bytes = (bytes), .moments = CAT(t, moments),                    \
		.norm = CAT(t, norm), .norm_sums = CAT(t, norm_sums),                             \
		.norm_back = CAT(t, norm_back), .maxpool = CAT(t, maxpool),                       \
		.maxpool_back = CAT(t, maxpool_back), .mean = CAT(t, mean),                       \
		.mean_back = CAT(t, mean_back), .add = CAT(t, add),                               \
		.scaled_sum = CAT(t, scaled_sum), .slope_back = CAT(t, slope_back),               \
		.scale = CAT(t, scale), .from_planes = CAT(t, from_planes),                       \
		.to_planes = CAT(t, to_planes),                                                   \
	}

const struct kernels KERNELS_NAME[2] = {TABLE(f32_, 4), TABLE(bf16_, 2)};
