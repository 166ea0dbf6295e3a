/* What the worker does next, and when a handover is due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"
#include "device-agent/rounds.h"

static struct rounds r;
static struct agent_live c;
static int64_t wake;
static const struct rounds_view ready = {.n_train = 100};

static int setup(void **state)
{
	memset(&r, 0, sizeof(r));
	c = (struct agent_live){
		.round_epochs = 2, .every_epochs = 3, .min_epochs = 1, .rescan_s = 10};
	rounds_restart(&r, 0);
	return 0;
}

static enum rounds_todo next(int64_t now_ms)
{
	return rounds_next(&r, &c, &ready, now_ms, &wake);
}

/* An epoch as the agent does it: look for images, train. */
static void epoch(int64_t now_ms)
{
	if (next(now_ms) == ROUNDS_RESCAN)
		rounds_scanned(&r, &c, "a", now_ms);
	assert_int_equal(next(now_ms), ROUNDS_TRAIN);
	rounds_trained(&r, &c, 100, "a", now_ms);
}

static void test_looks_before_each_epoch(void **state)
{
	assert_int_equal(next(0), ROUNDS_TRAIN); /* just read */
	rounds_trained(&r, &c, 100, "a", 50);
	assert_int_equal(next(50), ROUNDS_RESCAN);
	rounds_scanned(&r, &c, "a", 51);
	assert_int_equal(next(51), ROUNDS_TRAIN);
	c.rescan_s = 0;
	rounds_trained(&r, &c, 200, "a", 60);
	assert_int_equal(next(60), ROUNDS_TRAIN);
	assert_int_equal(r.epoch, 2);
	assert_int_equal(r.images_seen, 300);
}

static void test_pause_between_rounds(void **state)
{
	c.round_pause_s = 5;
	epoch(0);
	epoch(1000);
	assert_int_equal(r.rounds_done, 1);
	assert_int_equal(next(1000), ROUNDS_WAIT);
	assert_int_equal(wake, 6000);
	assert_int_equal(next(5999), ROUNDS_WAIT);
	assert_int_equal(next(6000), ROUNDS_RESCAN);
	rounds_scanned(&r, &c, "a", 6000);
	assert_int_equal(next(6000), ROUNDS_TRAIN);
	/* A long pause does not keep from looking for images. */
	setup(NULL);
	c.round_pause_s = 100;
	epoch(0);
	epoch(0);
	rounds_scanned(&r, &c, "a", 0);
	assert_int_equal(next(1), ROUNDS_WAIT);
	assert_int_equal(wake, 10000);
	assert_int_equal(next(10000), ROUNDS_RESCAN);
}

static void test_rounds_end(void **state)
{
	c.rounds = 2;
	for (int i = 0; i < 4; i++)
		epoch(i);
	assert_int_equal(next(5), ROUNDS_IDLE);
	assert_true(wake > 5 && wake <= 10005);
	assert_int_equal(next(wake), ROUNDS_RESCAN);
	rounds_scanned(&r, &c, "a", wake);
	assert_int_equal(next(wake + 1), ROUNDS_IDLE);
	/* New images begin one round. */
	rounds_scanned(&r, &c, "b", 30000);
	assert_int_equal(next(30000), ROUNDS_TRAIN);
	rounds_trained(&r, &c, 500, "b", 30001);
	rounds_scanned(&r, &c, "b", 30002);
	rounds_trained(&r, &c, 600, "b", 30003);
	rounds_scanned(&r, &c, "b", 30004);
	assert_int_equal(next(30005), ROUNDS_IDLE);
	assert_int_equal(r.epoch, 6);
}

static void test_new_images_while_away(void **state)
{
	c.rounds = 1;
	epoch(0);
	epoch(0);
	struct rounds kept = r;
	rounds_restart(&kept, 0);
	r = kept;
	rounds_scanned(&r, &c, "a", 0);
	assert_int_equal(next(1), ROUNDS_IDLE);
	rounds_scanned(&r, &c, "more", 2);
	assert_int_equal(next(3), ROUNDS_TRAIN);
}

static void test_round_goes_on_after_restart(void **state)
{
	c.rounds = 1;
	epoch(0);
	rounds_restart(&r, 0);
	rounds_scanned(&r, &c, "a", 0);
	assert_int_equal(next(0), ROUNDS_TRAIN);
	rounds_trained(&r, &c, 200, "a", 0);
	rounds_scanned(&r, &c, "a", 0);
	assert_int_equal(next(0), ROUNDS_IDLE);
}

static void test_pause_and_no_images(void **state)
{
	struct rounds_view v = {.paused = true, .n_train = 100};
	assert_int_equal(rounds_next(&r, &c, &v, 99999999, &wake), ROUNDS_PAUSED);
	assert_int_equal(wake, -1);
	v = (struct rounds_view){.n_train = 0};
	assert_int_equal(rounds_next(&r, &c, &v, 1, &wake), ROUNDS_IDLE);
	assert_int_equal(wake, 10000);
	assert_int_equal(rounds_next(&r, &c, &v, 10000, &wake), ROUNDS_RESCAN);
	c.rescan_s = 0;
	assert_int_equal(rounds_next(&r, &c, &v, 10000, &wake), ROUNDS_IDLE);
	assert_int_equal(wake, -1);
}

