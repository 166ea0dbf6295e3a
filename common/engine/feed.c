/* A ring of batches between one maker (the thread) and one taker (the caller). made and taken
 * count batches for ever: batch number k is ring[k % FEED_BATCHES], and is the maker's until
 * made > k, then the taker's until taken > k. Counters and the end are under the lock; batches and
 * the course are touched without it by whoever has them. */
#include "common/engine/feed.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define STACK_BYTES (256 * 1024) /* counts against the memory limit */
#define ALIGN_BYTES 64

struct feed {
	struct feed_conf conf;
	struct course course;
	size_t image_floats;
	struct feed_batch ring[FEED_BATCHES];
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t turn;  /* a counter or the end changed */
	uint64_t made, taken; /* taken: given back, that is */
	bool lent;            /* the batch number `taken` */
	bool stop;
	int end; /* negative: no batch after those made, and why */
	struct err why;
};

static bool stopped(struct feed *f)
{
	pthread_mutex_lock(&f->lock);
	bool stop = f->stop;
	pthread_mutex_unlock(&f->lock);
	return stop;
}

static int put_image(struct feed *f, const struct course_image *c, struct feed_batch *b,
		     uint32_t slot, struct err *err)
{
	const struct feed_conf *conf = &f->conf;
	enum split split = conf->split;
	uint32_t image = c->image, first = dataset_count(conf->data, split);
	struct rng rng;
	rng_init(&rng, c->seed);
	if (image >= first) {
		split = SPLIT_STAY;
		image -= first;
	}
	b->labels[slot] = dataset_label(conf->data, split, image);
	return dataset_pixels(conf->data, split, image, c->variant ? &conf->augment : NULL, &rng,
			      b->pixels + slot * f->image_floats, err);
}

/* The image whose turn it is, or what stands in for it. */
static int fill_slot(struct feed *f, struct feed_batch *b, uint32_t slot, struct err *err)
{
	uint32_t tries = f->course.fold ? MIN_OF(f->course.n, (uint32_t)FEED_REPLACE_TRIES) : 1;
	struct err first = {0}, why = {0};
	struct course_image c;
	uint32_t i = 0;
	int r;
	for (;; i++) {
		course_look(&f->course, i, &c);
		r = put_image(f, &c, b, slot, &why);
		if (r == -ESTALE && i == 0)
			first = why;
		if (r != -ESTALE || i + 1 == tries || stopped(f))
			break;
	}
	if (r == -ESTALE && tries > 1)
		return err_set(err, r, "%s; nor can the %u images after it be read", first.text, i);
	if (r < 0)
		return err_set(err, r, "%s", why.text);
	if (i > 0 && b->replaced++ == 0)
		b->fault = first;
	course_next(&f->course);
	return 0;
}

static int fill_batch(struct feed *f, struct feed_batch *b, struct err *err)
{
	b->n = 0;
	b->replaced = 0;
	while (b->n < f->conf.batch && !course_is_over(&f->course)) {
		int r = stopped(f) ? -ECANCELED : fill_slot(f, b, b->n, err);
		if (r < 0)
			return r;
		b->n++;
	}
	memset(b->pixels + b->n * f->image_floats, 0,
	       (f->conf.batch - b->n) * f->image_floats * sizeof(*b->pixels));
	b->at = f->course.at;
	b->ends_epoch = course_epoch_ends(&f->course);
	return 0;
}

/* The maker's next batch; NULL when it shall stop. */
static struct feed_batch *wait_for_room(struct feed *f)
{
	pthread_mutex_lock(&f->lock);
	while (!f->stop && f->made - f->taken == FEED_BATCHES)
		pthread_cond_wait(&f->turn, &f->lock);
	struct feed_batch *b = f->stop ? NULL : &f->ring[f->made % FEED_BATCHES];
	pthread_mutex_unlock(&f->lock);
	return b;
}

static void hand_over(struct feed *f)
{
	pthread_mutex_lock(&f->lock);
	f->made++;
	pthread_cond_broadcast(&f->turn);
	pthread_mutex_unlock(&f->lock);
}

