/* What goes from a data set to a network or to a person's eyes: augmented pixels, the order of an
 * epoch, single images, contact sheets. */
#include "dataset_util.h"

#include <errno.h>
#include <math.h>

#include "common/crypto/hash.h"
#include "common/dataset/augment_isa.h"

static void order_is_a_fixed_permutation(void **state)
{
	uint32_t a[100], b[100];
	bool seen[100] = {false};
	dataset_order(1, 0, 100, a);
	for (int i = 0; i < 100; i++)
		seen[a[i]] = true;
	for (int i = 0; i < 100; i++)
		assert_true(seen[i]);
	dataset_order(1, 0, 100, b);
	assert_memory_equal(a, b, sizeof(a));
	dataset_order(1, 1, 100, b);
	assert_memory_not_equal(a, b, sizeof(a));
	dataset_order(2, 0, 100, b);
	assert_memory_not_equal(a, b, sizeof(a));
	/* Fixed for ever: devices and trainers of different builds agree on it. */
	const uint32_t expected[8] = {2, 3, 0, 1, 5, 6, 7, 4};
	dataset_order(2021, 7, 8, a);
	assert_memory_equal(a, expected, sizeof(expected));
	dataset_order(1, 1, 0, a);
	dataset_order(1, 1, 1, a);
	assert_int_equal(a[0], 0);
}

/* A data set of one picture, which is 255 where `on` says and 0 elsewhere. */
static struct dataset *one_picture(const char *dir, bool (*on)(int x, int y))
{
	uint8_t px[PX];
	for (int i = 0; i < PX; i++)
		px[i] = on(i % SIDE, i / SIDE) ? 255 : 0;
	assert_int_equal(idx_write(dir, "train", 1, SIDE, SIDE, px, (uint8_t[]){0}, NULL), 0);
	struct dataset_conf c = conf_of(dir);
	return open_ok(&c);
}

static bool left_top(int x, int y)
{
	return x < 3 && y < 3;
}

static void shift_repeats_edges(void **state)
{
	struct dataset *d = one_picture(*state, left_top);
	const struct augment a = {.shift_px = 2};
	float out[PX];
	bool seen[5][5] = {{false}};
	struct rng rng;
	rng_init(&rng, 1);
	for (int i = 0; i < 500; i++) {
		dataset_pixels(d, SPLIT_TRAIN, 0, &a, &rng, out, NULL);
		int w = 0, h = 0;
		while (w < SIDE && out[w] == 1)
			w++;
		while (h < SIDE && out[h * SIDE] == 1)
			h++;
		assert_in_range(w, 1, 5);
		assert_in_range(h, 1, 5);
		for (int k = 0; k < PX; k++) /* a rectangle in the same corner, else black */
			assert_true(out[k] == (k % SIDE < w && k / SIDE < h));
		seen[w - 1][h - 1] = true;
	}
	int n = 0;
	for (int k = 0; k < 25; k++)
		n += seen[k / 5][k % 5];
	assert_int_equal(n, 25); /* every shift from -2 to 2, both ways */
	dataset_free(d);
}

static bool left_half(int x, int y)
{
	return x < 2;
}

static void flip_is_half_of_the_time(void **state)
{
	struct dataset *d = one_picture(*state, left_half);
	float out[PX];
	struct rng rng;
	rng_init(&rng, 1);
	int flipped = 0;
	for (int i = 0; i < 400; i++) {
		const struct augment a = {.flip = true};
		dataset_pixels(d, SPLIT_TRAIN, 0, &a, &rng, out, NULL);
		bool f = out[0] == 0;
		for (int k = 0; k < PX; k++)
			assert_true(out[k] == (f ? k % SIDE >= SIDE - 2 : k % SIDE < 2));
		flipped += f;
	}
	assert_in_range(flipped, 150, 250);
	for (int i = 0; i < 50; i++) {
		const struct augment a = {0};
		dataset_pixels(d, SPLIT_TRAIN, 0, &a, &rng, out, NULL);
		assert_true(out[0] == 1 && out[SIDE - 1] == 0);
	}
	dataset_free(d);
}

static bool everywhere(int x, int y)
{
	return true;
}

static bool one_dot(int x, int y)
{
	return x == 3 && y == 3;
}