static void test_ordered_round(void **state)
{
	c.rounds = 1;
	epoch(0);
	epoch(0);
	rounds_scanned(&r, &c, "a", 0);
	assert_int_equal(next(0), ROUNDS_IDLE);
	assert_int_equal(rounds_order(&r, &c, 0), 2);
	assert_int_equal(rounds_order(&r, &c, 3), 3);
	epoch(0);
	epoch(0);
	epoch(0);
	rounds_scanned(&r, &c, "a", 0);
	assert_int_equal(next(0), ROUNDS_IDLE);
}

static void test_offer_every(void **state)
{
	c.min_epochs = 4;
	assert_false(rounds_offer_due(&r, &c));
	for (int i = 0; i < 3; i++)
		epoch(0);
	assert_false(rounds_offer_due(&r, &c)); /* min_epochs */
	epoch(0);
	assert_true(rounds_offer_due(&r, &c));
	rounds_offered(&r, 4);
	assert_false(rounds_offer_due(&r, &c));
	epoch(0);
	epoch(0);
	assert_false(rounds_offer_due(&r, &c));
	epoch(0);
	assert_true(rounds_offer_due(&r, &c));
	c.every_epochs = 0;
	assert_false(rounds_offer_due(&r, &c));
}

static void test_offer_ordered(void **state)
{
	c.every_epochs = 0;
	c.min_epochs = 100;
	r.offer_ordered = true;
	assert_false(rounds_offer_due(&r, &c)); /* there is nothing yet */
	epoch(0);
	assert_true(rounds_offer_due(&r, &c));
	rounds_offered(&r, 1);
	assert_false(rounds_offer_due(&r, &c));
}

static void scored(int64_t correct, const char *snapshot)
{
	struct score s = {.n = 100, .correct = correct};
	epoch(0);
	rounds_scored(&r, &s, snapshot);
}

static void test_offer_on_plateau(void **state)
{
	c.every_epochs = 0;
	c.plateau_epochs = 2;
	scored(50, "v");
	scored(60, "v");
	scored(60, "v");
	assert_false(rounds_offer_due(&r, &c));
	scored(59, "v");
	assert_true(rounds_offer_due(&r, &c));
	rounds_offered(&r, 4);
	assert_false(rounds_offer_due(&r, &c));
	scored(60, "v");
	assert_false(rounds_offer_due(&r, &c));
	/* Other validation images: nothing is known of a plateau on them. */
	scored(10, "w");
	scored(10, "w");
	assert_false(rounds_offer_due(&r, &c));
	scored(10, "w");
	assert_true(rounds_offer_due(&r, &c));
}

/* The paper hands over when validation has reached 43 %. */
static void test_offer_from_an_accuracy_on(void **state)
{
	static const struct {
		int64_t correct, n;
		bool due;
	} table[] = {
		{42, 100, false}, {429, 1000, false}, {43, 100, true}, {3, 7, false}, {4, 7, true},
		{29, 100, false}, {100, 100, true},   {0, 0, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct score s = {.n = table[i].n, .correct = table[i].correct};
		setup(NULL);
		c.every_epochs = 1;
		c.min_accuracy_percent = 43;
		epoch(0);
		assert_false(rounds_offer_due(&r, &c)); /* nothing is known yet */
		rounds_scored(&r, &s, "v");
		if (rounds_offer_due(&r, &c) != table[i].due)
			fail_msg("%d of %d", (int)s.correct, (int)s.n);
		/* Once is enough, on whatever images; and what is less before it changes nothing. */
		scored(10, "w");
		assert_int_equal(rounds_offer_due(&r, &c), table[i].due);
		scored(44, "w");
		assert_true(rounds_offer_due(&r, &c));
	}
	setup(NULL);
	c.min_accuracy_percent = 43;
	epoch(0);
	r.offer_ordered = true;
	assert_true(rounds_offer_due(&r, &c)); /* a person is not held up */
}

/* What was adopted is trained on before it is offered again. */
static void test_adopted(void **state)
{
	struct score s = {.n = 100, .correct = 90};
	c.every_epochs = 1;
	epoch(0);
	rounds_offered(&r, 1);
	epoch(0);
	assert_true(rounds_offer_due(&r, &c));
	rounds_adopted(&r, &s, "v");
	assert_false(rounds_offer_due(&r, &c));
	assert_int_equal(r.epoch, 2); /* goes on */
	assert_int_equal(r.best.correct, 90);
	assert_int_equal(r.best_epoch, 2);
	epoch(0);
	assert_true(rounds_offer_due(&r, &c));
	c.every_epochs = 0;
	c.plateau_epochs = 2;
	assert_false(rounds_offer_due(&r, &c)); /* one epoch below what was adopted */
	epoch(0);
	assert_true(rounds_offer_due(&r, &c));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(test_looks_before_each_epoch),
		T(test_pause_between_rounds),
		T(test_rounds_end),
		T(test_new_images_while_away),
		T(test_round_goes_on_after_restart),
		T(test_pause_and_no_images),
		T(test_ordered_round),
		T(test_offer_every),
		T(test_offer_ordered),
		T(test_offer_on_plateau),
		T(test_offer_from_an_accuracy_on),
		T(test_adopted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
