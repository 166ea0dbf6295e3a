/* The handover carried out: actions of the state machine, the result's blocks coming in, the
 * offered checkpoint's blocks going out. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* ---- actions ---- */

static struct topic to_trainer(const struct agent *a, enum topic_kind kind, const char *trainer)
{
	struct topic t = {.kind = kind};
	COPY(t.device, a->conf.id);
	COPY(t.trainer, trainer);
	return t;
}

static void score_for_offer(const struct agent *a, const char *id, enum split split,
			    struct score *ret)
{
	const struct state_score *s = state_score_find(a->state, id, split, NULL);
	if (s)
		*ret = s->score;
}

/* What a sealed block is proven by. */
static int set_root(struct agent *a, struct manifest *m, struct err *err)
{
	char path[FILE_PATH_MAX];
	if (!*a->conf.identity.certificate)
		return 0;
	int r = store_payload(a->store, m->id, path, err);
	return r < 0 ? r : proof_root(&a->proof, path, m, err);
}

static void publish_offer(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	struct msg_offer m = {0};
	struct score own = {0};
	struct topic t = {.kind = TOPIC_DEVICE_OFFER};
	struct err err;
	if (store_manifest(a->store, h->checkpoint, &m.manifest, &err) < 0) {
		guard_suspect(a, h->checkpoint);
		return;
	}
	if (privacy_may_leave(a, &m.manifest, &err) < 0) {
		log_error("device=%s not offered: %s", a->conf.id, err.text);
		return;
	}
	if (!link_offers(a, m.manifest.size))
		return;
	if (set_root(a, &m.manifest, &err) < 0) {
		guard_suspect(a, h->checkpoint);
		return;
	}
	COPY(t.device, a->conf.id);
	COPY(m.trainer, h->trainer);
	score_for_offer(a, *m.manifest.source ? m.manifest.source : h->checkpoint, SPLIT_VALIDATION,
			&own);
	/* A copy without private rows has none: nobody here uses it. */
	score_for_offer(a, h->checkpoint, SPLIT_VALIDATION, &m.validation);
	score_for_offer(a, h->checkpoint, SPLIT_TEST, &m.test);
	if (store_has(a->store, a->state->first))
		COPY(m.bases[m.n_bases++], a->state->first);
	if (trusted_number(a, &m.manifest) < 0)
		return; /* it is due again soon */
	h = &a->state->handover;
	announce_publish(a, &t, msg_offer_print(&m), false);
	if (h->attempt <= 1)
		ledger_say(a, &(struct audit_event){.event = "offered",
						    .checkpoint = h->checkpoint,
						    .parent = m.manifest.source});
	log_write(h->attempt <= 1 ? LOG_P_INFO : LOG_P_DEBUG,
		  "device=%s checkpoint=%.12s epoch=%lld accuracy=%.4f offered", a->conf.id,
		  h->checkpoint, (long long)m.manifest.epoch, score_accuracy(&own));
}

static void run_action(struct agent *a, const struct handover_action *act)
{
	struct topic t;
	struct msg_grant grant;
	switch (act->kind) {
	case HANDOVER_PERSIST:
		break;
	case HANDOVER_OFFER:
		publish_offer(a);
		break;
	case HANDOVER_GRANT:
		t = to_trainer(a, TOPIC_TRAINER_GRANT, act->trainer);
		grant = act->grant;
		sealing_grant(a, &grant);
		trusted_grant(a, &grant);
		announce_publish(a, &t, msg_grant_print(&grant), false);
		if (!act->grant.granted)
			log_debug("device=%s trainer=%s checkpoint=%.12s not granted: %s",
				  a->conf.id, act->trainer, act->grant.checkpoint,
				  act->grant.reason);
		break;
	case HANDOVER_ACK:
		t = to_trainer(a, TOPIC_TRAINER_ACK, act->trainer);
		announce_publish(a, &t, msg_ack_print(&act->ack), false);
		if (act->ack.decision == DECISION_REFUSED)
			log_warning("device=%s fence=%lld trainer=%s checkpoint=%.12s refused: %s",
				    a->conf.id, (long long)act->ack.fence, act->trainer,
				    act->ack.checkpoint, act->ack.reason);
		break;
	case HANDOVER_DROP:
		if (a->pulling && same(a->part.id, act->dropped)) {
			part_close(&a->part);
			a->pulling = false;
		}
		part_discard(a->incoming, act->dropped);
		break;
	}
}

