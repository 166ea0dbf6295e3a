/* Clipping and noise on a checkpoint: what is handed over where [privacy] is on. */
#include "ckpt_util.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

#include "common/checkpoint/weights.h"

/* Enough weights for statistics: 4*3*3*3 + 4*4, 300*64 + 300. */
#define CFG                                                                                    \
	NET "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\nactivation=leaky\n" \
	    "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=300\nactivation=linear\n[softmax]\n"

static struct model *m;
static char whole[FILE_PATH_MAX], base[FILE_PATH_MAX], out[FILE_PATH_MAX];
static struct err err;

static int setup(void **state)
{
	if (util_dir(state) < 0)
		return -1;
	file_path(whole, sizeof(whole), "%s/whole", (char *)*state);
	file_path(base, sizeof(base), "%s/base", (char *)*state);
	file_path(out, sizeof(out), "%s/out", (char *)*state);
	m = util_model(CFG, 0);
	util_write_weights(m, whole, 1, 640);
	util_write_weights(m, base, 2, 64);
	return 0;
}

static int teardown(void **state)
{
	model_free(m);
	return util_dir_done(state);
}

static float *floats(const char *path)
{
	char *data;
	size_t len;
	if (file_read(path, m->file_bytes + 1, &data, &len, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(len, m->file_bytes);
	float *f = malloc(len);
	memcpy(f, data + WEIGHTS_HEADER_SIZE, len - WEIGHTS_HEADER_SIZE);
	free(data);
	return f;
}

static size_t n_floats(void)
{
	return (m->file_bytes - WEIGHTS_HEADER_SIZE) / 4;
}

/* L2 of x times the difference of two files, less that of two others. */
static double norm(const char *a, const char *b)
{
	_cleanup_free_ float *x = floats(a), *y = floats(b);
	double sum = 0;
	for (size_t i = 0; i < n_floats(); i++)
		sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
	return sqrt(sum);
}

static double noised(double clip, double noise, uint32_t first_row)
{
	struct weights_noise c = {clip, noise, first_row};
	double ret = -1;
	if (weights_noise(m, whole, base, &c, out, &ret, &err) < 0)
		fail_msg("%s", err.text);
	if (weights_check(m, out, NULL, NULL, &err) < 0)
		fail_msg("%s", err.text);
	return ret;
}

/* To the bit, header and all. */
static void nothing_to_be_done(void **state)
{
	char id[HASH_SIZE], was[HASH_SIZE];
	double is = noised(WEIGHTS_CLIP_MAX, 0, m->outputs);
	assert_true(fabs(is - norm(whole, base)) < 1e-9 * is);
	weights_check(m, whole, NULL, was, NULL);
	weights_check(m, out, NULL, id, NULL);
	assert_string_equal(id, was);
}

static void clipped(void **state)
{
	double is = norm(whole, base);
	for (double clip = is * 1.5; clip > 1e-3; clip /= 7) {
		assert_true(noised(clip, 0, m->outputs) == is || clip > is);
		/* 1e-5: what the floats of a file round. */
		assert_true(norm(out, base) <= clip + 1e-5 * (1 + clip));
		assert_true(norm(out, base) >= MIN_OF(clip, is) - 1e-5 * (1 + clip));
	}
	/* The way it goes is the same. */
	noised(is / 4, 0, m->outputs);
	_cleanup_free_ float *w = floats(whole), *b = floats(base), *o = floats(out);
	for (size_t i = 0; i < n_floats(); i++)
		assert_true(fabs((o[i] - b[i]) - (w[i] - b[i]) / 4) < 1e-5);
}

/* What is beside the clipped difference is noise of that deviation, on every weight and not the
 * same twice; the norm is at most `clip` before it: what noise cannot hide is as in clipped(). */
static void with_noise(void **state)
{
	double is = norm(whole, base), clip = is / 3, noise = 0.02, sum = 0, square = 0, drift = 0;
	noised(clip, 0, m->outputs);
	_cleanup_free_ float *c = floats(out), *b = floats(base);
	noised(clip, noise, m->outputs);
	_cleanup_free_ float *o = floats(out);
	noised(clip, noise, m->outputs);
	_cleanup_free_ float *again = floats(out);
	double deviation = noise * clip;
	size_t n = 0, same = 0;
	for (size_t t = 0; t < m->n_tensors; t++)
		for (uint64_t i = 0; i < m->tensors[t].count; i++) {
			size_t at = m->tensors[t].offset + i;
			same += o[at] == again[at];
			if (m->tensors[t].kind == TENSOR_VARIANCE) {
				assert_true(o[at] >= (float)deviation);
				continue;
			}
			double z = ((double)o[at] - (double)c[at]) / deviation;
			sum += z;
			square += z * z;
			/* Along the difference, too: it was neither forgotten nor made longer. */
			drift += z * ((double)c[at] - (double)b[at]) / clip;
			n++;
		}
	assert_true(n > 19000);
	/* Six standard errors; what cutting off towards 0 takes is 1/2048 of a deviation a weight.
	 */
	assert_true(fabs(sum / (double)n) < 6 / sqrt((double)n) + 1e-3);
	assert_true(fabs(square / (double)n - 1) < 6 * sqrt(2.0 / (double)n));
	assert_true(fabs(drift) < 6 + 0.001 * sqrt((double)n));
	/* Variances at the floor, and what falls on one of the grid's points twice: one in 3,600.
	 */
	assert_true(same < 4 + 6 + 6 * sqrt(6.0));
}

/* On a grid that the weights do not choose: base + step x a whole number. */
static void whole_numbers(void **state)
{
	double clip = norm(whole, base) / 3, step = 64 * clip / 1024;
	noised(clip, 64, m->outputs);
	_cleanup_free_ float *o = floats(out), *b = floats(base);
	const struct tensor *t = &m->tensors[m->n_tensors - 1];
	assert_int_equal(t->kind, TENSOR_WEIGHT);
	for (uint64_t i = 0; i < t->count; i++) {
		size_t at = t->offset + i;
		double k = ((double)o[at] - (double)b[at]) / step;
		assert_true(fabs(k - round(k)) < 0.01);
	}
}

/* Rows that do not travel are zeros, and count in no norm, whatever they are. */
static void rows_that_stay(void **state)
{
	double all = norm(whole, base);
	char a[FILE_PATH_MAX], b[FILE_PATH_MAX];
	file_path(a, sizeof(a), "%s/a", (char *)*state);
	file_path(b, sizeof(b), "%s/b", (char *)*state);
	assert_int_equal(weights_graft(m, whole, NULL, 200, a, &err), 0);
	assert_int_equal(weights_graft(m, base, NULL, 200, b, &err), 0);
	double is = noised(all, 1, 200);
	assert_true(fabs(is - norm(a, b)) < 1e-9 * is);
	assert_true(is < all * 0.9);
	assert_int_equal(weights_graft(m, out, NULL, 200, a, &err), 0);
	assert_true(norm(a, out) == 0);
	noised(WEIGHTS_CLIP_MAX, 0, 200);
	assert_int_equal(weights_graft(m, whole, NULL, 200, a, &err), 0);
	assert_true(norm(a, out) == 0);
}

static void refused(void **state)
{
	static const struct weights_noise bad[] = {{0, 1, 300},   {-1, 1, 300},   {2e9, 1, 300},
						   {1, -1, 300},  {1, 1e-5, 300}, {1, 2e4, 300},
						   {NAN, 1, 300}, {1, NAN, 300}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(weights_noise(m, whole, base, &bad[i], out, NULL, &err), -EINVAL);
		assert_true(access(out, F_OK) < 0);
	}
	struct weights_noise c = {1, 1, 300};
	util_write(base, "short", 5);
	assert_int_equal(weights_noise(m, whole, base, &c, out, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.text, base));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(nothing_to_be_done), TEST(clipped),        TEST(with_noise),
		TEST(whole_numbers),      TEST(rows_that_stay), TEST(refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
