/* When the command of [hook] on_swap is started and ended (pure): one at a time, the latest swap
 * wins, and none runs for longer than it may. A swap that comes while one runs waits for its end;
 * of several only the last is told. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/id.h"

#define HOOK_GRACE_MS 2000 /* between SIGTERM and SIGKILL */

enum hook_phase { HOOK_IDLE, HOOK_RUNNING, HOOK_ENDING, HOOK_KILLED };

struct hook {
	int64_t timeout_ms;
	enum hook_phase phase;
	char told[HASH_SIZE];    /* the last one that the command has been told of to its end; "" */
	char running[HASH_SIZE]; /* the one that it is being told of; "" */
	char due[HASH_SIZE];     /* one that it is to be told of next; "": none */
	int64_t until_ms;        /* of the phase */
};

enum hook_event_kind {
	HOOK_SWAP,  /* checkpoint is active now; at a start it may have been told already */
	HOOK_ENDED, /* the command has, however */
	HOOK_TIMER,
};

struct hook_event {
	enum hook_event_kind kind;
	const char *checkpoint;
};

struct hook_actions {
	bool start;     /* about h->running */
	int signal;     /* SIGTERM or SIGKILL to all of its process group; 0: none */
	bool timed_out; /* what has ended was told to end */
	bool keep;      /* h->told is to be remembered */
};

/* told: what was kept by an earlier run; "": nothing. */
void hook_init(struct hook *h, int64_t timeout_ms, const char *told);
void hook_step(struct hook *h, const struct hook_event *ev, int64_t now_ms,
	       struct hook_actions *ret);
/* When HOOK_TIMER is due; -1: never. */
int64_t hook_deadline_ms(const struct hook *h);
