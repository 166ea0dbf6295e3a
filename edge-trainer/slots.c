/* Workers: each slot has one, and works on one job at a time. A request whose job went elsewhere is
 * stopped, and the slot is free again once it was answered. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/trainer_priv.h"

#define IMAGES_MAX ((int64_t)1 << 40)

bool slots_usable(const struct trainer *t)
{
	for (unsigned i = 0; i < t->conf->slots; i++)
		if (!t->slots[i].failed_open)
			return true;
	return false;
}

void slots_assign(struct trainer *t)
{
	for (unsigned i = 0; i < t->conf->slots; i++) {
		struct slot *s = &t->slots[i];
		struct entry *e;

		/* A job that needs no worker any more goes on at once, and the next may have it. */
		while (s->ready && !s->entry && s->request == 0 && !t->stopping &&
		       (e = queue_next(&t->queue))) {
			s->entry = e;
			e->slot = (int)i;
			e->slot_since_ms = trainer_now(t);
			entry_event_kind(t, e, JOB_E_SLOT);
		}
	}
}

static int request(struct trainer *t, struct entry *e, enum slot_op op, const char *name,
		   struct json *args)
{
	struct slot *s = &t->slots[e->slot];
	int r = t->ports.work(t->ports.user, (unsigned)e->slot, name, args, &s->request);

	if (r < 0) {
		s->request = 0;
		if (r == -ENOTCONN)
			s->ready = false; /* until it says so again */
		entry_followup(e, JOB_E_FAILED, r == -ENOTCONN ? "the worker is not there" :
								 "the worker takes no request");
		return r;
	}
	s->op = op;
	return 0;
}

/* The checkpoint to go on from: what this job made of it, or as it came. */
static int weights_now(const struct trainer *t, struct entry *e, char path[FILE_PATH_MAX])
{
	const struct job *j = &e->job;
	const char *id = j->state != JOB_BEFORE && j->partial[0] ? j->partial : j->manifest.id;
	int r = store_weights(t->store, id, path);

	if (r < 0)
		entry_followup(e, JOB_E_DROP, "its checkpoint is gone from the store");
	return r;
}

/* Where its worker is to write; NULL: it failed. */
static const char *output(struct trainer *t, struct entry *e)
{
	struct slot *s = &t->slots[e->slot];
	struct err err = {0};
	char name[32];

	snprintf(name, sizeof(name), "slot-%d.weights", e->slot);
	if (store_tmp(t->store, name, s->out, &err) == 0)
		return s->out;
	trainer_fault(t, &err);
	entry_followup(e, JOB_E_FAILED, err_category_text(err.category));
	return NULL;
}

/* And scored: of what will travel. */
static void encode(struct trainer *t, struct entry *e)
{
	const struct slot *s = &t->slots[e->slot];
	const char *out = output(t, e);
	char path[FILE_PATH_MAX];
	struct err err = {0};
	struct json *args;

	if (!out || weights_now(t, e, path) < 0)
		return;
	args = json_new_obj();
	json_set_str(args, "weights", path);
	if (s->data.n[SPLIT_TEST] > 0)
		json_set_str(args, "split", split_name(SPLIT_TEST));
	if (coding_args(t, e, out, args, &err) == 0) {
		request(t, e, SLOT_ENCODE, "encode", args);
		return;
	}
	json_free(args);
	trainer_fault(t, &err);
	entry_followup(e, JOB_E_FAILED, err_category_text(err.category));
}

/* What came in is looked at before a worker loads it: whether it is to be. */
static bool passes(struct trainer *t, struct entry *e)
{
	enum screen_verdict v;
	char reason[MESSAGE_TEXT_MAX];

	if (entry_is_merged(e) || e->job.state != JOB_BEFORE)
		return true;
	v = screening_weights(t, e);
	if (v == SCREEN_FINE)
		return true;
	screening_note(t, e, v, NULL, reason);
	entry_followup(e, JOB_E_SCREENED, reason);
	return false;
}

