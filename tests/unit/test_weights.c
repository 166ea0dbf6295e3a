/* Weights files: what is accepted, and every way of being refused; what is made from others. */
#include "ckpt_util.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/checkpoint/weights.h"
#include "common/checkpoint/weights_stream.h"
#include "common/crypto/hash.h"

/* Tensors longer than the 64 KiB buffer, and ends of tensors in the middle of one. */
#define LARGE_CFG                                                                               \
	NET "[convolutional]\nbatch_normalize=1\nfilters=70\nsize=5\npad=1\nactivation=leaky\n" \
	    "[convolutional]\nbatch_normalize=1\nfilters=90\nsize=3\npad=1\nactivation=leaky\n" \
	    "[connected]\noutput=5\nactivation=linear\n[softmax]\n"

static char path_a[FILE_PATH_MAX], path_b[FILE_PATH_MAX], path_c[FILE_PATH_MAX];

static int setup(void **state)
{
	if (util_dir(state) < 0)
		return -1;
	return file_path(path_a, sizeof(path_a), "%s/a.weights", (char *)*state) |
	       file_path(path_b, sizeof(path_b), "%s/b.weights", (char *)*state) |
	       file_path(path_c, sizeof(path_c), "%s/c.weights", (char *)*state);
}

static void expect(const struct model *m, const char *path, int code, const char *text)
{
	struct weights_header h = {.seen = 77};
	char id[HASH_SIZE] = "untouched";
	struct err err = {0};
	assert_int_equal(weights_check(m, path, &h, id, &err), code);
	assert_int_equal(h.seen, 77);
	assert_string_equal(id, "untouched");
	if (!strstr(err.text, text) || !strstr(err.text, path))
		fail_msg("neither '%s' nor the path is in: %s", text, err.text);
}

