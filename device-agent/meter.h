/* A metered link: how many bytes of blocks may cross it in a second and in a UTC day, both ways
 * together. Pure: no I/O, no clock.
 *
 * What is more important goes first: a result that comes back, then what is offered, then what is
 * for the whole fleet. While one of them wants to cross, what comes after it waits; and of the day,
 * a fleet's checkpoint gets only what a handover in hand does not need any more (`reserved`).
 *
 * The day's bytes are kept over restarts by whoever owns this: it keeps a sum ahead of what is used
 * (meter_ahead()), so that it need not write for each block, and a crash never gives bytes back. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bucket.h"

#define METER_AHEAD_BYTES (1024 * 1024) /* kept ahead at most; and a sixteenth of the day's */
#define METER_AHEAD_SHARE 16
#define METER_RECHECK_MS  (3600 * 1000) /* of the day: clocks are set */

enum meter_use { METER_RESULT, METER_OFFER, METER_FLEET, METER_USE_N }; /* most important first */

enum meter_answer {
	METER_GO = 0,
	METER_E_RATE, /* a little later */
	METER_E_DAY,  /* not today */
};

struct meter_conf {
	int64_t rate_bytes;  /* a second; 0: as fast as it goes */
	int64_t bytes_a_day; /* 0: no limit */
};

struct meter_day {
	int64_t day; /* since 1970, UTC */
	int64_t bytes;
};

struct meter {
	struct meter_conf conf;
	struct meter_day used;
	int64_t total; /* counted in all; the owner sets what was before */
	/* The owner's, before each question: */
	int64_t block_bytes; /* a block of that size passes whatever the rate, after a while */
	bool wants[METER_USE_N];
	int64_t reserved; /* bytes of today that a fleet's checkpoint leaves */
	/* private: */
	struct bucket rate;
};

/* kept: what the last run left. */
void meter_init(struct meter *m, const struct meter_conf *conf, const struct meter_day *kept);
/* Whether that many bytes of blocks may cross now, else when to ask again. It counts with
 * meter_count(). */
enum meter_answer meter_may(struct meter *m, enum meter_use use, int64_t bytes, int64_t now_ms,
			    int64_t utc_ms, int64_t *ret_wait_ms);
void meter_count(struct meter *m, int64_t bytes);
/* Whether so many bytes may still cross today. */
bool meter_covers(struct meter *m, int64_t bytes, int64_t utc_ms);
/* Milliseconds until it is worth asking again. */
int64_t meter_day_wait_ms(int64_t utc_ms);
/* Whether `kept` says of today at least what is used and `bytes` more. */
bool meter_is_kept(const struct meter *m, const struct meter_day *kept, int64_t bytes);
/* What is to be kept, so that it does. */
struct meter_day meter_ahead(const struct meter *m, int64_t bytes);