void slots_evaluate(struct trainer *t, struct entry *e)
{
	const struct slot *s = &t->slots[e->slot];
	char path[FILE_PATH_MAX];
	struct json *args;

	if (!passes(t, e))
		return;

	if (coding_is_due(t, e)) {
		encode(t, e);
		return;
	}
	if (s->data.n[SPLIT_TEST] == 0) { /* no test images: there is no score */
		entry_followup(e, JOB_E_EVALUATED, NULL);
		e->followup_score = (struct score){0};
		memcpy(e->followup_hash, s->data.snapshot[SPLIT_TEST], HASH_SIZE);
		return;
	}
	if (weights_now(t, e, path) < 0)
		return;
	args = json_new_obj();
	json_set_str(args, "weights", path);
	json_set_str(args, "split", split_name(SPLIT_TEST));
	if (screening_wants_answers(t, e))
		json_set_bool(args, "confusion", true);
	request(t, e, SLOT_EVALUATE, "evaluate", args);
}

/* The same in new arguments. */
static struct json *new_output(struct trainer *t, struct entry *e)
{
	const char *out = output(t, e);
	struct json *args = out ? json_new_obj() : NULL;

	if (args)
		json_set_str(args, "out", out);
	return args;
}

void slots_merge(struct trainer *t, struct entry *e)
{
	struct json *args = new_output(t, e);
	char id[HASH_SIZE];
	int n;

	if (!args)
		return;
	n = merge_inputs(t, e, args, id);
	if (n > 1) {
		request(t, e, SLOT_MERGE, "merge", args);
		return;
	}
	json_free(args);
	entry_followup(e, n == 1 ? JOB_E_MERGED : JOB_E_DROP,
		       n == 1 ? NULL : "its checkpoints are gone");
	if (n == 1) /* nothing to merge it with: it is what would come of it */
		memcpy(e->followup_hash, id, HASH_SIZE);
}

void slots_train(struct trainer *t, struct entry *e)
{
	const struct job *j = &e->job;
	char path[FILE_PATH_MAX], momentum[FILE_PATH_MAX];
	struct json *args;

	if (weights_now(t, e, path) < 0)
		return;
	args = new_output(t, e);
	if (!args)
		return;
	json_set_str(args, "weights", path);
	if (file_path(momentum, sizeof(momentum), "%s/" WORKER_KEEPS "/momentum-%d", t->conf->state, e->slot) == 0)
		json_set_str(args, "momentum", momentum);
	json_set_int(args, "epochs", 1);
	json_set_int(args, "seed", t->conf->seed);
	json_set_int(args, "epoch", j->manifest.epoch + j->epoch_done);
	/* What the header says is the sender's to forge; the rate follows from our own count. */
	json_set_int(args, "schedule_seen", j->images_trained);
	json_set_int(args, "until_ms", j->deadline_ms);
	request(t, e, SLOT_TRAIN, "train", args);
}

void slots_extend(struct trainer *t, const struct entry *e)
{
	struct json *args;
	uint64_t ignored;

	if (e->slot < 0 || t->slots[e->slot].op != SLOT_TRAIN || t->slots[e->slot].request == 0)
		return;
	args = json_new_obj();
	json_set_int(args, "until_ms", e->job.deadline_ms);
	t->ports.work(t->ports.user, (unsigned)e->slot, "until", args, &ignored);
}

void slots_release(struct trainer *t, struct entry *e, const char *why)
{
	struct slot *s;

	if (e->slot < 0)
		return;
	s = &t->slots[e->slot];
	if (s->request != 0 && s->entry == e) {
		struct json *args = json_new_obj();
		uint64_t ignored;

		json_set_int(args, "target", (int64_t)s->request);
		t->ports.work(t->ports.user, (unsigned)e->slot, "stop", args, &ignored);
	}
	if (strcmp(why, "finished") == 0)
		queue_note(&t->queue, trainer_now(t) - e->slot_since_ms);
	s->entry = NULL;
	e->slot = -1;
}

