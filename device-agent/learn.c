/* What is made of epochs and scores: checkpoints of the local lineage, reports, decisions. A
 * decision is one save: the scores it stands on, what becomes active, and the report of it. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"
#include "device-agent/selector.h"

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

static double accuracy(const struct score *s)
{
	return s->n ? (double)s->correct / (double)s->n : 0;
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
	r.epoch = m.epoch;
	COPY(r.snapshot, s->snapshot);
	r.split = s->split;
	r.score = s->score;
	r.at_ms = a->port.real_ms(a->port.user);
	if (same(a->per_class.checkpoint, s->checkpoint) && a->per_class.split == s->split &&
	    same(a->per_class.snapshot, r.snapshot)) {
		r.per_class = a->per_class.at;
		r.n_per_class = a->per_class.n;
	}
	_cleanup_free_ char *text = msg_report_print(&r);
	if (!text || strlen(text) > MESSAGE_LARGE_MAX)
		return -ENOMEM;
	COPY(next->pending.report, text);
	next->pending.seq = next->report_seq = r.seq;
	return 0;
}

/* ---- an epoch is done ---- */

static int fill_manifest(const struct agent *a, const char *id, const struct weights_header *h,
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
	return lineage_manifest(a, m, err);
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
	rounds_trained(&next->rounds, &a->live, a->trained.manifest.images_seen,
		       a->data.snapshot[SPLIT_TRAIN], a->now_ms);
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

static struct candidate candidate_of(const struct agent *a, const char *checkpoint)
{
	const struct score *s = learn_score(a, checkpoint, SPLIT_VALIDATION);
	return (struct candidate){.checkpoint = checkpoint,
				  .snapshot = a->data.snapshot[SPLIT_VALIDATION],
				  .score = s ? *s : (struct score){0}};
}

/* Keeps a score from being pushed out of the state by newer ones. */
static void touch_score(const struct agent *a, struct state *next, const char *checkpoint)
{
	const struct state_score *p = state_score_find(a->state, checkpoint, SPLIT_VALIDATION,
						       a->data.snapshot[SPLIT_VALIDATION]);
	if (p) {
		struct state_score copy = *p;
		state_score_put(next, &copy);
	}
}

static void decision_against(struct msg_report *d, const struct candidate *c)
{
	d->has_against = true;
	COPY(d->against, c->checkpoint);
	d->against_accuracy = accuracy(&c->score);
}

static int report_validation(struct agent *a, struct state *next, const struct candidate *c,
			     const struct msg_report *decision)
{
	struct state_score s = {.split = SPLIT_VALIDATION, .score = c->score};
	COPY(s.checkpoint, c->checkpoint);
	COPY(s.snapshot, c->snapshot);
	return learn_report(a, next, &s, decision);
}

static void decide(struct agent *a, const char *checkpoint)
{
	struct candidate c[2] = {candidate_of(a, a->active), candidate_of(a, checkpoint)};
	bool has_active = *a->active;
	int best = selector_best(has_active ? c : c + 1, has_active ? 2 : 1, has_active ? 0 : -1);
	bool activate = !a->state->pinned && best == (has_active ? 1 : 0);
	struct msg_report d = {.has_decision = true, .activated = activate};
	char id[HASH_SIZE];
	COPY(id, checkpoint);
	struct state *next = agent_draft(a);
	if (has_active)
		decision_against(&d, &c[0]);
	state_undecided_drop(next, id);
	touch_score(a, next, a->active);
	if (same(id, next->local))
		rounds_scored(&next->rounds, &c[1].score, c[1].snapshot);
	if (activate)
		COPY(next->pending.activate, id);
	if (report_validation(a, next, &c[1], &d) < 0 || agent_commit(a) < 0)
		return;
	log_info("device=%s checkpoint=%.12s accuracy=%.4f %s%s%.12s%s", a->conf.id, id,
		 accuracy(&c[1].score), activate ? "activated" : "kept",
		 has_active ? " against=" : "", d.against, a->state->pinned ? " (pinned)" : "");
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
	if (!learn_score(a, id, SPLIT_VALIDATION) ||
	    (*a->active && !learn_score(a, a->active, SPLIT_VALIDATION)))
		return false;
	size_t before = s->n_undecided;
	decide(a, id);
	return a->state->n_undecided < before;
}

/* What came back, beside what is active and the device's own. */
static bool judged_all_scored(const struct agent *a, const char *result)
{
	const char *ids[] = {result, a->judge_local, a->active};
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		if (!*ids[i])
			continue;
		if (a->data.n[SPLIT_VALIDATION] && !learn_score(a, ids[i], SPLIT_VALIDATION))
			return false;
		if (i < 2 && a->data.n[SPLIT_TEST] && !learn_score(a, ids[i], SPLIT_TEST))
			return false;
	}
	return true;
}

