/* Seeded pseudo-random numbers: splitmix64 (Steele, Lea, Flood 2014). Not for secrets.
 * One state per stream; the same seed gives the same sequence everywhere. */
#pragma once

#include <stdint.h>

struct rng {
	uint64_t state;
};

static inline void rng_init(struct rng *r, uint64_t seed)
{
	r->state = seed;
}

static inline uint64_t rng_u64(struct rng *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 .. n-1 (n > 0), without modulo bias that matters for n << 2^32. */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)(((rng_u64(r) >> 32) * n) >> 32);
}

/* [0, 1) */
static inline double rng_unit(struct rng *r)
{
	return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

static inline double rng_between(struct rng *r, double lo, double hi)
{
	return lo + (hi - lo) * rng_unit(r);
}

/* A seed nobody can guess or repeat (getrandom(2)); for jitter and boot numbers. */
uint64_t rng_entropy(void);

/* Next delay of a retry with back-off: doubles from first_ms to cap_ms with `attempt` (0 first),
 * then takes a random point in its upper half, so that a fleet does not retry in step. */
int64_t rng_backoff_ms(struct rng *r, unsigned attempt, int64_t first_ms, int64_t cap_ms);