static void end(struct feed *f, int code, const struct err *why)
{
	pthread_mutex_lock(&f->lock);
	f->end = code;
	f->why = *why;
	pthread_cond_broadcast(&f->turn);
	pthread_mutex_unlock(&f->lock);
}

static void *make(void *user)
{
	struct feed *f = user;
	struct err err = {0};
	int64_t epochs = f->conf.epochs;
	for (;;) {
		struct feed_batch *b = wait_for_room(f);
		int r = b ? fill_batch(f, b, &err) : -ECANCELED;
		if (r < 0) {
			end(f, r, &err);
			return NULL;
		}
		bool ends_epoch = b->ends_epoch, over = course_is_over(&f->course);
		hand_over(f);
		if (over || (ends_epoch && --epochs == 0)) {
			err_set(&err, -ENODATA, "no more images");
			end(f, -ENODATA, &err);
			return NULL;
		}
		if (ends_epoch)
			course_next_epoch(&f->course);
	}
}

static uint64_t batch_bytes(uint32_t batch, uint64_t image_floats)
{
	uint64_t bytes = batch * image_floats * sizeof(float);
	return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

uint64_t feed_bytes(uint32_t batch, uint64_t image_floats)
{
	return FEED_BATCHES * batch_bytes(batch, image_floats);
}

static int allocate(struct feed *f, struct err *err)
{
	uint32_t w, h, c;
	dataset_shape(f->conf.data, &w, &h, &c);
	f->image_floats = (size_t)w * h * c;
	size_t bytes = batch_bytes(f->conf.batch, f->image_floats);
	for (size_t i = 0; i < FEED_BATCHES; i++) {
		struct feed_batch *b = &f->ring[i];
		b->labels = calloc(f->conf.batch, sizeof(*b->labels));
		b->pixels = aligned_alloc(ALIGN_BYTES, bytes);
		if (!b->labels || !b->pixels)
			return err_errno(err, -ENOMEM, "batches of %u images", f->conf.batch);
	}
	int r = course_init(&f->course);
	return r < 0 ? err_errno(err, r, "order of %u images x %u", f->course.images,
				 f->course.fold)
		     : 0;
}

static int start(struct feed *f, struct err *err)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int r = pthread_create(&f->thread, &attr, make, f);
	pthread_attr_destroy(&attr);
	f->started = r == 0;
	return r ? err_errno(err, -r, "no thread to read images ahead") : 0;
}

int feed_new(const struct feed_conf *conf, struct feed **ret, struct err *err)
{
	struct feed *f = calloc(1, sizeof(*f));
	if (!f)
		return err_errno(err, -ENOMEM, "feed");
	f->conf = *conf;
	f->course = conf->course;
	f->course.images = dataset_count(conf->data, conf->split) +
			   (conf->stay ? dataset_count(conf->data, SPLIT_STAY) : 0);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->turn, NULL);
	int r = allocate(f, err);
	if (r == 0)
		r = start(f, err);
	if (r < 0) {
		feed_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

static void give_back(struct feed *f)
{
	if (!f->lent)
		return;
	f->lent = false;
	f->taken++;
	pthread_cond_broadcast(&f->turn);
}

int feed_next(struct feed *f, const struct feed_batch **ret, struct err *err)
{
	pthread_mutex_lock(&f->lock);
	give_back(f);
	while (f->made == f->taken && !f->end)
		pthread_cond_wait(&f->turn, &f->lock);
	int r = f->made == f->taken ? f->end : 0;
	f->lent = r == 0;
	pthread_mutex_unlock(&f->lock);
	if (r < 0)
		return err_set(err, r, "%s", f->why.text);
	*ret = &f->ring[f->taken % FEED_BATCHES];
	return 0;
}

void feed_free(struct feed *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_broadcast(&f->turn);
	pthread_mutex_unlock(&f->lock);
	if (f->started)
		pthread_join(f->thread, NULL);
	for (size_t i = 0; i < FEED_BATCHES; i++) {
		free(f->ring[i].labels);
		free(f->ring[i].pixels);
	}
	course_done(&f->course);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->turn);
	free(f);
}
