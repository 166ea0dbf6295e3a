/* A contact sheet: what a person wants to see of a data set first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/dataset/dataset.h"
#include "common/dataset/image.h"

#define GAP_PX      2
#define CELL_MIN_PX 48 /* smaller images are enlarged by a whole factor */
#define BACKGROUND  96

struct sheet {
	const struct dataset *d;
	enum split split;
	uint32_t width, height, channels, scale, cols, rows;
	size_t sheet_w, sheet_h;
	uint8_t *pixels; /* HWC */
	float *image;    /* CHW */
};

static int put_image(struct sheet *s, uint32_t image, uint32_t col, uint32_t row, struct err *err)
{
	int r = dataset_pixels(s->d, s->split, image, NULL, NULL, s->image, err);
	if (r < 0)
		return r;
	size_t x0 = GAP_PX + (size_t)col * (s->width * s->scale + GAP_PX);
	size_t y0 = GAP_PX + (size_t)row * (s->height * s->scale + GAP_PX);
	size_t plane = (size_t)s->width * s->height;
	for (size_t y = 0; y < (size_t)s->height * s->scale; y++) {
		const float *from = s->image + y / s->scale * s->width;
		uint8_t *to = s->pixels + ((y0 + y) * s->sheet_w + x0) * s->channels;
		for (size_t x = 0; x < (size_t)s->width * s->scale; x++)
			for (uint32_t c = 0; c < s->channels; c++)
				*to++ = (uint8_t)(from[c * plane + x / s->scale] * 255 + 0.5f);
	}
	return 0;
}

/* Rows first .. first+n-1 with the first images of one class. */
static int put_class(struct sheet *s, uint32_t label, uint32_t first, uint32_t n, struct err *err)
{
	uint32_t cell = 0, count = dataset_count(s->d, s->split);
	for (uint32_t i = 0; i < count && cell < n * s->cols; i++) {
		if (dataset_label(s->d, s->split, i) != label)
			continue;
		int r = put_image(s, i, cell % s->cols, first + cell / s->cols, err);
		if (r < 0)
			return r;
		cell++;
	}
	return 0;
}

/* Which classes the split has, in their order; returns how many. */
static uint32_t find_present(const struct sheet *s, uint32_t *labels)
{
	uint32_t n = 0, count = dataset_count(s->d, s->split);
	bool seen[DATASET_CLASSES_MAX] = {false};
	for (uint32_t i = 0; i < count; i++)
		seen[dataset_label(s->d, s->split, i)] = true;
	for (uint32_t c = 0; c < dataset_classes(s->d); c++)
		if (seen[c])
			labels[n++] = c;
	return n;
}

static int fill(struct sheet *s, struct err *err)
{
	_cleanup_free_ uint32_t *labels = calloc(dataset_classes(s->d), sizeof(*labels));
	if (!labels)
		return err_errno(err, -ENOMEM, "contact sheet");
	uint32_t n = find_present(s, labels), shown = MIN_OF(n, s->rows);
	int r = 0;
	for (uint32_t k = 0; k < shown && r >= 0; k++) {
		uint32_t first = k * s->rows / shown, next = (k + 1) * s->rows / shown;
		r = put_class(s, labels[k], first, next - first, err);
	}
	return r;
}

int dataset_sheet(const struct dataset *d, enum split split, uint32_t cols, uint32_t rows,
		  const char *png_path, struct err *err)
{
	struct sheet s = {.d = d, .split = split, .cols = cols, .rows = rows};
	if (!dataset_count(d, split))
		return err_set(err, -ENODATA, "%s: no %s image to show", png_path,
			       split_name(split));
	dataset_shape(d, &s.width, &s.height, &s.channels);
	s.scale = (CELL_MIN_PX + s.width - 1) / s.width;
	s.sheet_w = GAP_PX + (size_t)cols * (s.width * s.scale + GAP_PX);
	s.sheet_h = GAP_PX + (size_t)rows * (s.height * s.scale + GAP_PX);
	if (!cols || !rows || (uint64_t)cols * rows > DATASET_SHEET_CELLS_MAX ||
	    s.sheet_w * s.sheet_h > IMAGE_PIXELS_MAX)
		return err_set(err, -E2BIG,
			       "%s: a sheet of %u x %u images, expected 1 to %d cells "
			       "and at most %u pixels",
			       png_path, cols, rows, DATASET_SHEET_CELLS_MAX, IMAGE_PIXELS_MAX);
	_cleanup_free_ uint8_t *pixels = malloc(s.sheet_w * s.sheet_h * s.channels);
	_cleanup_free_ float *image =
		calloc((size_t)s.width * s.height * s.channels, sizeof(*image));
	if (!pixels || !image)
		return err_errno(err, -ENOMEM, "%s", png_path);
	memset(pixels, BACKGROUND, s.sheet_w * s.sheet_h * s.channels);
	s.pixels = pixels;
	s.image = image;
	int r = fill(&s, err);
	if (r < 0)
		return r;
	return image_write_png(png_path, pixels, (uint32_t)s.sheet_w, (uint32_t)s.sheet_h,
			       s.channels, err);
}
