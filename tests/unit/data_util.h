/* What the tests of common/dataset share: a folder of their own, and images made by the same
 * libraries that others make theirs with. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>
#include <turbojpeg.h>
#include <zlib.h>

#include "common/base/file.h"
#include "common/base/mem.h"

struct bytes {
	uint8_t *data;
	size_t len;
};

static inline void bytes_done(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){0};
}

/* Setup and teardown: *state is the folder's name. */
static inline int dir_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = NULL;
	if (asprintf(&dir, "%s/tasuki-data-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
		return -1;
	*state = dir;
	return mkdtemp(dir) ? 0 : -1;
}

static inline int dir_teardown(void **state)
{
	int r = file_remove(*state, NULL);
	free(*state);
	return r;
}

/* "DIR/NAME" in one of a few static buffers. */
static inline const char *at(const char *dir, const char *name)
{
	static char paths[8][FILE_PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 8];
	assert_int_equal(file_path(p, FILE_PATH_MAX, "%s/%s", dir, name), 0);
	return p;
}

static inline void put(const char *dir, const char *name, const void *data, size_t len)
{
	const char *path = at(dir, name);
	char parent[FILE_PATH_MAX];
	snprintf(parent, sizeof(parent), "%s", path);
	*strrchr(parent, '/') = 0;
	assert_int_equal(file_mkdirs(parent, NULL), 0);
	FILE *f = fopen(path, "wbe");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static inline struct bytes make_jpeg(const uint8_t *px, int w, int h, int channels, int flags)
{
	unsigned char *out = NULL;
	unsigned long len = 0;
	tjhandle tj = tjInitCompress();
	assert_non_null(tj);
	assert_int_equal(tjCompress2(tj, px, w, 0, h, channels == 3 ? TJPF_RGB : TJPF_GRAY, &out,
				     &len, channels == 3 ? TJSAMP_444 : TJSAMP_GRAY, 95, flags),
			 0);
	struct bytes b = {malloc(len), len};
	memcpy(b.data, out, len);
	tjFree(out);
	tjDestroy(tj);
	return b;
}

/* format: PNG_FORMAT_...; 16-bit formats take uint16_t. */
static inline struct bytes make_png(const void *px, uint32_t w, uint32_t h, uint32_t format)
{
	png_image image = {.version = PNG_IMAGE_VERSION, .width = w, .height = h, .format = format};
	png_alloc_size_t len = PNG_IMAGE_PNG_SIZE_MAX(image);
	struct bytes b = {malloc(len), 0};
	assert_non_null(b.data);
	assert_true(png_image_write_to_memory(&image, b.data, &len, 0, px, 0, NULL));
	b.len = len;
	return b;
}

static inline struct bytes make_gz(const void *data, size_t len)
{
	z_stream z = {0};
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
	struct bytes b = {malloc(deflateBound(&z, len)), 0};
	assert_non_null(b.data);
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)len;
	z.next_out = b.data;
	z.avail_out = (uInt)deflateBound(&z, len);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	b.len = z.total_out;
	deflateEnd(&z);
	return b;
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

#define assert_has(text, part)                                         \
	do {                                                           \
		if (!strstr(text, part))                               \
			fail_msg("expected '%s' in '%s'", part, text); \
	} while (0)
