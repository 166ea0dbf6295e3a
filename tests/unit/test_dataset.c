#include "dataset_util.h"

#include <errno.h>
#include <math.h>
#include <sys/stat.h>

#include "common/crypto/hash.h"
#include "common/dataset/folder.h"

static bool holds(const struct dataset *d, enum split s, unsigned n)
{
	uint8_t px[PX];
	float out[PX];
	picture(n, px);
	for (uint32_t i = 0; i < dataset_count(d, s); i++) {
		bool same = true;
		dataset_pixels(d, s, i, NULL, NULL, out, NULL);
		for (int k = 0; k < PX; k++)
			same &= out[k] == (float)px[k] / 255.0f;
		if (same)
			return true;
	}
	return false;
}

static enum split where(const struct dataset *d, unsigned n)
{
	for (enum split s = SPLIT_TRAIN; s < SPLIT_N; s++)
		if (holds(d, s, n))
			return s;
	return SPLIT_N;
}

static void names_of_splits(void **state)
{
	for (enum split s = SPLIT_TRAIN, got; s < SPLIT_N; s++) {
		assert_int_equal(split_parse(split_name(s), &got), 0);
		assert_int_equal(got, s);
	}
	enum split s;
	assert_int_equal(split_parse("Train", &s), -EINVAL);
	assert_string_equal(split_name(SPLIT_STAY), "stay");
	assert_int_equal(split_parse("stay", &s), -EINVAL); /* nobody is to ask for it */
	assert_string_equal(split_name(SPLIT_VALIDATION), "validation");
}

static void class_lists(void **state)
{
	static const char good[] = "Bush\r\nZo\xc3\xab\n \xe8\xa5\xb7 \nlast";
	const char *path = at(*state, "classes.txt");
	put(*state, "classes.txt", good, sizeof(good) - 1);
	struct classes c = {0};
	assert_int_equal(classes_load(path, &c, NULL), 0);
	assert_int_equal(c.n, 4);
	assert_string_equal(c.names[0], "Bush");
	assert_string_equal(c.names[1], "Zo\xc3\xab");
	assert_string_equal(c.names[3], "last");
	classes_done(&c);

	char long_name[DATASET_CLASS_NAME_MAX + 2];
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = 0;
	const struct {
		const char *text, *why;
		size_t len;
	} bad[] = {
		{"", "no class", 0},
		{"a\n\nb\n", ":2: class name is empty", 0},
		{"\n", ":1:", 0},
		{"a\nb\na\n", "'a' is listed twice", 0},
		{"a/b\n", "'/'", 0},
		{"a\tb\n", "control", 0},
		{"a\x7f\n", "control", 0},
		{"\xff\n", "UTF-8", 0},
		{"\xc3\n", "UTF-8", 0},
		{"\xc0\xaf\n", "UTF-8", 0},
		{"\xed\xa0\x80\n", "UTF-8", 0},
		{"\xf4\x90\x80\x80\n", "UTF-8", 0},
		{"\xe0\x80\x80\n", "UTF-8", 0},
		{"\xe8\xa5", "UTF-8", 0},
		{"..\n", "not a name", 0},
		{long_name, "longer than 128", 0},
		{"a\0b\n", "NUL", 4},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = {0};
		put(*state, "classes.txt", bad[i].text,
		    bad[i].len ? bad[i].len : strlen(bad[i].text));
		int r = classes_load(path, &c, &err);
		if (r != -EINVAL || !strstr(err.text, bad[i].why) ||
		    !strstr(err.text, "classes.txt"))
			fail_msg("%zu: %d '%s'", i, r, err.text);
		assert_null(c.names);
	}
	struct err err = {0};
	assert_int_equal(classes_load(at(*state, "none"), &c, &err), -ENOENT);
}

