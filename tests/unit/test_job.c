/* The handover at the trainer as transcripts: what happens when, what is done, and where that leads.
 * Leases are of 60 s unless a row says otherwise; their margin is 3 s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/job.h"

#define LEASE	 60000
#define S1	 "1111111111111111111111111111111111111111111111111111111111111111"
#define S2	 "2222222222222222222222222222222222222222222222222222222222222222"
#define W1	 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define W2	 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define CHECKPOINT "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static int64_t numbers; /* of claims */
static const struct job_conf conf = {.lease_max_ms = 120000, .epochs = 2, .claims = &numbers};
static const struct score some_score = {.n = 100, .correct = 44, .loss = 1.5};

/* One row of a transcript. `does`: the names of the actions, claims and runs with their fence. */
struct row {
	int64_t at_ms;
	enum job_event_kind kind;
	int64_t fence; /* grants: > 0 granted, < 0 refused with -fence, 0 refused with 0 */
	const char *hash; /* or reason */
	const char *does;
	enum job_state then;
	int64_t claim; /* grants: the claim they name, counted from 1; 0: none, as older devices do */
};

static struct job job;

static void begin(void)
{
	struct manifest m = {.id = CHECKPOINT, .epoch = 7};

	numbers = 0;
	job_init(&job, &conf, "cam-1", &m, 1);
}

static void describe(const struct job_actions *a, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < a->n; i++) {
		n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? " " : "",
				      job_action_name(a->a[i].kind));
		if (a->a[i].kind == JOB_A_CLAIM || a->a[i].kind == JOB_A_RUN_OPEN)
			n += (size_t)snprintf(buf + n, size - n, ":%lld",
					      (long long)a->a[i].fence);
		assert_true(n < size);
	}
}

static void check_invariants(void)
{
	if (job.has_slot)
		assert_true(job.state == JOB_BEFORE || job.state == JOB_TRAINING ||
			    job.state == JOB_AFTER);
	if (job.running)
		assert_int_equal(job.state, JOB_TRAINING);
	assert_int_equal(job_is_working(&job), job.deadline_ms >= 0);
}

static void step(const struct row *r, struct job_actions *out)
{
	struct msg_ack ack = {.fence = r->fence, .has_decision = true};
	struct job_event e = {
		.kind = r->kind, .granted = r->fence > 0,
		.fence = r->fence < 0 ? -r->fence : r->fence, .lease_ms = LEASE,
		.reason = r->hash, .hash = r->hash, .score = &some_score, .images = 1000,
		.ms = 500, .ack = &ack, .claim = r->claim,
	};

	snprintf(ack.checkpoint, sizeof(ack.checkpoint), "%s", job.partial);
	if (r->kind == JOB_E_ACK && r->hash && strcmp(r->hash, "kept") == 0)
		ack.decision = DECISION_KEPT;
	if (r->kind == JOB_E_ACK && r->hash && strcmp(r->hash, "refused") == 0)
		ack.decision = DECISION_REFUSED;
	job_step(&job, &e, r->at_ms, out);
	check_invariants();
}

static void play(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct job_actions out;
		char text[512];

		step(&rows[i], &out);
		describe(&out, text, sizeof(text));
		if (strcmp(text, rows[i].does) != 0)
			fail_msg("row %zu (at %lld): does '%s', expected '%s'", i,
				 (long long)rows[i].at_ms, text, rows[i].does);
		if (job.state != rows[i].then)
			fail_msg("row %zu: then %s, expected %s", i, job_state_name(job.state),
				 job_state_name(rows[i].then));
	}
}

#define PLAY(...)                                                                                  \
	do {                                                                                       \
		const struct row rows_[] = {__VA_ARGS__};                                          \
		play(rows_, sizeof(rows_) / sizeof(rows_[0]));                                     \
	} while (0)

#define TO_PULLING                                                                                 \
	{0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},                                        \
	{100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING},           \
	{150, JOB_E_BLOCK, 0, NULL, "", JOB_PULLING}
#define TO_QUEUED                                                                                  \
	TO_PULLING, {200, JOB_E_PULLED, 0, NULL, "persist report enqueue held", JOB_QUEUED}
#define TO_TRAINING                                                                                \
	TO_QUEUED, {300, JOB_E_SLOT, 0, NULL, "persist report evaluate", JOB_BEFORE},              \
	{400, JOB_E_EVALUATED, 0, S1, "persist report run-open:5 train", JOB_TRAINING}
