#include "data_util.h"

#include <errno.h>

#include "common/dataset/dataset.h"
#include "common/dataset/idx.h"

#define N      12
#define ROWS   3
#define COLS   5
#define IMAGES "train-images-idx3-ubyte"
#define LABELS "train-labels-idx1-ubyte"

struct files {
	uint8_t images[16 + N * ROWS * COLS], labels[8 + N];
};

static struct files make_files(void)
{
	struct files f;
	put_be32(f.images, 0x803);
	put_be32(f.images + 4, N);
	put_be32(f.images + 8, ROWS);
	put_be32(f.images + 12, COLS);
	for (int i = 0; i < N * ROWS * COLS; i++)
		f.images[16 + i] = (uint8_t)(i * 31 + i / 7);
	put_be32(f.labels, 0x801);
	put_be32(f.labels + 4, N);
	for (int i = 0; i < N; i++)
		f.labels[8 + i] = (uint8_t)(i % 10);
	return f;
}

static void put_gz(const char *dir, const char *name, const void *data, size_t len)
{
	struct bytes b = make_gz(data, len);
	put(dir, name, b.data, b.len);
	bytes_done(&b);
}

/* Opens and reads everything; what differs from make_files() fails the test. */
static int read_all(const char *dir, struct err *err)
{
	struct idx_pair pair;
	int r = idx_find(dir, "train", &pair, err);
	if (r <= 0)
		return r < 0 ? r : -ENODATA;
	struct idx x;
	r = idx_open(&pair, &x, err);
	if (r < 0)
		return r;
	struct files f = make_files();
	for (uint32_t i = 0; r >= 0 && i < x.n; i++) {
		uint8_t px[ROWS * COLS];
		assert_int_equal(x.rows, ROWS);
		assert_int_equal(x.cols, COLS);
		r = idx_next(&x, px, err);
		if (r >= 0) {
			assert_memory_equal(px, f.images + 16 + i * ROWS * COLS, ROWS * COLS);
			assert_int_equal(x.labels[i], f.labels[8 + i]);
		}
	}
	if (r >= 0)
		r = idx_end(&x, err);
	idx_done(&x);
	return r;
}

static void plain_and_gz(void **state)
{
	struct files f = make_files();
	put(*state, IMAGES, f.images, sizeof(f.images));
	put(*state, LABELS, f.labels, sizeof(f.labels));
	assert_int_equal(read_all(*state, NULL), 0);
	put_gz(*state, IMAGES ".gz", f.images, sizeof(f.images));
	put_gz(*state, LABELS ".gz", f.labels, sizeof(f.labels));
	assert_int_equal(read_all(*state, NULL), 0);
	unlink(at(*state, IMAGES));
	unlink(at(*state, LABELS));
	assert_int_equal(read_all(*state, NULL), 0);
	/* By content, not by name. */
	put(*state, IMAGES ".gz", f.images, sizeof(f.images));
	put_gz(*state, LABELS, f.labels, sizeof(f.labels));
	assert_int_equal(read_all(*state, NULL), 0);
}

static void half_a_pair(void **state)
{
	struct files f = make_files();
	struct idx_pair pair;
	struct err err = {0};
	assert_int_equal(idx_find(*state, "train", &pair, &err), 0);
	put(*state, LABELS, f.labels, sizeof(f.labels));
	assert_int_equal(idx_find(*state, "train", &pair, &err), -ENOENT);
	assert_has(err.text, "no train-images-idx3-ubyte");
	unlink(at(*state, LABELS));
	put(*state, IMAGES ".gz", f.images, sizeof(f.images));
	assert_int_equal(idx_find(*state, "train", &pair, &err), -ENOENT);
	assert_has(err.text, "no train-labels-idx1-ubyte");
}

/* One changed header field or length, plain and packed: refused, and the file named. */
static void bad_headers_and_lengths(void **state)
{
	static const struct {
		bool labels;
		int offset; /* of the be32 that becomes `value`; -1: the length becomes it */
		uint32_t value;
		const char *why;
	} bad[] = {
		{false, 0, 0x801, "magic"},
		{false, 0, 0x803 + (8u << 24), "magic"},
		{true, 0, 0x803, "magic"},
		{false, 4, N + 1, "truncated|labels, but"},
		{false, 4, N - 1, "over-long|labels, but"},
		{true, 4, N + 1, "truncated"},
		{true, 4, N - 1, "over-long|data after|labels, but"},
		{false, 4, 0, "announces 0 items"},
		{true, 4, 0, "announces 0 items"},
		{false, 4, DATASET_IMAGES_MAX + 1, "items, expected 1 to"},
		{true, 4, 0xffffffff, "items, expected 1 to"},
		{false, 8, 0, "images of 5 x 0"},
		{false, 12, 0, "images of 0 x 3"},
		{false, 8, 0xffffffff, "images of"},
		{false, 12, 16384, "truncated"},
		{false, 12, 16385, "images of"},
		{false, -1, 16 + N * ROWS * COLS - 1, "truncated"},
		{false, -1, 16, "truncated"},
		{false, -1, 15, "IDX header"},
		{false, -1, 0, "IDX header"},
		{true, -1, 8 + N - 1, "truncated"},
		{true, -1, 7, "IDX header"},
	};
	for (size_t i = 0; i < 2 * ARRAY_LEN(bad); i++) {
		struct files f = make_files();
		size_t k = i / 2, images_len = sizeof(f.images), labels_len = sizeof(f.labels);
		if (bad[k].offset >= 0)
			put_be32((bad[k].labels ? f.labels : f.images) + bad[k].offset,
				 bad[k].value);
		else
			*(bad[k].labels ? &labels_len : &images_len) = bad[k].value;
		(i % 2 ? put_gz : put)(*state, IMAGES, f.images, images_len);
		(i % 2 ? put_gz : put)(*state, LABELS, f.labels, labels_len);
		struct err err = {0};
		int r = read_all(*state, &err);
		bool named = strstr(err.text, bad[k].labels ? LABELS : IMAGES) != NULL;
		bool why = false;
		char whys[64];
		snprintf(whys, sizeof(whys), "%s", bad[k].why);
		for (char *w = strtok(whys, "|"); w; w = strtok(NULL, "|"))
			why |= strstr(err.text, w) != NULL;
		if (r != -EBADMSG || !named || !why)
			fail_msg("%zu %s: %d '%s'", k, i % 2 ? "gz" : "plain", r, err.text);
	}
}