static void class_list_limit(void **state)
{
	char *text = malloc((DATASET_CLASSES_MAX + 1) * 8);
	size_t len = 0, at_limit = 0;
	for (int i = 0; i <= DATASET_CLASSES_MAX; i++) {
		at_limit = len;
		len += (size_t)sprintf(text + len, "c%d\n", i);
	}
	struct classes c = {0};
	struct err err = {0};
	put(*state, "classes.txt", text, len);
	assert_int_equal(classes_load(at(*state, "classes.txt"), &c, &err), -E2BIG);
	put(*state, "classes.txt", text, at_limit);
	assert_int_equal(classes_load(at(*state, "classes.txt"), &c, &err), 0);
	assert_int_equal(c.n, DATASET_CLASSES_MAX);
	classes_done(&c);
	free(text);
}

static void classes_of_data(void **state)
{
	struct classes c = {0};
	struct err err = {0};
	assert_int_equal(classes_from_data(*state, &c, &err), -EINVAL);
	assert_has(err.text, "no data set");
	put_pgm(*state, "zebra/1.pgm", 1);
	put_pgm(*state, "ant/1.pgm", 2);
	put_pgm(*state, ".hidden/1.pgm", 3);
	put(*state, "README", "x", 1);
	assert_int_equal(classes_from_data(*state, &c, &err), 0);
	assert_int_equal(c.n, 2);
	assert_string_equal(c.names[0], "ant");
	assert_string_equal(c.names[1], "zebra");
	classes_done(&c);
	put_idx(*state, "t10k", 5, 0);
	assert_int_equal(classes_from_data(*state, &c, &err), 0);
	assert_int_equal(c.n, 3); /* labels 0 to 2 */
	assert_string_equal(c.names[2], "2");
	classes_done(&c);
	assert_int_equal(classes_from_data(at(*state, "none"), &c, &err), -ENOENT);
}

static void bad_conf(void **state)
{
	struct dataset_conf good = conf_of(*state), c;
	put_classes(*state, 1);
	dataset_free(open_ok(&good));
#define REFUSED(change, why)                  \
	do {                                  \
		c = good;                     \
		change;                       \
		open_fails(&c, -EINVAL, why); \
	} while (0)
	REFUSED(c.path[0] = 0, "no path");
	REFUSED(c.channels = 2, "2 channels");
	REFUSED(c.width = 0, "0 x 6");
	REFUSED(c.height = DATASET_SIDE_MAX + 1, "8193");
	REFUSED(c.validation_share = -0.1, "validation_share");
	REFUSED(c.validation_share = NAN, "validation_share");
	REFUSED(c.test_share = 0.91, "test_share");
	REFUSED((c.test_share = 0.5, c.validation_share = 0.5), "test_share");
	struct dataset *d = NULL;
	struct classes none = {0};
	assert_int_equal(dataset_open(&good, &none, &d, NULL), -EINVAL);
	c = conf_of(at(*state, "none"));
	open_fails(&c, -ENOENT, "none");
}

