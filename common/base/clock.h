/* Time. Deadlines and intervals use the monotonic clock, which goes on while the machine sleeps: a
 * lease that another machine counts must not stand still here. The wall clock is only for what
 * people and other machines read. Pure logic takes `now_ms` as a parameter instead. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int64_t clock_mono_ms(void); /* CLOCK_BOOTTIME, milliseconds */
/* CLOCK_MONOTONIC: without the time asleep, for how long something had to work. */
int64_t clock_awake_ms(void);
int64_t clock_real_ms(void); /* UTC since the epoch, milliseconds */

#define CLOCK_TEXT_MAX 32
/* RFC 3339, UTC, with milliseconds: 2026-11-23T05:58:00.123Z */
/* A time outside the years 1000 to 9999 gives 1970-01-01T00:00:00.000Z. */
void clock_format(int64_t real_ms, char text[CLOCK_TEXT_MAX]);
/* RFC 3339 with 'Z' or an offset; -EINVAL when it is anything else.
 * Digits below a millisecond are cut; a leap second counts as the next minute's first. */
int clock_parse(const char *text, int64_t *ret_real_ms);
