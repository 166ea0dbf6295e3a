/* Claims, grants and leases: which claim a grant is for, when the lease ends, and what becomes of
 * those who promise and give nothing. */
#include "tests/unit/job_util.h"

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

/* Offers repeated without end, and never a grant: it ends all the same, and does not keep others
 * out while it lasts. */
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
	/* Renewals: 3 goes out at 22 s, 4 at 27 s. The answer to 3 is delayed by more than a
	 * quarter of the lease, and is not taken for one to 4. */
	PLAY({2200, JOB_E_BLOCK, 0, NULL, "", JOB_PULLING},
	     {22000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {27000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_PULLING},
	     {40000, JOB_E_GRANT, 5, NULL, "", JOB_PULLING, 3});
	assert_int_equal(job.deadline_ms, 22000 + LEASE - 3000);
	/* Twice, or of a claim that nobody made: no renewal. Older than what was answered: neither.
	 */
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

/* A device that names no claims: a grant is taken for the answer to the oldest unanswered claim,
 * unless that one is lost. */
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
	struct job_event e = {
		.kind = JOB_E_GRANT, .granted = true, .fence = 5, .lease_ms = 6000, .claim = 1};
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
	struct job_event e = {.kind = JOB_E_GRANT,
			      .granted = true,
			      .fence = 5,
			      .lease_ms = JOB_LEASE_MIN_MS - 1,
			      .claim = 1};
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_grant),        cmocka_unit_test(test_claiming_ends),
		cmocka_unit_test(test_renewal),         cmocka_unit_test(test_named_claim),
		cmocka_unit_test(test_claim_of_before), cmocka_unit_test(test_oldest_claim),
		cmocka_unit_test(test_late_grant),      cmocka_unit_test(test_short_lease),
		cmocka_unit_test(test_no_blocks),       cmocka_unit_test(test_lapse_without_blocks),
	};
	return cmocka_run_group_tests_name("job_claims", tests, NULL, NULL);
}
