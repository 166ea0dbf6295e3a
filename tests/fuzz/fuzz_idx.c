/* A pair of IDX files: two bytes (big endian) say how many of the following are the labels file,
 * the rest is the images file. What is taken is written again, and read back the same. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/dataset/idx.h"
#include "tests/fuzz/fuzz.h"

#define KEEP_MAX (1024 * 1024)

struct copy {
	uint32_t n, rows, cols;
	uint8_t *labels, *pixels;
};

static void copy_done(struct copy *c)
{
	free(c->labels);
	free(c->pixels);
}

/* Reads all; -E2BIG where that is more than the test wants to keep. */
static int read_pair(const struct idx_pair *pair, struct copy *ret, struct err *err)
{
	_cleanup_(idx_done) struct idx x = {0};
	int r = idx_open(pair, &x, err);
	if (r < 0)
		return r;
	uint64_t each = (uint64_t)x.rows * x.cols;
	FUZZ_CHECK(x.n > 0 && each > 0);
	if (each * x.n > KEEP_MAX)
		return -E2BIG;
	*ret = (struct copy){x.n, x.rows, x.cols, malloc(x.n), malloc(each * x.n)};
	FUZZ_CHECK(ret->labels && ret->pixels);
	memcpy(ret->labels, x.labels, x.n);
	for (uint32_t i = 0; i < x.n && r == 0; i++)
		r = idx_next(&x, ret->pixels + i * each, err);
	return r < 0 ? r : idx_end(&x, err);
}

static void check_again(const struct copy *c)
{
	_cleanup_(copy_done) struct copy again = {0};
	struct idx_pair pair;
	struct err err = {0};
	char dir[FILE_PATH_MAX];
	fuzz_path("", dir);
	FUZZ_CHECK(idx_write(dir, "train", c->n, c->rows, c->cols, c->pixels, c->labels, &err) ==
		   0);
	FUZZ_CHECK(idx_find(dir, "train", &pair, &err) == 1);
	FUZZ_CHECK(read_pair(&pair, &again, &err) == 0);
	FUZZ_CHECK(again.n == c->n && again.rows == c->rows && again.cols == c->cols);
	FUZZ_CHECK(memcmp(again.labels, c->labels, c->n) == 0);
	FUZZ_CHECK(memcmp(again.pixels, c->pixels, (size_t)c->n * c->rows * c->cols) == 0);
	FUZZ_CHECK(unlink(pair.images) == 0 && unlink(pair.labels) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(copy_done) struct copy c = {0};
	_cleanup_close_ int labels = -1, images = -1;
	struct idx_pair pair;
	struct err err = {0};
	if (size < 2)
		return 0;
	size_t n = (size_t)data[0] << 8 | data[1];
	if (n > size - 2)
		n = size - 2;
	fuzz_file(data + 2, n, &labels, pair.labels);
	fuzz_file(data + 2 + n, size - 2 - n, &images, pair.images);
	int r = read_pair(&pair, &c, &err);
	fuzz_taken += r == 0;
	if (r == 0)
		check_again(&c);
	FUZZ_CHECK(r == 0 || r == -E2BIG || *err.text);
	return 0;
}
