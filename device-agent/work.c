/* What the worker is asked for, and what is made of its answers.
 *
 * One training request (an epoch) and one evaluation are outstanding at most; the worker serves an
 * evaluation between two batches of the epoch. Which evaluation comes next follows from what has to
 * be decided: for each decision the scores that are missing on the images as they are now, the
 * candidate's own last, so that the decision can be taken, and reported, when it comes.
 *
 * New images are looked for only while no evaluation is under way, so that the scores of a decision
 * stand on the same images. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/checkpoint/weights.h"

/* Weight of a failed evaluation among EVALUATE_FAILURES_MAX: a worker that was killed says little
 * about the checkpoint it had. */
#define FAILURE_OF_WORKER     1
#define FAILURE_OF_CHECKPOINT 4
#define EVALUATE_FAILURES_MAX 20

#define VALIDATION_FEW 30 /* images: fewer decide hardly anything */

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool work_worker_lost(int code)
{
	return code == -ECONNRESET || code == -ETIMEDOUT || code == -EPROTO || code == -ENOTCONN;
}

/* ---- what to evaluate next ---- */

static bool missing(const struct agent *a, const char *checkpoint, enum split split,
		    struct evaluation *ret)
{
	if (!*checkpoint || !a->data.n[split] || learn_score(a, checkpoint, split))
		return false;
	COPY(ret->checkpoint, checkpoint);
	ret->split = split;
	return true;
}

/* The same for a score to decide on. */
static bool undecidable(const struct agent *a, const char *checkpoint, struct evaluation *ret)
{
	if (!*checkpoint || !a->data.n[SPLIT_VALIDATION] || choose_score(a, checkpoint))
		return false;
	COPY(ret->checkpoint, checkpoint);
	ret->split = SPLIT_VALIDATION;
	return true;
}

static bool needed(struct agent *a, struct evaluation *ret)
{
	const struct state *s = a->state;
	struct candidates_step step;
	if (s->n_undecided &&
	    (undecidable(a, a->active, ret) || undecidable(a, s->undecided[0], ret)))
		return true;
	if (judge_next(a, &step) && step.todo == CANDIDATES_SCORE) {
		COPY(ret->checkpoint, step.checkpoint);
		ret->split = step.split;
		return true;
	}
	return missing(a, a->candidate, SPLIT_TEST, ret) ||
	       missing(a, coding_to_score(a), SPLIT_TEST, ret) ||
	       missing(a, a->active, SPLIT_VALIDATION, ret);
}

/* Whether its report waits for the decision that its score is for. */
static bool decides(const struct agent *a, const struct evaluation *e)
{
	const struct state *s = a->state;
	if (e->split != SPLIT_VALIDATION || same(e->checkpoint, a->active))
		return false;
	for (size_t i = 0; i < s->n_undecided; i++)
		if (same(e->checkpoint, s->undecided[i]))
			return true;
	return false;
}

int work_request(struct agent *a, const char *op, struct json *args, uint64_t *ret_id,
		 struct err *err)
{
	int r = a->port.request(a->port.user, op, args, ret_id);
	if (r == 0)
		return 0;
	*ret_id = 0;
	err_errno(err, r, "the worker takes no request");
	if (r == -ENOTCONN) {
		a->worker_ready = false;
		err_categorize(err, ERR_WORKER);
	}
	return r;
}

static bool wants_outcomes(const struct agent *a, const struct evaluation *e)
{
	return e->split == SPLIT_VALIDATION && choose_wants_outcomes(a);
}

static void ask_evaluation(struct agent *a, const struct evaluation *e)
{
	char path[FILE_PATH_MAX];
	int r = store_weights(a->store, e->checkpoint, path);
	struct err err = {0};
	if (r < 0) {
		guard_suspect(a, e->checkpoint);
		err_errno(&err, r, "checkpoint %.12s", e->checkpoint);
		retry_failed(a, &a->evaluating, "evaluation", &err);
		return;
	}
	struct json *args = json_new_obj();
	json_set_str(args, "weights", path);
	json_set_str(args, "split", split_name(e->split));
	json_set_bool(args, "confusion", e->split == SPLIT_VALIDATION && chronicle_counts(a));
	json_set_bool(args, "outcomes", wants_outcomes(a, e));
	if (work_request(a, "evaluate", args, &a->evaluate_id, &err) < 0) {
		retry_failed(a, &a->evaluating, "evaluation", &err);
		return;
	}
	a->evaluation = *e;
	a->evaluate_progress = (struct worker_progress){.loss = NAN};
}

/* The agent's own first: what people order must not hold up what is decided here, and may not wait
 * for ever. True: one is outstanding or due, so that looking for new images should wait. */
