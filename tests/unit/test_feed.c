/* What the feed's thread makes ahead is, bit for bit, what is computed here one by one. */
#include "dataset_util.h"

#include <errno.h>
#include <pthread.h>

#include "common/engine/feed.h"

#define BATCH 4

static const struct augment all_on = {.shift_px = 2, .flip = true, .blur = 0.8, .brightness = 0.3};

/* ---- the same by other means: see course.h ---- */

struct serial {
	const struct dataset *d;
	const struct feed_conf *conf;
	uint64_t epoch, at;
	uint32_t *order, n;
};

static void serial_init(struct serial *s, const struct dataset *d, const struct feed_conf *conf)
{
	*s = (struct serial){.d = d,
			     .conf = conf,
			     .epoch = conf->course.epoch,
			     .at = conf->course.at,
			     .n = dataset_count(d, conf->split) * conf->course.fold};
	s->order = malloc(s->n * sizeof(*s->order));
	dataset_order(conf->course.seed, s->epoch, s->n, s->order);
}

static void serial_image(struct serial *s, uint32_t place, float *out, uint32_t *label)
{
	uint32_t images = dataset_count(s->d, s->conf->split), i = s->order[place % s->n];
	const uint64_t parts[] = {s->epoch, i % images, i / images};
	struct rng rng = {s->conf->course.seed};
	for (int k = 0; k < 3; k++)
		rng.state = rng_u64(&rng) ^ parts[k];
	rng.state = rng_u64(&rng);
	const struct augment *a = i / images ? &s->conf->augment : NULL;
	assert_int_equal(dataset_pixels(s->d, s->conf->split, i % images, a, &rng, out, NULL), 0);
	*label = dataset_label(s->d, s->conf->split, i % images);
}

/* The next batch is what `b` is. */
static void serial_check(struct serial *s, const struct feed_batch *b)
{
	float px[PX];
	uint32_t label;
	assert_int_equal(b->n, BATCH);
	assert_int_equal(b->replaced, 0);
	for (uint32_t slot = 0; slot < BATCH; slot++) {
		serial_image(s, (uint32_t)s->at++, px, &label);
		assert_memory_equal(px, b->pixels + slot * PX, sizeof(px));
		assert_int_equal(label, b->labels[slot]);
	}
	bool ends = s->at >= s->n && s->at % s->conf->course.step_images == 0;
	assert_int_equal(b->at, s->at);
	assert_int_equal(b->ends_epoch, ends);
	if (ends) {
		s->at = 0;
		dataset_order(s->conf->course.seed, ++s->epoch, s->n, s->order);
	}
}

/* ---- rig ---- */

static struct feed *feed_ok(const struct feed_conf *conf)
{
	struct feed *f = NULL;
	struct err err = {0};
	if (feed_new(conf, &f, &err) < 0)
		fail_msg("%s", err.text);
	return f;
}

static const struct feed_batch *next_ok(struct feed *f)
{
	const struct feed_batch *b = NULL;
	struct err err = {0};
	if (feed_next(f, &b, &err) < 0)
		fail_msg("%s", err.text);
	return b;
}

static struct feed_conf training_of(const struct dataset *d, uint32_t fold)
{
	return (struct feed_conf){
		.data = d,
		.split = SPLIT_TRAIN,
		.augment = all_on,
		.batch = BATCH,
		.course = {.seed = 5, .epoch = 3, .fold = fold, .step_images = 2 * BATCH},
	};
}

/* memory: how many images are held, about; -1: all. */
static struct dataset *open_held(const char *dir, int memory)
{
	struct dataset_conf c = conf_of(dir);
	c.memory_max_bytes = memory < 0 ? 0 : (uint64_t)memory * (PX + 40) + 1;
	struct dataset *d = open_ok(&c);
	if (memory == 0)
		assert_int_equal(dataset_held(d), 0);
	else if (memory > 0)
		assert_in_range(dataset_held(d), 1, dataset_count(d, SPLIT_TRAIN) - 1);
	return d;
}

/* `n` batches are the same, taken at an uneven pace. */
static void check_batches(struct feed *f, struct serial *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (i % 5 == 3)
			usleep(2000);
		serial_check(s, next_ok(f));
	}
}

static void check_training(const char *dir, int memory, uint32_t fold)
{
	struct dataset *d = open_held(dir, memory);
	struct feed_conf conf = training_of(d, fold);
	struct feed *f = feed_ok(&conf);
	struct serial s;
	serial_init(&s, d, &conf);
	assert_true(s.n % (2 * BATCH) != 0); /* the last step is filled up */
	check_batches(f, &s, 3 * (s.n / (2 * BATCH) + 1) * 2 + 1);
	assert_int_equal(s.epoch, 6);
	feed_free(f);
	free(s.order);
	dataset_free(d);
}

