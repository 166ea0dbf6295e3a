/* What came back is judged: candidates are made of it and of the device's own (candidates.h says
 * which, and which comes next), scored, and one of them, or none, becomes active. Where others take
 * time to make, what came back gets a decision of its own (learn.c) first; the last one is against
 * what is active then.
 *
 * One candidate is made at a time. Private rows are put back here; blending is served by the worker
 * between two batches of an epoch; tuning is a training of its own: it waits for the epoch in hand,
 * and the next one waits for it. What is made is in the store, and named in the state, before it is
 * scored; a crash in between costs its making. A candidate that cannot be made or scored is left
 * out; a result that cannot be scored is refused. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"

#define MAKE_FAILURES_MAX 3 /* that are not the candidate's fault; then it is left out */
#define SEEN_ADOPTED_MAX  (WEIGHTS_SEEN_MAX / 2) /* so that training has room to go on counting */

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* ---- what is to be done ---- */

static bool judging(const struct agent *a)
{
	const struct handover *h = &a->state->handover;
	return h->phase == HANDOVER_JUDGING &&
	       same(a->state->judgement.result, h->result.manifest.id);
}

static int64_t over_ms(const struct agent *a)
{
	int64_t budget_ms = a->conf.select.budget_s * 1000;
	return budget_ms && a->judging_since.there ? a->judging_since.ms + budget_ms : -1;
}

int64_t judge_deadline_ms(const struct agent *a)
{
	int64_t at = judging(a) ? over_ms(a) : -1;
	return at > a->now_ms ? at : -1;
}

static const struct score *view_score(const void *user, const char *checkpoint, enum split split)
{
	const struct agent *a = user;
	return split == SPLIT_VALIDATION ? choose_score(a, checkpoint)
					 : learn_score(a, checkpoint, split);
}

static struct candidates_view view_of(const struct agent *a)
{
	int64_t over = over_ms(a);
	struct candidates_view v = {
		.active = a->active,
		/* A trainer is not kept waiting until a person, or the machine, lets training go on. */
		.can_train = a->data.n[SPLIT_TRAIN] > 0 && standby_trains(a),
		/* Nothing replaces what is pinned. */
		.over = a->state->pinned || (over >= 0 && a->now_ms >= over),
		.score = view_score,
		.user = a,
	};
	for (enum split s = 0; s < SPLIT_N; s++)
		v.has_split[s] = a->data.n[s] > 0;
	return v;
}

bool judge_next(const struct agent *a, struct candidates_step *ret)
{
	if (!judging(a))
		return false;
	struct candidates_view v = view_of(a);
	*ret = candidates_next(&a->state->judgement, &v);
	return true;
}

bool judge_holds_training(const struct agent *a)
{
	struct candidates_view v = view_of(a);
	return judging(a) && candidates_tuning(&a->state->judgement, &v);
}

static bool begin(struct agent *a)
{
	char previous[HASH_SIZE], rows[HASH_SIZE];
	store_previous(a->store, previous);
	lineage_rows(a, rows);
	struct state *next = agent_draft(a);
	candidates_begin(&next->judgement, &a->conf.select, next->handover.result.manifest.id,
			 next->local, previous, *rows);
	return agent_commit(a) == 0;
}

void judge_unscorable(struct agent *a, const char *checkpoint, const char *reason)
{
	const struct handover_event refused = {.kind = HANDOVER_EV_REFUSED, .reason = reason};
	struct state *next = agent_draft(a);
	struct judgement *j = &next->judgement;
	if (!judging(a) || !candidates_find(j, checkpoint))
		return;
	/* It can be the local one again. */
	if (same(candidates_kind(j, CANDIDATE_RETURNED)->checkpoint, checkpoint)) {
		exchange_event(a, &refused);
		return;
	}
	for (size_t i = 0; i < j->n; i++)
		j->at[i].out |= same(j->at[i].checkpoint, checkpoint);
	agent_commit(a);
}

/* ---- making one ---- */

/* Whether what is being made is still wanted. */
static bool wanted(const struct agent *a)
{
	const struct judgement *j = &a->state->judgement;
	const struct candidate_entry *e = &j->at[a->making.entry];
	return judging(a) && same(j->result, a->making.result) && a->making.entry < j->n &&
	       e->kind == a->making.kind && !e->out && !*e->checkpoint;
}

