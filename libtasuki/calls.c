/* A call lies in the list of those that wait, then in a batch of the lane that serves, then it is
 * answered; when its worker ends meanwhile, it goes back to the list, once. A batch belongs to the
 * checkpoint that its lane had when it was sent, as a worker does what it is asked in order. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "libtasuki/impl.h"

static void answer(struct tasuki *t, struct call *c, const struct err *err)
{
	pthread_mutex_lock(&t->lock);
	if (err)
		c->err = *err;
	c->done = true;
	pthread_cond_signal(&c->answered);
	pthread_mutex_unlock(&t->lock);
}

static struct call *take(struct tasuki *t)
{
	pthread_mutex_lock(&t->lock);
	struct call *c = t->first;
	if (c && !(t->first = c->next))
		t->last = &t->first;
	pthread_mutex_unlock(&t->lock);
	return c;
}

static void put_back(struct tasuki *t, struct call *c)
{
	pthread_mutex_lock(&t->lock);
	if (!t->first)
		t->last = &c->next;
	c->next = t->first;
	t->first = c;
	pthread_mutex_unlock(&t->lock);
}

static bool fail_waiting(struct tasuki *t, const struct err *why)
{
	struct call *c = take(t);
	if (c)
		answer(t, c, why);
	return c != NULL;
}

/* Fills a batch's places in the shared memory: first those of batch 0. */
static int send_batch(struct tasuki *t, struct lane_io *io, int b)
{
	struct batch *batch = &io->batches[b];
	struct call *c;
	float *at = io->memory + (size_t)b * TASUKI_BATCH * t->inputs;
	batch->n = 0;
	while (batch->n < TASUKI_BATCH && (c = take(t))) {
		memcpy(at + (size_t)batch->n * t->inputs, c->input, t->inputs * sizeof(float));
		batch->calls[batch->n++] = c;
	}
	if (!batch->n)
		return 0;
	memcpy(batch->checkpoint, t->lanes.lane[io->index].checkpoint, HASH_SIZE);
	struct json *args = json_new_obj();
	json_set_int(args, "first", b * TASUKI_BATCH);
	json_set_int(args, "n", batch->n);
	int r = worker_request(io->worker, "predict", args, &batch->id);
	for (int i = batch->n; r < 0 && i-- > 0;)
		put_back(t, batch->calls[i]);
	if (r < 0)
		batch->n = 0;
	return batch->n;
}

void calls_dispatch(struct tasuki *t)
{
	struct err why;
	pthread_mutex_lock(&t->lock);
	why = t->unusable;
	pthread_mutex_unlock(&t->lock);
	if (t->lanes.serving < 0) {
		if (why.code == 0 && !*t->lanes.wanted)
			err_set(&why, -ENODATA, "%s: no checkpoint is active yet", t->state);
		while (why.code && fail_waiting(t, &why))
			;
		return;
	}
	struct lane_io *io = &t->io[t->lanes.serving];
	for (int b = 0; b < TASUKI_BATCHES; b++)
		if (!io->batches[b].id && send_batch(t, io, b) <= 0)
			break;
}

bool calls_worker_was_lost(const struct err *err)
{
	return err->code == -ECONNRESET || err->code == -ETIMEDOUT || err->code == -EPROTO;
}

void calls_answered(struct lane_io *io, struct batch *b, int index, const struct err *err)
{
	struct tasuki *t = io->t;
	const float *out = io->memory + (size_t)TASUKI_BATCHES * TASUKI_BATCH * t->inputs +
			   (size_t)index * TASUKI_BATCH * t->outputs;
	b->id = 0;
	for (int i = b->n; i-- > 0;) { /* from the end, so that what goes back keeps its order */
		struct call *c = b->calls[i];
		if (err && calls_worker_was_lost(err) && ++c->tries < TASUKI_TRIES) {
			put_back(t, c);
			continue;
		}
		if (!err) {
			memcpy(c->output, out + (size_t)i * t->outputs, t->outputs * sizeof(float));
			memcpy(c->checkpoint, b->checkpoint, HASH_SIZE);
		}
		answer(t, c, err);
	}
	b->n = 0;
}

void calls_fail_late(struct tasuki *t)
{
	struct err why = {0};
	int64_t now = clock_mono_ms();
	err_set(&why, -ETIMEDOUT, "no worker could be had within %d s%s%s", TASUKI_CALL_MS / 1000,
		*t->trouble.text ? ": " : "", t->trouble.text);
	for (;;) {
		pthread_mutex_lock(&t->lock);
		bool late = t->first && t->first->until_ms < now;
		pthread_mutex_unlock(&t->lock);
		if (!late || !fail_waiting(t, &why))
			return;
	}
}

int calls_wait(struct tasuki *t, struct call *c)
{
	uint64_t one = 1;
	c->until_ms = clock_mono_ms() + TASUKI_CALL_MS;
	pthread_cond_init(&c->answered, NULL);
	pthread_mutex_lock(&t->lock);
	bool wake = !t->first;
	*t->last = c;
	t->last = &c->next;
	if (wake && write(t->wake_fd, &one, sizeof(one)) < 0)
		errno = 0; /* it is awake */
	while (!c->done)
		pthread_cond_wait(&c->answered, &t->lock);
	pthread_mutex_unlock(&t->lock);
	pthread_cond_destroy(&c->answered);
	return c->err.code;
}
