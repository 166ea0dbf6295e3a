/* A trainer: the real one with its database and store, between the simulated broker and workers. */
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"
#include "tests/sim/soak.h"

#define SLOTS       1
#define STEP_MAX_MS 10000

struct sim_trainer {
	struct trainer_conf conf;
	const struct model *model;
	struct trainer *t; /* NULL: it does not run */
	struct sim_client client;
	struct sim_worker worker[SLOTS];
	struct slot_of {
		struct sim_trainer *trainer;
		unsigned slot;
	} slots[SLOTS];
	int64_t wake_ms;
	uint64_t life;
	bool doomed;
};

static void start(void *arg, uint64_t life);
static void tick(void *arg, uint64_t life);

static void take_down(struct sim_trainer *s)
{
	history_note("%s killed", s->conf.id);
	s->doomed = false;
	sim_stop(&s->client, true);
	for (unsigned i = 0; i < SLOTS; i++)
		sim_worker_kill(&s->worker[i]);
	trainer_free(s->t);
	s->t = NULL;
	sim_at(sim_now() + sim_between(1, sim_down_max_ms), start, s, ++s->life);
}

/* After all that enters the trainer: main.c asks anew when it wants to be called. */
static void leave(struct sim_trainer *s)
{
	if (s->t && s->doomed)
		take_down(s);
	if (s->t && s->wake_ms > sim_now() + 1) {
		s->wake_ms = sim_now() + 1;
		sim_at(s->wake_ms, tick, s, s->life);
	}
}

void sim_trainer_kill(struct sim_trainer *s)
{
	if (s->t)
		take_down(s);
}

/* --- ports --- */

static int publish(void *user, const struct mqtt_publish *p)
{
	struct sim_trainer *s = user;

	if (s->doomed)
		return 0;
	if (sim_chance(sim_crash)) {
		s->doomed = true;
		return 0;
	}
	return sim_publish(&s->client, p);
}

/* It works under a grant only, and a later fence ends that. */
static void check_grant(const struct sim_trainer *s, unsigned slot)
{
	const struct entry *e = s->t->slots[slot].entry;
	int64_t fence = e ? soak_fence(e->job.device) : 0;

	if (e && fence != 0 && fence != e->job.fence)
		history_fail("%s trains for %s under fence %lld; the last one given out is %lld",
			     s->conf.id, e->job.device, (long long)e->job.fence, (long long)fence);
}

static int work(void *user, unsigned slot, const char *op, struct json *args, uint64_t *ret_id)
{
	struct sim_trainer *s = user;

	if (strcmp(op, "train") == 0)
		check_grant(s, slot);
	return sim_worker_request(&s->worker[slot], op, args, ret_id);
}

/* --- what happens to it --- */

static void tick(void *arg, uint64_t life)
{
	struct sim_trainer *s = arg;

	if (!s->t || s->life != life || sim_now() < s->wake_ms)
		return;
	s->wake_ms = MAX_OF(trainer_tick(s->t), sim_now() + 1);
	sim_at(s->wake_ms, tick, s, s->life);
	if (s->doomed)
		take_down(s);
}

static void on_message(void *user, const struct mqtt_message *m)
{
	struct sim_trainer *s = user;

	if (s->t)
		trainer_message(s->t, m);
	leave(s);
}

static void on_link(void *user, bool up)
{
	struct sim_trainer *s = user;

	if (s->t)
		trainer_connected(s->t, up);
	leave(s);
}

static void on_writable(void *user)
{
	struct sim_trainer *s = user;

	if (s->t)
		trainer_writable(s->t);
	leave(s);
}

static void on_ready(void *owner)
{
	struct slot_of *o = owner;
	struct worker_ready r = {.n = {100, 0, 10}, .classes = 5};

	memset(r.snapshot[SPLIT_TEST], 'c', HASH_HEX);
	memcpy(r.model, o->trainer->model->id, HASH_SIZE);
	if (o->trainer->t)
		trainer_worker_ready(o->trainer->t, o->slot, &r);
	leave(o->trainer);
}

static void on_progress(void *owner, uint64_t id)
{
	struct slot_of *o = owner;
	struct worker_progress p = {.step = 1, .steps = 2, .loss = 1};

	if (o->trainer->t)
		trainer_worker_progress(o->trainer->t, o->slot, id, &p);
	leave(o->trainer);
}

