/* Stands for tasuki-worker where training is not the subject: a training takes its time and makes
 * small random weights that validate, an evaluation gives a random score. On the loop's thread. */
#pragma once

#include "common/base/loop.h"
#include "common/base/rng.h"
#include "common/checkpoint/model.h"
#include "common/engine/worker.h"

struct fake_request {
	uint64_t id;
	int64_t due_ms; /* clock_mono_ms scale */
	char op[16];
	struct json *args;
};

struct fake_worker {
	const struct model *model;
	int64_t epoch_ms; /* mean; what it takes is up to a tenth more or less */
	void (*reply)(void *user, uint64_t request, const struct json *result,
		      const struct err *err); /* as in struct worker_handler */
	void *user;
	bool held; /* trainings do not end */
	struct rng rng;
	struct loop_source *timer;
	uint64_t last_id;
	struct fake_request requests[WORKER_REQUESTS_MAX];
	size_t n;
};

/* model, epoch_ms, reply and user are set; the model must outlive it. The first training ends at a
 * random time within epoch_ms, so that many do not run in step. */
int fake_worker_init(struct fake_worker *w, struct loop *loop);
void fake_worker_done(struct fake_worker *w); /* unanswered requests get no reply */
void fake_worker_ready(const struct fake_worker *w, struct worker_ready *ret);
/* As worker_request(). */
int fake_worker_request(struct fake_worker *w, const char *op, struct json *args, uint64_t *ret_id);