void slots_rescan(struct trainer *t, int64_t now_ms)
{
	if (t->conf->rescan_s <= 0)
		return;
	/* Only while it is idle: the images do not change in the middle of a job. */
	for (unsigned i = 0; i < t->conf->slots; i++) {
		struct slot *s = &t->slots[i];

		if (!s->ready || s->entry || s->request != 0 || now_ms < s->rescan_at_ms)
			continue;
		s->rescan_at_ms = now_ms + t->conf->rescan_s * 1000;
		if (t->ports.work(t->ports.user, i, "rescan", NULL, &s->request) == 0)
			s->op = SLOT_RESCAN;
		else
			s->request = 0;
	}
}

/* --- what workers say --- */

void trainer_worker_ready(struct trainer *t, unsigned slot, const struct worker_ready *r)
{
	struct slot *s = &t->slots[slot];

	log_info("worker ready slot=%u engine=%s precision=%s threads=%d train=%u test=%u "
		 "skipped=%u%s%s confined=\"%s\"",
		 slot, r->engine, r->precision, r->threads, r->n[SPLIT_TRAIN], r->n[SPLIT_TEST],
		 r->skipped, r->skipped ? " first=" : "", r->skipped_first, r->cage);
	if (*r->cage_missing)
		log_warning("worker slot=%u is not confined by: %s", slot, r->cage_missing);
	if (r->n[SPLIT_TEST] == 0)
		log_warning("no test images: results are offered without scores");
	s->data = *r;
	s->failed_open = strcmp(r->model, t->model->id) != 0;
	s->ready = !s->failed_open;
	s->why = NULL;
	if (s->failed_open) {
		log_error("worker: found model %.12s, expected %.12s", r->model, t->model->id);
		s->why = "the worker found another model";
	}
	s->rescan_at_ms = trainer_now(t) + t->conf->rescan_s * 1000;
	if (s->ready)
		coding_ask_first(t, slot);
	coding_next(t);
	slots_assign(t);
}

void trainer_worker_progress(struct trainer *t, unsigned slot, uint64_t req,
			     const struct worker_progress *p)
{
	struct slot *s = &t->slots[slot];

	if (!s->entry || s->request != req)
		return;
	s->entry->progress = *p;
	if (s->op == SLOT_TRAIN) {
		s->entry->loss = p->loss;
		s->entry->images_per_second = p->images_per_second;
	}
}

static int read_score(const struct json *j, struct score *ret, char snapshot[HASH_SIZE],
		      int64_t *ret_ms, struct err *err)
{
	double seconds = 0;
	int r = json_get_int(j, "n", 0, DATASET_IMAGES_MAX, &ret->n, err);

	if (r == 0)
		r = json_get_int(j, "correct", 0, ret->n, &ret->correct, err);
	if (r == 0)
		r = json_get_num(j, "loss", 0, INFINITY, &ret->loss, err);
	if (r == 0)
		r = json_get_str(j, "snapshot", snapshot, HASH_SIZE, err);
	if (r == 0 && !hash_valid(snapshot))
		r = err_set(err, -EINVAL, "snapshot: found '%s', expected a hash", snapshot);
	if (r == 0)
		r = json_get_num(j, "seconds", 0, 1e9, &seconds, err);
	*ret_ms = (int64_t)(seconds * 1000);
	return r;
}

/* A result was coded, and what it became was scored, where there are images. */
static int take_coded(struct trainer *t, struct entry *e, const char *out,
		      const struct json *result, struct job_event *ev, struct score *score,
		      char snapshot[HASH_SIZE], char id[HASH_SIZE], struct err *err)
{
	int r = coding_keep(t, e, out, result, id, err);

	ev->checkpoint = id;
	if (r < 0 || json_has(result, "correct"))
		return r < 0 ? r : read_score(result, score, snapshot, &ev->ms, err);
	memcpy(snapshot, t->slots[e->slot].data.snapshot[SPLIT_TEST], HASH_SIZE);
	return 0;
}

