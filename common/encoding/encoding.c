/* One walk over the tensors serves both ways (range.h): where it encodes, values come from the
 * weights and go into the coder; where it decodes, they come out of it; what is rebuilt from them
 * is computed by the same lines in float32, without fused products, and so is the same. */
#include "common/encoding/encoding.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/encoding/lossless.h"
#include "common/encoding/range.h"

#define PIECE           16384 /* floats at a time */
#define INT8_STEPS      127
#define VALUE_MAX       ((int32_t)1 << 24) /* steps: float32 has them all */
#define MAGNITUDE_UNARY 14
#define NEAR_CONTEXTS   5
#define GOLOMB_BITS     25
#define HALF_MODELLED   6 /* bits: sign and exponent */
#define HALF_BITS       16
#define HALF_INFINITY   0x7c00u

static const char magic[4] = "TSK1";

/* ---- whole numbers ---- */

struct value_models {
	struct range_model zero[NEAR_CONTEXTS], sign, more[MAGNITUDE_UNARY], golomb[GOLOMB_BITS];
	struct range_model half[1 << HALF_MODELLED]; /* by the bits so far, after a leading 1 */
	uint32_t before[2];                          /* magnitudes */
};

static void models_begin(struct value_models *v)
{
	struct range_model *all = v->zero;
	*v = (struct value_models){0};
	for (size_t i = 0; i < offsetof(struct value_models, before) / sizeof(*all); i++)
		all[i] = RANGE_MODEL_INIT;
}

/* n >= 1, in as many ones as it has bits after the first, a zero, and these bits. */
static uint32_t code_golomb(struct range_coder *c, struct value_models *v, uint32_t n)
{
	unsigned bits = 0, has = c->encodes ? 31 - (unsigned)__builtin_clz(n) : 0;
	while (bits < GOLOMB_BITS - 1 && range_bit(c, &v->golomb[bits], bits < has))
		bits++;
	return (uint32_t)1 << bits | range_bits(c, n & (((uint32_t)1 << bits) - 1), bits);
}

static int32_t code_value(struct range_coder *c, struct value_models *v, int32_t value)
{
	uint32_t near = MIN_OF(v->before[0] + v->before[1], (uint32_t)NEAR_CONTEXTS - 1);
	uint32_t size = value < 0 ? (uint32_t)-value : (uint32_t)value, n = 0;
	bool negative = value < 0;
	if (range_bit(c, &v->zero[near], size != 0)) {
		negative = range_bit(c, &v->sign, negative);
		n = 1;
		while (n <= MAGNITUDE_UNARY && range_bit(c, &v->more[n - 1], size > n))
			n++;
		if (n > MAGNITUDE_UNARY)
			n += code_golomb(c, v, size - MAGNITUDE_UNARY) - 1;
	}
	v->before[1] = v->before[0];
	v->before[0] = MIN_OF(n, (uint32_t)NEAR_CONTEXTS);
	return negative ? -(int32_t)n : (int32_t)n;
}

