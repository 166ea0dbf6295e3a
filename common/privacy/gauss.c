#include "common/privacy/gauss.h"

#include <stdbool.h>

#include "common/crypto/seal.h"

/* All return a result from 0, or a negative errno. */

/* Uniform in 0 .. n - 1. */
static int64_t below(struct gauss *g, uint32_t n)
{
	uint64_t whole = ((uint64_t)1 << 32) / n * n; /* what is beyond is drawn again */
	uint32_t word;
	if (n == 1)
		return 0;
	do {
		if (g->n == 0) {
			int r = seal_random((uint8_t *)g->words, sizeof(g->words));
			if (r < 0)
				return r;
			g->n = GAUSS_WORDS;
		}
		word = g->words[--g->n];
	} while (word >= whole);
	return word % n;
}

/* 1 with probability exp(-x / y), x <= y: how many in a row have probabilities x / y, x / (2 y),
 * x / (3 y), ... tells (Algorithm 1). */
static int64_t exp_of_part(struct gauss *g, uint32_t x, uint32_t y)
{
	for (uint32_t k = 1;; k++) {
		int64_t r = below(g, y);
		bool in_a_row = r >= 0 && r < x;
		if (in_a_row)
			r = below(g, k);
		if (r < 0)
			return r;
		if (!in_a_row || r != 0)
			return k % 2;
	}
}

/* The same of any x. */
static int64_t exp_of(struct gauss *g, uint64_t x, uint32_t y)
{
	for (; x > y; x -= y) {
		int64_t r = exp_of_part(g, 1, 1);
		if (r != 1)
			return r;
	}
	return exp_of_part(g, (uint32_t)x, y);
}

/* P(x) ~ exp(-|x| / GAUSS_STEPS) (Algorithm 2). */
static int laplace(struct gauss *g, int64_t *ret)
{
	for (;;) {
		int64_t u = below(g, GAUSS_STEPS), r, sign, v = 0;
		if (u < 0 || (r = exp_of_part(g, (uint32_t)u, GAUSS_STEPS)) < 0)
			return (int)(u < 0 ? u : r);
		if (r == 0)
			continue;
		while ((r = exp_of_part(g, 1, 1)) == 1)
			v++;
		if (r < 0 || (sign = below(g, 2)) < 0)
			return (int)(r < 0 ? r : sign);
		int64_t size = u + GAUSS_STEPS * v;
		if (sign && size == 0)
			continue;
		*ret = sign ? -size : size;
		return 0;
	}
}

int gauss_next(struct gauss *g, int64_t *ret)
{
	const int64_t s = GAUSS_STEPS;
	for (;;) {
		int64_t x = 0;
		int r = laplace(g, &x);
		if (r < 0)
			return r;
		int64_t off = (x < 0 ? -x : x) - s; /* sigma^2 / t is s, where t and sigma are */
		int64_t taken = exp_of(g, (uint64_t)(off * off), (uint32_t)(2 * s * s));
		if (taken < 0)
			return (int)taken;
		if (taken) {
			*ret = x;
			return 0;
		}
	}
}

void gauss_done(struct gauss *g)
{
	seal_wipe(g, sizeof(*g));
}