/* out: NULL, or of what was coded. */
static void evaluated(struct trainer *t, struct entry *e, const char *out,
		      const struct json *result)
{
	struct score score = {0};
	char snapshot[HASH_SIZE] = "", id[HASH_SIZE];
	struct err err = {0};
	struct job_event ev = {.kind = JOB_E_EVALUATED, .score = &score, .hash = snapshot};
	char whose[JOB_WHOSE_SIZE];
	enum screen_verdict v;
	int r = out ? take_coded(t, e, out, result, &ev, &score, snapshot, id, &err) :
		      read_score(result, &score, snapshot, &ev.ms, &err);

	job_whose(&e->job, whose);
	if (r < 0) {
		log_warning("worker failed job=%lld %s evaluate: %s", (long long)e->job.id,
			    whose, err.text);
		ev = (struct job_event){.kind = JOB_E_FAILED,
					.reason = err_category_text(ERR_WORKER)};
	} else {
		log_info("evaluated job=%lld %s when=%s n=%lld correct=%lld loss=%.4f",
			 (long long)e->job.id, whose, job_state_name(e->job.state),
			 (long long)score.n, (long long)score.correct, score.loss);
		if (entry_is_merged(e) && e->job.state == JOB_BEFORE)
			merge_scored(t, e, &score);
		if (screening_wants_answers(t, e) &&
		    (v = screening_answers(t, result)) != SCREEN_FINE) {
			screening_out(t, e, v, &score);
			return;
		}
	}
	entry_event(t, e, &ev);
}

/* What a worker made is checked like anything that comes from outside, then kept; m->id is filled
 * in. */
static int keep(struct trainer *t, const struct entry *e, const char *out,
		const struct json *result, struct manifest *m, struct err *err)
{
	char said[HASH_SIZE], id[HASH_SIZE];
	int r = json_get_str(result, "checkpoint", said, sizeof(said), err);

	if (r == 0)
		r = weights_check(t->model, out, NULL, id, err);
	if (r == 0 && strcmp(id, said) != 0)
		r = err_set(err, -EBADMSG, "%s: sha256: found %s, expected %s", out, id, said);
	if (r == 0)
		manifest_name(m, id);
	/* Known before it is there, lest it be taken for somebody's. */
	if (r == 0)
		r = db_checkpoint_put(t->db, e->job.device, m, trainer_utc(t), err);
	return r < 0 ? r : store_add(t->store, out, m, err);
}

static int keep_epoch(struct trainer *t, struct entry *e, const char *out,
		      const struct json *result, struct job_event *ev, struct manifest *m,
		      struct err *err)
{
	struct entry made = *e;
	double seconds;
	int r = json_get_int(result, "images", 1, IMAGES_MAX, &ev->images, err);

	if (r == 0)
		r = json_get_num(result, "seconds", 0, 1e9, &seconds, err);
	if (r == 0)
		r = json_get_num(result, "loss", -INFINITY, INFINITY, &e->loss, err);
	if (r < 0)
		return r;
	ev->ms = (int64_t)(seconds * 1000);
	made.job.epoch_done++;
	made.job.images_trained += ev->images;
	entry_result(t, &made, m);
	return keep(t, e, out, result, m, err);
}

static void merged(struct trainer *t, struct entry *e, const char *out, const struct json *result)
{
	struct manifest m = e->job.manifest; /* MERGING: all but its id is known */
	struct err err = {0};
	struct job_event ev = {.kind = JOB_E_MERGED, .hash = m.id};

	if (e->job.state == JOB_MIXING)
		entry_result(t, e, &m);
	if (keep(t, e, out, result, &m, &err) < 0) {
		err_prefix(&err, "merge");
		trainer_fault(t, &err);
		ev = (struct job_event){.kind = JOB_E_FAILED,
					.reason = err_category_text(err.category)};
	}
	entry_event(t, e, &ev);
}

static void trained(struct trainer *t, struct entry *e, const char *out, const struct json *result)
{
	struct manifest m;
	struct err err = {0};
	struct job_event ev = {.kind = JOB_E_EPOCH, .hash = m.id};
	char whose[JOB_WHOSE_SIZE];

	if (keep_epoch(t, e, out, result, &ev, &m, &err) < 0) {
		err_prefix(&err, "train");
		trainer_fault(t, &err);
		ev = (struct job_event){.kind = JOB_E_FAILED,
					.reason = err_category_text(err.category)};
	} else {
		log_info("trained job=%lld %s epoch=%lld/%lld images=%lld loss=%.4f "
			 "images_per_second=%.0f",
			 (long long)e->job.id, job_whose(&e->job, whose),
			 (long long)e->job.epoch_done + 1, (long long)e->job.epochs,
			 (long long)ev.images, e->loss,
			 ev.ms > 0 ? (double)ev.images * 1000 / (double)ev.ms : 0);
		t->collect_at_ms = MIN_OF(t->collect_at_ms, trainer_now(t) + TICK_MS);
		t->n_epochs++;
		t->n_images += (uint64_t)ev.images;
	}
	entry_event(t, e, &ev);
}

