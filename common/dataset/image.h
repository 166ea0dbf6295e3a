/* One image file to 8-bit pixels: jpg by libjpeg-turbo, png by libpng, pgm (P5 and P2) by
 * ourselves. What a file is follows from its first bytes, not from its name. Dimensions are
 * checked before anything is allocated; a damaged or truncated file is an error, never a
 * half-filled image. EXIF orientation and colour profiles are not applied. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define IMAGE_PIXELS_MAX (64u * 1024 * 1024) /* width x height of one image */

struct image {
	uint32_t width, height;
	uint32_t channels; /* 1 or 3 */
	uint8_t *pixels;   /* row-major, channels interleaved (HWC) */
};

/* channels 1: colour becomes grey by Rec. 601 luma; 3: grey files stay one channel, image_fit
 * repeats it. Transparent parts are seen on black. `name` stands for the file in errors.
 * -EBADMSG: damaged or truncated; -EOPNOTSUPP: none of the formats; -E2BIG; -ENOMEM. */
int image_decode(const void *data, size_t len, const char *name, uint32_t channels,
		 struct image *ret, struct err *err);
void image_done(struct image *im);

/* A copy of pixels that are there already, row by row, channels interleaved: what image_decode() makes
 * of a lossless file of them. stride: bytes from row to row, 0: width * n. n: 1 or 3 channels. -EINVAL,
 * -E2BIG, -ENOMEM. */
int image_from_pixels(const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t n, size_t stride,
		      uint32_t channels, struct image *ret, struct err *err);

/* Cuts the middle center_crop x center_crop square (0: the whole; never more than there is) and
 * resizes it to width x height: area average along an axis that shrinks, bilinear along one that
 * grows. Integer arithmetic: the same bytes everywhere. out: planes (CHW) of `channels`, 1 or 3;
 * one source channel is repeated, three are never mixed here. */
int image_fit(const struct image *im, uint32_t center_crop, uint32_t width, uint32_t height,
	      uint32_t channels, uint8_t *out);

/* Writes 8-bit interleaved pixels as a PNG, atomically. */
int image_write_png(const char *path, const uint8_t *pixels, uint32_t width, uint32_t height,
		    uint32_t channels, struct err *err);