static void the_same_one_by_one(void **state)
{
	char idx[FILE_PATH_MAX], folder[FILE_PATH_MAX];
	snprintf(idx, sizeof(idx), "%s", at(*state, "idx"));
	snprintf(folder, sizeof(folder), "%s", at(*state, "folder"));
	put_idx(idx, "train", 37, 0);
	put_classes(folder, 7);
	const int memory[] = {-1, 10, 0};
	for (size_t i = 0; i < ARRAY_LEN(memory); i++)
		for (uint32_t fold = 1; fold <= 3; fold += 2) {
			check_training(idx, memory[i], fold);
			check_training(folder, memory[i], fold);
		}
}

static void smaller_than_a_batch(void **state)
{
	put_idx(*state, "train", 3, 0);
	check_training(*state, -1, 1);
	check_training(*state, 0, 1);
}

/* What a memory limit changes is not the numbers. */
static void memory_limit_changes_nothing(void **state)
{
	put_classes(*state, 9);
	struct dataset *d[2] = {open_held(*state, -1), open_held(*state, 5)};
	struct feed_conf conf[2] = {training_of(d[0], 2), training_of(d[1], 2)};
	struct feed *f[2] = {feed_ok(&conf[0]), feed_ok(&conf[1])};
	for (int i = 0; i < 40; i++) {
		const struct feed_batch *a = next_ok(f[0]), *b = next_ok(f[1]);
		assert_memory_equal(a->pixels, b->pixels, BATCH * PX * sizeof(float));
		assert_memory_equal(a->labels, b->labels, BATCH * sizeof(*a->labels));
	}
	for (int i = 0; i < 2; i++) {
		feed_free(f[i]);
		dataset_free(d[i]);
	}
}

static void goes_on_from_any_place(void **state)
{
	put_idx(*state, "train", 21, 0);
	struct dataset *d = open_held(*state, -1);
	struct feed_conf conf = training_of(d, 2);
	struct serial s;
	serial_init(&s, d, &conf);
	for (unsigned i = 0; i < 30; i++) { /* a feed of its own for each batch */
		conf.course.epoch = s.epoch;
		conf.course.at = s.at;
		struct feed *f = feed_ok(&conf);
		check_batches(f, &s, 1);
		feed_free(f);
	}
	assert_true(s.epoch >= 5);
	free(s.order);
	dataset_free(d);
}

static void rescan_in_mid_epoch(void **state)
{
	const int memory[] = {-1, 4};
	for (size_t i = 0; i < ARRAY_LEN(memory); i++) {
		file_remove(*state, NULL);
		put_classes(*state, 6);
		struct dataset *d = open_held(*state, memory[i]);
		struct feed_conf conf = training_of(d, 2);
		struct serial s;
		serial_init(&s, d, &conf);
		const unsigned sizes[] = {8, 12, 3, 5}; /* growing, and shrinking below the place */
		for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
			struct feed *f = feed_ok(&conf);
			check_batches(f, &s, 5);
			feed_free(f);
			bool changed = false;
			file_remove(*state, NULL);
			put_classes(*state, sizes[k]);
			assert_int_equal(dataset_rescan(d, &changed, NULL), 0);
			assert_true(changed);
			conf.course.epoch = s.epoch;
			conf.course.at = s.at;
			free(s.order);
			serial_init(&s, d, &conf);
		}
		struct feed *f = feed_ok(&conf);
		check_batches(f, &s, 20);
		feed_free(f);
		free(s.order);
		dataset_free(d);
	}
}

static void evaluation(void **state)
{
	put_classes(*state, 7);
	for (int memory = -1; memory < 10; memory += 5) {
		struct dataset *d = open_held(*state, memory);
		struct feed_conf conf = {.data = d, .split = SPLIT_TRAIN, .batch = 8};
		struct feed *f = feed_ok(&conf);
		const float black[PX] = {0};
		float px[PX];
		for (uint32_t image = 0; image < 21;) {
			const struct feed_batch *b = next_ok(f);
			assert_int_equal(b->n, MIN_OF(8, 21 - image));
			for (uint32_t slot = 0; slot < b->n; slot++, image++) {
				dataset_pixels(d, SPLIT_TRAIN, image, NULL, NULL, px, NULL);
				assert_memory_equal(px, b->pixels + slot * PX, sizeof(px));
				assert_int_equal(b->labels[slot],
						 dataset_label(d, SPLIT_TRAIN, image));
			}
			for (uint32_t slot = b->n; slot < 8; slot++)
				assert_memory_equal(black, b->pixels + slot * PX, sizeof(px));
		}
		const struct feed_batch *b = NULL;
		for (int i = 0; i < 2; i++)
			assert_int_equal(feed_next(f, &b, NULL), -ENODATA);
		feed_free(f);
		conf.split = SPLIT_TEST; /* there are none */
		assert_int_equal(feed_new(&conf, &f, NULL), -ENODATA);
		dataset_free(d);
	}
}

