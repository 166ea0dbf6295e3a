/* The device's link, where it is metered: who may cross it now, what is kept of the day, and what
 * is said of it. Only blocks count; everything else is small, and is never held back. */
#include "device-agent/agent_impl.h"

#include <errno.h>

#define OUT_AND_BACK 2

void link_start(struct agent *a)
{
	meter_init(&a->meter, &a->conf.link, &a->state->link);
	a->meter.total = a->state->moved_bytes;
	a->link.wake_ms = -1;
}

/* Once a day. */
static void tell(struct agent *a, const char *what)
{
	if (a->link.told_day == a->meter.used.day)
		return;
	a->link.told_day = a->meter.used.day;
	log_info("device=%s [link] bytes_a_day = %lld: %lld used today (UTC): %s", a->conf.id,
		 (long long)a->conf.link.bytes_a_day, (long long)a->meter.used.bytes, what);
}

void link_begin(struct agent *a)
{
	struct handover *h = &a->state->handover;
	int64_t utc_ms = a->port.real_ms(a->port.user), need = OUT_AND_BACK * a->link.payload_bytes;
	bool out = h->phase == HANDOVER_GRANTED || h->phase == HANDOVER_PULLING;
	bool covers = meter_covers(&a->meter, need, utc_ms);
	a->link.wake_ms = -1;
	a->link.day_over = false;
	a->meter.wants[METER_RESULT] = a->pulling;
	a->meter.wants[METER_OFFER] = a->serve.n > 0;
	a->meter.wants[METER_FLEET] = a->fleet.open && a->fleet.asking;
	a->meter.reserved = out || (covers && h->phase == HANDOVER_OFFERING) ? need : 0;
	/* Who cannot send for hours must not have a trainer wait for it. */
	h->postponed_until_ms = covers ? 0 : a->now_ms + meter_day_wait_ms(utc_ms);
	/* Where no day's bytes do, link_offers() has warned. */
	if (!covers && h->phase == HANDOVER_OFFERING && a->conf.link.bytes_a_day >= need)
		tell(a, "a checkpoint is offered when there is enough again");
}

bool link_offers(struct agent *a, int64_t payload_bytes)
{
	const int64_t need = OUT_AND_BACK * payload_bytes, a_day = a->conf.link.bytes_a_day;
	if (a_day && a_day < need && payload_bytes != a->link.payload_bytes)
		log_warning("device=%s [link] bytes_a_day = %lld: less than the %lld bytes of this "
			    "checkpoint out and back, it is not offered",
			    a->conf.id, (long long)a_day, (long long)need);
	a->link.payload_bytes = payload_bytes;
	link_begin(a);
	return !a->state->handover.postponed_until_ms;
}

static bool keep(struct agent *a, int64_t bytes)
{
	if (meter_is_kept(&a->meter, &a->state->link, bytes))
		return true;
	if (agent_blocked(a))
		return false;
	struct state *next = agent_draft(a);
	next->link = meter_ahead(&a->meter, bytes);
	return agent_commit(a) == 0;
}

void link_stop(struct agent *a)
{
	if (!a->conf.link.bytes_a_day && a->meter.total == a->state->moved_bytes)
		return;
	struct state *next = agent_draft(a);
	next->link = a->meter.used;
	agent_commit(a);
}

size_t link_blocks(struct agent *a, enum meter_use use, int64_t block_bytes, size_t max)
{
	size_t n = 0;
	int64_t wait_ms = 0;
	enum meter_answer r = METER_GO;
	if (!a->conf.link.rate_bytes && !a->conf.link.bytes_a_day)
		return max;
	a->meter.block_bytes = block_bytes;
	while (n < max) {
		int64_t bytes = (int64_t)(n + 1) * block_bytes;
		r = meter_may(&a->meter, use, bytes, a->now_ms, a->port.real_ms(a->port.user),
			      &wait_ms);
		if (r != METER_GO || !keep(a, bytes)) /* not kept: tried again with all that is */
			break;
		n++;
	}
	if (r != METER_GO)
		a->link.wake_ms = earlier(a->link.wake_ms, a->now_ms + wait_ms);
	if (r == METER_E_DAY && n == 0) {
		a->link.day_over = true;
		tell(a, "blocks wait for the next day");
	}
	return n;
}

const char *link_reason(const struct agent *a)
{
	const struct handover *h = &a->state->handover;
	if (a->link.day_over && !(a->pulling && a->part.xfer.n_asked))
		return "the day's bytes are used up: blocks wait";
	if (h->postponed_until_ms && h->phase == HANDOVER_OFFERING)
		return "the day's bytes do not cover a checkpoint out and back: not offered yet";
	return "";
}
