/* A checkpoint for everyone (fleet/offer): whether to take it, its blocks as they are sent to all
 * (fleet/block), what was missed as an ordinary wish to the trainer that has it, and then it waits
 * for the selector as a checkpoint of the device's own does.
 *
 * Model: the state has the sequence of the last offer that was taken up, and, until its checkpoint
 * is in the store, the offer itself; what came of it is in a part file of its own. So it goes on
 * after a restart, and beside a handover. The blocks are subscribed to when the offer has been
 * saved and, where they are sealed, their key is here (fleet_key.c), and no sooner. Nothing is
 * asked for while they come, nor before a random moment after that, so that a fleet that missed the
 * same does not ask at once. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"

#define FLEET_QUIET_MS 5000 /* without a block sent to all: none will come for now */

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool is_taking(const struct agent *a)
{
	return a->state->fleet.offer.manifest.sequence > 0;
}

static const struct manifest *wanted(const struct agent *a)
{
	return &a->state->fleet.offer.manifest;
}

/* ---- subscribing to the blocks ---- */

static void filter_of(const struct agent *a, const char *checkpoint, char filter[TOPIC_SIZE])
{
	struct topic t = {.kind = TOPIC_FLEET_BLOCK};
	COPY(t.checkpoint, checkpoint);
	topic_filter(filter, a->conf.site, &t, NULL);
}

static void subscribe(struct agent *a, const char *checkpoint, bool on)
{
	char filter[TOPIC_SIZE];
	if (!a->port.subscribe)
		return;
	filter_of(a, checkpoint, filter);
	int r = a->port.subscribe(a->port.user, filter, 1, on);
	if (r < 0)
		log_debug("device=%s %s: %s", a->conf.id, filter, strerror(-r));
}

static void close_part(struct agent *a)
{
	if (a->fleet.open)
		part_close(&a->fleet.part);
	a->fleet.open = false;
}

/* What was being taken is not taken any longer: it is in the store, or must not be. */
static void leave(struct agent *a, const char *checkpoint)
{
	close_part(a);
	part_discard(a->fleet.dir, checkpoint);
	subscribe(a, checkpoint, false);
	fleet_key_forget(a);
	COPY(a->fleet.left, checkpoint);
	retry_done(&a->fleet.retry);
}

static void take_nothing(struct state *next)
{
	next->fleet.offer = (struct msg_fleet){0};
	seal_wipe(next->fleet.key, sizeof(next->fleet.key));
}

/* Not asked for before that: blocks may still come by themselves, and not all ask at once. */
static void wait_quietly(struct agent *a, int64_t from_ms)
{
	int64_t spread_ms = a->state->fleet.offer.spread_ms;
	a->fleet.pull_at_ms = from_ms + FLEET_QUIET_MS;
	if (spread_ms > 0)
		a->fleet.pull_at_ms += rng_below(&a->rng, (uint32_t)spread_ms);
}

/* ---- the offer ---- */

static int check(struct agent *a, const struct msg_fleet *m, struct err *err)
{
	if (m->manifest.sequence < a->state->fleet.sequence)
		return err_set(err, -ESTALE, "sequence: found %lld, expected more than %lld",
			       (long long)m->manifest.sequence,
			       (long long)a->state->fleet.sequence);
	if (!fleet_sequence_may_be(m->manifest.sequence, a->port.real_ms(a->port.user)))
		return err_set(err, -ERANGE,
			       "sequence: found %lld, expected less than 100 years "
			       "from now in seconds since 1970",
			       (long long)m->manifest.sequence);
	if (m->manifest.encoding != ENCODING_RAW)
		return err_set(err, -EOPNOTSUPP, "encoding: found %s, expected raw",
			       encoding_name(m->manifest.encoding));
	if (a->seal && !*m->manifest.root)
		return err_set(err, -EINVAL, "root: found none, expected that of sealed blocks");
	return manifest_fits(&m->manifest, a->model, a->port.real_ms(a->port.user), err);
}