/* The rule of dataset.h, worked out here by other means. */
static void split_follows_the_documented_hash(void **state)
{
	enum { N = 300 };
	put_idx(*state, "train", N, 0);
	struct dataset_conf c = conf_of(*state);
	c.seed = 0x0123456789abcdefu;
	c.test_share = 0.2;
	c.validation_share = 0.3;
	struct dataset *d = open_ok(&c);
	for (unsigned i = 0; i < N; i++) {
		uint8_t px[PX], text[40] = {0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
		char hex[HASH_SIZE];
		picture(i, px);
		assert_int_equal(hash_bytes(px, PX, hex), 0);
		for (int k = 0; k < 32; k++)
			assert_int_equal(sscanf(hex + 2 * k, "%2hhx", &text[8 + k]), 1);
		assert_int_equal(hash_bytes(text, sizeof(text), hex), 0);
		hex[16] = 0;
		double u = (double)strtoull(hex, NULL, 16) / 0x1p64;
		enum split s = u < 0.2 ? SPLIT_TEST : u < 0.5 ? SPLIT_VALIDATION : SPLIT_TRAIN;
		assert_true(holds(d, s, i));
	}
	assert_int_equal(total(d), N);
	assert_in_range(dataset_count(d, SPLIT_TEST), 35, 90);
	assert_in_range(dataset_count(d, SPLIT_VALIDATION), 60, 120);
	dataset_free(d);
}

static void split_stays_as_data_grows(void **state)
{
	put_classes(*state, 20);
	struct dataset_conf c = conf_of(*state);
	c.test_share = c.validation_share = 0.3;
	struct dataset *d = open_ok(&c);
	enum split before[60];
	for (unsigned i = 0; i < 60; i++)
		before[i] = where(d, 1000 * (i / 20) + i % 20);
	put_classes(*state, 40);
	put_pgm(*state, "a/another-name.pgm", 3); /* a duplicate goes where the first is */
	assert_true(rescan(d));
	assert_int_equal(total(d), 121);
	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(where(d, 1000 * (i / 20) + i % 20), before[i]);
	c.seed++;
	struct dataset *other = open_ok(&c);
	int moved = 0;
	for (unsigned i = 0; i < 60; i++)
		moved += where(other, 1000 * (i / 20) + i % 20) != before[i];
	assert_true(moved > 10);
	dataset_free(other);
	dataset_free(d);
}

static void snapshot_names_images_not_files(void **state)
{
	char one[FILE_PATH_MAX], two[FILE_PATH_MAX], a[HASH_SIZE], b[HASH_SIZE];
	snprintf(one, sizeof(one), "%s", at(*state, "one"));
	snprintf(two, sizeof(two), "%s", at(*state, "two"));
	put_classes(one, 5);
	for (unsigned c = 0; c < 3; c++)
		for (unsigned i = 0; i < 5; i++) {
			char name[32];
			snprintf(name, sizeof(name), "%c/x%u", 'a' + c, 9 - i);
			put_pgm(two, name, 1000 * c + i);
		}
	struct dataset_conf c1 = conf_of(one), c2 = conf_of(two);
	struct dataset *d1 = open_ok(&c1), *d2 = open_ok(&c2);
	dataset_snapshot(d1, SPLIT_TRAIN, a);
	dataset_snapshot(d2, SPLIT_TRAIN, b);
	assert_true(hash_valid(a));
	assert_string_equal(a, b);
	for (uint32_t i = 0; i < 15; i++) { /* and the order is the same */
		float x[PX], y[PX];
		dataset_pixels(d1, SPLIT_TRAIN, i, NULL, NULL, x, NULL);
		dataset_pixels(d2, SPLIT_TRAIN, i, NULL, NULL, y, NULL);
		assert_memory_equal(x, y, sizeof(x));
		assert_int_equal(dataset_label(d1, SPLIT_TRAIN, i),
				 dataset_label(d2, SPLIT_TRAIN, i));
	}
	/* Another label for one image is another snapshot; so is one image more. */
	assert_int_equal(rename(at(two, "a/x9"), at(two, "b/x0")), 0);
	assert_true(rescan(d2));
	dataset_snapshot(d2, SPLIT_TRAIN, b);
	assert_string_not_equal(a, b);
	put_pgm(one, "a/new.pgm", 77);
	assert_true(rescan(d1));
	dataset_snapshot(d1, SPLIT_TRAIN, b);
	assert_string_not_equal(a, b);
	dataset_free(d1);
	dataset_free(d2);
}

static void t10k_is_the_test_split(void **state)
{
	put_idx(*state, "train", 100, 0);
	put_idx(*state, "t10k", 30, 500);
	struct dataset_conf c = conf_of(*state);
	c.test_share = 0.4;
	c.validation_share = 0.2;
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_TEST), 30);
	assert_true(holds(d, SPLIT_TEST, 529));
	assert_int_equal(total(d), 130);
	assert_in_range(dataset_count(d, SPLIT_VALIDATION), 8, 35);
	dataset_free(d);
	/* limit counts the images that are trained and validated on. */
	c.limit = 40;
	d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_TEST), 30);
	assert_int_equal(total(d), 70);
	dataset_free(d);
	/* Only t10k: a set to test on. */
	unlink(at(*state, "train-images-idx3-ubyte"));
	unlink(at(*state, "train-labels-idx1-ubyte"));
	d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_TEST), 30);
	assert_int_equal(total(d), 30);
	dataset_free(d);
}

