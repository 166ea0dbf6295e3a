/* Whole numbers from the discrete Gaussian distribution, exactly: P(x) ~ exp(-x^2 / (2
 * GAUSS_STEPS^2)), by Algorithms 1 to 3 of Canonne, Kamath, Steinke (2020), in integers throughout.
 * So there are no floating point numbers whose gaps could tell noise from what it hides (Mironov
 * 2012): a sum of such a number and a whole number is all that leaves. How long one takes depends
 * on it (rejection). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GAUSS_STEPS 1024 /* one standard deviation */
#define GAUSS_WORDS 1024

/* Begins as zeros. What it holds is to be wiped by its owner (gauss_done) when it is through. */
struct gauss {
	uint32_t words[GAUSS_WORDS];
	size_t n; /* unused ones */
};

/* -EIO: no randomness. */
int gauss_next(struct gauss *g, int64_t *ret);
void gauss_done(struct gauss *g);
