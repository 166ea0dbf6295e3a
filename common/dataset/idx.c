#include "common/dataset/idx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "common/base/mem.h"
#include "common/dataset/dataset.h"
#include "common/dataset/image.h"

#define MAGIC_LABELS 0x00000801u
#define MAGIC_IMAGES 0x00000803u
#define HEADER_BYTES 16 /* of images */
#define BUFFER_BYTES (256 * 1024)
/* Deflate makes at most 1032 bytes of one (zlib's technical notes). */
#define DEFLATE_RATIO_MAX 1032

static bool find_one(const char *dir, const char *stem, const char *kind, char path[FILE_PATH_MAX])
{
	static const char *const suffix[] = {"", ".gz"};
	for (size_t i = 0; i < ARRAY_LEN(suffix); i++)
		if (file_path(path, FILE_PATH_MAX, "%s/%s-%s-ubyte%s", dir, stem, kind,
			      suffix[i]) == 0 &&
		    file_exists(path))
			return true;
	path[0] = 0;
	return false;
}

int idx_find(const char *dir, const char *stem, struct idx_pair *ret, struct err *err)
{
	struct idx_pair p;
	bool images = find_one(dir, stem, "images-idx3", p.images);
	bool labels = find_one(dir, stem, "labels-idx1", p.labels);
	if (images != labels)
		return err_set(err, -ENOENT, "%s: has %s-%s-ubyte but no %s-%s-ubyte (or .gz)", dir,
			       stem, images ? "images-idx3" : "labels-idx1", stem,
			       images ? "labels-idx1" : "images-idx3");
	if (images)
		*ret = p;
	return images;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void gz_freep(gzFile *g)
{
	if (*g)
		gzclose(*g);
}

/* Why a read came short, for people. */
static const char *gz_reason(gzFile g)
{
	int code = Z_OK;
	const char *text = gzerror(g, &code);
	return code == Z_OK || code == Z_BUF_ERROR ? "unexpected end of file" : text;
}

static int gz_read(gzFile g, const char *path, void *buf, size_t len, const char *what,
		   struct err *err)
{
	for (size_t done = 0; done < len;) {
		unsigned part = (unsigned)MIN_OF(len - done, (size_t)1 << 30);
		int n = gzread(g, (uint8_t *)buf + done, part);
		if (n <= 0)
			return err_set(err, -EBADMSG, "%s: %s: %s", path, what, gz_reason(g));
		done += (size_t)n;
	}
	return 0;
}

/* Reading one byte more makes zlib check the trailer of a .gz. */
static int gz_end(gzFile g, const char *path, struct err *err)
{
	uint8_t more;
	int n = gzread(g, &more, 1), code = Z_OK;
	if (n > 0)
		return err_set(err, -EBADMSG, "%s: data after the last of the announced items",
			       path);
	gzerror(g, &code);
	if (n < 0 || code != Z_OK)
		return err_set(err, -EBADMSG, "%s: damaged: %s", path, gz_reason(g));
	return 0;
}

static int gz_open(const char *path, uint32_t magic, uint8_t *header, size_t header_len,
		   gzFile *ret, struct err *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: not a regular file", path);
	_cleanup_(gz_freep) gzFile g = gzopen(path, "rbe");
	if (!g)
		return err_errno(err, errno ? -errno : -ENOMEM, "%s", path);
	if (gzbuffer(g, BUFFER_BYTES) < 0)
		return err_errno(err, -ENOMEM, "%s", path);
	int r = gz_read(g, path, header, header_len, "IDX header", err);
	if (r < 0)
		return r;
	if (be32(header) != magic)
		return err_set(err, -EBADMSG, "%s: IDX magic 0x%08x, expected 0x%08x", path,
			       be32(header), magic);
	*ret = TAKE_PTR(g);
	return 0;
}

/* The announced size against what the file can hold, before memory is taken for it. */
static int check_announced(gzFile g, const char *path, uint64_t bytes, struct err *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	uint64_t held = (uint64_t)st.st_size;
	if (gzdirect(g) ? held == bytes : held >= bytes / DEFLATE_RATIO_MAX)
		return 0;
	return err_set(err, -EBADMSG, "%s: %s: %llu bytes, the header announces %llu%s", path,
		       gzdirect(g) && held > bytes ? "over-long" : "truncated",
		       (unsigned long long)held, (unsigned long long)bytes,
		       gzdirect(g) ? "" : " unpacked");
}

static int check_count(const char *path, uint32_t n, struct err *err)
{
	if (n && n <= DATASET_IMAGES_MAX)
		return 0;
	return err_set(err, -EBADMSG, "%s: header announces %u items, expected 1 to %d", path, n,
		       DATASET_IMAGES_MAX);
}

int idx_labels(const char *path, uint8_t **ret_labels, uint32_t *ret_n, struct err *err)
{
	_cleanup_(gz_freep) gzFile g = NULL;
	uint8_t header[8];
	int r = gz_open(path, MAGIC_LABELS, header, sizeof(header), &g, err);
	if (r < 0)
		return r;
	uint32_t n = be32(header + 4);
	r = check_count(path, n, err);
	if (r >= 0)
		r = check_announced(g, path, sizeof(header) + (uint64_t)n, err);
	if (r < 0)
		return r;
	_cleanup_free_ uint8_t *labels = malloc(n);
	if (!labels)
		return err_errno(err, -ENOMEM, "%s", path);
	r = gz_read(g, path, labels, n, "truncated labels", err);
	if (r >= 0)
		r = gz_end(g, path, err);
	if (r < 0)
		return r;
	*ret_labels = TAKE_PTR(labels);
	*ret_n = n;
	return 0;
}

static int open_images(const char *path, struct idx *x, struct err *err)
{
	_cleanup_(gz_freep) gzFile g = NULL;
	uint8_t header[HEADER_BYTES];
	int r = gz_open(path, MAGIC_IMAGES, header, sizeof(header), &g, err);
	if (r < 0)
		return r;
	uint32_t n = be32(header + 4), rows = be32(header + 8), cols = be32(header + 12);
	r = check_count(path, n, err);
	if (r < 0)
		return r;
	if (!rows || !cols || rows > DATASET_IMAGE_DIM_MAX || cols > DATASET_IMAGE_DIM_MAX ||
	    (uint64_t)rows * cols > IMAGE_PIXELS_MAX)
		return err_set(
			err, -EBADMSG,
			"%s: header announces images of %u x %u, expected 1 to %d a side and "
			"at most %u pixels",
			path, cols, rows, DATASET_IMAGE_DIM_MAX, IMAGE_PIXELS_MAX);
	r = check_announced(g, path, sizeof(header) + (uint64_t)n * rows * cols, err);
	if (r < 0)
		return r;
	bool plain = gzdirect(g);
	*x = (struct idx){.n = n,
			  .rows = rows,
			  .cols = cols,
			  .plain = plain,
			  .images = TAKE_PTR(g),
			  .path = path};
	return 0;
}

static void idx_donep(struct idx *x)
{
	idx_done(x);
}

int idx_open(const struct idx_pair *pair, struct idx *ret, struct err *err)
{
	_cleanup_(idx_donep) struct idx x = {0};
	int r = open_images(pair->images, &x, err);
	if (r < 0)
		return r;
	uint32_t n = 0;
	r = idx_labels(pair->labels, &x.labels, &n, err);
	if (r < 0)
		return r;
	if (n != x.n)
		return err_set(err, -EBADMSG, "%s: %u labels, but %u images in %s", pair->labels, n,
			       x.n, pair->images);
	*ret = x;
	x = (struct idx){0};
	return 0;
}

int idx_next(struct idx *x, uint8_t *pixels, struct err *err)
{
	if (x->next == x->n)
		return err_set(err, -ERANGE, "%s: no image beyond %u", x->path, x->n);
	int r = gz_read(x->images, x->path, pixels, (size_t)x->rows * x->cols, "truncated", err);
	if (r < 0)
		return err_set(err, r, "%s: truncated or damaged at image %u of %u: %s", x->path,
			       x->next, x->n, gz_reason(x->images));
	x->next++;
	return 0;
}

int idx_end(struct idx *x, struct err *err)
{
	return gz_end(x->images, x->path, err);
}

int idx_read_one(const char *path, uint32_t rows, uint32_t cols, uint32_t i, uint8_t *pixels,
		 struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	size_t len = (size_t)rows * cols, done = 0;
	while (done < len) {
		off_t at = (off_t)(HEADER_BYTES + (uint64_t)i * len + done);
		ssize_t n = pread(fd, pixels + done, len - done, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, -errno, "%s", path);
		if (n == 0)
			return err_set(err, -EBADMSG, "%s: truncated at image %u", path, i);
		done += (size_t)n;
	}
	return 0;
}

void idx_done(struct idx *x)
{
	if (x->images)
		gzclose(x->images);
	free(x->labels);
	*x = (struct idx){0};
}

static void put_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static int write_one(const char *dir, const char *stem, const char *kind, uint8_t *file, size_t len,
		     struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/%s-%s-ubyte", dir, stem, kind);
	if (r < 0)
		return err_errno(err, r, "%s", dir);
	return file_write(path, file, len, err);
}

int idx_write(const char *dir, const char *stem, uint32_t n, uint32_t rows, uint32_t cols,
	      const uint8_t *pixels, const uint8_t *labels, struct err *err)
{
	size_t len = (size_t)n * rows * cols;
	_cleanup_free_ uint8_t *file = malloc(16 + MAX_OF(len, (size_t)n));
	if (!file)
		return err_errno(err, -ENOMEM, "%s", dir);
	put_be32(file, MAGIC_IMAGES);
	put_be32(file + 4, n);
	put_be32(file + 8, rows);
	put_be32(file + 12, cols);
	memcpy(file + 16, pixels, len);
	int r = write_one(dir, stem, "images-idx3", file, 16 + len, err);
	if (r < 0)
		return r;
	put_be32(file, MAGIC_LABELS);
	memcpy(file + 8, labels, n);
	return write_one(dir, stem, "labels-idx1", file, 8 + (size_t)n, err);
}
