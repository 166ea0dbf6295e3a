/* What a daemon's configuration file says of its workers: [model] absent_classes; [train] engine,
 * precision, threads, nice, cpus, memory_max_mb, stall_s, step_ms; [worker] program, sandbox, readable. */
#pragma once

#include "common/conf/conf.h"
#include "common/engine/worker.h"

#define WORKER_MEMORY_MAX_MB (1024 * 1024)

/* Words for worker_conf.engine, .precision, .absent and .sandbox, NULL at the end; the first is the
 * default. */
extern const char *const worker_engines[], *const worker_precisions[], *const worker_absents[],
	*const worker_sandboxes[];

/* `absent`: the default of absent_classes. */
int worker_conf_read(struct conf *c, const char *absent, struct worker_conf *w, struct err *err);
/* What a daemon's workers read and write of its state folder: WORKER_KEEPS, what comes in, and the folder
 * `store` of a store. -ENAMETOOLONG. */
int worker_conf_state(struct worker_conf *w, const char *state, const char *store);