static void halted(struct agent *a, const struct msg_fleet *m)
{
	char id[HASH_SIZE];
	if (!is_taking(a) || m->manifest.sequence != a->state->fleet.offer.manifest.sequence)
		return;
	COPY(id, wanted(a)->id);
	struct state *next = agent_draft(a);
	take_nothing(next);
	if (agent_commit(a) < 0)
		return; /* the offer is retained: it is heard again */
	log_warning("device=%s fleet sequence=%lld checkpoint=%.12s halted: %s", a->conf.id,
		    (long long)m->manifest.sequence, id, m->reason);
	leave(a, id);
}

/* What is sent to all comes whether there is room for it or not, and over whichever link. */
void fleet_subscribe(struct agent *a)
{
	if (!a->standby.when.no_handover &&
	    meter_covers(&a->meter, wanted(a)->size, a->port.real_ms(a->port.user)))
		subscribe(a, wanted(a)->id, true);
}

void fleet_way_out(struct agent *a)
{
	if (!is_taking(a) || fleet_key_missing(a))
		return;
	if (a->standby.when.no_handover)
		subscribe(a, wanted(a)->id, false);
	else
		fleet_subscribe(a);
}

static void take_up(struct agent *a, const struct msg_fleet *m, bool retained)
{
	char before[HASH_SIZE];
	bool there = store_has(a->store, m->manifest.id);
	COPY(before, is_taking(a) ? wanted(a)->id : "");
	struct state *next = agent_draft(a);
	take_nothing(next);
	next->fleet.sequence = m->manifest.sequence;
	if (!there)
		next->fleet.offer = *m;
	COPY(next->fleet.id, m->manifest.id);
	if (agent_commit(a) < 0)
		return; /* as above */
	if (*before && !same(before, m->manifest.id))
		leave(a, before);
	log_info("device=%s fleet sequence=%lld checkpoint=%.12s trainer=%s %s", a->conf.id,
		 (long long)m->manifest.sequence, m->manifest.id, m->manifest.trainer,
		 there ? "is here already" : "taken up");
	fleet_key_forget(a);
	if (!there && !fleet_key_missing(a))
		fleet_subscribe(a);
	else if (!there)
		fleet_key_plan(a, retained || m->starts_in_ms < 0 ? m->spread_ms : m->starts_in_ms);
	ledger_say(a, &(struct audit_event){.event = "fleet",
					    .peer = m->manifest.trainer,
					    .checkpoint = m->manifest.id,
					    .number = m->manifest.sequence});
}

/* retained: what the broker kept, which says nothing of when its blocks are sent. */
void fleet_offer(struct agent *a, const struct msg_fleet *m, bool retained, struct err *err)
{
	if (check(a, m, err) < 0)
		return;
	if (m->halted) {
		halted(a, m);
		return;
	}
	bool known = m->manifest.sequence == a->state->fleet.sequence;
	if (!known && !fleet_has(a->conf.id, m->manifest.sequence, m->share)) {
		log_debug("device=%s fleet sequence=%lld is for the first %lld %% of devices",
			  a->conf.id, (long long)m->manifest.sequence, (long long)m->share);
		return;
	}
	if (!known)
		take_up(a, m, retained);
	if (is_taking(a) && m->manifest.sequence == a->state->fleet.offer.manifest.sequence &&
	    !a->fleet.asking)
		wait_quietly(a,
			     a->now_ms + (retained || m->starts_in_ms < 0 ? 0 : m->starts_in_ms));
}

/* ---- blocks ---- */

