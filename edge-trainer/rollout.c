#include "edge-trainer/rollout.h"

static const char *const names[ROLLOUT_PHASE_N] = {"none", "first", "rest", "halted"};

const char *rollout_phase_name(enum rollout_phase p)
{
	return (unsigned)p < ROLLOUT_PHASE_N ? names[p] : "?";
}

static enum rollout_action begin(struct rollout *r, int64_t share, int64_t now_ms)
{
	*r = (struct rollout){.phase = share < 100 ? ROLLOUT_FIRST : ROLLOUT_REST,
			      .share = share,
			      .begun_ms = now_ms};
	return ROLLOUT_OFFER;
}

static enum rollout_action widen(struct rollout *r)
{
	r->phase = ROLLOUT_REST;
	r->share = 100;
	return ROLLOUT_WIDEN;
}

static enum rollout_action halt(struct rollout *r)
{
	r->phase = ROLLOUT_HALTED;
	return ROLLOUT_HALT;
}

static enum rollout_action judge(struct rollout *r, const struct rollout_conf *c, int64_t now_ms)
{
	bool in_time = now_ms - r->begun_ms < c->wait_ms;

	if (r->reports < c->reports && in_time)
		return ROLLOUT_NOTHING;
	if (r->reports < c->reports || r->gain < -c->tolerance * (double)r->reports)
		return halt(r);
	return widen(r);
}

enum rollout_action rollout_step(struct rollout *r, const struct rollout_conf *c,
				 const struct rollout_event *ev, int64_t now_ms)
{
	if (ev->kind == ROLLOUT_EV_BEGIN)
		return begin(r, ev->share, now_ms);
	if (ev->kind == ROLLOUT_EV_HALT && r->phase == ROLLOUT_REST)
		return halt(r);
	if (r->phase != ROLLOUT_FIRST)
		return ROLLOUT_NOTHING;
	if (ev->kind == ROLLOUT_EV_HALT)
		return halt(r);
	if (ev->kind == ROLLOUT_EV_NEXT)
		return widen(r);
	if (ev->kind == ROLLOUT_EV_REPORT) {
		r->reports++;
		r->activated += ev->activated;
		r->gain += ev->gain;
	}
	return judge(r, c, now_ms);
}

int64_t rollout_share(const struct rollout_conf *c, const int64_t n[100])
{
	int64_t share = 0, devices = 0;

	while (share < 100 && (share < c->share || devices < c->reports))
		devices += n[share++];
	return share;
}

int64_t rollout_next_ms(const struct rollout *r, const struct rollout_conf *c)
{
	return r->phase == ROLLOUT_FIRST ? r->begun_ms + c->wait_ms : -1;
}