static void good(void **state)
{
	static const char *const cfgs[] = {SMALL_CFG, LARGE_CFG, NET "[crop]\ncrop_width=8\ncrop_height=8\n"};
	for (size_t i = 0; i < ARRAY_LEN(cfgs); i++) {
		_cleanup_(model_freep) struct model *m = util_model(cfgs[i], 0);
		struct weights_header h;
		struct err err = {0};
		char id[HASH_SIZE], want[HASH_SIZE];
		util_write_weights(m, path_a, 1, WEIGHTS_SEEN_MAX);
		assert_int_equal(hash_file(path_a, want, NULL), 0);
		if (weights_check(m, path_a, &h, id, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(id, want);
		assert_int_equal(h.minor, 2);
		assert_int_equal(h.seen, WEIGHTS_SEEN_MAX);
		assert_int_equal(weights_check(m, path_a, NULL, NULL, NULL), 0);
		assert_int_equal(symlink("a.weights", path_b), 0);
		assert_int_equal(weights_check(m, path_b, NULL, NULL, NULL), 0);
		assert_int_equal(unlink(path_b), 0);
	}
}

static void wrong_size(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	_cleanup_free_ uint8_t *data = util_weights(m, 1, 5);
	static const size_t sizes[] = {0, 1, 19, 20, 21, 1000};
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		util_write(path_a, data, sizes[i]);
		expect(m, path_a, -EBADMSG, "expected 1816");
	}
	data = realloc(data, m->file_bytes + 4);
	assert_non_null(data);
	memset(data + m->file_bytes, 0, 4);
	static const int by[] = {-4, -1, 1, 4};
	for (size_t i = 0; i < ARRAY_LEN(by); i++) {
		util_write(path_a, data, m->file_bytes + (size_t)by[i]);
		expect(m, path_a, -EBADMSG, "test.cfg");
	}
	/* A checkpoint of another model. */
	_cleanup_(model_freep) struct model *other = util_model(LARGE_CFG, 0);
	util_write(path_a, data, m->file_bytes);
	expect(other, path_a, -EBADMSG, "found 1816 bytes");
}

static void wrong_header(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	static const struct {
		int at;
		uint8_t value;
		const char *text;
	} cases[] = {
		{0, 1, "version 1.2.0"},
		{4, 1, "version 0.1.0"},
		{4, 3, "version 0.3.0"},
		{8, 1, "version 0.2.1"},
		{3, 0x80, "version -2147483648"},
		{18, 1, "seen"},
		{19, 0x80, "seen"},
		{17, 2, "seen"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ uint8_t *data = util_weights(m, 1, 5);
		data[cases[i].at] = cases[i].value;
		util_write(path_a, data, m->file_bytes);
		expect(m, path_a, -EBADMSG, cases[i].text);
	}
}

/* One bad value at every interesting place, and each kind of bad. */
static void bad_values(void **state)
{
	static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001};
	_cleanup_(model_freep) struct model *m = util_model(LARGE_CFG, 0);
	_cleanup_free_ uint8_t *data = util_weights(m, 3, 5);
	char text[128];
	unsigned n = 0;
	for (size_t t = 0; t < m->n_tensors; t++) {
		const struct tensor *x = &m->tensors[t];
		uint64_t places[] = {0, x->count - 1, x->count / 2, x->count > 16384 ? 16384 : 1,
				     x->count > 256 ? 255 : 2};
		for (size_t k = 0; k < ARRAY_LEN(places); k++, n++) {
			uint8_t *p = data + 20 + 4 * (x->offset + places[k]), old[4];
			memcpy(old, p, 4);
			memcpy(p, &bits[n % ARRAY_LEN(bits)], 4);
			util_write(path_a, data, m->file_bytes);
			snprintf(text, sizeof(text), "layer %d [%s] %s: found ", x->layer,
				 m->layers[x->layer].type, tensor_kind_name(x->kind));
			expect(m, path_a, -EBADMSG, text);
			snprintf(text, sizeof(text), " at %llu of %llu",
				 (unsigned long long)places[k], (unsigned long long)x->count);
			expect(m, path_a, -EBADMSG, text);
			memcpy(p, old, 4);
		}
	}
	util_write(path_a, data, m->file_bytes);
	assert_int_equal(weights_check(m, path_a, NULL, NULL, NULL), 0);
}

static void variances(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	_cleanup_free_ uint8_t *data = util_weights(m, 3, 5);
	static const float negative[] = {-1, -1e-45f, -3e38f};
	uint8_t *p = data + 20 + 4 * (12 + 2);
	for (size_t i = 0; i < ARRAY_LEN(negative); i++) {
		memcpy(p, &negative[i], 4);
		util_write(path_a, data, m->file_bytes);
		expect(m, path_a, -EBADMSG, "layer 0 [convolutional] variance: found -");
	}
	float zero = -0.0f;
	memcpy(p, &zero, 4);
	util_write(path_a, data, m->file_bytes);
	assert_int_equal(weights_check(m, path_a, NULL, NULL, NULL), 0);
	/* Long variances go through the fast path, too. */
	_cleanup_(model_freep) struct model *wide =
		util_model(NET "[convolutional]\nbatch_normalize=1\nfilters=600\nsize=3\n", 0);
	_cleanup_free_ uint8_t *more = util_weights(wide, 3, 5);
	memcpy(more + 20 + 4 * (wide->tensors[3].offset + 100), &negative[0], 4);
	util_write(path_a, more, wide->file_bytes);
	expect(wide, path_a, -EBADMSG, "at 100 of 600");
}

/* A file that grows or shrinks under our hands is not half believed. */
static void changing(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(LARGE_CFG, 0);
	static const int by[] = {1, -1};
	for (size_t i = 0; i < ARRAY_LEN(by); i++) {
		_cleanup_(stream_close) struct weights_stream s = {.fd = -1};
		struct err err = {0};
		util_write_weights(m, path_a, 1, 5);
		assert_int_equal(stream_open(&s, m, path_a, &err), 0);
		assert_int_equal(truncate(path_a, (off_t)m->file_bytes + by[i]), 0);
		int r;
		do
			r = stream_next(&s, &err);
		while (r == 0 && s.n > 0);
		assert_int_equal(r, -EBADMSG);
		assert_non_null(strstr(err.text, "changed"));
	}
}

/* What is no file: at once, without waiting for anybody. */
static void not_files(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	expect(m, path_a, -ENOENT, "No such file");
	expect(m, *state, -EBADMSG, "regular file");
	expect(m, "/dev/zero", -EBADMSG, "regular file");
	assert_int_equal(mkfifo(path_a, 0600), 0);
	alarm(5);
	expect(m, path_a, -EBADMSG, "regular file");
	alarm(0);
}

static void stats(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	_cleanup_free_ uint8_t *data = util_weights(m, 3, 5);
	static const float bias[] = {3, 0, -4, 0};
	struct weights_stat st[7];
	memcpy(data + 20, bias, sizeof(bias));
	util_write(path_a, data, m->file_bytes);
	assert_int_equal(m->n_tensors, ARRAY_LEN(st));
	assert_int_equal(weights_stats(m, path_a, st, NULL), 0);
	assert_true(st[0].l2 == 5 && st[0].mean == -.25 && st[0].min == -4 && st[0].max == 3);
	assert_int_equal(st[0].zeros, 2);
	assert_true(st[6].min >= -1 && st[6].max <= 1 && st[6].max > .9 && st[6].min < -.9);
	/* Over several buffers: the same as in one loop. */
	_cleanup_(model_freep) struct model *l = util_model(LARGE_CFG, 0);
	_cleanup_free_ struct weights_stat *ls = calloc(l->n_tensors, sizeof(*ls));
	_cleanup_free_ uint8_t *ld = util_weights(l, 4, 5);
	assert_non_null(ls);
	util_write(path_a, ld, l->file_bytes);
	assert_int_equal(weights_stats(l, path_a, ls, NULL), 0);
	for (size_t t = 0; t < l->n_tensors; t++) {
		double sum = 0, squares = 0;
		for (uint64_t i = 0; i < l->tensors[t].count; i++) {
			float f;
			memcpy(&f, ld + 20 + 4 * (l->tensors[t].offset + i), 4);
			sum += (double)f;
			squares += (double)f * (double)f;
		}
		assert_true(ls[t].mean == sum / (double)l->tensors[t].count);
		assert_true(ls[t].l2 == sqrt(squares));
	}
}

static uint8_t *read_all(const struct model *m, const char *path)
{
	char *data = NULL;
	size_t len;
	assert_int_equal(file_read(path, m->file_bytes, &data, &len, NULL), 0);
	assert_int_equal(len, m->file_bytes);
	return (uint8_t *)data;
}

static void blend(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(LARGE_CFG, 0);
	_cleanup_free_ uint8_t *a = util_weights(m, 1, 50), *b = util_weights(m, 2, 90);
	static const float minus_zero = -0.0f;
	memcpy(b + 20, &minus_zero, 4);
	util_write(path_a, a, m->file_bytes);
	util_write(path_b, b, m->file_bytes);
	static const double alphas[] = {0, 1, .25, .5};
	for (size_t k = 0; k < ARRAY_LEN(alphas); k++) {
		assert_int_equal(weights_blend(m, path_a, path_b, alphas[k], path_c, NULL), 0);
		_cleanup_free_ uint8_t *c = read_all(m, path_c);
		assert_memory_equal(c, b, WEIGHTS_HEADER_SIZE);
		for (uint64_t i = 0; i < m->n_floats; i++) {
			float fa, fb, fc;
			memcpy(&fa, a + 20 + 4 * i, 4);
			memcpy(&fb, b + 20 + 4 * i, 4);
			memcpy(&fc, c + 20 + 4 * i, 4);
			double want = (1 - alphas[k]) * (double)fa + alphas[k] * (double)fb;
			assert_true(fabs((double)fc - want) <= 1e-7);
		}
		if (alphas[k] == 0 || alphas[k] == 1)
			assert_memory_equal(c + 20, (alphas[k] == 0 ? a : b) + 20, 4 * m->n_floats);
		assert_int_equal(weights_check(m, path_c, NULL, NULL, NULL), 0);
	}
	/* The header of the one that has seen more, whichever it is; the output may be an input. */
	assert_int_equal(weights_blend(m, path_b, path_a, .5, path_b, NULL), 0);
	_cleanup_free_ uint8_t *c = read_all(m, path_b);
	assert_memory_equal(c, b, WEIGHTS_HEADER_SIZE);
	assert_int_equal(weights_blend(m, path_a, path_a, .3, path_c, NULL), 0);
	_cleanup_free_ uint8_t *self = read_all(m, path_c);
	assert_memory_equal(self, a, m->file_bytes);
}

static void blend_refuses(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	_cleanup_free_ uint8_t *a = util_weights(m, 1, 50);
	char tmp[FILE_PATH_MAX + 4];
	struct err err = {0};
	util_write(path_a, a, m->file_bytes);
	static const float inf = INFINITY;
	memcpy(a + 20, &inf, 4);
	util_write(path_b, a, m->file_bytes);
	util_write(path_c, "old", 3);
	assert_int_equal(weights_blend(m, path_a, path_b, .5, path_c, &err), -EBADMSG);
	assert_non_null(strstr(err.text, path_b));
	assert_int_equal(weights_blend(m, path_b, path_a, 0, path_c, NULL), -EBADMSG);
	static const double alphas[] = {-.1, 1.1, NAN, INFINITY};
	for (size_t i = 0; i < ARRAY_LEN(alphas); i++)
		assert_int_equal(weights_blend(m, path_a, path_a, alphas[i], path_c, NULL),
				 -EINVAL);
	assert_true(weights_blend(m, path_a, path_a, .5, "/nowhere/x", NULL) < 0);
	char *old = NULL;
	size_t len;
	assert_int_equal(file_read(path_c, 100, &old, &len, NULL), 0);
	assert_string_equal(old, "old");
	free(old);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path_c);
	assert_false(file_exists(tmp));
}

