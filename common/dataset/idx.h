/* The IDX files of MNIST (http://yann.lecun.com/exdb/mnist): one of 8-bit images (magic 0x803),
 * one of labels (magic 0x801), plain or gzip, read as a stream. What the headers announce is
 * checked against limits and against the size of the file before anything is allocated, so that a
 * small file can neither claim nor unpack to gigabytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"

/* Names of a pair of files; of each, the plain one goes before the .gz. */
struct idx_pair {
	char images[FILE_PATH_MAX], labels[FILE_PATH_MAX];
};

/* stem: "train" or "t10k". 1: found; 0: neither file is in dir; -ENOENT: only one of them. */
int idx_find(const char *dir, const char *stem, struct idx_pair *ret, struct err *err);

struct idx {
	uint32_t n, rows, cols;
	uint8_t *labels; /* n */
	bool plain;      /* images can be read one by one: idx_read_one() */
	/* private: */
	void *images; /* gzFile */
	const char *path;
	uint32_t next;
};

/* Reads both headers and all labels. `pair` must outlive it. -EBADMSG with the file named. */
int idx_open(const struct idx_pair *pair, struct idx *ret, struct err *err);
/* The next image, rows x cols bytes; at most n times. */
int idx_next(struct idx *x, uint8_t *pixels, struct err *err);
/* After the last image: that nothing follows it and the checksum of a .gz holds. */
int idx_end(struct idx *x, struct err *err);
void idx_done(struct idx *x);
/* Image i of a plain file, as it is on the disk at this moment. May be called from several
 * threads. -EBADMSG: the file ends before it. */
int idx_read_one(const char *path, uint32_t rows, uint32_t cols, uint32_t i, uint8_t *pixels,
		 struct err *err);
/* The labels only; caller frees *ret_labels. */
int idx_labels(const char *path, uint8_t **ret_labels, uint32_t *ret_n, struct err *err);

/* Writes a pair of plain files, each atomically; pixels: n x rows x cols. */
int idx_write(const char *dir, const char *stem, uint32_t n, uint32_t rows, uint32_t cols,
	      const uint8_t *pixels, const uint8_t *labels, struct err *err);
