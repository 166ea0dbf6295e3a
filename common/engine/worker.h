/* The daemon's (and the CLI's) side of tasuki-worker: a child process that runs the network.
 *
 * They talk over a stream socket (the worker's fd 3), one JSON object a line, at most
 * WORKER_LINE_MAX bytes; docs/architecture.md, "The worker", and worker_protocol.h list the
 * requests. A worker that dies, hangs (no step finished within stall_ms while it has work), runs
 * out of memory or exits 0 without an answer costs only the request in hand: its reply handler is
 * called with a negative code and a text that says what happened, and another worker is started
 * after a capped, jittered back-off. What counts as success is the reply and, for weights, a file
 * that validates: never an exit status.
 *
 * All on the loop's thread. Handlers may send and stop, and may free the worker only from
 * outside a handler. */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/base/loop.h"
#include "common/dataset/dataset.h"
#include "common/engine/cage.h"
#include "common/json/json.h"

#define WORKER_LINE_MAX	    (1024 * 1024)
#define WORKER_REQUESTS_MAX 16 /* unanswered at a time */
#define WORKER_STALL_MS	    120000 /* default of stall_ms */
#define WORKER_THREADS_MAX  256
#define WORKER_FOLDERS_MAX  4
#define WORKER_KEEPS	    "worker" /* folder in a daemon's state: momentum */
#define WORKER_CAGE_PATHS_MAX 1024

struct worker_conf {
	char program[1024]; /* path of tasuki-worker; "": beside this program, else in PATH */
	char log_path[1024]; /* what worker and Darknet print; "": nowhere */
	char cfg[1024];
	char classes[1024]; /* class list file; "": names from the data, or numbers */
	char private_classes[1024]; /* of the outputs after the class list's; "": none */
	bool has_data;
	struct dataset_conf data; /* width, height, channels 0: from the cfg */
	struct augment augment;
	int fold; /* times an epoch visits each training image (1: as it is; further ones augmented) */
	char engine[16];   /* "onednn", "darknet"; "auto" or "": the best there is */
	char precision[8]; /* "f32", "bf16"; "auto" or "": where it is faster and as good */
	char absent[8]; /* classes without images: "mask"; "train" or "": like any other */
	int step_ms;	/* that a step of a training takes at least; 0: as it comes */
	int threads; /* 0: one a processor that it may run on */
	int nice; /* 0..19 */
	cpu_set_t cpus; /* that it may run on; none: as this program */
	uint64_t memory_max_bytes; /* of the worker; 0: no limit */
	/* Its cage (cage.h): "on" or "": as far as this kernel can; "require": all of it; "off". Beside
	 * what is named above it may read these, write in those, and ... */
	char sandbox[8];
	char readable[WORKER_FOLDERS_MAX][1024], writable[WORKER_FOLDERS_MAX][1024]; /* "": none */
	const char *const *images; /* ... read these, n_images; borrowed */
	size_t n_images;
	int64_t start_timeout_ms; /* while `open` reads nothing; 0: 600000 */
	int64_t stall_ms; /* 0: WORKER_STALL_MS */
	int64_t backoff_first_ms, backoff_cap_ms; /* 0: 500 and 60000 */
};

/* What `open` and `rescan` answer. */
struct worker_ready {
	uint32_t n[SPLIT_N];
	uint32_t n_stay; /* images that are never shared */
	int64_t bytes; /* of the image files; 0: not said */
	char snapshot[SPLIT_N][HASH_SIZE]; /* "" without data */
	uint32_t classes;
	char model[HASH_SIZE];
	uint32_t skipped;
	char skipped_first[256]; /* name of the first unreadable image; "" */
	bool changed;
	/* That are used: "onednn", "darknet+openblas", "darknet"; "f32", "bf16" (of training). */
	char engine[24], precision[8];
	int threads;
	char cage[CAGE_TEXT_MAX], cage_missing[CAGE_TEXT_MAX]; /* as in struct cage_report */
};

struct worker_progress {
	int64_t step, steps; /* of this request */
	double loss; /* mean of the last steps; NaN: none yet */
	double images_per_second;
};

struct worker_handler {
	/* A worker is there (again) and has opened its data. */
	void (*ready)(void *user, const struct worker_ready *r);
	/* At least twice a second while a request trains or evaluates. */
	void (*progress)(void *user, uint64_t request, const struct worker_progress *p);
	/* Exactly once for each request. err NULL: done; else result is NULL, and it failed (code
	 * -ECANCELED: stopped on request; -EDOM: the loss or the weights turned non-finite;
	 * -ECONNRESET: the worker died; -ETIMEDOUT: it hung; -EPROTO: it sent garbage). Both are
	 * borrowed. */
	void (*reply)(void *user, uint64_t request, const struct json *result,
		      const struct err *err);
	/* It died, or could not start or open: the requests in hand were answered before this call;
	 * the next start is at retry_in_ms. `failed_open`: cfg or data were refused, in `why`. */
	void (*died)(void *user, const struct err *why, bool failed_open, int64_t retry_in_ms);
	void *user;
};

struct worker;

int worker_new(struct loop *loop, const struct worker_conf *conf,
	       const struct worker_handler *handler, struct worker **ret, struct err *err);
/* Kills the child and waits for it. Outstanding requests get no reply. NULL allowed. */
void worker_free(struct worker *w);
/* Reads what `open` and `rescan` answer: for replies to a rescan. -EINVAL ... */
int worker_ready_parse(const struct json *result, struct worker_ready *ret, struct err *err);
bool worker_is_ready(const struct worker *w);
/* pid of the child, 0: none; for tests and status. */
int worker_pid(const struct worker *w);

/* Sends a request; `args` (may be NULL) is taken in all cases. -ENOTCONN: not ready; -EBUSY: too
 * many requests. *ret_id is never 0. */
int worker_request(struct worker *w, const char *op, struct json *args, uint64_t *ret_id);

/* For tools: starts a worker of its own, waits for it, sends one request, waits for the reply.
 * `progress` may be NULL. *ret_ready and *ret_result may be NULL; the result is the caller's. */
int worker_call(const struct worker_conf *conf, const char *op, struct json *args,
		void (*progress)(void *user, const struct worker_progress *p), void *user,
		struct worker_ready *ret_ready, struct json **ret_result, struct err *err);