static void left_out(struct agent *a, const char *why)
{
	struct state *next = agent_draft(a);
	struct candidate_entry *e = &next->judgement.at[a->making.entry];
	e->out = true;
	if (agent_commit(a) < 0)
		return; /* it is tried, and fails, again */
	log_warning("device=%s checkpoint=%.12s judged without its candidate %s%s: %s", a->conf.id,
		    a->making.result, candidate_kind_name(a->making.kind), a->making.detail, why);
	retry_done(&a->making.retry);
}

/* It was tried often enough. What all others are made of waits for room on the disk for as long as
 * judging may take. */
static bool gives_up(const struct agent *a, const struct err *err)
{
	int64_t over = over_ms(a);
	if (a->making.kind == CANDIDATE_RETURNED && err->category == ERR_DISK_FULL)
		return over >= 0 && a->now_ms >= over;
	return a->making.retry.failures + 1 >= MAKE_FAILURES_MAX;
}

/* What says nothing about the candidate is tried again; so is what all others are made of. */
static void failed(struct agent *a, const struct err *err)
{
	struct retry *r = &a->making.retry;
	const struct manifest *m = &a->making.manifest;
	bool passes = work_worker_lost(err->code) || err->code == -ESTALE || err->code == -EBUSY ||
		      err->code == -EAGAIN || err->category == ERR_DISK_FULL;
	if (!passes && err->code != -EDOM && err->code != -ECANCELED && m->n_parents)
		guard_suspect(a, m->parents[r->failures % m->n_parents]);
	if ((!passes && a->making.kind != CANDIDATE_RETURNED) || gives_up(a, err))
		left_out(a, err->text);
	else
		retry_failed(a, r, "candidate", err);
}

static int parent(struct agent *a, const char *id, char path[FILE_PATH_MAX], struct err *err)
{
	struct manifest *m = &a->making.manifest, p;
	int r = store_weights(a->store, id, path);
	if (r < 0)
		err_errno(err, r, "checkpoint %.12s", id);
	else
		r = store_manifest(a->store, id, &p, err);
	if (r < 0) {
		guard_suspect(a, id);
		return r;
	}
	/* What is grafted can be the local one again. */
	manifest_add_parent(m, id);
	m->epoch = MAX_OF(m->epoch, p.epoch);
	return 0;
}

static int blend(struct agent *a, const struct candidate_entry *e, struct json *args,
		 struct err *err)
{
	const struct judgement *j = &a->state->judgement;
	char own[FILE_PATH_MAX], returned[FILE_PATH_MAX];
	a->making.manifest.origin = ORIGIN_BLEND;
	snprintf(a->making.detail, sizeof(a->making.detail), " of %d %%", (int)e->percent);
	int r = parent(a, candidates_kind(j, CANDIDATE_LOCAL)->checkpoint, own, err);
	if (r == 0)
		r = parent(a, candidates_kind(j, CANDIDATE_RETURNED)->checkpoint, returned, err);
	if (r < 0)
		return r;
	json_set_str(args, "a", own);
	json_set_str(args, "b", returned);
	json_set_num(args, "alpha", (double)e->percent / 100);
	json_set_bool(args, "settle", true);
	return 0;
}

/* No momentum: it belongs to the local lineage, which goes on with it after this. */
static int tune(struct agent *a, const char *id, struct json *args, struct err *err)
{
	const struct select_conf *s = &a->conf.select;
	const struct rounds *rounds = &a->state->rounds;
	char base[FILE_PATH_MAX];
	a->making.manifest.origin = ORIGIN_TUNED;
	int r = parent(a, id, base, err);
	if (r < 0)
		return r;
	json_set_str(args, "weights", base);
	json_set_int(args, "steps", s->tune_steps);
	json_set_num(args, "learning_rate_scale", (double)s->tune_rate_percent / 100);
	json_set_int(args, "seed", a->conf.seed);
	json_set_int(args, "epoch", rounds->epoch);
	json_set_int(args, "schedule_seen", rounds->images_seen);
	a->making.manifest.stays = a->data.n_stay > 0;
	json_set_bool(args, "stay", a->making.manifest.stays);
	return 0;
}

static void begin_making(struct agent *a, size_t entry)
{
	const struct judgement *j = &a->state->judgement;
	a->making.entry = entry;
	a->making.kind = j->at[entry].kind;
	a->making.detail[0] = 0;
	a->making.stopped = false;
	COPY(a->making.result, j->result);
	memset(&a->making.manifest, 0, sizeof(a->making.manifest));
}

