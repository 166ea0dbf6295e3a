/* What devices say of themselves, and their reports.
 *
 * Model: of each device's present log, all reports up to report_have are here (or cannot be had), and
 * numbers up to report_seq are known to have been made. Where they differ the device is on the list of
 * gaps, and what is missing first is asked for, with back-off, while it is online: until it came, or
 * the device no longer keeps it, or was asked for it GAP_TRIES_MAX times. A report of another log (an
 * earlier life of the device) is stored, and counts for nothing else; which log is the present one,
 * its status says. Writes wait for the next flush; what is lost before it, or with it, is a gap again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

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
	d->gap_away = false;
	d->gap_at_ms = trainer_now(t) + GAP_FIRST_MS;
	for (struct entry *e = d->jobs, *next; e; e = next) {
		next = e->next_of_device;
		pull_restart(t, e);
		entry_event_kind(t, e, JOB_E_DEVICE_UP);
	}
}

/* What the broker had kept proves nothing of now. */
static void heard(struct trainer *t, struct device *d, const struct mqtt_message *m)
{
	if (m->retained)
		device_touch(t, d);
	else
		device_seen(t, d);
}

/* A device that speaks is there, whatever its presence said last: one lost message, or a false one,
 * must not keep results from it. */
static void heard_live(struct trainer *t, struct device *d, const struct mqtt_message *m)
{
	heard(t, d, m);
	if (m->retained || d->online || !d->presence_known)
		return;
	d->online = true;
	came_back(t, d);
}

/* From here on its numbers are those of this log. */
static void begin_log(struct device *d, const char *log)
{
	if (d->log_known && strcmp(d->log, log) == 0)
		return;
	if (d->log_known)
		log_info("another log of reports device=%s log=%s before=%s seq=%lld", d->id, log,
			 d->log, (long long)d->report_seq);
	d->log_known = true;
	memcpy(d->log, log, strlen(log) + 1);
	d->report_seq = d->report_have = d->report_first = 0;
	d->gap_tries = 0;
}

void reports_presence(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct err err = {0};
	struct msg_presence p;
	struct device *d;
	bool came;

	if (m->len == 0)
		return;
	if (msg_presence_parse(m->payload, m->len, &p, &err) < 0) {
		device_not_understood(t, topic->device, "presence", err.text);
		return;
	}
	d = device_get(t, topic->device);
	/* The Will of an older boot says nothing about the present one. */
	if (!d || (!p.online && p.boot < d->boot))
		return;
	came = p.online && (!d->presence_known || !d->online || d->boot != p.boot);
	d->presence_known = true;
	d->online = p.online;
	d->boot = p.boot;
	heard(t, d, m);
	if (came)
		came_back(t, d);
}

void reports_status(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct err err = {0};
	struct msg_status s;
	struct device *d;

	if (m->len == 0)
		return;
	if (msg_status_parse(m->payload, m->len, &s, &err) < 0) {
		device_not_understood(t, topic->device, "status", err.text);
		return;
	}
	d = device_get(t, topic->device);
	if (!d)
		return;
	heard_live(t, d, m);
	free(d->status);
	d->status = strndup(m->payload, m->len);
	begin_log(d, s.log);
	record_head(t, d, s.audit_seq, s.audit_head);
	d->report_seq = MAX_OF(d->report_seq, s.report_seq);
	d->report_first = MAX_OF(d->report_first, s.report_first);
	note_gap(t, d);
}

static void count_report(struct trainer *t, struct device *d, const struct msg_report *r,
			 bool is_new)
{
	if (!d->log_known)
		begin_log(d, r->log);
	if (strcmp(d->log, r->log) != 0)
		return;
	d->report_seq = MAX_OF(d->report_seq, r->seq);
	if (r->seq == d->report_have + 1)
		d->report_have = r->seq;
	note_gap(t, d);
	/* What was asked for has come: the rest, if any, need not wait. */
	if (d->has_gap && is_new && r->seq == d->gap_to) {
		d->gap_tries = 0;
		d->gap_at_ms = trainer_now(t);
	}
}