static void fill_score(const struct agent *a, struct score *ret, const char *id, enum split split)
{
	const struct score *s = a->data.n[split] ? learn_score(a, id, split) : NULL;
	if (s)
		*ret = *s;
}

enum { JUDGE_ACTIVE, JUDGE_LOCAL, JUDGE_RESULT, JUDGE_N };

/* Selects, and changes *next by it; ack gets the decision. */
static int judge(struct agent *a, struct state *next, const char *result, struct msg_ack *ack)
{
	struct candidate c[JUDGE_N] = {candidate_of(a, a->active), candidate_of(a, a->judge_local),
				       candidate_of(a, result)};
	int first = *a->active ? JUDGE_ACTIVE : JUDGE_LOCAL;
	int best = selector_best(c + first, (size_t)(JUDGE_N - first), *a->active ? 0 : -1);
	best = best < 0 ? best : best + first;
	bool activate = !a->state->pinned && best == JUDGE_RESULT;
	struct msg_report d = {.has_decision = true, .activated = activate};
	ack->decision = activate ? DECISION_ACTIVATED : DECISION_KEPT;
	/* The local one turned out to be the best of all: it gets a decision of its own. */
	if (!a->state->pinned && best == JUDGE_LOCAL && *a->judge_local)
		state_undecided_push(next, a->judge_local);
	if (best >= 0 && best != JUDGE_RESULT)
		decision_against(&d, &c[best]);
	else if (*a->active)
		decision_against(&d, &c[JUDGE_ACTIVE]);
	if (same(result, a->active))
		d.has_decision = d.has_against = false;
	else if (activate)
		COPY(next->pending.activate, result);
	touch_score(a, next, a->active);
	if (!a->data.n[SPLIT_VALIDATION])
		return 0; /* nothing to compare on: what is active stays */
	return report_validation(a, next, &c[JUDGE_RESULT], &d);
}

/* What is judged: the result, with the device's own private rows if those did not travel. */
static bool make_judged(struct agent *a)
{
	const char *result = a->state->handover.result.manifest.id;
	char rows[HASH_SIZE];
	struct err err = {0};
	if (retry_waits(a, &a->rows))
		return false;
	lineage_rows(a, rows);
	if (!*rows) {
		COPY(a->judged, result);
		return true;
	}
	if (lineage_graft(a, result, rows, a->judged, &err) < 0) {
		guard_suspect(a, a->rows.failures % 2 ? rows : result);
		retry_failed(a, &a->rows, "private rows cannot be put back", &err);
		return false;
	}
	retry_done(&a->rows);
	return true;
}

bool learn_judge_step(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	if (h->phase != HANDOVER_JUDGING) {
		a->judge_local[0] = a->judged[0] = 0;
		return false;
	}
	if (!*a->judged && !make_judged(a))
		return false;
	char result[HASH_SIZE];
	COPY(result, a->judged);
	if (!*a->judge_local)
		COPY(a->judge_local, a->state->local);
	if (!a->worker_ready || !judged_all_scored(a, result))
		return false;
	char local[HASH_SIZE], active[HASH_SIZE];
	COPY(local, a->judge_local);
	COPY(active, a->active);
	struct msg_ack ack = {0};
	/* The ack is of what was sent: what was judged in its place has its scores in the report. */
	fill_score(a, &ack.validation, h->result.manifest.id, SPLIT_VALIDATION);
	fill_score(a, &ack.test, h->result.manifest.id, SPLIT_TEST);
	fill_score(a, &ack.local_validation, a->judge_local, SPLIT_VALIDATION);
	fill_score(a, &ack.local_test, a->judge_local, SPLIT_TEST);
	struct state *next = agent_draft(a);
	if (judge(a, next, result, &ack) < 0)
		return false;
	struct handover_event ev = {.kind = HANDOVER_EV_JUDGED, .ack = &ack};
	int64_t fence = h->fence;
	char trainer[ID_SIZE];
	COPY(trainer, h->trainer);
	if (exchange_event_with(a, next, &ev) < 0)
		return false;
	log_info("device=%s fence=%lld trainer=%s checkpoint=%.12s accuracy=%.4f local=%.12s "
		 "local_accuracy=%.4f against=%.12s: %s",
		 a->conf.id, (long long)fence, trainer, result, accuracy(&ack.validation), local,
		 accuracy(&ack.local_validation), active,
		 ack.decision == DECISION_ACTIVATED ? "activated" : "kept");
	return true;
}
