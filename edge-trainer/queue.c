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

static bool has_room(const struct queue *q, bool proven)
{
	unsigned kept = q->capacity / QUEUE_KEPT_PART;

	return q->in < q->capacity && (proven || q->in_unproven < q->capacity - kept);
}

static int64_t within(int64_t retry_ms)
{
	return MIN_OF(MAX_OF(retry_ms, (int64_t)QUEUE_RETRY_MIN_MS), (int64_t)QUEUE_RETRY_MAX_MS);
}

int queue_room(struct queue *q, const char *device, bool proven, int64_t now_ms,
	       int64_t *ret_retry_ms)
{
	if (queue_served(q, device, now_ms) >= q->per_hour) {
		*ret_retry_ms = within(hour_retry_ms(q, device, now_ms));
		return -EDQUOT;
	}
	return has_room(q, proven) ? 0 : -EBUSY;
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

double queue_gain(struct queue *q, const char *device, double accuracy, int64_t now_ms)
{
	double gain = accuracy < 0 ? QUEUE_GAIN_UNKNOWN : 1 - MIN_OF(accuracy, 1.0);

	return gain / (1 + queue_served(q, device, now_ms));
}

/* --- lines --- */

static void take_out(struct queue_line *l, unsigned i)
{
	l->n--;
	memmove(&l->at[i], &l->at[i + 1], (l->n - i) * sizeof(l->at[0]));
}

static unsigned place_of(const struct queue_line *l, const void *item)
{
	unsigned i = 0;

	while (i < l->n && l->at[i].item != item)
		i++;
	return i;
}

static void cancel(struct queue_line *l, const void *item)
{
	unsigned i = place_of(l, item);

	if (i < l->n)
		take_out(l, i);
}

static void put_in(struct queue_line *l, const struct queue_waiting *w)
{
	unsigned i = l->n++;

	for (; i > 0 && l->at[i - 1].turn_ms > w->turn_ms; i--)
		l->at[i] = l->at[i - 1];
	l->at[i] = *w;
}

static int64_t turn_of(int64_t since_ms, double gain)
{
	return since_ms - (int64_t)(gain * QUEUE_GAIN_MS);
}

int queue_wait(struct queue *q, void *job, double gain, int64_t now_ms)
{
	if (place_of(&q->jobs, job) < q->jobs.n)
		return -EEXIST;
	if (q->jobs.n >= QUEUE_WAITING_MAX)
		return -ENOSPC;
	put_in(&q->jobs, &(struct queue_waiting){.item = job, .turn_ms = turn_of(now_ms, gain)});
	return 0;
}

void queue_cancel(struct queue *q, const void *job)
{
	cancel(&q->jobs, job);
}

void *queue_next(struct queue *q)
{
	void *job = q->jobs.n > 0 ? q->jobs.at[0].item : NULL;

	if (job)
		take_out(&q->jobs, 0);
	return job;
}

/* Of all, or of those that are not proven: whose turn comes last leaves, or does not come in. */
static void *give_way(struct queue_line *l, const struct queue_waiting *w, bool unproven)
{
	unsigned i = l->n - 1;
	void *out;

	while (unproven && l->at[i].proven)
		i--;
	if (l->at[i].turn_ms <= w->turn_ms)
		return w->item;
	out = l->at[i].item;
	take_out(l, i);
	return out;
}

void *queue_offer(struct queue *q, void *offer, bool proven, double gain, int64_t since_ms,
		  int64_t until_ms)
{
	struct queue_waiting w = {offer, turn_of(since_ms, gain), until_ms, proven};
	struct queue_line *l = &q->offers;
	unsigned n_unproven = 0;
	void *out = NULL;

	cancel(l, offer);
	for (unsigned i = 0; i < l->n; i++)
		n_unproven += !l->at[i].proven;
	if (!proven && n_unproven == QUEUE_WAITING_MAX - QUEUE_WAITING_MAX / QUEUE_KEPT_PART)
		out = give_way(l, &w, true);
	else if (l->n == QUEUE_WAITING_MAX)
		out = give_way(l, &w, false);
	if (out != offer)
		put_in(l, &w);
	return out;
}

void queue_offer_cancel(struct queue *q, const void *offer)
{
	cancel(&q->offers, offer);
}

void *queue_offer_next(struct queue *q)
{
	struct queue_line *l = &q->offers;
	void *offer;

	for (unsigned i = 0; i < l->n; i++) {
		if (!has_room(q, l->at[i].proven))
			continue;
		offer = l->at[i].item;
		take_out(l, i);
		return offer;
	}
	return NULL;
}

void *queue_offer_stale(struct queue *q, int64_t now_ms)
{
	struct queue_line *l = &q->offers;
	void *offer;

	for (unsigned i = 0; i < l->n; i++) {
		if (now_ms < l->at[i].until_ms)
			continue;
		offer = l->at[i].item;
		take_out(l, i);
		return offer;
	}
	return NULL;
}

/* --- when to come back --- */

/* Stretches are numbered from 1. */
void queue_sent_away(struct queue *q, int64_t *stretch, int64_t now_ms)
{
	int64_t present = now_ms / QUEUE_RETRY_MAX_MS + 1;

	if (present != q->stretch) {
		q->sent_away[0] = present == q->stretch + 1 ? q->sent_away[1] : 0;
		q->sent_away[1] = 0;
		q->stretch = present;
	}
	q->sent_away[1] += *stretch != present;
	*stretch = present;
}

int64_t queue_spread_ms(const struct queue *q, int64_t least_ms, double random)
{
	int64_t n = MAX_OF(q->sent_away[0], q->sent_away[1]);
	int64_t ms = MAX_OF(least_ms, n * 1000 / QUEUE_OFFERS_PER_S);

	return within(ms + (int64_t)((double)ms / 2 * random));
}

int64_t queue_retry_ms(const struct queue *q, const void *offer, double random)
{
	int64_t before = place_of(&q->offers, offer); /* all, where it is not in line */

	return queue_spread_ms(q, (int64_t)(q->job_ms * (double)(before + 1) / q->slots), random);
}
