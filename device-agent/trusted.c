/* Where messages are signed: who signed what comes in, and whether it is of now.
 *
 * Model: before a message is decoded its bytes are verified, whatever they say; that costs 100 us,
 * so it has a bucket of its own, and who forges thousands a second can keep honest messages out of
 * it for as long as he does, and nothing else. What is decoded is then compared with what was taken
 * before, which is in the state: a result in the write of its decision, an offer to the fleet in
 * the one that takes it up. What is refused here has no answer: whoever plays old messages learns
 * nothing and ends nothing. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static int64_t utc(const struct agent *a)
{
	return a->port.real_ms(a->port.user);
}

int trusted_start(struct agent *a, struct err *err)
{
	return trust_new(&a->conf.identity, ROLE_DEVICE, utc(a), &a->trust, err);
}

uint64_t agent_refused(const struct agent *a, enum refusal why)
{
	return a->trust ? trust_refused(a->trust, why) : 0;
}

void trusted_watch(struct agent *a)
{
	struct err err = {0};
	int r = a->trust ? trust_watch(a->trust, utc(a), &err) : 0;
	if (r < 0)
		log_write(r == -ETIME ? LOG_P_ERROR : LOG_P_WARNING, "device=%s %s", a->conf.id,
			  err.text);
}

/* ---- who signed it ---- */

static bool must_be_signed(const struct agent *a, enum topic_kind kind, enum role *ret_by)
{
	if (kind == TOPIC_DEVICE_CMD || kind == TOPIC_FLEET_CMD) {
		*ret_by = ROLE_OPERATOR;
		return a->conf.commands_signed;
	}
	return trust_is_signed(kind, ret_by);
}

bool trusted_open(struct agent *a, const struct topic *t, const struct mqtt_message *m,
		  char by[ID_SIZE], struct err *err)
{
	enum role role;
	by[0] = 0;
	if (!a->trust || !must_be_signed(a, t->kind, &role))
		return true;
	if (inbox_flooded(a, FLOOD_SIGNED, NULL))
		return false;
	return trust_open(a->trust, role, "", m->topic, m->payload, m->len, utc(a), by, err) ==
	       REFUSAL_NONE;
}

bool trusted_is_by(struct agent *a, const char *by, const char *trainer, struct err *err)
{
	if (!a->trust || same(by, trainer))
		return true;
	err_set(err, -EPERM, "trainer: found %s, expected %s, who signed it", trainer, by);
	trust_refuse(a->trust, REFUSAL_SIGNER, err);
	return false;
}

/* ---- its own offers ---- */

int trusted_number(struct agent *a, struct manifest *m)
{
	if (!a->trust)
		return 0;
	if (!same(a->numbered, m->id)) {
		struct state *next = agent_draft(a);
		next->sequence = freshness_next(next->sequence, utc(a));
		int r = agent_commit(a);
		if (r < 0)
			return r;
		COPY(a->numbered, m->id);
	}
	m->sequence = a->state->sequence;
	m->expires_ms = utc(a) + FRESHNESS_HANDOVER_MS;
	return 0;
}

/* In the write that ends a grant without a result: what is offered from here on is another offer.
 */
void trusted_offers_again(const struct agent *a, struct state *next)
{
	if (a->trust)
		next->sequence = freshness_next(next->sequence, utc(a));
}

/* ---- whether it is of now ---- */

/* A claim may lead to a grant only if it answers the offer at hand. */
bool trusted_claim(struct agent *a, const struct msg_claim *c, struct err *err)
{
	const struct handover *h = &a->state->handover;
	bool open = h->phase == HANDOVER_GRANTED || h->phase == HANDOVER_PULLING;
	if (!a->trust || c->busy || c->fence || c->sequence == a->state->sequence ||
	    !same(c->checkpoint, open ? h->granted : h->checkpoint))
		return true;
	err_set(err, -ESTALE, "sequence: found %lld, expected %lld, of what is on offer",
		(long long)c->sequence, (long long)a->state->sequence);
	trust_refuse(a->trust, REFUSAL_REPLAY, err);
	return false;
}

void trusted_grant(const struct agent *a, struct msg_grant *g)
{
	if (a->trust && !g->granted && a->state->handover.phase == HANDOVER_OFFERING)
		g->sequence = a->state->sequence;
}

