/* See job.h for the model. Invariants:
 * - has_slot only in BEFORE, MERGING, TRAINING, MIXING and AFTER; running only in TRAINING;
 * - deadline_ms >= 0 exactly in these, PULLING, QUEUED and GATHERED;
 * - a window's own job sends nothing: no claim, no result;
 * - a fence never goes down;
 * - every change of a kept field is followed by JOB_A_PERSIST in the same step, before any
 *   action that tells another machine of it. */
#include "edge-trainer/job.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

bool job_is_working(const struct job *j)
{
	return j->state >= JOB_PULLING && j->state <= JOB_AFTER;
}

bool job_takes_room(const struct job *j, int64_t now_ms)
{
	if (j->state == JOB_CLAIMING)
		return j->claiming_since_ms < 0 || now_ms < j->claiming_since_ms + JOB_CLAIM_ROOM_MS;
	return job_is_working(j);
}

bool job_is_complete(const struct job *j)
{
	return j->pulled && j->has_before && j->has_after && j->epoch_done >= j->epochs &&
	       strcmp(j->snapshot_before, j->snapshot_after) == 0;
}

uint32_t job_claim_expiry_s(const struct job *j)
{
	return (uint32_t)MAX_OF(1, j->lease_ms / 6000);
}

static void reset(struct job *j, const struct job_conf *conf, uint64_t seed)
{
	j->lease_max_ms = conf->lease_max_ms;
	j->last_claim = conf->claims;
	j->gathers = conf->gathers && !job_is_merged(j);
	j->mixes = conf->mixes && job_is_merged(j);
	j->lease_ms = MIN_OF(conf->lease_max_ms, JOB_LEASE_GUESS_MS);
	j->deadline_ms = -1;
	j->n_claims = 0;
	j->claim_fence = j->fence;
	j->tries = 0;
	j->claim_at_ms = j->offer_at_ms = j->retry_at_ms = j->idle_since_ms = -1;
	j->claiming_since_ms = -1;
	j->has_slot = j->running = false;
	j->failures = 0;
	rng_init(&j->rng, seed);
}

void job_init(struct job *j, const struct job_conf *conf, const char *device,
	      const struct manifest *m, uint64_t seed)
{
	memset(j, 0, sizeof(*j));
	memcpy(j->device, device, strnlen(device, ID_MAX));
	j->manifest = *m;
	j->epochs = conf->epochs;
	reset(j, conf, seed);
}

void job_init_merged(struct job *j, const struct job_conf *conf, int64_t window,
		     const struct manifest *m, uint64_t seed)
{
	job_init(j, conf, "", m, seed);
	j->state = JOB_LAPSED;
	j->fence = window;
	j->pulled = j->held = true;
}

void job_restore(struct job *j, const struct job_conf *conf, int64_t now_ms, uint64_t seed)
{
	reset(j, conf, seed);
	/* Nothing is trained before the grant is confirmed; JOB_E_RESTORED asks for that. */
	if (job_is_working(j))
		j->state = job_is_merged(j) ? JOB_LAPSED : JOB_CLAIMING;
	if (j->state == JOB_LAPSED || j->state == JOB_OFFERING)
		j->idle_since_ms = now_ms;
}

static void act(struct job_actions *out, enum job_action_kind kind, int64_t fence, const char *why)
{
	assert(out->n < JOB_ACTIONS_MAX);
	out->a[out->n++] = (struct job_action){.kind = kind, .fence = fence, .why = why};
}

/* Back-off with the attempts made so far. */
static int64_t backoff(struct job *j, unsigned attempt, int64_t first_ms, int64_t cap_ms)
{
	return rng_backoff_ms(&j->rng, attempt, first_ms, cap_ms);
}

static void set_reason(struct job *j, const char *reason)
{
	size_t n = reason ? strnlen(reason, sizeof(j->reason) - 1) : 0;

	memcpy(j->reason, reason ? reason : "", n);
	j->reason[n] = '\0';
}

/* --- claims and leases --- */

static int64_t lost_ms(const struct job *j)
{
	return MAX_OF(j->lease_ms / 4, (int64_t)job_claim_expiry_s(j) * 1500);
}

