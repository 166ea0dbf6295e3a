/* Decoders write straight into one buffer of exactly width x height x channels bytes that is
 * allocated after the limits were checked; it is handed out only when the decoder is satisfied
 * with the whole file. */
#include "common/dataset/image.h"

#include <errno.h>
#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/dataset/dataset.h"

void image_done(struct image *im)
{
	free(im->pixels);
	im->pixels = NULL;
}

static int check_size(uint64_t w, uint64_t h, const char *name, struct err *err)
{
	if (!w || !h)
		return err_set(err, -EBADMSG, "%s: image of %llu x %llu pixels", name,
			       (unsigned long long)w, (unsigned long long)h);
	if (w > DATASET_IMAGE_DIM_MAX || h > DATASET_IMAGE_DIM_MAX || w * h > IMAGE_PIXELS_MAX)
		return err_set(err, -E2BIG,
			       "%s: image of %llu x %llu pixels, expected at most %d a side and "
			       "%u in all",
			       name, (unsigned long long)w, (unsigned long long)h,
			       DATASET_IMAGE_DIM_MAX, IMAGE_PIXELS_MAX);
	return 0;
}

static uint8_t *pixels_alloc(uint32_t w, uint32_t h, uint32_t channels)
{
	return malloc((size_t)w * h * channels);
}

static void tj_freep(tjhandle *h)
{
	if (*h)
		tjDestroy(*h);
}

static int decode_jpeg(const uint8_t *data, size_t len, const char *name, uint32_t channels,
		       struct image *ret, struct err *err)
{
	_cleanup_(tj_freep) tjhandle tj = tjInitDecompress();
	if (!tj)
		return err_errno(err, -ENOMEM, "%s", name);
	int w = 0, h = 0, subsampling, colours;
	if (tjDecompressHeader3(tj, data, len, &w, &h, &subsampling, &colours) < 0)
		return err_set(err, -EBADMSG, "%s: JPEG header: %s", name, tjGetErrorStr2(tj));
	if (w < 1 || h < 1)
		return err_set(err, -EBADMSG, "%s: truncated JPEG: its header gives no size", name);
	int r = check_size((uint64_t)w, (uint64_t)h, name, err);
	if (r < 0)
		return r;
	if (colours == TJCS_GRAY)
		channels = 1;
	_cleanup_free_ uint8_t *px = pixels_alloc((uint32_t)w, (uint32_t)h, channels);
	if (!px)
		return err_errno(err, -ENOMEM, "%s", name);
	/* libjpeg fills what is missing with grey and only warns: a warning is an error here, and
	 * a bound on scans keeps a hostile progressive file from taking minutes. */
	if (tjDecompress2(tj, data, len, px, w, 0, h, channels == 1 ? TJPF_GRAY : TJPF_RGB,
			  TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT) < 0)
		return err_set(err, -EBADMSG, "%s: damaged or truncated JPEG: %s", name,
			       tjGetErrorStr2(tj));
	*ret = (struct image){(uint32_t)w, (uint32_t)h, channels, TAKE_PTR(px)};
	return 0;
}

/* Rec. 601 luma in 1/256, in place; the weights add up to 256, so grey stays what it is. */
static void to_luma(uint8_t *px, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = px + 3 * i;
		px[i] = (uint8_t)((77u * p[0] + 150u * p[1] + 29u * p[2] + 128) >> 8);
	}
}

int image_from_pixels(const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t n, size_t stride,
		      uint32_t channels, struct image *ret, struct err *err)
{
	if (n != 1 && n != 3)
		return err_set(err, -EINVAL, "channels: found %u, expected 1 or 3", n);
	int r = check_size(width, height, "image", err);
	if (r < 0)
		return r;
	size_t row = (size_t)width * n;
	if (stride && stride < row)
		return err_set(err, -EINVAL, "stride: found %zu, expected 0 or at least %zu", stride, row);
	_cleanup_free_ uint8_t *px = pixels_alloc(width, height, n);
	if (!px)
		return err_errno(err, -ENOMEM, "image");
	for (size_t y = 0; y < height; y++)
		memcpy(px + y * row, pixels + y * (stride ? stride : row), row);
	if (n == 3 && channels == 1) {
		to_luma(px, (size_t)width * height);
		n = 1;
	}
	*ret = (struct image){width, height, n, TAKE_PTR(px)};
	return 0;
}

