/* What a trainer says of itself: its status, and the progress of a job. */
#include "common/protocol/message.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/field.h"

#define LOAD_MAX 1e6
#define RATE_MAX 1e12 /* images per second */

static void put_window(struct json *obj, const struct msg_trainer_status *m)
{
	struct json *ids;
	if (m->members == 0)
		return;
	json_set_int(obj, "members", m->members);
	ids = json_new_arr();
	for (size_t i = 0; i < m->n_window && i < MESSAGE_WINDOW_MAX; i++)
		json_push_str(ids, m->window[i]);
	json_set(obj, "window", ids);
}

static void parse_window(struct fields *f, struct msg_trainer_status *m)
{
	const struct json *arr;
	if (!field_there(f, "window", OPTIONAL))
		return;
	f->r = json_get_arr(f->obj, "window", MESSAGE_WINDOW_MAX, &arr, f->err);
	const struct json *e = f->r == 0 ? json_first(arr) : NULL;
	for (; f->r == 0 && e; e = json_next(e)) {
		const char *id = json_str(e);
		if (id && id_valid(id))
			memcpy(m->window[m->n_window++], id, strlen(id) + 1);
		else
			f->r = err_set(f->err, -EINVAL, "window: found an element that is no id");
	}
}

static void put_quarantine(struct json *obj, const struct msg_trainer_status *m)
{
	struct json *arr;
	if (m->quarantined == 0)
		return;
	json_set_int(obj, "quarantined", m->quarantined);
	arr = json_new_arr();
	for (size_t i = 0; i < m->n_quarantine && i < MESSAGE_QUARANTINE_MAX; i++) {
		const struct msg_quarantine *q = &m->quarantine[i];
		struct json *one = json_new_obj();
		json_set_str(one, "device", q->device);
		put_time(one, "since", q->since_ms);
		put_time(one, "until", q->until_ms);
		put_text(one, "why", q->why, sizeof(q->why) - 1);
		json_push(arr, one);
	}
	json_set(obj, "quarantine", arr);
}

static void parse_quarantine(struct fields *f, struct msg_trainer_status *m)
{
	const struct json *arr;
	if (!field_there(f, "quarantine", OPTIONAL))
		return;
	f->r = json_get_arr(f->obj, "quarantine", MESSAGE_QUARANTINE_MAX, &arr, f->err);
	const struct json *e = f->r == 0 ? json_first(arr) : NULL;
	for (; f->r == 0 && e; e = json_next(e)) {
		struct msg_quarantine *q = &m->quarantine[m->n_quarantine++];
		struct fields one = {.obj = e, .name = f->name, .err = f->err};
		if (!json_is_obj(e))
			f->r = err_set(f->err, -EINVAL, "quarantine: found an element that is no object");
		if (f->r < 0)
			return;
		field_id(&one, "device", REQUIRED, q->device);
		field_time(&one, "since", REQUIRED, &q->since_ms);
		field_time(&one, "until", REQUIRED, &q->until_ms);
		field_text(&one, "why", REQUIRED, q->why, sizeof(q->why));
		fields_up(f, "quarantine", &one);
	}
}

char *msg_trainer_status_print(const struct msg_trainer_status *m)
{
	struct json *obj = json_new_obj();
	json_set_int(obj, "boot", m->boot);
	put_text(obj, "version", m->version, sizeof(m->version) - 1);
	json_set_str(obj, "model", m->model);
	json_set_int(obj, "queued", m->queued);
	json_set_int(obj, "active", m->active);
	json_set_int(obj, "capacity", m->capacity);
	json_set_int(obj, "devices", m->devices);
	json_set_int(obj, "handovers", m->handovers);
	put_within(obj, "load", m->load, 0, LOAD_MAX);
	put_optional(obj, "strategy", m->strategy, sizeof(m->strategy) - 1);
	if (m->refused)
		json_set_int(obj, "refused", m->refused);
	if (m->refused_messages)
		json_set_int(obj, "refused_messages", m->refused_messages);
	put_window(obj, m);
	put_quarantine(obj, m);
	put_audit(obj, m->audit_seq, m->audit_head);
	put_text(obj, "reason", m->reason, sizeof(m->reason) - 1);
	put_time(obj, "at", m->at_ms);
	return put_print(obj);
}

