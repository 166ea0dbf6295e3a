/* The handover at the trainer as transcripts: what happens when, what is done, and where that leads. */
#include "tests/unit/job_util.h"

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

static void test_refused_at_once(void **state)
{
	(void)state;
	begin();
	PLAY({0, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {50, JOB_E_GRANT, 0, "another trainer has it", "persist report", JOB_DONE});
	assert_string_equal(job.reason, "another trainer has it");
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
		cmocka_unit_test(test_refused_at_once),
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