static int decode_png(const uint8_t *data, size_t len, const char *name, uint32_t channels,
		      struct image *ret, struct err *err)
{
	_cleanup_(png_image_free) png_image png = {.version = PNG_IMAGE_VERSION};
	if (!png_image_begin_read_from_memory(&png, data, len))
		return err_set(err, -EBADMSG, "%s: PNG header: %s", name, png.message);
	int r = check_size(png.width, png.height, name, err);
	if (r < 0)
		return r;
	uint32_t n = png.format & PNG_FORMAT_FLAG_COLOR ? 3 : 1;
	uint32_t w = png.width, h = png.height;
	/* Two 8-bit values of 16-bit files mean the same as of 8-bit ones. */
	png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
	png.format = n == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
	_cleanup_free_ uint8_t *px = pixels_alloc(w, h, n);
	if (!px)
		return err_errno(err, -ENOMEM, "%s", name);
	static const png_color black = {0, 0, 0};
	if (!png_image_finish_read(&png, &black, px, 0, NULL))
		return err_set(err, -EBADMSG, "%s: damaged or truncated PNG: %s", name,
			       png.message);
	/* libpng's own grey uses other weights and linear light: mixed here instead. */
	if (n == 3 && channels == 1) {
		to_luma(px, (size_t)w * h);
		n = 1;
	}
	*ret = (struct image){w, h, n, TAKE_PTR(px)};
	return 0;
}

struct text {
	const uint8_t *at, *end;
};

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_space(struct text *t)
{
	while (t->at < t->end && (is_space(*t->at) || *t->at == '#')) {
		if (*t->at == '#')
			while (t->at < t->end && *t->at != '\n')
				t->at++;
		else
			t->at++;
	}
}

/* The next decimal number after space and comments; false when there is none or it exceeds max. */
static bool next_number(struct text *t, uint32_t max, uint32_t *ret)
{
	skip_space(t);
	if (t->at == t->end || *t->at < '0' || *t->at > '9')
		return false;
	uint32_t v = 0;
	for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++) {
		v = v * 10 + (uint32_t)(*t->at - '0');
		if (v > max)
			return false;
	}
	*ret = v;
	return true;
}

static bool next_sample(struct text *t, bool plain, uint32_t maxval, uint32_t *ret)
{
	if (plain)
		return next_number(t, maxval, ret);
	size_t n = maxval > 255 ? 2 : 1; /* big endian */
	if ((size_t)(t->end - t->at) < n)
		return false;
	*ret = n == 2 ? (uint32_t)t->at[0] << 8 | t->at[1] : t->at[0];
	t->at += n;
	return *ret <= maxval;
}

/* pgm(5). Values are scaled from 0..maxval to 0..255. */
static int decode_pgm(const uint8_t *data, size_t len, const char *name, struct image *ret,
		      struct err *err)
{
	bool plain = data[1] == '2';
	struct text t = {data + 2, data + len};
	uint32_t w, h, maxval;
	if (!next_number(&t, UINT32_MAX / 16, &w) || !next_number(&t, UINT32_MAX / 16, &h) ||
	    !next_number(&t, 65535, &maxval) || !maxval || t.at == t.end || !is_space(*t.at))
		return err_set(err, -EBADMSG,
			       "%s: PGM header: expected width, height and a "
			       "largest value of 1 to 65535",
			       name);
	t.at++;
	int r = check_size(w, h, name, err);
	if (r < 0)
		return r;
	size_t n = (size_t)w * h, held = (size_t)(t.end - t.at);
	/* Plain: a digit and a separator each, but for the last. */
	if (held < (plain ? 2 * n - 1 : maxval < 256 ? n : 2 * n))
		return err_set(err, -EBADMSG, "%s: truncated PGM: %zu bytes for %u x %u pixels",
			       name, held, w, h);
	_cleanup_free_ uint8_t *px = pixels_alloc(w, h, 1);
	if (!px)
		return err_errno(err, -ENOMEM, "%s", name);
	for (size_t i = 0; i < n; i++) {
		uint32_t v;
		if (!next_sample(&t, plain, maxval, &v))
			return err_set(err, -EBADMSG,
				       "%s: PGM pixel %zu of %zu is missing or above %u", name, i,
				       n, maxval);
		px[i] = (uint8_t)((v * 255 + maxval / 2) / maxval);
	}
	while (t.at < t.end && is_space(*t.at))
		t.at++;
	if (t.at < t.end)
		return err_set(err, -EBADMSG, "%s: %zu bytes after the last PGM pixel", name,
			       (size_t)(t.end - t.at));
	*ret = (struct image){w, h, 1, TAKE_PTR(px)};
	return 0;
}

