/* One client of `tasuki classify --follow`: requests as JSON lines, frames as bytes behind them, answers as
 * JSON lines. A thread each, since each waits for its own answers. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "libtasuki/tasuki.h"

#define FOLLOW_LINE_MAX    8192               /* bytes of a request, without its frame */
#define FOLLOW_FRAME_MAX   (32 * 1024 * 1024) /* bytes */
#define FOLLOW_PATIENCE_S  30 /* for the rest of a frame, and for a client to take its answer */

struct follow_client {
	tasuki *t;
	int fd, swap_fd; /* swap_fd: an eventfd, written to after each swap */
	pthread_t thread;
	atomic_bool done;
};

/* Thread function; user: a struct follow_client, whose descriptors are its owner's to close. */
void *follow_client_run(void *user);
