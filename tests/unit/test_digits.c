#include "data_util.h"

#include <errno.h>
#include <math.h>

#include "common/crypto/hash.h"
#include "common/dataset/digits.h"
#include "common/dataset/idx.h"

#define PIXELS (DIGITS_SIDE * DIGITS_SIDE)

struct set {
	uint32_t n;
	uint8_t *pixels, *labels;
};

static struct set load(const char *dir, const char *stem)
{
	struct idx_pair pair;
	struct idx x;
	assert_int_equal(idx_find(dir, stem, &pair, NULL), 1);
	assert_int_equal(idx_open(&pair, &x, NULL), 0);
	assert_int_equal(x.rows, DIGITS_SIDE);
	assert_int_equal(x.cols, DIGITS_SIDE);
	struct set s = {x.n, malloc((size_t)x.n * PIXELS), malloc(x.n)};
	memcpy(s.labels, x.labels, x.n);
	for (uint32_t i = 0; i < x.n; i++)
		assert_int_equal(idx_next(&x, s.pixels + (size_t)i * PIXELS, NULL), 0);
	assert_int_equal(idx_end(&x, NULL), 0);
	idx_done(&x);
	return s;
}

static void set_done(struct set *s)
{
	free(s->pixels);
	free(s->labels);
}

static void same_numbers_same_picture(void **state)
{
	uint8_t a[PIXELS], b[PIXELS];
	for (int label = 0; label < 10; label++) {
		digits_draw(7, 3, label, a);
		digits_draw(7, 3, label, b);
		assert_memory_equal(a, b, PIXELS);
		digits_draw(8, 3, label, b);
		assert_memory_not_equal(a, b, PIXELS);
		digits_draw(7, 4, label, b);
		assert_memory_not_equal(a, b, PIXELS);
		digits_draw(7, 3, (label + 1) % 10, b);
		assert_memory_not_equal(a, b, PIXELS);
	}
}

/* There is a figure on a darker ground: neither blank nor washed out. */
static void every_picture_shows_something(void **state)
{
	uint8_t px[PIXELS];
	for (int i = 0; i < 1000; i++) {
		digits_draw(5, (uint64_t)i, i % 10, px);
		int bright = 0;
		long sum = 0;
		for (int k = 0; k < PIXELS; k++) {
			sum += px[k];
			bright += px[k] > 100;
		}
		assert_in_range(bright, 8, PIXELS / 2);
		assert_in_range(sum / PIXELS, 2, 120);
	}
}

static void written_as_announced(void **state)
{
	char *one = strdup(at(*state, "one")), *two = strdup(at(*state, "two"));
	assert_int_equal(digits_write(one, 500, 42, NULL, NULL), 0);
	assert_int_equal(digits_write(two, 500, 42, NULL, NULL), 0);
	struct set train = load(one, "train"), test = load(one, "t10k"), again = load(two, "train");
	assert_int_equal(train.n, 500);
	assert_int_equal(test.n, 100);
	assert_memory_equal(train.pixels, again.pixels, (size_t)train.n * PIXELS);
	assert_memory_equal(train.labels, again.labels, train.n);
	int counts[10] = {0}, in_order = 0;
	for (uint32_t i = 0; i < train.n; i++) {
		counts[train.labels[i]]++;
		in_order += i && train.labels[i] >= train.labels[i - 1];
	}
	for (int c = 0; c < 10; c++)
		assert_int_equal(counts[c], 50);
	assert_true(in_order < 400); /* mixed, not sorted by class */
	for (uint32_t i = 0; i < test.n; i++)
		for (uint32_t k = 0; k < train.n; k++)
			assert_memory_not_equal(test.pixels + (size_t)i * PIXELS,
						train.pixels + (size_t)k * PIXELS, PIXELS);
	set_done(&train);
	set_done(&test);
	set_done(&again);
	free(one);
	free(two);
}

static void mix_is_kept(void **state)
{
	const double mix[10] = {1, 0, 0, 3, 0, 0, 0, 0.5, 0, 0.5};
	const uint32_t expected[10] = {21, 0, 0, 62, 0, 0, 0, 10, 0, 10};
	assert_int_equal(digits_write(*state, 103, 1, mix, NULL), 0);
	struct set s = load(*state, "train");
	uint32_t counts[10] = {0};
	for (uint32_t i = 0; i < s.n; i++)
		counts[s.labels[i]]++;
	assert_int_equal(s.n, 103);
	assert_memory_equal(counts, expected, sizeof(counts));
	set_done(&s);
}

static void smallest(void **state)
{
	assert_int_equal(digits_write(*state, 1, 1, NULL, NULL), 0);
	struct set train = load(*state, "train"), test = load(*state, "t10k");
	assert_int_equal(train.n, 1);
	assert_int_equal(test.n, 1);
	set_done(&train);
	set_done(&test);
}

static void bad_arguments(void **state)
{
	struct err err = {0};
	double mix[10] = {0};
	assert_int_equal(digits_write(*state, 0, 1, NULL, &err), -EINVAL);
	assert_has(err.text, "0 images");
	assert_int_equal(digits_write(*state, DIGITS_MAX + 1, 1, NULL, &err), -EINVAL);
	assert_int_equal(digits_write(*state, 10, 1, mix, &err), -EINVAL);
	assert_has(err.text, "all weights are 0");
	mix[4] = -1;
	assert_int_equal(digits_write(*state, 10, 1, mix, &err), -EINVAL);
	assert_has(err.text, "class 4");
	mix[4] = NAN;
	assert_int_equal(digits_write(*state, 10, 1, mix, &err), -EINVAL);
	mix[4] = INFINITY;
	assert_int_equal(digits_write(*state, 10, 1, mix, &err), -EINVAL);
	put(*state, "file", "x", 1);
	assert_true(digits_write(at(*state, "file/dir"), 10, 1, NULL, &err) < 0);
}

/* Nearest class mean: well above chance, so there is something to learn, and well below all, so
 * that there is something left. (It gets about 80 % of MNIST.) */
static void neither_trivial_nor_hopeless(void **state)
{
	static double mean[10][PIXELS];
	uint8_t px[PIXELS];
	memset(mean, 0, sizeof(mean));
	for (int i = 0; i < 2000; i++) {
		digits_draw(1, (uint64_t)i, i % 10, px);
		for (int k = 0; k < PIXELS; k++)
			mean[i % 10][k] += px[k] / 200.0;
	}
	int correct = 0;
	for (int i = 0; i < 500; i++) {
		digits_draw(2, (uint64_t)i, i % 10, px);
		int best = 0;
		double best_distance = INFINITY;
		for (int c = 0; c < 10; c++) {
			double d = 0;
			for (int k = 0; k < PIXELS; k++)
				d += (px[k] - mean[c][k]) * (px[k] - mean[c][k]);
			if (d < best_distance) {
				best_distance = d;
				best = c;
			}
		}
		correct += best == i % 10;
	}
	print_message("nearest class mean: %d of 500\n", correct);
	assert_in_range(correct, 150, 400);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_numbers_same_picture),
		cmocka_unit_test(every_picture_shows_something),
		TEST(written_as_announced),
		TEST(mix_is_kept),
		TEST(smallest),
		TEST(bad_arguments),
		cmocka_unit_test(neither_trivial_nor_hopeless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
