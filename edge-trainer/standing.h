/* How a device stands with this trainer: what it sent that was refused, and the quarantine that
 * comes of it. Pure logic: no I/O, no clock.
 *
 * Refusals are of checkpoints that came whole under the hash that the device's own offer named, and
 * were then found bad: what somebody else can send in its name (a block, a grant) is none. Without
 * certificates anybody can make that offer, too (docs/security.md).
 *
 * A quarantine ends by its time, or by an operator's hand. The next one is twice as long, unless
 * STANDING_FORGET_MS went by without any. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STANDING_REFUSALS  3 /* within ... */
#define STANDING_WITHIN_MS ((int64_t)24 * 3600 * 1000)
#define STANDING_FIRST_MS  ((int64_t)3600 * 1000)
#define STANDING_CAP_MS	   ((int64_t)7 * 24 * 3600 * 1000)
#define STANDING_FORGET_MS ((int64_t)30 * 24 * 3600 * 1000)
#define STANDING_WHY_MAX   32

/* Times are UTC, for they outlive the process. Zeroed but for `delta`: nothing is known. */
struct standing {
	double delta;	    /* of its last checkpoint that a handover was completed with; < 0: none */
	int64_t refusals;   /* since first_ms */
	int64_t first_ms;
	int64_t times;	    /* it was in quarantine */
	int64_t since_ms, until_ms; /* of the last one */
	char why[STANDING_WHY_MAX + 1];
};

/* Counts a refusal; true: a quarantine has begun. */
bool standing_refused(struct standing *s, const char *why, int64_t now_ms);
/* How long it is still in quarantine; 0: it is not. A clock that was set back makes it no longer
 * than it was to be. */
int64_t standing_left_ms(const struct standing *s, int64_t now_ms);
/* An operator's act; false: it was not in quarantine. */
bool standing_release(struct standing *s, int64_t now_ms);