int msg_trainer_status_parse(const void *p, size_t len, struct msg_trainer_status *ret,
			     struct err *err)
{
	struct msg_trainer_status m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "trainer status", p, len, MESSAGE_SMALL_MAX, err);
	field_count(&f, "boot", REQUIRED, &m.boot);
	field_text(&f, "version", REQUIRED, m.version, sizeof(m.version));
	field_hash(&f, "model", REQUIRED, m.model);
	field_count(&f, "queued", REQUIRED, &m.queued);
	field_count(&f, "active", REQUIRED, &m.active);
	field_count(&f, "capacity", REQUIRED, &m.capacity);
	field_count(&f, "devices", REQUIRED, &m.devices);
	field_count(&f, "handovers", REQUIRED, &m.handovers);
	field_num(&f, "load", REQUIRED, 0, LOAD_MAX, &m.load);
	field_text(&f, "strategy", OPTIONAL, m.strategy, sizeof(m.strategy));
	field_count(&f, "refused", OPTIONAL, &m.refused);
	field_count(&f, "refused_messages", OPTIONAL, &m.refused_messages);
	field_count(&f, "members", OPTIONAL, &m.members);
	parse_window(&f, &m);
	field_count(&f, "quarantined", OPTIONAL, &m.quarantined);
	parse_quarantine(&f, &m);
	field_audit(&f, &m.audit_seq, m.audit_head);
	field_text(&f, "reason", REQUIRED, m.reason, sizeof(m.reason));
	field_time(&f, "at", REQUIRED, &m.at_ms);
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}

char *msg_job_print(const struct msg_job *m)
{
	struct json *obj = json_new_obj();
	json_set_str(obj, "device", m->device);
	json_set_str(obj, "checkpoint", m->checkpoint);
	json_set_int(obj, "fence", m->fence);
	put_text(obj, "phase", m->phase, sizeof(m->phase) - 1);
	put_within(obj, "progress", m->progress, 0, 1);
	json_set_int(obj, "epoch", m->epoch);
	json_set_int(obj, "epochs", m->epochs);
	if (m->window)
		json_set_int(obj, "window", m->window);
	if (isfinite(m->loss))
		put_within(obj, "loss", m->loss, 0, LOSS_MAX);
	if (isfinite(m->images_per_second))
		put_within(obj, "images_per_second", m->images_per_second, 0, RATE_MAX);
	put_score(obj, "before", OPTIONAL, &m->before);
	put_score(obj, "after", OPTIONAL, &m->after);
	put_time(obj, "at", m->at_ms);
	return put_print(obj);
}

int msg_job_parse(const void *p, size_t len, struct msg_job *ret, struct err *err)
{
	struct msg_job m = {.loss = NAN, .images_per_second = NAN};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "job", p, len, MESSAGE_SMALL_MAX, err);
	field_id(&f, "device", REQUIRED, m.device);
	field_hash(&f, "checkpoint", REQUIRED, m.checkpoint);
	field_count(&f, "fence", REQUIRED, &m.fence);
	field_text(&f, "phase", REQUIRED, m.phase, sizeof(m.phase));
	field_num(&f, "progress", REQUIRED, 0, 1, &m.progress);
	field_count(&f, "epoch", REQUIRED, &m.epoch);
	field_count(&f, "epochs", REQUIRED, &m.epochs);
	field_count(&f, "window", OPTIONAL, &m.window);
	field_num(&f, "loss", OPTIONAL, 0, LOSS_MAX, &m.loss);
	field_num(&f, "images_per_second", OPTIONAL, 0, RATE_MAX, &m.images_per_second);
	field_score(&f, "before", OPTIONAL, &m.before);
	field_score(&f, "after", OPTIONAL, &m.after);
	field_time(&f, "at", REQUIRED, &m.at_ms);
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}
