#include "data_util.h"

#include <errno.h>

#include "common/dataset/dataset.h"
#include "common/dataset/image.h"

static int decode(struct bytes b, uint32_t channels, struct image *im, struct err *err)
{
	return image_decode(b.data, b.len, "x", channels, im, err);
}

/* A smooth picture, which JPEG keeps well. */
static void gradient(uint8_t *px, uint32_t w, uint32_t h, uint32_t channels)
{
	for (uint32_t y = 0; y < h; y++)
		for (uint32_t x = 0; x < w; x++)
			for (uint32_t c = 0; c < channels; c++)
				*px++ = (uint8_t)(20 + 3 * x + 2 * y + 20 * c);
}

static void jpeg_colour_and_grey(void **state)
{
	uint8_t px[40 * 24 * 3];
	struct image im = {0};
	for (int channels = 1; channels <= 3; channels += 2) {
		gradient(px, 40, 24, (uint32_t)channels);
		struct bytes b = make_jpeg(px, 40, 24, channels, 0);
		assert_int_equal(decode(b, 3, &im, NULL), 0);
		assert_int_equal(im.width, 40);
		assert_int_equal(im.height, 24);
		assert_int_equal(im.channels, channels);
		for (int i = 0; i < 40 * 24 * channels; i++)
			assert_true(abs(im.pixels[i] - px[i]) <= 6);
		image_done(&im);
		bytes_done(&b);
	}
}

static void jpeg_colour_becomes_luma(void **state)
{
	uint8_t px[16 * 16 * 3];
	for (int i = 0; i < 16 * 16; i++)
		memcpy(px + 3 * i, (uint8_t[]){200, 100, 50}, 3);
	struct bytes jpeg = make_jpeg(px, 16, 16, 3, 0);
	struct bytes png = make_png(px, 16, 16, PNG_FORMAT_RGB);
	struct image a = {0}, b = {0};
	assert_int_equal(decode(jpeg, 1, &a, NULL), 0);
	assert_int_equal(decode(png, 1, &b, NULL), 0);
	assert_int_equal(a.channels, 1);
	assert_int_equal(b.channels, 1);
	assert_true(abs(a.pixels[77] - 124) <= 2);
	assert_int_equal(b.pixels[77], 124); /* 0.299 R + 0.587 G + 0.114 B */
	image_done(&a);
	image_done(&b);
	bytes_done(&jpeg);
	bytes_done(&png);
}

static void jpeg_truncated_anywhere(void **state)
{
	uint8_t px[24 * 24 * 3];
	gradient(px, 24, 24, 3);
	for (int progressive = 0; progressive < 2; progressive++) {
		struct bytes b = make_jpeg(px, 24, 24, 3, progressive ? TJFLAG_PROGRESSIVE : 0);
		for (size_t len = 3; len < b.len; len++) {
			struct image im = {0};
			struct err err = {0};
			/* A copy of just that length, so that reading on is seen. */
			struct bytes cut = {malloc(len), len};
			memcpy(cut.data, b.data, len);
			if (decode(cut, 3, &im, &err) != -EBADMSG)
				fail_msg("%zu of %zu bytes passed", len, b.len);
			assert_null(im.pixels);
			bytes_done(&cut);
		}
		bytes_done(&b);
	}
}

static void damaged_files_do_no_harm(void **state)
{
	uint8_t px[24 * 24 * 3];
	gradient(px, 24, 24, 3);
	struct bytes files[] = {make_jpeg(px, 24, 24, 3, 0),
				make_jpeg(px, 24, 24, 3, TJFLAG_PROGRESSIVE),
				make_png(px, 24, 24, PNG_FORMAT_RGB)};
	for (size_t f = 0; f < ARRAY_LEN(files); f++) {
		for (size_t i = 3; i < files[f].len; i++) {
			uint8_t was = files[f].data[i];
			files[f].data[i] ^= 0x55;
			struct image im = {0};
			int r = decode(files[f], 3, &im, NULL);
			assert_true(r == 0 || (r < 0 && !im.pixels));
			image_done(&im);
			files[f].data[i] = was;
		}
		bytes_done(&files[f]);
	}
}

