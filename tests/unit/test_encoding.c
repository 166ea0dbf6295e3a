/* Coded checkpoints: both ways, what stays exact, and every way of being refused. */
#include "ckpt_util.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <unistd.h>
#include <zstd.h>

#include "common/base/rng.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/encoding/encoding.h"
#include "common/encoding/range.h"

/* Tensors of several pieces, and rows that end within one. */
#define LARGE_CFG                                                                               \
	NET "[convolutional]\nbatch_normalize=1\nfilters=70\nsize=5\npad=1\nactivation=leaky\n" \
	    "[convolutional]\nbatch_normalize=1\nfilters=90\nsize=3\npad=1\nactivation=leaky\n" \
	    "[connected]\noutput=5\nactivation=linear\n[softmax]\n"

static char dir_of[FILE_PATH_MAX];

static const char *in_dir(const char *name)
{
	static char path[4][FILE_PATH_MAX];
	static int turn;
	turn = (turn + 1) % 4;
	file_path(path[turn], FILE_PATH_MAX, "%s/%s", dir_of, name);
	return path[turn];
}

static int setup(void **state)
{
	if (util_dir(state) < 0)
		return -1;
	snprintf(dir_of, sizeof(dir_of), "%s", (char *)*state);
	return 0;
}

struct bytes {
	char *data;
	size_t len;
};

static struct bytes slurp(const char *path)
{
	struct bytes b = {0};
	struct err err = {0};
	if (file_read(path, 1 << 24, &b.data, &b.len, &err) < 0)
		fail_msg("%s", err.text);
	return b;
}

static float *floats_of(struct bytes b)
{
	return (float *)(void *)(b.data + WEIGHTS_HEADER_SIZE);
}

/* `to` is `from` with a little added to each weight. */
static void grow(const struct model *m, const char *from, const char *to, double by, uint64_t seed)
{
	struct bytes b = slurp(from);
	float *v = malloc(m->n_floats * sizeof(*v));
	struct rng rng;
	rng_init(&rng, seed);
	memcpy(v, b.data + WEIGHTS_HEADER_SIZE, 4 * m->n_floats);
	for (uint64_t i = 0; i < m->n_floats; i++)
		v[i] += (float)(by * (rng_unit(&rng) + rng_unit(&rng) + rng_unit(&rng) - 1.5));
	for (size_t t = 0; t < m->n_tensors; t++)
		for (uint64_t i = 0;
		     m->tensors[t].kind == TENSOR_VARIANCE && i < m->tensors[t].count; i++)
			v[m->tensors[t].offset + i] = fabsf(v[m->tensors[t].offset + i]);
	memcpy(b.data + WEIGHTS_HEADER_SIZE, v, 4 * m->n_floats);
	util_write(to, b.data, b.len);
	free(v);
	free(b.data);
}

static const struct encoding_conf confs[] = {{ENCODING_INT8, 0},  {ENCODING_DELTA, 0.01},
					     {ENCODING_DELTA, 1}, {ENCODING_DELTA, 8},
					     {ENCODING_F16, 0},   {ENCODING_ZSTD, 0}};

static void encode_ok(const struct model *m, const struct encoding_conf *c, char id[HASH_SIZE])
{
	struct err err = {0};
	char base[FILE_PATH_MAX], weights[FILE_PATH_MAX], coded[FILE_PATH_MAX];
	snprintf(base, sizeof(base), "%s", in_dir("base"));
	snprintf(weights, sizeof(weights), "%s", in_dir("weights"));
	snprintf(coded, sizeof(coded), "%s", in_dir("coded"));
	bool delta = c->encoding == ENCODING_DELTA;
	if (encoding_encode(m, c, weights, delta ? base : NULL, coded, in_dir("decoded"), id,
			    &err) < 0)
		fail_msg("%s", err.text);
}

