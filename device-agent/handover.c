#include "device-agent/handover.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

const char *handover_phase_name(enum handover_phase p)
{
	static const char *const names[HANDOVER_PHASE_N] = {"", "offering", "granted", "pulling",
							    "judging"};
	return p < HANDOVER_PHASE_N ? names[p] : "";
}

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static struct handover_action *push(struct handover_actions *out, enum handover_action_kind kind)
{
	struct handover_action *a = &out->at[out->n++];
	memset(a, 0, sizeof(*a));
	a->kind = kind;
	return a;
}

static void push_grant(struct handover_actions *out, const struct handover *h,
		       const struct msg_claim *c, bool granted, const char *reason)
{
	struct handover_action *a = push(out, HANDOVER_GRANT);
	COPY(a->trainer, c->trainer);
	COPY(a->grant.checkpoint, c->checkpoint);
	a->grant.granted = granted;
	/* A refusal repeats the fence it refuses, so that the trainer knows which claim it answers.
	 */
	a->grant.fence = granted ? h->fence : c->fence;
	a->grant.claim = c->claim;
	a->grant.lease_ms = granted ? h->lease_ms : 0;
	COPY(a->grant.reason, reason);
}

__attribute__((format(printf, 3, 4))) static void
push_refusal(struct handover_actions *out, const struct msg_result *r, const char *fmt, ...)
{
	struct handover_action *a = push(out, HANDOVER_ACK);
	COPY(a->trainer, r->manifest.trainer);
	COPY(a->ack.checkpoint, r->manifest.id);
	a->ack.fence = r->fence;
	a->ack.has_decision = true;
	a->ack.decision = DECISION_REFUSED;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(a->ack.reason, sizeof(a->ack.reason), fmt, ap);
	va_end(ap);
}

/* ---- who has been slow ---- */

static struct handover_slow *find_slow(struct handover *h, const char *trainer)
{
	for (size_t i = 0; i < HANDOVER_SLOW_MAX; i++)
		if (same(h->slow[i].trainer, trainer))
			return &h->slow[i];
	return NULL;
}

/* A new one takes the place of whoever would be forgotten first. */
static void strike(struct handover *h, const char *trainer, unsigned n, int64_t now_ms)
{
	struct handover_slow *s = find_slow(h, trainer);
	if (!s) {
		s = &h->slow[0];
		for (size_t i = 1; i < HANDOVER_SLOW_MAX; i++)
			if (h->slow[i].until_ms < s->until_ms)
				s = &h->slow[i];
		COPY(s->trainer, trainer);
		s->strikes = 0;
	}
	if (now_ms >= s->until_ms)
		s->strikes = 0;
	s->strikes += n;
	s->until_ms = now_ms + HANDOVER_SLOW_MS;
}

static bool is_slow(struct handover *h, const char *trainer, int64_t now_ms)
{
	const struct handover_slow *s = find_slow(h, trainer);
	return s && s->strikes >= HANDOVER_STRIKES && now_ms < s->until_ms;
}

/* ---- offering ---- */

static void schedule_offer(struct handover *h, int64_t now_ms)
{
	h->offer_at_ms = now_ms + rng_backoff_ms(&h->rng, h->attempt, HANDOVER_OFFER_FIRST_MS,
						 HANDOVER_OFFER_CAP_MS);
	if (h->attempt < 16)
		h->attempt++;
}

static void offer_now(struct handover *h, int64_t now_ms, struct handover_actions *out)
{
	if (!h->up || now_ms < h->postponed_until_ms) {
		h->offer_at_ms = MAX_OF(now_ms, h->postponed_until_ms);
		return;
	}
	push(out, HANDOVER_OFFER);
	schedule_offer(h, now_ms);
	if (!same(h->sent, h->checkpoint)) {
		COPY(h->sent, h->checkpoint);
		h->claim_until_ms = now_ms + HANDOVER_CLAIM_MS;
	}
}

static void begin_offering(struct handover *h, const char *checkpoint, int64_t now_ms,
			   struct handover_actions *out)
{
	h->phase = HANDOVER_OFFERING;
	if (!same(h->checkpoint, checkpoint))
		COPY(h->checkpoint, checkpoint);
	h->attempt = 0;
	h->trainer_phase[0] = 0;
	h->trainer_progress = 0;
	h->busy_reason[0] = 0;
	push(out, HANDOVER_PERSIST);
	offer_now(h, now_ms, out);
}

