/* One client of `tasuki classify --follow`: requests as JSON lines, frames as bytes behind them,
 * answers as JSON lines. A thread each, since each waits for its own answers. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "libtasuki/tasuki.h"

#define CLASSIFY_PATIENCE_S 30 /* for the rest of a frame, and for a client to take its answer */

struct classify_client {
	tasuki *t;
	int fd, swap_fd; /* swap_fd: an eventfd, written to after each swap */
	pthread_t thread;
	atomic_bool done;
};

/* Thread function; user: a struct classify_client, whose descriptors are its owner's to close. */
void *classify_client_run(void *user);