static int made(struct agent *a, const char *id, struct err *err)
{
	struct state *next = agent_draft(a);
	COPY(next->judgement.at[a->making.entry].checkpoint, id);
	int r = agent_commit(a);
	if (r < 0)
		return err_set(err, r, "%s",
			       *a->saving.logged ? a->saving.logged : "waiting for the disk");
	retry_done(&a->making.retry);
	log_info("device=%s checkpoint=%.12s candidate=%s%s made", a->conf.id, id,
		 candidate_kind_name(a->making.kind), a->making.detail);
	return 0;
}

/* Rows of private outputs, which did not travel, are put back into what did. */
static bool graft(struct agent *a, const struct candidates_step *s)
{
	struct manifest *m = &a->making.manifest;
	char rows[HASH_SIZE], id[HASH_SIZE];
	struct err err = {0};
	if (a->making.id || retry_waits(a, &a->making.retry))
		return false;
	begin_making(a, s->entry);
	lineage_rows(a, rows);
	COPY(m->parents[0], s->checkpoint);
	COPY(m->parents[1], rows);
	m->n_parents = 2;
	COPY(id, s->checkpoint);
	int r = *rows ? lineage_graft(a, s->checkpoint, rows, id, &err) : 0;
	if (r == 0)
		r = made(a, id, &err);
	if (r < 0)
		failed(a, &err);
	return r == 0;
}

static void ask(struct agent *a, const struct candidates_step *s)
{
	const struct candidate_entry *e = &a->state->judgement.at[s->entry];
	struct json *args = json_new_obj();
	struct err err = {0};
	begin_making(a, s->entry);
	int r = store_tmp(a->store, "candidate.weights", a->making.out, &err);
	json_set_str(args, "out", a->making.out);
	bool tunes = s->todo == CANDIDATES_TUNE;
	if (r == 0)
		r = tunes ? tune(a, s->checkpoint, args, &err) : blend(a, e, args, &err);
	if (r == 0)
		r = work_request(a, tunes ? "train" : "blend", TAKE_PTR(args), &a->making.id, &err);
	json_free(args);
	if (r < 0)
		failed(a, &err);
	else if (tunes)
		work_training(a, a->making.id);
}

void judge_make_step(struct agent *a)
{
	struct candidates_step s;
	if (a->making.id || retry_waits(a, &a->making.retry) || agent_blocked(a) ||
	    !judge_next(a, &s))
		return;
	if (s.todo == CANDIDATES_BLEND || (s.todo == CANDIDATES_TUNE && work_may_train(a)))
		ask(a, &s);
}

/* Decided without it, its time is up, or it would stand still. */
void judge_stop_step(struct agent *a)
{
	const struct candidates_view v = view_of(a);
	bool goes_on = !v.over && (v.can_train || a->making.kind != CANDIDATE_TUNED);
	if (!a->making.id || a->making.stopped || (wanted(a) && goes_on))
		return;
	a->making.stopped = work_stop(a, a->making.id) == 0;
}

static int keep(struct agent *a, struct err *err)
{
	struct manifest *m = &a->making.manifest;
	struct weights_header h;
	int r = weights_check(a->model, a->making.out, &h, m->id, err);
	if (r < 0)
		return r;
	m->images_seen = (int64_t)h.seen;
	r = lineage_manifest(a, m, err);
	if (r == 0)
		r = store_add(a->store, a->making.out, m, err);
	return r < 0 ? r : made(a, m->id, err);
}

void judge_made(struct agent *a, const struct err *failure)
{
	struct err err = {0};
	a->making.id = 0;
	if (!wanted(a)) {
		file_remove(a->making.out, NULL);
		return;
	}
	if (!failure && keep(a, &err) < 0)
		failure = &err;
	if (failure) {
		file_remove(a->making.out, NULL);
		failed(a, failure);
	}
}

/* ---- deciding ---- */

struct challengers {
	const struct candidate_entry *entry[CANDIDATES_MAX];
	const char *id[CANDIDATES_MAX];
	double accuracy[CANDIDATES_MAX];
	size_t n;
	struct choice choice;
};

static int challenger_of(const struct challengers *c, const char *id)
{
	for (size_t i = 0; i < c->n; i++)
		if (same(c->id[i], id))
			return (int)i;
	return -1;
}

/* All that are scored, each once. Where each further one makes it harder for the others to be told
 * from chance, the local one is left out: it has a decision of its own. */
