/* What a device says of itself: presence, status, report. */
#include "common/protocol/message.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/field.h"

#define RATE_MAX 1e12 /* images per second */

static const char *const phases[PHASE_N] = {
	[PHASE_IDLE] = "idle",
	[PHASE_TRAINING] = "training",
	[PHASE_EVALUATING] = "evaluating",
	[PHASE_TRANSFERRING] = "transferring",
	[PHASE_WAITING] = "waiting",
	[PHASE_PAUSED] = "paused",
};

const char *phase_name(enum phase p)
{
	return p < PHASE_N ? phases[p] : "unknown";
}

/* ---- presence ---- */

char *msg_presence_print(const struct msg_presence *m)
{
	struct json *obj = json_new_obj();
	json_set_bool(obj, "online", m->online);
	json_set_int(obj, "boot", m->boot);
	return put_print(obj);
}

int msg_presence_parse(const void *p, size_t len, struct msg_presence *ret, struct err *err)
{
	struct msg_presence m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "presence", p, len, MESSAGE_SMALL_MAX, err);
	field_bool(&f, "online", REQUIRED, &m.online);
	field_count(&f, "boot", REQUIRED, &m.boot);
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}

/* ---- status ---- */

static void put_amount(struct json *obj, const char *key, int64_t v)
{
	if (v >= 0)
		json_set_int(obj, key, v);
}

static struct json *print_active(const struct msg_status *m)
{
	struct json *obj = json_new_obj();
	json_set_str(obj, "checkpoint", m->active.checkpoint);
	json_set_str(obj, "origin", origin_name(m->active.origin));
	if (m->active.accuracy >= 0)
		put_within(obj, "accuracy", m->active.accuracy, 0, 1);
	else
		json_set_null(obj, "accuracy");
	json_set_bool(obj, "pinned", m->active.pinned);
	return obj;
}

struct json *msg_status_json(const struct msg_status *m)
{
	struct json *obj = json_new_obj();
	json_set_int(obj, "boot", m->boot);
	put_text(obj, "agent", m->agent, sizeof(m->agent) - 1);
	json_set_str(obj, "model", m->model);
	json_set_str(obj, "phase", phase_name(m->phase));
	put_text(obj, "reason", m->reason, sizeof(m->reason) - 1);
	json_set_int(obj, "epoch", m->epoch);
	json_set_int(obj, "report_seq", m->report_seq);
	if (m->report_first)
		json_set_int(obj, "report_first", m->report_first);
	put_optional(obj, "log", m->log, sizeof(m->log) - 1);
	if (m->has_active)
		json_set(obj, "active", print_active(m));
	else
		json_set_null(obj, "active");
	json_set_int(obj, "skipped_images", m->skipped_images);
	put_time(obj, "at", m->at_ms);
	if (m->progress >= 0)
		put_within(obj, "progress", m->progress, 0, 1);
	if (isfinite(m->loss))
		put_within(obj, "loss", m->loss, 0, LOSS_MAX);
	if (isfinite(m->images_per_second))
		put_within(obj, "images_per_second", m->images_per_second, 0, RATE_MAX);
	put_optional(obj, "handover", m->handover, sizeof(m->handover) - 1);
	put_optional(obj, "trainer", m->trainer, sizeof(m->trainer) - 1);
	put_amount(obj, "moved_bytes", m->moved_bytes);
	put_amount(obj, "data_bytes", m->data_bytes);
	put_amount(obj, "disk_free_bytes", m->disk_free_bytes);
	put_audit(obj, m->audit_seq, m->audit_head);
	return obj;
}

char *msg_status_print(const struct msg_status *m)
{
	return put_print(msg_status_json(m));
}

static void parse_active(struct fields *f, struct msg_status *m)
{
	struct fields inner;
	if (!field_there(f, "active", REQUIRED) || field_is_null(f, "active") ||
	    !fields_down(f, "active", REQUIRED, &inner))
		return;
	m->has_active = true;
	m->active.accuracy = -1;
	field_hash(&inner, "checkpoint", REQUIRED, m->active.checkpoint);
	field_origin(&inner, "origin", &m->active.origin);
	if (!field_is_null(&inner, "accuracy"))
		field_num(&inner, "accuracy", REQUIRED, 0, 1, &m->active.accuracy);
	field_bool(&inner, "pinned", REQUIRED, &m->active.pinned);
	fields_up(f, "active", &inner);
}

