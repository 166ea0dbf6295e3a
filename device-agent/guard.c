/* Checkpoints that are not what they were when they came into the store: a disk that rots, a hand
 * that slipped. Each is read whole where that matters, at the start (what an application opens,
 * what training goes on from), before a trainer gets it, and when the worker could not load it. One
 * that is damaged is put aside, and whatever named it names something good, or nothing.
 *
 * The store is changed first, then the state: after a crash in between, the start finds the state
 * naming what is not there, and goes on from what is (agent.c, reconcile). */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"

#define DAMAGE_SHOWN_MS (3600 * 1000) /* in the status */

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* That it is what was added: manifest, every value, sha256, also of the form in which it travels.
 */
static int verify(const struct agent *a, const char *id, struct err *err)
{
	struct manifest m;
	char path[FILE_PATH_MAX], found[HASH_SIZE];
	int r = store_weights(a->store, id, path);
	if (r < 0)
		return err_set(err, r, "checkpoint %.12s: not there", id);
	r = store_manifest(a->store, id, &m, err);
	if (r == 0)
		r = weights_check(a->model, path, NULL, found, err);
	if (r == 0 && !same(found, id))
		r = err_set(err, -EBADMSG, "%s: found sha256 %s, expected its folder's name", path,
			    found);
	if (r < 0 || m.encoding == ENCODING_RAW)
		return r;
	r = store_payload(a->store, id, path, err);
	if (r == 0)
		r = hash_file(path, found, err);
	if (r == 0 && !same(found, m.payload))
		r = err_set(err, -EBADMSG, "%s: found sha256 %s, expected %s", path, found,
			    m.payload);
	return r;
}

/* Else it says something of this moment, not of the checkpoint. */
static bool is_damage(int r)
{
	return r < 0 && r != -ENOMEM && r != -EMFILE && r != -ENFILE && r != -EINTR &&
	       r != -EAGAIN && r != -EACCES && r != -EPERM;
}

/* What is to be active instead of `id`: the one before it, else the newest local one; "": neither
 * is good. */
static void choose_instead(struct agent *a, const char *id, char ret[HASH_SIZE])
{
	char previous[HASH_SIZE];
	store_previous(a->store, previous);
	const char *const ids[] = {previous, a->state->local};
	ret[0] = 0;
	for (size_t i = 0; i < ARRAY_LEN(ids) && !*ret; i++) {
		if (!*ids[i] || same(ids[i], id))
			continue;
		if (is_damage(verify(a, ids[i], NULL)))
			guard_suspect(a, ids[i]);
		else
			memcpy(ret, ids[i], HASH_SIZE);
	}
}

/* With the score it was given last; one that has none is scored anew, and reported then. */
static void report_instead(struct agent *a, struct state *next, const char *id)
{
	const struct state_score *is =
		*a->active ? state_score_find(a->state, a->active, SPLIT_VALIDATION, NULL) : NULL;
	if (!is)
		return;
	const struct state_score *was =
		state_score_find(a->state, id, SPLIT_VALIDATION, is->snapshot);
	struct msg_report d = {.has_decision = true, .activated = true, .has_against = true};
	COPY(d.against, id);
	if (was)
		d.against_accuracy = score_accuracy(&was->score);
	COPY(d.reason, "what was active is damaged");
	struct state_score copy = *is;
	learn_report(a, next, &copy, &d);
}

/* A judgement begins anew without what it is about or stands on, and goes on without the rest. */
static void forget_candidate(const struct agent *a, struct state *next, const char *id)
{
	struct judgement *j = &next->judgement;
	struct candidate_entry *e = candidates_find(j, id);
	if (same(j->result, id) || (e && e->kind == CANDIDATE_LOCAL)) {
		*j = (struct judgement){0};
	} else if (e && e->kind == CANDIDATE_RETURNED) {
		e->checkpoint[0] = 0; /* it is made again */
	} else if (e) {
		log_warning("device=%s checkpoint=%.12s judged without its candidate %s: damaged",
			    a->conf.id, j->result, candidate_kind_name(e->kind));
		e->out = true;
	}
}

