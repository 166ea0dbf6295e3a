/* What the agent tells without being asked: presence, status, reports. */
#include "device-agent/agent_impl.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define REPORTS_BEHIND_MAX 100 /* after a long time offline; older ones are asked for */

int announce_publish(struct agent *a, const struct topic *t, char *text, bool retain)
{
	_cleanup_free_ char *owned = text;
	char topic[TOPIC_SIZE];
	if (!owned)
		return -ENOMEM;
	int r = topic_format(topic, a->conf.site, t);
	if (r < 0)
		return r;
	owned = trust_sign(a->trust, t, topic, owned);
	if (!owned)
		return -ENOMEM;
	struct mqtt_publish p = {
		.topic = topic, .payload = owned, .len = strlen(owned), .qos = 1, .retain = retain};
	/* What is repeated does not pile up where a link is down. */
	if (!retain && t->kind != TOPIC_DEVICE_REPORT)
		p.expiry_s = AGENT_EXPIRY_S;
	return a->port.publish(a->port.user, &p);
}

static struct topic own(const struct agent *a, enum topic_kind kind)
{
	struct topic t = {.kind = kind};
	COPY(t.device, a->conf.id);
	return t;
}

void announce_presence(struct agent *a, bool online)
{
	struct topic t = own(a, TOPIC_DEVICE_PRESENCE);
	struct msg_presence m = {.online = online, .boot = a->state->boot};
	announce_publish(a, &t, msg_presence_print(&m), true);
}

/* ---- status ---- */

static enum phase phase_of(const struct agent *a)
{
	if (a->state->paused)
		return PHASE_PAUSED;
	if (a->evaluate_id || (a->making.id && a->making.id != a->train_id))
		return PHASE_EVALUATING;
	if (a->train_id)
		return PHASE_TRAINING;
	if (a->coding.id || a->noising.id)
		return PHASE_EVALUATING; /* the forms, one after the other */
	if (*link_reason(a))
		return PHASE_WAITING;
	if (a->pulling || a->serve.n || coding_decodes(a))
		return PHASE_TRANSFERRING;
	if (!a->worker_ready || a->rescan_id || a->todo == ROUNDS_WAIT || a->todo == ROUNDS_TRAIN ||
	    a->todo == ROUNDS_RESCAN)
		return PHASE_WAITING;
	return PHASE_IDLE;
}

/* The first failure that is waited out; "": none. */
static const char *failing(const struct agent *a)
{
	const struct retry *const all[] = {&a->saving,       &a->training, &a->evaluating,
					   &a->making.retry, &a->pull,     &a->rows,
					   &a->noising.retry};
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i]->failures)
			return all[i]->reason;
	return "";
}

static const char *images_lack(const struct agent *a)
{
	return a->data.n[SPLIT_TRAIN] == 0 ? "no training images"
	       : a->data.n[SPLIT_VALIDATION] == 0
		       ? "no validation images: nothing can become active"
		       : "";
}

size_t announce_reasons(const struct agent *a, struct announce_reason ret[ANNOUNCE_REASONS_MAX])
{
	bool spent = a->state->handover.phase == HANDOVER_IDLE && privacy_spent(a);
	const struct announce_reason all[] = {
		{"worker", a->worker_reason ? a->worker_reason : ""},
		{"retry", failing(a)},
		{"damage", a->damage_until_ms > a->now_ms ? a->damage : ""},
		{"audit", a->audit_failed ? "the audit log cannot be written" : ""},
		{"busy", handover_busy_reason(&a->state->handover)},
		{"link", link_reason(a)},
		{"noise", a->noising.id ? "noise is added to what is handed over" : ""},
		{"form", a->coding.id ? "a form to travel in is chosen" : ""},
		{"decoding", coding_decodes(a) ? "what came in is decoded" : ""},
		{"budget", spent ? "the privacy budget is spent: nothing is handed over" : ""},
		{"starting", a->worker_ready ? "" : "the worker is starting"},
		{"images", images_lack(a)},
		{"pause", a->todo == ROUNDS_WAIT ? "between two rounds" : ""},
	};
	static_assert(ARRAY_LEN(all) <= ANNOUNCE_REASONS_MAX, "one for each");
	memcpy(ret, all, sizeof(all));
	return ARRAY_LEN(all);
}