int image_decode(const void *data, size_t len, const char *name, uint32_t channels,
		 struct image *ret, struct err *err)
{
	const uint8_t *p = data;
	if (len >= 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff)
		return decode_jpeg(p, len, name, channels, ret, err);
	if (len >= 8 && !png_sig_cmp(p, 0, 8))
		return decode_png(p, len, name, channels, ret, err);
	if (len >= 3 && p[0] == 'P' && (p[1] == '5' || p[1] == '2') &&
	    (is_space(p[2]) || p[2] == '#'))
		return decode_pgm(p, len, name, ret, err);
	return err_set(err, -EOPNOTSUPP, "%s: %s, expected a JPEG, PNG or PGM image", name,
		       len ? "unknown format" : "empty file");
}

/* How one axis maps: output i is the sum of `count` inputs from `first`, times their weights,
 * over `total`. All integers; total is at most 16384, so that sums of 16-bit values fit 32. */
struct axis {
	uint32_t total, taps;
	uint32_t *first, *count, *weight; /* weight: taps for each output */
};

static void axis_done(struct axis *a)
{
	free(a->first);
	free(a->count);
	free(a->weight);
}

static void axis_shrink(struct axis *a, uint32_t in, uint32_t out)
{
	a->total = in;
	for (uint32_t i = 0; i < out; i++) {
		/* In units of 1/out of an input pixel. */
		uint64_t lo = (uint64_t)i * in, hi = lo + in;
		uint32_t first = (uint32_t)(lo / out), last = (uint32_t)((hi - 1) / out);
		a->first[i] = first;
		a->count[i] = last - first + 1;
		for (uint32_t j = first; j <= last; j++) {
			uint64_t from = MAX_OF(lo, (uint64_t)j * out);
			uint64_t to = MIN_OF(hi, ((uint64_t)j + 1) * out);
			a->weight[(size_t)i * a->taps + j - first] = (uint32_t)(to - from);
		}
	}
}

static void axis_grow(struct axis *a, uint32_t in, uint32_t out)
{
	a->total = 2 * out;
	for (uint32_t i = 0; i < out; i++) {
		/* Centre of output i, from the centre of input 0, in units of 1/(2 out). */
		int64_t at = (2 * (int64_t)i + 1) * in - out;
		uint32_t first = at < 0 ? 0 : (uint32_t)(at / a->total);
		uint32_t frac = at < 0 ? 0 : (uint32_t)(at % a->total);
		if (first + 1 >= in)
			frac = 0;
		a->first[i] = first;
		a->count[i] = frac ? 2 : 1;
		a->weight[2 * (size_t)i] = a->total - frac;
		a->weight[2 * (size_t)i + 1] = frac;
	}
}

static int axis_init(struct axis *a, uint32_t in, uint32_t out)
{
	a->taps = in >= out ? in / out + 2 : 2;
	a->first = calloc(out, sizeof(*a->first));
	a->count = calloc(out, sizeof(*a->count));
	a->weight = calloc((size_t)out * a->taps, sizeof(*a->weight));
	if (!a->first || !a->count || !a->weight)
		return -ENOMEM;
	if (in >= out)
		axis_shrink(a, in, out);
	else
		axis_grow(a, in, out);
	return 0;
}