static void on_due(struct handover *h, const char *checkpoint, int64_t now_ms,
		   struct handover_actions *out)
{
	if (!handover_may_offer(h) ||
	    (h->phase == HANDOVER_OFFERING && same(h->checkpoint, checkpoint)))
		return;
	/* The newer one is offered when the older one would have been, also after `busy`. */
	if (h->phase == HANDOVER_OFFERING && now_ms < h->offer_at_ms) {
		COPY(h->checkpoint, checkpoint);
		push(out, HANDOVER_PERSIST);
		return;
	}
	begin_offering(h, checkpoint, now_ms, out);
}

static void on_timer(struct handover *h, int64_t now_ms, struct handover_actions *out)
{
	if (h->phase == HANDOVER_OFFERING && h->up && now_ms >= h->offer_at_ms) {
		offer_now(h, now_ms, out);
	} else if (h->phase == HANDOVER_GRANTED && now_ms >= h->lease_until_ms) {
		if (h->up) /* else it is the network's doing */
			strike(h, h->trainer, h->cut_off ? HANDOVER_STRIKES : 1, now_ms);
		begin_offering(h, h->granted, now_ms, out);
	} else if (h->phase == HANDOVER_PULLING && now_ms >= h->hold_until_ms) {
		strike(h, h->trainer, HANDOVER_STRIKES, now_ms);
		h->open = false;
		memset(&h->result, 0, sizeof(h->result));
		begin_offering(h, h->granted, now_ms, out);
	}
}

/* Connections are mostly lost together, with the broker. */
static void on_up(struct handover *h, int64_t now_ms, struct handover_actions *out)
{
	bool again = h->was_up;
	h->up = h->was_up = true;
	h->attempt = 0;
	if (h->phase != HANDOVER_OFFERING)
		return;
	if (again)
		h->offer_at_ms = MAX_OF(MAX_OF(h->busy_until_ms, h->postponed_until_ms),
					now_ms + rng_below(&h->rng, HANDOVER_UP_SPREAD_MS));
	else if (now_ms >= h->busy_until_ms)
		offer_now(h, now_ms, out);
}

static void wait_for_room(struct handover *h, const struct msg_claim *c, int64_t now_ms)
{
	int64_t wait = MIN_OF(MAX_OF(c->retry_ms, HANDOVER_BUSY_MIN_MS), HANDOVER_BUSY_MAX_MS);
	h->busy_until_ms = MAX_OF(h->busy_until_ms, now_ms + wait);
	h->offer_at_ms = h->busy_until_ms;
	COPY(h->busy_reason, c->reason);
}

/* Busy under the fence of its own grant: the trainer gives it back, and has stopped by itself. */
static void give_back(struct handover *h, const struct msg_claim *c, int64_t now_ms,
		      struct handover_actions *out)
{
	strike(h, h->trainer, 1, now_ms);
	h->phase = HANDOVER_OFFERING;
	h->open = false;
	h->attempt = 0;
	h->trainer_phase[0] = 0;
	h->trainer_progress = 0;
	wait_for_room(h, c, now_ms);
	push(out, HANDOVER_PERSIST);
}

static void on_busy(struct handover *h, const struct msg_claim *c, int64_t now_ms,
		    struct handover_actions *out)
{
	if (h->phase == HANDOVER_OFFERING && c->fence == 0 && same(c->checkpoint, h->checkpoint))
		wait_for_room(h, c, now_ms);
	else if (h->phase == HANDOVER_GRANTED && c->fence == h->fence &&
		 same(c->trainer, h->trainer) && same(c->checkpoint, h->granted))
		give_back(h, c, now_ms, out);
}

/* ---- granting ---- */

static void note_progress(struct handover *h, const struct msg_claim *c, int64_t now_ms)
{
	bool other = *c->phase && !same(c->phase, h->trainer_phase);
	if (other) {
		COPY(h->trainer_phase, c->phase);
		h->n_phases++;
	}
	if (other ? h->n_phases <= HANDOVER_PHASES_MAX : c->progress > h->best_progress)
		h->moved_ms = now_ms;
	h->trainer_progress = c->progress;
	h->best_progress = other ? c->progress : MAX_OF(h->best_progress, c->progress);
}