static void forget_claims(struct job *j, unsigned n)
{
	j->n_claims -= n;
	memmove(j->claims, j->claims + n, j->n_claims * sizeof(j->claims[0]));
}

/* Those under which a lease would be over by now. */
static void forget_old_claims(struct job *j, int64_t now_ms)
{
	unsigned old = 0;

	while (old < j->n_claims && now_ms - j->claims[old].sent_ms > j->lease_ms)
		old++;
	forget_claims(j, old);
}

static void send_claim(struct job *j, int64_t fence, int64_t now_ms, struct job_actions *out)
{
	int64_t number = ++*j->last_claim;

	forget_old_claims(j, now_ms);
	if (j->n_claims == JOB_CLAIMS_MAX && now_ms - j->claims[0].sent_ms > lost_ms(j))
		forget_claims(j, 1);
	/* A full list keeps the older ones: the deadline can then only be earlier. */
	if (j->n_claims < JOB_CLAIMS_MAX)
		j->claims[j->n_claims++] = (struct job_claim){number, now_ms};
	act(out, JOB_A_CLAIM, fence, NULL);
	out->a[out->n - 1].claim = number;
	j->claim_fence = fence;
	if (j->state == JOB_CLAIMING && j->claiming_since_ms < 0)
		j->claiming_since_ms = now_ms;
	if (job_is_working(j))
		j->claim_at_ms = now_ms + MAX_OF(250, j->lease_ms / 12);
	else
		j->claim_at_ms = now_ms + backoff(j, j->tries, JOB_CLAIM_FIRST_MS,
						  JOB_CLAIM_CAP_MS);
	j->tries++;
}

/* The sending time of the claim that a grant answers; -1: of none that is unanswered. */
static int64_t answered_claim(struct job *j, int64_t number, int64_t now_ms)
{
	unsigned i = 0;
	int64_t sent_ms;

	while (i < j->n_claims && (number ? j->claims[i].number != number :
					    now_ms - j->claims[i].sent_ms > lost_ms(j)))
		i++;
	if (i == j->n_claims)
		return -1;
	sent_ms = j->claims[i].sent_ms;
	forget_claims(j, i + 1);
	return sent_ms;
}

/* --- changes of state --- */

static void enter(struct job *j, enum job_state s, struct job_actions *out)
{
	j->state = s;
	act(out, JOB_A_PERSIST, j->fence, NULL);
	act(out, JOB_A_REPORT, j->fence, NULL);
}

/* Leaves all work: no transfer, no place in the queue, no worker, no lease. */
static void leave_work(struct job *j, const char *why, struct job_actions *out)
{
	if (j->running)
		act(out, JOB_A_RUN_CLOSE, j->fence, why);
	if (job_is_working(j))
		act(out, JOB_A_RELEASE, j->fence, why);
	j->running = j->has_slot = false;
	j->deadline_ms = j->claim_at_ms = j->offer_at_ms = j->retry_at_ms = j->idle_since_ms = -1;
	j->claiming_since_ms = -1;
	j->tries = 0; /* `claims` stay: a late answer must not be taken for one to a later claim */
}

static void finish(struct job *j, enum job_outcome o, const char *reason, struct job_actions *out)
{
	leave_work(j, job_outcome_name(o), out);
	j->outcome = o;
	set_reason(j, reason);
	enter(j, JOB_DONE, out);
}

/* Gives up what the device waits for; that is said when all has ended. */
static void give_up(struct job *j, enum job_outcome o, const char *reason, struct job_actions *out)
{
	bool working = job_is_working(j);

	finish(j, o, reason, out);
	if (working && !job_is_merged(j))
		act(out, JOB_A_GIVE_BACK, j->fence, NULL);
}

/* Without a grant: kept for the next one if there is anything worth it. */
static void lapse(struct job *j, const char *why, const char *reason, int64_t now_ms,
		  struct job_actions *out)
{
	if (j->fence == 0 || !j->held) {
		finish(j, JOB_O_DROPPED, reason ? reason : why, out);
		return;
	}
	leave_work(j, why, out);
	set_reason(j, reason ? reason : why);
	j->idle_since_ms = now_ms;
	enter(j, JOB_LAPSED, out);
}