static float code_float(struct range_coder *c, float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	bits = range_bits(c, bits, 32);
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* ---- halves ---- */

/* IEEE 754 binary16, rounded to nearest, ties to even. */
static uint32_t half_of(float value)
{
	uint32_t x;
	memcpy(&x, &value, sizeof(x));
	uint32_t sign = x >> 16 & 0x8000u, size = x & 0x7fffffffu;
	if (size >= 0x477ff000u)
		return sign | HALF_INFINITY;
	if (size < 0x38800000u) /* in steps of 2^-24 */
		return sign | (uint32_t)lrintf(fabsf(value) * 16777216.0f);
	return sign | ((size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13);
}

static float half_value(uint32_t half)
{
	int exponent = (int)(half >> 10 & 31);
	float part = (float)(half & 1023);
	float size = exponent ? ldexpf(part + 1024, exponent - 25) : ldexpf(part, -24);
	return half & 0x8000u ? -size : size;
}

static uint32_t code_half(struct range_coder *c, struct value_models *v, uint32_t half)
{
	uint32_t top = 1;
	for (unsigned i = 0; i < HALF_MODELLED; i++)
		top = top << 1 | range_bit(c, &v->half[top], half >> (HALF_BITS - 1 - i) & 1);
	top &= (1u << HALF_MODELLED) - 1;
	return top << 10 | range_bits(c, half & 1023, HALF_BITS - HALF_MODELLED);
}

/* ---- the walk ---- */

struct walk {
	const struct model *m;
	enum encoding encoding;
	const char *name;              /* of the coded file, for errors */
	int weights, base, coded, out; /* descriptors; -1: none */
	struct range_coder coder;
	float *x, *b, *y; /* a piece of the weights, of the base, of what is rebuilt */
	float *steps;     /* encoding: of each row of the tensor; 0: it is all zeros */
	double scale;     /* of a delta's steps, before the tensor's size counts */
	uint64_t largest; /* weights in the largest tensor */
};

static int read_piece(int fd, const char *what, float *to, uint64_t at, size_t n, struct err *err)
{
	if (fd < 0)
		return 0;
	ssize_t r = file_read_at(fd, to, 4 * n, WEIGHTS_HEADER_SIZE + 4 * at);
	if (r < 0)
		return err_errno(err, (int)r, "%s", what);
	return (size_t)r == 4 * n ? 0 : err_set(err, -EBADMSG, "%s: its size changed", what);
}

static int read_pieces(struct walk *w, uint64_t at, size_t n, struct err *err)
{
	int r = read_piece(w->weights, "weights", w->x, at, n, err);
	return r < 0 ? r : read_piece(w->base, "base", w->b, at, n, err);
}

static bool is_rounded(const struct tensor *t)
{
	return t->kind == TENSOR_WEIGHT;
}

/* Largest magnitude of each row into w->steps, and the deviation of the difference to the base. */
static int measure(struct walk *w, const struct tensor *t, double *ret_deviation, float *ret_most,
		   struct err *err)
{
	uint64_t row = t->count / t->rows;
	double sum = 0, squares = 0;
	*ret_most = 0;
	memset(w->steps, 0, t->rows * sizeof(*w->steps));
	for (uint64_t at = 0; at < t->count; at += PIECE) {
		size_t n = (size_t)MIN_OF(t->count - at, (uint64_t)PIECE);
		int r = read_pieces(w, t->offset + at, n, err);
		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			float *most = &w->steps[(at + i) / row];
			float d = w->base >= 0 ? w->x[i] - w->b[i] : w->x[i];
			*most = fmaxf(*most, fabsf(w->x[i]));
			*ret_most = fmaxf(*ret_most, fabsf(d));
			sum += (double)d;
			squares += (double)d * (double)d;
		}
	}
	double mean = sum / (double)t->count;
	*ret_deviation = sqrt(fmax(squares / (double)t->count - mean * mean, 0));
	return 0;
}

/* Encoding: w->steps of a tensor's rows. */
static int choose_steps(struct walk *w, const struct tensor *t, struct err *err)
{
	double deviation;
	float most;
	int r = measure(w, t, &deviation, &most, err);
	if (r < 0)
		return r;
	double step = w->scale * sqrt((double)t->count / (double)w->largest) * deviation;
	/* A lone large value, or all the same: no more steps than there are numbers for. */
	step = fmax(step, (double)most / (VALUE_MAX - 1));
	if (w->encoding == ENCODING_DELTA && !(step <= (double)FLT_MAX))
		return err_set(err, -ERANGE,
			       "%s: layer %d [%s]: found a difference to the base of "
			       "%g, too large for steps",
			       w->name, t->layer, w->m->layers[t->layer].type, (double)most);
	for (uint32_t k = 0; k < t->rows; k++) {
		double own = w->encoding == ENCODING_DELTA  ? step
			     : w->encoding == ENCODING_INT8 ? (double)w->steps[k] / INT8_STEPS
							    : 1;
		/* Nothing to round: any step does. */
		w->steps[k] = w->steps[k] > 0 ? fmaxf((float)own, 1e-30f) : 0;
	}
	return 0;
}

/* At the beginning of a tensor or row; *step: what it has. */
static int code_step(struct walk *w, const struct tensor *t, float *step, struct err *err)
{
	*step = code_float(&w->coder, *step);
	if (!(*step > 0 && isfinite(*step)))
		return err_set(
			err, -EBADMSG,
			"%s: layer %d [%s]: step: found %g, expected a finite number above 0",
			w->name, t->layer, w->m->layers[t->layer].type, (double)*step);
	return 0;
}

static int code_row_begin(struct walk *w, const struct tensor *t, uint64_t row,
			  struct range_model *zeros, float *step, struct err *err)
{
	float own = w->coder.encodes ? w->steps[row] : 0;
	if (range_bit(&w->coder, zeros, own == 0)) {
		w->steps[row] = 0;
		return 0;
	}
	w->steps[row] = w->encoding == ENCODING_DELTA ? *step
			: w->encoding == ENCODING_F16 ? 1
						      : own;
	return w->encoding == ENCODING_INT8 ? code_step(w, t, &w->steps[row], err) : 0;
}

static float code_rounded(struct walk *w, struct value_models *v, size_t i, float unit)
{
	float base = w->base >= 0 ? w->b[i] : 0;
	int32_t value = w->coder.encodes ? (int32_t)lrintf((w->x[i] - base) / unit) : 0;
	return base + (float)code_value(&w->coder, v, value) * unit;
}

static int code_as_half(struct walk *w, struct value_models *v, size_t i)
{
	uint32_t half = w->coder.encodes ? half_of(w->x[i]) : 0;
	half = code_half(&w->coder, v, half);
	w->y[i] = half_value(half);
	return (half & HALF_INFINITY) == HALF_INFINITY ? -ERANGE : 0;
}

static int code_weights(struct walk *w, const struct tensor *t, uint64_t at, size_t n,
			struct value_models *v, struct range_model *zeros, float *step,
			struct err *err)
{
	uint64_t length = t->count / t->rows;
	for (size_t i = 0; i < n; i++) {
		uint64_t row = (at + i) / length;
		if ((at + i) % length == 0) {
			int r = code_row_begin(w, t, row, zeros, step, err);
			if (r < 0)
				return r;
		}
		if (w->steps[row] == 0)
			w->y[i] = 0;
		else if (w->encoding != ENCODING_F16)
			w->y[i] = code_rounded(w, v, i, w->steps[row]);
		else if (code_as_half(w, v, i) < 0)
			return err_set(err, w->coder.encodes ? -ERANGE : -EBADMSG,
				       "%s: layer %d [%s]: a weight too large for half precision",
				       w->name, t->layer, w->m->layers[t->layer].type);
	}
	return 0;
}

static void code_exact(struct walk *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		w->y[i] = code_float(&w->coder, w->coder.encodes ? w->x[i] : 0);
}

static int check_size(const struct walk *w, struct err *err)
{
	if (!w->coder.encodes || w->coder.bytes + ENCODING_HEADER < ENCODING_BYTES_MAX(w->m))
		return 0;
	return err_set(err, -EFBIG, "%s: no smaller than the weights themselves", w->name);
}

static int code_tensor(struct walk *w, const struct tensor *t, struct err *err)
{
	struct value_models v;
	struct range_model zeros = RANGE_MODEL_INIT;
	float step = 0;
	int r = 0;
	models_begin(&v);
	if (is_rounded(t) && w->coder.encodes)
		r = choose_steps(w, t, err);
	if (r == 0 && is_rounded(t) && w->encoding == ENCODING_DELTA) {
		for (uint32_t k = 0; w->coder.encodes && k < t->rows; k++)
			step = fmaxf(step, w->steps[k]);
		step = step > 0 || !w->coder.encodes ? step : 1; /* all rows are zeros */
		r = code_step(w, t, &step, err);
	}
	for (uint64_t at = 0; at < t->count && r == 0 && !w->coder.failed; at += PIECE) {
		size_t n = (size_t)MIN_OF(t->count - at, (uint64_t)PIECE);
		r = read_pieces(w, t->offset + at, n, err);
		if (r == 0 && is_rounded(t))
			r = code_weights(w, t, at, n, &v, &zeros, &step, err);
		else if (r == 0)
			code_exact(w, n);
		if (r == 0 && !w->coder.failed)
			r = file_write_all(w->out, w->y, 4 * n);
		if (r == 0)
			r = check_size(w, err);
	}
	return r;
}

static int code_all(struct walk *w, struct err *err)
{
	int r = range_open(&w->coder, w->coded, w->coder.encodes, err);
	for (size_t i = 0; i < w->m->n_tensors && r == 0 && !w->coder.failed; i++)
		r = code_tensor(w, &w->m->tensors[i], err);
	if (r == 0)
		r = range_finish(&w->coder, w->name, err);
	if (r == 0)
		r = check_size(w, err);
	range_close(&w->coder);
	return r;
}

/* The file's beginning, and that of the weights within it. */
static int code_header(struct walk *w, bool encodes, struct err *err)
{
	uint8_t h[ENCODING_HEADER];
	ssize_t n;
	if (encodes) {
		memcpy(h, magic, sizeof(magic));
		h[sizeof(magic)] = (uint8_t)w->encoding;
		n = file_read_at(w->weights, h + 5, WEIGHTS_HEADER_SIZE, 0);
		if (n == WEIGHTS_HEADER_SIZE)
			n = file_write_all(w->coded, h, sizeof(h));
	} else {
		n = file_read_at(w->coded, h, sizeof(h), 0);
		if (n >= 0 && (n < (ssize_t)sizeof(h) || memcmp(h, magic, sizeof(magic)) != 0))
			return err_set(err, -EBADMSG, "%s: found no coded checkpoint", w->name);
		if (n >= 0 && h[4] != (uint8_t)w->encoding)
			return err_set(err, -EBADMSG, "%s: found encoding number %u, expected %s",
				       w->name, h[4], encoding_name(w->encoding));
		if (n >= 0 && lseek(w->coded, ENCODING_HEADER, SEEK_SET) < 0)
			n = -errno;
	}
	if (n >= 0)
		n = file_write_all(w->out, h + 5, WEIGHTS_HEADER_SIZE);
	return n < 0 ? err_errno(err, (int)n, "%s", w->name) : 0;
}

static int allocate(struct walk *w, struct err *err)
{
	uint32_t rows = 1;
	for (size_t i = 0; i < w->m->n_tensors; i++) {
		const struct tensor *t = &w->m->tensors[i];
		if (is_rounded(t)) {
			rows = MAX_OF(rows, t->rows);
			w->largest = MAX_OF(w->largest, t->count);
		}
	}
	w->x = calloc(3 * PIECE, sizeof(*w->x));
	w->steps = calloc(rows, sizeof(*w->steps));
	if (!w->x || !w->steps)
		return err_errno(err, -ENOMEM, "%s", w->name);
	w->b = w->x + PIECE;
	w->y = w->b + PIECE;
	return 0;
}

static int open_one(const char *path, int flags, int *ret, struct err *err)
{
	*ret = path ? open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0640) : -1;
	return path && *ret < 0 ? err_errno(err, -errno, "%s", path) : 0;
}

