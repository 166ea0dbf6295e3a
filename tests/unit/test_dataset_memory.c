/* Data sets of more images than memory. */
#include "dataset_util.h"

#include <errno.h>

#include "common/dataset/folder.h"

/* Of these images, which are small, just n are held. */
static uint64_t room_for(unsigned n)
{
	return (uint64_t)n * (PX + 40) + 1;
}

static void check_same(const struct dataset *a, const struct dataset *b)
{
	char x[HASH_SIZE], y[HASH_SIZE];
	float p[PX], q[PX];
	for (enum split s = SPLIT_TRAIN; s < SPLIT_N; s++) {
		dataset_snapshot(a, s, x);
		dataset_snapshot(b, s, y);
		assert_string_equal(x, y);
		for (uint32_t i = 0; i < dataset_count(a, s); i++) {
			assert_int_equal(dataset_pixels(a, s, i, NULL, NULL, p, NULL), 0);
			assert_int_equal(dataset_pixels(b, s, i, NULL, NULL, q, NULL), 0);
			assert_memory_equal(p, q, sizeof(p));
			assert_int_equal(dataset_label(a, s, i), dataset_label(b, s, i));
		}
	}
}

static void what_does_not_fit_is_read_when_needed(void **state)
{
	for (int idx = 0; idx < 2; idx++) {
		char dir[FILE_PATH_MAX];
		snprintf(dir, sizeof(dir), "%s", at(*state, idx ? "idx" : "folder"));
		struct dataset_conf c = conf_of(dir);
		c.test_share = c.validation_share = 0.25;
		if (idx)
			put_idx(dir, "train", 30, 0);
		else
			put_classes(dir, 10);
		struct dataset *all = open_ok(&c);
		assert_int_equal(dataset_held(all), 30);
		for (unsigned limit = 0; limit < 30; limit += 7) {
			c.memory_max_bytes = room_for(limit);
			struct dataset *some = open_ok(&c);
			assert_int_equal(dataset_held(some), limit);
			check_same(all, some);
			assert_false(rescan(some));
			dataset_free(some);
		}
		dataset_free(all);
	}
}

static void room_is_shared_by_all_folders(void **state)
{
	char test[FILE_PATH_MAX];
	put_idx(*state, "train", 20, 0);
	snprintf(test, sizeof(test), "%s", at(*state, "test"));
	put_classes(test, 4);
	struct dataset_conf c = conf_of(*state);
	snprintf(c.test_path, sizeof(c.test_path), "%s", test);
	struct dataset *all = open_ok(&c);
	c.memory_max_bytes = room_for(25);
	usleep(1000 * (STAMP_YOUNG_MS + 50)); /* from here on files are known by their stamps */
	struct dataset *some = open_ok(&c);
	assert_int_equal(dataset_held(some), 25);
	check_same(all, some);
	/* What is held stays so when there is more in front of it. */
	put_idx(*state, "train", 40, 0);
	assert_true(rescan(some));
	assert_true(rescan(all));
	assert_int_equal(dataset_held(some), 25);
	check_same(all, some);
	/* And takes the room that comes free. */
	put_idx(*state, "train", 15, 0);
	assert_true(rescan(some));
	assert_true(rescan(all));
	assert_int_equal(dataset_held(some), 25);
	check_same(all, some);
	dataset_free(all);
	dataset_free(some);
}

static void limit_leaves_room(void **state)
{
	put_idx(*state, "train", 30, 0);
	struct dataset_conf c = conf_of(*state);
	c.limit = 10;
	struct dataset *all = open_ok(&c);
	c.memory_max_bytes = room_for(8);
	struct dataset *some = open_ok(&c);
	assert_int_equal(total(some), 10);
	assert_int_equal(dataset_held(some), 8);
	check_same(all, some);
	dataset_free(all);
	dataset_free(some);
}