static void renew(struct handover *h, const struct msg_claim *c, int64_t now_ms,
		  struct handover_actions *out)
{
	h->lease_until_ms = now_ms + h->lease_ms;
	h->cut_off = false;
	push_grant(out, h, c, true, "");
}

/* The holder's claim. */
static void renew_if_it_moves(struct handover *h, const struct msg_claim *c, int64_t now_ms,
			      struct handover_actions *out)
{
	note_progress(h, c, now_ms);
	bool waits = same(h->trainer_phase, HANDOVER_QUEUED);
	if (h->phase == HANDOVER_PULLING) {
		push_grant(out, h, c, true, "");
	} else if (now_ms + h->lease_ms > h->hold_until_ms) {
		h->cut_off = true;
		push_grant(out, h, c, false, "held for too long without a result");
	} else if (!waits && now_ms - h->moved_ms > HANDOVER_STILL_LEASES * h->lease_ms) {
		h->cut_off = true;
		push_grant(out, h, c, false, "nothing has moved for too long");
	} else {
		renew(h, c, now_ms, out);
	}
}

static void grant_new(struct handover *h, const struct msg_claim *c, int64_t now_ms,
		      struct handover_actions *out)
{
	h->phase = HANDOVER_GRANTED;
	h->fence++;
	h->open = true;
	COPY(h->trainer, c->trainer);
	COPY(h->granted, h->checkpoint);
	h->lease_ms = h->conf.lease_ms;
	h->hold_until_ms = now_ms + h->conf.hold_ms;
	h->came_back = false;
	h->n_phases = 0;
	h->best_progress = 0;
	h->trainer_phase[0] = h->busy_reason[0] = 0;
	note_progress(h, c, now_ms);
	h->moved_ms = now_ms;
	push(out, HANDOVER_PERSIST);
	renew(h, c, now_ms, out);
}

/* It has kept a place for an offer of before, while a newer one waits to be made. */
static void offer_instead(struct handover *h, const struct msg_claim *c, int64_t now_ms,
			  struct handover_actions *out)
{
	push_grant(out, h, c, false, "another checkpoint is on offer");
	if (c->fence == 0 && !same(h->sent, h->checkpoint)) {
		h->busy_until_ms = now_ms;
		offer_now(h, now_ms, out);
	}
}

static void on_claim(struct handover *h, const struct msg_claim *c, int64_t now_ms,
		     struct handover_actions *out)
{
	if (c->busy) {
		on_busy(h, c, now_ms, out);
		return;
	}
	bool holder = h->open && same(c->trainer, h->trainer) && same(c->checkpoint, h->granted) &&
		      (c->fence == 0 || c->fence == h->fence);
	switch (h->phase) {
	case HANDOVER_OFFERING:
		if (!same(c->checkpoint, h->checkpoint))
			offer_instead(h, c, now_ms, out);
		else if (c->fence)
			push_grant(out, h, c, false, "the lease ran out: claim it anew");
		else if (now_ms < h->postponed_until_ms)
			push_grant(out, h, c, false, "it is not to be sent now");
		else if (is_slow(h, c->trainer, now_ms) && h->attempt < HANDOVER_SLOW_OFFERS)
			push_grant(out, h, c, false,
				   "others first: its last holds ended without a result");
		else
			grant_new(h, c, now_ms, out);
		break;
	case HANDOVER_GRANTED:
	case HANDOVER_PULLING:
		if (holder)
			renew_if_it_moves(h, c, now_ms, out);
		else if (same(c->trainer, h->trainer) && c->fence)
			push_grant(out, h, c, false, "a later fence has been given out");
		else
			push_grant(out, h, c, false, "another trainer has it");
		break;
	case HANDOVER_JUDGING:
		push_grant(out, h, c, false, "its result is here already");
		break;
	case HANDOVER_IDLE:
	case HANDOVER_PHASE_N:
		push_grant(out, h, c, false, "nothing is on offer");
		break;
	}
}

static bool answer_again(const struct handover *h, const struct msg_result *r,
			 struct handover_actions *out)
{
	for (size_t i = h->n_decided; i-- > 0;) {
		const struct handover_decided *d = &h->decided[i];
		if (d->ack.fence != r->fence || !same(d->ack.checkpoint, r->manifest.id) ||
		    !same(d->trainer, r->manifest.trainer))
			continue;
		struct handover_action *a = push(out, HANDOVER_ACK);
		COPY(a->trainer, d->trainer);
		a->ack = d->ack;
		return true;
	}
	return false;
}

