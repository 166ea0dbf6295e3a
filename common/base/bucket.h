/* How often something may happen, or how much of it: a token bucket. `burst` at once, then `per_s` in
 * the long run. Pure: the caller brings the time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bucket_limit {
	double burst, per_s; /* both above 0 */
};

/* Zeroed: nothing has happened yet. */
struct bucket {
	double used; /* 0..burst, as of at_ms */
	int64_t at_ms;
};

/* Whether it may happen now; it is counted then. If not, *ret_wait_ms (may be NULL) is how long to
 * wait. */
bool bucket_take(struct bucket *b, const struct bucket_limit *l, int64_t now_ms,
		 int64_t *ret_wait_ms);
/* Whether n (at most the burst) may happen now; nothing is counted until bucket_use(). */
bool bucket_has(struct bucket *b, const struct bucket_limit *l, double n, int64_t now_ms,
		int64_t *ret_wait_ms);
void bucket_use(struct bucket *b, double n);