#define TO_OFFERING                                                                                \
	TO_TRAINING, {500, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},              \
	{600, JOB_E_EPOCH, 0, W2, "run-close persist report evaluate", JOB_AFTER},                 \
	{700, JOB_E_EVALUATED, 0, S1, "release persist report result", JOB_OFFERING}

static void test_whole(void **state)
{
	(void)state;
	begin();
	PLAY(TO_OFFERING, {800, JOB_E_ACK, 5, "kept", "persist report over", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_KEPT);
	assert_int_equal(job.epoch_done, 2);
	assert_int_equal(job.images_trained, 2000);
	assert_int_equal(job.worked_ms, 2000);
	assert_string_equal(job.partial, W2);
	assert_int_equal(job_next_ms(&job), -1);
}

/* Four claims, then it is dropped and its device barred for a while; it will offer again. */
static void test_no_grant(void **state)
{
	int claims = 1;

	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING});
	while (job.state == JOB_CLAIMING) {
		struct row r = {job_next_ms(&job), JOB_E_TIMER, 0, NULL, "", JOB_CLAIMING};
		struct job_actions out;

		assert_true(r.at_ms > 0 && r.at_ms < 30000);
		step(&r, &out);
		if (out.n && out.a[0].kind == JOB_A_CLAIM)
			claims++;
		else
			assert_int_equal(out.a[0].kind, JOB_A_BAR);
	}
	assert_int_equal(claims, JOB_CLAIM_TRIES);
	assert_int_equal(job.state, JOB_DONE);
	assert_int_equal(job.outcome, JOB_O_DROPPED);
}

/* Offers repeated without end, and never a grant: it ends all the same, and does not keep others out
 * while it lasts. */
static void test_claiming_ends(void **state)
{
	int64_t now = 0;

	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING});
	assert_true(job_takes_room(&job, JOB_CLAIM_ROOM_MS - 1));
	assert_false(job_takes_room(&job, JOB_CLAIM_ROOM_MS));
	while (job.state == JOB_CLAIMING) {
		struct row offer = {now += 500, JOB_E_OFFER, 0, NULL, NULL, 0};
		struct job_actions out;

		assert_true(now <= JOB_CLAIMING_MAX_MS);
		if (job_next_ms(&job) <= now)
			offer.kind = JOB_E_TIMER;
		step(&offer, &out);
		assert_true(now < JOB_CLAIM_ROOM_MS || !job_takes_room(&job, now));
	}
	assert_int_equal(job.state, JOB_DONE);
	assert_in_range(now, JOB_CLAIMING_MAX_MS - 500, JOB_CLAIMING_MAX_MS);
}

static void test_refused_at_once(void **state)
{
	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {50, JOB_E_GRANT, 0, "another trainer has it", "persist report", JOB_DONE});
	assert_string_equal(job.reason, "another trainer has it");
}

/* The deadline counts from when the claim was sent, less the margin; renewed every third. */
static void test_renewal(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING);
	assert_int_equal(job.deadline_ms, LEASE - 3000);
	assert_int_equal(job_next_ms(&job), LEASE / 3);
	PLAY({20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_TRAINING},
	     {20500, JOB_E_GRANT, 5, NULL, "run-extend", JOB_TRAINING});
	assert_int_equal(job.deadline_ms, 20000 + LEASE - 3000);
	assert_int_equal(job_next_ms(&job), 20000 + LEASE / 3);
	/* An unasked grant is no renewal. */
	PLAY({30000, JOB_E_GRANT, 5, NULL, "", JOB_TRAINING});
	assert_int_equal(job.deadline_ms, 20000 + LEASE - 3000);
}