static void log_phase(const struct agent *a, enum handover_phase was, int64_t fence_was)
{
	const struct handover *h = &a->state->handover;
	if (h->fence != fence_was) {
		log_info("device=%s fence=%lld trainer=%s checkpoint=%.12s granted", a->conf.id,
			 (long long)h->fence, h->trainer, h->granted);
		privacy_log(a);
	}
	if (was == h->phase)
		return;
	if (h->phase == HANDOVER_OFFERING && was == HANDOVER_GRANTED)
		log_warning("device=%s fence=%lld trainer=%s %s: offering again", a->conf.id,
			    (long long)h->fence, h->trainer,
			    h->open ? "the lease ran out" : "gave the grant back");
	if (h->phase == HANDOVER_OFFERING && was == HANDOVER_PULLING)
		log_warning("device=%s fence=%lld trainer=%s the result does not come in: offering "
			    "again",
			    a->conf.id, (long long)h->fence, h->trainer);
	if (h->phase == HANDOVER_PULLING)
		log_info("device=%s fence=%lld trainer=%s checkpoint=%.12s came back "
			 "before=%.4f after=%.4f: pulling",
			 a->conf.id, (long long)h->fence, h->trainer, h->result.manifest.id,
			 score_accuracy(&h->result.before), score_accuracy(&h->result.after));
	if (h->phase == HANDOVER_JUDGING)
		log_info("device=%s fence=%lld trainer=%s checkpoint=%.12s verified: evaluating",
			 a->conf.id, (long long)h->fence, h->trainer, h->result.manifest.id);
}

/* Why the trainer is not to have it any longer, or will not have it, where that is news. */
static void log_refusals(const struct agent *a, const struct handover *was,
			 const struct handover_actions *acts)
{
	const struct handover *h = &a->state->handover;
	if (h->cut_off && !was->cut_off && acts->n)
		log_warning("device=%s fence=%lld trainer=%s checkpoint=%.12s not renewed: %s",
			    a->conf.id, (long long)h->fence, h->trainer, h->granted,
			    acts->at[0].grant.reason);
	if (*h->busy_reason && !same(h->busy_reason, was->busy_reason))
		log_warning("device=%s checkpoint=%.12s is not taken: %s", a->conf.id,
			    h->checkpoint, h->busy_reason);
}

static bool must_save(const struct handover_actions *acts)
{
	for (size_t i = 0; i < acts->n; i++)
		if (acts->at[i].kind == HANDOVER_PERSIST)
			return true;
	return false;
}

/* The claim that a grant answers; NULL: none. */
static const struct msg_claim *granted(const struct handover_event *ev,
				       const struct handover_actions *acts)
{
	for (size_t i = 0; i < acts->n; i++)
		if (acts->at[i].kind == HANDOVER_GRANT && acts->at[i].grant.granted)
			return ev->claim;
	return NULL;
}

