/* Deals a data set out to several parties, once and for all: an image goes to exactly one of them,
 * decided by a seeded hash of its content, so that the same call gives the same parts and duplicates of
 * an image stay together; a hash of its own, which says nothing of what a part's split or limit
 * (dataset.h) will decide. Test images are held out first and are the same for everybody. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/dataset/dataset.h"

#define SHARE_PARTS_MAX 64

struct share_part {
	char name[ID_SIZE]; /* OUT/<name>/ */
	double weight; /* > 0: weight / sum of weights is its share of the whole, whatever it favours */
	bool favours[DATASET_CLASSES_MAX]; /* `skew` times as many of these, beside its others */
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
