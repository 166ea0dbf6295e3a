/* Which of two workers serves, and which of them loads what is active next (pure).
 *
 *   DOWN -> EMPTY -> LOADING -> LOADED -> LOADING ...     a lane's worker; it may end at any time
 *
 * The one that serves is left alone: what is wanted is loaded by the other, and serves once it is
 * there. A worker does what it is asked in order, so that a `load` follows what is still in hand.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/id.h"

#define LANES_N              2
#define LANES_RETRY_FIRST_MS 200 /* what could not be loaded, and is still wanted */
#define LANES_RETRY_CAP_MS   30000

enum lane_state { LANE_DOWN, LANE_EMPTY, LANE_LOADING, LANE_LOADED };

struct lanes {
	struct lane {
		enum lane_state state;
		char checkpoint[HASH_SIZE]; /* loading or loaded */
	} lane[LANES_N];
	int serving;             /* -1: none can */
	char wanted[HASH_SIZE];  /* "": nothing has been active yet */
	char refused[HASH_SIZE]; /* what could not be loaded last; "": none */
	unsigned refusals;       /* in a row */
	int64_t retry_ms;
};

enum lanes_event_kind {
	LANES_WANT,    /* checkpoint is active */
	LANES_UP,      /* a lane's worker is there, without weights */
	LANES_GONE,    /* it is not any more */
	LANES_LOADED,  /* it has what it was to load */
	LANES_REFUSED, /* it has not: and what it had is not certain */
	LANES_TIMER,
};

struct lanes_event {
	enum lanes_event_kind kind;
	int lane;
	const char *checkpoint;
};

struct lanes_actions {
	int load;     /* this lane is to load `wanted`; -1: none is */
	bool swapped; /* another checkpoint serves than before, or one again */
};

void lanes_init(struct lanes *l);
void lanes_step(struct lanes *l, const struct lanes_event *ev, int64_t now_ms,
		struct lanes_actions *ret);
/* When LANES_TIMER is due; -1: what can be done has been, or waits for a worker. */
int64_t lanes_deadline_ms(const struct lanes *l, int64_t now_ms);
/* What is wanted cannot be loaded, and nothing serves in its place. */
bool lanes_stuck(const struct lanes *l);