static int decode(const struct model *m, enum encoding e, char id[HASH_SIZE], struct err *err)
{
	char base[FILE_PATH_MAX];
	snprintf(base, sizeof(base), "%s", in_dir("base"));
	return encoding_decode(m, e, in_dir("coded"), e == ENCODING_DELTA ? base : NULL,
			       in_dir("received"), id, err);
}

static struct model *prepare(const char *cfg)
{
	struct model *m = util_model(cfg, 0);
	util_write_weights(m, in_dir("base"), 1, 1000);
	grow(m, in_dir("base"), in_dir("weights"), 0.02, 7);
	return m;
}

/* What a receiver makes of it is what the sender says, to the bit, and close to the weights. */
static void both_ways(void **state)
{
	static const char *const cfgs[] = {SMALL_CFG, LARGE_CFG};
	for (size_t k = 0; k < ARRAY_LEN(cfgs) * ARRAY_LEN(confs); k++) {
		const struct encoding_conf *c = &confs[k % ARRAY_LEN(confs)];
		_cleanup_(model_freep) struct model *m = prepare(cfgs[k / ARRAY_LEN(confs)]);
		char sent[HASH_SIZE], got[HASH_SIZE];
		struct err err = {0};
		encode_ok(m, c, sent);
		if (decode(m, c->encoding, got, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(sent, got);
		struct bytes decoded = slurp(in_dir("decoded")),
			     received = slurp(in_dir("received"));
		struct bytes weights = slurp(in_dir("weights")), coded = slurp(in_dir("coded"));
		assert_int_equal(decoded.len, received.len);
		assert_memory_equal(decoded.data, received.data, decoded.len);
		assert_memory_equal(decoded.data, weights.data, WEIGHTS_HEADER_SIZE);
		assert_true(coded.len < weights.len);
		const float *x = floats_of(weights), *y = floats_of(decoded);
		for (size_t t = 0; t < m->n_tensors; t++) {
			const struct tensor *of = &m->tensors[t];
			double most = 0, error = 0;
			for (uint64_t i = of->offset; i < of->offset + of->count; i++) {
				most = fmax(most, (double)fabsf(x[i]));
				error = fmax(error, (double)fabsf(x[i] - y[i]));
			}
			/* The differences deviate by 0.01. */
			double bound = c->encoding == ENCODING_INT8    ? most / 253
				       : c->encoding == ENCODING_DELTA ? c->step * 0.006
				       : c->encoding == ENCODING_F16   ? most / 2047
								       : 0;
			assert_true(error <= (of->kind == TENSOR_WEIGHT ? bound : 0));
		}
		free(decoded.data);
		free(received.data);
		free(weights.data);
		free(coded.data);
	}
}

/* Rows of private outputs are zeros, frozen ones are the base's: to the bit. */
static void rows_that_stay(void **state)
{
	for (size_t k = 0; k < ARRAY_LEN(confs); k++) {
		_cleanup_(model_freep) struct model *m = prepare(LARGE_CFG);
		const struct tensor *last = &m->tensors[m->n_tensors - 1];
		assert_int_equal(last->kind, TENSOR_WEIGHT);
		uint64_t row = last->count / last->rows, zeros = last->offset + 2 * row;
		struct bytes b = slurp(in_dir("base")), w = slurp(in_dir("weights"));
		memset(w.data + WEIGHTS_HEADER_SIZE + 4 * zeros, 0, 4 * row);
		memcpy(w.data + WEIGHTS_HEADER_SIZE + 4 * (zeros + row),
		       b.data + WEIGHTS_HEADER_SIZE + 4 * (zeros + row), 4 * row);
		util_write(in_dir("weights"), w.data, w.len);
		char id[HASH_SIZE];
		encode_ok(m, &confs[k], id);
		struct bytes d = slurp(in_dir("decoded"));
		assert_memory_equal(d.data + WEIGHTS_HEADER_SIZE + 4 * zeros,
				    w.data + WEIGHTS_HEADER_SIZE + 4 * zeros, 4 * row);
		if (confs[k].encoding == ENCODING_DELTA)
			assert_memory_equal(d.data + WEIGHTS_HEADER_SIZE + 4 * (zeros + row),
					    b.data + WEIGHTS_HEADER_SIZE + 4 * (zeros + row),
					    4 * row);
		free(b.data);
		free(w.data);
		free(d.data);
	}
}

/* The same again costs next to nothing; what was rounded off goes into the next difference. */
static void differences_add_up(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(LARGE_CFG);
	const struct encoding_conf c = {ENCODING_DELTA, 2};
	char id[HASH_SIZE];
	double before = HUGE_VAL;
	struct bytes w = slurp(in_dir("weights"));
	for (int round = 0; round < 4; round++) {
		encode_ok(m, &c, id);
		struct bytes d = slurp(in_dir("decoded"));
		const float *x = floats_of(w), *y = floats_of(d);
		double sum = 0;
		for (uint64_t i = 0; i < m->n_floats; i++)
			sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
		assert_true(sum < before / 1.5);
		before = sum;
		util_write(in_dir("base"), d.data, d.len); /* what the receiver has now */
		free(d.data);
	}
	util_write(in_dir("base"), w.data, w.len);
	encode_ok(m, &c, id);
	struct bytes d = slurp(in_dir("decoded")), coded = slurp(in_dir("coded"));
	assert_memory_equal(d.data, w.data, w.len);
	assert_true(coded.len < w.len / 20);
	free(d.data);
	free(coded.data);
	free(w.data);
}

static void expect(int code, int found, const struct err *err, const char *text)
{
	if (found != code || !strstr(err->text, text))
		fail_msg("found %d '%s', expected %d '%s'", found, err->text, code, text);
	assert_false(file_exists(in_dir("received")));
	assert_false(file_exists(in_dir("received.tmp")));
}

static void refused(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(SMALL_CFG);
	char id[HASH_SIZE], got[HASH_SIZE];
	struct err err = {0};
	for (size_t k = 0; k < ARRAY_LEN(confs); k++) {
		if (confs[k].encoding == ENCODING_ZSTD)
			continue;
		encode_ok(m, &confs[k], id);
		struct bytes c = slurp(in_dir("coded"));
		for (size_t len = 0; len < c.len; len += 1 + len / 32) {
			util_write(in_dir("coded"), c.data, len);
			expect(-EBADMSG, decode(m, confs[k].encoding, got, &err), &err, "coded");
		}
		char *more = malloc(c.len + 1);
		memcpy(more, c.data, c.len);
		more[c.len] = 0;
		util_write(in_dir("coded"), more, c.len + 1);
		expect(-EBADMSG, decode(m, confs[k].encoding, got, &err), &err, "expected its end");
		free(more);
		/* Of another encoding than was announced. */
		util_write(in_dir("coded"), c.data, c.len);
		expect(-EBADMSG,
		       decode(m,
			      confs[k].encoding == ENCODING_INT8 ? ENCODING_DELTA : ENCODING_INT8,
			      got, &err),
		       &err, "encoding number");
		/* Whatever else is in it: an error, or another checkpoint, as its id tells. (Of
		 * large steps, of which nothing is a whole one, it does not matter how large.) */
		for (size_t i = confs[k].step < 1 ? 0 : SIZE_MAX; i < c.len * 8; i += 13) {
			c.data[i / 8] ^= (char)(1 << i % 8);
			util_write(in_dir("coded"), c.data, c.len);
			c.data[i / 8] ^= (char)(1 << i % 8);
			if (decode(m, confs[k].encoding, got, &err) == 0) {
				/* The last bytes say more than a decoder needs. */
				assert_true(strcmp(got, id) != 0 || i / 8 + 5 >= c.len);
				file_remove(in_dir("received"), NULL);
			}
		}
		free(c.data);
	}
	/* Another base: another checkpoint, whose id tells. */
	encode_ok(m, &confs[2], id);
	util_write_weights(m, in_dir("base"), 9, 1000);
	assert_int_equal(decode(m, ENCODING_DELTA, got, &err), 0);
	assert_string_not_equal(got, id);
}

static void zstd_refused(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(LARGE_CFG);
	static const struct encoding_conf conf = {ENCODING_ZSTD, 0};
	char id[HASH_SIZE], got[HASH_SIZE];
	struct err err = {0};
	encode_ok(m, &conf, id);
	struct bytes c = slurp(in_dir("coded"));
	for (size_t len = 0; len < c.len; len += 1 + c.len / 500) {
		util_write(in_dir("coded"), c.data, len);
		expect(-EBADMSG, decode(m, ENCODING_ZSTD, got, &err), &err, "coded");
	}
	char *more = malloc(c.len + 1);
	memcpy(more, c.data, c.len);
	more[c.len] = 0;
	util_write(in_dir("coded"), more, c.len + 1);
	expect(-EBADMSG, decode(m, ENCODING_ZSTD, got, &err), &err, "coded");
	free(more);
	for (size_t i = 0; i < c.len * 8; i += 1 + c.len / 60) {
		c.data[i / 8] ^= (char)(1 << i % 8);
		util_write(in_dir("coded"), c.data, c.len);
		c.data[i / 8] ^= (char)(1 << i % 8);
		if (decode(m, ENCODING_ZSTD, got, &err) == 0) {
			assert_string_not_equal(got, id);
			file_remove(in_dir("received"), NULL);
		}
	}
	free(c.data);
}

/* Small files that stand for large ones: no more is written than the model has. */
static void bombs(void **state)
{
	enum { SIZE = 64 << 20 };
	_cleanup_(model_freep) struct model *m = prepare(SMALL_CFG);
	char *zeros = calloc(1, SIZE), got[HASH_SIZE];
	size_t room = ZSTD_compressBound(SIZE);
	char *coded = malloc(room);
	struct err err = {0};
	size_t n = ZSTD_compress(coded, room, zeros, SIZE, 1);
	assert_true(n < SIZE / 1000);
	util_write(in_dir("coded"), coded, n);
	expect(-EBADMSG, decode(m, ENCODING_ZSTD, got, &err), &err, "found more than");
	/* A window that nobody has memory for. */
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
	ZSTD_inBuffer in = {zeros, SIZE, 0};
	ZSTD_outBuffer out = {coded, room, 0};
	assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush), 0);
	util_write(in_dir("coded"), coded, out.pos);
	expect(-EBADMSG, decode(m, ENCODING_ZSTD, got, &err), &err, "memory");
	ZSTD_freeCCtx(c);
	free(coded);
	free(zeros);
}