/* One input row of one channel to 8.8 fixed point at the output's width. */
static void fit_row(const struct axis *ax, const uint8_t *row, uint32_t step, uint32_t width,
		    uint16_t *out)
{
	for (uint32_t x = 0; x < width; x++) {
		const uint32_t *k = ax->weight + (size_t)x * ax->taps;
		const uint8_t *p = row + (size_t)ax->first[x] * step;
		uint32_t sum = 0;
		for (uint32_t j = 0; j < ax->count[x]; j++)
			sum += k[j] * p[(size_t)j * step];
		out[x] = (uint16_t)((sum * 256 + ax->total / 2) / ax->total);
	}
}

static void fit_column(const struct axis *ay, const uint16_t *rows, uint32_t width, uint32_t y,
		       uint8_t *out)
{
	const uint32_t *k = ay->weight + (size_t)y * ay->taps;
	const uint16_t *top = rows + (size_t)ay->first[y] * width;
	for (uint32_t x = 0; x < width; x++) {
		uint32_t sum = 0;
		for (uint32_t j = 0; j < ay->count[y]; j++)
			sum += k[j] * top[(size_t)j * width + x];
		out[x] = (uint8_t)((sum + ay->total * 128) / (ay->total * 256));
	}
}

/* What the sums below come to at the size that is wanted. */
static void copy_planes(const uint8_t *from, size_t stride, uint32_t step, uint32_t width,
			uint32_t height, uint8_t *out)
{
	for (uint32_t c = 0; c < step; c++)
		for (uint32_t y = 0; y < height; y++)
			for (uint32_t x = 0; x < width; x++)
				*out++ = from[y * stride + (size_t)x * step + c];
}

static int resize(uint32_t step, const uint8_t *from, size_t stride, uint32_t from_width,
		  uint32_t from_height, uint32_t width, uint32_t height, uint8_t *out)
{
	_cleanup_(axis_done) struct axis ax = {0}, ay = {0};
	_cleanup_free_ uint16_t *rows = malloc((size_t)from_height * width * sizeof(*rows));
	if (!rows || axis_init(&ax, from_width, width) < 0 ||
	    axis_init(&ay, from_height, height) < 0)
		return -ENOMEM;
	for (uint32_t c = 0; c < step; c++) {
		for (uint32_t y = 0; y < from_height; y++)
			fit_row(&ax, from + y * stride + c, step, width, rows + (size_t)y * width);
		for (uint32_t y = 0; y < height; y++, out += width)
			fit_column(&ay, rows, width, y, out);
	}
	return 0;
}

int image_fit(const struct image *im, uint32_t center_crop, uint32_t width, uint32_t height,
	      uint32_t channels, uint8_t *out)
{
	if (!width || !height || width > DATASET_SIDE_MAX || height > DATASET_SIDE_MAX ||
	    (im->channels == 3 && channels == 1))
		return -EINVAL;
	uint32_t cw = im->width, ch = im->height;
	if (center_crop) {
		cw = MIN_OF(cw, center_crop);
		ch = MIN_OF(ch, center_crop);
	}
	size_t plane = (size_t)width * height, stride = (size_t)im->width * im->channels;
	const uint8_t *from = im->pixels + (im->height - ch) / 2 * stride +
			      (size_t)((im->width - cw) / 2) * im->channels;
	if (cw == width && ch == height)
		copy_planes(from, stride, im->channels, width, height, out);
	else if (resize(im->channels, from, stride, cw, ch, width, height, out) < 0)
		return -ENOMEM;
	for (uint32_t c = im->channels; c < channels; c++)
		memcpy(out + c * plane, out, plane);
	return 0;
}

int image_write_png(const char *path, const uint8_t *pixels, uint32_t width, uint32_t height,
		    uint32_t channels, struct err *err)
{
	_cleanup_(png_image_free) png_image png = {
		.version = PNG_IMAGE_VERSION,
		.width = width,
		.height = height,
		.format = channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY,
	};
	png_alloc_size_t len = PNG_IMAGE_PNG_SIZE_MAX(png);
	_cleanup_free_ uint8_t *buf = malloc(len);
	if (!buf)
		return err_errno(err, -ENOMEM, "%s", path);
	if (!png_image_write_to_memory(&png, buf, &len, 0, pixels, 0, NULL))
		return err_set(err, -EIO, "%s: %s", path, png.message);
	return file_write(path, buf, len, err);
}