static void offer_result(struct job *j, int64_t now_ms, struct job_actions *out)
{
	if (job_is_merged(j)) /* its members are given it */
		return;
	act(out, JOB_A_RESULT, j->fence, NULL);
	j->offer_at_ms = now_ms + backoff(j, j->tries, JOB_OFFER_FIRST_MS, JOB_OFFER_CAP_MS);
	if (j->tries < 16)
		j->tries++;
}

/* The next step that takes a worker, which it has. */
static void work_on(struct job *j, struct job_actions *out)
{
	if (j->manifest.id[0] == '\0') {
		enter(j, JOB_MERGING, out);
		act(out, JOB_A_MERGE, j->fence, NULL);
		return;
	}
	if (!j->has_before) {
		enter(j, JOB_BEFORE, out);
		act(out, JOB_A_EVALUATE, j->fence, NULL);
		return;
	}
	if (j->epoch_done < j->epochs) {
		enter(j, JOB_TRAINING, out);
		if (!j->running)
			act(out, JOB_A_RUN_OPEN, j->fence, NULL);
		j->running = true;
		act(out, JOB_A_TRAIN, j->fence, NULL);
		return;
	}
	if (j->running)
		act(out, JOB_A_RUN_CLOSE, j->fence, "finished");
	j->running = false;
	enter(j, j->mixes && !j->mixed ? JOB_MIXING : JOB_AFTER, out);
	act(out, j->state == JOB_MIXING ? JOB_A_MERGE : JOB_A_EVALUATE, j->fence, NULL);
}

/* Scored, it needs no worker any more. */
static void gather(struct job *j, struct job_actions *out)
{
	if (j->has_slot)
		act(out, JOB_A_RELEASE, j->fence, "gathered");
	j->has_slot = false;
	enter(j, JOB_GATHERED, out);
}

/* The next step follows from what is there. */
static void go_on(struct job *j, int64_t now_ms, struct job_actions *out)
{
	if (!j->pulled) {
		j->block_at_ms = now_ms;
		enter(j, JOB_PULLING, out);
		act(out, JOB_A_PULL, j->fence, NULL);
	} else if (job_is_complete(j)) {
		leave_work(j, "finished", out);
		set_reason(j, NULL);
		j->idle_since_ms = now_ms;
		enter(j, JOB_OFFERING, out);
		offer_result(j, now_ms, out);
	} else if (j->gathers && j->has_before && j->epoch_done < j->epochs) {
		gather(j, out);
	} else if (!j->has_slot) {
		enter(j, JOB_QUEUED, out);
		act(out, JOB_A_ENQUEUE, j->fence, NULL);
	} else {
		work_on(j, out);
	}
}

/* --- events --- */

static void on_offer(struct job *j, const struct job_event *e, int64_t now_ms,
		     struct job_actions *out)
{
	if (j->state == JOB_DONE)
		return;
	if (e->score) /* kept with the grant that follows */
		j->reported = *e->score;
	if (j->state == JOB_LAPSED) {
		j->state = JOB_CLAIMING;
		j->idle_since_ms = -1;
		j->tries = 0;
	}
	/* Fence 0 in every state: the device may have ended the lease we still count on, and
	 * answers with the grant as it is, or a new one. */
	send_claim(j, 0, now_ms, out);
	if (j->state == JOB_OFFERING) {
		j->claim_at_ms = -1; /* the result is repeated, that claim is not */
		j->tries = 0;
	}
}

static bool take_seal(struct job *j, const char *seal)
{
	if (!seal || strcmp(seal, j->seal.theirs) == 0)
		return false;
	snprintf(j->seal.theirs, sizeof(j->seal.theirs), "%s", seal);
	return true;
}

static void on_new_fence(struct job *j, const struct job_event *e, struct job_actions *out)
{
	if (j->running) {
		act(out, JOB_A_RUN_CLOSE, j->fence, "new fence");
		act(out, JOB_A_RUN_OPEN, e->fence, NULL);
	}
	j->fence = e->fence;
	take_seal(j, e->seal);
	act(out, JOB_A_PERSIST, j->fence, NULL);
	act(out, JOB_A_GRANTED, j->fence, NULL);
}

