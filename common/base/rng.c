#include "common/base/rng.h"

#include <sys/random.h>

#include "common/base/clock.h"

uint64_t rng_entropy(void)
{
	uint64_t v;
	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		v = (uint64_t)clock_real_ms() * 2654435761u ^ (uint64_t)clock_mono_ms();
	return v;
}

int64_t rng_backoff_ms(struct rng *r, unsigned attempt, int64_t first_ms, int64_t cap_ms)
{
	int64_t d = first_ms;
	while (attempt-- && d > 0 && d < cap_ms)
		d *= 2;
	if (d > cap_ms)
		d = cap_ms;
	return d / 2 + (int64_t)(rng_unit(r) * (double)(d - d / 2));
}