/* A write that fails half way (here by a limit on file size) leaves what was there. */
static void blend_full_disk(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(LARGE_CFG, 0);
	util_write_weights(m, path_a, 1, 50);
	util_write(path_c, "old", 3);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit limit = {100000, 100000};
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		_exit(weights_blend(m, path_a, path_a, .5, path_c, NULL) == -EFBIG ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	struct stat st;
	char tmp[FILE_PATH_MAX + 4];
	assert_int_equal(stat(path_c, &st), 0);
	assert_int_equal(st.st_size, 3);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path_c);
	assert_false(file_exists(tmp));
}

static double float_at(const uint8_t *file, uint64_t i)
{
	float f;
	memcpy(&f, file + WEIGHTS_HEADER_SIZE + 4 * i, 4);
	return (double)f;
}

/* What a merge shall make of float number `i` of tensor `t`; `mean` is the number of the rolling
 * mean that belongs to it, where it is a variance. The textbook's formula: E[x^2] - E[x]^2. */
static double merged(const struct tensor *t, uint8_t *const *files, const double *shares, size_t n,
		     uint64_t i, uint64_t mean)
{
	double all = 0, sum = 0, first = 0, second = 0;
	for (size_t k = 0; k < n; k++) {
		double m = float_at(files[k], mean), v = float_at(files[k], i);
		all += shares[k];
		sum += shares[k] * v;
		first += shares[k] * m;
		second += shares[k] * (v + m * m);
	}
	return t->kind == TENSOR_VARIANCE ? second / all - first / all * (first / all) : sum / all;
}