static void given_folders(void **state)
{
	char train[FILE_PATH_MAX], test[FILE_PATH_MAX], validation[FILE_PATH_MAX];
	snprintf(train, sizeof(train), "%s", at(*state, "train"));
	snprintf(test, sizeof(test), "%s", at(*state, "test"));
	snprintf(validation, sizeof(validation), "%s", at(*state, "validation"));
	put_idx(train, "train", 50, 0);
	put_idx(train, "t10k", 20, 300);
	put_idx(test, "t10k", 10, 500);
	put_classes(validation, 4);
	struct dataset_conf c = conf_of(train);
	c.test_share = c.validation_share = 0.4; /* both count as 0 */
	snprintf(c.test_path, sizeof(c.test_path), "%s", test);
	snprintf(c.validation_path, sizeof(c.validation_path), "%s", validation);
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_TRAIN), 50);
	assert_int_equal(dataset_count(d, SPLIT_TEST), 10);
	assert_int_equal(dataset_count(d, SPLIT_VALIDATION), 12);
	assert_true(holds(d, SPLIT_TEST, 500));
	assert_false(holds(d, SPLIT_TEST, 300)); /* its own t10k files are not read then */
	/* A given folder grows like any other. */
	put_classes(validation, 5);
	assert_true(rescan(d));
	assert_int_equal(dataset_count(d, SPLIT_VALIDATION), 15);
	assert_int_equal(dataset_count(d, SPLIT_TRAIN), 50);
	dataset_free(d);
	/* t10k goes before train in a given folder. */
	snprintf(c.test_path, sizeof(c.test_path), "%s", train);
	d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_TEST), 20);
	dataset_free(d);
	/* Nothing to train on beside a given test folder. */
	snprintf(c.path, sizeof(c.path), "%s", test);
	open_fails(&c, -ENOENT, "t10k files only");
	snprintf(c.path, sizeof(c.path), "%s", train);
	snprintf(c.test_path, sizeof(c.test_path), "%s", at(*state, "none"));
	open_fails(&c, -ENOENT, "none");
}

static void idx_errors_name_the_file(void **state)
{
	put_idx(*state, "train", 10, 0);
	struct dataset_conf c = conf_of(*state);
	uint8_t labels[18] = {0, 0, 8, 1, 0, 0, 0, 10, 0, 1, 2, 3};
	put(*state, "train-labels-idx1-ubyte", labels, sizeof(labels));
	open_fails(&c, -EINVAL, "train-labels-idx1-ubyte: label 3 of image 3");
	labels[7] = 9;
	put(*state, "train-labels-idx1-ubyte", labels, 17);
	open_fails(&c, -EBADMSG, "9 labels, but 10 images");
	unlink(at(*state, "train-labels-idx1-ubyte"));
	open_fails(&c, -ENOENT, "no train-labels-idx1-ubyte");
}

static void folder_errors_name_the_folder(void **state)
{
	struct dataset_conf c = conf_of(*state);
	open_fails(&c, -EINVAL, "no data set");
	put_classes(*state, 2);
	unlink(at(*state, "b/0000.pgm"));
	unlink(at(*state, "b/0001.pgm"));
	open_fails(&c, -ENODATA, "/b: class folder without an image");
	put(*state, "b/.hidden.pgm", "P5", 2);
	put_pgm(*state, "b/sub/1.pgm", 5);
	open_fails(&c, -ENODATA, "/b: class folder without an image");
	put(*state, "b/1.png", "\x89PNG\r\n\x1a\n", 8);
	put(*state, "b/2.txt", "text", 4);
	open_fails(&c, -ENODATA, "/b: class folder without a readable image (2 files)");
	assert_int_equal(file_remove(at(*state, "b"), NULL), 0);
	dataset_free(open_ok(&c)); /* a class without a folder is fine */
	put_pgm(*state, "stranger/1.pgm", 9);
	open_fails(&c, -EINVAL, "stranger: class folder is not in the class list");
}

