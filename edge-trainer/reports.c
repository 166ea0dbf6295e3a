/* Devices and their reports.
 *
 * Model: of each device, all reports up to report_have are here (or cannot be had), and numbers up
 * to report_seq are known to have been made. Where they differ the device is on the list of gaps,
 * and what is missing first is asked for, with back-off, while it is online. Writes wait for the
 * next flush; what is lost before it is a gap again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

struct device *device_get(struct trainer *t, const char *id)
{
	struct idmap_node *n = idmap_find(&t->devices, id);
	struct device *d;

	if (n)
		return idmap_entry(n, struct device, node);
	if (t->devices.n >= TRAINER_DEVICES_MAX) {
		t->n_dropped++;
		return NULL;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	memcpy(d->id, id, strnlen(id, ID_MAX));
	idmap_add(&t->devices, &d->node, d->id);
	return d;
}

void device_free(struct device *d)
{
	free(d->status);
	free(d);
}

void device_touch(struct trainer *t, struct device *d)
{
	d->seen_ms = trainer_utc(t);
	if (d->dirty)
		return;
	d->dirty = true;
	d->next_dirty = t->dirty;
	t->dirty = d;
	if (t->flush_at_ms < 0)
		t->flush_at_ms = trainer_now(t) + FLUSH_MS;
}

void device_complain(struct device *d, const char *what, const char *why)
{
	if (d->n_refused++ == 0)
		log_warning("%s refused device=%s: %s (further ones are only counted)", what, d->id,
			    why);
	else
		log_debug("%s refused device=%s refused=%llu: %s", what, d->id,
			  (unsigned long long)d->n_refused, why);
}

static void note_gap(struct trainer *t, struct device *d)
{
	if (d->report_seq <= d->report_have || d->has_gap)
		return;
	d->has_gap = true;
	d->gap_tries = 0;
	d->gap_at_ms = trainer_now(t) + GAP_FIRST_MS;
	d->gap_to = 0;
	d->next_gap = t->gaps;
	t->gaps = d;
}

/* It was away, or nobody knew: what waits for it goes out at once. */
static void came_back(struct trainer *t, struct device *d)
{
	d->gap_tries = 0;
	d->gap_at_ms = trainer_now(t) + GAP_FIRST_MS;
	for (struct entry *e = d->jobs, *next; e; e = next) {
		next = e->next_of_device;
		pull_restart(t, e);
		entry_event_kind(t, e, JOB_E_DEVICE_UP);
	}
}

/* A device that speaks is there, whatever its presence said last: one lost message, or a false one,
 * must not keep results from it. */
static void heard_live(struct trainer *t, struct device *d, const struct mqtt_message *m)
{
	if (m->retained || d->online || !d->presence_known)
		return;
	d->online = true;
	came_back(t, d);
}

void reports_presence(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_get(t, topic->device);
	struct err err = {0};
	struct msg_presence p;
	bool came;

	if (!d || m->len == 0)
		return;
	if (msg_presence_parse(m->payload, m->len, &p, &err) < 0) {
		device_complain(d, "presence", err.text);
		return;
	}
	/* The Will of an older boot says nothing about the present one. */
	if (!p.online && p.boot < d->boot)
		return;
	came = p.online && (!d->presence_known || !d->online || d->boot != p.boot);
	d->presence_known = true;
	d->online = p.online;
	d->boot = p.boot;
	device_touch(t, d);
	if (came)
		came_back(t, d);
}

void reports_status(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_get(t, topic->device);
	struct err err = {0};
	struct msg_status s;

	if (!d || m->len == 0)
		return;
	if (msg_status_parse(m->payload, m->len, &s, &err) < 0) {
		device_complain(d, "status", err.text);
		return;
	}
	heard_live(t, d, m);
	free(d->status);
	d->status = strndup(m->payload, m->len);
	d->report_seq = MAX_OF(d->report_seq, s.report_seq);
	device_touch(t, d);
	note_gap(t, d);
}