/* The last result of that trainer: on its way in, or decided on. */
static void last_result(struct agent *a, const char *trainer, struct freshness_last *ret)
{
	const struct handover *h = &a->state->handover;
	const struct state_taken *t = state_taken_find(a->state, trainer);
	*ret = t ? t->last : (struct freshness_last){0};
	if ((h->phase == HANDOVER_PULLING || h->phase == HANDOVER_JUDGING) &&
	    same(h->trainer, trainer)) {
		*ret = (struct freshness_last){.sequence = h->result.manifest.sequence};
		COPY(ret->id, h->result.manifest.id);
	}
}

bool trusted_result(struct agent *a, struct msg_result *r, struct err *err)
{
	const struct handover *h = &a->state->handover;
	struct freshness_last last;
	if (!a->trust)
		return true;
	last_result(a, r->manifest.trainer, &last);
	const struct freshness here = {
		.device = a->conf.id,
		.model = a->model->id,
		.parent = h->open && r->fence == h->fence ? h->granted : NULL,
		.last = &last,
		.now_ms = utc(a),
		.lifetime_ms = FRESHNESS_HANDOVER_MS,
	};
	enum refusal refusal = freshness_check(&r->manifest, &here, err);
	r->manifest.expires_ms = 0; /* of the message, not of what it brings */
	return trust_refuse(a->trust, refusal, err) == REFUSAL_NONE;
}

bool trusted_fleet(struct agent *a, struct msg_fleet *m, struct err *err)
{
	struct freshness_last last = {.sequence = a->state->fleet.sequence};
	if (!a->trust)
		return true;
	/* One of an older version: which one it was is not known. */
	COPY(last.id, *a->state->fleet.id ? a->state->fleet.id : m->manifest.id);
	const struct freshness here = {
		.model = a->model->id,
		.last = &last,
		.now_ms = utc(a),
		.lifetime_ms = FRESHNESS_FLEET_MS,
		.sequence_unit_ms = FRESHNESS_FLEET_UNIT_MS,
	};
	enum refusal refusal = freshness_check(&m->manifest, &here, err);
	m->manifest.expires_ms = 0;
	return trust_refuse(a->trust, refusal, err) == REFUSAL_NONE;
}

bool trusted_command(struct agent *a, const struct msg_cmd *c, struct err *err)
{
	if (!a->conf.commands_signed) {
		if (c->expires_ms && utc(a) > c->expires_ms)
			err_set(err, -ETIME, "expires: the command has expired");
		return !err->code;
	}
	enum refusal refusal = freshness_expires(c->expires_ms, utc(a), FRESHNESS_COMMAND_MS, err);
	/* Its answer is not remembered any more. */
	if (refusal == REFUSAL_NONE && state_is_spent(a->state, c->id)) {
		err_set(err, -EALREADY, "id: %s was carried out before", c->id);
		refusal = REFUSAL_REPLAY;
	}
	return trust_refuse(a->trust, refusal, err) == REFUSAL_NONE;
}

void trusted_carried_out(const struct agent *a, struct state *next, const struct msg_cmd *c)
{
	if (a->conf.commands_signed)
		state_spent_put(next, c->id, c->expires_ms + FRESHNESS_SKEW_MS);
}

/* ---- what is not taken again ---- */

void trusted_decided(struct state *next, const struct handover *before,
		     const struct handover_event *ev)
{
	const struct manifest *m =
		ev->kind == HANDOVER_EV_RESULT ? &ev->result->manifest : &before->result.manifest;
	if (ev->kind != HANDOVER_EV_GONE && m->sequence)
		state_taken_put(next, before->trainer, m->sequence, m->id);
}

void trusted_over(struct agent *a, const struct msg_ack *k)
{
	const struct handover *h = &a->state->handover;
	const struct state_taken *t = a->trust ? state_taken_find(a->state, k->trainer) : NULL;
	if (!t || t->last.over || !same(t->last.id, k->checkpoint) || k->fence != h->fence ||
	    h->open)
		return;
	struct state *next = agent_draft(a);
	state_taken_find(next, k->trainer)->last.over = true;
	agent_commit(a); /* if it fails, a repetition is answered once more */
}