/* The grant, maybe under the same fence still. */
static void on_fence(struct job *j, const struct job_event *e, struct job_actions *out)
{
	if (e->fence != j->fence)
		on_new_fence(j, e, out);
	else if (take_seal(j, e->seal)) /* the device made its keys anew */
		act(out, JOB_A_PERSIST, j->fence, NULL);
}

static void short_lease(struct job *j, int64_t lease_ms, struct job_actions *out)
{
	char reason[MESSAGE_TEXT_MAX];

	if (j->state != JOB_CLAIMING)
		return;
	snprintf(reason, sizeof(reason), "granted for %lld ms, expected at least %d",
		 (long long)lease_ms, JOB_LEASE_MIN_MS);
	finish(j, JOB_O_DROPPED, reason, out);
}

static void on_granted(struct job *j, const struct job_event *e, int64_t now_ms,
		       struct job_actions *out)
{
	int64_t sent_ms = answered_claim(j, e->claim, now_ms);
	int64_t lease_ms = MIN_OF(e->lease_ms, j->lease_max_ms);
	int64_t deadline_ms = sent_ms + lease_ms - MAX_OF(100, lease_ms / 20);

	if (sent_ms < 0) /* unasked, or of a claim of long ago */
		return;
	if (e->fence > 0 && e->fence < j->fence && j->state == JOB_CLAIMING) {
		finish(j, JOB_O_DROPPED, "the device counts its fences anew", out);
		return;
	}
	if (e->fence < j->fence || e->fence <= 0)
		return;
	if (j->state == JOB_OFFERING) {
		bool again = e->fence == j->fence;

		on_fence(j, e, out);
		if (again)
			return;
		j->tries = 0;
		offer_result(j, now_ms, out);
		return;
	}
	if (lease_ms < JOB_LEASE_MIN_MS) {
		short_lease(j, lease_ms, out);
		return;
	}
	/* Too late to be of use. */
	if (j->state == JOB_LAPSED || deadline_ms <= now_ms)
		return;
	on_fence(j, e, out);
	j->lease_ms = lease_ms;
	j->deadline_ms = MAX_OF(j->deadline_ms, deadline_ms);
	j->claim_at_ms = MAX_OF(sent_ms + lease_ms / 3, now_ms);
	j->tries = 0;
	if (job_is_working(j)) {
		if (j->running)
			act(out, JOB_A_RUN_EXTEND, j->fence, NULL);
		return;
	}
	set_reason(j, NULL);
	go_on(j, now_ms, out);
}

static void on_refused(struct job *j, const struct job_event *e, int64_t now_ms,
		       struct job_actions *out)
{
	if (answered_claim(j, e->claim, now_ms) < 0 || (e->fence > 0 && e->fence < j->fence))
		return;
	if (j->state != JOB_CLAIMING && !job_is_working(j))
		return;
	if (j->fence > 0 && e->fence == j->fence) {
		/* That lease is over for the device, but it may have nobody else yet: ask anew. */
		leave_work(j, "refused", out);
		enter(j, JOB_CLAIMING, out);
		send_claim(j, 0, now_ms, out);
		return;
	}
	if (j->state == JOB_CLAIMING)
		lapse(j, "refused", e->reason && e->reason[0] ? e->reason : NULL, now_ms, out);
}

static void on_evaluated(struct job *j, const struct job_event *e, int64_t now_ms,
			 struct job_actions *out)
{
	bool before = j->state == JOB_BEFORE;

	if (!before && j->state != JOB_AFTER)
		return;
	*(before ? &j->before : &j->after) = *e->score;
	memcpy(before ? j->snapshot_before : j->snapshot_after, e->hash, HASH_SIZE);
	*(before ? &j->has_before : &j->has_after) = true;
	if (!before && e->checkpoint)
		memcpy(j->partial, e->checkpoint, HASH_SIZE);
	j->worked_ms += e->ms;
	j->failures = 0;
	/* The test images changed in between (a restart, a wait): the older score is made anew,
	 * so that both are of the same images. */
	if (j->has_before && j->has_after && strcmp(j->snapshot_before, j->snapshot_after) != 0)
		*(before ? &j->has_after : &j->has_before) = false;
	go_on(j, now_ms, out);
}

