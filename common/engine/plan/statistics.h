/* Rolling statistics of batch normalization in a layer that Darknet's own functions compute,
 * measured anew (plan_settle()): its forward pass in training keeps the mean and variance of its
 * batch in `mean` and `variance`, and lets what it takes for the rolling ones follow them. */
#pragma once

#include <darknet.h>

static inline void statistics_swap(float **a, float **b)
{
	float *keep = *a;
	*a = *b;
	*b = keep;
}

/* Before the forward pass: it gets arrays of the same size, which only a backward pass uses. */
static inline void statistics_lend(layer *l)
{
	statistics_swap(&l->rolling_mean, &l->mean_delta);
	statistics_swap(&l->rolling_variance, &l->variance_delta);
}

/* After it: the rolling ones become the mean over so many batches before this one, and this one. */
static inline void statistics_take(layer *l, unsigned batches)
{
	float share = 1.f / (float)(batches + 1), keep = 1.f - share; /* of the first: nothing */
	statistics_lend(l);
	for (int i = 0; i < l->out_c; i++) {
		l->rolling_mean[i] = keep * l->rolling_mean[i] + share * l->mean[i];
		l->rolling_variance[i] = keep * l->rolling_variance[i] + share * l->variance[i];
	}
}