/* An epoch of a training that stays visits each image of both splits `fold` times. */
static void images_that_stay(void **state)
{
	enum { N = 9, STAY = 4, FOLD = 2 };
	char stay[FILE_PATH_MAX];
	snprintf(stay, sizeof(stay), "%s", at(*state, "stay"));
	put_idx(at(*state, "d"), "train", N, 0);
	put_idx(stay, "train", STAY, 100);
	for (int memory = -1; memory < 1; memory++) {
		struct dataset_conf c = conf_of(at(*state, "d"));
		snprintf(c.stay_path, sizeof(c.stay_path), "%s", stay);
		c.memory_max_bytes = memory < 0 ? 0 : 1;
		struct dataset *d = open_ok(&c);
		struct feed_conf conf = training_of(d, FOLD);
		unsigned seen[N + STAY] = {0};
		conf.stay = true;
		conf.augment = (struct augment){0};
		conf.course.step_images = conf.batch = 2; /* fills an epoch exactly */
		struct feed *f = feed_ok(&conf);
		for (bool ends = false; !ends;) {
			const struct feed_batch *b = next_ok(f);
			for (uint32_t slot = 0; slot < b->n; slot++)
				for (unsigned i = 0; i < N + STAY; i++) {
					uint8_t px[PX];
					picture(i < N ? i : 100 + i - N, px);
					bool same = true;
					for (int k = 0; k < PX; k++)
						same &= b->pixels[slot * PX + k] ==
							(float)px[k] / 255.0f;
					seen[i] += same;
					if (same)
						assert_int_equal(b->labels[slot],
								 (i < N ? i : i - N) % 3);
				}
			ends = b->ends_epoch;
		}
		for (unsigned i = 0; i < N + STAY; i++)
			assert_int_equal(seen[i], FOLD);
		feed_free(f);
		dataset_free(d);
	}
}

static void no_more_epochs_than_asked_for(void **state)
{
	put_idx(*state, "train", 10, 0);
	struct dataset *d = open_held(*state, -1);
	struct feed_conf conf = training_of(d, 1);
	conf.epochs = 2;
	struct feed *f = feed_ok(&conf);
	struct serial s;
	serial_init(&s, d, &conf);
	check_batches(f, &s, 8); /* 2 x 16 images */
	assert_int_equal(s.epoch, 5);
	const struct feed_batch *b = NULL;
	assert_int_equal(feed_next(f, &b, NULL), -ENODATA);
	feed_free(f);
	free(s.order);
	dataset_free(d);
}

/* ---- what goes wrong ---- */

/* The image in place k of an epoch, in the order of its feed. */
static uint32_t image_at(const struct serial *s, uint32_t k)
{
	return s->order[k % s->n] % dataset_count(s->d, SPLIT_TRAIN);
}

/* Name of the file of a picture, found by its pixels. */
static void name_of(const struct dataset *d, uint32_t image, char name[32])
{
	float px[PX];
	uint8_t known[PX];
	assert_int_equal(dataset_pixels(d, SPLIT_TRAIN, image, NULL, NULL, px, NULL), 0);
	for (unsigned n = 0; n < 3000; n++) {
		bool same = true;
		picture(n, known);
		for (int i = 0; i < PX; i++)
			same &= px[i] == (float)known[i] / 255.0f;
		if (same) {
			snprintf(name, 32, "%c/%04u.pgm", 'a' + n / 1000, n % 1000);
			return;
		}
	}
	fail();
}