static void on_reply(void *owner, uint64_t id, const struct json *result, const struct err *err)
{
	struct slot_of *o = owner;

	if (o->trainer->t)
		trainer_worker_reply(o->trainer->t, o->slot, id, result, err);
	leave(o->trainer);
}

static void on_died(void *owner, const struct err *why)
{
	struct slot_of *o = owner;

	if (o->trainer->t)
		trainer_worker_died(o->trainer->t, o->slot, why, false, 1000);
	leave(o->trainer);
}

/* --- its life --- */

static void start(void *arg, uint64_t life)
{
	struct sim_trainer *s = arg;
	const struct trainer_ports ports = {s, publish, work, sim_mono_ms, sim_real_ms};
	struct sim_client *c = &s->client;
	struct err err = {0};

	if (s->life != life)
		return;
	if (trainer_new(&s->conf, s->model, &ports, &s->t, &err) < 0) {
		history_fail("%s does not start: %s", s->conf.id, err.text);
		return;
	}
	history_note("%s starts", s->conf.id);
	c->n_filters = trainer_subscriptions(s->t, c->filters, c->qos, c->retained);
	trainer_will(s->t, c->will_topic, sizeof(c->will_topic), c->will, sizeof(c->will));
	sim_start(c);
	for (unsigned i = 0; i < SLOTS; i++)
		sim_worker_start(&s->worker[i]);
	s->wake_ms = sim_now() + 1;
	sim_at(s->wake_ms, tick, s, s->life);
}

struct sim_trainer *sim_trainer_new(unsigned number, const char *dir, const struct model *m)
{
	struct sim_trainer *s = calloc(1, sizeof(*s));
	struct trainer_conf *c = &s->conf;

	s->model = m;
	strcpy(c->site, SITE);
	snprintf(c->id, sizeof(c->id), "edge-%u", number);
	file_path(c->state, sizeof(c->state), "%s/edge-%u", dir, number);
	file_mkdirs(c->state, NULL);
	sim_identity(ROLE_TRAINER, c->id, &c->identity);
	c->epochs = 2;
	c->seed = 1;
	c->slots = SLOTS;
	c->capacity = 2;
	c->device_per_hour = 3600;
	c->keep_days = 1;
	c->history_days = 30;
	c->disk_max_bytes = 1 << 24;
	c->lease_ms = 30000;
	c->block_size = 1024;
	c->encoding = sim_encoding;
	s->client = (struct sim_client){
		.user = s, .message = on_message, .link = on_link, .writable = on_writable};
	for (unsigned i = 0; i < SLOTS; i++) {
		s->slots[i] = (struct slot_of){s, i};
		s->worker[i] = (struct sim_worker){.model = m,
						   .salt = 100 + number,
						   .step_max_ms = STEP_MAX_MS,
						   .owner = &s->slots[i],
						   .ready = on_ready,
						   .progress = on_progress,
						   .reply = on_reply,
						   .died = on_died};
	}
	sim_join(&s->client);
	sim_at(sim_now() + sim_between(1, 3000), start, s, ++s->life);
	return s;
}

void sim_trainer_free(struct sim_trainer *s)
{
	for (unsigned i = 0; i < SLOTS; i++)
		sim_worker_kill(&s->worker[i]);
	trainer_free(s->t);
	free(s);
}

struct sim_client *sim_trainer_client(struct sim_trainer *s)
{
	return &s->client;
}

/* One that lost its lease may lie there, lapsed, until it is offered again or too old. */
static bool matters(const struct entry *e)
{
	return e->job.state != JOB_LAPSED || soak_fence(e->job.device) == e->job.fence;
}

unsigned sim_trainer_open(const struct sim_trainer *s, char *buf, size_t size)
{
	unsigned n = 0;
	size_t len;

	snprintf(buf, size, "%s %s:", s->conf.id, s->t ? "has open" : "is down");
	for (const struct entry *e = s->t ? s->t->entries : NULL; e; e = e->next) {
		if (!matters(e))
			continue;
		n++;
		len = strlen(buf);
		snprintf(buf + len, size - len, " %s/%lld %s", e->job.device,
			 (long long)e->job.fence, job_state_name(e->job.state));
	}
	return s->t ? n : 1;
}

