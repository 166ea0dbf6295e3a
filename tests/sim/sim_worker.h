/* Stands for a worker and its process: takes requests, answers them after a while with files that
 * are checkpoints of the model, dies now and then. */
#pragma once

#include "common/base/err.h"
#include "common/checkpoint/model.h"
#include "common/json/json.h"

#define SIM_REQUESTS_MAX 16

struct sim_request {
	uint64_t id;
	char op[16];
	struct json *args;
	int64_t until_ms; /* 0: none */
	bool stopped;
};

struct sim_worker {
	/* Set before sim_worker_start(). */
	const struct model *model;
	uint64_t salt;       /* of its images: scores differ from worker to worker */
	int64_t step_max_ms; /* what a request takes, at most */
	void *owner;
	void (*ready)(void *owner);
	void (*progress)(void *owner, uint64_t id);
	void (*reply)(void *owner, uint64_t id, const struct json *result, const struct err *err);
	void (*died)(void *owner, const struct err *why);
	/* The worker's. */
	bool there;
	uint64_t life; /* its number; what belongs to another one is void */
	struct sim_request requests[SIM_REQUESTS_MAX];
	unsigned n;
};

extern double sim_worker_fails; /* probability that a request fails, and as much that it kills */
/* Told of every checkpoint that is made. */
extern void (*sim_worker_made)(const char *id);

void sim_worker_start(struct sim_worker *w); /* it is ready after a while */
void sim_worker_kill(struct sim_worker *w);  /* with its owner: answers nothing more */
/* As worker_request(). */
int sim_worker_request(struct sim_worker *w, const char *op, struct json *args, uint64_t *ret_id);