/* next NULL: nothing else is to be saved. */
static int apply(struct agent *a, struct state *next, const struct handover_event *ev)
{
	struct handover h = next ? next->handover : a->state->handover;
	const struct handover before = h;
	const enum handover_phase was = h.phase;
	struct handover_actions acts;
	handover_step(&h, ev, a->now_ms, &acts);
	ledger_handover(a, &before, &h);
	const struct msg_claim *claim = granted(ev, &acts);
	if (must_save(&acts) || next || (claim && !sealing_agreed(a, claim))) {
		if (!next)
			next = agent_draft(a);
		next->handover = h;
		int r = sealing_step(a, next, claim, before.fence);
		if (h.phase != HANDOVER_JUDGING)
			next->judgement = (struct judgement){0};
		if (was == HANDOVER_JUDGING && ev->kind == HANDOVER_EV_JUDGED)
			coding_handed_over(a, next, before.result.manifest.id, before.granted);
		if (h.phase == HANDOVER_IDLE)
			trusted_decided(next, &before, ev);
		/* Offered again: the next newer one is counted from now. */
		if (h.phase == HANDOVER_OFFERING &&
		    (was == HANDOVER_GRANTED || was == HANDOVER_PULLING)) {
			rounds_offered(&next->rounds, next->rounds.epoch);
			trusted_offers_again(a, next);
		}
		if (r == 0 && h.fence != before.fence)
			r = privacy_granted(a, next, h.granted);
		if (r == 0)
			r = agent_commit(a);
		if (r < 0)
			return r;
		sealing_over(a);
	} else {
		a->state->handover = h;
	}
	if (h.phase == HANDOVER_IDLE)
		a->numbered[0] = 0; /* the same one is another offer then */
	log_phase(a, was, before.fence);
	log_refusals(a, &before, &acts);
	if (a->state->handover.phase != HANDOVER_GRANTED)
		a->serve.n = 0;
	if (a->state->handover.phase != was || a->state->handover.fence != before.fence)
		exchange_sweep(a);
	for (size_t i = 0; i < acts.n; i++)
		run_action(a, &acts.at[i]);
	return 0;
}

int exchange_event(struct agent *a, const struct handover_event *ev)
{
	return apply(a, NULL, ev);
}

int exchange_event_with(struct agent *a, struct state *next, const struct handover_event *ev)
{
	return apply(a, next, ev);
}

void exchange_withdraw(struct agent *a, const struct err *why)
{
	const struct handover_event gone = {.kind = HANDOVER_EV_GONE};
	struct state *next = agent_draft(a);
	log_error("device=%s no longer on offer: %s", a->conf.id, why->text);
	ledger_say(a, &(struct audit_event){.event = "withdrawn",
					    .checkpoint = a->state->handover.checkpoint});
	a->serve.n = 0;
	next->rounds.offer_ordered = true; /* of what may be */
	exchange_event_with(a, next, &gone);
}

int64_t exchange_deadline_ms(const struct agent *a)
{
	int64_t at = handover_deadline_ms(&a->state->handover);
	if (!a->pulling || !a->up)
		return at;
	int64_t ask = xfer_deadline_ms(&a->part.xfer);
	if (!a->link.pull_waits)
		at = earlier(at, a->part.xfer.new_ms + a->state->handover.lease_ms);
	return earlier(at, ask);
}

/* ---- offering ---- */

/* Said each time that one is due, but not the same again: a spent budget stays so for good. */
static int not_offered(struct agent *a, int64_t epoch, const struct err *why)
{
	if (!same(a->not_offered, why->text))
		log_error("device=%s not offered: %s", a->conf.id, why->text);
	COPY(a->not_offered, why->text);
	a->candidate[0] = 0;
	struct state *next = agent_draft(a);
	rounds_offered(&next->rounds, epoch);
	return agent_commit(a);
}