static void gather(const struct agent *a, const struct judgement *j, struct challengers *c)
{
	c->n = 0;
	for (size_t i = 0; i < j->n; i++) {
		const struct candidate_entry *e = &j->at[i];
		if (e->kind == CANDIDATE_LOCAL && choose_wants_outcomes(a))
			continue;
		if (e->out || !*e->checkpoint || same(e->checkpoint, a->active) ||
		    challenger_of(c, e->checkpoint) >= 0 || !choose_score(a, e->checkpoint))
			continue;
		c->entry[c->n] = e;
		c->accuracy[c->n] = score_accuracy(choose_score(a, e->checkpoint));
		c->id[c->n++] = e->checkpoint;
	}
}

/* What the report of the decision is about: what became active, else what came back; "": that was
 * not scored. */
static const char *subject(const struct agent *a, const struct challengers *c, bool activate)
{
	const struct candidate_entry *e = candidates_kind(&a->state->judgement, CANDIDATE_RETURNED);
	if (activate)
		return c->id[c->choice.verdict.winner];
	return learn_score(a, e->checkpoint, SPLIT_VALIDATION) ? e->checkpoint : "";
}

static int report(struct agent *a, struct state *next, const struct challengers *c, bool activate)
{
	const char *id = subject(a, c, activate);
	int i = challenger_of(c, id), winner = c->choice.verdict.winner;
	struct msg_report d = {.has_decision = !same(id, a->active), .activated = activate};
	if (i >= 0)
		choose_report(a, &c->choice, (size_t)i, &d);
	/* One of the device's own is the best of all. */
	if (!activate && winner >= 0)
		learn_against(a, c->id[winner], &d);
	learn_touch(a, next, a->active);
	return *id ? learn_report_validation(a, next, id, &d) : 0;
}

/* Local training goes on from it; or, if it has to stay here, from what it was tuned from, so that
 * there will be something to offer again. What is being trained meanwhile is not of that lineage.
 */
static void adopt(struct agent *a, struct state *next, const char *chosen)
{
	struct weights_header h;
	struct manifest m;
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	struct err err = {0};
	COPY(id, chosen);
	/* What it was tuned from may have to stay, too: a trainer can name any checkpoint of ours
	 * as its result. The manifests of the lineage's first end it. */
	while (store_manifest(a->store, id, &m, NULL) == 0 && m.stays && m.n_parents)
		COPY(id, m.parents[0]);
	const struct score *s = learn_score(a, id, SPLIT_VALIDATION);
	int r = store_weights(a->store, id, path);
	if (r == 0)
		r = weights_check(a->model, path, &h, NULL, &err);
	if (r == 0 && h.seen > SEEN_ADOPTED_MAX)
		r = err_set(&err, -ERANGE, "says that it has seen %llu images",
			    (unsigned long long)h.seen);
	if (r < 0) {
		log_warning("device=%s checkpoint=%.12s is not trained on: %s", a->conf.id, id,
			    *err.text ? err.text : "not there");
		return;
	}
	COPY(next->local, id);
	if (s)
		rounds_adopted(&next->rounds, s, a->data.snapshot[SPLIT_VALIDATION]);
}

/* What came back became active by its early decision, and nothing made of it is better. */
static bool stands(const struct agent *a)
{
	const struct candidate_entry *e = candidates_kind(&a->state->judgement, CANDIDATE_RETURNED);
	return e && e->early && same(e->checkpoint, a->active) && !a->state->pinned;
}

/* Changes *next by what was chosen. */
static int apply(struct agent *a, struct state *next, const struct challengers *c,
		 struct msg_ack *ack)
{
	int winner = c->choice.verdict.winner;
	bool chosen = winner >= 0 && !a->state->pinned;
	bool activate = chosen && candidate_descends(c->entry[winner]);
	bool stays = winner < 0 && stands(a);
	ack->decision = activate || stays ? DECISION_ACTIVATED : DECISION_KEPT;
	if (activate)
		COPY(next->pending.activate, c->id[winner]);
	else if (chosen)
		state_undecided_push(next, c->id[winner]); /* gets a decision of its own */
	if ((activate || stays) && a->conf.select.lineage == LINEAGE_ADOPT)
		adopt(a, next, activate ? c->id[winner] : a->active);
	return a->data.n[SPLIT_VALIDATION] ? report(a, next, c, activate) : 0;
}

static void fill_score(const struct agent *a, struct score *ret, const char *id, enum split split)
{
	const struct score *s = a->data.n[split] ? learn_score(a, id, split) : NULL;
	if (s)
		*ret = *s;
}

