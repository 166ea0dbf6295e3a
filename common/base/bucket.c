#include "common/base/bucket.h"

#include "common/base/mem.h"

bool bucket_has(struct bucket *b, const struct bucket_limit *l, double n, int64_t now_ms,
		int64_t *ret_wait_ms)
{
	if (now_ms > b->at_ms) {
		b->used = MAX_OF(0, b->used - (double)(now_ms - b->at_ms) * l->per_s / 1000);
		b->at_ms = now_ms;
	}
	double over = b->used + n - l->burst;
	if (over > 0 && ret_wait_ms)
		*ret_wait_ms = (int64_t)(over * 1000 / l->per_s) + 1;
	return over <= 0;
}

void bucket_use(struct bucket *b, double n)
{
	b->used += n;
}

bool bucket_take(struct bucket *b, const struct bucket_limit *l, int64_t now_ms,
		 int64_t *ret_wait_ms)
{
	if (!bucket_has(b, l, 1, now_ms, ret_wait_ms))
		return false;
	bucket_use(b, 1);
	return true;
}
