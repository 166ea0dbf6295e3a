/* Entries: jobs with what belongs to them at run time; and what job_step() asks for, done. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/trainer_priv.h"

struct entry *entry_new(struct trainer *t, struct device *d)
{
	struct entry *e;

	if (t->n_entries >= TRAINER_JOBS_MAX)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->device = d;
	e->slot = -1;
	e->followup = JOB_E_N;
	e->loss = e->images_per_second = NAN;
	e->delta = -1;
	e->next_of_device = d->jobs;
	d->jobs = e;
	e->next = t->entries;
	if (t->entries)
		t->entries->prev = e;
	t->entries = e;
	t->n_entries++;
	return e;
}

void entry_free(struct trainer *t, struct entry *e)
{
	struct entry **p = &e->device->jobs;

	pull_end(t, e);
	coding_forget(t, e);
	queue_cancel(&t->queue, e);
	free(e->norms);
	proof_done(&e->proof);
	sealed_forget(&e->seal_key);
	sealed_wipe(&e->job.seal);
	while (*p != e)
		p = &(*p)->next_of_device;
	*p = e->next_of_device;
	if (e->prev)
		e->prev->next = e->next;
	else
		t->entries = e->next;
	if (e->next)
		e->next->prev = e->prev;
	t->n_entries--;
	free(e);
}

struct entry *entry_find(const struct device *d, const char *checkpoint)
{
	for (struct entry *e = d->jobs; e; e = e->next_of_device)
		if (strcmp(e->job.manifest.id, checkpoint) == 0)
			return e;
	return NULL;
}

void entry_followup(struct entry *e, enum job_event_kind kind, const char *reason)
{
	size_t n = reason ? strnlen(reason, sizeof(e->followup_reason) - 1) : 0;

	e->followup = kind;
	memcpy(e->followup_reason, reason ? reason : "", n);
	e->followup_reason[n] = '\0';
}

const struct entry *entry_worker(const struct trainer *t, const struct entry *e)
{
	const struct entry *w = e->job.state == JOB_GATHERED && e->job.window ? merge_entry(t) : NULL;

	return w && w->job.fence == e->job.window ? w : e;
}

static double part_of(const struct worker_progress *p)
{
	return p->steps > 0 ? fmin(1, (double)p->step / (double)p->steps) : 0;
}

/* Of the phase it is in, 0..1; training: of all epochs. */
double entry_progress(const struct entry *e)
{
	const struct job *j = &e->job;

	switch (j->state) {
	case JOB_PULLING:
		return e->pulling && e->part.xfer.n_blocks > 0 ?
			       (double)e->part.xfer.n_held / e->part.xfer.n_blocks :
			       0;
	case JOB_BEFORE:
	case JOB_AFTER:
		return part_of(&e->progress);
	case JOB_TRAINING:
		return j->epochs > 0 ? fmin(1, ((double)j->epoch_done + part_of(&e->progress)) /
						       (double)j->epochs) :
				       1;
	case JOB_OFFERING:
	case JOB_DONE:
		return 1;
	default:
		return 0;
	}
}

/* For people: both evaluations have one name. For devices: who waits is queued. */
static const char *phase_text(const struct job *j)
{
	switch (j->state) {
	case JOB_BEFORE:
	case JOB_AFTER:
		return "evaluating";
	case JOB_MIXING:
		return job_state_name(JOB_MERGING);
	case JOB_GATHERED:
		return job_state_name(JOB_QUEUED);
	case JOB_LAPSED:
		return job_state_name(job_is_merged(j) ? JOB_QUEUED : JOB_LAPSED);
	default:
		return job_state_name(j->state);
	}
}

static int send_claim(struct trainer *t, struct entry *e, const struct job_action *a)
{
	const struct entry *w = entry_worker(t, e);
	struct msg_claim c = {
		.fence = a->fence, .claim = a->claim, .progress = entry_progress(w)};

	if (t->trust && !a->fence)
		c.sequence = e->job.manifest.sequence;

	memcpy(c.trainer, t->conf->id, sizeof(c.trainer));
	memcpy(c.checkpoint, e->job.manifest.id, sizeof(c.checkpoint));
	snprintf(c.phase, sizeof(c.phase), "%s", phase_text(&w->job));
	keys_claim(t, e, &c);
	return trainer_send(t, TOPIC_DEVICE_CLAIM, e->device->id, msg_claim_print(&c), false,
			    job_claim_expiry_s(&e->job));
}

/* `result`: the exchange is over; else the checkpoint is held. */
static int send_ack(struct trainer *t, struct entry *e, bool result)
{
	struct msg_ack a = {.fence = e->job.fence};

	memcpy(a.trainer, t->conf->id, sizeof(a.trainer));
	memcpy(a.checkpoint, result ? e->job.partial : e->job.manifest.id, sizeof(a.checkpoint));
	return trainer_send(t, TOPIC_DEVICE_ACK, e->device->id, msg_ack_print(&a), false,
			    MESSAGE_EXPIRY_S);
}

