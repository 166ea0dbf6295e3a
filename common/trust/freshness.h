/* Whether a signed manifest is the newest of its signer, meant for here, and still of now: against
 * messages that were signed well, and are played again, held back, or put together anew. Pure.
 *
 * Each manifest of a signer has a `sequence` above those before it; a repetition has that of the
 * first, or a later one of its own after a restart. The receiver keeps the last one that it took,
 * with its checkpoint's id, before anything comes of it. `expires` says how long a message may be
 * under way; clocks may differ by FRESHNESS_SKEW_MS. A signer that has lost its memory goes on from
 * its clock, which is beyond all that it has used. No number is further ahead of the clock than
 * FRESHNESS_AHEAD_MS: else whoever had a key for an hour could use up those of whoever comes after
 * it, under the same name or, to the fleet, under any. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/checkpoint/manifest.h"
#include "common/trust/refusal.h"

#define FRESHNESS_SKEW_MS     (10 * 60 * 1000LL)      /* between two clocks */
#define FRESHNESS_HANDOVER_MS (60 * 60 * 1000LL)      /* an offer or result is valid for so long */
#define FRESHNESS_FLEET_MS    (24 * 60 * 60 * 1000LL) /* an offer to the fleet, which is retained */
#define FRESHNESS_COMMAND_MS  (24 * 60 * 60 * 1000LL) /* a command: as long as a session waits */

#define FRESHNESS_AHEAD_MS (24 * 60 * 60 * 1000LL) /* a number is no clock's of further ahead */

/* The last one of a signer that was taken. */
struct freshness_last {
	int64_t sequence; /* 0: none yet */
	char id[HASH_SIZE];
	bool over; /* nothing comes of it any more, also not of a repetition */
};

/* What is expected here; a NULL string is not looked at. */
struct freshness {
	const char *device, *model;
	const char *parent; /* that it must have been made of */
	const struct freshness_last *last;
	int64_t now_ms, lifetime_ms; /* UTC */
	int64_t sequence_unit_ms;    /* its numbers are counted in; 0: milliseconds */
};

#define FRESHNESS_FLEET_UNIT_MS 1000 /* offers to the fleet are numbered by the second */

/* The next number of a signer whose last one was `last`. One that nobody takes, as it was made by a
 * clock far ahead, is forgotten. */
static inline int64_t freshness_next(int64_t last, int64_t now_ms)
{
	return now_ms > last || last - now_ms >= FRESHNESS_AHEAD_MS ? now_ms : last + 1;
}

/* Whether a number is not too far ahead. */
enum refusal freshness_sequence(int64_t sequence, int64_t unit_ms, int64_t now_ms, struct err *err);

/* Whether a message with that time is still valid, and not for longer than messages of its kind
 * are. */
enum refusal freshness_expires(int64_t expires_ms, int64_t now_ms, int64_t lifetime_ms,
			       struct err *err);
/* REFUSAL_NONE, or why not, with err. */
enum refusal freshness_check(const struct manifest *m, const struct freshness *here,
			     struct err *err);
