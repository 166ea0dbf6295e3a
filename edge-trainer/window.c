#include "edge-trainer/window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

bool window_step(struct window *w, const struct window_conf *conf, const struct window_seen *seen,
		 int64_t now_ms)
{
	bool due;

	if (seen->pulled == 0) {
		w->opened_ms = -1;
		return false;
	}
	if (w->opened_ms < 0)
		w->opened_ms = now_ms;
	due = now_ms >= w->opened_ms + conf->window_ms || seen->scored >= WINDOW_MEMBERS_MAX ||
	      (conf->devices > 0 && seen->scored >= conf->devices);
	if (seen->busy || seen->scored == 0 || !due)
		return false;
	w->opened_ms = -1;
	return true;
}

int64_t window_next_ms(const struct window *w, const struct window_conf *conf)
{
	return w->opened_ms < 0 ? -1 : w->opened_ms + conf->window_ms;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double window_median(const double *v, size_t n)
{
	double sorted[WINDOW_MEMBERS_MAX];

	assert(n > 0 && n <= WINDOW_MEMBERS_MAX);
	memcpy(sorted, v, n * sizeof(*v));
	qsort(sorted, n, sizeof(*sorted), by_size);
	return sorted[(n - 1) / 2];
}

void window_shares(const struct window_count *c, size_t n, double *ret)
{
	double most, sum = 0;

	assert(n > 0 && n <= WINDOW_MEMBERS_MAX);
	for (size_t i = 0; i < n; i++)
		ret[i] = (double)MAX_OF(c[i].images_seen, 1) / (double)MAX_OF(c[i].epoch, 1);
	most = WINDOW_CLIP * window_median(ret, n);
	for (size_t i = 0; i < n; i++) {
		ret[i] = MIN_OF(ret[i], most);
		sum += ret[i];
	}
	for (size_t i = 0; i < n; i++)
		ret[i] /= sum;
}
