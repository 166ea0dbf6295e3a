/* The same code on MNIST and on faces, where they are: $TASUKI_DATA, or ../shared/data beside the
 * source (meson gives TASUKI_SOURCE). Exit 77, 'skipped', without them; on CI that is a failure. */
#include "data_util.h"

#include <errno.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/dataset/dataset.h"

static char root[FILE_PATH_MAX];

static struct dataset_conf conf_of(const char *name)
{
	struct dataset_conf c = {.width = 28, .height = 28, .channels = 1, .seed = 1};
	assert_int_equal(file_path(c.path, sizeof(c.path), "%s/%s", root, name), 0);
	return c;
}

static struct dataset *open_ok(const struct dataset_conf *c)
{
	struct classes classes = {0};
	struct dataset *d = NULL;
	struct err err = {0};
	int64_t begin = clock_mono_ms();
	if (classes_from_data(c->path, &classes, &err) < 0 ||
	    dataset_open(c, &classes, &d, &err) < 0)
		fail_msg("%s", err.text);
	print_message("%s: %d ms\n", c->path, (int)(clock_mono_ms() - begin));
	classes_done(&classes);
	return d;
}

static void mnist(void **state)
{
	struct dataset_conf c = conf_of("mnist");
	c.validation_share = 0.1;
	c.test_share = 0.5; /* not used: there are t10k files */
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_count(d, SPLIT_TEST), 10000);
	assert_int_equal(dataset_count(d, SPLIT_TRAIN) + dataset_count(d, SPLIT_VALIDATION), 60000);
	assert_in_range(dataset_count(d, SPLIT_VALIDATION), 5700, 6300);
	assert_int_equal(dataset_classes(d), 10);
	assert_int_equal(dataset_skipped(d), 0);
	/* The published counts of the test labels. */
	const uint32_t published[10] = {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009};
	uint32_t counts[10] = {0};
	for (uint32_t i = 0; i < 10000; i++)
		counts[dataset_label(d, SPLIT_TEST, i)]++;
	assert_memory_equal(counts, published, sizeof(counts));
	/* And the mean of all training pixels, 0.1307. */
	double sum = 0;
	float px[28 * 28];
	for (enum split s = SPLIT_TRAIN; s <= SPLIT_VALIDATION; s++)
		for (uint32_t i = 0; i < dataset_count(d, s); i++) {
			dataset_pixels(d, s, i, NULL, NULL, px, NULL);
			for (int k = 0; k < 28 * 28; k++)
				sum += px[k];
		}
	assert_in_range(sum / (60000.0 * 28 * 28) * 1e5, 13060, 13070);
	dataset_free(d);
}

static void faces(void **state)
{
	struct dataset_conf c = conf_of("lfw");
	c.width = c.height = 64;
	c.channels = 3;
	c.center_crop = 120;
	c.test_share = 0.2;
	struct dataset *d = open_ok(&c);
	assert_int_equal(dataset_classes(d), 33);
	assert_int_equal(dataset_skipped(d), 0);
	assert_int_equal(dataset_count(d, SPLIT_TRAIN) + dataset_count(d, SPLIT_TEST), 989);
	assert_in_range(dataset_count(d, SPLIT_TEST), 150, 250);
	assert_string_equal(dataset_class_name(d, 32), "Vladimir_Putin");
	bool changed = true;
	assert_int_equal(dataset_rescan(d, &changed, NULL), 0);
	assert_false(changed);
	static float px[3 * 64 * 64];
	const struct augment a = {.shift_px = 4, .flip = true, .blur = 1, .brightness = 0.2};
	struct rng rng;
	rng_init(&rng, 1);
	int64_t begin = clock_mono_ms();
	double sum = 0;
	for (uint32_t i = 0; i < 700; i++) {
		dataset_pixels(d, SPLIT_TRAIN, i, &a, &rng, px, NULL);
		sum += px[2016];
	}
	print_message("700 augmented images: %d ms\n", (int)(clock_mono_ms() - begin));
	assert_in_range(sum / 700 * 100, 20, 80); /* skin */
	dataset_free(d);
}

static bool find_root(void)
{
	const char *data = getenv("TASUKI_DATA"), *source = getenv("TASUKI_SOURCE");
	if (data && *data)
		snprintf(root, sizeof(root), "%s", data);
	else
		snprintf(root, sizeof(root), "%s/../shared/data", source && *source ? source : ".");
	return file_exists(at(root, "mnist")) && file_exists(at(root, "lfw"));
}

int main(void)
{
	if (!find_root()) {
		const char *ci = getenv("CI");
		bool must = ci && !strcmp(ci, "true");
		fprintf(stderr, "%s: no folder mnist or lfw in it (set TASUKI_DATA)%s\n", root,
			must ? ", and CI=true allows no skipping" : "");
		return must ? 1 : 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mnist),
		cmocka_unit_test(faces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
