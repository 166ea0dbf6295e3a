#include "edge-trainer/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/id.h"
#include "common/base/mem.h"

/* Grants of one device in the windows that make up the last hour. */
struct served {
	struct idmap_node node;
	int64_t window; /* number of the newest window counted in n */
	unsigned n[QUEUE_WINDOWS]; /* of window w: n[w % QUEUE_WINDOWS] */
	char id[];
};

int queue_init(struct queue *q, unsigned capacity, unsigned per_hour, unsigned slots)
{
	memset(q, 0, sizeof(*q));
	q->capacity = capacity;
	q->per_hour = per_hour;
	q->slots = slots > 0 ? slots : 1;
	q->job_ms = QUEUE_JOB_GUESS_MS;
	return idmap_init(&q->served);
}

static int free_served(void *user, struct idmap_node *node)
{
	(void)user;
	free(idmap_entry(node, struct served, node));
	return 0;
}

void queue_done(struct queue *q)
{
	if (q->served.buckets)
		idmap_each(&q->served, free_served, NULL);
	idmap_done(&q->served);
}

/* Brings the entry to the present window; returns the sum over the hour. */
static unsigned turn(struct served *s, int64_t window)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < QUEUE_WINDOWS && s->window < window; i++) {
		s->window++;
		s->n[s->window % QUEUE_WINDOWS] = 0;
	}
	s->window = MAX_OF(s->window, window);
	for (unsigned i = 0; i < QUEUE_WINDOWS; i++)
		sum += s->n[i];
	return sum;
}

struct sweep {
	struct queue *q;
	int64_t window;
};

static int forget_idle(void *user, struct idmap_node *node)
{
	struct sweep *w = user;
	struct served *s = idmap_entry(node, struct served, node);

	if (turn(s, w->window) == 0) {
		idmap_remove(&w->q->served, node);
		free(s);
	}
	return 0;
}

static int64_t present_window(struct queue *q, int64_t now_ms)
{
	int64_t window = now_ms / QUEUE_WINDOW_MS;

	if (window > q->window) {
		struct sweep w = {q, window};

		q->window = window;
		idmap_each(&q->served, forget_idle, &w);
	}
	return window;
}

unsigned queue_served(struct queue *q, const char *device, int64_t now_ms)
{
	int64_t window = present_window(q, now_ms);
	struct idmap_node *node = idmap_find(&q->served, device);

	return node ? turn(idmap_entry(node, struct served, node), window) : 0;
}

int queue_serve(struct queue *q, const char *device, int64_t now_ms)
{
	int64_t window = present_window(q, now_ms);
	struct idmap_node *node = idmap_find(&q->served, device);
	struct served *s;

	if (!node) {
		size_t len = strlen(device) + 1;

		if (q->served.n >= QUEUE_DEVICES_MAX)
			return -ENOSPC;
		s = calloc(1, sizeof(*s) + len);
		if (!s)
			return -ENOMEM;
		memcpy(s->id, device, len);
		s->window = window;
		idmap_add(&q->served, &s->node, s->id);
	} else {
		s = idmap_entry(node, struct served, node);
	}
	turn(s, window);
	s->n[window % QUEUE_WINDOWS]++;
	return 0;
}

/* When the oldest window that counts for this device drops out of the hour. */
static int64_t hour_retry_ms(struct queue *q, const char *device, int64_t now_ms)
{
	const struct idmap_node *node = idmap_find(&q->served, device);
	const struct served *s;

	if (!node)
		return QUEUE_RETRY_MIN_MS;
	s = idmap_entry(node, struct served, node);
	for (int64_t w = s->window - QUEUE_WINDOWS + 1; w <= s->window; w++)
		if (w >= 0 && s->n[w % QUEUE_WINDOWS] > 0)
			return (w + QUEUE_WINDOWS) * QUEUE_WINDOW_MS - now_ms;
	return QUEUE_RETRY_MIN_MS;
}

int queue_room(struct queue *q, const char *device, bool proven, int64_t now_ms,
	       int64_t *ret_retry_ms)
{
	unsigned served = queue_served(q, device, now_ms);
	unsigned kept = q->capacity / QUEUE_KEPT_PART;
	bool room = q->in < q->capacity && (proven || q->in_unproven < q->capacity - kept);
	int64_t retry_ms;

	if (served < q->per_hour && room)
		return 0;
	if (served >= q->per_hour)
		retry_ms = hour_retry_ms(q, device, now_ms);
	else /* one job's end frees a place; whoever was served more comes later */
		retry_ms = (int64_t)(q->job_ms * (1 + MIN_OF(served, 4u)) / q->slots);
	retry_ms = MAX_OF(retry_ms, QUEUE_RETRY_MIN_MS);
	*ret_retry_ms = MIN_OF(retry_ms, QUEUE_RETRY_MAX_MS);
	return -EBUSY;
}

void queue_set_in(struct queue *q, unsigned in, unsigned in_unproven)
{
	q->in = in;
	q->in_unproven = in_unproven;
}

void queue_note(struct queue *q, int64_t took_ms)
{
	if (took_ms >= 0)
		q->job_ms += ((double)took_ms - q->job_ms) / 4;
}

int queue_wait(struct queue *q, void *job, const char *device, int64_t now_ms)
{
	for (unsigned i = 0; i < q->n_waiting; i++)
		if (q->waiting[i].job == job)
			return -EEXIST;
	if (q->n_waiting >= QUEUE_WAITING_MAX)
		return -ENOSPC;
	q->waiting[q->n_waiting++] = (struct queue_waiting){job, device, now_ms};
	return 0;
}

static void take_out(struct queue *q, unsigned i)
{
	q->n_waiting--;
	memmove(&q->waiting[i], &q->waiting[i + 1], (q->n_waiting - i) * sizeof(q->waiting[0]));
}

void queue_cancel(struct queue *q, const void *job)
{
	for (unsigned i = 0; i < q->n_waiting; i++)
		if (q->waiting[i].job == job) {
			take_out(q, i);
			return;
		}
}

void *queue_next(struct queue *q, int64_t now_ms)
{
	unsigned best = 0, best_served = 0;
	void *job;

	if (q->n_waiting == 0)
		return NULL;
	for (unsigned i = 0; i < q->n_waiting; i++) {
		unsigned served = queue_served(q, q->waiting[i].device, now_ms);

		if (i == 0 || served < best_served) {
			best = i;
			best_served = served;
		}
	}
	job = q->waiting[best].job;
	take_out(q, best);
	return job;
}