/* Nothing names it any more, and what is good is looked at again. */
static int forget(struct agent *a, const char *id, bool was_active)
{
	struct state *next = agent_draft(a);
	struct handover *h = &next->handover;
	const struct handover_event gone = {.kind = HANDOVER_EV_GONE};
	snprintf(a->damage, sizeof(a->damage), "checkpoint %.12s was damaged and is put aside", id);
	a->damage_until_ms = a->now_ms + DAMAGE_SHOWN_MS;
	if (same(a->candidate, id))
		a->candidate[0] = 0;
	forget_candidate(a, next, id);
	state_undecided_drop(next, id);
	if (same(next->local, id))
		lineage_instead(a, next->local);
	if (was_active) {
		next->pinned = false;
		if (*next->local && !same(next->local, a->active))
			state_undecided_push(next, next->local);
		report_instead(a, next, id);
	}
	if (h->phase == HANDOVER_JUDGING && same(h->result.manifest.id, id))
		h->phase = HANDOVER_PULLING; /* once more */
	if ((h->phase != HANDOVER_OFFERING && h->phase != HANDOVER_GRANTED) ||
	    !same(h->checkpoint, id))
		return agent_commit(a);
	next->rounds.offer_ordered = true;
	return exchange_event_with(a, next, &gone);
}

static void set_aside(struct agent *a, const char *id, const char *why)
{
	char instead[HASH_SIZE] = "";
	bool was_active = same(a->active, id);
	struct err err = {0};
	if (was_active)
		choose_instead(a, id, instead);
	int r = store_set_aside(a->store, id, instead, &err);
	if (r < 0 && r != -ENOENT) {
		retry_failed(a, &a->saving, "a damaged checkpoint cannot be put aside", &err);
		guard_suspect(a, id);
		return;
	}
	store_active(a->store, a->active);
	log_error("device=%s checkpoint=%.12s is damaged, put aside: %s", a->conf.id, id, why);
	ledger_say(a, &(struct audit_event){.event = "damaged", .checkpoint = id});
	if (was_active)
		log_error("device=%s checkpoint=%.12s is active instead", a->conf.id,
			  *a->active ? a->active : "none");
	if (was_active)
		ledger_say(a, &(struct audit_event){
				      .event = "activated", .checkpoint = a->active, .parent = id});
	/* Failed: said already, and what the state names without there being such a thing is found
	 * again by whoever needs it. */
	forget(a, id, was_active);
}

/* False: it is damaged, or cannot be told to be good now. */
static bool check(struct agent *a, const char *id)
{
	struct err err = {0};
	char copy[HASH_SIZE];
	COPY(copy, id); /* it may be one of what changes */
	int r = verify(a, copy, &err);
	if (is_damage(r))
		set_aside(a, copy, err.text);
	else if (r < 0)
		log_warning("device=%s %s", a->conf.id, err.text);
	return r == 0;
}

void guard_suspect(struct agent *a, const char *id)
{
	COPY(a->suspect, id);
}

bool guard_step(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	char id[HASH_SIZE];
	struct err err = {0};
	if (!*a->suspect)
		return false;
	COPY(id, a->suspect);
	a->suspect[0] = 0;
	if (check(a, id) && h->phase == HANDOVER_GRANTED && same(h->granted, id)) {
		int r = lineage_check_leaving(a, id, &err);
		if (r == 0)
			a->checked_fence = h->fence;
		else if (r == -EPERM)
			exchange_withdraw(a, &err);
		else
			log_warning("device=%s %s", a->conf.id, err.text);
	}
	return true;
}

void guard_start(struct agent *a)
{
	char lost[HASH_SIZE], previous[HASH_SIZE];
	store_lost(a->store, lost);
	store_previous(a->store, previous);
	if (*lost) {
		log_error("device=%s checkpoint=%.12s, which was active, is not there any more: "
			  "checkpoint=%.12s is active instead",
			  a->conf.id, lost, *a->active ? a->active : "none");
		forget(a, lost, true);
	}
	if (*previous)
		check(a, previous);
	if (*a->state->local && !same(a->state->local, previous) &&
	    !same(a->state->local, a->active))
		check(a, a->state->local);
	if (*a->active)
		check(a, a->active);
}
