/* Which devices a person wants to see, and in which order. Pure but for messages about bad options.
 */
#pragma once

#include "cli/online.h"

enum filter_sort {
	FILTER_BY_ID,
	FILTER_BY_ACCURACY,
	FILTER_BY_PHASE,
	FILTER_BY_SEEN,
	FILTER_SORT_N
};

struct filter {
	char *const *patterns; /* of shell, on ids; any of them; none: all */
	int n_patterns;
	int phase, origin; /* enum phase, enum origin; -1: any */
	bool online, offline, handover;
	double below; /* percent; < 0: any */
	enum filter_sort sort;
};

#define FILTER_NONE                                    \
	{                                              \
		.phase = -1, .origin = -1, .below = -1 \
	}
#define FILTER_OPTIONS                                                                           \
	{"phase", "NAME",                                                                        \
	 "only devices that are idle, training, evaluating, transferring, waiting or paused",    \
	 'p'},                                                                                   \
		{"origin", "NAME",                                                               \
		 "only where the active checkpoint is local, edge, blend, tuned or fleet", 'o'}, \
		{"online", NULL, "only those that are connected", 'n'},                          \
		{"offline", NULL, "only those that are not", 'f'},                               \
		{"handover", NULL, "only those with a handover in flight", 'h'},                 \
		{"below", "PERCENT", "only where the active checkpoint's accuracy is below it",  \
		 'l'},                                                                           \
	{                                                                                        \
		"sort", "KEY",                                                                   \
			"id, accuracy (worst first), phase, or seen (longest silent first)", 'r' \
	}

/* 1: done, 0: not one of FILTER_OPTIONS, -1: bad, message printed. */
int filter_option(struct filter *f, const char *name, int option, const char *value);
bool filter_takes(const struct filter *f, const struct online_device *d);
/* Whether its phase is of now: a device that is offline has none. */
static inline bool filter_is_now(const struct online_device *d)
{
	return d->has_status && (!d->has_presence || d->online);
}
/* Those that it takes, in its order; the caller frees the array, not what it points to. NULL: out
 * of memory. */
const struct online_device **filter_devices(const struct filter *f, const struct online *o,
					    size_t *ret_n);