static void halves_overflow(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(SMALL_CFG);
	static const struct encoding_conf conf = {ENCODING_F16, 0};
	char id[HASH_SIZE], weights[FILE_PATH_MAX], coded[FILE_PATH_MAX];
	struct err err = {0};
	snprintf(weights, sizeof(weights), "%s", in_dir("weights"));
	snprintf(coded, sizeof(coded), "%s", in_dir("coded"));
	struct bytes w = slurp(weights);
	const float large = 65520;
	memcpy(w.data + w.len - 4, &large, 4);
	util_write(weights, w.data, w.len);
	assert_int_equal(
		encoding_encode(m, &conf, weights, NULL, coded, in_dir("decoded"), id, &err),
		-ERANGE);
	assert_non_null(strstr(err.text, "too large for half precision"));
	assert_false(file_exists(coded) || file_exists(in_dir("decoded")));
	free(w.data);
}

/* A base whose weights are finite, and nothing else: as a hostile trainer could return. */
static void put_far(const struct model *m, const char *path, float value)
{
	struct bytes w = slurp(in_dir("weights"));
	struct err err = {0};
	for (size_t k = 0; k < m->n_tensors; k++)
		if (m->tensors[k].kind == TENSOR_WEIGHT)
			floats_of(w)[m->tensors[k].offset] = value;
	assert_int_equal(file_write(path, w.data, w.len, &err), 0);
	free(w.data);
}

