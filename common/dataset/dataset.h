/* Labelled images for training and evaluation.
 *
 * A data set folder is either the four IDX files of MNIST (plain or .gz; train-*, t10k-*) or one
 * folder of images (jpg, png, pgm) per class. Images are decoded once, cropped, resized (area
 * average when shrinking, bilinear when growing) and kept as 8-bit planes (CHW) at the network's
 * input size, as many as memory_max_bytes allows. Of the others only the content hash is kept, and
 * they are read and decoded anew each time they are asked for: slower, but the same numbers. Pixels
 * go out as float32 value / 255, the order Darknet uses (RGB planes).
 *
 * Split: unless a folder is given for it, an image's split follows from
 * sha256(seed as 8 bytes little endian, sha256 of the image file or of its raw IDX pixels): the
 * first 8 bytes, big endian, as a fraction of 2^64: below `test_share`: test; below
 * test_share + validation_share: validation; else train. It never changes as data grows, and
 * duplicates of an image land on the same side. The t10k files of `path` are its test split when
 * no test_path is given (test_share then counts as 0); with one they are not read.
 *
 * The images of stay_path are apart: SPLIT_STAY, for trainings whose weights stay on this machine;
 * no score stands on them. One that lies in `path`, too, is left out of SPLIT_TRAIN; one that is a
 * validation or test image is left out of SPLIT_STAY.
 *
 * What takes a const struct dataset may be called from several threads at a time, but not while
 * another calls dataset_rescan() or dataset_free(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/base/rng.h"

#define DATASET_IMAGES_MAX     4000000
#define DATASET_MEMORY_MAX     ((uint64_t)4 * 1024 * 1024 * 1024) /* of decoded images */
#define DATASET_FILE_BYTES_MAX (64 * 1024 * 1024)                 /* one image file */
#define DATASET_IMAGE_DIM_MAX  16384
#define DATASET_SIDE_MAX       8192 /* width and height of the network's input */
#define DATASET_CLASSES_MAX    4096
#define DATASET_CLASS_NAME_MAX 128
#define DATASET_SKIPPED_NAMED  20 /* unreadable images named; all are counted */

/* SPLIT_N: of those that are spoken of; SPLIT_STAY is known on its machine only, and
 * split_parse() does not give it. */
enum split { SPLIT_TRAIN, SPLIT_VALIDATION, SPLIT_TEST, SPLIT_N, SPLIT_STAY = SPLIT_N };
const char *split_name(enum split s);
int split_parse(const char *s, enum split *ret);

/* Public class list: one name a line, no empty line, no duplicates, UTF-8, no '/' or control
 * characters. */
struct classes {
	char **names;
	size_t n;
};
int classes_load(const char *path, struct classes *ret, struct err *err);
/* Sorted names of a data folder's class folders, or "0".."9" (labels found) for IDX: offline use
 * only. */
int classes_from_data(const char *path, struct classes *ret, struct err *err);
/* Those of `more` (from the file `path`) after those of c. -EINVAL: one is in both. */
int classes_append(struct classes *c, const struct classes *more, const char *path,
		   struct err *err);
void classes_done(struct classes *c);

struct augment {
	int shift_px;      /* up to this far in x and y, edges repeated */
	bool flip;         /* mirror left and right, half of the time */
	double blur;       /* largest sigma of a Gaussian blur, px; 0: none */
	double brightness; /* factor from 1-b to 1+b, and an offset from -b/4 to b/4 */
};