static void blur_keeps_flat_areas_and_light(void **state)
{
	float out[PX];
	struct rng rng;
	const struct augment a = {.blur = 1.0};
	rng_init(&rng, 3);
	struct dataset *d = one_picture(*state, everywhere);
	for (int i = 0; i < 50; i++) {
		dataset_pixels(d, SPLIT_TRAIN, 0, &a, &rng, out, NULL);
		for (int k = 0; k < PX; k++)
			assert_true(out[k] > 0.9999f && out[k] <= 1);
	}
	dataset_free(d);
	d = one_picture(*state, one_dot);
	float least = 1;
	for (int i = 0; i < 50; i++) {
		dataset_pixels(d, SPLIT_TRAIN, 0, &a, &rng, out, NULL);
		const float *dot = &out[3 * SIDE + 3];
		least = fminf(least, *dot);
		assert_true(fabsf(dot[-1] - dot[1]) < 1e-6f);
		assert_true(fabsf(dot[-SIDE] - dot[1]) < 1e-6f); /* round */
		assert_true(dot[1] <= *dot);
	}
	assert_true(least > 0.15f && least < 0.35f); /* 1/(2 pi sigma^2) near sigma 1 */
	dataset_free(d);
}

static void brightness_stays_in_range(void **state)
{
	put_idx(*state, "train", 1, 1);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	float plain[PX], out[PX], low = 9, high = 0;
	struct rng rng;
	rng_init(&rng, 3);
	dataset_pixels(d, SPLIT_TRAIN, 0, NULL, NULL, plain, NULL);
	for (int i = 0; i < 300; i++) {
		const struct augment a = {.brightness = 0.4};
		dataset_pixels(d, SPLIT_TRAIN, 0, &a, &rng, out, NULL);
		low = fminf(low, out[20] / plain[20]);
		high = fmaxf(high, out[20] / plain[20]);
		const struct augment wild = {
			.shift_px = 100, .flip = true, .blur = 9, .brightness = 5};
		dataset_pixels(d, SPLIT_TRAIN, 0, &wild, &rng, out, NULL);
		for (int k = 0; k < PX; k++)
			assert_true(out[k] >= 0 && out[k] <= 1);
	}
	assert_true(low < 0.75f && high > 1.25f);
	dataset_free(d);
}

static void augmentation_follows_its_numbers(void **state)
{
	put_idx(*state, "train", 3, 0);
	struct dataset_conf c = conf_of(*state);
	c.channels = 3;
	struct dataset *d = open_ok(&c);
	const struct augment a = {.shift_px = 2, .flip = true, .blur = 1, .brightness = 0.2};
	float x[3 * PX], y[3 * PX];
	struct rng r1, r2;
	rng_init(&r1, 9);
	rng_init(&r2, 9);
	for (int i = 0; i < 20; i++) {
		dataset_pixels(d, SPLIT_TRAIN, 1, &a, &r1, x, NULL);
		dataset_pixels(d, SPLIT_TRAIN, 1, &a, &r2, y, NULL);
		assert_memory_equal(x, y, sizeof(x));
		/* Grey stays grey: all planes are treated alike. */
		assert_memory_equal(x, x + PX, PX * sizeof(float));
		assert_memory_equal(x, x + 2 * PX, PX * sizeof(float));
	}
	dataset_pixels(d, SPLIT_TRAIN, 1, &a, &r1, y, NULL);
	assert_memory_not_equal(x, y, sizeof(x));
	dataset_free(d);
}

/* On any machine, compiled by whatever: these floats, to the last bit. */
static void the_same_on_every_machine(void **state)
{
	put_idx(*state, "train", 20, 0);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	const struct augment a = {.shift_px = 2, .flip = true, .blur = 3, .brightness = 0.2};
	float out[20 * PX];
	struct rng rng;
	rng_init(&rng, 2021);
	for (uint32_t i = 0; i < 20; i++)
		dataset_pixels(d, SPLIT_TRAIN, i, &a, &rng, out + i * PX, NULL);
	char hex[HASH_SIZE];
	assert_int_equal(hash_bytes(out, sizeof(out), hex), 0);
	assert_string_equal(hex,
			    "8e8087f6295669173ca245c38b0a5fd5c5f8ad14a3537e7fff1fb675b5a877e1");
	dataset_free(d);
}

