/* How many images a second the feed makes, with nobody training: its cost to whoever trains beside
 * it. Processor time counts what thread and taker spend for an image.
 *
 *   feed_speed                              noise of 28x28x1 and 64x64x3
 *   feed_speed DIR SIDE CHANNELS CROP       a data set */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/dataset/idx.h"
#include "common/engine/feed.h"

#define BATCH       64
#define REPEATS     5
#define SECONDS_MIN 0.3

static double seconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct rate {
	double per_second, cpu_us;
};

static int compare(const void *a, const void *b)
{
	const struct rate *x = a, *y = b;
	return (x->per_second > y->per_second) - (x->per_second < y->per_second);
}

/* The median of some runs. */
static int measure(const struct feed_conf *conf, struct rate *ret, struct err *err)
{
	struct rate runs[REPEATS];
	struct feed *f = NULL;
	int r = feed_new(conf, &f, err);
	for (int i = 0; i < REPEATS && r == 0; i++) {
		double begun = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
		double n = 0, took = 0;
		const struct feed_batch *b;
		while (took < SECONDS_MIN && (r = feed_next(f, &b, err)) == 0) {
			n += BATCH;
			took = seconds(CLOCK_MONOTONIC) - begun;
		}
		cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		runs[i] = (struct rate){n / took, cpu / n * 1e6};
	}
	feed_free(f);
	if (r < 0)
		return r;
	qsort(runs, REPEATS, sizeof(*runs), compare);
	*ret = runs[REPEATS / 2];
	return 0;
}

static int bench(const struct dataset_conf *conf, struct err *err)
{
	const struct augment all = {.shift_px = 2, .flip = true, .blur = 0.5, .brightness = 0.2};
	struct classes classes = {0};
	struct dataset *d = NULL;
	struct rate rate;
	int r = classes_from_data(conf->path, &classes, err);
	if (r == 0)
		r = dataset_open(conf, &classes, &d, err);
	for (int augmented = 0; augmented < 2 && r == 0; augmented++) {
		/* Of 32 visits of an image 31 are augmented. */
		const struct feed_conf f = {
			.data = d,
			.split = SPLIT_TRAIN,
			.augment = all,
			.batch = BATCH,
			.course = {.fold = augmented ? 32 : 1, .step_images = BATCH},
		};
		r = measure(&f, &rate, err);
		if (r == 0)
			printf("%ux%ux%u  %-9s  %-9s  %9.0f images/s  %7.2f us of a processor an "
			       "image\n",
			       conf->width, conf->height, conf->channels,
			       conf->memory_max_bytes ? "from file" : "in memory",
			       augmented ? "augmented" : "as it is", rate.per_second, rate.cpu_us);
	}
	dataset_free(d);
	classes_done(&classes);
	return r;
}

/* In memory, and without. */
static int bench_both(struct dataset_conf *conf, struct err *err)
{
	conf->memory_max_bytes = 0;
	int r = bench(conf, err);
	conf->memory_max_bytes = 1;
	return r < 0 ? r : bench(conf, err);
}

static int bench_noise(uint32_t side, uint32_t channels, uint32_t n, struct err *err)
{
	const char *tmp = getenv("TMPDIR");
	struct dataset_conf conf = {.width = side, .height = side, .channels = channels};
	snprintf(conf.path, sizeof(conf.path), "%s/bench-feed-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	_cleanup_free_ uint8_t *pixels = malloc((size_t)n * side * side);
	_cleanup_free_ uint8_t *labels = calloc(n, 1);
	if (!pixels || !labels || !mkdtemp(conf.path))
		return err_errno(err, -errno, "%s", conf.path);
	struct rng rng;
	rng_init(&rng, 1);
	for (size_t i = 0; i < (size_t)n * side * side; i++)
		pixels[i] = (uint8_t)rng_u64(&rng);
	int r = idx_write(conf.path, "train", n, side, side, pixels, labels, err);
	if (r == 0)
		r = bench_both(&conf, err);
	file_remove(conf.path, NULL);
	return r;
}

int main(int argc, char **argv)
{
	struct err err = {0};
	int r;
	if (argc == 5) {
		struct dataset_conf conf = {.channels = (uint32_t)atoi(argv[3]),
					    .center_crop = (uint32_t)atoi(argv[4])};
		conf.width = conf.height = (uint32_t)atoi(argv[2]);
		snprintf(conf.path, sizeof(conf.path), "%s", argv[1]);
		r = bench_both(&conf, &err);
	} else if (argc == 1) {
		r = bench_noise(28, 1, 20000, &err);
		if (r == 0)
			r = bench_noise(64, 3, 4000, &err);
	} else {
		fprintf(stderr, "usage: %s [DIR SIDE CHANNELS CROP]\n", argv[0]);
		return 2;
	}
	if (r < 0)
		fprintf(stderr, "%s\n", err.text);
	return r < 0;
}