static void unreadable_images_are_skipped_and_named(void **state)
{
	put_classes(*state, 2);
	put(*state, "a/broken.jpg", "\xff\xd8\xff\xe0", 4);
	put(*state, "c/notes.txt", "hello", 5);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	assert_int_equal(total(d), 6);
	assert_int_equal(dataset_skipped(d), 2);
	assert_has(dataset_skipped_name(d, 0), "a/broken.jpg: ");
	assert_has(dataset_skipped_name(d, 1), "c/notes.txt: unknown format");
	assert_null(dataset_skipped_name(d, 2));
	put_pgm(*state, "a/new.pgm", 500);
	assert_true(rescan(d)); /* still skipped, still named */
	assert_int_equal(dataset_skipped(d), 2);
	assert_has(dataset_skipped_name(d, 0), "a/broken.jpg: ");
	for (unsigned i = 0; i < DATASET_SKIPPED_NAMED; i++) {
		char name[32];
		snprintf(name, sizeof(name), "b/%u.txt", i);
		put(*state, name, "x", 1);
	}
	assert_true(rescan(d));
	assert_int_equal(dataset_skipped(d), DATASET_SKIPPED_NAMED + 2);
	assert_non_null(dataset_skipped_name(d, DATASET_SKIPPED_NAMED - 1));
	assert_null(dataset_skipped_name(d, DATASET_SKIPPED_NAMED));
	dataset_free(d);
}

static void links_and_other_things(void **state)
{
	put_classes(*state, 1);
	put_pgm(*state, "elsewhere.pgm", 300);
	assert_int_equal(symlink("../elsewhere.pgm", at(*state, "a/link.pgm")), 0);
	assert_int_equal(symlink("nowhere", at(*state, "a/dangling.pgm")), 0);
	assert_int_equal(symlink("loop", at(*state, "a/loop")), 0);
	assert_int_equal(mkfifo(at(*state, "a/pipe"), 0600), 0);
	put_pgm(*state, "a/sub/1.pgm", 400);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	assert_int_equal(total(d), 4);
	assert_true(holds(d, SPLIT_TRAIN, 300));
	assert_int_equal(dataset_skipped(d), 0);
	assert_int_equal(dataset_classes(d), 3);
	assert_string_equal(dataset_class_name(d, 1), "b");
	assert_null(dataset_class_name(d, 3));
	dataset_free(d);
}

static void rescan_sees_what_came_went_and_changed(void **state)
{
	put_classes(*state, 3);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	assert_false(rescan(d));
	put_pgm(*state, "b/new.pgm", 42);
	assert_true(rescan(d));
	assert_true(holds(d, SPLIT_TRAIN, 42));
	assert_false(rescan(d));
	put_pgm(*state, "b/new.pgm", 43); /* same size */
	assert_true(rescan(d));
	assert_true(holds(d, SPLIT_TRAIN, 43));
	assert_false(holds(d, SPLIT_TRAIN, 42));
	put_pgm(*state, "b/new.pgm", 43); /* written anew, but the same */
	assert_false(rescan(d));
	unlink(at(*state, "b/new.pgm"));
	assert_true(rescan(d));
	assert_int_equal(total(d), 9);
	usleep(1000 * (STAMP_YOUNG_MS + 50)); /* from here on files are known by their stamps */
	assert_false(rescan(d));
	assert_int_equal(chmod(at(*state, "a/0000.pgm"), 0600), 0);
	assert_false(rescan(d));
	usleep(1000 * (STAMP_YOUNG_MS + 50));
	put_pgm(*state, "a/0000.pgm", 44);
	assert_true(rescan(d));
	assert_int_equal(file_remove(at(*state, "c"), NULL), 0);
	assert_true(rescan(d));
	assert_int_equal(total(d), 6);
	dataset_free(d);
}