static void far_bases(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(SMALL_CFG);
	struct encoding_conf delta = {ENCODING_DELTA, 1};
	char id[HASH_SIZE], far[FILE_PATH_MAX];
	const char *const bases[] = {far};
	struct err err = {0};
	size_t i = 9;
	snprintf(far, sizeof(far), "%s", in_dir("far"));
	put_far(m, far, 3.4e38f);
	put_far(m, in_dir("weights"), -3.4e38f);
	assert_int_equal(encoding_nearest(m, in_dir("weights"), bases, 1, &i, &err), 0);
	assert_int_equal(i, 0);
	expect(-ERANGE,
	       encoding_encode(m, &delta, in_dir("weights"), far, in_dir("coded"),
			       in_dir("decoded"), id, &err),
	       &err, "too large for steps");
	assert_false(file_exists(in_dir("coded")) || file_exists(in_dir("decoded")));
}

static void nearest(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(SMALL_CFG);
	char path[3][FILE_PATH_MAX];
	const char *bases[3];
	struct err err = {0};
	size_t i = 9;
	for (int k = 0; k < 3; k++) {
		static const double by[] = {0.5, 0.001, 0.1};
		static const char *const names_of[] = {"b0", "b1", "b2"};
		snprintf(path[k], sizeof(path[k]), "%s", in_dir(names_of[k]));
		grow(m, in_dir("weights"), path[k], by[k], 3);
		bases[k] = path[k];
	}
	assert_int_equal(encoding_nearest(m, in_dir("weights"), bases, 3, &i, &err), 0);
	assert_int_equal(i, 1);
	assert_int_equal(encoding_nearest(m, in_dir("weights"), bases, 0, &i, &err), -ENOENT);
}