/* A grant counts from the claim that it names, however late it comes: not from a later one. */
static void test_named_claim(void **state)
{
	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {2000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {2100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING, 2});
	assert_int_equal(job.deadline_ms, 2000 + LEASE - 3000);
	/* Renewals: 3 goes out at 22 s, 4 at 27 s. The answer to 3 is delayed by more than a quarter
	 * of the lease, and is not taken for one to 4. */
	PLAY({2200, JOB_E_BLOCK, 0, NULL, "", JOB_PULLING},
	     {22000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {27000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {40000, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 3});
	assert_int_equal(job.deadline_ms, 22000 + LEASE - 3000);
	/* Twice, or of a claim that nobody made: no renewal. Older than what was answered: neither. */
	PLAY({41000, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 3},
	     {41000, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 77},
	     {41000, JOB_E_GRANT, 6, NULL, "", JOB_PULLING, 1});
	assert_int_equal(job.fence, 5);
	assert_int_equal(job.deadline_ms, 22000 + LEASE - 3000);
	PLAY({41100, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 4});
	assert_int_equal(job.deadline_ms, 27000 + LEASE - 3000);
	/* A refusal, too, is of the claim that it names. */
	PLAY({41200, JOB_E_GRANT, -5, "over", "", JOB_PULLING, 4});
}

/* A claim of before a restart is none of ours: its grant says nothing of the one sent since. */
static void test_claim_of_before(void **state)
{
	(void)state;
	begin();
	job.fence = 5;
	job.state = JOB_TRAINING;
	job.pulled = job.held = true;
	numbers = 100;
	job_restore(&job, &conf, 1000, 7);
	PLAY({2000, JOB_E_RESTORED, 0, NULL, "claim:5", JOB_CLAIMING},
	     {2100, JOB_E_GRANT, 5, NULL, "", JOB_CLAIMING, 9},
	     {2200, JOB_E_GRANT, 5, NULL, "persist report enqueue", JOB_QUEUED, 101});
	assert_int_equal(job.deadline_ms, 2000 + LEASE - 3000);
}

/* A device that names no claims: a grant is taken for the answer to the oldest unanswered claim, unless that one is lost. */
static void test_oldest_claim(void **state)
{
	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {2000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {2100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING});
	assert_int_equal(job.deadline_ms, LEASE - 3000);
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {50000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {50100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING});
	assert_int_equal(job.deadline_ms, 50000 + LEASE - 3000);
}

/* Nothing is done under a grant whose time is over when it comes. */
static void test_late_grant(void **state)
{
	struct job_event e = {.kind = JOB_E_GRANT, .granted = true, .fence = 5, .lease_ms = 6000,
			      .claim = 1};
	struct job_actions out;

	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING});
	job_step(&job, &e, 5800, &out);
	assert_int_equal(out.n, 0);
	assert_int_equal(job.state, JOB_CLAIMING);
	assert_int_equal(job.fence, 0);
}

/* Too short to be worth a transfer: every such grant would cost a claim every second. */
static void test_short_lease(void **state)
{
	struct job_event e = {.kind = JOB_E_GRANT, .granted = true, .fence = 5,
			      .lease_ms = JOB_LEASE_MIN_MS - 1, .claim = 1};
	struct job_actions out;

	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING});
	job_step(&job, &e, 100, &out);
	assert_int_equal(job.state, JOB_DONE);
	assert_non_null(strstr(job.reason, "4999 ms"));
	begin();
	PLAY(TO_TRAINING, {2000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_TRAINING});
	e.claim = 2;
	job_step(&job, &e, 2100, &out); /* no renewal */
	assert_int_equal(job.state, JOB_TRAINING);
	assert_int_equal(job.deadline_ms, LEASE - 3000);
}

/* Granted, renewed, and never a block: it ends after a lease; with the blocks there are it could go
 * on later, without any there is nothing to keep. */