static const char *reason_of(const struct agent *a)
{
	struct announce_reason all[ANNOUNCE_REASONS_MAX];
	size_t n = announce_reasons(a, all);
	for (size_t i = 0; i < n; i++)
		if (*all[i].text)
			return all[i].text;
	return "";
}

static double share(const struct worker_progress *p)
{
	return p->steps > 0 ? (double)MIN_OF(p->step, p->steps) / (double)p->steps : 0;
}

/* Looked at once a minute, and rounded down to five binary digits: a status is not worth each megabyte. */
static int64_t disk_free(struct agent *a)
{
	uint64_t bytes, step = 1;
	if (a->disk_looked_ms && a->now_ms < a->disk_looked_ms + AGENT_DISK_MS)
		return a->disk_free_bytes;
	a->disk_looked_ms = MAX_OF(a->now_ms, 1);
	a->disk_free_bytes = -1;
	if (file_free_bytes(a->conf.state, &bytes) == 0 && bytes <= JSON_INT_MAX) {
		while (bytes / step >= 32)
			step *= 2;
		a->disk_free_bytes = (int64_t)(bytes / step * step);
	}
	return a->disk_free_bytes;
}

void announce_status_fill(struct agent *a, struct msg_status *ret)
{
	const struct state *s = a->state;
	const struct handover *h = &s->handover;
	struct manifest m;
	memset(ret, 0, sizeof(*ret));
	ret->boot = s->boot;
	COPY(ret->agent, TASUKI_VERSION);
	COPY(ret->model, a->model->id);
	ret->phase = phase_of(a);
	COPY(ret->reason, reason_of(a));
	ret->epoch = s->rounds.epoch;
	ret->report_seq = reports_last(a->reports);
	ret->report_first = reports_first(a->reports);
	COPY(ret->log, s->log);
	ret->has_active = *a->active && store_manifest(a->store, a->active, &m, NULL) == 0;
	if (ret->has_active) {
		const struct score *now = learn_score(a, a->active, SPLIT_VALIDATION);
		const struct state_score *last =
			state_score_find(s, a->active, SPLIT_VALIDATION, NULL);
		const struct score *score = now ? now : last ? &last->score : NULL;
		COPY(ret->active.checkpoint, a->active);
		ret->active.origin = m.origin;
		ret->active.accuracy = score && score->n ? score_accuracy(score) : -1;
		ret->active.pinned = s->pinned;
	}
	bool evaluating = ret->phase == PHASE_EVALUATING && a->evaluate_id;
	ret->progress = evaluating                     ? share(&a->evaluate_progress)
			: ret->phase == PHASE_TRAINING ? share(&a->train_progress)
			: a->pulling && a->part.xfer.n_blocks
				? (double)a->part.xfer.n_held / a->part.xfer.n_blocks
				: -1;
	ret->loss = a->train_id ? a->train_progress.loss : NAN;
	ret->images_per_second = a->train_id ? a->train_progress.images_per_second : NAN;
	COPY(ret->handover, handover_phase_name(h->phase));
	if (h->phase != HANDOVER_IDLE && h->open)
		COPY(ret->trainer, h->trainer);
	ret->skipped_images = a->data.skipped;
	ret->moved_bytes = a->meter.total;
	ret->data_bytes = a->data.bytes ? a->data.bytes : -1;
	ret->disk_free_bytes = disk_free(a);
	struct audit_head head;
	audit_head(a->audit, &head);
	ret->audit_seq = head.seq;
	COPY(ret->audit_head, head.seq ? head.hash : "");
}