static void done(struct walk *w)
{
	const int fds[] = {w->weights, w->base, w->coded, w->out};
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(w->x);
	free(w->steps);
}

/* coded_tmp, out_tmp: what is written under these names until it is whole. */
static int run(struct walk *w, const char *weights, const char *base, const char *coded,
	       const char *out_tmp, struct err *err)
{
	bool encodes = weights != NULL;
	const int made = O_RDWR | O_CREAT | O_TRUNC;
	w->coder.encodes = encodes;
	int r = open_one(weights, O_RDONLY, &w->weights, err);
	if (r == 0)
		r = open_one(base, O_RDONLY, &w->base, err);
	if (r == 0)
		r = open_one(coded, encodes ? made : O_RDONLY | O_NONBLOCK, &w->coded, err);
	if (r == 0)
		r = open_one(out_tmp, made, &w->out, err);
	if (r == 0)
		r = allocate(w, err);
	if (r == 0)
		r = code_header(w, encodes, err);
	if (r == 0)
		r = code_all(w, err);
	for (int i = 0; i < 2 && r == 0; i++)
		if ((i || encodes) && fsync(i ? w->out : w->coded) < 0)
			r = err_errno(err, -errno, "%s", i ? out_tmp : coded);
	return r;
}

int encoding_encode(const struct model *m, const struct encoding_conf *conf, const char *weights,
		    const char *base, const char *out, const char *decoded, char ret_id[HASH_SIZE],
		    struct err *err)
{
	_cleanup_(done) struct walk w = {.m = m,
					 .encoding = conf->encoding,
					 .scale = conf->step,
					 .name = out,
					 .weights = -1,
					 .base = -1,
					 .coded = -1,
					 .out = -1};
	char out_tmp[FILE_PATH_MAX] = "", decoded_tmp[FILE_PATH_MAX] = "";
	bool delta = conf->encoding == ENCODING_DELTA;
	if (delta && !(conf->step >= ENCODING_STEP_MIN && conf->step <= ENCODING_STEP_MAX))
		return err_set(err, -EINVAL, "step: found %g, expected %g to %g", conf->step,
			       ENCODING_STEP_MIN, ENCODING_STEP_MAX);
	if (conf->encoding == ENCODING_ZSTD)
		return lossless_encode(m, weights, out, decoded, ret_id, err);
	int r = weights_check(m, weights, NULL, NULL, err);
	if (r == 0 && delta)
		r = weights_check(m, base, NULL, NULL, err);
	if (r == 0 && (file_path(out_tmp, sizeof(out_tmp), "%s.tmp", out) < 0 ||
		       file_path(decoded_tmp, sizeof(decoded_tmp), "%s.tmp", decoded) < 0))
		r = err_errno(err, -ENAMETOOLONG, "%s", out);
	if (r == 0)
		r = run(&w, weights, delta ? base : NULL, out_tmp, decoded_tmp, err);
	bool coded = r == 0;
	if (coded)
		r = weights_check(m, decoded_tmp, NULL, ret_id, err);
	if (coded && r == -EBADMSG) /* what came in was sound */
		r = err_set(err, -ERANGE, "%s: found a weight that rounding makes infinite", out);
	if (r == 0)
		r = file_rename(decoded_tmp, decoded, err);
	if (r == 0)
		r = file_rename(out_tmp, out, err);
	if (r < 0 && *out_tmp) {
		unlink(out_tmp);
		unlink(decoded_tmp);
	}
	return r;
}