static void gone_images_are_replaced(void **state)
{
	for (int changed = 0; changed < 2; changed++) {
		put_classes(*state, 5);
		struct dataset *d = open_held(*state, 0);
		struct feed_conf conf = training_of(d, 1);
		struct serial s;
		char name[2][32];
		float px[PX];
		uint32_t label;
		serial_init(&s, d, &conf);
		name_of(d, image_at(&s, 1), name[0]);
		name_of(d, image_at(&s, 2), name[1]);
		if (changed) {
			put_pgm(*state, name[0], 777);
			put(*state, name[1], "P5 6 6 255\n", 11);
		} else {
			assert_int_equal(unlink(at(*state, name[0])), 0);
			assert_int_equal(unlink(at(*state, name[1])), 0);
		}
		struct feed *f = feed_ok(&conf);
		const struct feed_batch *b = next_ok(f);
		assert_int_equal(b->n, BATCH);
		assert_int_equal(b->replaced, 2);
		assert_has(b->fault.text, name[0]);
		assert_has(b->fault.text, changed ? "has changed" : "No such file");
		const uint32_t expected[] = {0, 3, 3, 3};
		for (uint32_t slot = 0; slot < BATCH; slot++) {
			serial_image(&s, expected[slot], px, &label);
			assert_memory_equal(px, b->pixels + slot * PX, sizeof(px));
			assert_int_equal(label, b->labels[slot]);
		}
		assert_int_equal(next_ok(f)->replaced, 0);
		feed_free(f);
		/* A score is of all images or of none. */
		conf = (struct feed_conf){.data = d, .split = SPLIT_TRAIN, .batch = 15};
		struct err err = {0};
		f = feed_ok(&conf);
		assert_int_equal(feed_next(f, &b, &err), -ESTALE);
		assert_true(strstr(err.text, name[0]) || strstr(err.text, name[1]));
		feed_free(f);
		free(s.order);
		dataset_free(d);
	}
}

static void nothing_left_is_an_error(void **state)
{
	put_classes(*state, 40);
	struct dataset *d = open_held(*state, 0);
	struct feed_conf conf = training_of(d, 1);
	struct feed *f = feed_ok(&conf);
	const struct feed_batch *b;
	next_ok(f);
	assert_int_equal(file_remove(*state, NULL), 0);
	int r = 0;
	struct err err = {0};
	for (int i = 0; i < FEED_BATCHES + 2 && r == 0; i++)
		r = feed_next(f, &b, &err); /* those made before are still there */
	assert_int_equal(r, -ESTALE);
	assert_has(err.text, ".pgm: No such file");
	assert_has(err.text, "nor can the 63 images after it");
	assert_int_equal(feed_next(f, &b, &err), -ESTALE);
	feed_free(f);
	dataset_free(d);
}

/* pthread_create, as the linker puts it before the library's. */
static bool no_threads;
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *user);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *user);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *user)
{
	return no_threads ? EAGAIN : __real_pthread_create(t, a, f, user);
}

static void no_thread_to_be_had(void **state)
{
	put_idx(*state, "train", 10, 0);
	struct dataset *d = open_held(*state, -1);
	struct feed_conf conf = training_of(d, 1);
	struct feed *f = NULL;
	struct err err = {0};
	no_threads = true;
	assert_int_equal(feed_new(&conf, &f, &err), -EAGAIN);
	no_threads = false;
	assert_has(err.text, "no thread");
	assert_null(f);
	dataset_free(d);
}

static void freed_at_any_moment(void **state)
{
	put_classes(*state, 5);
	struct dataset *d = open_held(*state, 7);
	struct feed_conf conf = training_of(d, 3);
	for (unsigned i = 0; i < 60; i++) {
		struct feed *f = feed_ok(&conf);
		usleep(i % 7 * 30);
		for (unsigned k = 0; k < i % 4; k++)
			next_ok(f);
		feed_free(f);
	}
	feed_free(NULL);
	dataset_free(d);
}

/* Others may look at the data meanwhile. */
static void read_by_two_threads(void **state)
{
	put_classes(*state, 5);
	struct dataset *d = open_held(*state, 7);
	struct feed_conf conf = training_of(d, 3);
	struct feed *f = feed_ok(&conf);
	struct serial s;
	serial_init(&s, d, &conf);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(
			dataset_sheet(d, SPLIT_TRAIN, 3, 3, at(*state, ".sheet.png"), NULL), 0);
		check_batches(f, &s, 1);
	}
	feed_free(f);
	free(s.order);
	dataset_free(d);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_same_one_by_one),           TEST(smaller_than_a_batch),
		TEST(memory_limit_changes_nothing),  TEST(goes_on_from_any_place),
		TEST(rescan_in_mid_epoch),           TEST(evaluation),
		TEST(no_more_epochs_than_asked_for), TEST(gone_images_are_replaced),
		TEST(nothing_left_is_an_error),      TEST(no_thread_to_be_had),
		TEST(freed_at_any_moment),           TEST(read_by_two_threads),
		TEST(images_that_stay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