static void file_still_being_written_is_picked_up_later(void **state)
{
	uint8_t px[SIDE * SIDE];
	picture(1, px);
	struct bytes b = make_jpeg(px, SIDE, SIDE, 1, 0);
	put_classes(*state, 1);
	put(*state, "a/camera.jpg", b.data, b.len - 20);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_skipped(d), 1);
	assert_has(dataset_skipped_name(d, 0), "camera.jpg: damaged or truncated JPEG");
	put(*state, "a/camera.jpg", b.data, b.len);
	assert_true(rescan(d));
	assert_int_equal(dataset_skipped(d), 0);
	assert_int_equal(total(d), 4);
	bytes_done(&b);
	dataset_free(d);
}

static void failed_rescan_changes_nothing(void **state)
{
	char before[HASH_SIZE], after[HASH_SIZE];
	put_classes(*state, 3);
	put(*state, "a/x.txt", "x", 1);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	dataset_snapshot(d, SPLIT_TRAIN, before);
	put_pgm(*state, "a/new.pgm", 42);
	put_pgm(*state, "stranger/1.pgm", 43);
	bool changed = true;
	struct err err = {0};
	assert_int_equal(dataset_rescan(d, &changed, &err), -EINVAL);
	assert_has(err.text, "stranger");
	/* Fails after images were read. */
	assert_int_equal(file_remove(at(*state, "stranger"), NULL), 0);
	assert_int_equal(file_remove(at(*state, "c"), NULL), 0);
	put(*state, "c/broken.png", "x", 1);
	assert_int_equal(dataset_rescan(d, &changed, &err), -ENODATA);
	dataset_snapshot(d, SPLIT_TRAIN, after);
	assert_string_equal(before, after);
	assert_true(holds(d, SPLIT_TRAIN, 2001));
	assert_has(dataset_skipped_name(d, 0), "x.txt");
	put_pgm(*state, "c/good.pgm", 44);
	assert_true(rescan(d));
	assert_int_equal(total(d), 8);
	dataset_free(d);
}

static void idx_rescan(void **state)
{
	put_idx(*state, "train", 10, 0);
	struct dataset_conf c = conf_of(*state);
	struct dataset *d = open_ok(&c);
	assert_false(rescan(d));
	put_idx(*state, "train", 12, 0);
	assert_true(rescan(d));
	assert_int_equal(total(d), 12);
	put_idx(*state, "t10k", 4, 50); /* the pixels of train-* are kept, t10k-* is new */
	assert_true(rescan(d));
	assert_int_equal(dataset_count(d, SPLIT_TEST), 4);
	assert_int_equal(dataset_count(d, SPLIT_TRAIN), 12);
	dataset_free(d);
}

