/* The point that goes is the one that leaves the smallest hole, measured in reports and not in
 * time, for clocks are set: so what is left stays evenly spread, however many come. */
#include "device-agent/history.h"

#include <string.h>

bool history_point(const struct msg_report *r, struct history_point *ret)
{
	if (r->split != SPLIT_VALIDATION || r->score.n < 1)
		return false;
	*ret = (struct history_point){.at_s = r->at_ms / 1000,
				      .epoch = r->epoch,
				      .origin = r->origin,
				      .n = r->score.n,
				      .correct = r->score.correct,
				      .swap = r->has_decision && r->activated};
	memcpy(ret->checkpoint, r->checkpoint, HISTORY_DIGITS);
	return true;
}

/* The reports between the neighbours of i; the first point and the newest one are the ends of the
 * curve. */
static int64_t hole(const struct history *h, size_t i)
{
	return i == 0 || i + 1 == h->n ? INT64_MAX : h->seq[i + 1] - h->seq[i - 1];
}

/* Of the first `end` points the one with the smallest hole; `end`: none is left of that kind. */
static size_t least(const struct history *h, size_t end, bool swaps)
{
	size_t best = end;
	for (size_t i = 0; i < end; i++)
		if (h->at[i].swap == swaps && (best == end || hole(h, i) < hole(h, best)))
			best = i;
	return best;
}

static size_t to_go(const struct history *h)
{
	size_t old = h->n - HISTORY_NEWEST, i = least(h, old, false);
	if (i < old)
		return i;
	i = least(h, h->n, false);
	return i < h->n ? i : least(h, h->n, true);
}

void history_add(struct history *h, int64_t seq, const struct history_point *p)
{
	if (h->n == HISTORY_POINTS_MAX) {
		size_t i = to_go(h);
		h->n--;
		memmove(&h->at[i], &h->at[i + 1], sizeof(h->at[0]) * (h->n - i));
		memmove(&h->seq[i], &h->seq[i + 1], sizeof(h->seq[0]) * (h->n - i));
	}
	h->at[h->n] = *p;
	h->seq[h->n++] = seq;
}