static void packed_files_must_fit(void **state)
{
	char *data;
	size_t len;
	put_idx(*state, "train", 30, 0);
	assert_int_equal(
		file_read(at(*state, "train-images-idx3-ubyte"), 1 << 20, &data, &len, NULL), 0);
	struct bytes gz = make_gz(data, len);
	put(*state, "train-images-idx3-ubyte.gz", gz.data, gz.len);
	unlink(at(*state, "train-images-idx3-ubyte"));
	struct dataset_conf c = conf_of(*state);
	c.memory_max_bytes = room_for(29);
	open_fails(&c, -E2BIG, "unpack the file");
	c.memory_max_bytes = room_for(30);
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_held(d), 30);
	dataset_free(d);
	bytes_done(&gz);
	free(data);
}

static int read_all(const struct dataset *d, struct err *err)
{
	float px[PX];
	int r = 0;
	for (uint32_t i = 0; i < dataset_count(d, SPLIT_TRAIN) && r == 0; i++)
		r = dataset_pixels(d, SPLIT_TRAIN, i, NULL, NULL, px, err);
	return r;
}

static void files_that_are_not_what_they_were(void **state)
{
	put_classes(*state, 3);
	put(*state, "a/no-image.txt", "x", 1);
	struct dataset_conf c = conf_of(*state);
	c.memory_max_bytes = 1;
	struct dataset *d = open_ok(&c);
	struct err err = {0};
	char before[HASH_SIZE], after[HASH_SIZE];
	dataset_snapshot(d, SPLIT_TRAIN, before);
	assert_int_equal(read_all(d, &err), 0);
	put_pgm(*state, "b/0001.pgm", 5); /* another image */
	assert_int_equal(read_all(d, &err), -ESTALE);
	assert_has(err.text, "b/0001.pgm: has changed since the data were read");
	put(*state, "b/0001.pgm", "P5", 2); /* none any more */
	assert_int_equal(read_all(d, &err), -ESTALE);
	assert_has(err.text, "b/0001.pgm: ");
	put_pgm(*state, "b/0001.pgm", 1001); /* as it was */
	assert_int_equal(read_all(d, &err), 0);
	unlink(at(*state, "b/0001.pgm"));
	assert_int_equal(read_all(d, &err), -ESTALE);
	assert_has(err.text, "b/0001.pgm: No such file");
	assert_int_equal(dataset_sheet(d, SPLIT_TRAIN, 3, 3, at(*state, ".sheet.png"), &err),
			 -ESTALE);
	/* What the split was read as is what it is called, until it is looked at anew. */
	dataset_snapshot(d, SPLIT_TRAIN, after);
	assert_string_equal(before, after);
	assert_true(rescan(d));
	assert_int_equal(total(d), 8);
	assert_int_equal(read_all(d, &err), 0);
	dataset_free(d);
}

static void idx_that_is_not_what_it_was(void **state)
{
	put_idx(*state, "train", 10, 0);
	struct dataset_conf c = conf_of(*state);
	c.memory_max_bytes = 1;
	struct dataset *d = open_ok(&c);
	struct err err = {0};
	char path[FILE_PATH_MAX];
	snprintf(path, sizeof(path), "%s", at(*state, "train-images-idx3-ubyte"));
	assert_int_equal(read_all(d, &err), 0);
	put_idx(*state, "train", 10, 3);
	assert_int_equal(read_all(d, &err), -ESTALE);
	assert_has(err.text, "train-images-idx3-ubyte: image ");
	assert_has(err.text, "has changed since the data were read");
	put_idx(*state, "train", 10, 0);
	assert_int_equal(read_all(d, &err), 0);
	assert_int_equal(truncate(path, 16 + 9 * PX + 5), 0);
	assert_int_equal(read_all(d, &err), -ESTALE);
	assert_has(err.text, "truncated at image 9");
	unlink(path);
	assert_int_equal(read_all(d, &err), -ESTALE);
	assert_has(err.text, "No such file");
	put_idx(*state, "train", 12, 0);
	assert_true(rescan(d));
	assert_int_equal(read_all(d, &err), 0);
	dataset_free(d);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_does_not_fit_is_read_when_needed),
		TEST(room_is_shared_by_all_folders),
		TEST(limit_leaves_room),
		TEST(packed_files_must_fit),
		TEST(files_that_are_not_what_they_were),
		TEST(idx_that_is_not_what_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
