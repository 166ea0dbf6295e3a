/* What devices and trainers of different processors and compilers must agree on to the bit: which
 * images there are, whose they are, in which order they come. Known values: one that changes here
 * cuts a fleet in two. */
#include "data_util.h"

#include "common/base/rng.h"
#include "common/crypto/hash.h"
#include "common/dataset/dataset.h"
#include "common/dataset/digits.h"
#include "common/dataset/image.h"
#include "common/dataset/share.h"

#define PIXELS (DIGITS_SIDE * DIGITS_SIDE)
#define DRAWN  3000

static struct classes ten = {
	(char *[]){"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
	10,
};

/* A quarter of a hash is enough, and fits on a line. */
static void expect(char hex[HASH_SIZE], const char *expected)
{
	hex[16] = 0;
	assert_string_equal(hex, expected);
}

static void expect_hash(const void *data, size_t len, const char *expected)
{
	char hex[HASH_SIZE];
	assert_int_equal(hash_bytes(data, len, hex), 0);
	expect(hex, expected);
}

static void expect_file(const char *path, const char *expected)
{
	char hex[HASH_SIZE];
	assert_int_equal(hash_file(path, hex, NULL), 0);
	expect(hex, expected);
}

static void seeded_numbers(void **state)
{
	struct rng r;
	double units[1000];
	uint32_t below[1000];
	rng_init(&r, 2021);
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		units[i] = rng_between(&r, -3, 7);
	for (size_t i = 0; i < ARRAY_LEN(below); i++)
		below[i] = rng_below(&r, (uint32_t)i + 1);
	expect_hash(units, sizeof(units), "13ec693e3627b37b");
	expect_hash(below, sizeof(below), "e563ef0ae12be6f4");
}

/* Several thousand, for a pixel whose value lies on the edge between two. */
static void drawn_digits(void **state)
{
	uint8_t *px = malloc((size_t)DRAWN * PIXELS);
	assert_non_null(px);
	for (int i = 0; i < DRAWN; i++)
		digits_draw(2021, (uint64_t)i, i % 10, px + (size_t)i * PIXELS);
	expect_hash(px, (size_t)DRAWN * PIXELS, "1dea21cd771998be");
	free(px);
}

static void order_of_an_epoch(void **state)
{
	uint32_t order[5000];
	dataset_order(2021, 7, ARRAY_LEN(order), order);
	expect_hash(order, sizeof(order), "3819ef2aa9118e8a");
}

static void expect_snapshots(const char *dir, const char *train, const char *validation)
{
	struct dataset_conf c = {.width = DIGITS_SIDE, .height = DIGITS_SIDE, .channels = 1};
	struct dataset *d = NULL;
	struct err err = {0};
	char hex[HASH_SIZE];
	c.validation_share = 0.2;
	c.seed = 2021;
	c.limit = 150;
	snprintf(c.path, sizeof(c.path), "%s", dir);
	if (dataset_open(&c, &ten, &d, &err) < 0)
		fail_msg("%s", err.text);
	dataset_snapshot(d, SPLIT_TRAIN, hex);
	expect(hex, train);
	dataset_snapshot(d, SPLIT_VALIDATION, hex);
	expect(hex, validation);
	dataset_free(d);
}

static void files_parts_and_splits(void **state)
{
	static const struct share_part parts[] = {{.name = "edge", .weight = 3},
						  {.name = "cam", .weight = 1, .favours = {true}}};
	const struct share_conf share = {
		.parts = parts, .n_parts = 2, .test_share = 0.2, .skew = 4, .seed = 2021};
	assert_int_equal(digits_write(at(*state, "all"), 500, 2021, NULL, NULL), 0);
	expect_file(at(*state, "all/train-images-idx3-ubyte"), "23fe842be822bcf6");
	expect_file(at(*state, "all/train-labels-idx1-ubyte"), "fef054b6233549fd");
	assert_int_equal(share_write(at(*state, "all"), at(*state, "out"), &share, NULL), 0);
	expect_snapshots(at(*state, "out/edge"), "c78b13378ff9a12c", "4e5c010975643e48");
	expect_snapshots(at(*state, "out/cam"), "74a60c1ab6eba576", "96539e3a4c0d36a5");
}

/* Each processor has its own fast code in libjpeg-turbo. */
static void photos(void **state)
{
	enum { W = 211, H = 157 };
	static uint8_t px[W * H * 3], fitted[3 * 64 * 64], grey[64 * 64];
	struct image im;
	struct rng r;
	unsigned char *jpeg = NULL;
	unsigned long len = 0;
	rng_init(&r, 2021);
	for (int i = 0; i < W * H * 3; i++) /* slopes, edges and some noise */
		px[i] = (uint8_t)(i / 3 % W + i / (29 * 3 * W) * 40 + (int)rng_below(&r, 32));
	tjhandle tj = tjInitCompress();
	assert_int_equal(tjCompress2(tj, px, W, 0, H, TJPF_RGB, &jpeg, &len, TJSAMP_420, 80, 0), 0);
	tjDestroy(tj);
	expect_hash(jpeg, len, "c898dd16c40e1aed");
	assert_int_equal(image_decode(jpeg, len, "photo", 3, &im, NULL), 0);
	assert_int_equal(image_fit(&im, 150, 64, 64, 3, fitted), 0);
	expect_hash(im.pixels, (size_t)W * H * 3, "908dd19d7b7442fd");
	expect_hash(fitted, sizeof(fitted), "5e5a869ebf53e7bd");
	image_done(&im);
	assert_int_equal(image_decode(jpeg, len, "photo", 1, &im, NULL), 0);
	assert_int_equal(image_fit(&im, 0, 64, 64, 1, grey), 0);
	expect_hash(grey, sizeof(grey), "f7560ed55eff4e0a");
	image_done(&im);
	tjFree(jpeg);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seeded_numbers),
		cmocka_unit_test(drawn_digits),
		cmocka_unit_test(order_of_an_epoch),
		TEST(files_parts_and_splits),
		cmocka_unit_test(photos),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