/* What the partial checkpoint is, now or as the result. Where its device counts to the limits, it stays at them. */
void entry_result(const struct trainer *t, const struct entry *e, struct manifest *ret)
{
	const struct job *j = &e->job;

	*ret = (struct manifest){
		.n_parents = 1,
		.origin = ORIGIN_EDGE,
		.epoch = MIN_OF(j->manifest.epoch + j->epoch_done, MANIFEST_EPOCH_MAX),
		.images_seen = MIN_OF(j->manifest.images_seen + j->images_trained, (int64_t)WEIGHTS_SEEN_MAX),
		.classes = j->manifest.classes,
		.size = (int64_t)t->model->file_bytes,
		.block_size = t->conf->block_size,
		.created_ms = trainer_utc(t),
		.encoding = ENCODING_RAW,
	};
	memcpy(ret->id, j->partial, sizeof(ret->id));
	memcpy(ret->parents[0], j->manifest.id, sizeof(ret->parents[0]));
	memcpy(ret->model, t->model->id, sizeof(ret->model));
	memcpy(ret->device, j->manifest.device, sizeof(ret->device));
	memcpy(ret->trainer, t->conf->id, sizeof(ret->trainer));
}

bool entry_sending(struct trainer *t, struct entry *e)
{
	struct manifest m;

	if (strcmp(e->sending.checkpoint, e->job.partial) == 0)
		return true;
	if (store_manifest(t->store, e->job.partial, &m, NULL) < 0)
		return false;
	memcpy(e->sending.checkpoint, m.id, HASH_SIZE);
	memcpy(e->sending.payload, manifest_payload(&m), HASH_SIZE);
	e->sending.size = m.size;
	return true;
}

/* What a sealed block is proven by. */
static int set_root(struct trainer *t, struct entry *e, struct manifest *m)
{
	struct err err = {0};
	char path[FILE_PATH_MAX];
	int r;

	if (!*t->conf->identity.certificate)
		return 0;
	r = store_payload(t->store, m->id, path, &err);
	if (r == 0)
		r = proof_root(&e->proof, path, m, &err);
	if (r < 0)
		trainer_fault(t, &err);
	return r;
}

static int send_result(struct trainer *t, struct entry *e)
{
	const struct job *j = &e->job;
	struct msg_result r = {
		.fence = j->fence, .before = j->before, .after = j->after,
		.images_trained = j->images_trained, .duration_ms = j->worked_ms,
	};
	struct manifest stored;

	entry_sending(t, e);
	/* The queue of a device that is away would only fill with repetitions; now and then one goes
	 * out nonetheless, as word of its return may be lost, and it may have nothing else to say. */
	if (e->device->presence_known && !e->device->online &&
	    ++e->n_away % RESULT_AWAY_PART != 0)
		return 0;
	entry_result(t, e, &r.manifest);
	if (store_manifest(t->store, j->partial, &stored, NULL) == 0) {
		r.manifest.created_ms = stored.created_ms;
		r.manifest.encoding = stored.encoding;
		r.manifest.size = stored.size;
		memcpy(r.manifest.payload, stored.payload, sizeof(stored.payload));
		memcpy(r.manifest.base, stored.base, sizeof(stored.base));
		memcpy(r.manifest.source, stored.source, sizeof(stored.source));
		/* Not the others' own, which are theirs: what they became together. */
		if (j->window && stored.n_parents > 0)
			manifest_add_parent(&r.manifest, stored.parents[0]);
	}
	memcpy(r.snapshot, j->snapshot_after, sizeof(r.snapshot));
	if (set_root(t, e, &r.manifest) < 0 || !vouched_number(t, e, &r.manifest))
		return -EIO; /* it is due again */
	return trainer_send(t, TOPIC_DEVICE_RESULT, e->device->id, msg_result_print(&r), false,
			    MESSAGE_EXPIRY_S);
}

void entry_report(struct trainer *t, struct entry *e)
{
	const struct job *j = &e->job;
	const struct entry *w = entry_worker(t, e);
	struct msg_job m = {
		.fence = j->fence, .progress = entry_progress(w), .epoch = w->job.epoch_done,
		.epochs = w->job.epochs, .loss = w->loss, .window = j->window,
		.images_per_second = w->images_per_second,
		.before = j->before, .after = j->after, .at_ms = trainer_utc(t),
	};

	if (entry_is_merged(e)) {
		merge_report(t);
		return;
	}
	memcpy(m.device, j->device, sizeof(m.device));
	memcpy(m.checkpoint, j->manifest.id, sizeof(m.checkpoint));
	snprintf(m.phase, sizeof(m.phase), "%s", phase_text(&w->job));
	trainer_send(t, TOPIC_TRAINER_JOB, e->device->id, msg_job_print(&m), false,
		     MESSAGE_EXPIRY_S);
}