int encoding_decode(const struct model *m, enum encoding encoding, const char *in, const char *base,
		    const char *out, char ret_id[HASH_SIZE], struct err *err)
{
	_cleanup_(done) struct walk w = {.m = m,
					 .encoding = encoding,
					 .name = in,
					 .weights = -1,
					 .base = -1,
					 .coded = -1,
					 .out = -1};
	char tmp[FILE_PATH_MAX] = "";
	bool delta = encoding == ENCODING_DELTA;
	if (encoding == ENCODING_ZSTD)
		return lossless_decode(m, in, out, ret_id, err);
	int r = delta ? weights_check(m, base, NULL, NULL, err) : 0;
	if (r == 0 && file_path(tmp, sizeof(tmp), "%s.tmp", out) < 0)
		r = err_errno(err, -ENAMETOOLONG, "%s", out);
	if (r == 0)
		r = run(&w, NULL, delta ? base : NULL, in, tmp, err);
	if (r == 0)
		r = weights_check(m, tmp, NULL, ret_id, err);
	if (r == 0)
		r = file_rename(tmp, out, err);
	if (r < 0 && *tmp)
		unlink(tmp);
	return r;
}

/* ---- bases ---- */

static int distance(struct walk *w, double *ret, struct err *err)
{
	*ret = 0;
	for (size_t i = 0; i < w->m->n_tensors; i++) {
		const struct tensor *t = &w->m->tensors[i];
		for (uint64_t at = 0; is_rounded(t) && at < t->count; at += PIECE) {
			size_t n = (size_t)MIN_OF(t->count - at, (uint64_t)PIECE);
			int r = read_pieces(w, t->offset + at, n, err);
			if (r < 0)
				return r;
			for (size_t k = 0; k < n; k++) {
				double d = (double)w->x[k] - (double)w->b[k];
				*ret += d * d;
			}
		}
	}
	return 0;
}

int encoding_nearest(const struct model *m, const char *weights, const char *const *bases, size_t n,
		     size_t *ret, struct err *err)
{
	double least = HUGE_VAL, far = 0;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(done) struct walk w = {.m = m,
						 .name = bases[i],
						 .weights = -1,
						 .base = -1,
						 .coded = -1,
						 .out = -1};
		int r = open_one(weights, O_RDONLY, &w.weights, err);
		if (r == 0)
			r = open_one(bases[i], O_RDONLY, &w.base, err);
		if (r == 0)
			r = allocate(&w, err);
		if (r == 0)
			r = distance(&w, &far, err);
		if (r < 0)
			return r;
		if (far < least) {
			least = far;
			*ret = i;
		}
	}
	return n ? 0 : err_set(err, -ENOENT, "%s: there is no base", weights);
}
