/* What is made of epochs and scores: checkpoints of the local lineage, reports, decisions. A
 * decision is one save: the scores it stands on, what becomes active, and the report of it.
 *
 * Each new local checkpoint is compared with the active one, never with the local one before it:
 * what is too little to be told from chance adds up until it can be. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

const struct score *learn_score(const struct agent *a, const char *checkpoint, enum split split)
{
	const struct state_score *p =
		*checkpoint ? state_score_find(a->state, checkpoint, split, a->data.snapshot[split])
			    : NULL;
	return p ? &p->score : NULL;
}

/* ---- reports ---- */

/* Adds to *next the report of a score; `decision` (may be NULL) has the decision's fields. */
int learn_report(struct agent *a, struct state *next, const struct state_score *s,
		 const struct msg_report *decision)
{
	struct msg_report r = decision ? *decision : (struct msg_report){0};
	struct manifest m;
	struct err err;
	int c = store_manifest(a->store, s->checkpoint, &m, &err);
	if (c < 0) {
		guard_suspect(a, s->checkpoint);
		return c;
	}
	r.seq = reports_last(a->reports) + 1;
	COPY(r.log, a->state->log);
	COPY(r.checkpoint, s->checkpoint);
	r.origin = m.origin;
	if (m.origin == ORIGIN_FLEET && m.n_parents)
		COPY(r.source, m.parents[0]);
	r.epoch = m.epoch;
	COPY(r.snapshot, s->snapshot);
	r.split = s->split;
	r.score = s->score;
	privacy_report(a, next, &r);
	ledger_head(a, &r);
	r.at_ms = a->port.real_ms(a->port.user);
	const struct detail *known = details_find(a->details, s->checkpoint, s->split, s->snapshot);
	if (known) {
		r.per_class = known->per_class;
		r.n_per_class = known->n_per_class;
	}
	_cleanup_free_ char *text = msg_report_print(&r);
	if (!text || strlen(text) > MESSAGE_LARGE_MAX)
		return -ENOMEM;
	COPY(next->pending.report, text);
	next->pending.seq = next->report_seq = r.seq;
	return 0;
}

/* ---- an epoch is done ---- */

static int fill_manifest(struct agent *a, const char *id, const struct weights_header *h,
			 struct manifest *m, struct err *err)
{
	memset(m, 0, sizeof(*m));
	COPY(m->id, id);
	if (*a->train_parent) {
		COPY(m->parents[0], a->train_parent);
		m->n_parents = 1;
	}
	m->origin = ORIGIN_LOCAL;
	m->epoch = a->state->rounds.epoch + 1;
	m->images_seen = (int64_t)h->seen;
	int r = lineage_manifest(a, m, err);
	if (r < 0 && m->n_parents)
		guard_suspect(a, m->parents[0]);
	return r;
}

static int keep_trained(struct agent *a, struct err *err)
{
	struct weights_header h;
	char id[HASH_SIZE];
	int r;
	if (!a->trained.added) {
		r = weights_check(a->model, a->train_out, &h, id, err);
		if (r == 0)
			r = fill_manifest(a, id, &h, &a->trained.manifest, err);
		if (r == -EBADMSG || r == -ENOENT) {
			a->trained.there = false; /* trained for nothing: do it again */
			file_remove(a->train_out, NULL);
		}
		if (r < 0)
			return r;
		r = store_add(a->store, a->train_out, &a->trained.manifest, err);
		if (r < 0)
			return r;
		a->trained.added = true;
	}
	struct state *next = agent_draft(a);
	COPY(next->local, a->trained.manifest.id);
	state_undecided_push(next, next->local);
	rounds_trained(&next->rounds, &a->live, a->trained.images, a->data.snapshot[SPLIT_TRAIN],
		       a->now_ms);
	r = agent_commit(a);
	if (r < 0)
		return err_set(err, r, "%s",
			       *a->saving.logged ? a->saving.logged : "waiting for the disk");
	return 0;
}

