/* One request to a worker of one's own. */
#include <errno.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/engine/worker.h"

struct call {
	struct loop *loop;
	struct worker *worker;
	const char *op;
	struct json *args, *result;
	struct worker_ready ready;
	bool sent;
	void (*progress)(void *user, const struct worker_progress *p);
	void *user;
	struct err *err;
};

static void on_ready(void *user, const struct worker_ready *r)
{
	struct call *c = user;
	uint64_t id;
	c->sent = true;
	c->ready = *r;
	int code = worker_request(c->worker, c->op, TAKE_PTR(c->args), &id);
	if (code < 0)
		loop_exit(c->loop, err_errno(c->err, code, "%s: request", c->op));
}

static void on_progress(void *user, uint64_t request, const struct worker_progress *p)
{
	struct call *c = user;
	if (c->progress)
		c->progress(c->user, p);
}

static void fail(struct call *c, const struct err *err, int code)
{
	if (c->err)
		*c->err = *err;
	loop_exit(c->loop, code);
}

static void on_reply(void *user, uint64_t request, const struct json *result, const struct err *err)
{
	struct call *c = user;
	if (err) {
		fail(c, err, err->code);
		return;
	}
	c->result = json_dup(result);
	loop_exit(c->loop, c->result ? 0 : err_errno(c->err, -ENOMEM, "%s", c->op));
}

static void on_died(void *user, const struct err *why, bool failed_open, int64_t retry_in_ms)
{
	struct call *c = user;
	/* A request in hand was answered before, with its own error. */
	if (c->sent)
		return;
	fail(c, why, failed_open ? -EINVAL : -EIO);
}

int worker_call(const struct worker_conf *conf, const char *op, struct json *args,
		void (*progress)(void *user, const struct worker_progress *p), void *user,
		struct worker_ready *ret_ready, struct json **ret_result, struct err *err)
{
	struct call c = {.op = op,
			 .args = args ? args : json_new_obj(),
			 .progress = progress,
			 .user = user,
			 .err = err};
	const struct worker_handler handler = {on_ready, on_progress, on_reply, on_died, &c};
	int r = loop_new(&c.loop);
	if (r < 0) {
		json_free(c.args);
		return err_errno(err, r, "epoll");
	}
	r = worker_new(c.loop, conf, &handler, &c.worker, err);
	if (r == 0) {
		r = loop_run(c.loop);
		worker_free(c.worker);
	}
	loop_free(c.loop);
	json_free(c.args);
	if (r == 0 && ret_ready)
		*ret_ready = c.ready;
	if (r == 0 && ret_result)
		*ret_result = c.result;
	else
		json_free(c.result);
	return r;
}