static bool evaluate_next(struct agent *a)
{
	struct evaluation e = {0};
	if (a->evaluate_id)
		return true;
	bool own = !retry_waits(a, &a->evaluating) && !agent_blocked(a) && needed(a, &e);
	if (own && (!a->n_ordered || a->own_in_a_row < AGENT_OWN_FIRST_MAX)) {
		a->own_in_a_row = a->n_ordered ? a->own_in_a_row + 1 : 0;
		ask_evaluation(a, &e);
		return a->evaluate_id != 0;
	}
	if (!a->n_ordered)
		return false;
	a->own_in_a_row = 0;
	e = a->ordered[0];
	a->n_ordered--;
	memmove(&a->ordered[0], &a->ordered[1], sizeof(a->ordered[0]) * a->n_ordered);
	ask_evaluation(a, &e);
	if (!a->evaluate_id)
		inbox_evaluated(a, &e, NULL, NULL, a->evaluating.reason);
	return true;
}

/* ---- training ---- */

static void ask_training(struct agent *a)
{
	const struct rounds *r = &a->state->rounds;
	struct err err = {0};
	char weights[FILE_PATH_MAX], momentum[FILE_PATH_MAX], name[ID_SIZE];
	snprintf(name, sizeof(name), "epoch-%lld.weights", (long long)r->epoch + 1);
	int c = store_tmp(a->store, name, a->train_out, &err);
	struct json *args = json_new_obj();
	if (c == 0 && *a->state->local) {
		c = store_weights(a->store, a->state->local, weights);
		if (c < 0)
			guard_suspect(a, a->state->local);
		json_set_str(args, "weights", weights);
	}
	json_set_str(args, "out", a->train_out);
	if (file_path(momentum, sizeof(momentum), "%s/" WORKER_KEEPS "/momentum", a->conf.state) == 0)
		json_set_str(args, "momentum", momentum);
	json_set_int(args, "epochs", 1);
	/* An order of images that has led to no finite loss is not tried again and again. */
	json_set_int(args, "seed", a->conf.seed + a->diverged);
	json_set_int(args, "epoch", r->epoch);
	json_set_int(args, "schedule_seen", r->images_seen);
	if (c < 0 && !*err.text)
		err_errno(&err, c, "checkpoint %.12s", a->state->local);
	uint64_t id;
	if (c == 0)
		c = work_request(a, "train", TAKE_PTR(args), &id, &err);
	json_free(args);
	if (c < 0) {
		retry_failed(a, &a->training, "training", &err);
		return;
	}
	COPY(a->train_parent, a->state->local);
	a->superseded = false;
	work_training(a, id);
}

void work_training(struct agent *a, uint64_t id)
{
	a->train_id = id;
	a->train_progress = (struct worker_progress){.loss = NAN};
}

bool work_may_train(const struct agent *a)
{
	return a->worker_ready && !a->state->paused && !a->train_id && !a->rescan_id &&
	       !a->trained.there;
}

int work_stop(struct agent *a, uint64_t id)
{
	uint64_t ignored;
	struct json *args = json_new_obj();
	json_set_int(args, "target", (int64_t)id);
	return a->port.request(a->port.user, "stop", args, &ignored);
}

void work_supersede(struct agent *a)
{
	if (a->trained.there) {
		a->trained.there = a->trained.added = false;
		file_remove(a->train_out, NULL);
		retry_done(&a->training);
	}
	if (!a->train_id || a->train_id == a->making.id)
		return;
	a->superseded = true;
	work_stop(a, a->train_id); /* else it ends by itself */
}

static void ask_rescan(struct agent *a)
{
	if (a->port.request(a->port.user, "rescan", NULL, &a->rescan_id) < 0) {
		a->rescan_id = 0;
		rounds_scanned(&a->state->rounds, &a->live, a->data.snapshot[SPLIT_TRAIN],
			       a->now_ms);
	}
}

static void sync_pause(struct agent *a)
{
	uint64_t ignored;
	bool paused = a->state->paused;
	if (paused == a->worker_paused)
		return;
	if (a->port.request(a->port.user, paused ? "pause" : "resume", NULL, &ignored) == 0)
		a->worker_paused = paused;
}