void reports_report(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_get(t, topic->device);
	struct err err = {0};
	struct msg_report r;
	bool is_new;

	if (!d)
		return;
	if (msg_report_parse(m->payload, m->len, &r, &err) < 0) {
		device_complain(d, "report", err.text);
		return;
	}
	heard_live(t, d, m);
	if (db_report_put(t->db, d->id, &r, trainer_utc(t), &is_new, &err) < 0) {
		trainer_fault(t, &err);
		msg_report_done(&r);
		return;
	}
	device_touch(t, d);
	d->report_seq = MAX_OF(d->report_seq, r.seq);
	if (r.seq == d->report_have + 1)
		d->report_have = r.seq;
	note_gap(t, d);
	/* What was asked for has come: the rest, if any, need not wait. */
	if (d->has_gap && is_new && r.seq == d->gap_to) {
		d->gap_tries = 0;
		d->gap_at_ms = trainer_now(t);
	}
	msg_report_done(&r);
}

static void ask(struct trainer *t, struct device *d, int64_t from, int64_t to)
{
	struct msg_want w = {.reports_from = from, .reports_to = to};

	memcpy(w.trainer, t->conf->id, sizeof(w.trainer));
	log_debug("reports asked device=%s from=%lld to=%lld", d->id, (long long)from,
		  (long long)to);
	trainer_send(t, TOPIC_DEVICE_WANT, d->id, msg_want_print(&w), false, MESSAGE_EXPIRY_S);
}

/* Asks for what is missing first; false when nothing is. */
static bool fill_gap(struct trainer *t, struct device *d, int64_t now_ms)
{
	int64_t have = MAX_OF(d->report_have, d->report_seq - GAP_KEPT), from, to;
	struct err err = {0};

	if (db_report_gap(t->db, d->id, d->log, have, d->report_seq, MESSAGE_REPORTS_MAX, &have, &from,
			  &to, &err) < 0) {
		trainer_fault(t, &err);
		d->gap_at_ms = now_ms + GAP_CAP_MS;
		return true;
	}
	if (have > d->report_have) {
		d->report_have = have;
		d->gap_tries = 0;
		device_touch(t, d);
	}
	if (from == 0)
		return false;
	if (!t->up || !d->online)
		return true;
	if (d->gap_tries >= GAP_TRIES_MAX) {
		log_warning("reports given up device=%s from=%lld to=%lld tries=%u", d->id,
			    (long long)from, (long long)to, d->gap_tries);
		d->report_have = to;
		d->gap_tries = 0;
		device_touch(t, d);
		return true;
	}
	ask(t, d, from, to);
	d->gap_to = to;
	d->gap_at_ms = now_ms + rng_backoff_ms(&t->rng, d->gap_tries++, GAP_FIRST_MS, GAP_CAP_MS);
	return true;
}

void reports_ask(struct trainer *t, int64_t now_ms)
{
	for (struct device **p = &t->gaps; *p;) {
		struct device *d = *p;

		if (now_ms >= d->gap_at_ms && !fill_gap(t, d, now_ms)) {
			d->has_gap = false;
			*p = d->next_gap;
			continue;
		}
		p = &d->next_gap;
	}
}

void reports_flush(struct trainer *t)
{
	struct err err = {0};
	int r = 0;

	t->flush_at_ms = -1;
	while (t->dirty) {
		struct device *d = t->dirty;
		struct db_device row = {
			.status = d->status, .boot = d->boot, .online = d->online,
			.report_seq = d->report_seq, .report_have = d->report_have,
			.seen_ms = d->seen_ms,
		};

		memcpy(row.id, d->id, sizeof(row.id));
		if (r == 0)
			r = db_device_put(t->db, &row, &err);
		free(d->status);
		d->status = NULL;
		d->dirty = false;
		t->dirty = d->next_dirty;
	}
	if (r < 0)
		trainer_fault(t, &err);
	trainer_commit(t);
}

static int load_device(void *user, const struct db_device *row)
{
	struct trainer *t = user;
	struct device *d = device_get(t, row->id);

	if (!d)
		return t->devices.n >= TRAINER_DEVICES_MAX ? 0 : -ENOMEM;
	d->boot = row->boot;
	d->report_seq = row->report_seq;
	d->report_have = row->report_have;
	note_gap(t, d);
	return 0;
}

int reports_load(struct trainer *t, struct err *err)
{
	return db_device_each(t->db, load_device, t, err);
}

static int forget_have(void *user, struct idmap_node *node)
{
	(void)user;
	idmap_entry(node, struct device, node)->report_have = 0;
	return 0;
}

void reports_undone(struct trainer *t)
{
	idmap_each(&t->devices, forget_have, NULL);
	reports_load(t, NULL);
}
