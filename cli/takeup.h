/* What devices have made of a checkpoint for everyone, as their statuses and histories tell. Pure.
 */
#pragma once

#include "cli/online.h"
#include "common/protocol/history.h"

enum takeup_state {
	TAKEUP_LATER,   /* it is for others first */
	TAKEUP_WAITS,   /* it may take it, and has not scored it yet */
	TAKEUP_OFFLINE, /* the same, but it is away */
	TAKEUP_KEPT,    /* scored, and what it has was kept */
	TAKEUP_IN_USE,  /* scored better, and is in use, or was until something better still came */
	TAKEUP_N,
};

struct takeup {
	enum takeup_state state;
	double accuracy, before; /* its score there, and of what was in use; < 0: not known */
};

const char *takeup_name(enum takeup_state s);
/* h: the device's history, NULL: none was heard. Scores of a checkpoint with rows of private
 * classes of its own put in have another id than what was offered: what came as `fleet` since the
 * offer was made counts. */
struct takeup takeup_of(const struct msg_fleet *f, const struct online_device *d,
			const struct msg_history *h);
