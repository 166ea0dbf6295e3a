#include "common/base/bucket.h"

#include "common/base/mem.h"

bool bucket_take(struct bucket *b, const struct bucket_limit *l, int64_t now_ms,
		 int64_t *ret_wait_ms)
{
	if (now_ms > b->at_ms) {
		b->used = MAX_OF(0, b->used - (double)(now_ms - b->at_ms) * l->per_s / 1000);
		b->at_ms = now_ms;
	}
	double over = b->used + 1 - l->burst;
	if (over <= 0) {
		b->used++;
		return true;
	}
	if (ret_wait_ms)
		*ret_wait_ms = (int64_t)(over * 1000 / l->per_s) + 1;
	return false;
}
