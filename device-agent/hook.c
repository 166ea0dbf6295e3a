#include "device-agent/hook.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

void hook_init(struct hook *h, int64_t timeout_ms, const char *told)
{
	*h = (struct hook){.timeout_ms = timeout_ms};
	snprintf(h->told, sizeof(h->told), "%s", told);
}

/* What it knows, or will have been told last, needs no telling. */
static bool is_news(const struct hook *h, const char *checkpoint)
{
	return strcmp(checkpoint, h->phase == HOOK_IDLE ? h->told : h->running) != 0;
}

static void begin(struct hook *h, int64_t now_ms, struct hook_actions *a)
{
	if (h->phase != HOOK_IDLE || !*h->due)
		return;
	memcpy(h->running, h->due, sizeof(h->running));
	h->due[0] = 0;
	h->phase = HOOK_RUNNING;
	h->until_ms = now_ms + h->timeout_ms;
	a->start = true;
}

static void on_timer(struct hook *h, int64_t now_ms, struct hook_actions *a)
{
	if (h->phase == HOOK_RUNNING && now_ms >= h->until_ms) {
		h->phase = HOOK_ENDING;
		h->until_ms = now_ms + HOOK_GRACE_MS;
		a->signal = SIGTERM;
	} else if (h->phase == HOOK_ENDING && now_ms >= h->until_ms) {
		h->phase = HOOK_KILLED;
		a->signal = SIGKILL;
	}
}

void hook_step(struct hook *h, const struct hook_event *ev, int64_t now_ms,
	       struct hook_actions *ret)
{
	*ret = (struct hook_actions){0};
	switch (ev->kind) {
	case HOOK_SWAP:
		/* Back to what it is being told of: then nothing else is due. */
		snprintf(h->due, sizeof(h->due), "%s",
			 is_news(h, ev->checkpoint) ? ev->checkpoint : "");
		break;
	case HOOK_ENDED:
		ret->timed_out = h->phase != HOOK_RUNNING;
		ret->keep = true;
		memcpy(h->told, h->running, sizeof(h->told));
		h->running[0] = 0;
		h->phase = HOOK_IDLE;
		break;
	case HOOK_TIMER:
		on_timer(h, now_ms, ret);
		break;
	}
	begin(h, now_ms, ret);
}

int64_t hook_deadline_ms(const struct hook *h)
{
	return h->phase == HOOK_RUNNING || h->phase == HOOK_ENDING ? h->until_ms : -1;
}
