/* Handovers whose checkpoints are merged, as transcripts: a device's job, which gathers, and a
 * window's own. In the rows' column after the kind: the fence, window or deadline; `claim` 1 in
 * RETURNED: the test images have changed. */
#include "tests/unit/job_util.h"

static const struct job_conf gathers = {
	.lease_max_ms = 120000, .epochs = 2, .claims = &numbers, .gathers = true, .mixes = true};

#define MERGED "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"

static void begin_member(void)
{
	struct manifest m = {.id = CHECKPOINT, .epoch = 7};

	numbers = 0;
	job_init(&job, &gathers, "cam-1", &m, 1);
}

static void begin_window(bool mixes)
{
	struct job_conf conf_now = gathers;
	struct manifest m = {.epoch = 3};

	conf_now.mixes = mixes;
	job_init_merged(&job, &conf_now, 12, &m, 1);
	assert_int_equal(job.state, JOB_LAPSED);
}

#define TO_GATHERED                                                                   \
	TO_QUEUED, {300, JOB_E_SLOT, 0, NULL, "persist report evaluate", JOB_BEFORE}, \
	{                                                                             \
		400, JOB_E_EVALUATED, 0, S1, "release persist report", JOB_GATHERED   \
	}

static void test_member(void **state)
{
	(void)state;
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_TAKEN, 12, NULL, "persist report", JOB_GATHERED},
	     /* renewed while it waits */
	     {20000, JOB_E_TIMER, 0, NULL, "claim:5", JOB_GATHERED},
	     {20100, JOB_E_GRANT, 5, NULL, "", JOB_GATHERED, 2},
	     {40000, JOB_E_RETURNED, 0, W2, "persist release persist report result", JOB_OFFERING},
	     {40100, JOB_E_RETURNED, 0, W1, "", JOB_OFFERING},
	     {40200, JOB_E_ACK, 5, "kept", "persist report over", JOB_DONE});
	assert_int_equal(job.window, 12);
	assert_int_equal(job.images_trained, 1000);
	assert_string_equal(job.partial, W2);
	assert_int_equal(job.epoch_done, 2);
	assert_int_equal(job.deadline_ms, -1);
}

/* Its lease runs out while the others' training goes on: what comes of it is kept, and is its
 * result when it is granted again, under the new fence, without another stroke of work. */
static void test_member_lapses(void **state)
{
	(void)state;
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_TAKEN, 12, NULL, "persist report", JOB_GATHERED},
	     {57000, JOB_E_TIMER, 0, NULL, "release persist report", JOB_LAPSED},
	     {58000, JOB_E_RETURNED, 0, W2, "persist", JOB_LAPSED},
	     {60000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {60100, JOB_E_GRANT, 6, NULL, "persist granted persist report result", JOB_OFFERING});
	/* Before the window is done: it waits for it again. */
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_TAKEN, 12, NULL, "persist report", JOB_GATHERED},
	     {57000, JOB_E_TIMER, 0, NULL, "release persist report", JOB_LAPSED},
	     {60000, JOB_E_OFFER, 0, NULL, "claim:0", JOB_CLAIMING},
	     {60100, JOB_E_GRANT, 6, NULL, "persist granted persist report", JOB_GATHERED});
	assert_int_equal(job.window, 12);
	PLAY({61000, JOB_E_RETURNED, 0, W2, "persist release persist report result", JOB_OFFERING});
	assert_int_equal(job.fence, 6);
}

/* The edge's test images changed since it was scored: scored again, on those of the result. */
static void test_other_test_images(void **state)
{
	(void)state;
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_TAKEN, 12, NULL, "persist report", JOB_GATHERED},
	     {600, JOB_E_RETURNED, 0, W2, "persist persist report enqueue", JOB_QUEUED, 1},
	     {700, JOB_E_SLOT, 0, NULL, "persist report evaluate", JOB_BEFORE},
	     {800, JOB_E_EVALUATED, 0, S2, "release persist report result", JOB_OFFERING});
}