/* ---- results ---- */

/* The handover is over: the ack is remembered, stored, then sent. */
static void decide(struct handover *h, const struct msg_ack *ack, int64_t now_ms,
		   struct handover_actions *out)
{
	struct handover_slow *slow = find_slow(h, h->trainer);
	if (ack->decision == DECISION_REFUSED)
		strike(h, h->trainer, 1, now_ms);
	else if (slow)
		memset(slow, 0, sizeof(*slow));
	if (h->n_decided == HANDOVER_DECIDED_MAX) {
		memmove(&h->decided[0], &h->decided[1],
			sizeof(h->decided[0]) * (HANDOVER_DECIDED_MAX - 1));
		h->n_decided--;
	}
	struct handover_decided *d = &h->decided[h->n_decided++];
	memset(d, 0, sizeof(*d));
	COPY(d->trainer, h->trainer);
	d->ack = *ack;
	COPY(d->ack.checkpoint, h->result.manifest.id);
	d->ack.fence = h->fence;
	d->ack.has_decision = true;
	d->ack.trainer[0] = 0;
	memset(&h->result, 0, sizeof(h->result));
	h->phase = HANDOVER_IDLE;
	h->open = false;
	h->checkpoint[0] = h->granted[0] = 0;
	h->busy_until_ms = 0;
	push(out, HANDOVER_PERSIST);
	struct handover_action *a = push(out, HANDOVER_ACK);
	COPY(a->trainer, d->trainer);
	a->ack = d->ack;
}

static void refuse_ours(struct handover *h, const char *reason, int64_t now_ms,
			struct handover_actions *out)
{
	struct msg_ack ack = {.decision = DECISION_REFUSED};
	COPY(ack.reason, reason);
	char id[HASH_SIZE];
	COPY(id, manifest_payload(&h->result.manifest));
	decide(h, &ack, now_ms, out);
	COPY(push(out, HANDOVER_DROP)->dropped, id);
}

static void take_result(struct handover *h, const struct handover_event *ev, int64_t now_ms,
			struct handover_actions *out)
{
	const struct msg_result *r = ev->result;
	bool repeated = same(h->result.manifest.id, r->manifest.id);
	if (h->phase == HANDOVER_JUDGING) {
		if (!repeated)
			push_refusal(out, r, "the result under fence %lld is being judged",
				     (long long)h->fence);
		return;
	}
	if (h->phase == HANDOVER_PULLING && repeated)
		return;
	char old[HASH_SIZE] = "";
	if (h->phase == HANDOVER_PULLING)
		COPY(old, manifest_payload(&h->result.manifest));
	h->result = *r;
	if (ev->reason) {
		refuse_ours(h, ev->reason, now_ms, out);
	} else {
		if (!h->came_back)
			h->hold_until_ms = now_ms + h->conf.hold_ms;
		h->came_back = true;
		/* The checkpoint that was granted is what this is about, also when a newer one was
		 * on offer since its lease ran out. */
		h->phase = HANDOVER_PULLING;
		COPY(h->checkpoint, h->granted);
		push(out, HANDOVER_PERSIST);
	}
	if (*old)
		COPY(push(out, HANDOVER_DROP)->dropped, old);
}

static void on_result(struct handover *h, const struct handover_event *ev, int64_t now_ms,
		      struct handover_actions *out)
{
	const struct msg_result *r = ev->result;
	if (answer_again(h, r, out))
		return;
	if (r->fence != h->fence || h->fence == 0)
		push_refusal(out, r, "fence %lld: the last one given out is %lld",
			     (long long)r->fence, (long long)h->fence);
	else if (!same(r->manifest.trainer, h->trainer))
		push_refusal(out, r, "fence %lld was given to another trainer",
			     (long long)r->fence);
	else if (!h->open)
		push_refusal(out, r, "the handover under fence %lld is over", (long long)r->fence);
	else if (r->manifest.n_parents == 0 || !same(r->manifest.parents[0], h->granted))
		push_refusal(out, r, "parents: does not begin with the checkpoint handed over");
	else
		take_result(h, ev, now_ms, out);
}

