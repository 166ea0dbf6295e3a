/* The worker's end of its socket: requests in, replies and progress out, a line each.
 *
 * Once it is started, a thread of its own writes the progress lines, at the step where things stand, so that a long
 * batch still shows a living process; whether the step moves is for the daemon to judge. Lines
 * are written whole, under a lock; a daemon that does not read makes the worker wait. All
 * functions are for the main thread. When the daemon is gone the process ends: there is nobody
 * left to work for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/json/json.h"

/* Of each kind at most one request runs at a time. */
enum channel_slot { CHANNEL_TRAIN, CHANNEL_JOB, CHANNEL_SLOTS };

struct channel;

int channel_new(int fd, struct channel **ret);
/* Its thread; does nothing when it is there. */
int channel_start(struct channel *c, struct err *err);

/* The next request's line (valid until the next call), NULL: none is whole yet. wait_ms: for each
 * part of it, 0: not at all, -1: for ever; a signal may end it sooner. A line beyond
 * WORKER_LINE_MAX, or the end of the stream, ends the process. */
char *channel_line(struct channel *c, int64_t wait_ms, size_t *ret_len);

/* The reply of a request; ends its progress. `result` (NULL: {}) is taken. */
void channel_reply(struct channel *c, uint64_t id, struct json *result);
void channel_fail(struct channel *c, uint64_t id, const struct err *err);

/* Where the request stands; loss NaN: none yet. Written at the next interval. */
void channel_progress(struct channel *c, enum channel_slot slot, uint64_t id, int64_t step,
		      int64_t steps, double loss, double images_per_second);
