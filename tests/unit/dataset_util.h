/* Small data sets of pictures that all differ. */
#pragma once

#include "data_util.h"

#include "common/dataset/dataset.h"
#include "common/dataset/idx.h"

#define SIDE 6
#define PX   (SIDE * SIDE)

/* Picture number n: differs from every other one. */
static inline void picture(unsigned n, uint8_t px[PX])
{
	for (int i = 0; i < PX; i++)
		px[i] = (uint8_t)(40 + 3 * i + (i < 4 ? (n >> (4 * i)) % 16 : 0));
}

static inline void put_pgm(const char *dir, const char *name, unsigned n)
{
	uint8_t file[32 + PX];
	int head = snprintf((char *)file, 32, "P5 %d %d 255\n", SIDE, SIDE);
	picture(n, file + head);
	put(dir, name, file, (size_t)head + PX);
}

/* DIR/a, b, c with n pictures each. */
static inline void put_classes(const char *dir, unsigned n)
{
	for (unsigned c = 0; c < 3; c++)
		for (unsigned i = 0; i < n; i++) {
			char name[32];
			snprintf(name, sizeof(name), "%c/%04u.pgm", 'a' + c, i);
			put_pgm(dir, name, 1000 * c + i);
		}
}

static inline void put_idx(const char *dir, const char *stem, uint32_t n, unsigned first)
{
	uint8_t *px = malloc((size_t)n * PX), *labels = malloc(n);
	for (uint32_t i = 0; i < n; i++) {
		picture(first + i, px + (size_t)i * PX);
		labels[i] = (uint8_t)(i % 3);
	}
	assert_int_equal(file_mkdirs(dir, NULL), 0);
	assert_int_equal(idx_write(dir, stem, n, SIDE, SIDE, px, labels, NULL), 0);
	free(px);
	free(labels);
}

static struct classes abc = {(char *[]){"a", "b", "c"}, 3};

static inline struct dataset_conf conf_of(const char *dir)
{
	struct dataset_conf c = {.width = SIDE, .height = SIDE, .channels = 1, .seed = 1};
	snprintf(c.path, sizeof(c.path), "%s", dir);
	return c;
}

static inline struct dataset *open_ok(const struct dataset_conf *c)
{
	struct dataset *d = NULL;
	struct err err = {0};
	if (dataset_open(c, &abc, &d, &err) < 0)
		fail_msg("%s", err.text);
	return d;
}

static inline void open_fails(const struct dataset_conf *c, int code, const char *why)
{
	struct dataset *d = NULL;
	struct err err = {0};
	int r = dataset_open(c, &abc, &d, &err);
	if (r != code || !strstr(err.text, why))
		fail_msg("%d '%s', expected %d '%s'", r, err.text, code, why);
	assert_null(d);
}

static inline uint32_t total(const struct dataset *d)
{
	return dataset_count(d, SPLIT_TRAIN) + dataset_count(d, SPLIT_VALIDATION) +
	       dataset_count(d, SPLIT_TEST);
}

static inline bool rescan(struct dataset *d)
{
	bool changed;
	struct err err = {0};
	if (dataset_rescan(d, &changed, &err) < 0)
		fail_msg("%s", err.text);
	return changed;
}