static void on_epoch(struct job *j, const struct job_event *e, int64_t now_ms,
		     struct job_actions *out)
{
	if (j->state != JOB_TRAINING)
		return;
	memcpy(j->partial, e->hash, HASH_SIZE);
	j->epoch_done++;
	j->images_trained += e->images;
	j->worked_ms += e->ms;
	j->has_after = false;
	j->failures = 0;
	go_on(j, now_ms, out);
}

static void on_merged(struct job *j, const struct job_event *e, int64_t now_ms,
		      struct job_actions *out)
{
	if (j->state == JOB_MERGING) {
		manifest_name(&j->manifest, e->hash);
	} else if (j->state == JOB_MIXING) {
		memcpy(j->partial, e->hash, HASH_SIZE);
		j->mixed = true;
		j->has_after = false;
	} else {
		return;
	}
	j->worked_ms += e->ms;
	j->failures = 0;
	go_on(j, now_ms, out);
}

/* A member that lost its lease meanwhile has it all the same, for the next grant. */
static void on_returned(struct job *j, const struct job_event *e, int64_t now_ms,
			struct job_actions *out)
{
	if (job_is_merged(j) || j->state == JOB_OFFERING || j->state == JOB_DONE)
		return;
	memcpy(j->partial, e->hash, HASH_SIZE);
	j->after = *e->score;
	memcpy(j->snapshot_after, e->snapshot, HASH_SIZE);
	j->has_after = true;
	j->epochs = j->epoch_done = e->epochs;
	j->images_trained = e->images;
	j->worked_ms += e->ms;
	/* Its own score is of other images than that of the result by now: taken again. */
	if (strcmp(j->snapshot_before, j->snapshot_after) != 0)
		j->has_before = false;
	act(out, JOB_A_PERSIST, j->fence, NULL);
	if (j->state == JOB_GATHERED)
		go_on(j, now_ms, out);
}

/* A window's work goes on as long as one of its members has a lease. */
static void on_member(struct job *j, const struct job_event *e, int64_t now_ms,
		      struct job_actions *out)
{
	if (!job_is_merged(j) || e->deadline_ms <= now_ms)
		return;
	if (j->state == JOB_LAPSED) {
		j->idle_since_ms = -1;
		j->deadline_ms = e->deadline_ms;
		set_reason(j, NULL);
		go_on(j, now_ms, out);
	} else if (job_is_working(j) && e->deadline_ms > j->deadline_ms) {
		j->deadline_ms = e->deadline_ms;
		if (j->running)
			act(out, JOB_A_RUN_EXTEND, j->fence, NULL);
	}
}

static void on_taken(struct job *j, const struct job_event *e, struct job_actions *out)
{
	if (j->state != JOB_GATHERED)
		return;
	j->window = e->window;
	act(out, JOB_A_PERSIST, j->fence, NULL);
	act(out, JOB_A_REPORT, j->fence, NULL);
}

static void on_failed(struct job *j, const struct job_event *e, int64_t now_ms,
		      struct job_actions *out)
{
	if (!job_is_working(j))
		return;
	if (j->running)
		act(out, JOB_A_RUN_CLOSE, j->fence, "failed");
	j->running = j->has_slot = false;
	if (++j->failures > JOB_FAILURES_MAX) {
		give_up(j, JOB_O_DROPPED, e->reason, out);
		return;
	}
	set_reason(j, e->reason);
	j->retry_at_ms = now_ms + backoff(j, j->failures - 1, JOB_RETRY_FIRST_MS,
					  JOB_RETRY_CAP_MS);
	act(out, JOB_A_RELEASE, j->fence, "failed");
	j->block_at_ms = MAX_OF(j->block_at_ms, j->retry_at_ms); /* none is asked for until then */
	enter(j, j->pulled ? JOB_QUEUED : JOB_PULLING, out);
}

/* The same weights, images and order end the same way again: what the epochs before have made is
 * the result, if there were any. */
static void on_diverged(struct job *j, const struct job_event *e, int64_t now_ms,
			struct job_actions *out)
{
	if (j->state != JOB_TRAINING)
		return;
	if (j->epoch_done == 0) {
		give_up(j, JOB_O_DROPPED, e->reason, out);
		return;
	}
	act(out, JOB_A_RUN_CLOSE, j->fence, "diverged");
	j->running = false;
	j->epochs = j->epoch_done;
	go_on(j, now_ms, out);
}

