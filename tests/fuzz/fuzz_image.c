/* Image files (jpg, png, pgm), in grey and in colour. What is taken can be fitted to any network's
 * input; as a PNG it is read back the same. */
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/dataset/image.h"
#include "tests/fuzz/fuzz.h"

static void check_fit(const struct image *im)
{
	static const struct {
		uint32_t crop, width, height;
	} sizes[] = {{0, 1, 1}, {0, 5, 7}, {3, 8, 8}, {UINT32_MAX, 2, 9}};
	uint8_t out[8 * 9 * 3];
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		size_t n = (size_t)sizes[i].width * sizes[i].height * im->channels;
		memset(out, 0xa5, sizeof(out));
		FUZZ_CHECK(image_fit(im, sizes[i].crop, sizes[i].width, sizes[i].height,
				     im->channels, out) == 0);
		FUZZ_CHECK(n == sizeof(out) || out[n] == 0xa5);
	}
}

static void check_again(const struct image *im)
{
	_cleanup_(image_done) struct image again = {0};
	_cleanup_free_ char *data = NULL;
	size_t len;
	struct err err = {0};
	char path[FILE_PATH_MAX];
	fuzz_path("x.png", path);
	FUZZ_CHECK(image_write_png(path, im->pixels, im->width, im->height, im->channels, &err) ==
		   0);
	FUZZ_CHECK(file_read(path, SIZE_MAX, &data, &len, &err) == 0);
	FUZZ_CHECK(image_decode(data, len, path, im->channels, &again, &err) == 0);
	FUZZ_CHECK(again.width == im->width && again.height == im->height);
	FUZZ_CHECK(again.channels == im->channels);
	FUZZ_CHECK(memcmp(again.pixels, im->pixels,
			  (size_t)im->width * im->height * im->channels) == 0);
	FUZZ_CHECK(unlink(path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (uint32_t channels = 1; channels <= 3; channels += 2) {
		_cleanup_(image_done) struct image im = {0};
		struct err err = {0};
		if (image_decode(data, size, "fuzz.img", channels, &im, &err) < 0) {
			FUZZ_CHECK(*err.text && !im.pixels);
			continue;
		}
		fuzz_taken++;
		FUZZ_CHECK(im.channels == 1 || im.channels == channels);
		FUZZ_CHECK(im.width > 0 && im.height > 0);
		FUZZ_CHECK((uint64_t)im.width * im.height <= IMAGE_PIXELS_MAX);
		check_fit(&im);
		check_again(&im);
	}
	return 0;
}