int msg_status_parse(const void *p, size_t len, struct msg_status *ret, struct err *err)
{
	struct msg_status m = {.progress = -1,
			       .loss = NAN,
			       .images_per_second = NAN,
			       .moved_bytes = -1,
			       .data_bytes = -1,
			       .disk_free_bytes = -1};
	int phase = 0;
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "status", p, len, MESSAGE_SMALL_MAX, err);
	field_count(&f, "boot", REQUIRED, &m.boot);
	field_text(&f, "agent", REQUIRED, m.agent, sizeof(m.agent));
	field_hash(&f, "model", REQUIRED, m.model);
	field_word(&f, "phase", REQUIRED, phases, PHASE_N, &phase);
	field_text(&f, "reason", REQUIRED, m.reason, sizeof(m.reason));
	field_count(&f, "epoch", REQUIRED, &m.epoch);
	field_count(&f, "report_seq", REQUIRED, &m.report_seq);
	field_int(&f, "report_first", OPTIONAL, 1, JSON_INT_MAX, &m.report_first);
	field_logid(&f, "log", OPTIONAL, m.log);
	parse_active(&f, &m);
	field_time(&f, "at", REQUIRED, &m.at_ms);
	field_num(&f, "progress", OPTIONAL, 0, 1, &m.progress);
	field_num(&f, "loss", OPTIONAL, 0, LOSS_MAX, &m.loss);
	field_num(&f, "images_per_second", OPTIONAL, 0, RATE_MAX, &m.images_per_second);
	field_text(&f, "handover", OPTIONAL, m.handover, sizeof(m.handover));
	field_id(&f, "trainer", OPTIONAL, m.trainer);
	field_count(&f, "skipped_images", OPTIONAL, &m.skipped_images);
	field_count(&f, "moved_bytes", OPTIONAL, &m.moved_bytes);
	field_count(&f, "data_bytes", OPTIONAL, &m.data_bytes);
	field_count(&f, "disk_free_bytes", OPTIONAL, &m.disk_free_bytes);
	field_audit(&f, &m.audit_seq, m.audit_head);
	if (fields_end(&f) < 0)
		return f.r;
	m.phase = (enum phase)phase;
	*ret = m;
	return 0;
}

/* ---- report ---- */

static const char *const report_decisions[] = {"kept", "activated"};

static struct json *print_classes(const struct msg_report *m)
{
	struct json *arr = json_new_arr();
	for (size_t i = 0; i < m->n_per_class; i++) {
		struct json *obj = json_new_obj();
		json_set_int(obj, "class", m->per_class[i].class_index);
		json_set_int(obj, "n", m->per_class[i].n);
		json_set_int(obj, "correct", m->per_class[i].correct);
		json_push(arr, obj);
	}
	return arr;
}

static struct json *print_test(const struct msg_report *m)
{
	struct json *obj = json_new_obj();
	put_text(obj, "name", m->test, sizeof(m->test) - 1);
	json_set_int(obj, "contenders", m->contenders);
	if (m->has_pair) {
		json_set_int(obj, "won", m->won);
		json_set_int(obj, "lost", m->lost);
		put_within(obj, "p", m->p, 0, 1);
	}
	return obj;
}

static struct json *print_privacy(const struct msg_privacy *p)
{
	struct json *j = json_new_obj();
	put_within(j, "epsilon", p->epsilon, 0, MESSAGE_EPSILON_MAX);
	put_within(j, "delta", p->delta, 0, 1);
	put_within(j, "budget", p->budget, 0, MESSAGE_EPSILON_MAX);
	json_set_int(j, "handovers", p->handovers);
	return j;
}

char *msg_report_print(const struct msg_report *m)
{
	struct json *obj = json_new_obj();
	json_set_int(obj, "seq", m->seq);
	put_optional(obj, "log", m->log, sizeof(m->log) - 1);
	json_set_str(obj, "checkpoint", m->checkpoint);
	put_optional(obj, "source", m->source, sizeof(m->source) - 1);
	json_set_str(obj, "origin", origin_name(m->origin));
	json_set_str(obj, "snapshot", m->snapshot);
	json_set_str(obj, "split", split_name(m->split));
	put_score_flat(obj, &m->score);
	if (m->n_per_class > 0 && m->n_per_class <= MESSAGE_CLASSES_MAX)
		json_set(obj, "per_class", print_classes(m));
	if (m->has_decision)
		json_set_str(obj, "decision", report_decisions[m->activated]);
	put_optional(obj, "reason", m->reason, sizeof(m->reason) - 1);
	put_optional(obj, "why", m->why, sizeof(m->why) - 1);
	if (*m->test)
		json_set(obj, "test", print_test(m));
	if (m->has_against) {
		struct json *against = json_new_obj();
		json_set_str(against, "checkpoint", m->against);
		put_within(against, "accuracy", m->against_accuracy, 0, 1);
		json_set(obj, "against", against);
	}
	if (m->has_privacy)
		json_set(obj, "privacy", print_privacy(&m->privacy));
	put_audit(obj, m->audit_seq, m->audit_head);
	json_set_int(obj, "epoch", m->epoch);
	put_time(obj, "at", m->at_ms);
	return put_print(obj);
}