static void on_stalled(struct handover *h, int64_t now_ms, struct handover_actions *out)
{
	if (h->phase != HANDOVER_PULLING)
		return;
	strike(h, h->trainer, 1, now_ms);
	/* What was pulled stays: the same result may still come back under the same fence. */
	memset(&h->result, 0, sizeof(h->result));
	begin_offering(h, h->granted, now_ms, out);
}

void handover_step(struct handover *h, const struct handover_event *ev, int64_t now_ms,
		   struct handover_actions *out)
{
	out->n = 0;
	switch (ev->kind) {
	case HANDOVER_EV_TIMER:
		on_timer(h, now_ms, out);
		break;
	case HANDOVER_EV_UP:
		on_up(h, now_ms, out);
		break;
	case HANDOVER_EV_DOWN:
		h->up = false;
		break;
	case HANDOVER_EV_DUE:
		on_due(h, ev->checkpoint, now_ms, out);
		break;
	case HANDOVER_EV_CLAIM:
		on_claim(h, ev->claim, now_ms, out);
		break;
	case HANDOVER_EV_RESULT:
		on_result(h, ev, now_ms, out);
		break;
	case HANDOVER_EV_PULLED:
		if (h->phase == HANDOVER_PULLING) {
			h->phase = HANDOVER_JUDGING;
			push(out, HANDOVER_PERSIST);
		}
		break;
	case HANDOVER_EV_REFUSED:
		if (h->phase == HANDOVER_PULLING || h->phase == HANDOVER_JUDGING)
			refuse_ours(h, ev->reason, now_ms, out);
		break;
	case HANDOVER_EV_STALLED:
		on_stalled(h, now_ms, out);
		break;
	case HANDOVER_EV_JUDGED:
		if (h->phase == HANDOVER_JUDGING)
			decide(h, ev->ack, now_ms, out);
		break;
	case HANDOVER_EV_GONE:
		if (h->phase == HANDOVER_OFFERING || h->phase == HANDOVER_GRANTED) {
			h->phase = HANDOVER_IDLE;
			h->checkpoint[0] = 0;
			push(out, HANDOVER_PERSIST);
		}
		break;
	case HANDOVER_EV_WANTED:
		h->moved_ms = now_ms;
		break;
	}
}

void handover_restart(struct handover *h, const struct handover_conf *conf, uint64_t seed,
		      int64_t now_ms)
{
	h->up = h->was_up = false;
	h->attempt = 0;
	h->offer_at_ms = h->busy_until_ms = now_ms;
	h->postponed_until_ms = 0;
	h->conf = *conf;
	if (h->lease_ms == 0)
		h->lease_ms = conf->lease_ms; /* none has been given out, or by an older version */
	h->lease_until_ms = now_ms + h->lease_ms;
	h->hold_until_ms = now_ms + conf->hold_ms;
	h->moved_ms = now_ms;
	h->came_back = h->phase == HANDOVER_PULLING;
	h->cut_off = false;
	h->n_phases = 0;
	h->trainer_phase[0] = h->busy_reason[0] = 0;
	h->trainer_progress = h->best_progress = 0;
	memset(h->slow, 0, sizeof(h->slow));
	rng_init(&h->rng, seed);
}

int64_t handover_deadline_ms(const struct handover *h)
{
	if (h->phase == HANDOVER_OFFERING && h->up)
		return h->offer_at_ms;
	if (h->phase == HANDOVER_GRANTED)
		return h->lease_until_ms;
	if (h->phase == HANDOVER_PULLING)
		return h->hold_until_ms;
	return -1;
}

const char *handover_busy_reason(const struct handover *h)
{
	return h->phase == HANDOVER_OFFERING ? h->busy_reason : "";
}

bool handover_may_pull(const struct handover *h, const char *trainer, const char *checkpoint)
{
	return h->phase == HANDOVER_GRANTED && same(h->trainer, trainer) &&
	       same(h->granted, checkpoint);
}

bool handover_awaits_claim(const struct handover *h, int64_t now_ms)
{
	return h->phase == HANDOVER_OFFERING && h->up && same(h->sent, h->checkpoint) &&
	       now_ms < h->claim_until_ms && now_ms >= h->busy_until_ms;
}

bool handover_may_offer(const struct handover *h)
{
	return h->phase == HANDOVER_IDLE || h->phase == HANDOVER_OFFERING;
}
