#include "edge-trainer/standing.h"

#include <stdio.h>

#include "common/base/mem.h"

bool standing_refused(struct standing *s, const char *why, int64_t now_ms)
{
	int64_t ms = STANDING_FIRST_MS;

	if (s->refusals == 0 || now_ms < s->first_ms || now_ms - s->first_ms > STANDING_WITHIN_MS) {
		s->first_ms = now_ms;
		s->refusals = 0;
	}
	if (++s->refusals < STANDING_REFUSALS)
		return false;
	s->refusals = 0;
	if (s->times > 0 && now_ms - s->until_ms > STANDING_FORGET_MS)
		s->times = 0;
	for (int64_t i = 0; i < s->times && ms < STANDING_CAP_MS; i++)
		ms *= 2;
	s->times++;
	s->since_ms = now_ms;
	s->until_ms = now_ms + MIN_OF(ms, STANDING_CAP_MS);
	snprintf(s->why, sizeof(s->why), "%s", why);
	return true;
}

int64_t standing_left_ms(const struct standing *s, int64_t now_ms)
{
	int64_t left_ms = s->until_ms - MAX_OF(now_ms, s->since_ms);

	return MAX_OF(0, left_ms);
}

bool standing_release(struct standing *s, int64_t now_ms)
{
	if (standing_left_ms(s, now_ms) == 0)
		return false;
	s->until_ms = now_ms;
	s->since_ms = MIN_OF(s->since_ms, now_ms);
	s->refusals = 0;
	return true;
}