static void persist(struct trainer *t, struct entry *e)
{
	struct err err = {0};
	bool is_new = e->job.id == 0;

	/* Never granted, or not merged yet: nothing that a restart would go on with. */
	if (is_new && (e->job.fence == 0 || e->job.manifest.id[0] == '\0'))
		return;
	if (db_job_put(t->db, &e->job, trainer_utc(t), &err) < 0)
		trainer_fault(t, &err);
	if (!trainer_commit(t) && is_new)
		e->job.id = 0; /* the next row may get that number */
}

static void run_row(struct trainer *t, struct entry *e, const struct job_action *a)
{
	struct err err = {0};
	struct job under = e->job;
	int r = 0;

	switch (a->kind) {
	case JOB_A_RUN_OPEN:
		under.fence = a->fence;
		r = db_run_open(t->db, &under, trainer_utc(t), trainer_now(t), e->job.deadline_ms,
				&e->run, &err);
		break;
	case JOB_A_RUN_EXTEND:
		r = db_run_extend(t->db, e->run, e->job.deadline_ms, &err);
		break;
	default:
		r = db_run_close(t->db, e->run, trainer_utc(t), trainer_now(t), a->why, &err);
		e->run = 0;
		break;
	}
	if (r < 0)
		trainer_fault(t, &err);
	if (!trainer_commit(t) && a->kind == JOB_A_RUN_OPEN)
		e->run = 0; /* the next row may get that number */
}

static void log_job(const struct entry *e, const char *what)
{
	const struct job *j = &e->job;
	char id[13], whose[JOB_WHOSE_SIZE];

	/* A window without a row yet: its members are told of by themselves. */
	if (entry_is_merged(e) && j->id == 0)
		return;
	/* Never granted: anybody can make such jobs come and go. */
	if (j->fence == 0) {
		log_debug("%s device=%s checkpoint=%s state=%s reason=%s", what, j->device,
			  hash_short(j->manifest.id, id), job_state_name(j->state), j->reason);
		return;
	}
	log_info("%s job=%lld %s checkpoint=%s state=%s epoch=%lld/%lld%s%s", what,
		 (long long)j->id, job_whose(j, whose), hash_short(j->manifest.id, id),
		 job_state_name(j->state), (long long)j->epoch_done, (long long)j->epochs,
		 j->reason[0] ? " reason=" : "", j->reason);
}

static void give_back(struct trainer *t, struct entry *e, int64_t fence)
{
	int64_t barred_ms = e->device->barred_until_ms - trainer_now(t);

	offers_busy(t, e->device, e->job.manifest.id, fence,
		    queue_spread_ms(&t->queue, MAX_OF((int64_t)BUSY_GIVE_BACK_MS, barred_ms),
				    rng_unit(&t->rng)),
		    e->job.reason);
}

static void enqueue(struct trainer *t, struct entry *e)
{
	const struct score *s = &e->job.reported;
	int64_t now_ms = trainer_now(t);

	queue_wait(&t->queue, e,
		   queue_gain(&t->queue, e->device->id, s->n > 0 ? score_accuracy(s) : -1, now_ms),
		   now_ms);
}

static void perform(struct trainer *t, struct entry *e, const struct job_action *a)
{
	switch (a->kind) {
	case JOB_A_CLAIM:
		send_claim(t, e, a);
		break;
	case JOB_A_PULL:
		pull_begin(t, e);
		break;
	case JOB_A_HELD:
		send_ack(t, e, false);
		break;
	case JOB_A_ENQUEUE:
		enqueue(t, e);
		break;
	case JOB_A_EVALUATE:
		slots_evaluate(t, e);
		break;
	case JOB_A_MERGE:
		slots_merge(t, e);
		break;
	case JOB_A_TRAIN:
		slots_train(t, e);
		break;
	case JOB_A_RELEASE:
		pull_end(t, e);
		queue_cancel(&t->queue, e);
		slots_release(t, e, a->why);
		break;
	case JOB_A_RUN_EXTEND: /* the row first: what it says must hold whatever becomes of us */
		run_row(t, e, a);
		slots_extend(t, e);
		break;
	case JOB_A_RUN_OPEN:
	case JOB_A_RUN_CLOSE:
		run_row(t, e, a);
		break;
	case JOB_A_PERSIST:
		persist(t, e);
		break;
	case JOB_A_RESULT:
		send_result(t, e);
		break;
	case JOB_A_OVER:
		send_ack(t, e, true);
		break;
	case JOB_A_REPORT:
		entry_report(t, e);
		break;
	case JOB_A_BAR:
		device_bar(t, e->device);
		break;
	case JOB_A_GIVE_BACK:
		give_back(t, e, a->fence);
		break;
	case JOB_A_GRANTED:
		queue_serve(&t->queue, e->device->id, trainer_now(t));
		e->device->waits = false;
		e->superseding = true;
		pull_restart(t, e); /* under the old fence nothing was sent any more */
		break;
	}
}