static int offer(struct agent *a)
{
	struct manifest m;
	struct err err = {0};
	char offered[HASH_SIZE];
	struct handover_event ev = {.kind = HANDOVER_EV_DUE, .checkpoint = offered};
	int r = store_manifest(a->store, a->candidate, &m, &err);
	if (r < 0) {
		guard_suspect(a, a->candidate);
		a->candidate[0] = 0;
		return r;
	}
	if (lineage_may_leave(a, &m, &err) < 0)
		return not_offered(a, m.epoch, &err);
	r = lineage_offered(a, a->candidate, offered, &err);
	if (r < 0) {
		guard_suspect(a, a->candidate);
		retry_failed(a, &a->rows, "private rows cannot be taken out", &err);
		return r;
	}
	retry_done(&a->rows);
	r = privacy_offered(a, offered, offered, &err);
	if (r == -EPERM)
		return not_offered(a, m.epoch, &err);
	if (r < 0)
		return r;
	r = coding_offered(a, offered, offered);
	if (r < 0)
		return r;
	const char *scored = coding_to_score(a);
	if (*scored && a->data.n[SPLIT_TEST] && !learn_score(a, scored, SPLIT_TEST))
		return -EAGAIN;
	bool ordered = a->state->rounds.offer_ordered;
	struct state *next = agent_draft(a);
	/* One that was adopted counts the epochs of others. */
	rounds_offered(&next->rounds, m.origin == ORIGIN_LOCAL ? m.epoch : next->rounds.epoch);
	r = exchange_event_with(a, next, &ev);
	if (r < 0)
		return r;
	a->candidate[0] = 0;
	/* A person does not wait for the back-off, only for trainers that said they are busy. */
	struct handover *h = &a->state->handover;
	if (ordered && h->offer_at_ms > h->busy_until_ms && h->attempt != 1) {
		h->attempt = 0;
		h->offer_at_ms = h->busy_until_ms;
	}
	return 0;
}

/* When a handover is due: takes the newest local checkpoint, once it has its scores. */
bool exchange_offer_step(struct agent *a)
{
	const struct state *s = a->state;
	if (!handover_may_offer(&s->handover) || a->conf.share_never) {
		a->candidate[0] = 0;
		return false;
	}
	if (retry_waits(a, &a->rows) || a->coding.id || a->noising.id ||
	    retry_waits(a, &a->noising.retry))
		return false;
	if (!s->rounds.offer_ordered && handover_awaits_claim(&s->handover, a->now_ms))
		return false;
	if (!*a->candidate) {
		bool decided = true;
		for (size_t i = 0; i < s->n_undecided; i++)
			decided = decided && !same(s->undecided[i], s->local);
		if (!*s->local || !a->worker_ready || !rounds_offer_due(&s->rounds, &a->live) ||
		    (!decided && a->data.n[SPLIT_VALIDATION]))
			return false;
		COPY(a->candidate, s->local);
	}
	if (a->data.n[SPLIT_TEST] && !learn_score(a, a->candidate, SPLIT_TEST))
		return false;
	return offer(a) == 0;
}

/* ---- the result comes in ---- */

void exchange_result(struct agent *a, const struct msg_result *r)
{
	const struct manifest *m = &r->manifest;
	struct handover_event ev = {.kind = HANDOVER_EV_RESULT, .result = r};
	struct err err = {0};
	if (!same(m->device, a->conf.id))
		err_set(&err, -EINVAL, "device: found %s, expected %s", m->device, a->conf.id);
	else if (m->origin != ORIGIN_EDGE)
		err_set(&err, -EINVAL, "origin: found %s, expected edge", origin_name(m->origin));
	else if (a->seal && !*m->root)
		err_set(&err, -EINVAL, "root: found none, expected that of the payload's blocks");
	else
		manifest_fits(m, a->model, a->port.real_ms(a->port.user), &err);
	if (!err.code && !coding_has_base(a, m))
		err_set(&err, -EINVAL, "base: checkpoint %.12s is not here", m->base);
	if (err.code)
		ev.reason = err.text; /* of what the trainer sent, and no paths */
	exchange_event(a, &ev);
}

static void pull_failed(struct agent *a, const struct err *err)
{
	struct handover_event ev = {.kind = HANDOVER_EV_REFUSED,
				    .reason = err_category_text(err->category)};
	if (err->code != -EBADMSG) {
		retry_failed(a, &a->pull, "the result could not be kept", err);
		return;
	}
	log_warning("device=%s %s", a->conf.id, err->text);
	exchange_event(a, &ev); /* it is not what it was said to be */
}

