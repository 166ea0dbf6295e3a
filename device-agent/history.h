/* Which of its scores a device goes on showing (common/protocol/history.h): all while there is
 * room, then every swap and the newest ones, and of the others as many as are left, evenly spread
 * over the reports that they come from. Pure: no I/O, no clock. */
#pragma once

#include "common/protocol/history.h"

#define HISTORY_NEWEST 32 /* are thinned out only where nothing else but swaps is left */

struct history {
	struct history_point at[HISTORY_POINTS_MAX]; /* oldest first */
	int64_t seq[HISTORY_POINTS_MAX];             /* of the report */
	size_t n;
};

/* False: that report is no point of it (of other images than for validation, or of none). */
bool history_point(const struct msg_report *r, struct history_point *ret);
/* seq: above that of all before. Where there is no room one point goes; never the one that comes.
 */
void history_add(struct history *h, int64_t seq, const struct history_point *p);
