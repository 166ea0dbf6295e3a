/* What the files of libtasuki share; nobody else includes it.
 *
 *   tasuki.c  what the application calls: arguments, waiting
 *   serve.c   the library's own thread: the workers, the folder
 *   calls.c   the calls of all threads, on their way through a worker
 *   lanes.c   which worker serves, which loads (pure)
 *   folder.c  the state folder, as a reader sees it */
#pragma once

#include <pthread.h>

#include "common/base/loop.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/model.h"
#include "common/dataset/dataset.h"
#include "common/engine/worker.h"
#include "libtasuki/folder.h"
#include "libtasuki/lanes.h"
#include "libtasuki/tasuki.h"

#define TASUKI_LOOK_MS        1000  /* the links are looked at so often, whatever inotify says */
#define TASUKI_CALL_MS        60000 /* that a call waits for a worker */
#define TASUKI_STALL_MS       30000 /* that a worker has for a few images, or to load weights */
#define TASUKI_START_MS       60000 /* ... to start */
#define TASUKI_BACKOFF_MS     100   /* after a worker's end: first, */
#define TASUKI_BACKOFF_MAX_MS 5000
#define TASUKI_TRIES          2 /* of a call whose worker ended */
#define TASUKI_BATCH          8 /* images that a worker is asked for at once */
#define TASUKI_BATCHES        2 /* so that it has the next ones when it is done */

/* One classification, on the stack of the thread that waits for it. */
struct call {
	struct call *next;
	const float *input;
	float *output;
	int64_t until_ms;
	unsigned tries;
	bool done;
	struct err err;
	char checkpoint[HASH_SIZE];
	pthread_cond_t answered;
};

struct batch {
	uint64_t id; /* of the request; 0: none */
	char checkpoint[HASH_SIZE];
	struct call *calls[TASUKI_BATCH];
	int n;
};

/* What belongs to one of the lanes. */
struct lane_io {
	struct tasuki *t;
	int index;
	struct worker *worker;
	uint64_t number; /* of the folder that it may read, and of the names that it knows */
	int fd;
	float *memory;
	uint64_t load_id;
	struct manifest manifest; /* of what is loading, or loaded */
	struct batch batches[TASUKI_BATCHES];
};

struct tasuki {
	/* Since tasuki_open(): */
	char state[FILE_PATH_MAX];
	char private_classes[FILE_PATH_MAX]; /* the library's thread's from then on */
	struct worker_conf worker;
	struct model *model;
	size_t inputs, outputs; /* floats */
	uint32_t center_crop;
	void (*on_swap)(void *user, const struct tasuki_checkpoint *now);
	void (*on_trouble)(void *user, const struct tasuki_error *what);
	void *user;
	pthread_t thread;
	int wake_fd, swap_fd, inotify_fd;

	pthread_mutex_t lock; /* of: */
	pthread_cond_t settled_cond;
	struct call *first, **last; /* that wait */
	struct classes names;
	struct tasuki_checkpoint current;
	struct err unusable; /* why nothing can classify; code 0: it can, or will */
	bool settled;        /* tasuki_open() need not wait any more */
	bool closing;

	/* The library's thread's: */
	struct loop *loop;
	struct loop_source *wake, *inotify, *look_timer, *lanes_timer;
	int watch;
	struct lanes lanes;
	struct lane_io io[LANES_N];
	unsigned early_deaths; /* of workers, before t->settled */
	struct err trouble;    /* that was told last */
};

/* serve.c */
/* Starts the thread. On failure serve_stop() is still due. */
int serve_start(struct tasuki *t, struct err *err);
void serve_stop(struct tasuki *t);
/* Waits until t->settled. -ETIMEDOUT. */
int serve_settle(struct tasuki *t, struct err *err);
bool serve_is_own_thread(void);
/* Names as the files have them, the private ones after the others. */
int serve_names(const struct tasuki *t, struct classes *ret, struct err *err);

/* calls.c */
/* From any other thread: waits for the call's end: its error, or 0. */
int calls_wait(struct tasuki *t, struct call *c);
/* The library's thread's: what waits goes to the lane that serves; without one that ever will it
 * fails. */
void calls_dispatch(struct tasuki *t);
/* What became of batch number `index`. */
void calls_answered(struct lane_io *io, struct batch *b, int index, const struct err *err);
/* Those that have waited too long. */
void calls_fail_late(struct tasuki *t);
/* The error of a request says that the worker is gone, not that it refuses. */
bool calls_worker_was_lost(const struct err *err);