/* Looked through, into the store. */
static bool keep_result(struct agent *a, const char *weights)
{
	const struct manifest *m = &a->state->handover.result.manifest;
	struct manifest kept = *m;
	struct handover_event ev = {.kind = HANDOVER_EV_PULLED};
	bool raw = m->encoding == ENCODING_RAW; /* then its hash is verified already */
	char id[HASH_SIZE], payload[HASH_SIZE];
	struct err err = {0};
	kept.source[0] = 0; /* whose rows go into what comes back is not for a trainer to say */
	kept.sequence = 0;
	COPY(payload, manifest_payload(m));
	manifest_decoded(&kept, a->model->file_bytes);
	int r = weights_check(a->model, weights, NULL, raw ? NULL : id, &err);
	if (r == 0 && !raw && !same(id, m->id))
		r = err_set(&err, -EBADMSG, "found sha256 %s, expected %s", id, m->id);
	if (r == 0)
		r = (raw ? store_add_own : store_add)(a->store, weights, &kept, &err);
	if (r < 0) {
		pull_failed(a, &err);
		return false;
	}
	part_discard(a->incoming, payload);
	retry_done(&a->pull);
	return exchange_event(a, &ev) == 0;
}

/* All blocks are there. */
static bool finish_pull(struct agent *a)
{
	const struct manifest *m = &a->state->handover.result.manifest;
	char path[FILE_PATH_MAX];
	struct err err = {0};
	a->pulling = false;
	int r = part_finish(&a->part, path, &err);
	if (r == 0 && m->encoding == ENCODING_RAW)
		return keep_result(a, path);
	if (r == 0)
		r = coding_decode(a, m, path, &err);
	if (r < 0)
		pull_failed(a, &err);
	return false;
}

void exchange_decoded(struct agent *a, const struct json *result, const struct err *failed)
{
	const struct handover *h = &a->state->handover;
	bool lost = failed && work_worker_lost(failed->code);
	struct err bad;
	a->decoding.id = 0;
	/* With the next worker the part is found complete, and is decoded once more. */
	if (lost && ++a->decoding.n_lost < CODING_LOST_MAX)
		return;
	a->decoding.n_lost = 0;
	if (lost) {
		bad = *failed;
		bad.code = -EBADMSG; /* whatever it is */
		failed = &bad;
	}
	if (h->phase != HANDOVER_PULLING || !same(h->result.manifest.id, a->decoding.checkpoint))
		return;
	if (failed)
		pull_failed(a, failed);
	else
		keep_result(a, a->decoding.out);
}

/* As many as window and link let, counted when they are asked for: what does not come has mostly
 * crossed the link, or comes late. While the link alone keeps them, nobody is waited for. */
static size_t want_blocks(struct agent *a, uint32_t ret[MESSAGE_WANT_MAX])
{
	struct xfer *x = &a->part.xfer;
	size_t max = link_blocks(a, METER_RESULT, xfer_block_len(x, 0), MESSAGE_WANT_MAX);
	size_t n = xfer_want(x, a->now_ms, ret, max);
	if (n && a->link.pull_waits)
		x->new_ms = a->now_ms;
	a->link.pull_waits = max == 0 && x->n_asked == 0;
	for (size_t i = 0; i < n; i++)
		meter_count(&a->meter, xfer_block_len(x, ret[i]));
	return n;
}

static void ask_for_blocks(struct agent *a)
{
	struct topic t = to_trainer(a, TOPIC_TRAINER_WANT, a->state->handover.trainer);
	struct msg_want m = {0};
	COPY(m.checkpoint, a->part.id);
	while (a->up && (m.n_blocks = want_blocks(a, m.blocks)) > 0)
		announce_publish(a, &t, msg_want_print(&m), false);
}