static void limit_is_a_stable_choice(void **state)
{
	put_classes(*state, 30);
	struct dataset_conf c = conf_of(*state);
	c.validation_share = c.test_share = 0.25;
	struct dataset *all = open_ok(&c);
	c.limit = 45;
	struct dataset *some = open_ok(&c);
	assert_int_equal(total(some), 45);
	assert_in_range(dataset_count(some, SPLIT_TRAIN), 12, 33); /* not one side only */
	c.limit = 20;
	struct dataset *few = open_ok(&c);
	assert_int_equal(total(few), 20);
	for (unsigned i = 0; i < 90; i++) {
		unsigned n = 1000 * (i / 30) + i % 30;
		if (where(few, n) != SPLIT_N)
			assert_int_equal(where(few, n), where(some, n));
		if (where(some, n) != SPLIT_N)
			assert_int_equal(where(some, n), where(all, n));
	}
	dataset_free(all);
	dataset_free(some);
	dataset_free(few);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

/* A folder that is never shared: a split of its own, which takes nothing from the others' trainings
 * and scores. */
static void staying(void **state)
{
	char stay[FILE_PATH_MAX];
	snprintf(stay, sizeof(stay), "%s", at(*state, "s"));
	struct dataset_conf c = conf_of(at(*state, "d"));
	put_classes(c.path, 20);
	c.validation_share = 0.3;
	c.test_share = 0.2;
	struct dataset *alone = open_ok(&c);
	char before[SPLIT_N][HASH_SIZE], after[HASH_SIZE];
	for (enum split s = 0; s < SPLIT_N; s++)
		dataset_snapshot(alone, s, before[s]);
	put_pgm(stay, "a/1.pgm", 7001);
	put_pgm(stay, "c/2.pgm", 7002);
	snprintf(c.stay_path, sizeof(c.stay_path), "%s", stay);
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_count(alone, SPLIT_STAY), 0);
	assert_int_equal(dataset_count(d, SPLIT_STAY), 2);
	assert_true(holds(d, SPLIT_STAY, 7001) && holds(d, SPLIT_STAY, 7002));
	assert_int_equal(where(d, 7001), SPLIT_N);
	for (enum split s = 0; s < SPLIT_N; s++) {
		dataset_snapshot(d, s, after);
		assert_string_equal(after, before[s]);
	}
	/* Images that are in both: of training they leave `path`, of scores the folder. */
	unsigned n_both[SPLIT_N] = {0}, n_train = dataset_count(d, SPLIT_TRAIN);
	for (unsigned n = 0; n < 20; n++) {
		char name[32];
		snprintf(name, sizeof(name), "b/%u.pgm", n); /* of another class there: the same */
		put_pgm(stay, name, 2000 + n);
		n_both[where(alone, 2000 + n)]++;
	}
	assert_true(n_both[SPLIT_TRAIN] && n_both[SPLIT_VALIDATION] && n_both[SPLIT_TEST]);
	assert_true(rescan(d));
	assert_int_equal(dataset_count(d, SPLIT_STAY), 2 + n_both[SPLIT_TRAIN]);
	assert_int_equal(dataset_count(d, SPLIT_TRAIN), n_train - n_both[SPLIT_TRAIN]);
	for (unsigned n = 2000; n < 2020; n++) {
		enum split was = where(alone, n);
		assert_int_equal(where(d, n), was == SPLIT_TRAIN ? SPLIT_N : was);
		assert_int_equal(holds(d, SPLIT_STAY, n), was == SPLIT_TRAIN);
	}
	assert_false(rescan(d));
	dataset_free(d);
	dataset_free(alone);
	put_pgm(stay, "unknown/1.pgm", 5);
	open_fails(&c, -EINVAL, "s/unknown: class folder is not in the class list");
	put_idx(stay, "t10k", 5, 0);
	open_fails(&c, -ENOENT, "s: has t10k files only");
	put_idx(stay, "train", 5, 8000);
	d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_STAY), 5);
	dataset_free(d);
}

static void classes_appended(void **state)
{
	struct classes c = {0}, more = {(char *[]){"x", "y"}, 2}, both = {(char *[]){"z", "b"}, 2};
	struct err err = {0};
	put(*state, "classes.txt", "a\nb", 3);
	assert_int_equal(classes_load(at(*state, "classes.txt"), &c, NULL), 0);
	assert_int_equal(classes_append(&c, &more, "more.txt", &err), 0);
	assert_int_equal(c.n, 4);
	assert_string_equal(c.names[1], "b");
	assert_string_equal(c.names[3], "y");
	assert_int_equal(classes_append(&c, &both, "more.txt", &err), -EINVAL);
	assert_has(err.text, "more.txt: 'b' is in the public class list, too");
	classes_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_of_splits),
		TEST(class_lists),
		TEST(class_list_limit),
		TEST(classes_of_data),
		TEST(bad_conf),
		TEST(split_follows_the_documented_hash),
		TEST(split_stays_as_data_grows),
		TEST(snapshot_names_images_not_files),
		TEST(t10k_is_the_test_split),
		TEST(given_folders),
		TEST(idx_errors_name_the_file),
		TEST(folder_errors_name_the_folder),
		TEST(unreadable_images_are_skipped_and_named),
		TEST(links_and_other_things),
		TEST(rescan_sees_what_came_went_and_changed),
		TEST(file_still_being_written_is_picked_up_later),
		TEST(failed_rescan_changes_nothing),
		TEST(idx_rescan),
		TEST(limit_is_a_stable_choice),
		TEST(staying),
		TEST(classes_appended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