static void check_merged(const struct model *m, uint8_t *const *files, const double *shares,
			 size_t n, const uint8_t *out)
{
	uint64_t mean = 0;
	for (size_t t = 0; t < m->n_tensors; t++) {
		const struct tensor *x = &m->tensors[t];
		if (x->kind == TENSOR_MEAN)
			mean = x->offset;
		for (uint64_t i = 0; i < x->count; i++) {
			bool variance = x->kind == TENSOR_VARIANCE;
			double want = merged(x, files, shares, n, x->offset + i,
					     variance ? mean + i : 0);
			assert_true(fabs(float_at(out, x->offset + i) - want) <= 1e-6);
		}
	}
}

static void merge(void **state)
{
	static const struct {
		size_t n;
		double shares[4];
	} cases[] = {{2, {1, 1}}, {3, {1, 2, 5}}, {4, {.1, 1e6, 3e5, 12}}};
	/* A forged count is not what the others go on from. */
	static const uint64_t counts[] = {50, WEIGHTS_SEEN_MAX, 70, 60};
	static const size_t middle[] = {[2] = 0, [3] = 2, [4] = 3};
	/* The second: variances that end in the middle of a buffer, and begin in one before. */
	static const char *const cfgs[] = {
		LARGE_CFG, NET "[connected]\noutput=8000\nbatch_normalize=1\n[connected]\n"
			       "output=20\nbatch_normalize=1\n"};
	for (size_t c = 0; c < ARRAY_LEN(cfgs) * ARRAY_LEN(cases); c++) {
		_cleanup_(model_freep) struct model *m = util_model(cfgs[c % 2], 0);
		size_t n = cases[c / 2].n;
		char paths[4][FILE_PATH_MAX];
		struct weights_input in[4];
		uint8_t *files[4];
		for (size_t k = 0; k < n; k++) {
			snprintf(paths[k], FILE_PATH_MAX, "%s/%zu", (char *)*state, k);
			files[k] = util_weights(m, k + 1, counts[k]);
			util_write(paths[k], files[k], m->file_bytes);
			in[k] = (struct weights_input){paths[k], cases[c / 2].shares[k]};
		}
		assert_int_equal(weights_merge(m, in, n, path_c, NULL), 0);
		_cleanup_free_ uint8_t *out = read_all(m, path_c);
		assert_memory_equal(out, files[middle[n]], WEIGHTS_HEADER_SIZE);
		check_merged(m, files, cases[c / 2].shares, n, out);
		/* Of itself: itself, to the bit. The output may be an input. */
		struct weights_input same[] = {{paths[0], 1}, {paths[0], 3}, {paths[0], 7}};
		assert_int_equal(weights_merge(m, same, 3, paths[0], NULL), 0);
		_cleanup_free_ uint8_t *self = read_all(m, paths[0]);
		assert_memory_equal(self, files[0], m->file_bytes);
		for (size_t k = 0; k < n; k++)
			free(files[k]);
	}
}