static bool open_pull(struct agent *a)
{
	const struct manifest *m = &a->state->handover.result.manifest;
	struct handover_event ev = {.kind = HANDOVER_EV_PULLED};
	struct err err = {0};
	if (store_has(a->store, m->id))
		return exchange_event(a, &ev) == 0;
	if (retry_waits(a, &a->pull))
		return false;
	int r = part_open(&a->part, a->incoming, m, a->now_ms, &err);
	if (r < 0) {
		retry_failed(a, &a->pull, "the result cannot be pulled", &err);
		return false;
	}
	a->part.from_signer = true;
	a->pulling = true;
	a->link.pull_waits = false;
	return true;
}

bool exchange_pull_step(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	struct handover_event stalled = {.kind = HANDOVER_EV_STALLED};
	if (a->pulling && (h->phase != HANDOVER_PULLING ||
			   !same(a->part.id, manifest_payload(&h->result.manifest)))) {
		part_close(&a->part);
		a->pulling = false;
	}
	if (h->phase != HANDOVER_PULLING) {
		if (a->pull.failures)
			retry_done(&a->pull);
		return false;
	}
	if (coding_decodes(a))
		return false;
	if (!a->pulling)
		return open_pull(a);
	if (xfer_complete(&a->part.xfer))
		return finish_pull(a);
	if (!a->up)
		return false;
	if (!a->link.pull_waits && a->now_ms - a->part.xfer.new_ms >= h->lease_ms)
		return exchange_event(a, &stalled) == 0;
	int64_t due = xfer_deadline_ms(&a->part.xfer);
	if (due >= 0 && a->now_ms >= due)
		xfer_timeout(&a->part.xfer, a->now_ms);
	ask_for_blocks(a);
	return false;
}

void exchange_block(struct agent *a, const struct topic *t, const void *data, size_t len,
		    struct err *ret_err)
{
	struct err err = {0};
	if (!a->pulling) {
		a->n_refused++; /* of one that is here, or was given up: late, most likely */
		return;
	}
	if (!same(t->checkpoint, a->part.id)) {
		err_set(ret_err, -EINVAL, "found checkpoint %.12s, expected %.12s", t->checkpoint,
			a->part.id);
		return;
	}
	int r = sealing_take_block(a->seal, sealing_key(a, a->part.id, true), &a->part, t->block, data,
				   len, a->block, a->now_ms, &err);
	if (r < 0) {
		part_close(&a->part);
		a->pulling = false;
		retry_failed(a, &a->pull, "the result cannot be pulled", &err);
	} else if (r != XFER_OK && r != XFER_E_TWICE) {
		err_set(ret_err, -EINVAL, "%zu bytes: %s", len,
			xfer_result_text((enum xfer_result)r));
		if (a->trust)
			trust_refuse(a->trust, sealed_refusal((enum xfer_result)r), ret_err);
	}
}

/* At most one result is on its way in, and its size is exactly the model's. What came of one whose
 * way back stalled is kept for a while: it may come again under the same fence. */
void exchange_sweep(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	bool stalled = h->phase == HANDOVER_OFFERING && h->open;
	if (stalled && (!a->leftover_until_ms || a->now_ms < a->leftover_until_ms)) {
		if (!a->leftover_until_ms)
			a->leftover_until_ms = a->now_ms + AGENT_LEFTOVER_MS;
		return;
	}
	if (h->phase == HANDOVER_PULLING)
		part_sweep(a->incoming, manifest_payload(&h->result.manifest));
	else
		part_sweep(a->incoming, "");
	a->leftover_until_ms = 0;
}

/* ---- the offered checkpoint goes out ---- */

/* Whether any of them has not been wanted before under this fence. err says so where there is no
 * such block. */
