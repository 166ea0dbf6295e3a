#include "device-agent/selector.h"

#include <string.h>

static bool comparable(const struct candidate *a, const struct candidate *b)
{
	return a->score.n > 0 && a->score.n == b->score.n && strcmp(a->snapshot, b->snapshot) == 0;
}

bool selector_better(const struct candidate *a, const struct candidate *b)
{
	return comparable(a, b) && a->score.correct > b->score.correct;
}

static bool less_loss(const struct candidate *a, const struct candidate *b)
{
	return comparable(a, b) && a->score.correct == b->score.correct &&
	       a->score.loss < b->score.loss;
}

int selector_best(const struct candidate *c, size_t n, int active)
{
	int best = active;
	for (size_t i = 0; i < n; i++) {
		if ((int)i == best)
			continue;
		if (best < 0 ? c[i].score.n > 0
			     : selector_better(&c[i], &c[best]) ||
				       (best != active && less_loss(&c[i], &c[best])))
			best = (int)i;
	}
	return best;
}