static void jpeg_too_large_is_refused_unread(void **state)
{
	uint8_t px[16 * 16] = {0};
	struct bytes b = make_jpeg(px, 16, 16, 1, 0);
	uint8_t *sof = NULL;
	for (size_t i = 0; i + 9 < b.len && !sof; i++)
		if (b.data[i] == 0xff && b.data[i + 1] == 0xc0)
			sof = b.data + i;
	assert_non_null(sof);
	memcpy(sof + 5, (uint8_t[]){0xff, 0xdc, 0xff, 0xdc}, 4); /* 65500 x 65500 */
	struct image im = {0};
	struct err err = {0};
	assert_int_equal(decode(b, 1, &im, &err), -E2BIG);
	assert_has(err.text, "65500 x 65500");
	bytes_done(&b);
}

static void png_formats(void **state)
{
	uint8_t rgb[5 * 4 * 3], grey[5 * 4], rgba[5 * 4 * 4];
	gradient(rgb, 5, 4, 3);
	gradient(grey, 5, 4, 1);
	struct image im = {0};
	struct bytes b = make_png(rgb, 5, 4, PNG_FORMAT_RGB);
	assert_int_equal(decode(b, 3, &im, NULL), 0);
	assert_int_equal(im.channels, 3);
	assert_memory_equal(im.pixels, rgb, sizeof(rgb));
	image_done(&im);
	bytes_done(&b);

	b = make_png(grey, 5, 4, PNG_FORMAT_GRAY);
	for (uint32_t channels = 1; channels <= 3; channels += 2) {
		assert_int_equal(decode(b, channels, &im, NULL), 0);
		assert_int_equal(im.channels, 1);
		assert_memory_equal(im.pixels, grey, sizeof(grey));
		image_done(&im);
	}
	bytes_done(&b);

	for (int i = 0; i < 20; i++)
		memcpy(rgba + 4 * i, (uint8_t[]){250, 120, 60, i < 10 ? 255 : 0}, 4);
	b = make_png(rgba, 5, 4, PNG_FORMAT_RGBA);
	assert_int_equal(decode(b, 3, &im, NULL), 0);
	assert_memory_equal(im.pixels, ((uint8_t[]){250, 120, 60}), 3);
	assert_memory_equal(im.pixels + 3 * 15, ((uint8_t[]){0, 0, 0}), 3);
	image_done(&im);
	bytes_done(&b);
}

/* A PNG chunk with its checksum. */
static size_t chunk(uint8_t *out, const char *type, const void *data, uint32_t len)
{
	put_be32(out, len);
	memcpy(out + 4, type, 4);
	memcpy(out + 8, data, len);
	put_be32(out + 8 + len, (uint32_t)crc32(0, out + 4, len + 4));
	return 12 + len;
}

static struct bytes raw_png(uint32_t w, uint32_t h, uint8_t depth, const void *rows, size_t len)
{
	struct bytes b = {malloc(4096), 8};
	uint8_t head[13] = {0}, packed[1024];
	uLongf packed_len = sizeof(packed);
	put_be32(head, w);
	put_be32(head + 4, h);
	head[8] = depth; /* colour type 0: grey */
	assert_int_equal(compress(packed, &packed_len, rows, len), Z_OK);
	memcpy(b.data, "\x89PNG\r\n\x1a\n", 8);
	b.len += chunk(b.data + b.len, "IHDR", head, sizeof(head));
	b.len += chunk(b.data + b.len, "IDAT", packed, (uint32_t)packed_len);
	b.len += chunk(b.data + b.len, "IEND", "", 0);
	return b;
}

