/* The devices that the trainer knows.
 *
 * Model: whoever reaches the broker can invent devices. So one is noted only for a message that was
 * understood, there are at most TRAINER_DEVICES_MAX, and where one more comes the one that was not
 * heard of for longest goes, unproven ones before those that have completed a handover. One that
 * has a job stays. What goes is off the table at once, and freed when it is on no other list
 * (`gone`).
 *
 * What a device says is counted in buckets: beyond its rate it is not looked at. All that we must
 * have is repeated by the device, or asked for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

const struct bucket_limit device_rates[SAY_N] = {
	[SAY_REPORT] = {GAP_KEPT, 20}, /* all that it keeps at once: it may have been away */
	[SAY_OFFER] = {20, 2},
	[SAY_OTHER] = {100, 20},
	[SAY_FORGED] = {50, 5}, /* in its name */
};
static const struct bucket_limit line_rate = {5, 1.0 / 60};

static void list_out(struct device_list *l, struct device *d)
{
	*(d->older ? &d->older->newer : &l->oldest) = d->newer;
	*(d->newer ? &d->newer->older : &l->newest) = d->older;
}

static void list_in(struct device_list *l, struct device *d)
{
	d->older = l->newest;
	d->newer = NULL;
	*(d->older ? &d->older->newer : &l->oldest) = d;
	l->newest = d;
}

static struct device_list *list_of(struct trainer *t, const struct device *d)
{
	return &t->by_age[device_is_proven(d)];
}

void device_release(struct device *d)
{
	if (!d->gone || d->dirty || d->has_gap)
		return;
	free(d->status);
	free(d);
}

static void evict(struct trainer *t, struct device *d)
{
	struct err err = {0};

	log_debug("device forgotten device=%s", d->id);
	offers_forget(t, d);
	if (db_device_forget(t->db, d->id, &err) < 0)
		trainer_fault(t, &err);
	idmap_remove(&t->devices, &d->node);
	list_out(list_of(t, d), d);
	d->gone = true;
	device_release(d);
	if (t->flush_at_ms < 0)
		t->flush_at_ms = trainer_now(t) + FLUSH_MS;
}

static bool make_room(struct trainer *t)
{
	for (int proven = 0; proven < 2; proven++)
		for (struct device *d = t->by_age[proven].oldest; d; d = d->newer)
			if (!d->jobs) {
				evict(t, d);
				return true;
			}
	return false;
}

struct device *device_find(const struct trainer *t, const char *id)
{
	struct idmap_node *n = idmap_find(&t->devices, id);

	return n ? idmap_entry(n, struct device, node) : NULL;
}

struct device *device_get(struct trainer *t, const char *id)
{
	struct device *d = device_find(t, id);

	if (d)
		return d;
	if (t->devices.n >= t->devices_max && !make_room(t)) {
		t->n_refused++;
		return NULL;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	memcpy(d->id, id, strnlen(id, ID_MAX));
	d->error = -1;
	idmap_add(&t->devices, &d->node, d->id);
	list_in(list_of(t, d), d);
	return d;
}

/* Only the table holds devices that are not gone. */
static int drop(void *user, struct idmap_node *node)
{
	struct trainer *t = user;
	struct device *d = idmap_entry(node, struct device, node);

	offers_forget(t, d);
	idmap_remove(&t->devices, node);
	d->gone = true;
	device_release(d);
	return 0;
}

void devices_free(struct trainer *t)
{
	struct device *d;

	if (t->devices.buckets)
		idmap_each(&t->devices, drop, t);
	while ((d = t->dirty)) {
		t->dirty = d->next_dirty;
		d->dirty = false;
		device_release(d);
	}
	while ((d = t->gaps)) {
		t->gaps = d->next_gap;
		d->has_gap = false;
		device_release(d);
	}
	idmap_done(&t->devices);
}

void device_touch(struct trainer *t, struct device *d)
{
	if (d->dirty)
		return;
	d->dirty = true;
	d->next_dirty = t->dirty;
	t->dirty = d;
	if (t->flush_at_ms < 0)
		t->flush_at_ms = trainer_now(t) + FLUSH_MS;
}

void device_seen(struct trainer *t, struct device *d)
{
	d->seen_ms = trainer_utc(t);
	list_out(list_of(t, d), d);
	list_in(list_of(t, d), d);
	device_touch(t, d);
}

void device_restore(struct trainer *t, struct device *d, int64_t handovers)
{
	list_out(list_of(t, d), d);
	d->handovers = handovers;
	list_in(list_of(t, d), d);
}

void device_completed(struct trainer *t, struct device *d)
{
	device_restore(t, d, d->handovers + 1);
	device_touch(t, d);
}

void device_count_refused(struct trainer *t, struct device *d)
{
	d->n_refused++;
	t->n_refused++;
}

void device_complain(struct trainer *t, struct device *d, const char *what, const char *why)
{
	device_count_refused(t, d);
	if (!bucket_take(&d->lines, &line_rate, trainer_now(t), NULL)) {
		d->unlogged++;
		return;
	}
	if (d->unlogged > 0)
		log_warning("%llu refusals left out device=%s", (unsigned long long)d->unlogged,
			    d->id);
	d->unlogged = 0;
	log_warning("%s refused device=%s: %s", what, d->id, why);
}

void device_not_understood(struct trainer *t, const char *id, const char *what, const char *why)
{
	struct device *d = device_find(t, id);

	if (d) {
		device_complain(t, d, what, why);
		return;
	}
	t->n_refused++;
	log_debug("%s of an unknown device refused device=%s dropped=%llu: %s", what, id,
		  (unsigned long long)t->n_refused, why);
}

bool device_heed(struct trainer *t, struct device *d, enum say what)
{
	if (bucket_has(&d->said[what], &device_rates[what], 1, trainer_now(t), NULL))
		return true;
	device_complain(t, d,
			what == SAY_REPORT  ? "report"
			: what == SAY_OFFER ? "offer"
					    : "message",
			"more than its rate");
	return false;
}

void device_said(struct device *d, enum say what)
{
	bucket_use(&d->said[what], 1);
}

void device_bar(struct trainer *t, struct device *d)
{
	int64_t ms = BAR_CAP_MS;

	if (d->strikes < BAR_STRIKES_MAX)
		ms = MIN_OF(BAR_FIRST_MS << d->strikes++, BAR_CAP_MS);
	d->barred_until_ms = MAX_OF(d->barred_until_ms, trainer_now(t) + ms);
}
