#include "edge-trainer/quota.h"

#include <errno.h>

#include "common/base/mem.h"

/* Takes from `have` things of `each` checkpoints what brings *over to 0, or all. */
static int64_t cut(int64_t *over, int64_t have, int64_t each)
{
	int64_t n = MIN_OF((MAX_OF(*over, 0) + each - 1) / each, have);

	*over -= n * each;
	return n;
}

int quota_plan(const struct quota *q, int64_t more, struct quota_cut *ret)
{
	int64_t fixed = q->working * QUOTA_WORK + q->offering * QUOTA_OFFER + q->unknown;
	int64_t over;
	int r = fixed + more * QUOTA_WORK > q->max ? -ENOSPC : 0;

	if (r == 0)
		fixed += more * QUOTA_WORK;
	over = fixed + (q->loose + q->lapsed) * QUOTA_LAPSED + q->history - q->max;
	ret->loose = cut(&over, q->loose, QUOTA_LAPSED);
	ret->history = cut(&over, q->history, 1);
	ret->lapsed = cut(&over, q->lapsed, QUOTA_LAPSED);
	return r;
}