static void png_of_other_depths(void **state)
{
	/* Each row begins with its filter type, 0. */
	struct bytes deep = raw_png(2, 2, 16, "\0\x80\x80\0\0\0\xff\xff\x40\x40", 10);
	struct image im = {0};
	assert_int_equal(decode(deep, 1, &im, NULL), 0);
	assert_memory_equal(im.pixels, ((uint8_t[]){128, 0, 255, 64}), 4);
	image_done(&im);
	bytes_done(&deep);
	struct bytes one_bit = raw_png(8, 1, 1, "\0\xa5", 2);
	assert_int_equal(decode(one_bit, 1, &im, NULL), 0);
	assert_memory_equal(im.pixels, ((uint8_t[]){255, 0, 255, 0, 0, 255, 0, 255}), 8);
	image_done(&im);
	bytes_done(&one_bit);
}

static void png_too_large_is_refused_unread(void **state)
{
	struct {
		uint32_t w, h;
	} sizes[] = {{20000, 8}, {8, 20000}, {16000, 16000}};
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct bytes b = raw_png(sizes[i].w, sizes[i].h, 8, "\0", 1);
		struct image im = {0};
		struct err err = {0};
		assert_int_equal(decode(b, 1, &im, &err), -E2BIG);
		assert_has(err.text, "expected at most 16384");
		bytes_done(&b);
	}
}

static void png_truncated_or_damaged(void **state)
{
	uint8_t px[24 * 24 * 3];
	struct image im = {0};
	for (size_t i = 0; i < sizeof(px); i++)
		px[i] = (uint8_t)(i * i * 7 + i / 3); /* does not pack, so IDAT is long */
	struct bytes b = make_png(px, 24, 24, PNG_FORMAT_RGB);
	for (size_t len = 8; len + 16 + 12 < b.len; len += 7)
		assert_int_equal(image_decode(b.data, len, "x", 3, &im, NULL), -EBADMSG);
	b.data[b.len / 2] ^= 1;
	assert_int_equal(decode(b, 3, &im, NULL), -EBADMSG);
	bytes_done(&b);
	/* Fewer rows than the header says. */
	b = raw_png(4, 4, 8, "\0abcd\0abcd", 10);
	assert_int_equal(decode(b, 1, &im, NULL), -EBADMSG);
	bytes_done(&b);
}

static int pgm(const char *text, size_t len, struct image *im, struct err *err)
{
	struct bytes copy = {malloc(len), len};
	memcpy(copy.data, text, len);
	int r = decode(copy, 1, im, err);
	bytes_done(&copy);
	return r;
}
#define PGM(text, im, err) pgm(text, sizeof(text) - 1, im, err)

static void pgm_formats(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		uint8_t px[4];
	} good[] = {
#define GOOD(text, ...)                 \
	{                               \
		text, sizeof(text) - 1, \
		{                       \
			__VA_ARGS__     \
		}                       \
	}
		GOOD("P5\n2 2\n255\n\x00\x01\xfe\xff", 0, 1, 254, 255),
		GOOD("P5 2 2 255 #a#z", '#', 'a', '#', 'z'), /* no comment in the pixels */
		GOOD("P5\n# made by hand\n2 # wide\n2\n15\n\x00\x05\x0a\x0f\n", 0, 85, 170, 255),
		GOOD("P5 2 2 65535\n\x00\x00\xff\xff\x80\x80\x01\x01", 0, 255, 128, 1),
		GOOD("P2\n2 2\n100\n0 50\n100   20\n", 0, 128, 255, 51),
		GOOD("P2#c\n2 2 1 0 1 # odd\n1 0", 0, 255, 255, 0),
	};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct image im = {0};
		struct err err = {0};
		if (pgm(good[i].text, good[i].len, &im, &err) < 0)
			fail_msg("%zu: %s", i, err.text);
		assert_int_equal(im.width * im.height, 4);
		assert_memory_equal(im.pixels, good[i].px, 4);
		image_done(&im);
	}
}

