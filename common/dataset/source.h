/* One folder of a data set with its images: in memory as far as there is room, the others known by
 * the sha256 of their content and read anew each time. Pixels are counted references: a rescan
 * builds a new source that shares the pixels of whatever did not change, so that the old one stays
 * whole until the new one is complete. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/dataset/dataset.h"
#include "common/dataset/folder.h"
#include "common/dataset/idx.h"

#define SHA_BYTES (HASH_HEX / 2)

struct pixels {
	uint32_t refs;
	bool held;              /* else there are no planes */
	uint8_t sha[SHA_BYTES]; /* of the image file, or of the raw IDX pixels */
	uint8_t planes[];       /* CHW at the network's input size */
};

struct entry {
	uint32_t label;
	uint32_t number;   /* of the image in its IDX file, of its file in the list */
	struct pixels *px; /* NULL: unreadable */
	char *fault;       /* why; else NULL */
};

enum source_kind { SOURCE_NONE, SOURCE_IDX, SOURCE_FOLDER };

struct source {
	enum source_kind kind;
	char path[FILE_PATH_MAX];
	struct idx_pair pair; /* IDX */
	struct stamp images_stamp, labels_stamp;
	uint32_t rows, cols;
	struct folder_list list; /* folder: entry i is of list.files[i] */
	struct entry *entries;
	size_t n;
};

/* Which of the files of a folder are meant. */
enum source_part {
	SOURCE_TRAIN, /* train-* or class folders */
	SOURCE_T10K,  /* t10k-*; none is no error */
	SOURCE_GIVEN, /* t10k-*, else train-*, else class folders */
};

/* Finds out what is there, without reading an image. */
int source_scan(const char *path, enum source_part part, const struct classes *classes,
		struct source *ret, struct err *err);
/* The same files in the same state? */
bool source_equal(const struct source *a, const struct source *b);
/* Takes over from `old` what did not change since, and its room from *room_bytes. */
int source_share(struct source *s, const struct source *old, const struct dataset_conf *conf,
		 uint64_t *room_bytes, struct err *err);
/* Reads what was not taken over, to the shape in conf. Images stay in memory as long as there is
 * room, which they take; where the others cannot be read one by one (.gz), all must fit. keep > 0:
 * of IDX files only so many images stay, the first ones by rank. */
int source_load(struct source *s, const struct dataset_conf *conf, const struct classes *classes,
		uint32_t keep, uint64_t *room_bytes, struct err *err);
void source_done(struct source *s);

/* An image that is not held, from its file. -ESTALE: it is no longer there, or no longer what it
 * was. May be called from several threads. */
int source_read(const struct source *s, const struct entry *e, const struct dataset_conf *conf,
		uint8_t *planes, struct err *err);
/* One image file to planes in conf's shape; sha (NULL allowed): of the file. */
int source_read_image(const char *path, const struct dataset_conf *conf, uint8_t *planes,
		      uint8_t sha[SHA_BYTES], struct err *err);

/* What decides about an image: sha256 of the seed (8 bytes, little endian) and its content's
 * sha256. Bytes 0 to 7, big endian, decide the split, bytes 8 to 15 what a limit leaves out. */
struct image_key {
	uint64_t split, rank;
};
int image_key(uint64_t seed, const uint8_t sha[SHA_BYTES], struct image_key *ret);

int sha_bytes(const void *data, size_t len, uint8_t out[SHA_BYTES]);
