/* The child process of worker.c: found, started with nothing of ours but its end of the socket,
 * and described when it is dead. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "common/base/err.h"
#include "common/engine/worker.h"

struct worker_process {
	pid_t pid;  /* 0: none */
	int fd;     /* our end of the socket, non-blocking; -1: none */
	int log_fd; /* where it prints; -1: nowhere that can be read */
	off_t log_start;
};

/* conf->program, else tasuki-worker beside this program, in the build tree next to it, or in
 * PATH. -ENOENT. */
int worker_process_find(const struct worker_conf *conf, char path[1024], struct err *err);
int worker_process_start(struct worker_process *p, const char *program,
			 const struct worker_conf *conf, struct err *err);
/* Kills it, waits for it, and says in `ret` (NULL allowed) how it ended, in one line, with the last
 * line it printed; -ECONNRESET, ERR_WORKER or ERR_MEMORY. */
void worker_process_end(struct worker_process *p, struct err *ret);
