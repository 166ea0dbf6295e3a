/* A real tasuki-worker for tests: a loop, a worker, and what became of each request. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/worker.h"

#define RIG_WAIT_MS  60000
#define RIG_REQUESTS 64

struct rig_request {
	bool answered;
	int code;
	char error[ERR_TEXT_MAX];
	struct json *result;
	unsigned n_progress;
	struct worker_progress progress;
};

struct rig {
	struct loop *loop;
	struct worker *worker;
	unsigned n_ready, n_died;
	struct worker_ready ready;
	char why[ERR_TEXT_MAX];
	bool failed_open;
	int64_t retry_in_ms;
	struct rig_request requests[RIG_REQUESTS];
};

static inline void rig_on_ready(void *user, const struct worker_ready *r)
{
	struct rig *rig = user;
	rig->n_ready++;
	rig->ready = *r;
}

static inline void rig_on_progress(void *user, uint64_t id, const struct worker_progress *p)
{
	struct rig *rig = user;
	assert_true(id < RIG_REQUESTS);
	assert_false(rig->requests[id].answered);
	rig->requests[id].n_progress++;
	rig->requests[id].progress = *p;
}

static inline void rig_on_reply(void *user, uint64_t id, const struct json *result, int code,
				const char *error)
{
	struct rig *rig = user;
	assert_true(id < RIG_REQUESTS);
	struct rig_request *q = &rig->requests[id];
	assert_false(q->answered);
	q->answered = true;
	q->code = code;
	snprintf(q->error, sizeof(q->error), "%s", error ? error : "");
	q->result = result ? json_dup(result) : NULL;
	assert_true(!result == (code < 0));
}

static inline void rig_on_died(void *user, const char *why, bool failed_open, int64_t retry_in_ms)
{
	struct rig *rig = user;
	rig->n_died++;
	snprintf(rig->why, sizeof(rig->why), "%s", why);
	rig->failed_open = failed_open;
	rig->retry_in_ms = retry_in_ms;
}

static inline void rig_start(struct rig *rig, const struct worker_conf *conf)
{
	struct err err = {0};
	*rig = (struct rig){0};
	const struct worker_handler h = {rig_on_ready, rig_on_progress, rig_on_reply, rig_on_died,
					 rig};
	assert_int_equal(loop_new(&rig->loop), 0);
	if (worker_new(rig->loop, conf, &h, &rig->worker, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void rig_stop(struct rig *rig)
{
	worker_free(rig->worker);
	loop_free(rig->loop);
	for (size_t i = 0; i < RIG_REQUESTS; i++)
		json_free(rig->requests[i].result);
}

/* Runs the loop until the condition holds. */
#define RIG_WAIT(rig, condition)                                                             \
	do {                                                                                 \
		int64_t until_ = clock_mono_ms() + RIG_WAIT_MS;                              \
		while (!(condition)) {                                                       \
			if (clock_mono_ms() > until_)                                        \
				fail_msg("waited in vain for: %s (%s)", #condition, (rig)->why); \
			assert_true(loop_once((rig)->loop, 50) >= 0);                        \
		}                                                                            \
	} while (0)

static inline uint64_t rig_send(struct rig *rig, const char *op, struct json *args)
{
	uint64_t id = 0;
	assert_int_equal(worker_request(rig->worker, op, args, &id), 0);
	assert_true(id > 0 && id < RIG_REQUESTS);
	return id;
}

/* Sends and waits; the answer is the rig's. */
static inline struct rig_request *rig_ask(struct rig *rig, const char *op, struct json *args)
{
	RIG_WAIT(rig, worker_is_ready(rig->worker));
	uint64_t id = rig_send(rig, op, args);
	RIG_WAIT(rig, rig->requests[id].answered);
	return &rig->requests[id];
}

/* The same, and it must succeed. */
static inline const struct json *rig_do(struct rig *rig, const char *op, struct json *args)
{
	struct rig_request *q = rig_ask(rig, op, args);
	if (!q->result)
		fail_msg("%s: %s", op, q->error);
	return q->result;
}
