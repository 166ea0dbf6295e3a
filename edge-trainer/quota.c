#include "edge-trainer/quota.h"

#include <errno.h>

#include "common/base/mem.h"

static void plan(const struct quota *q, int64_t work, int64_t *ret_history, int64_t *ret_lapsed)
{
	int64_t fixed = work * QUOTA_WORK + q->offering * QUOTA_OFFER + q->unknown;
	int64_t lapsed = q->lapsed * QUOTA_LAPSED;
	int64_t over = fixed + lapsed + q->history - q->max;

	*ret_history = MIN_OF(MAX_OF(over, 0), q->history);
	over -= *ret_history;
	*ret_lapsed = MIN_OF((MAX_OF(over, 0) + QUOTA_LAPSED - 1) / QUOTA_LAPSED, q->lapsed);
}

int quota_plan(const struct quota *q, int64_t more, int64_t *ret_history, int64_t *ret_lapsed)
{
	int64_t never = (q->working + more) * QUOTA_WORK + q->offering * QUOTA_OFFER + q->unknown;

	if (never > q->max) {
		plan(q, q->working, ret_history, ret_lapsed);
		return -ENOSPC;
	}
	plan(q, q->working + more, ret_history, ret_lapsed);
	return 0;
}
