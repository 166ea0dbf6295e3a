/* What a line from the daemon asks for. Short requests are answered at once; trainings and jobs
 * are begun here and go on between requests. */
#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/args.h"
#include "common/engine/session.h"
#include "common/engine/worker.h"

static int on_pause(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	s->paused = true;
	return 0;
}

static int on_resume(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	s->paused = false;
	return 0;
}

static int on_until(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	return json_get_int(args, "until_ms", 1, JSON_INT_MAX, &s->until_ms, err);
}

/* A target that is not there has been answered meanwhile: nothing to stop. */
static int on_stop(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	int64_t target;
	int r = json_get_int(args, "target", 1, JSON_INT_MAX, &target, err);
	if (r < 0)
		return r;
	if (s->training.id == (uint64_t)target)
		train_stop(s, -ECANCELED, "stopped on request");
	else
		job_stop(s, (uint64_t)target);
	return 0;
}

static int on_open(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	int r = session_open(s, args, err);
	if (r == 0)
		*ret = session_ready(s);
	return r;
}

static const struct {
	const char *op;
	int (*now)(struct session *s, const struct json *args, struct json **ret, struct err *err);
	enum job_kind job; /* where there is no `now` */
} ops[] = {
	{"open", on_open},
	{"pause", on_pause},
	{"resume", on_resume},
	{"stop", on_stop},
	{"until", on_until},
	{"load", frames_load},
	{"predict", frames_predict},
	{"rescan", NULL, JOB_RESCAN},
	{"evaluate", NULL, JOB_EVALUATE},
	{"blend", NULL, JOB_BLEND},
	{"merge", NULL, JOB_MERGE},
	{"classify", NULL, JOB_CLASSIFY},
	{"sheet", NULL, JOB_SHEET},
	{"encode", NULL, JOB_ENCODE},
	{"decode", NULL, JOB_DECODE},
	{"first", NULL, JOB_FIRST},
	{"noise", NULL, JOB_NOISE},
};

static int begin_training(struct session *s, uint64_t id, const struct json *args, struct err *err)
{
	int64_t until_ms;
	int r = arg_int(args, "until_ms", 1, JSON_INT_MAX, 0, &until_ms, err);
	if (r == 0)
		r = train_begin(s, id, args, err);
	if (r < 0)
		return r;
	s->until_ms = until_ms;
	return 1;
}

/* `request` is taken. Returns 1 when the answer comes later. */
static int perform(struct session *s, uint64_t id, const char *op, struct json *request,
		   struct json **ret, struct err *err)
{
	_cleanup_(json_freep) struct json *args = request;
	if (!s->is_open && strcmp(op, "open") != 0)
		return err_set(err, -ENOTCONN, "%s: 'open' must come first", op);
	if (strcmp(op, "train") == 0)
		return begin_training(s, id, args, err);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		if (strcmp(op, ops[i].op) != 0)
			continue;
		if (ops[i].now)
			return ops[i].now(s, args, ret, err);
		int r = job_queue(s, id, ops[i].job, TAKE_PTR(args), err);
		return r < 0 ? r : 1;
	}
	return err_set(err, -ENOSYS,
		       "op: found '%s', expected one of open, rescan, train, evaluate, "
		       "blend, merge, first, noise, encode, decode, classify, load, predict, sheet, pause, resume, until, stop",
		       op);
}

void session_request(struct session *s, char *line, size_t len)
{
	struct err err = {0};
	struct json *request = NULL, *result = NULL;
	char op[32] = "";
	int64_t id = 0;
	int r = json_parse(line, len, WORKER_LINE_MAX, &request, &err);
	if (r == 0 && !json_is_obj(request))
		r = err_set(&err, -EINVAL, "found an array, expected an object");
	if (r == 0)
		r = json_get_int(request, "id", 1, JSON_INT_MAX, &id, &err);
	if (r < 0) {
		/* Nobody to answer to: the daemon and the worker do not fit together. */
		fprintf(stderr, "tasuki-worker: request: %s\n", err.text);
		_exit(2);
	}
	r = json_get_str(request, "op", op, sizeof(op), &err);
	if (r == 0)
		r = perform(s, (uint64_t)id, op, TAKE_PTR(request), &result, &err);
	json_free(request);
	if (r < 0)
		channel_fail(s->channel, (uint64_t)id, &err);
	else if (r == 0)
		channel_reply(s->channel, (uint64_t)id, result);
}