/* --- what its database says in the end --- */

static void each_row(struct sim_trainer *s, const char *sql, void *arg,
		     void (*row)(struct sim_trainer *s, sqlite3_stmt *q, void *arg))
{
	char path[FILE_PATH_MAX];
	sqlite3 *h = NULL;
	sqlite3_stmt *q = NULL;

	file_path(path, sizeof(path), "%s/trainer.db", s->conf.state);
	if (sqlite3_open_v2(path, &h, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(h, sql, -1, &q, NULL) != SQLITE_OK)
		history_fail("%s: %s", path, sqlite3_errmsg(h));
	while (q && sqlite3_step(q) == SQLITE_ROW)
		row(s, q, arg);
	sqlite3_finalize(q);
	sqlite3_close(h);
}

static const char *text(sqlite3_stmt *q, int column)
{
	const unsigned char *t = sqlite3_column_text(q, column);

	return t ? (const char *)t : "";
}

/* device, fence, count: what was granted once is one job. */
static void twice_row(struct sim_trainer *s, sqlite3_stmt *q, void *arg)
{
	(void)arg;
	history_fail("%s: %s fence %lld has %lld jobs", s->conf.id, text(q, 0),
		     (long long)sqlite3_column_int64(q, 1), (long long)sqlite3_column_int64(q, 2));
}

/* device, fence, result, outcome, with a decision: it is the device's. */
static void decided_row(struct sim_trainer *s, sqlite3_stmt *q, void *arg)
{
	struct history_decision *d =
		history_decision(text(q, 0), sqlite3_column_int64(q, 1), text(q, 2));

	(void)arg;
	if (!d || strcmp(decision_name(d->decision), text(q, 3)) != 0) {
		history_fail("%s: %s fence %lld result %.12s is %s; the device decided %s",
			     s->conf.id, text(q, 0), (long long)sqlite3_column_int64(q, 1),
			     text(q, 2), text(q, 3), d ? decision_name(d->decision) : "nothing");
		return;
	}
	d->n_jobs++;
}

struct reports_check {
	struct sim_device *device;
	int64_t seq;
};

/* seq, checkpoint, n, correct, decision: as the device made it. */
static void report_row(struct sim_trainer *s, sqlite3_stmt *q, void *arg)
{
	struct reports_check *c = arg;
	int64_t seq = sqlite3_column_int64(q, 0);
	char *made = sim_device_report(c->device, seq);
	struct msg_report r;

	if (seq != ++c->seq)
		history_fail("%s: report %lld follows %lld", s->conf.id, (long long)seq,
			     (long long)c->seq - 1);
	c->seq = seq;
	if (!made || msg_report_parse(made, strlen(made), &r, NULL) < 0) {
		history_fail("%s: report %lld was not made", s->conf.id, (long long)seq);
	} else {
		if (strcmp(r.checkpoint, text(q, 1)) != 0 ||
		    r.score.n != sqlite3_column_int64(q, 2) ||
		    r.score.correct != sqlite3_column_int64(q, 3))
			history_fail("%s: report %lld differs", s->conf.id, (long long)seq);
		msg_report_done(&r);
	}
	free(made);
}

void sim_trainer_check(struct sim_trainer *s, struct sim_device *const *devices, unsigned n)
{
	char sql[256];

	each_row(s,
		 "SELECT device, fence, count(*) FROM jobs WHERE fence > 0"
		 " GROUP BY device, fence HAVING count(*) > 1",
		 NULL, twice_row);
	each_row(s,
		 "SELECT device, fence, coalesce(result, partial), outcome FROM jobs"
		 " WHERE state = 'done' AND outcome IN ('activated', 'kept', 'refused')",
		 NULL, decided_row);
	for (unsigned i = 0; i < n; i++) {
		struct reports_check c = {devices[i], 0};

		snprintf(sql, sizeof(sql),
			 "SELECT seq, checkpoint, n, correct FROM reports"
			 " WHERE device = 'cam-%u' ORDER BY seq",
			 i);
		each_row(s, sql, &c, report_row);
		if (c.seq != sim_device_reports(devices[i]))
			history_fail("%s has %lld reports of cam-%u, which made %lld", s->conf.id,
				     (long long)c.seq, i,
				     (long long)sim_device_reports(devices[i]));
	}
}