bool learn_trained_step(struct agent *a)
{
	struct err err = {0};
	if (!a->trained.there || retry_waits(a, &a->training))
		return false;
	if (keep_trained(a, &err) < 0) {
		retry_failed(a, &a->training, "epoch not kept", &err);
		return false;
	}
	log_info("device=%s epoch=%lld checkpoint=%.12s trained loss=%.4f images_per_second=%.0f",
		 a->conf.id, (long long)a->state->rounds.epoch, a->state->local,
		 a->train_progress.loss, a->train_progress.images_per_second);
	a->trained.there = a->trained.added = false;
	retry_done(&a->training);
	return true;
}

/* ---- decisions ---- */

void learn_touch(const struct agent *a, struct state *next, const char *checkpoint)
{
	const struct state_score *p = state_score_find(a->state, checkpoint, SPLIT_VALIDATION,
						       a->data.snapshot[SPLIT_VALIDATION]);
	if (p) {
		struct state_score copy = *p;
		state_score_put(next, &copy);
	}
}

void learn_against(const struct agent *a, const char *checkpoint, struct msg_report *d)
{
	const struct score *s = learn_score(a, checkpoint, SPLIT_VALIDATION);
	d->has_against = true;
	COPY(d->against, checkpoint);
	d->against_accuracy = s ? score_accuracy(s) : 0;
	d->test[0] = 0;
	d->has_pair = false;
}

int learn_report_validation(struct agent *a, struct state *next, const char *checkpoint,
			    const struct msg_report *decision)
{
	const struct state_score *s = state_score_find(a->state, checkpoint, SPLIT_VALIDATION,
						       a->data.snapshot[SPLIT_VALIDATION]);
	return s ? learn_report(a, next, s, decision) : -ENOENT;
}

static void decide(struct agent *a, const char *checkpoint)
{
	const char *const ids[] = {checkpoint};
	const struct score score = *learn_score(a, checkpoint, SPLIT_VALIDATION);
	struct choice c;
	choose(a, ids, 1, &c);
	bool activate = !a->state->pinned && c.verdict.winner == 0;
	struct msg_report d = {.has_decision = true, .activated = activate};
	choose_report(a, &c, 0, &d);
	char id[HASH_SIZE], why[CHOOSE_WHY_SIZE];
	COPY(id, checkpoint);
	struct state *next = agent_draft(a);
	state_undecided_drop(next, id);
	learn_touch(a, next, a->active);
	if (same(id, next->local))
		rounds_scored(&next->rounds, &score, a->data.snapshot[SPLIT_VALIDATION]);
	if (activate)
		COPY(next->pending.activate, id);
	if (learn_report_validation(a, next, id, &d) < 0 || agent_commit(a) < 0)
		return;
	log_info("device=%s checkpoint=%.12s accuracy=%.4f %s%s%.12s %s%s", a->conf.id, id,
		 score_accuracy(&score), activate ? "activated" : "kept",
		 d.has_against ? " against=" : "", d.against, choose_why(a, &c, 0, why),
		 a->state->pinned ? " (pinned)" : "");
}

/* The first that waits for the selector, once all it needs is known. */
bool learn_decide_step(struct agent *a)
{
	struct state *s = a->state;
	if (s->n_undecided == 0)
		return false;
	const char *id = s->undecided[0];
	if (same(id, a->active) || !store_has(a->store, id)) {
		struct state *next = agent_draft(a);
		const struct score *own = learn_score(a, id, SPLIT_VALIDATION);
		/* Active already, by a person's hand: there is nothing to decide. */
		if (own && same(id, s->local))
			rounds_scored(&next->rounds, own, a->data.snapshot[SPLIT_VALIDATION]);
		state_undecided_drop(next, next->undecided[0]);
		return agent_commit(a) == 0;
	}
	if (!choose_score(a, id) || (*a->active && !choose_score(a, a->active)))
		return false;
	size_t before = s->n_undecided;
	decide(a, id);
	return a->state->n_undecided < before;
}