static void merge_refuses(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(SMALL_CFG, 0);
	_cleanup_free_ uint8_t *a = util_weights(m, 1, 50);
	struct weights_input in[WEIGHTS_INPUTS_MAX + 1];
	struct err err = {0};
	util_write(path_a, a, m->file_bytes);
	util_write(path_c, "old", 3);
	for (size_t i = 0; i < ARRAY_LEN(in); i++)
		in[i] = (struct weights_input){path_a, 1};
	assert_int_equal(weights_merge(m, in, 1, path_c, &err), -EINVAL);
	assert_int_equal(weights_merge(m, in, ARRAY_LEN(in), path_c, &err), -EINVAL);
	assert_non_null(strstr(err.text, "found 65, expected 2 to 64"));
	static const double shares[] = {0, -1, NAN, INFINITY, 1e16};
	for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
		in[1].share = shares[i];
		assert_int_equal(weights_merge(m, in, 2, path_c, &err), -EINVAL);
		assert_non_null(strstr(err.text, path_a));
	}
	/* Any input that is no good, named. */
	static const float bad[] = {INFINITY, NAN};
	in[1] = (struct weights_input){path_b, 1};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		memcpy(a + 20, &bad[i], 4);
		util_write(path_b, a, m->file_bytes);
		assert_int_equal(weights_merge(m, in, 3, path_c, &err), -EBADMSG);
		assert_non_null(strstr(err.text, path_b));
	}
	util_write(path_b, a, m->file_bytes - 4);
	assert_int_equal(weights_merge(m, in, 3, path_c, &err), -EBADMSG);
	assert_int_equal(unlink(path_b), 0);
	assert_int_equal(weights_merge(m, in, 3, path_c, &err), -ENOENT);
	/* Means so far apart that no float holds the variance: bias, scale, mean come first. */
	static const float far[] = {3e38f, -3e38f};
	_cleanup_free_ uint8_t *b = util_weights(m, 1, 50);
	for (int i = 0; i < 2; i++) {
		memcpy(b + 20 + 4 * m->tensors[2].offset, &far[i], 4);
		util_write(i ? path_b : path_a, b, m->file_bytes);
	}
	assert_int_equal(weights_merge(m, in, 2, path_c, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "layer 0 [convolutional] variance: found inf at 0"));
	char *old = NULL;
	size_t len;
	assert_int_equal(file_read(path_c, 100, &old, &len, NULL), 0);
	assert_string_equal(old, "old");
	free(old);
}