/* The set of instructions that augment.c chooses on new machines, beside that of all. */
static void the_same_with_all_instructions(void **state)
{
	const struct augment_isa *other = NULL;
#if defined(__x86_64__)
	__builtin_cpu_init();
	other = __builtin_cpu_supports("avx2") ? &augment_avx2 : NULL;
#endif
	if (!other)
		skip();
	struct rng rng;
	rng_init(&rng, 4);
	for (int i = 0; i < 400; i++) {
		int w = 1 + (int)rng_below(&rng, 40), h = 1 + (int)rng_below(&rng, 40);
		size_t n = (size_t)w * (size_t)h * 2;
		struct augment_draw draw = {.dx = (int)rng_below(&rng, 101) - 50,
					    .dy = (int)rng_below(&rng, 101) - 50,
					    .flip = i % 2,
					    .radius = i % (AUGMENT_RADIUS_MAX + 1),
					    .brighten = i % 3,
					    .factor = 1.1f,
					    .offset = -0.05f};
		for (int j = 0; j <= draw.radius; j++)
			draw.taps[j] = (float)rng_unit(&rng);
		/* To the byte, for the sanitizers. */
		uint8_t *in = malloc(n);
		float *scratch = malloc(augment_scratch((uint32_t)w, (uint32_t)h) * sizeof(float));
		float *a = malloc(n * sizeof(float)), *b = malloc(n * sizeof(float));
		for (size_t k = 0; k < n; k++)
			in[k] = (uint8_t)rng_u64(&rng);
		augment_base.apply(&draw, in, w, h, 2, scratch, a);
		other->apply(&draw, in, w, h, 2, scratch, b);
		assert_memory_equal(a, b, n * sizeof(float));
		augment_base.convert(in, n, a);
		other->convert(in, n, b);
		assert_memory_equal(a, b, n * sizeof(float));
		free(in);
		free(scratch);
		free(a);
		free(b);
	}
}

static void one_image_the_same_way(void **state)
{
	uint8_t px[20 * 16 * 3];
	for (size_t i = 0; i < sizeof(px); i++)
		px[i] = (uint8_t)(i * 5 + i / 48);
	struct bytes b = make_png(px, 20, 16, PNG_FORMAT_RGB);
	put(*state, "a/x.png", b.data, b.len);
	struct dataset_conf c = conf_of(*state);
	c.channels = 3;
	c.center_crop = 10;
	struct dataset *d = open_ok(&c);
	float one[3 * PX], two[3 * PX];
	struct err err = {0};
	dataset_pixels(d, SPLIT_TRAIN, 0, NULL, NULL, one, NULL);
	assert_int_equal(dataset_read_image(at(*state, "a/x.png"), SIDE, SIDE, 3, 10, two, &err),
			 0);
	assert_memory_equal(one, two, sizeof(one));
	assert_int_equal(dataset_read_image(at(*state, "none"), SIDE, SIDE, 3, 10, two, &err),
			 -ENOENT);
	assert_int_equal(dataset_read_image(at(*state, "a/x.png"), SIDE, SIDE, 4, 0, two, &err),
			 -EINVAL);
	assert_int_equal(dataset_read_image(at(*state, "a"), SIDE, SIDE, 3, 0, two, &err), -EINVAL);
	bytes_done(&b);
	dataset_free(d);
}

static void contact_sheet(void **state)
{
	put_classes(*state, 4);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	char path[FILE_PATH_MAX];
	snprintf(path, sizeof(path), "%s", at(*state, ".sheet.png"));
	struct err err = {0};
	const uint32_t shapes[][2] = {{2, 6}, {5, 3}, {4, 1}, {1, 7}};
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		uint32_t cols = shapes[i][0], rows = shapes[i][1];
		if (dataset_sheet(d, SPLIT_TRAIN, cols, rows, path, &err) < 0)
			fail_msg("%s", err.text);
		png_image png = {.version = PNG_IMAGE_VERSION};
		assert_true(png_image_begin_read_from_file(&png, path));
		assert_int_equal(png.width, 2 + cols * (48 + 2));
		assert_int_equal(png.height, 2 + rows * (48 + 2));
		png_image_free(&png);
	}
	assert_int_equal(dataset_sheet(d, SPLIT_TEST, 2, 2, path, &err), -ENODATA);
	assert_int_equal(dataset_sheet(d, SPLIT_TRAIN, 0, 2, path, &err), -E2BIG);
	assert_int_equal(dataset_sheet(d, SPLIT_TRAIN, 200, 51, path, &err), -E2BIG);
	assert_true(dataset_sheet(d, SPLIT_TRAIN, 2, 2, at(*state, "no/x.png"), &err) < 0);
	dataset_free(d);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(order_is_a_fixed_permutation), TEST(shift_repeats_edges),
		TEST(flip_is_half_of_the_time),     TEST(blur_keeps_flat_areas_and_light),
		TEST(brightness_stays_in_range),    TEST(augmentation_follows_its_numbers),
		TEST(the_same_on_every_machine),    TEST(the_same_with_all_instructions),
		TEST(one_image_the_same_way),       TEST(contact_sheet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