static void on_ack(struct job *j, const struct job_event *e, struct job_actions *out)
{
	const struct msg_ack *a = e->ack;

	if (j->state != JOB_OFFERING || a->fence != j->fence || !a->has_decision)
		return;
	j->validation = a->validation;
	j->test = a->test;
	j->local_validation = a->local_validation;
	j->local_test = a->local_test;
	finish(j,
	       a->decision == DECISION_ACTIVATED ? JOB_O_ACTIVATED :
	       a->decision == DECISION_KEPT	 ? JOB_O_KEPT :
						   JOB_O_REFUSED,
	       a->reason, out);
	act(out, JOB_A_OVER, j->fence, NULL);
}

static void on_restored(struct job *j, int64_t now_ms, struct job_actions *out)
{
	if (job_is_merged(j))
		return;
	if (j->state == JOB_OFFERING)
		offer_result(j, now_ms, out);
	else if (j->state == JOB_CLAIMING)
		send_claim(j, j->fence, now_ms, out);
	else if (j->state == JOB_LAPSED && !j->held)
		finish(j, JOB_O_DROPPED, "nothing of it is on disk", out);
}

static void on_connected(struct job *j, int64_t now_ms, struct job_actions *out)
{
	if (job_is_merged(j))
		return;
	if (j->state == JOB_OFFERING) {
		j->tries = 0;
		offer_result(j, now_ms, out);
	} else if (j->state == JOB_CLAIMING) {
		j->tries = 0;
		j->claiming_since_ms = -1; /* nobody could answer */
		send_claim(j, j->claim_fence, now_ms, out);
	} else if (job_is_working(j)) {
		send_claim(j, j->fence, now_ms, out);
	}
}

static int64_t idle_max_ms(const struct job *j)
{
	return j->state == JOB_LAPSED ? JOB_LAPSED_KEEP_MS : JOB_OFFER_KEEP_MS;
}

/* When a promise that nothing came of ends: an unanswered claim, a transfer without blocks; -1. */
static int64_t patience_end_ms(const struct job *j)
{
	if (j->state == JOB_CLAIMING && j->claiming_since_ms >= 0)
		return j->tries >= JOB_CLAIM_TRIES ?
			       MIN_OF(j->claim_at_ms, j->claiming_since_ms + JOB_CLAIMING_MAX_MS) :
			       j->claiming_since_ms + JOB_CLAIMING_MAX_MS;
	return j->state == JOB_PULLING ? j->block_at_ms + j->lease_ms : -1;
}

/* True: it is no longer worked on. */
static bool time_is_up(struct job *j, int64_t now_ms, struct job_actions *out)
{
	int64_t end_ms = patience_end_ms(j);

	if (job_is_working(j) && now_ms >= j->deadline_ms) {
		if (!j->held)
			act(out, JOB_A_BAR, j->fence, NULL);
		lapse(j, "lease over", NULL, now_ms, out);
		return true;
	}
	if (end_ms < 0 || now_ms < end_ms)
		return false;
	act(out, JOB_A_BAR, j->fence, NULL);
	if (j->state == JOB_PULLING) {
		lapse(j, "no new block for a whole lease", NULL, now_ms, out);
		act(out, JOB_A_GIVE_BACK, j->fence, NULL);
	} else {
		lapse(j, "no answer to the claim", NULL, now_ms, out);
	}
	return true;
}

static void on_timer(struct job *j, int64_t now_ms, struct job_actions *out)
{
	if (time_is_up(j, now_ms, out))
		return;
	if (j->claim_at_ms >= 0 && now_ms >= j->claim_at_ms) {
		send_claim(j, j->state == JOB_CLAIMING ? j->claim_fence : j->fence, now_ms, out);
	}
	if (j->state == JOB_OFFERING && j->offer_at_ms >= 0 && now_ms >= j->offer_at_ms)
		offer_result(j, now_ms, out);
	if (j->retry_at_ms >= 0 && now_ms >= j->retry_at_ms) {
		j->retry_at_ms = -1;
		act(out, j->pulled ? JOB_A_ENQUEUE : JOB_A_PULL, j->fence, NULL);
	}
	if (j->idle_since_ms >= 0 && now_ms >= j->idle_since_ms + idle_max_ms(j))
		finish(j, JOB_O_DROPPED,
		       j->state == JOB_LAPSED ? "lapsed, and not granted again" :
						"the result was never acknowledged",
		       out);
}