static void test_left_out(void **state)
{
	(void)state;
	begin_member();
	PLAY(TO_GATHERED,
	     {500, JOB_E_SCREENED, 0, "no good", "release persist report give-back", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_SCREENED);
	/* Its window came to nothing. */
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_TAKEN, 12, NULL, "persist report", JOB_GATHERED},
	     {900, JOB_E_BAD, 0, "diverged", "release persist report give-back", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
	/* Neither means anything to one that is not gathered. */
	begin_member();
	PLAY(TO_QUEUED, {250, JOB_E_SCREENED, 0, "no good", "", JOB_QUEUED},
	     {260, JOB_E_TAKEN, 12, NULL, "", JOB_QUEUED},
	     {270, JOB_E_BAD, 0, "diverged", "", JOB_QUEUED});
	assert_int_equal(job.window, 0);
}

static void test_no_member_of(void **state)
{
	(void)state;
	begin(); /* the strategy is resume */
	PLAY(TO_OFFERING);
	/* A device's job does not take a window's events for its own. */
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_MEMBER, 90000, NULL, "", JOB_GATHERED},
	     {510, JOB_E_ORPHANED, 0, NULL, "", JOB_GATHERED},
	     {520, JOB_E_DELIVERED, 0, NULL, "", JOB_GATHERED},
	     {530, JOB_E_MERGED, 0, MERGED, "", JOB_GATHERED});
	assert_string_equal(job.manifest.id, CHECKPOINT);
}

#define TO_MERGED                                                                             \
	{0, JOB_E_MEMBER, 57000, NULL, "persist report enqueue", JOB_QUEUED},                 \
		{100, JOB_E_SLOT, 0, NULL, "persist report merge", JOB_MERGING},              \
		{200, JOB_E_MERGED, 0, MERGED, "persist report evaluate", JOB_BEFORE},        \
	{                                                                                     \
		300, JOB_E_EVALUATED, 0, S1, "persist report run-open:12 train", JOB_TRAINING \
	}