void work_step(struct agent *a)
{
	a->rounds_wake_ms = -1;
	a->todo = ROUNDS_IDLE;
	if (!a->worker_ready)
		return;
	sync_pause(a);
	bool evaluating = evaluate_next(a);
	judge_stop_step(a);
	judge_make_step(a);
	if (a->train_id || a->rescan_id || a->trained.there)
		return;
	if (!a->state->paused && judge_holds_training(a)) {
		a->todo = ROUNDS_TRAIN;
		return;
	}
	struct rounds_view v = {.paused = a->state->paused, .n_train = a->data.n[SPLIT_TRAIN]};
	a->todo = rounds_next(&a->state->rounds, &a->live, &v, a->now_ms, &a->rounds_wake_ms);
	if (a->todo == ROUNDS_RESCAN && !evaluating && !a->making.id)
		ask_rescan(a);
	else if (a->todo == ROUNDS_TRAIN && !retry_waits(a, &a->training))
		ask_training(a);
}

/* ---- the worker's answers ---- */

static void warn_of_validation(struct agent *a, uint32_t n)
{
	if (n == 0 && !a->warned_none)
		log_warning("device=%s no validation images: no checkpoint can ever become active; "
			    "see [data] validation_share and validation",
			    a->conf.id);
	else if (n > 0 && n < VALIDATION_FEW && !a->warned_few)
		log_warning("device=%s only %u validation images: which checkpoint is best is "
			    "mostly chance below %d",
			    a->conf.id, n, VALIDATION_FEW);
	a->warned_none |= n == 0;
	a->warned_few |= n > 0 && n < VALIDATION_FEW;
}

static void take_data(struct agent *a, const struct worker_ready *r)
{
	if (r->skipped && r->skipped != a->data.skipped)
		log_warning("device=%s %u unreadable images skipped, the first: %s", a->conf.id,
			    r->skipped, r->skipped_first);
	if (strcmp(a->data.snapshot[SPLIT_TRAIN], r->snapshot[SPLIT_TRAIN]) != 0 ||
	    strcmp(a->data.snapshot[SPLIT_VALIDATION], r->snapshot[SPLIT_VALIDATION]) != 0 ||
	    a->data.n_stay != r->n_stay) {
		char stay[40] = "";
		if (*a->conf.worker.data.stay_path)
			snprintf(stay, sizeof(stay), " never_shared=%u", r->n_stay);
		log_info("device=%s images: train=%u validation=%u test=%u%s", a->conf.id,
			 r->n[SPLIT_TRAIN], r->n[SPLIT_VALIDATION], r->n[SPLIT_TEST], stay);
	}
	warn_of_validation(a, r->n[SPLIT_VALIDATION]);
	a->data = *r;
	rounds_scanned(&a->state->rounds, &a->live, r->snapshot[SPLIT_TRAIN], a->now_ms);
}

int agent_worker_ready(struct agent *a, const struct worker_ready *r, struct err *err)
{
	a->now_ms = a->port.mono_ms(a->port.user);
	if (strcmp(r->model, a->model->id) != 0)
		return err_set(err, -EINVAL,
			       "%s: has been changed: the agent began with model %.12s, the worker "
			       "found %.12s",
			       a->model->cfg_path, a->model->id, r->model);
	a->worker_ready = true;
	a->worker_paused = false;
	a->worker_reason = NULL;
	log_info("device=%s worker ready engine=%s precision=%s threads=%d confined=\"%s\"", a->conf.id,
		 r->engine, r->precision, r->threads, r->cage);
	if (*r->cage_missing)
		log_warning("device=%s the worker is not confined by: %s", a->conf.id, r->cage_missing);
	take_data(a, r);
	a->status_dirty = true;
	agent_turn(a);
	return 0;
}

void agent_worker_died(struct agent *a, const struct err *why)
{
	a->now_ms = a->port.mono_ms(a->port.user);
	a->worker_ready = false;
	a->worker_paused = false;
	a->worker_reason = err_category_text(why->category);
	a->n_worker_deaths++;
	log_warning("device=%s worker: %s", a->conf.id, why->text);
	a->status_dirty = true;
	agent_turn(a);
}

void agent_worker_progress(struct agent *a, uint64_t request, const struct worker_progress *p)
{
	if (request == a->train_id)
		a->train_progress = *p;
	else if (request == a->evaluate_id)
		a->evaluate_progress = *p;
	a->status_dirty = true;
	agent_turn(a);
}

/* Images went while they were trained on. */
static void note_replaced(const struct agent *a, const struct json *result)
{
	int64_t n;
	char first[ERR_TEXT_MAX];
	if (json_has(result, "replaced") &&
	    json_get_int(result, "replaced", 1, JSON_INT_MAX, &n, NULL) == 0 &&
	    json_get_str(result, "replaced_first", first, sizeof(first), NULL) == 0)
		log_warning("device=%s images gone or changed since they were read last, others "
			    "taken instead: n=%lld, the first: %s",
			    a->conf.id, (long long)n, first);
}