static void rescanned(struct slot *s, unsigned slot, const struct json *result)
{
	struct worker_ready r;
	struct err err = {0};

	if (worker_ready_parse(result, &r, &err) < 0) {
		log_warning("worker slot=%u rescan: %s", slot, err.text);
		return;
	}
	s->data = r;
	if (r.changed)
		log_info("data changed slot=%u train=%u test=%u skipped=%u", slot,
			 r.n[SPLIT_TRAIN], r.n[SPLIT_TEST], r.skipped);
}

/* What others hear of it is its category; the log has the rest. */
static void failed(struct trainer *t, struct entry *e, enum slot_op op, const struct err *err)
{
	bool diverged = op == SLOT_TRAIN && err->code == -EDOM;
	char whose[JOB_WHOSE_SIZE];

	log_warning("worker failed job=%lld %s epoch=%lld/%lld code=%d: %s%s",
		    (long long)e->job.id, job_whose(&e->job, whose),
		    (long long)e->job.epoch_done + 1, (long long)e->job.epochs, err->code, err->text,
		    diverged && e->job.epoch_done ? "; the epochs before it are the result" : "");
	if (diverged && e->job.epoch_done == 0) /* it would end the same way: not taken again */
		memcpy(e->device->bad_checkpoint, e->job.manifest.id,
		       sizeof(e->device->bad_checkpoint));
	entry_event(t, e,
		    &(struct job_event){.kind = diverged ? JOB_E_DIVERGED : JOB_E_FAILED,
					.reason = err_category_text(err->category)});
}

/* The worker stopped at the lease's end by itself: it may have been renewed just then. */
static void time_is_up(struct trainer *t, struct entry *e, const struct err *err)
{
	if (entry_event_kind(t, e, JOB_E_TIMER) && e->job.state == JOB_TRAINING)
		failed(t, e, SLOT_TRAIN, err);
}

void trainer_worker_reply(struct trainer *t, unsigned slot, uint64_t req,
			  const struct json *result, const struct err *err)
{
	struct slot *s = &t->slots[slot];
	enum slot_op op = s->op;
	struct entry *e = s->entry;

	if (coding_reply(t, slot, req, err)) {
		coding_next(t);
		merge_run(t);
		slots_assign(t);
		return;
	}
	if (s->request == 0 || s->request != req)
		return; /* of a stop */
	s->request = 0;
	s->op = SLOT_IDLE;
	if (op == SLOT_RESCAN) {
		if (result)
			rescanned(s, slot, result);
		else
			log_warning("worker slot=%u rescan: %s", slot, err->text);
	} else if (e && err && err->code == -ETIME) {
		time_is_up(t, e, err);
	} else if (e && err) {
		failed(t, e, op, err);
	} else if (e && op == SLOT_EVALUATE) {
		evaluated(t, e, NULL, result);
	} else if (e && op == SLOT_ENCODE) {
		evaluated(t, e, s->out, result);
	} else if (e && op == SLOT_TRAIN) {
		trained(t, e, s->out, result);
	} else if (e && op == SLOT_MERGE) {
		merged(t, e, s->out, result);
	}
	coding_next(t);
	merge_run(t);
	slots_assign(t);
}

void trainer_worker_died(struct trainer *t, unsigned slot, const struct err *why, bool failed_open,
			 int64_t retry_in_ms)
{
	struct slot *s = &t->slots[slot];

	log_warning("worker died slot=%u retry_ms=%lld: %s", slot, (long long)retry_in_ms,
		    why->text);
	s->ready = false;
	s->failed_open = failed_open;
	t->n_worker_deaths++;
	s->why = failed_open ? err_category_text(why->category) : NULL;
}