static void cannot_be_encoded(void **state)
{
	_cleanup_(model_freep) struct model *m = prepare(SMALL_CFG);
	char id[HASH_SIZE], base[FILE_PATH_MAX], weights[FILE_PATH_MAX], coded[FILE_PATH_MAX];
	struct err err = {0};
	snprintf(base, sizeof(base), "%s", in_dir("base"));
	snprintf(weights, sizeof(weights), "%s", in_dir("weights"));
	snprintf(coded, sizeof(coded), "%s", in_dir("coded"));
	static const double steps[] = {NAN, 0, -1, 0.001, 9};
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct encoding_conf c = {ENCODING_DELTA, steps[i]};
		assert_int_equal(
			encoding_encode(m, &c, weights, base, coded, in_dir("decoded"), id, &err),
			-EINVAL);
	}
	util_write(base, "short", 5);
	assert_int_equal(
		encoding_encode(m, &confs[2], weights, base, coded, in_dir("decoded"), id, &err),
		-EBADMSG);
	assert_non_null(strstr(err.text, "base"));
	assert_false(file_exists(coded) || file_exists(in_dir("decoded")));
	/* A difference as large as the weights, in steps as fine as they come. */
	util_write_weights(m, base, 3, 1000);
	struct bytes b = slurp(base);
	memset(b.data + WEIGHTS_HEADER_SIZE, 0, 4 * m->n_floats);
	float lone = 1e30f;
	const struct tensor *last = &m->tensors[m->n_tensors - 1];
	memcpy(b.data + WEIGHTS_HEADER_SIZE + 4 * last->offset, &lone, 4);
	util_write(base, b.data, b.len);
	free(b.data);
	int r = encoding_encode(m, &confs[1], weights, base, coded, in_dir("decoded"), id, &err);
	assert_true(r == 0 || r == -EFBIG);
}