static void on_trained(struct agent *a, const struct json *result, const struct err *err)
{
	a->train_id = 0;
	if (a->superseded) {
		file_remove(a->train_out, NULL);
		return;
	}
	if (err) {
		file_remove(a->train_out, NULL);
		a->diverged += err->code == -EDOM;
		if (!work_worker_lost(err->code)) {
			if (err->code != -EDOM && *a->state->local)
				guard_suspect(a, a->state->local);
			retry_failed(a, &a->training, "training", err);
		}
		return;
	}
	json_get_num(result, "loss", -1e300, 1e300, &a->train_progress.loss, NULL);
	json_get_num(result, "images_per_second", 0, 1e12, &a->train_progress.images_per_second,
		     NULL);
	note_replaced(a, result);
	a->trained.images = 0;
	json_get_int(result, "images", 0, (int64_t)WEIGHTS_SEEN_MAX, &a->trained.images, NULL);
	a->diverged = 0;
	a->trained.there = true;
	a->trained.added = false;
}

static void on_rescanned(struct agent *a, const struct json *result, const struct err *failed)
{
	struct worker_ready r;
	struct err err = {0};
	a->rescan_id = 0;
	if (result && worker_ready_parse(result, &r, &err) == 0) {
		take_data(a, &r);
		return;
	}
	/* The images stay as they were read last. */
	log_warning("device=%s images: %s", a->conf.id, failed ? failed->text : err.text);
	rounds_scanned(&a->state->rounds, &a->live, a->data.snapshot[SPLIT_TRAIN], a->now_ms);
}

/* Of n images in all. */
static void read_classes(struct detail *d, const struct json *result, int64_t n)
{
	const struct json *arr;
	if (json_get_arr(result, "per_class", DATASET_CLASSES_MAX, &arr, NULL) < 0)
		return;
	d->per_class = calloc(json_len(arr) + 1, sizeof(*d->per_class));
	if (!d->per_class)
		return;
	for (const struct json *e = json_first(arr); e; e = json_next(e)) {
		struct class_score *c = &d->per_class[d->n_per_class];
		int64_t index;
		if (json_get_int(e, "class", 0, INT32_MAX, &index, NULL) < 0 ||
		    json_get_int(e, "n", 0, n, &c->n, NULL) < 0 ||
		    json_get_int(e, "correct", 0, c->n, &c->correct, NULL) < 0)
			continue;
		c->class_index = (int32_t)index;
		d->n_per_class++;
	}
}

static int read_outcomes(struct detail *d, const struct json *result, const struct score *s,
			 struct err *err)
{
	const char *text;
	int r = json_get_text(result, "outcomes", WORKER_LINE_MAX, &text, err);
	if (r == 0)
		r = outcomes_parse("evaluate", text, &d->outcomes, err);
	if (r < 0)
		return r;
	size_t correct = outcomes_correct(&d->outcomes);
	if (d->outcomes.n != (size_t)s->n || correct != (size_t)s->correct)
		return err_set(err, -EBADMSG,
			       "outcomes: found %zu images, %zu of them right, expected %lld and "
			       "%lld",
			       d->outcomes.n, correct, (long long)s->n, (long long)s->correct);
	return 0;
}

static int read_details(struct agent *a, const struct json *result, const struct state_score *s,
			struct err *err)
{
	struct detail d = {.split = s->split};
	COPY(d.checkpoint, s->checkpoint);
	COPY(d.snapshot, s->snapshot);
	int r = wants_outcomes(a, &a->evaluation) ? read_outcomes(&d, result, &s->score, err) : 0;
	if (r == 0)
		r = chronicle_read_counts(a, result, s->score.n, &d, err);
	if (r == 0)
		read_classes(&d, result, s->score.n);
	if (r == 0)
		details_put(a->details, &d);
	outcomes_done(&d.outcomes);
	free(d.confusion);
	return r;
}

int work_read_score(const struct json *result, struct state_score *ret, struct err *err)
{
	struct state_score s = {0};
	int r;
	if ((r = json_get_str(result, "snapshot", s.snapshot, sizeof(s.snapshot), err)) < 0 ||
	    (r = json_get_int(result, "n", 1, DATASET_IMAGES_MAX, &s.score.n, err)) < 0 ||
	    (r = json_get_int(result, "correct", 0, s.score.n, &s.score.correct, err)) < 0 ||
	    (r = json_get_num(result, "loss", 0, 1e300, &s.score.loss, err)) < 0)
		return r;
	if (!hash_valid(s.snapshot))
		return err_set(err, -EINVAL, "snapshot: found '%s', expected a sha256", s.snapshot);
	*ret = s;
	return 0;
}