static void counts_must_agree(void **state)
{
	struct files f = make_files();
	put(*state, IMAGES, f.images, sizeof(f.images));
	put_be32(f.labels + 4, N - 1);
	put(*state, LABELS, f.labels, sizeof(f.labels) - 1);
	struct err err = {0};
	assert_int_equal(read_all(*state, &err), -EBADMSG);
	assert_has(err.text, "11 labels, but 12 images");
}

static void truncated_gz_anywhere(void **state)
{
	struct files f = make_files();
	put(*state, LABELS, f.labels, sizeof(f.labels));
	struct bytes b = make_gz(f.images, sizeof(f.images));
	for (size_t len = 0; len < b.len; len++) {
		put(*state, IMAGES, b.data, len);
		struct err err = {0};
		if (read_all(*state, &err) != -EBADMSG)
			fail_msg("%zu of %zu bytes passed", len, b.len);
	}
	/* All bytes there, but not what was packed. */
	b.data[b.len - 6] ^= 1;
	put(*state, IMAGES, b.data, b.len);
	struct err err = {0};
	assert_int_equal(read_all(*state, &err), -EBADMSG);
	assert_has(err.text, "incorrect data check");
	bytes_done(&b);
}

static void small_files_cannot_claim_gigabytes(void **state)
{
	struct files f = make_files();
	put_be32(f.images + 4, DATASET_IMAGES_MAX);
	put_be32(f.images + 8, 4096);
	put_be32(f.images + 12, 4096);
	struct err err = {0};
	for (int gz = 0; gz < 2; gz++) {
		(gz ? put_gz : put)(*state, IMAGES, f.images, sizeof(f.images));
		put(*state, LABELS, f.labels, sizeof(f.labels));
		assert_int_equal(read_all(*state, &err), -EBADMSG);
		assert_has(err.text, "truncated");
	}
}

static void bomb_is_bounded_by_what_is_announced(void **state)
{
	struct files f = make_files();
	size_t len = 16 * 1024 * 1024;
	uint8_t *big = calloc(1, len);
	memcpy(big, f.images, sizeof(f.images));
	put_gz(*state, IMAGES, big, len);
	free(big);
	put(*state, LABELS, f.labels, sizeof(f.labels));
	struct err err = {0};
	assert_int_equal(read_all(*state, &err), -EBADMSG);
	assert_has(err.text, "data after the last");
}

static void no_more_than_n_images(void **state)
{
	struct files f = make_files();
	put(*state, IMAGES, f.images, sizeof(f.images));
	put(*state, LABELS, f.labels, sizeof(f.labels));
	struct idx_pair pair;
	struct idx x;
	uint8_t px[ROWS * COLS];
	assert_int_equal(idx_find(*state, "train", &pair, NULL), 1);
	assert_int_equal(idx_open(&pair, &x, NULL), 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(idx_next(&x, px, NULL), 0);
	assert_int_equal(idx_next(&x, px, NULL), -ERANGE);
	idx_done(&x);
	idx_done(&x);
}

static void what_is_no_file(void **state)
{
	struct err err = {0};
	assert_int_equal(file_mkdirs(at(*state, IMAGES), NULL), 0);
	assert_int_equal(file_mkdirs(at(*state, LABELS), NULL), 0);
	assert_int_equal(read_all(*state, &err), -EINVAL);
	assert_has(err.text, "not a regular file");
	uint8_t *labels;
	uint32_t n;
	assert_int_equal(idx_labels(at(*state, "none"), &labels, &n, &err), -ENOENT);
	assert_has(err.text, "none");
}

static void written_reads_back(void **state)
{
	struct files f = make_files();
	assert_int_equal(
		idx_write(*state, "train", N, ROWS, COLS, f.images + 16, f.labels + 8, NULL), 0);
	assert_int_equal(read_all(*state, NULL), 0);
	char *data;
	size_t len;
	assert_int_equal(file_read(at(*state, IMAGES), 65536, &data, &len, NULL), 0);
	assert_int_equal(len, sizeof(f.images));
	assert_memory_equal(data, f.images, len);
	free(data);
	struct err err = {0};
	assert_true(idx_write(at(*state, "none"), "train", N, ROWS, COLS, f.images + 16,
			      f.labels + 8, &err) < 0);
	assert_has(err.text, "none");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_and_gz),
		TEST(half_a_pair),
		TEST(bad_headers_and_lengths),
		TEST(counts_must_agree),
		TEST(truncated_gz_anywhere),
		TEST(small_files_cannot_claim_gigabytes),
		TEST(bomb_is_bounded_by_what_is_announced),
		TEST(no_more_than_n_images),
		TEST(what_is_no_file),
		TEST(written_reads_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
