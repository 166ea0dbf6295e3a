#include "libtasuki/lanes.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

void lanes_init(struct lanes *l)
{
	*l = (struct lanes){.serving = -1};
}

static bool serves(const struct lanes *l, const char *checkpoint)
{
	return l->serving >= 0 && strcmp(l->lane[l->serving].checkpoint, checkpoint) == 0;
}

static bool waits(const struct lanes *l, int64_t now_ms)
{
	return l->refusals && strcmp(l->refused, l->wanted) == 0 && now_ms < l->retry_ms;
}

static void refuse(struct lanes *l, const char *checkpoint, int64_t now_ms)
{
	if (strcmp(l->refused, checkpoint) != 0)
		l->refusals = 0;
	snprintf(l->refused, sizeof(l->refused), "%s", checkpoint);
	int64_t wait = LANES_RETRY_FIRST_MS << MIN_OF(l->refusals, 16u);
	l->refusals++;
	l->retry_ms = now_ms + MIN_OF(wait, LANES_RETRY_CAP_MS);
}

static void serve(struct lanes *l, int lane, struct lanes_actions *a)
{
	l->serving = lane;
	a->swapped = true;
}

/* What is wanted is loaded by a lane that does not serve, or is there already. */
static void advance(struct lanes *l, int64_t now_ms, struct lanes_actions *a)
{
	int free = -1;
	if (!*l->wanted || serves(l, l->wanted))
		return;
	for (int i = 0; i < LANES_N; i++) {
		struct lane *lane = &l->lane[i];
		if (lane->state == LANE_LOADING)
			return;
		if (lane->state == LANE_LOADED && strcmp(lane->checkpoint, l->wanted) == 0) {
			serve(l, i, a);
			return;
		}
		if (i != l->serving && lane->state != LANE_DOWN)
			free = i;
	}
	if (free < 0 || waits(l, now_ms))
		return;
	l->lane[free].state = LANE_LOADING;
	memcpy(l->lane[free].checkpoint, l->wanted, HASH_SIZE);
	a->load = free;
}

static void gone(struct lanes *l, int lane, enum lane_state state)
{
	l->lane[lane] = (struct lane){.state = state};
	if (l->serving == lane)
		l->serving = -1;
}

void lanes_step(struct lanes *l, const struct lanes_event *ev, int64_t now_ms,
		struct lanes_actions *ret)
{
	*ret = (struct lanes_actions){.load = -1};
	switch (ev->kind) {
	case LANES_WANT:
		snprintf(l->wanted, sizeof(l->wanted), "%s", ev->checkpoint);
		break;
	case LANES_UP:
		gone(l, ev->lane, LANE_EMPTY);
		break;
	case LANES_GONE:
		gone(l, ev->lane, LANE_DOWN);
		break;
	case LANES_LOADED:
		/* Also where another is wanted by now: it was active, and comes after what serves.
		 */
		l->lane[ev->lane].state = LANE_LOADED;
		l->refusals = 0;
		serve(l, ev->lane, ret);
		break;
	case LANES_REFUSED:
		refuse(l, l->lane[ev->lane].checkpoint, now_ms);
		gone(l, ev->lane, LANE_EMPTY);
		break;
	case LANES_TIMER:
		break;
	}
	advance(l, now_ms, ret);
}

int64_t lanes_deadline_ms(const struct lanes *l, int64_t now_ms)
{
	bool due = *l->wanted && !serves(l, l->wanted) && waits(l, now_ms);
	return due ? l->retry_ms : -1;
}

bool lanes_stuck(const struct lanes *l)
{
	return l->serving < 0 && l->refusals && strcmp(l->refused, l->wanted) == 0;
}