static void pgm_refused(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		int code;
		const char *why;
	} bad[] = {
#define BAD(text, code, why) {text, sizeof(text) - 1, code, why}
		BAD("P5\n2 2\n255\n\x00\x01\xfe", -EBADMSG, "truncated"),
		BAD("P5\n2 2\n256\n\x00\x01\x00\x01\x00\x01\x00", -EBADMSG, "truncated"),
		BAD("P5\n2 2\n255\n\x00\x01\xfe\xffx", -EBADMSG, "after the last"),
		BAD("P5\n2 2\n100\n\x00\x01\x65\x00", -EBADMSG, "pixel 2 of 4"),
		BAD("P5\n2 2\n0\n\x00\x01\x65\x00", -EBADMSG, "header"),
		BAD("P5\n2 2\n65536\n\x00\x01\x65\x00", -EBADMSG, "header"),
		BAD("P5\n2 -2\n255\n\x00\x01\x65\x00", -EBADMSG, "header"),
		BAD("P5\n2 2\n255", -EBADMSG, "header"),
		BAD("P5\n2 2\n", -EBADMSG, "header"),
		BAD("P5\n0 2\n255\n", -EBADMSG, "0 x 2"),
		BAD("P5\n16385 1\n255\n\x00", -E2BIG, "16385"),
		BAD("P5\n16384 16384\n255\n\x00", -E2BIG, "16384"),
		BAD("P5\n99999999999999999999 1\n255\n\x00", -EBADMSG, "header"),
		BAD("P2\n2 2\n255\n1 2 3", -EBADMSG, "truncated"),
		BAD("P2\n2 2\n255\n1 2 333 4", -EBADMSG, "pixel 2"),
		BAD("P2\n2 2\n255\n1 2 3 x", -EBADMSG, "pixel 3"),
		BAD("P2\n2 2\n255\n1 2 3 4 5", -EBADMSG, "after the last"),
		BAD("P6\n1 1\n255\nabc", -EOPNOTSUPP, "unknown format"),
		BAD("GIF89a", -EOPNOTSUPP, "unknown format"),
		BAD("", -EOPNOTSUPP, "empty file"),
		BAD("\xff\xd8\xff", -EBADMSG, "JPEG"),
		BAD("\x89PNG\r\n\x1a\n", -EBADMSG, "PNG"),
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct image im = {0};
		struct err err = {0};
		int r = pgm(bad[i].text, bad[i].len, &im, &err);
		if (r != bad[i].code || !strstr(err.text, bad[i].why))
			fail_msg("%zu: %d %s", i, r, err.text);
		assert_null(im.pixels);
	}
}

static void fit_is_exact(void **state)
{
	uint8_t out[64];
	struct image row3 = {3, 1, 1, (uint8_t[]){0, 90, 180}};
	assert_int_equal(image_fit(&row3, 0, 3, 1, 1, out), 0);
	assert_memory_equal(out, row3.pixels, 3);
	/* Area: an output covers one and a half inputs. */
	assert_int_equal(image_fit(&row3, 0, 2, 1, 1, out), 0);
	assert_memory_equal(out, ((uint8_t[]){30, 150}), 2);
	/* Bilinear, centres aligned, ends repeated; both axes. */
	struct image square = {2, 2, 1, (uint8_t[]){0, 100, 0, 100}};
	assert_int_equal(image_fit(&square, 0, 4, 4, 1, out), 0);
	for (int y = 0; y < 4; y++)
		assert_memory_equal(out + 4 * y, ((uint8_t[]){0, 25, 75, 100}), 4);
	/* One axis grows while the other shrinks. */
	assert_int_equal(image_fit(&square, 0, 4, 1, 1, out), 0);
	assert_memory_equal(out, ((uint8_t[]){0, 25, 75, 100}), 4);
	struct image white = {1, 1, 1, (uint8_t[]){255}};
	assert_int_equal(image_fit(&white, 0, 7, 9, 1, out), 0);
	for (int i = 0; i < 63; i++)
		assert_int_equal(out[i], 255);
}