/* Private rows leave as zeros and come back from the device's own. */
static void graft(void **state)
{
	_cleanup_(model_freep) struct model *m = util_model(LARGE_CFG, 3);
	_cleanup_free_ uint8_t *a = util_weights(m, 1, 50), *b = util_weights(m, 2, 90);
	util_write(path_a, a, m->file_bytes);
	util_write(path_b, b, m->file_bytes);
	assert_int_equal(weights_graft(m, path_a, NULL, 3, path_c, NULL), 0);
	_cleanup_free_ uint8_t *c = read_all(m, path_c);
	const struct tensor *bias = &m->tensors[m->n_tensors - 2], *w = bias + 1;
	assert_int_equal(w->rows, 5);
	uint64_t row = w->count / 5;
	assert_memory_equal(c, a, 20 + 4 * (bias->offset + 3));
	assert_memory_equal(c + 20 + 4 * w->offset, a + 20 + 4 * w->offset, 4 * 3 * row);
	for (uint64_t i = 0; i < 4 * 2; i++)
		assert_int_equal(c[20 + 4 * (bias->offset + 3) + i], 0);
	for (uint64_t i = 0; i < 4 * 2 * row; i++)
		assert_int_equal(c[20 + 4 * (w->offset + 3 * row) + i], 0);
	assert_int_equal(weights_graft(m, path_c, path_b, 3, path_c, NULL), 0);
	_cleanup_free_ uint8_t *d = read_all(m, path_c);
	assert_memory_equal(d + 20 + 4 * (w->offset + 3 * row), b + 20 + 4 * (w->offset + 3 * row),
			    4 * 2 * row);
	assert_memory_equal(d, a, 20 + 4 * (bias->offset + 3));
	/* With its own rows back it is what it was; no row is none changed. */
	assert_int_equal(weights_graft(m, path_a, NULL, 3, path_c, NULL), 0);
	assert_int_equal(weights_graft(m, path_c, path_a, 3, path_c, NULL), 0);
	_cleanup_free_ uint8_t *whole = read_all(m, path_c);
	assert_memory_equal(whole, a, m->file_bytes);
	assert_int_equal(weights_graft(m, path_a, NULL, 5, path_c, NULL), 0);
	_cleanup_free_ uint8_t *same = read_all(m, path_c);
	assert_memory_equal(same, a, m->file_bytes);
	/* No row of its own for each output: refused. */
	_cleanup_(model_freep) struct model *none =
		util_model(NET "[convolutional]\nfilters=4\nsize=3\n[softmax]\n", 0);
	util_write_weights(none, path_a, 1, 1);
	assert_int_equal(weights_graft(none, path_a, NULL, 3, path_c, NULL), -EOPNOTSUPP);
}

/* Not a test of speed, but its number is worth seeing. */
static void speed(void **state)
{
	_cleanup_(model_freep) struct model *m =
		util_model(NET "[connected]\noutput=4096\n[connected]\noutput=2048\n", 0);
	char id[HASH_SIZE];
	util_write_weights(m, path_a, 1, 50);
	int64_t t0 = clock_mono_ms();
	assert_int_equal(weights_check(m, path_a, NULL, NULL, NULL), 0);
	int64_t t1 = clock_mono_ms();
	assert_int_equal(weights_check(m, path_a, NULL, id, NULL), 0);
	int64_t t2 = clock_mono_ms();
	double mb = (double)m->file_bytes / 1e6;
	print_message("%.0f MB: %.0f MB/s screened, %.0f MB/s with sha256\n", mb,
		      mb * 1000 / (double)MAX_OF(t1 - t0, 1),
		      mb * 1000 / (double)MAX_OF(t2 - t1, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(good, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(wrong_size, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(wrong_header, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(bad_values, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(variances, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(changing, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(not_files, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(stats, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(blend, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(blend_refuses, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(blend_full_disk, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(merge, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(merge_refuses, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(graft, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(speed, setup, util_dir_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