/* A score, and what else was asked for. */
static int read_evaluation(struct agent *a, const struct json *result, struct state_score *ret,
			   struct err *err)
{
	const struct evaluation *e = &a->evaluation;
	char checkpoint[HASH_SIZE];
	int r = work_read_score(result, ret, err);
	if (r == 0)
		r = json_get_str(result, "checkpoint", checkpoint, sizeof(checkpoint), err);
	if (r < 0)
		return r;
	if (!same(checkpoint, e->checkpoint))
		return err_set(err, -EBADMSG, "checkpoint: found %s, expected %s", checkpoint,
			       e->checkpoint);
	COPY(ret->checkpoint, e->checkpoint);
	ret->split = e->split;
	return read_details(a, result, ret, err);
}

/* A checkpoint that cannot be evaluated is not waited for any longer. */
static void give_up(struct agent *a, const struct evaluation *e, const struct err *err)
{
	struct state *next = agent_draft(a);
	size_t before = next->n_undecided;
	log_error("device=%s checkpoint=%.12s cannot be evaluated: %s", a->conf.id, e->checkpoint,
		  err->text);
	state_undecided_drop(next, e->checkpoint);
	if (next->n_undecided < before)
		agent_commit(a);
	judge_unscorable(a, e->checkpoint, err_category_text(err->category));
	if (same(a->candidate, e->checkpoint))
		a->candidate[0] = 0;
}

static void evaluation_failed(struct agent *a, const struct evaluation *e, const struct err *err)
{
	/* Images went or changed since they were read last: the fault of no checkpoint. */
	bool stale = err->code == -ESTALE;
	if (stale && !a->rescan_id)
		ask_rescan(a);
	if (!stale && !work_worker_lost(err->code))
		guard_suspect(a, e->checkpoint);
	if (*e->command) {
		log_warning("device=%s checkpoint=%.12s evaluation: %s", a->conf.id, e->checkpoint,
			    err->text);
		inbox_evaluated(a, e, NULL, NULL, err_category_text(err->category));
		return;
	}
	if (stale) {
		retry_failed(a, &a->evaluating, "evaluation", err);
		return;
	}
	a->evaluate_failures +=
		work_worker_lost(err->code) ? FAILURE_OF_WORKER : FAILURE_OF_CHECKPOINT;
	if (!work_worker_lost(err->code))
		retry_failed(a, &a->evaluating, "evaluation", err);
	if (a->evaluate_failures < EVALUATE_FAILURES_MAX)
		return;
	a->evaluate_failures = 0;
	give_up(a, e, err);
}

static void on_evaluated(struct agent *a, const struct json *result, const struct err *failed)
{
	struct evaluation e = a->evaluation;
	struct state_score s;
	struct err err = {0};
	a->evaluate_id = 0;
	if (!failed && read_evaluation(a, result, &s, &err) < 0)
		failed = &err;
	if (failed) {
		evaluation_failed(a, &e, failed);
		return;
	}
	/* Known at once; on disk with the decision, or with the report of its own. */
	a->evaluate_failures = 0;
	retry_done(&a->evaluating);
	int code = 0;
	bool known = state_score_find(a->state, s.checkpoint, s.split, s.snapshot);
	state_score_put(a->state, &s);
	if (!decides(a, &e) && (!known || *e.command)) {
		struct state *next = agent_draft(a);
		code = learn_report(a, next, &s, NULL);
		if (code == 0)
			code = agent_commit(a);
		if (code < 0)
			state_score_drop(a->state, s.checkpoint, s.split, s.snapshot);
	}
	if (*e.command)
		inbox_evaluated(a, &e, code < 0 ? NULL : &s.score, s.snapshot,
				*a->saving.reason ? a->saving.reason : "could not be reported");
}

void agent_worker_reply(struct agent *a, uint64_t request, const struct json *result,
			const struct err *err)
{
	a->now_ms = a->port.mono_ms(a->port.user);
	if (err && work_worker_lost(err->code))
		a->worker_ready = false; /* agent_worker_died() follows */
	if (request == a->making.id) {
		if (request == a->train_id)
			a->train_id = 0;
		judge_made(a, err);
	} else if (request == a->train_id)
		on_trained(a, result, err);
	else if (request == a->evaluate_id)
		on_evaluated(a, result, err);
	else if (request == a->rescan_id)
		on_rescanned(a, result, err);
	else if (request == a->noising.id)
		privacy_made(a, result, err);
	else if (request == a->coding.id)
		coding_made(a, result, err);
	else if (request == a->decoding.id)
		exchange_decoded(a, result, err);
	a->status_dirty = true;
	agent_turn(a);
}