void announce_status(struct agent *a, bool force)
{
	force |= a->now_ms >= a->status_repeat_ms;
	if (!a->up ||
	    (!force && (!a->status_dirty || a->now_ms < a->status_sent_ms + AGENT_STATUS_MS)))
		return;
	struct msg_status m;
	struct topic t = own(a, TOPIC_DEVICE_STATUS);
	announce_status_fill(a, &m);
	_cleanup_free_ char *text = msg_status_print(&m);
	a->status_dirty = false;
	if (!text || (!force && a->status_text && strcmp(text, a->status_text) == 0))
		return;
	/* What is told of the log must not be lost with the power. */
	audit_sync(a->audit);
	m.at_ms = a->port.real_ms(a->port.user);
	a->status_sent_ms = a->now_ms;
	a->status_repeat_ms = a->now_ms + rng_backoff_ms(&a->rng, 0, AGENT_STATUS_REPEAT_MS,
							 AGENT_STATUS_REPEAT_MS);
	if (announce_publish(a, &t, msg_status_print(&m), true) < 0) {
		a->status_dirty = true;
		return;
	}
	free(a->status_text);
	a->status_text = TAKE_PTR(text);
}

void announce_later(struct agent *a)
{
	int64_t wait_ms = rng_below(&a->rng, AGENT_UP_SPREAD_MS);
	a->status_repeat_ms = a->now_ms + wait_ms; /* retained ones may be lost */
	a->status_sent_ms = a->status_repeat_ms - AGENT_STATUS_MS;
	a->report_pause_ms = a->now_ms + wait_ms;
}

/* ---- reports ---- */

static int publish_report(struct agent *a, int64_t seq)
{
	struct topic t = own(a, TOPIC_DEVICE_REPORT);
	char *text = NULL;
	struct err err = {0};
	int r = reports_read(a->reports, seq, &text, &err);
	if (r < 0) {
		log_warning("device=%s %s", a->conf.id, err.text);
		return 0; /* the next one may be readable */
	}
	return announce_publish(a, &t, text, false);
}

void announce_reports_want(struct agent *a, int64_t from, int64_t to)
{
	int64_t first = reports_first(a->reports), last = reports_last(a->reports);
	/* Where what is wanted is gone, the oldest one that is kept says so. */
	to = MIN_OF(MAX_OF(to, first), last);
	from = MAX_OF(from, first);
	to = MIN_OF(to, from + AGENT_RANGE_REPORTS - 1);
	if (from > to || a->n_ranges == AGENT_RANGES_MAX)
		return;
	for (size_t i = 0; i < a->n_ranges; i++)
		if (a->ranges[i].from <= from && a->ranges[i].to >= to)
			return;
	a->ranges[a->n_ranges].from = from;
	a->ranges[a->n_ranges++].to = to;
}

/* The next report that is to be published, 0: none. */
static int64_t next_report(struct agent *a)
{
	int64_t last = reports_last(a->reports);
	if (a->published_seq < last) {
		a->published_seq = MAX_OF(a->published_seq, last - REPORTS_BEHIND_MAX);
		return MAX_OF(a->published_seq + 1, reports_first(a->reports));
	}
	return a->n_ranges ? MAX_OF(a->ranges[0].from, reports_first(a->reports)) : 0;
}

static void reported(struct agent *a, int64_t seq)
{
	if (seq > a->published_seq) {
		a->published_seq = seq;
		return;
	}
	a->ranges[0].from = seq + 1;
	if (a->ranges[0].from > a->ranges[0].to)
		memmove(&a->ranges[0], &a->ranges[1], sizeof(a->ranges[0]) * --a->n_ranges);
}

void announce_reports(struct agent *a)
{
	int64_t seq;
	if (!a->up || a->now_ms < a->report_pause_ms)
		return;
	for (int i = 0; i < AGENT_REPORT_BURST && (seq = next_report(a)); i++) {
		if (publish_report(a, seq) < 0)
			break;
		reported(a, seq);
	}
	if (next_report(a))
		a->report_pause_ms = a->now_ms + AGENT_REPORT_PAUSE_MS;
}

int64_t announce_deadline_ms(const struct agent *a)
{
	if (!a->up)
		return -1;
	int64_t at = a->status_dirty ? a->status_sent_ms + AGENT_STATUS_MS : a->status_repeat_ms;
	if (a->n_ranges || a->published_seq < reports_last(a->reports))
		at = MIN_OF(at, a->report_pause_ms);
	return at;
}