void job_step(struct job *j, const struct job_event *e, int64_t now_ms, struct job_actions *out)
{
	out->n = 0;
	switch (e->kind) {
	case JOB_E_OFFER:
		on_offer(j, e, now_ms, out);
		break;
	case JOB_E_RESTORED:
		on_restored(j, now_ms, out);
		break;
	case JOB_E_CONNECTED:
		on_connected(j, now_ms, out);
		break;
	case JOB_E_DEVICE_UP:
		if (j->state == JOB_OFFERING) {
			j->tries = 0;
			offer_result(j, now_ms, out);
		}
		break;
	case JOB_E_GRANT:
		if (e->granted)
			on_granted(j, e, now_ms, out);
		else
			on_refused(j, e, now_ms, out);
		break;
	case JOB_E_BLOCK:
		j->held = true;
		j->block_at_ms = now_ms;
		break;
	case JOB_E_PULLED:
		if (j->state != JOB_PULLING)
			break;
		j->pulled = j->held = true;
		j->failures = 0;
		go_on(j, now_ms, out);
		act(out, JOB_A_HELD, j->fence, NULL);
		break;
	case JOB_E_BAD:
		if (j->state == JOB_PULLING || j->state == JOB_GATHERED)
			give_up(j, JOB_O_DROPPED, e->reason, out);
		break;
	case JOB_E_SLOT:
		if (j->state != JOB_QUEUED)
			break;
		j->has_slot = true;
		j->retry_at_ms = -1;
		go_on(j, now_ms, out);
		break;
	case JOB_E_EVALUATED:
		on_evaluated(j, e, now_ms, out);
		break;
	case JOB_E_EPOCH:
		on_epoch(j, e, now_ms, out);
		break;
	case JOB_E_MERGED:
		on_merged(j, e, now_ms, out);
		break;
	case JOB_E_TAKEN:
		on_taken(j, e, out);
		break;
	case JOB_E_SCREENED:
		if (j->state == JOB_GATHERED)
			give_up(j, JOB_O_SCREENED, e->reason, out);
		break;
	case JOB_E_RETURNED:
		on_returned(j, e, now_ms, out);
		break;
	case JOB_E_MEMBER:
		on_member(j, e, now_ms, out);
		break;
	case JOB_E_ORPHANED:
		if (job_is_merged(j) && job_is_working(j))
			lapse(j, "no member left", NULL, now_ms, out);
		break;
	case JOB_E_DELIVERED:
		if (job_is_merged(j) && j->state == JOB_OFFERING)
			finish(j, JOB_O_MERGED, NULL, out);
		break;
	case JOB_E_FAILED:
		on_failed(j, e, now_ms, out);
		break;
	case JOB_E_DIVERGED:
		on_diverged(j, e, now_ms, out);
		break;
	case JOB_E_ACK:
		on_ack(j, e, out);
		break;
	case JOB_E_DROP:
		if (j->state != JOB_DONE)
			finish(j, JOB_O_DROPPED, e->reason, out);
		break;
	case JOB_E_SHUTDOWN:
		if (j->running)
			act(out, JOB_A_RUN_CLOSE, j->fence, "shutdown");
		j->running = false;
		break;
	case JOB_E_TIMER:
		on_timer(j, now_ms, out);
		break;
	case JOB_E_N:
		break;
	}
}

int64_t job_next_ms(const struct job *j)
{
	const int64_t due[] = {
		job_is_working(j) ? j->deadline_ms : -1,
		j->claim_at_ms,
		patience_end_ms(j),
		j->state == JOB_OFFERING ? j->offer_at_ms : -1,
		j->retry_at_ms,
		j->idle_since_ms >= 0 ? j->idle_since_ms + idle_max_ms(j) : -1,
	};
	int64_t next = -1;

	for (size_t i = 0; i < ARRAY_LEN(due); i++)
		if (due[i] >= 0 && (next < 0 || due[i] < next))
			next = due[i];
	return next;
}
