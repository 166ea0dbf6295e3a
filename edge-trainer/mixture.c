#include "edge-trainer/mixture.h"

#include <math.h>

#include "common/base/mem.h"

#define BISECTIONS 100

static double clamp(double v, double lo, double hi)
{
	return fmin(fmax(v, lo), hi);
}

/* Scales all by one factor, such that within the bounds they sum to n. */
static void project(struct mixture_member *m, size_t n, double lo, double hi)
{
	double least = 0, most = (double)n * 1e9;

	for (int k = 0; k < BISECTIONS; k++) {
		double factor = (least + most) / 2, sum = 0;

		for (size_t i = 0; i < n; i++)
			sum += clamp(factor * m[i].weight, lo, hi);
		*(sum < (double)n ? &least : &most) = factor;
	}
	for (size_t i = 0; i < n; i++)
		m[i].weight = clamp(most * m[i].weight, lo, hi);
}

void mixture_step(const struct mixture_conf *conf, struct mixture_member *m, size_t n)
{
	double sum = 0, mean;
	size_t said = 0;

	for (size_t i = 0; i < n; i++) {
		if (!(m[i].weight > 0 && isfinite(m[i].weight)))
			m[i].weight = 1;
		if (m[i].error >= 0) {
			sum += m[i].error;
			said++;
		}
	}
	mean = said > 0 ? sum / (double)said : 0;
	for (size_t i = 0; i < n; i++) {
		if (m[i].error >= 0)
			m[i].weight *= exp(conf->eta * (m[i].error - mean));
		m[i].weight = clamp(m[i].weight, 1e-6, 1e6);
		m[i].error = -1;
	}
	project(m, n, conf->floor, n > 2 ? MIXTURE_SHARE_MAX * (double)n : (double)n);
}