static void fill_ack(const struct agent *a, struct msg_ack *ack)
{
	const struct judgement *j = &a->state->judgement;
	const struct candidate_entry *local = candidates_kind(j, CANDIDATE_LOCAL);
	const char *own = local ? local->checkpoint : j->result;
	/* As it is here, with the device's own rows in it. */
	const char *returned = candidates_kind(j, CANDIDATE_RETURNED)->checkpoint;
	fill_score(a, &ack->validation, returned, SPLIT_VALIDATION);
	fill_score(a, &ack->test, returned, SPLIT_TEST);
	fill_score(a, &ack->local_validation, own, SPLIT_VALIDATION);
	fill_score(a, &ack->local_test, own, SPLIT_TEST);
}

/* `last`: what became active or, if none of them did, what came back; -1: that is active already.
 */
static void log_decision(const struct agent *a, const struct challengers *c, int last,
			 const struct msg_ack *ack, const char *active)
{
	const struct handover_decided *d =
		&a->state->handover.decided[a->state->handover.n_decided - 1];
	int winner = c->choice.verdict.winner;
	char why[CHOOSE_WHY_SIZE], against[HASH_SIZE + 16] = "";
	bool stays = winner < 0 && ack->decision == DECISION_ACTIVATED;
	for (int i = 0; i < (int)c->n; i++)
		if (i != last)
			log_info("device=%s checkpoint=%.12s candidate=%s accuracy=%.4f %s",
				 a->conf.id, c->id[i], candidate_kind_name(c->entry[i]->kind),
				 c->accuracy[i], choose_why(a, &c->choice, (size_t)i, why));
	if (*active && !stays)
		snprintf(against, sizeof(against), " against=%.12s", active);
	log_info("device=%s fence=%lld trainer=%s checkpoint=%.12s accuracy=%.4f "
		 "local_accuracy=%.4f%s: %s%s%.12s%s%s%s",
		 a->conf.id, (long long)d->ack.fence, d->trainer, d->ack.checkpoint,
		 score_accuracy(&ack->validation), score_accuracy(&ack->local_validation), against,
		 stays ? "stays active" : decision_name(ack->decision),
		 winner >= 0 ? " chosen=" : "", winner >= 0 ? c->id[winner] : "",
		 last >= 0 ? " " : "",
		 last >= 0 ? choose_why(a, &c->choice, (size_t)last, why) : "",
		 a->state->pinned ? " (pinned)" : "");
}

static bool decide_early(struct agent *a, const struct candidates_step *s)
{
	struct state *next = agent_draft(a);
	next->judgement.at[s->entry].early = true;
	state_undecided_push(next, s->checkpoint);
	return agent_commit(a) == 0;
}

static bool decide(struct agent *a)
{
	const struct judgement j = a->state->judgement; /* over once it is decided */
	struct challengers c;
	struct msg_ack ack = {0};
	struct handover_event ev = {.kind = HANDOVER_EV_JUDGED, .ack = &ack};
	char active[HASH_SIZE];
	gather(a, &j, &c);
	choose(a, c.id, c.n, &c.choice);
	COPY(active, a->active);
	fill_ack(a, &ack);
	struct state *next = agent_draft(a);
	if (apply(a, next, &c, &ack) < 0)
		return false;
	bool adopted = !same(next->local, a->state->local);
	int winner = c.choice.verdict.winner;
	bool taken = winner >= 0 && ack.decision == DECISION_ACTIVATED;
	int last = challenger_of(&c, subject(a, &c, taken));
	if (exchange_event_with(a, next, &ev) < 0)
		return false;
	if (adopted)
		work_supersede(a);
	log_decision(a, &c, last, &ack, active);
	return true;
}

bool judge_step(struct agent *a)
{
	const struct handover *h = &a->state->handover;
	struct candidates_step s;
	if (h->phase != HANDOVER_JUDGING) {
		a->judging_since.there = false;
		if (a->making.retry.failures)
			retry_done(&a->making.retry);
		return false;
	}
	if (!a->worker_ready)
		return false;
	if (!a->judging_since.there) {
		a->judging_since.there = true;
		a->judging_since.ms = a->now_ms;
	}
	if (!judging(a))
		return begin(a);
	if (!judge_next(a, &s))
		return false;
	return s.todo == CANDIDATES_GRAFT    ? graft(a, &s)
	       : s.todo == CANDIDATES_EARLY  ? decide_early(a, &s)
	       : s.todo == CANDIDATES_DECIDE ? decide(a)
					     : false;
}