void reports_report(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct err err = {0};
	struct msg_report r;
	struct device *d;
	bool is_new = false;

	if (msg_report_parse(m->payload, m->len, &r, &err) < 0) {
		device_not_understood(t, topic->device, "report", err.text);
		return;
	}
	d = device_get(t, topic->device);
	if (d) {
		heard_live(t, d, m);
		record_head(t, d, r.audit_seq, r.audit_head);
		if (db_report_put(t->db, d->id, &r, trainer_utc(t), &is_new, &err) < 0)
			trainer_fault(t, &err);
		else
			count_report(t, d, &r, is_new);
		t->n_reports += is_new;
		if (!err.code && is_new)
			fleet_report(t, d, &r);
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

static void have_up_to(struct trainer *t, struct device *d, int64_t have)
{
	if (have <= d->report_have)
		return;
	d->report_have = have;
	d->gap_tries = 0;
	device_touch(t, d);
}

/* Room in its bucket for all that one wish brings, lest what was asked for be left out. */
static bool may_answer(const struct device *d, int64_t now_ms)
{
	struct bucket b = d->said[SAY_REPORT];
	struct bucket_limit l = device_rates[SAY_REPORT];

	l.burst -= MESSAGE_REPORTS_MAX - 1;
	return bucket_take(&b, &l, now_ms, NULL);
}

/* What the device has no more, or never gives: noted, and not asked for again. */
static void give_up(struct trainer *t, struct device *d, int64_t from, int64_t to, const char *why)
{
	log_warning("reports given up device=%s log=%s from=%lld to=%lld: %s", d->id, d->log,
		    (long long)from, (long long)to, why);
	have_up_to(t, d, to);
}

/* It is said to be away. Word of its return may be lost, and it may have nothing else to say: it is
 * asked now and then, which counts for nothing when it does not answer. */
static void ask_away(struct trainer *t, struct device *d, int64_t from, int64_t to, int64_t now_ms)
{
	if (d->gap_away)
		ask(t, d, from, to);
	d->gap_to = to;
	d->gap_away = true;
	d->gap_at_ms = now_ms + GAP_AWAY_MS;
}

/* Asks for what is missing first; false when nothing is. */
static bool fill_gap(struct trainer *t, struct device *d, int64_t now_ms)
{
	int64_t have = MAX_OF(d->report_have, d->report_seq - GAP_KEPT), from, to;
	struct err err = {0};

	d->gap_at_ms = now_ms + GAP_CAP_MS;
	if (db_report_gap(t->db, d->id, d->log, have, d->report_seq, MESSAGE_REPORTS_MAX, &have,
			  &from, &to, &err) < 0) {
		trainer_fault(t, &err);
		return true;
	}
	have_up_to(t, d, have);
	if (from == 0)
		return false;
	if (from < d->report_first) {
		give_up(t, d, from, MIN_OF(d->report_first - 1, d->report_seq),
			"no longer kept by the device");
		d->gap_at_ms = now_ms;
		return true;
	}
	if (!t->up || !may_answer(d, now_ms)) {
		d->gap_at_ms = now_ms + TICK_MS;
		return true;
	}
	if (!d->online) {
		ask_away(t, d, from, to, now_ms);
		return true;
	}
	if (d->gap_tries >= GAP_TRIES_MAX) {
		give_up(t, d, from, to, "asked for too often");
		d->gap_at_ms = now_ms;
		return true;
	}
	ask(t, d, from, to);
	d->gap_to = to;
	d->gap_at_ms = now_ms + rng_backoff_ms(&t->rng, d->gap_tries++, GAP_FIRST_MS, GAP_CAP_MS);
	return true;
}

/* Those up to `last` (a link of the list) go to its end: the others come first next time. */
static void rotate_gaps(struct trainer *t, struct device **last)
{
	struct device *first = t->gaps, **end;

	if (!*last || last == &t->gaps)
		return;
	t->gaps = *last;
	*last = NULL;
	for (end = &t->gaps; *end;)
		end = &(*end)->next_gap;
	*end = first;
}

void reports_ask(struct trainer *t, int64_t now_ms)
{
	unsigned n = 0;
	struct device **p = &t->gaps;

	while (*p && n < GAP_ASKS_PER_TICK) {
		struct device *d = *p;
		bool is_due = !d->gone && now_ms >= d->gap_at_ms;

		n += is_due;
		if (d->gone || (is_due && !fill_gap(t, d, now_ms))) {
			d->has_gap = false;
			*p = d->next_gap;
			device_release(d);
			continue;
		}
		p = &d->next_gap;
	}
	rotate_gaps(t, p);
}

static int put_row(struct trainer *t, struct device *d, struct err *err)
{
	struct db_device row = {
		.status = d->status, .boot = d->boot, .online = d->online,
		.report_seq = d->report_seq, .report_have = d->report_have,
		.seen_ms = d->seen_ms, .handovers = d->handovers,
		.weight = d->weight, .error = d->error,
	};

	memcpy(row.id, d->id, sizeof(row.id));
	memcpy(row.log, d->log, sizeof(row.log));
	d->batch = t->batch;
	return db_device_put(t->db, &row, err);
}

void reports_flush(struct trainer *t)
{
	struct err err = {0};
	int r = 0;

	t->flush_at_ms = -1;
	while (t->dirty) {
		struct device *d = t->dirty;

		if (r == 0 && !d->gone)
			r = put_row(t, d, &err);
		free(d->status);
		d->status = NULL;
		d->dirty = false;
		t->dirty = d->next_dirty;
		device_release(d);
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
		return -ENOMEM;
	device_restore(t, d, row->handovers);
	d->boot = row->boot;
	d->seen_ms = row->seen_ms;
	d->log_known = true;
	memcpy(d->log, row->log, sizeof(d->log));
	d->report_seq = row->report_seq;
	d->report_have = row->report_have;
	d->weight = row->weight;
	d->error = row->error;
	note_gap(t, d);
	return 0;
}

int reports_load(struct trainer *t, struct err *err)
{
	return db_device_each(t->db, load_device, t, err);
}

static int forget_have(void *user, struct idmap_node *node)
{
	struct trainer *t = user;
	struct device *d = idmap_entry(node, struct device, node);

	d->report_have = 0;
	if (d->batch == t->batch) /* its row went, too */
		device_touch(t, d);
	return 0;
}

static int reload_have(void *user, const struct db_device *row)
{
	struct trainer *t = user;
	struct device *d = device_find(t, row->id);

	if (d && strcmp(d->log, row->log) == 0)
		d->report_have = row->report_have;
	return 0;
}

static int renew_gap(void *user, struct idmap_node *node)
{
	note_gap(user, idmap_entry(node, struct device, node));
	return 0;
}

/* What is known of numbers stays; of what is here, only the database knows. */
void reports_undone(struct trainer *t)
{
	idmap_each(&t->devices, forget_have, t);
	db_device_each(t->db, reload_have, t, NULL);
	idmap_each(&t->devices, renew_gap, t);
	if (t->flush_at_ms >= 0)
		t->flush_at_ms = trainer_now(t) + FLUSH_RETRY_MS;
}