void fleet_block(struct agent *a, const struct topic *t, const void *data, size_t len,
		 struct err *err)
{
	bool to_all = t->kind == TOPIC_FLEET_BLOCK;
	struct err failed = {0};
	if (!a->fleet.open || !same(t->checkpoint, a->fleet.part.id)) {
		/* What was on its way when all was there is nobody's fault. */
		if (to_all && !same(t->checkpoint, a->fleet.left) &&
		    !(is_taking(a) && same(t->checkpoint, wanted(a)->id)))
			err_set(err, -ENOENT, "found a block of %.12s, expected none",
				t->checkpoint);
		return;
	}
	int r = sealing_take_block(a->seal, fleet_key(a), &a->fleet.part, t->block, data, len,
				   a->block, a->now_ms, &failed);
	if (r < 0) {
		close_part(a);
		retry_failed(a, &a->fleet.retry, "the fleet's checkpoint cannot be taken", &failed);
	} else if (r == XFER_E_RANGE || r == XFER_E_LENGTH) {
		err_set(err, -EINVAL,
			"found block %u of %zu bytes, expected one of %lld in blocks of %lld",
			t->block, len, (long long)wanted(a)->size,
			(long long)wanted(a)->block_size);
	}
	enum refusal refusal = r > 0 ? sealed_refusal((enum xfer_result)r) : REFUSAL_NONE;
	if (refusal != REFUSAL_NONE) {
		err_set(err, -EBADMSG, "block %u: %s", t->block,
			xfer_result_text((enum xfer_result)r));
		trust_refuse(a->trust, refusal, err);
	}
	if (to_all)
		meter_count(&a->meter, (int64_t)len);
	/* Where whoever has the key could go on sending for ever, only what is new counts. */
	if (to_all && (r == XFER_OK || (r > XFER_OK && !a->seal)) && !a->fleet.asking)
		wait_quietly(a, a->now_ms);
}

/* As many as window and link let. */
static size_t want_blocks(struct agent *a, uint32_t ret[MESSAGE_WANT_MAX])
{
	struct xfer *x = &a->fleet.part.xfer;
	size_t max = link_blocks(a, METER_FLEET, xfer_block_len(x, 0), MESSAGE_WANT_MAX);
	size_t n = xfer_want(x, a->now_ms, ret, max);
	for (size_t i = 0; i < n; i++)
		meter_count(&a->meter, xfer_block_len(x, ret[i]));
	return n;
}

static void ask(struct agent *a)
{
	struct xfer *x = &a->fleet.part.xfer;
	struct msg_want m = {0};
	struct topic t = {.kind = TOPIC_TRAINER_WANT};
	int64_t due = xfer_deadline_ms(x);
	if (due >= 0 && a->now_ms >= due)
		xfer_timeout(x, a->now_ms);
	COPY(t.device, a->conf.id);
	COPY(t.trainer, wanted(a)->trainer);
	COPY(m.checkpoint, a->fleet.part.id);
	while ((m.n_blocks = want_blocks(a, m.blocks)) > 0) {
		if (!a->fleet.asking)
			log_info("device=%s fleet checkpoint=%.12s %u of %u blocks came, asking "
				 "trainer=%s",
				 a->conf.id, a->fleet.part.id, x->n_held, x->n_blocks,
				 wanted(a)->trainer);
		a->fleet.asking = true;
		announce_publish(a, &t, msg_want_print(&m), false);
	}
}

/* ---- it is here ---- */

/* In the store: with the device's private rows in it, it waits for the selector. */
static bool hand_on(struct agent *a)
{
	char id[HASH_SIZE], ready[HASH_SIZE];
	struct err err = {0};
	COPY(id, wanted(a)->id);
	COPY(ready, id);
	if (lineage_takes_rows(a) && *a->state->local) {
		int r = lineage_graft(a, id, a->state->local, ready, &err);
		if (r < 0) {
			retry_failed(a, &a->fleet.retry, "private rows cannot be put in", &err);
			return false;
		}
	}
	struct state *next = agent_draft(a);
	take_nothing(next);
	if (!same(ready, a->active))
		state_undecided_push(next, ready);
	if (agent_commit(a) < 0)
		return false;
	log_info("device=%s fleet sequence=%lld checkpoint=%.12s verified: waits for its score",
		 a->conf.id, (long long)a->state->fleet.sequence, ready);
	leave(a, id);
	return true;
}

/* It is not what it was said to be: its trainer is to offer another one. */
static bool refuse(struct agent *a, const struct err *why)
{
	char id[HASH_SIZE];
	COPY(id, wanted(a)->id);
	struct state *next = agent_draft(a);
	take_nothing(next);
	if (agent_commit(a) < 0)
		return false;
	log_warning("device=%s fleet sequence=%lld checkpoint=%.12s refused: %s", a->conf.id,
		    (long long)a->state->fleet.sequence, id, why->text);
	leave(a, id);
	return true;
}

