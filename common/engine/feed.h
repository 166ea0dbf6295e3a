/* Batches of images, made ahead by a thread of its own while the last one is computed: read where
 * they are not held in memory, augmented, turned into floats. What they are follows from the
 * course alone, whatever the timing; the thread draws no random numbers of the process's and does
 * not touch Darknet.
 *
 * A training image whose file is gone or has changed since the data were read is replaced by the
 * one that follows it in the epoch's order (the next that can be read, of up to
 * FEED_REPLACE_TRIES), and counted. In an evaluation it is an error: a score is of all images of
 * its snapshot or there is none.
 *
 * The data set must neither change nor go before the feed is freed; a new feed goes on from any
 * place. One thread calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/dataset/dataset.h"
#include "common/engine/course.h"

#define FEED_BATCHES       2  /* in use, and ready or in the making */
#define FEED_REPLACE_TRIES 64 /* images in a row that cannot be read: training fails */

struct feed_conf {
	const struct dataset *data;
	enum split split;
	bool stay;              /* after its images those of SPLIT_STAY */
	struct augment augment; /* of variants */
	struct course course;   /* its images are taken from data; not initialized */
	uint32_t batch;         /* images */
	int64_t epochs;         /* to make, the first included; 0: until freed */
};

struct feed_batch {
	float *pixels;    /* batch x (w*h*c floats, CHW, 0..1) */
	uint32_t *labels; /* batch */
	uint32_t n;       /* images in it; the others (the end of an evaluation) are black */
	uint64_t at;      /* place in the epoch after it */
	bool ends_epoch;
	uint32_t replaced; /* images */
	struct err fault;  /* of the first of these */
};

struct feed;

/* Memory of the batches of a feed, for images of so many floats. */
uint64_t feed_bytes(uint32_t batch, uint64_t image_floats);

/* -ENODATA, -E2BIG: no or too many images; -ENOMEM; -EAGAIN: no thread can be had. */
int feed_new(const struct feed_conf *conf, struct feed **ret, struct err *err);
/* Waits for the next batch; it is the caller's, also to write in, until the next call. After a
 * failure: the same failure again. -ENODATA: there are no more. */
int feed_next(struct feed *f, const struct feed_batch **ret, struct err *err);
/* Waits for no more than the image in the making. NULL allowed. */
void feed_free(struct feed *f);