static void test_no_blocks(void **state)
{
	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING, 1},
	     {20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {20100, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 2},
	     {40000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {40100, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 3},
	     {60000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {100 + LEASE, JOB_E_TIMER, 0, NULL, "bar release persist report give-back", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
	begin();
	PLAY(TO_PULLING, {20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {20100, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 2},
	     {30000, JOB_E_BLOCK, 0, NULL, "", JOB_PULLING},
	     {40000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {40100, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 3},
	     {60000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {60100, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 4},
	     {80000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {30000 + LEASE, JOB_E_TIMER, 0, NULL, "bar release persist report give-back",
	      JOB_LAPSED});
}

/* The lease runs out before any block came. */
static void test_lapse_without_blocks(void **state)
{
	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {100, JOB_E_GRANT, 5, NULL, "persist granted persist report pull", JOB_PULLING},
	     {57000, JOB_E_TIMER, 0, NULL, "bar release persist report", JOB_DONE});
	/* The same after a restart, by what is found on disk. */
	for (int held = 0; held < 2; held++) {
		begin();
		job.fence = 5;
		job.state = JOB_LAPSED;
		job.held = held;
		job_restore(&job, &conf, 1000, 7);
		PLAY({2000, JOB_E_RESTORED, 0, NULL, held ? "" : "persist report",
		      held ? JOB_LAPSED : JOB_DONE});
	}
}

/* Lapse in the middle of training: the worker stops, what is finished is kept; under a new fence it
 * goes on with the second epoch. */
static void test_lapse_and_resume(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING, {500, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_TRAINING},
	     {56999, JOB_E_TIMER, 0, NULL, "claim:5", JOB_TRAINING},
	     {57000, JOB_E_TIMER, 0, NULL, "run-close release persist report", JOB_LAPSED},
	     /* what the worker and the device still said comes too late */
	     {57010, JOB_E_EPOCH, 0, W2, "", JOB_LAPSED},
	     {57020, JOB_E_GRANT, 5, NULL, "", JOB_LAPSED},
	     {57030, JOB_E_SLOT, 0, NULL, "", JOB_LAPSED});
	assert_int_equal(job.epoch_done, 1);
	assert_string_equal(job.partial, W1);
	PLAY({90000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {90100, JOB_E_GRANT, 6, NULL, "persist granted persist report enqueue", JOB_QUEUED},
	     {90200, JOB_E_SLOT, 0, NULL, "persist report run-open:6 train", JOB_TRAINING},
	     {90300, JOB_E_EPOCH, 0, W2, "run-close persist report evaluate", JOB_AFTER},
	     {90400, JOB_E_EVALUATED, 0, S1, "release persist report result", JOB_OFFERING});
	assert_int_equal(job.fence, 6);
	assert_int_equal(job.epoch_done, 2);
}

static void test_lapsed_for_good(void **state)
{
	(void)state;
	begin();
	PLAY(TO_QUEUED, {57000, JOB_E_TIMER, 0, NULL, "release persist report", JOB_LAPSED});
	assert_int_equal(job_next_ms(&job), 57000 + JOB_LAPSED_KEEP_MS);
	PLAY({57000 + JOB_LAPSED_KEEP_MS, JOB_E_TIMER, 0, NULL, "persist report", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
}

/* The device says that our lease is over: all stops, a new grant is asked for, and without one
 * it is lapsed. */
static void test_renewal_refused(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING, {20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_TRAINING},
	     {20100, JOB_E_GRANT, -5, "over", "run-close release persist report claim:0",
	      JOB_CLAIMING},
	     {20200, JOB_E_GRANT, 0, "another trainer has it", "persist report", JOB_LAPSED});
	/* A refusal of an older fence is stale. */
	begin();
	PLAY(TO_TRAINING, {20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_TRAINING},
	     {20100, JOB_E_GRANT, -4, "over", "", JOB_TRAINING});
}

/* A new fence in the middle of training: the run under the old one ends. */
static void test_new_fence_while_training(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING, {2000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_TRAINING},
	     {2100, JOB_E_GRANT, 6, NULL, "run-close run-open:6 persist granted run-extend",
	      JOB_TRAINING},
	     {2200, JOB_E_GRANT, 5, NULL, "", JOB_TRAINING});
	assert_int_equal(job.fence, 6);
	assert_int_equal(job.deadline_ms, 2000 + LEASE - 3000);
}

/* A device that lost its state counts from 1: what was granted before means nothing. */
static void test_fences_anew(void **state)
{
	(void)state;
	begin();
	PLAY(TO_QUEUED, {57000, JOB_E_TIMER, 0, NULL, "release persist report", JOB_LAPSED},
	     {60000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {60100, JOB_E_GRANT, 1, NULL, "persist report", JOB_DONE});
}

static void test_duplicates(void **state)
{
	(void)state;
	begin();
	PLAY(TO_PULLING, {110, JOB_E_GRANT, 5, NULL, "", JOB_PULLING},
	     {200, JOB_E_PULLED, 0, NULL, "persist report enqueue held", JOB_QUEUED},
	     {210, JOB_E_PULLED, 0, NULL, "", JOB_QUEUED},
	     {220, JOB_E_BAD, 0, "late", "", JOB_QUEUED},
	     {300, JOB_E_SLOT, 0, NULL, "persist report evaluate", JOB_BEFORE},
	     {310, JOB_E_SLOT, 0, NULL, "", JOB_BEFORE},
	     {320, JOB_E_EPOCH, 0, W1, "", JOB_BEFORE},
	     {400, JOB_E_EVALUATED, 0, S1, "persist report run-open:5 train", JOB_TRAINING},
	     {410, JOB_E_EVALUATED, 0, S1, "", JOB_TRAINING},
	     {420, JOB_E_ACK, 5, "kept", "", JOB_TRAINING});
	assert_int_equal(job.epoch_done, 0);
}

static void test_bad_checkpoint(void **state)
{
	(void)state;
	begin();
	PLAY(TO_PULLING, {200, JOB_E_BAD, 0, "NaN in layer 3", "release persist report give-back",
			  JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
	assert_string_equal(job.reason, "NaN in layer 3");
}

/* The result: repeated from 2 s to 60 s, at once when the device comes back, and also after the
 * lease; only the right fence ends it. */
static void test_offering(void **state)
{
	int64_t last = 700;

	(void)state;
	begin();
	PLAY(TO_OFFERING);
	for (int i = 0; i < 12; i++) {
		struct row r = {job_next_ms(&job), JOB_E_TIMER, 0, NULL, "result", JOB_OFFERING};

		if (i == 0)
			assert_in_range(r.at_ms - last, 1000, 2000);
		assert_in_range(r.at_ms - last, 1000, 60000);
		last = r.at_ms;
		play(&r, 1);
	}
	assert_true(last > 5 * LEASE); /* no lease is needed */
	PLAY({last + 10, JOB_E_DEVICE_UP, 0, NULL, "result", JOB_OFFERING},
	     {last + 20, JOB_E_CONNECTED, 0, NULL, "result", JOB_OFFERING});
	assert_in_range(job_next_ms(&job) - (last + 20), 1000, 2000);
	PLAY({last + 30, JOB_E_ACK, 4, "refused", "", JOB_OFFERING},
	     {last + 40, JOB_E_ACK, 5, "refused", "persist report over", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_REFUSED);
}

/* The device offers the same checkpoint again although the result is ready. */
static void test_offer_while_offering(void **state)
{
	(void)state;
	begin();
	PLAY(TO_OFFERING, {90000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_OFFERING},
	     {90100, JOB_E_GRANT, 6, NULL, "persist granted result", JOB_OFFERING},
	     {90150, JOB_E_ACK, 5, "refused", "", JOB_OFFERING},
	     {90200, JOB_E_ACK, 6, "kept", "persist report over", JOB_DONE});
}

static void test_never_acknowledged(void **state)
{
	(void)state;
	begin();
	PLAY(TO_OFFERING, {700 + JOB_OFFER_KEEP_MS, JOB_E_TIMER, 0, NULL,
			   "result persist report", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
}

/* A worker that dies: tried again, five times in a row; an epoch finished counts anew. */
static void test_worker_failures(void **state)
{
	int64_t now = 500;

	(void)state;
	begin();
	PLAY(TO_TRAINING);
	for (int round = 0; round < 2; round++) {
		int n = round == 0 ? JOB_FAILURES_MAX : JOB_FAILURES_MAX + 1;

		for (int i = 0; i < n; i++) {
			PLAY({now, JOB_E_FAILED, 0, "killed",
			      i < JOB_FAILURES_MAX ? "run-close release persist report" :
						     "run-close release persist report give-back",
			      i < JOB_FAILURES_MAX ? JOB_QUEUED : JOB_DONE});
			if (job.state == JOB_DONE)
				break;
			assert_string_equal(job.reason, "killed");
			assert_true(job.retry_at_ms > now);
			now = job.retry_at_ms;
			job.deadline_ms = now + LEASE; /* as if renewed meanwhile */
			job.claim_at_ms = -1;
			PLAY({now, JOB_E_TIMER, 0, NULL, "enqueue", JOB_QUEUED},
			     {now, JOB_E_SLOT, 0, NULL, "persist report run-open:5 train",
			      JOB_TRAINING});
		}
		if (round == 0)
			PLAY({now, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING});
	}
	assert_int_equal(job.outcome, JOB_O_DROPPED);
	assert_string_equal(job.reason, "killed");
	assert_int_equal(job.epoch_done, 1);
}

/* A loss that turns non-finite would do so again: what was good before it is the result. */
static void test_diverged(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING, {500, JOB_E_DIVERGED, 0, "not finite",
			   "run-close release persist report give-back", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
	assert_string_equal(job.reason, "not finite");
	begin();
	PLAY(TO_TRAINING, {500, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {600, JOB_E_DIVERGED, 0, "not finite", "run-close persist report evaluate", JOB_AFTER},
	     {700, JOB_E_EVALUATED, 0, S1, "release persist report result", JOB_OFFERING});
	assert_string_equal(job.partial, W1);
	assert_int_equal(job.epochs, 1);
	assert_int_equal(job.epoch_done, 1);
	assert_true(job_is_complete(&job));
	/* Of another time: nothing. */
	PLAY({800, JOB_E_DIVERGED, 0, "not finite", "", JOB_OFFERING});
}

/* The disk was full while pulling: the transfer is tried again. */
static void test_pull_failure(void **state)
{
	(void)state;
	begin();
	PLAY(TO_PULLING, {200, JOB_E_FAILED, 0, "disk full", "release persist report", JOB_PULLING});
	PLAY({job.retry_at_ms, JOB_E_TIMER, 0, NULL, "pull", JOB_PULLING});
}

/* The test images changed between the two evaluations: the first is made again. */
static void test_snapshot_changed(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING, {500, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {600, JOB_E_EPOCH, 0, W2, "run-close persist report evaluate", JOB_AFTER},
	     {700, JOB_E_EVALUATED, 0, S2, "persist report evaluate", JOB_BEFORE},
	     {800, JOB_E_EVALUATED, 0, S2, "release persist report result", JOB_OFFERING});
	assert_string_equal(job.snapshot_before, S2);
	assert_string_equal(job.snapshot_after, S2);
}

/* Killed and started again in each state: training goes on only after a grant was confirmed. */
static void test_restart(void **state)
{
	static const struct {
		enum job_state at;
		bool pulled, before, partial;
		const char *does_granted;
		enum job_state then;
	} cases[] = {
		{JOB_PULLING, false, false, false, "persist report pull", JOB_PULLING},
		{JOB_QUEUED, true, false, false, "persist report enqueue", JOB_QUEUED},
		{JOB_BEFORE, true, false, false, "persist report enqueue", JOB_QUEUED},
		{JOB_TRAINING, true, true, true, "persist report enqueue", JOB_QUEUED},
		{JOB_AFTER, true, true, true, "persist report enqueue", JOB_QUEUED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin();
		job.id = 3;
		job.fence = 5;
		job.state = cases[i].at;
		job.pulled = cases[i].pulled;
		job.held = true;
		job.has_before = cases[i].before;
		strcpy(job.snapshot_before, S1);
		job.epoch_done = cases[i].partial;
		job_restore(&job, &conf, 1000, 7);
		check_invariants();
		assert_int_equal(job.state, JOB_CLAIMING);
		assert_int_equal(job_next_ms(&job), -1); /* waits for the connection */
		PLAY({2000, JOB_E_RESTORED, 0, NULL, "claim:5", JOB_CLAIMING},
		     {2050, JOB_E_SLOT, 0, NULL, "", JOB_CLAIMING},
		     {2100, JOB_E_GRANT, 5, NULL, cases[i].does_granted, cases[i].then});
		assert_int_equal(job.deadline_ms, 2000 + LEASE - 3000);
	}
	/* Offering: the result again, at once. Lapsed: waits for an offer. */
	begin();
	job.fence = 5;
	job.state = JOB_OFFERING;
	job_restore(&job, &conf, 1000, 7);
	PLAY({2000, JOB_E_RESTORED, 0, NULL, "result", JOB_OFFERING});
	begin();
	job.fence = 5;
	job.state = JOB_LAPSED;
	job.held = true;
	job_restore(&job, &conf, 1000, 7);
	PLAY({2000, JOB_E_RESTORED, 0, NULL, "", JOB_LAPSED},
	     {3000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING});
}

/* After the restart the device has moved on: nothing is trained, what there is is kept. */
static void test_restart_refused(void **state)
{
	(void)state;
	begin();
	job.fence = 5;
	job.state = JOB_TRAINING;
	job.pulled = job.held = true;
	job_restore(&job, &conf, 1000, 7);
	PLAY({2000, JOB_E_RESTORED, 0, NULL, "claim:5", JOB_CLAIMING},
	     {2100, JOB_E_GRANT, -5, "over", "persist report claim:0", JOB_CLAIMING},
	     {2200, JOB_E_GRANT, 0, "nothing is on offer", "persist report", JOB_LAPSED});
}

static void test_shutdown(void **state)
{
	(void)state;
	begin();
	/* The state stays as the database has it. */
	PLAY(TO_TRAINING, {600, JOB_E_SHUTDOWN, 0, NULL, "run-close", JOB_TRAINING},
	     {610, JOB_E_SHUTDOWN, 0, NULL, "", JOB_TRAINING});
	assert_false(job.running);
}

static void test_drop(void **state)
{
	(void)state;
	begin();
	PLAY(TO_TRAINING, {500, JOB_E_DROP, 0, "superseded", "run-close release persist report",
			   JOB_DONE},
	     {510, JOB_E_OFFER, 0, NULL, "", JOB_DONE}, {520, JOB_E_DROP, 0, NULL, "", JOB_DONE});
}

/* When each claim was sent, by number. */
static int64_t sent_ms[1000];

static void note_claims(const struct job_actions *out, int64_t now)
{
	for (unsigned k = 0; k < out->n; k++)
		if (out->a[k].kind == JOB_A_CLAIM) {
			assert_in_range(out->a[k].claim, 1, 999);
			sent_ms[out->a[k].claim] = now;
		}
}

/* Whatever comes in whatever order: no crash, the invariants hold, it trains only before its
 * deadline, and a grant that names its claim gives no more than that claim's lease. */
static void test_any_order(void **state)
{
	struct rng rng;

	(void)state;
	rng_init(&rng, 42);
	for (int run = 0; run < 300; run++) {
		int64_t now = 0;

		begin();
		for (int i = 0; i < 200 && job.state != JOB_DONE; i++) {
			static const char *const hashes[] = {S1, S2};
			struct job_actions out;
			struct row r = {.kind = rng_below(&rng, JOB_E_N),
					.fence = (int64_t)rng_below(&rng, 8) - 2,
					.hash = hashes[rng_below(&rng, 2)]};

			if (r.kind == JOB_E_DROP || (r.kind == JOB_E_BAD && i < 100))
				continue;
			now += rng_below(&rng, 4) ? rng_below(&rng, 2000) : rng_below(&rng, 40000);
			r.at_ms = now;
			if (r.kind == JOB_E_GRANT && rng_below(&rng, 4))
				r.claim = 1 + (int64_t)rng_below(&rng, (uint32_t)numbers + 2);
			if (job_next_ms(&job) >= 0 && job_next_ms(&job) <= now) {
				struct row due = {now, JOB_E_TIMER, 0, NULL, NULL, 0};

				step(&due, &out);
				note_claims(&out, now);
			}
			if (job.running)
				assert_true(now < job.deadline_ms);
			int64_t until = job.deadline_ms;
			step(&r, &out);
			if (r.claim > 0 && r.claim <= numbers)
				until = MAX_OF(until, sent_ms[r.claim] + LEASE - 3000);
			if (r.kind == JOB_E_GRANT && r.claim > 0)
				assert_true(job.deadline_ms <= until);
			note_claims(&out, now);
			for (unsigned k = 0; k < out.n; k++)
				if (out.a[k].kind == JOB_A_TRAIN)
					assert_true(job.state == JOB_TRAINING &&
						    job.deadline_ms > now);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_no_grant),
		cmocka_unit_test(test_claiming_ends),
		cmocka_unit_test(test_named_claim),
		cmocka_unit_test(test_claim_of_before),
		cmocka_unit_test(test_short_lease),
		cmocka_unit_test(test_no_blocks),
		cmocka_unit_test(test_lapse_without_blocks),
		cmocka_unit_test(test_refused_at_once),
		cmocka_unit_test(test_renewal),
		cmocka_unit_test(test_oldest_claim),
		cmocka_unit_test(test_late_grant),
		cmocka_unit_test(test_lapse_and_resume),
		cmocka_unit_test(test_lapsed_for_good),
		cmocka_unit_test(test_renewal_refused),
		cmocka_unit_test(test_new_fence_while_training),
		cmocka_unit_test(test_fences_anew),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_bad_checkpoint),
		cmocka_unit_test(test_offering),
		cmocka_unit_test(test_offer_while_offering),
		cmocka_unit_test(test_never_acknowledged),
		cmocka_unit_test(test_worker_failures),
		cmocka_unit_test(test_diverged),
		cmocka_unit_test(test_pull_failure),
		cmocka_unit_test(test_snapshot_changed),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_refused),
		cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_any_order),
	};
	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