static void fit_keeps_extremes_of_large_images(void **state)
{
	struct image im = {DATASET_IMAGE_DIM_MAX, 3, 1, malloc(DATASET_IMAGE_DIM_MAX * 3)};
	uint8_t out[7 * 2];
	memset(im.pixels, 255, DATASET_IMAGE_DIM_MAX * 3);
	assert_int_equal(image_fit(&im, 0, 7, 2, 1, out), 0);
	for (size_t i = 0; i < sizeof(out); i++)
		assert_int_equal(out[i], 255);
	image_done(&im);
}

static void fit_crops_the_middle(void **state)
{
	uint8_t px[6 * 4], out[3 * 4];
	for (int i = 0; i < 24; i++)
		px[i] = (uint8_t)i;
	struct image im = {6, 4, 1, px};
	assert_int_equal(image_fit(&im, 2, 2, 2, 1, out), 0);
	assert_memory_equal(out, ((uint8_t[]){8, 9, 14, 15}), 4);
	/* Larger than the image: as much of it as there is. */
	assert_int_equal(image_fit(&im, 5, 1, 4, 1, out), 0);
	assert_memory_equal(out, ((uint8_t[]){2, 8, 14, 20}), 4);
}

static void fit_makes_planes(void **state)
{
	struct image rgb = {2, 1, 3, (uint8_t[]){1, 2, 3, 4, 5, 6}};
	struct image grey = {2, 1, 1, (uint8_t[]){7, 8}};
	uint8_t out[6];
	assert_int_equal(image_fit(&rgb, 0, 2, 1, 3, out), 0);
	assert_memory_equal(out, ((uint8_t[]){1, 4, 2, 5, 3, 6}), 6);
	assert_int_equal(image_fit(&grey, 0, 2, 1, 3, out), 0);
	assert_memory_equal(out, ((uint8_t[]){7, 8, 7, 8, 7, 8}), 6);
	assert_int_equal(image_fit(&rgb, 0, 2, 1, 1, out), -EINVAL);
	assert_int_equal(image_fit(&grey, 0, 0, 1, 1, out), -EINVAL);
	assert_int_equal(image_fit(&grey, 0, 1, DATASET_SIDE_MAX + 1, 1, out), -EINVAL);
}

static void png_written_reads_back(void **state)
{
	uint8_t px[9 * 5 * 3];
	gradient(px, 9, 5, 3);
	const char *path = at(*state, "sheet.png");
	assert_int_equal(image_write_png(path, px, 9, 5, 3, NULL), 0);
	char *data;
	struct image im = {0};
	struct bytes b;
	assert_int_equal(file_read(path, 65536, &data, &b.len, NULL), 0);
	b.data = (uint8_t *)data;
	assert_int_equal(decode(b, 3, &im, NULL), 0);
	assert_memory_equal(im.pixels, px, sizeof(px));
	image_done(&im);
	bytes_done(&b);
	struct err err = {0};
	assert_int_equal(image_write_png(at(*state, "no/such/x.png"), px, 9, 5, 3, &err), -ENOENT);
	assert_has(err.text, "no/such");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jpeg_colour_and_grey),
		cmocka_unit_test(jpeg_colour_becomes_luma),
		cmocka_unit_test(jpeg_truncated_anywhere),
		cmocka_unit_test(damaged_files_do_no_harm),
		cmocka_unit_test(jpeg_too_large_is_refused_unread),
		cmocka_unit_test(png_formats),
		cmocka_unit_test(png_of_other_depths),
		cmocka_unit_test(png_too_large_is_refused_unread),
		cmocka_unit_test(png_truncated_or_damaged),
		cmocka_unit_test(pgm_formats),
		cmocka_unit_test(pgm_refused),
		cmocka_unit_test(fit_is_exact),
		cmocka_unit_test(fit_keeps_extremes_of_large_images),
		cmocka_unit_test(fit_crops_the_middle),
		cmocka_unit_test(fit_makes_planes),
		cmocka_unit_test_setup_teardown(png_written_reads_back, dir_setup, dir_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