static bool finish(struct agent *a)
{
	struct manifest kept = *wanted(a);
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	struct err err = {0};
	a->fleet.open = false;
	kept.source[0] = 0; /* whose rows go into it is not for a trainer to say */
	kept.sequence = 0;
	int r = part_finish(&a->fleet.part, path, &err);
	bool whole = r == 0;
	if (whole)
		r = weights_check(a->model, path, NULL, id, &err);
	if (r == 0 && !same(id, kept.id))
		r = err_set(&err, -EBADMSG, "found sha256 %s, expected %s", id, kept.id);
	/* A block may have been torn or forged on its way: all of it is pulled once more. */
	if (r == -EBADMSG && (whole || a->fleet.retry.failures))
		return refuse(a, &err);
	if (r == 0)
		r = store_add_own(a->store, path, &kept, &err);
	if (r == 0)
		return hand_on(a);
	retry_failed(a, &a->fleet.retry, "the fleet's checkpoint could not be kept", &err);
	return false;
}

static bool open_part(struct agent *a)
{
	struct err err = {0};
	if (store_has(a->store, wanted(a)->id))
		return hand_on(a);
	if (part_open(&a->fleet.part, a->fleet.dir, wanted(a), a->now_ms, &err) < 0) {
		retry_failed(a, &a->fleet.retry, "the fleet's checkpoint cannot be taken", &err);
		return false;
	}
	a->fleet.part.xfer.any = true;
	a->fleet.open = true;
	a->fleet.asking = false;
	return true;
}

bool fleet_step(struct agent *a)
{
	if (!is_taking(a)) {
		close_part(a);
		return false;
	}
	if (a->fleet.open && !same(a->fleet.part.id, wanted(a)->id))
		close_part(a);
	if (retry_waits(a, &a->fleet.retry))
		return false;
	if (fleet_key_missing(a)) {
		if (store_has(a->store, wanted(a)->id))
			return hand_on(a);
		if (a->up)
			fleet_key_ask(a);
		return false;
	}
	if (!a->fleet.open)
		return open_part(a);
	if (xfer_complete(&a->fleet.part.xfer))
		return finish(a);
	if (a->up && a->now_ms >= a->fleet.pull_at_ms)
		ask(a);
	return false;
}

int64_t fleet_deadline_ms(const struct agent *a)
{
	if (is_taking(a) && a->up && fleet_key_missing(a))
		return a->fleet.asks_at_ms;
	if (!is_taking(a) || !a->fleet.open || !a->up)
		return -1;
	if (a->now_ms < a->fleet.pull_at_ms)
		return a->fleet.pull_at_ms;
	return xfer_deadline_ms(&a->fleet.part.xfer);
}

/* ---- its life ---- */

int fleet_start(struct agent *a, struct err *err)
{
	int r = file_path(a->fleet.dir, sizeof(a->fleet.dir), "%s/fleet", a->conf.state);
	if (r < 0)
		return err_errno(err, r, "%s", a->conf.state);
	r = file_mkdirs(a->fleet.dir, err);
	if (r < 0)
		return r;
	part_sweep(a->fleet.dir, is_taking(a) ? wanted(a)->id : "");
	wait_quietly(a, a->now_ms);
	fleet_key_plan(a, a->state->fleet.offer.spread_ms);
	return 0;
}

void fleet_link(struct agent *a, bool up)
{
	if (!up || !is_taking(a))
		return;
	if (a->fleet.open)
		xfer_restart(&a->fleet.part.xfer, a->now_ms);
	a->fleet.asking = false;
	wait_quietly(a, a->now_ms);
	fleet_key_plan(a, a->state->fleet.offer.spread_ms);
}

int fleet_filter(const struct agent *a, char filter[TOPIC_SIZE])
{
	if (!is_taking(a) || fleet_key_missing(a))
		return -ENOENT;
	filter_of(a, wanted(a)->id, filter);
	return 0;
}

void fleet_close(struct agent *a)
{
	close_part(a);
	fleet_key_forget(a);
}
