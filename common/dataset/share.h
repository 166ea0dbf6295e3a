/* Deals a data set out to several parties, once and for all: an image goes to exactly one of them,
 * decided by a seeded hash of its content, so that the same call gives the same parts and duplicates of
 * an image stay together. Test images are held out first and are the same for everybody. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/dataset/dataset.h"

#define SHARE_PARTS_MAX 64

struct share_part {
	char name[ID_SIZE]; /* OUT/<name>/ */
	double weight;      /* > 0: share of the images beside the other parts' weights */
	bool favours[DATASET_CLASSES_MAX]; /* these classes count `skew` times as much */
};

struct share_conf {
	const struct share_part *parts;
	size_t n_parts;
	double test_share; /* of a data set without test files of its own: 0..0.9 */
	double skew;	   /* >= 1 */
	uint64_t seed;
};

/* data: four (or two) IDX files or class folders. Writes OUT/<part>/ as IDX files, or as class folders of
 * symbolic links to the originals, and OUT/test/ (IDX: t10k files), and OUT/classes.txt. OUT must not
 * exist yet. */
int share_write(const char *data, const char *out, const struct share_conf *conf, struct err *err);