static void finish_entry(struct trainer *t, struct entry *e)
{
	const struct job *j = &e->job;

	if (entry_is_merged(e)) {
		merge_done(t, e);
	} else if (j->outcome == JOB_O_ACTIVATED || j->outcome == JOB_O_KEPT) {
		t->handovers++;
		screening_completed(t, e);
		device_completed(t, e->device);
		merge_acknowledged(t, e);
		log_info("result acknowledged job=%lld device=%s outcome=%s before=%lld/%lld "
			 "after=%lld/%lld device_validation=%lld/%lld device_own=%lld/%lld",
			 (long long)j->id, j->device, job_outcome_name(j->outcome),
			 (long long)j->before.correct, (long long)j->before.n,
			 (long long)j->after.correct, (long long)j->after.n,
			 (long long)j->validation.correct, (long long)j->validation.n,
			 (long long)j->local_validation.correct,
			 (long long)j->local_validation.n);
	}
	if (!entry_is_merged(e))
		pull_forget(t, e);
	t->collect_at_ms = MIN_OF(t->collect_at_ms, trainer_now(t) + TICK_MS);
	entry_free(t, e);
}

/* The last result of the device that waits for its acknowledgement. */
static struct entry *last_offered(const struct device *d)
{
	struct entry *last = NULL;

	for (struct entry *e = d->jobs; e; e = e->next_of_device)
		if (e->job.state == JOB_OFFERING && (!last || e->job.fence > last->job.fence))
			last = e;
	return last;
}

/* A device has one handover at a time: what it granted last is the one. That it grants a new one
 * says that it has done with the result before, but not what it decided: that is asked for again,
 * as its ack was lost or is on its way. */
static void supersede(struct trainer *t, struct entry *e)
{
	struct job_event drop = {.kind = JOB_E_DROP, .reason = "a later handover was granted"};
	const struct entry *offered = last_offered(e->device);

	e->superseding = false;
	for (struct entry *o = e->device->jobs, *next; o; o = next) {
		next = o->next_of_device;
		if (o == offered)
			entry_event_kind(t, o, JOB_E_DEVICE_UP);
		else if (o != e)
			entry_event(t, o, &drop);
	}
}

/* Texts and hashes of an event that outlive the entry's own, which the next one overwrites. */
struct carried {
	struct score score;
	char reason[MESSAGE_TEXT_MAX], hash[HASH_SIZE];
};

static bool take_followup(struct entry *e, struct carried *c, struct job_event *ret)
{
	if (e->followup == JOB_E_N)
		return false;
	memcpy(c->reason, e->followup_reason, sizeof(c->reason));
	memcpy(c->hash, e->followup_hash, sizeof(c->hash));
	c->score = e->followup_score;
	*ret = (struct job_event){
		.kind = e->followup, .reason = c->reason, .score = &c->score, .hash = c->hash};
	e->followup = JOB_E_N;
	return true;
}

void entry_perform(struct trainer *t, struct entry *e, const struct job_actions *actions)
{
	for (unsigned i = 0; i < actions->n; i++) {
		if (actions->a[i].kind == JOB_A_REPORT) /* a new phase */
			e->progress = (struct worker_progress){.loss = NAN};
		perform(t, e, &actions->a[i]);
	}
}

static void step(struct trainer *t, struct entry *e, const struct job_event *ev)
{
	enum job_state was = e->job.state;
	int64_t fence_was = e->job.fence;
	struct job_actions actions;

	job_step(&e->job, ev, trainer_now(t), &actions);
	record_job(t, e, ev->kind, was, fence_was);
	entry_perform(t, e, &actions);
	if (e->job.state != was)
		log_job(e, "job");
	if (e->superseding)
		supersede(t, e);
}

bool entry_settle(struct trainer *t, struct entry *e)
{
	struct carried c;
	struct job_event ev;

	while (take_followup(e, &c, &ev))
		step(t, e, &ev);
	if (e->job.state != JOB_DONE)
		return true;
	finish_entry(t, e);
	return false;
}

bool entry_event(struct trainer *t, struct entry *e, const struct job_event *ev)
{
	step(t, e, ev);
	return entry_settle(t, e);
}

bool entry_event_kind(struct trainer *t, struct entry *e, enum job_event_kind kind)
{
	return entry_event(t, e, &(struct job_event){.kind = kind});
}