static void parse_privacy(struct fields *f, struct msg_report *m)
{
	struct msg_privacy *p = &m->privacy;
	struct fields inner;
	m->has_privacy = fields_down(f, "privacy", OPTIONAL, &inner);
	if (!m->has_privacy)
		return;
	field_num(&inner, "epsilon", REQUIRED, 0, MESSAGE_EPSILON_MAX, &p->epsilon);
	field_num(&inner, "delta", REQUIRED, 0, 1, &p->delta);
	field_num(&inner, "budget", REQUIRED, 0, MESSAGE_EPSILON_MAX, &p->budget);
	field_count(&inner, "handovers", REQUIRED, &p->handovers);
	fields_up(f, "privacy", &inner);
}

static void parse_class(struct fields *f, const struct json *obj, struct class_score *ret)
{
	struct fields inner = {.obj = obj, .name = f->name, .err = f->err};
	int64_t index = 0;
	field_int(&inner, "class", REQUIRED, 0, DATASET_CLASSES_MAX - 1, &index);
	field_count(&inner, "n", REQUIRED, &ret->n);
	field_int(&inner, "correct", REQUIRED, 0, ret->n, &ret->correct);
	ret->class_index = (int32_t)index;
	fields_up(f, "per_class", &inner);
}

static void parse_classes(struct fields *f, struct msg_report *m)
{
	const struct json *arr;
	if (!field_there(f, "per_class", OPTIONAL))
		return;
	f->r = json_get_arr(f->obj, "per_class", MESSAGE_CLASSES_MAX, &arr, f->err);
	size_t n = f->r < 0 ? 0 : json_len(arr);
	if (n == 0)
		return;
	m->per_class = calloc(n, sizeof(*m->per_class));
	if (!m->per_class) {
		f->r = err_errno(f->err, -ENOMEM, "per_class");
		return;
	}
	for (const struct json *e = json_first(arr); f->r == 0 && e; e = json_next(e))
		parse_class(f, e, &m->per_class[m->n_per_class++]);
}

/* A pair's figures are there all together, or not at all. */
static void parse_test(struct fields *f, struct msg_report *m)
{
	struct fields inner;
	if (!fields_down(f, "test", OPTIONAL, &inner))
		return;
	field_text(&inner, "name", REQUIRED, m->test, sizeof(m->test));
	field_int(&inner, "contenders", REQUIRED, 1, JSON_INT_MAX, &m->contenders);
	m->has_pair = json_has(inner.obj, "won") || json_has(inner.obj, "lost") ||
		      json_has(inner.obj, "p");
	enum need need = m->has_pair ? REQUIRED : OPTIONAL;
	field_count(&inner, "won", need, &m->won);
	field_count(&inner, "lost", need, &m->lost);
	field_num(&inner, "p", need, 0, 1, &m->p);
	fields_up(f, "test", &inner);
}

static void parse_against(struct fields *f, struct msg_report *m)
{
	struct fields inner;
	if (!fields_down(f, "against", OPTIONAL, &inner))
		return;
	m->has_against = true;
	field_hash(&inner, "checkpoint", REQUIRED, m->against);
	field_num(&inner, "accuracy", REQUIRED, 0, 1, &m->against_accuracy);
	fields_up(f, "against", &inner);
}

int msg_report_parse(const void *p, size_t len, struct msg_report *ret, struct err *err)
{
	_cleanup_(msg_report_done) struct msg_report m = {0};
	int decision = -1;
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "report", p, len, MESSAGE_LARGE_MAX, err);
	field_int(&f, "seq", REQUIRED, 1, JSON_INT_MAX, &m.seq);
	field_logid(&f, "log", OPTIONAL, m.log);
	field_hash(&f, "checkpoint", REQUIRED, m.checkpoint);
	field_hash(&f, "source", OPTIONAL, m.source);
	field_origin(&f, "origin", &m.origin);
	field_hash(&f, "snapshot", REQUIRED, m.snapshot);
	field_split(&f, "split", REQUIRED, &m.split);
	field_score_flat(&f, &m.score);
	parse_classes(&f, &m);
	field_word(&f, "decision", OPTIONAL, report_decisions, 2, &decision);
	field_text(&f, "reason", OPTIONAL, m.reason, sizeof(m.reason));
	field_text(&f, "why", OPTIONAL, m.why, sizeof(m.why));
	parse_test(&f, &m);
	parse_against(&f, &m);
	parse_privacy(&f, &m);
	field_audit(&f, &m.audit_seq, m.audit_head);
	field_count(&f, "epoch", REQUIRED, &m.epoch);
	field_time(&f, "at", REQUIRED, &m.at_ms);
	if (fields_end(&f) < 0)
		return f.r;
	m.has_decision = decision >= 0;
	m.activated = decision == 1;
	*ret = m;
	m.per_class = NULL;
	return 0;
}

void msg_report_done(struct msg_report *m)
{
	free(m->per_class);
	m->per_class = NULL;
	m->n_per_class = 0;
}