/* What is larger in the end by the coder's last bytes alone: no receiver takes it. */
static void no_larger_than_raw(void **state)
{
	(void)state;
	char base[FILE_PATH_MAX], weights[FILE_PATH_MAX], id[HASH_SIZE], cfg[256];
	snprintf(base, sizeof(base), "%s", in_dir("base"));
	snprintf(weights, sizeof(weights), "%s", in_dir("weights"));
	for (int inputs = 1; inputs <= 10; inputs++) {
		snprintf(cfg, sizeof(cfg),
			 "[net]\nwidth=1\nheight=1\nchannels=%d\nbatch=1\nsubdivisions=1\n"
			 "[connected]\noutput=1\nactivation=linear\n[softmax]\n",
			 inputs);
		_cleanup_(model_freep) struct model *m = util_model(cfg, 0);
		util_write_weights(m, base, 1, 1000);
		util_write_weights(m, weights, 2, 1000);
		for (size_t i = 0; i < ARRAY_LEN(confs); i++) {
			bool delta = confs[i].encoding == ENCODING_DELTA;
			struct err err = {0};
			int r = encoding_encode(m, &confs[i], weights, delta ? base : NULL,
						in_dir("coded"), in_dir("decoded"), id, &err);
			struct bytes b = r == 0 ? slurp(in_dir("coded")) : (struct bytes){0};
			assert_true(r == -EFBIG || (r == 0 && b.len < m->file_bytes));
			free(b.data);
		}
	}
}

/* ---- the coder ---- */

static void coder_is_near_entropy(void **state)
{
	enum { N = 200000 };
	static const double ones[] = {0.5, 0.1, 0.01, 0.0005};
	for (size_t k = 0; k < ARRAY_LEN(ones); k++) {
		int fd = open(in_dir("bits"), O_RDWR | O_CREAT | O_TRUNC, 0600);
		struct range_coder c;
		struct err err = {0};
		for (int way = 0; way < 2; way++) {
			struct range_model m = RANGE_MODEL_INIT;
			struct rng rng;
			rng_init(&rng, k + 1);
			lseek(fd, 0, SEEK_SET);
			assert_int_equal(range_open(&c, fd, way == 0, &err), 0);
			for (int i = 0; i < N; i++) {
				unsigned bit = rng_unit(&rng) < ones[k];
				uint32_t raw = (uint32_t)rng_u64(&rng);
				unsigned n = i % 100 ? 0 : (unsigned)(i / 100 % 33);
				raw = n == 0 ? 0 : raw >> (32 - n);
				assert_int_equal(range_bit(&c, &m, way ? 0 : bit), bit);
				assert_int_equal(range_bits(&c, way ? 0 : raw, n), raw);
			}
			assert_int_equal(range_finish(&c, "bits", &err), 0);
			if (way == 0) {
				double p = ones[k];
				double bits =
					-N * (p * log2(p) + (1 - p) * log2(1 - p)) + N / 100.0 * 16;
				assert_true((double)c.bytes * 8 < bits * 1.03 + 2000);
			}
			range_close(&c);
		}
		close(fd);
	}
}

static void names(void **state)
{
	enum encoding e;
	for (int i = 0; i < ENCODING_N; i++) {
		assert_int_equal(encoding_parse(encoding_name((enum encoding)i), &e), 0);
		assert_int_equal(e, i);
	}
	assert_int_equal(encoding_parse("zip", &e), -EINVAL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, util_dir_done)

int main(void)
{
	const struct CMUnitTest tests[] = {T(both_ways),
					   T(rows_that_stay),
					   T(differences_add_up),
					   T(refused),
					   T(cannot_be_encoded),
					   T(no_larger_than_raw),
					   T(coder_is_near_entropy),
					   T(names),
					   T(zstd_refused),
					   T(bombs),
					   T(halves_overflow),
					   T(nearest),
					   T(far_bases)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