struct dataset_conf {
	char path[1024];                  /* the folder */
	char test_path[1024];             /* a folder whose images are all test images; "": none */
	char validation_path[1024];       /* likewise; "": none */
	char stay_path[1024];             /* a folder whose images are never shared; "": none */
	uint32_t width, height, channels; /* 1 or 3; colour to grey by Rec. 601 luma */
	uint32_t center_crop; /* px of the original, square, around the middle; 0: the largest
			       * square is NOT taken, the whole image is resized */
	double validation_share, test_share; /* 0..0.9, together < 1; given folders make theirs 0 */
	uint64_t seed;                       /* of the split */
	/* At most so many images of `path` (its t10k files not counted), chosen by bytes 8 to 15 of
	 * the hash that decides the split; 0: all. */
	uint32_t limit;
	/* Of decoded images; 0: half of the machine's memory, at most DATASET_MEMORY_MAX. Those that
	 * do not fit are read when they are asked for; IDX files that are packed (.gz) must fit.
	 * Names and hashes of images come on top, some 250 bytes each. */
	uint64_t memory_max_bytes;
	/* Called after each image that dataset_open or dataset_rescan has looked at: who waits for
	 * them can tell slow from hung. NULL: nobody asks. */
	void (*on_image)(void *user);
	void *on_image_user;
};

struct dataset;

/* Reads everything. An unreadable image is skipped, counted and named; a class folder without a
 * readable image, a class folder that is not in the class list, IDX files of differing counts or
 * truncated, no image at all: errors that name the file. test_path and validation_path may be
 * IDX (their t10k files if present, else train files) or class folders, too; stay_path as `path`,
 * without its t10k files. */
int dataset_open(const struct dataset_conf *conf, const struct classes *classes,
		 struct dataset **ret, struct err *err);
void dataset_free(struct dataset *d);
/* Looks for files that came, went or changed (by name, size and times) and reads only those;
 * *ret_changed tells whether images or labels differ from before. Images that stay keep their
 * pixels, but their numbers within a split may change. On error the data set stays as it was. */
int dataset_rescan(struct dataset *d, bool *ret_changed, struct err *err);

uint32_t dataset_count(const struct dataset *d, enum split s);
uint32_t dataset_label(const struct dataset *d, enum split s, uint32_t i);
uint32_t dataset_classes(const struct dataset *d);
void dataset_shape(const struct dataset *d, uint32_t *width, uint32_t *height, uint32_t *channels);
const char *dataset_class_name(const struct dataset *d, uint32_t c);
/* Names the exact images and labels of a split: sha256 over their sorted content hashes and
 * labels. The order of images within a split follows the content hash, so equal snapshots have
 * equal order. */
void dataset_snapshot(const struct dataset *d, enum split s, char out[HASH_SIZE]);
/* Of the files that it was read from. */
uint64_t dataset_bytes(const struct dataset *d);
uint32_t dataset_skipped(const struct dataset *d);
/* "PATH: what is wrong with it"; NULL past the named. */
const char *dataset_skipped_name(const struct dataset *d, uint32_t i);

/* Image i as w*h*c floats, CHW, 0..1. a NULL: as it is; else augmented with numbers from rng.
 * -ESTALE: its file is gone or has changed since it was looked at, err names it; never for an
 * image that is held in memory. */
int dataset_pixels(const struct dataset *d, enum split s, uint32_t i, const struct augment *a,
		   struct rng *rng, float *out, struct err *err);
/* How many images of all splits, SPLIT_STAY too, are held in memory. */
uint32_t dataset_held(const struct dataset *d);
/* The order of an epoch: a permutation of 0..n-1 from (seed, epoch); the same everywhere. */
void dataset_order(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *ret);

/* One image file through the same steps, w*h*c floats: for `classify`. */
int dataset_read_image(const char *path, uint32_t width, uint32_t height, uint32_t channels,
		       uint32_t center_crop, float *out, struct err *err);

/* Writes a contact sheet: the first images of a split, rows of one class each (several rows a
 * class, or only the first classes, as the number of rows gives), as a PNG. -ENODATA when the
 * split is empty, -E2BIG beyond DATASET_SHEET_CELLS_MAX cells or 64M pixels. */
#define DATASET_SHEET_CELLS_MAX 10000
int dataset_sheet(const struct dataset *d, enum split s, uint32_t cols, uint32_t rows,
		  const char *png_path, struct err *err);