static void test_window(void **state)
{
	(void)state;
	begin_window(true);
	PLAY(TO_MERGED, {400, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {500, JOB_E_MEMBER, 60000, NULL, "run-extend", JOB_TRAINING},
	     {510, JOB_E_MEMBER, 58000, NULL, "", JOB_TRAINING}, /* that one ends earlier */
	     {600, JOB_E_EPOCH, 0, W2, "run-close persist report merge", JOB_MIXING},
	     {700, JOB_E_MERGED, 0, W1, "persist report evaluate", JOB_AFTER},
	     {800, JOB_E_EVALUATED, 0, S1, "release persist report", JOB_OFFERING},
	     {900, JOB_E_CONNECTED, 0, NULL, "", JOB_OFFERING},
	     {900, JOB_E_DELIVERED, 0, NULL, "persist report", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_MERGED);
	assert_string_equal(job.manifest.id, MERGED);
	assert_string_equal(job.partial, W1);
	assert_int_equal(job_next_ms(&job), -1);
	begin_window(false);
	PLAY(TO_MERGED, {400, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {600, JOB_E_EPOCH, 0, W2, "run-close persist report evaluate", JOB_AFTER});
}

/* It claims nothing, and ends with the last of its members' leases; with the next one, it goes on.
 */
static void test_window_without_members(void **state)
{
	(void)state;
	begin_window(false);
	PLAY(TO_MERGED, {400, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {20000, JOB_E_TIMER, 0, NULL, "", JOB_TRAINING},
	     {57000, JOB_E_TIMER, 0, NULL, "run-close release persist report", JOB_LAPSED},
	     {57100, JOB_E_MEMBER, 57050, NULL, "", JOB_LAPSED}, /* over by now */
	     {58000, JOB_E_MEMBER, 100000, NULL, "persist report enqueue", JOB_QUEUED},
	     {58100, JOB_E_SLOT, 0, NULL, "persist report run-open:12 train", JOB_TRAINING},
	     {58200, JOB_E_ORPHANED, 0, NULL, "run-close release persist report", JOB_LAPSED},
	     {58300, JOB_E_ORPHANED, 0, NULL, "", JOB_LAPSED});
	assert_int_equal(job.epoch_done, 1);
	assert_int_equal(job_next_ms(&job), 58200 + JOB_LAPSED_KEEP_MS);
	PLAY({58200 + JOB_LAPSED_KEEP_MS, JOB_E_TIMER, 0, NULL, "persist report", JOB_DONE});
	assert_int_equal(job.outcome, JOB_O_DROPPED);
}

static void test_window_fails(void **state)
{
	int64_t now_ms = 100;

	(void)state;
	begin_window(false);
	PLAY({0, JOB_E_MEMBER, 10000000, NULL, "persist report enqueue", JOB_QUEUED});
	for (int i = 0; i < JOB_FAILURES_MAX; i++) {
		PLAY({now_ms, JOB_E_SLOT, 0, NULL, "persist report merge", JOB_MERGING},
		     {now_ms, JOB_E_FAILED, 0, "the worker died", "release persist report",
		      JOB_QUEUED});
		now_ms = job_next_ms(&job);
		PLAY({now_ms, JOB_E_TIMER, 0, NULL, "enqueue", JOB_QUEUED});
	}
	PLAY({now_ms, JOB_E_SLOT, 0, NULL, "persist report merge", JOB_MERGING},
	     {now_ms, JOB_E_FAILED, 0, "the worker died", "release persist report", JOB_DONE});
	assert_string_equal(job.reason, "the worker died");
	/* Diverged at once: nothing comes of it. Later: what the epochs before it made. */
	begin_window(false);
	PLAY(TO_MERGED,
	     {400, JOB_E_DIVERGED, 0, "not finite", "run-close release persist report", JOB_DONE});
	begin_window(false);
	PLAY(TO_MERGED, {400, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING},
	     {500, JOB_E_DIVERGED, 0, "not finite", "run-close persist report evaluate",
	      JOB_AFTER});
}

/* After a restart it waits for a member whose grant is confirmed. */
static void test_restart(void **state)
{
	(void)state;
	begin_window(true);
	PLAY(TO_MERGED, {400, JOB_E_EPOCH, 0, W1, "persist report train", JOB_TRAINING});
	job_restore(&job, &gathers, 1000, 1);
	PLAY({1000, JOB_E_RESTORED, 0, NULL, "", JOB_LAPSED},
	     {2000, JOB_E_MEMBER, 90000, NULL, "persist report enqueue", JOB_QUEUED},
	     {2100, JOB_E_SLOT, 0, NULL, "persist report run-open:12 train", JOB_TRAINING},
	     {2200, JOB_E_EPOCH, 0, W2, "run-close persist report merge", JOB_MIXING},
	     {2300, JOB_E_MERGED, 0, W1, "persist report evaluate", JOB_AFTER});
	job_restore(&job, &gathers, 3000, 1); /* it is not mixed twice */
	PLAY({3100, JOB_E_MEMBER, 90000, NULL, "persist report enqueue", JOB_QUEUED},
	     {3200, JOB_E_SLOT, 0, NULL, "persist report evaluate", JOB_AFTER});
	begin_member();
	PLAY(TO_GATHERED, {500, JOB_E_TAKEN, 12, NULL, "persist report", JOB_GATHERED});
	job_restore(&job, &gathers, 1000, 1);
	numbers = 40;
	PLAY({1000, JOB_E_RESTORED, 0, NULL, "claim:5", JOB_CLAIMING},
	     {1100, JOB_E_GRANT, 5, NULL, "persist report", JOB_GATHERED});
	assert_int_equal(job.window, 12);
}

/* Whatever comes in whatever order: no more than its kind may do. */
static void test_anything(void **state)
{
	struct rng rng;

	(void)state;
	rng_init(&rng, 7);
	for (int round = 0; round < 400; round++) {
		int64_t now_ms = 0;

		if (round % 2)
			begin_member();
		else
			begin_window(round % 4 == 0);
		for (int i = 0; i < 100; i++) {
			struct row r = {.kind = (enum job_event_kind)rng_below(&rng, JOB_E_N),
					.fence = (int64_t)rng_below(&rng, 20),
					.hash = rng_below(&rng, 2) ? W1 : W2};
			struct job_actions out;

			now_ms += (int64_t)rng_below(&rng, 20000);
			r.at_ms = now_ms;
			if (r.kind == JOB_E_EVALUATED)
				r.hash = rng_below(&rng, 2) ? S1 : S2;
			if (r.kind == JOB_E_MEMBER)
				r.fence = now_ms + (int64_t)rng_below(&rng, 60000) - 10000;
			if (job_is_merged(&job) && (r.kind == JOB_E_GRANT || r.kind == JOB_E_OFFER))
				continue; /* nobody offers or grants it anything */
			step(&r, &out);
			for (unsigned k = 0; k < out.n; k++)
				if (job_is_merged(&job))
					assert_true(out.a[k].kind != JOB_A_CLAIM &&
						    out.a[k].kind != JOB_A_RESULT &&
						    out.a[k].kind != JOB_A_GIVE_BACK &&
						    out.a[k].kind != JOB_A_PULL);
				else
					assert_true(out.a[k].kind != JOB_A_TRAIN &&
						    out.a[k].kind != JOB_A_MERGE);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_member),
		cmocka_unit_test(test_member_lapses),
		cmocka_unit_test(test_other_test_images),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_no_member_of),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_without_members),
		cmocka_unit_test(test_window_fails),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_anything),
	};

	return cmocka_run_group_tests_name("test_job_merge", tests, NULL, NULL);
}