static bool note_wanted(struct agent *a, const struct msg_want *w, const struct manifest *m,
			struct err *err)
{
	const struct handover *h = &a->state->handover;
	bool news = false;
	if (a->wanted.fence != h->fence) {
		uint32_t n = (uint32_t)((m->size + m->block_size - 1) / m->block_size);
		uint8_t *bits = calloc(n / 8 + 1, 1);
		if (!bits)
			return false;
		free(a->wanted.bits);
		a->wanted.bits = bits;
		a->wanted.n_blocks = n;
		a->wanted.fence = h->fence;
	}
	for (size_t i = 0; i < w->n_blocks; i++) {
		uint32_t b = w->blocks[i];
		if (b >= a->wanted.n_blocks)
			err_set(err, -ERANGE, "blocks: found %u, expected less than %u", b,
				a->wanted.n_blocks);
		if (b >= a->wanted.n_blocks || a->wanted.bits[b / 8] & 1 << b % 8)
			continue;
		a->wanted.bits[b / 8] |= (uint8_t)(1 << b % 8);
		news = true;
	}
	return news;
}

void exchange_want(struct agent *a, const struct msg_want *w, struct err *err)
{
	const struct handover *h = &a->state->handover;
	struct manifest m;
	bool granted = handover_may_pull(h, w->trainer, h->granted);
	if (granted && store_manifest(a->store, h->granted, &m, NULL) < 0) {
		guard_suspect(a, h->granted);
		return;
	}
	if (!granted || !same(manifest_payload(&m), w->checkpoint)) {
		log_debug("device=%s trainer=%s checkpoint=%.12s: not granted, no blocks",
			  a->conf.id, w->trainer, w->checkpoint);
		return;
	}
	const struct handover_event wanted = {.kind = HANDOVER_EV_WANTED};
	if (note_wanted(a, w, &m, err))
		exchange_event(a, &wanted);
	serve_add(&a->serve, w->blocks, w->n_blocks);
	/* What is damaged is not to travel first. */
	if (a->checked_fence != h->fence)
		guard_suspect(a, h->granted);
}

static int serve_block(struct agent *a, const struct manifest *m, const char *path, uint32_t block)
{
	struct topic t = to_trainer(a, TOPIC_TRAINER_BLOCK, a->state->handover.trainer);
	char topic[TOPIC_SIZE];
	struct err err = {0};
	uint32_t len;
	int r = sealing_read_block(a->seal, sealing_key(a, manifest_payload(m), false), &a->proof,
				   path, m, block, a->block, &len, &err);
	if (r < 0) {
		if (r == -ENOKEY)
			log_error("device=%s not sent: %s", a->conf.id, err.text);
		else if (r != -ERANGE) /* else: no such block */
			guard_suspect(a, m->id);
		return r;
	}
	COPY(t.checkpoint, manifest_payload(m));
	t.block = block;
	r = topic_format(topic, a->conf.site, &t);
	if (r < 0)
		return r;
	struct mqtt_publish p = {.topic = topic, .payload = a->block, .len = len, .qos = 0};
	r = a->port.publish(a->port.user, &p);
	if (r == 0)
		meter_count(&a->meter, len);
	return r;
}

void exchange_serve(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	struct manifest m;
	char path[FILE_PATH_MAX];
	struct err err = {0};
	if (a->serve.n == 0 || (h->phase == HANDOVER_GRANTED && a->checked_fence != h->fence))
		return;
	if (h->phase != HANDOVER_GRANTED) {
		a->serve.n = 0;
		return;
	}
	if (store_payload(a->store, h->granted, path, &err) < 0 ||
	    store_manifest(a->store, h->granted, &m, NULL) < 0) {
		guard_suspect(a, h->granted);
		a->serve.n = 0;
		return;
	}
	if (privacy_may_leave(a, &m, &err) < 0) {
		exchange_withdraw(a, &err);
		return;
	}
	size_t done = 0;
	/* Full: agent_writable() comes. Anything else: it will be asked for again. */
	while (done < a->serve.n && link_blocks(a, METER_OFFER, MIN_OF(m.block_size, m.size), 1) &&
	       serve_block(a, &m, path, a->serve.blocks[done]) != -EAGAIN)
		done++;
	serve_sent(&a->serve, done);
}
