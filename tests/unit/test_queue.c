/* Who comes in, and whose turn it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge-trainer/queue.h"

#define HOUR ((int64_t)3600 * 1000)

static struct queue q;

static int done(void **state)
{
	(void)state;
	queue_done(&q);
	return 0;
}

static void test_room(void **state)
{
	int64_t retry_ms = -1;

	(void)state;
	assert_int_equal(queue_init(&q, 2, 60, 1), 0);
	assert_int_equal(queue_room(&q, "a", true, 0, &retry_ms), 0);
	queue_set_in(&q, 1, 0);
	assert_int_equal(queue_room(&q, "a", true, 0, &retry_ms), 0);
	queue_set_in(&q, 2, 0);
	assert_int_equal(queue_room(&q, "a", true, 0, &retry_ms), -EBUSY);
	assert_int_equal(retry_ms, -1);
	assert_int_equal(queue_retry_ms(&q, "nobody", 0), QUEUE_JOB_GUESS_MS);
}

/* Whoever invents devices fills what is not kept; those that are known come in all the same. */
static void test_room_for_the_proven(void **state)
{
	int64_t retry_ms = 0;

	(void)state;
	assert_int_equal(queue_init(&q, 8, 60, 1), 0);
	queue_set_in(&q, 5, 5);
	assert_int_equal(queue_room(&q, "new", false, 0, &retry_ms), 0);
	queue_set_in(&q, 6, 6);
	assert_int_equal(queue_room(&q, "new", false, 0, &retry_ms), -EBUSY);
	assert_int_equal(queue_room(&q, "old", true, 0, &retry_ms), 0);
	queue_set_in(&q, 8, 6);
	assert_int_equal(queue_room(&q, "old", true, 0, &retry_ms), -EBUSY);
	/* Proven ones take no places from the others but by being there. */
	queue_set_in(&q, 7, 0);
	assert_int_equal(queue_room(&q, "new", false, 0, &retry_ms), 0);
	queue_done(&q);
	/* Too few to keep any. */
	assert_int_equal(queue_init(&q, 3, 60, 1), 0);
	queue_set_in(&q, 2, 2);
	assert_int_equal(queue_room(&q, "new", false, 0, &retry_ms), 0);
}

/* The estimate follows the length of jobs, the number of slots and the place in line. */
static void test_retry_estimate(void **state)
{
	int a, b, far;

	(void)state;
	assert_int_equal(queue_init(&q, 1, 60, 2), 0);
	for (int i = 0; i < 40; i++)
		queue_note(&q, 8000);
	assert_null(queue_offer(&q, &a, true, 0.5, 0, 1));
	assert_null(queue_offer(&q, &b, true, 0.5, 1, 1));
	assert_in_range(queue_retry_ms(&q, &a, 0), 4000, 4100);
	assert_in_range(queue_retry_ms(&q, &a, 1), 6000, 6150);
	assert_in_range(queue_retry_ms(&q, &b, 0), 8000, 8200);
	assert_in_range(queue_retry_ms(&q, &far, 0), 12000, 12300);
	for (int i = 0; i < 40; i++)
		queue_note(&q, 0);
	assert_int_equal(queue_retry_ms(&q, &a, 0), QUEUE_RETRY_MIN_MS);
	for (int i = 0; i < 40; i++)
		queue_note(&q, 100 * HOUR);
	assert_int_equal(queue_retry_ms(&q, &a, 1), QUEUE_RETRY_MAX_MS);
}

/* However short the jobs are: so many do not come back at once. */
static void test_spread(void **state)
{
	static int64_t stretch[20000];
	int64_t now = 5 * HOUR;

	(void)state;
	assert_int_equal(queue_init(&q, 1, 60, 1), 0);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 20000; i++)
			queue_sent_away(&q, &stretch[i], now + i);
	assert_int_equal(queue_spread_ms(&q, 0, 0), 20000 * 1000 / QUEUE_OFFERS_PER_S);
	assert_int_equal(queue_spread_ms(&q, 0, 0.5), 250000);
	assert_int_equal(queue_spread_ms(&q, 300000, 0.5), 375000);
	now += QUEUE_RETRY_MAX_MS; /* those count for one more stretch */
	queue_sent_away(&q, &stretch[0], now);
	assert_int_equal(queue_spread_ms(&q, 0, 0), 200000);
	now += QUEUE_RETRY_MAX_MS;
	queue_sent_away(&q, &stretch[0], now);
	assert_int_equal(queue_spread_ms(&q, 0, 0), QUEUE_RETRY_MIN_MS);
	queue_sent_away(&q, &stretch[0], now + 10 * HOUR);
	assert_int_equal(q.sent_away[0], 0);
}

static void test_gain(void **state)
{
	static const struct {
		double accuracy;
		unsigned served;
		double gain;
	} table[] = {
		{0, 0, 1},     {1, 0, 0},	{0.75, 0, 0.25}, {-1, 0, QUEUE_GAIN_UNKNOWN},
		{0, 1, 0.5},   {0.5, 3, 0.125}, {1.5, 0, 0},
	};
	(void)state;
	assert_int_equal(queue_init(&q, 10, 60, 1), 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char id[16];

		snprintf(id, sizeof(id), "d%zu", i);
		for (unsigned n = 0; n < table[i].served; n++)
			queue_serve(&q, id, 0);
		assert_float_equal(queue_gain(&q, id, table[i].accuracy, 0), table[i].gain, 1e-9);
	}
}

/* Offers in line: by gain, and by age; repeated, they keep their place. */
static void test_line(void **state)
{
	int good, bad, old, late;

	(void)state;
	assert_int_equal(queue_init(&q, 1, 60, 1), 0);
	assert_null(queue_offer_next(&q));
	queue_offer(&q, &good, true, 0.1, 1000, 5000);
	queue_offer(&q, &bad, true, 0.9, 1000, 5000);
	queue_offer(&q, &old, true, 0, 1000 - QUEUE_GAIN_MS, 5000);
	queue_offer(&q, &late, true, 1, 3000, 5000);
	queue_offer(&q, &bad, true, 0.9, 1000, 9000);
	queue_set_in(&q, 1, 0);
	assert_null(queue_offer_next(&q)); /* no room */
	queue_set_in(&q, 0, 0);
	assert_ptr_equal(queue_offer_next(&q), &old); /* nobody starves */
	assert_ptr_equal(queue_offer_next(&q), &late);
	assert_null(queue_offer_stale(&q, 4999));
	assert_ptr_equal(queue_offer_stale(&q, 5000), &good);
	assert_null(queue_offer_stale(&q, 5000));
	queue_offer_cancel(&q, &bad);
	assert_null(queue_offer_next(&q));
}

/* Room that is kept for proven devices goes to the first of those. */
static void test_line_of_strangers(void **state)
{
	int stranger, known;

	(void)state;
	assert_int_equal(queue_init(&q, 4, 60, 1), 0);
	queue_offer(&q, &stranger, false, 1, 0, 1);
	queue_offer(&q, &known, true, 0, 0, 1);
	queue_set_in(&q, 3, 3);
	assert_ptr_equal(queue_offer_next(&q), &known);
	assert_null(queue_offer_next(&q));
}

static void test_hour(void **state)
{
	int64_t retry_ms = 0, now = 7 * HOUR;

	(void)state;
	assert_int_equal(queue_init(&q, 10, 3, 1), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), 0);
		assert_int_equal(queue_serve(&q, "a", now), 0);
	}
	assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), -EDQUOT);
	assert_int_equal(retry_ms, QUEUE_RETRY_MAX_MS);
	assert_int_equal(queue_room(&q, "b", true, now, &retry_ms), 0);
	now += HOUR - QUEUE_WINDOW_MS;
	assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), -EDQUOT);
	assert_int_equal(retry_ms, QUEUE_WINDOW_MS);
	now += QUEUE_WINDOW_MS;
	assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), 0);
	assert_int_equal(queue_served(&q, "a", now), 0);
	assert_int_equal(q.served.n, 0); /* forgotten, not kept for ever */
}

/* A job of that device, of which half is right. */
static int wait_for_worker(void *job, const char *device, int64_t now)
{
	return queue_wait(&q, job, queue_gain(&q, device, 0.5, now), now);
}

static void test_turns(void **state)
{
	int a, a2, b, c;

	(void)state;
	assert_int_equal(queue_init(&q, 10, 60, 1), 0);
	assert_null(queue_next(&q));
	queue_serve(&q, "a", 0);
	queue_serve(&q, "a", 0);
	queue_serve(&q, "b", 0);
	assert_int_equal(wait_for_worker(&a, "a", 1), 0);
	assert_int_equal(wait_for_worker(&a, "a", 1), -EEXIST);
	assert_int_equal(wait_for_worker(&b, "b", 2), 0);
	assert_int_equal(wait_for_worker(&c, "c", 3), 0);
	assert_int_equal(wait_for_worker(&a2, "a", 4), 0);
	assert_ptr_equal(queue_next(&q), &c);
	assert_ptr_equal(queue_next(&q), &b);
	assert_ptr_equal(queue_next(&q), &a); /* among equals the oldest */
	queue_cancel(&q, &a);		      /* not there any more */
	queue_cancel(&q, &a2);
	assert_null(queue_next(&q));
}

/* Ten devices that come back at once and one that comes rarely: it never waits behind a second
 * helping. */
static void test_fairness(void **state)
{
	int jobs[11], served[11] = {0};
	char names[11][8];

	(void)state;
	assert_int_equal(queue_init(&q, 100, 60000, 1), 0);
	for (int i = 0; i < 11; i++)
		snprintf(names[i], sizeof(names[i]), "d%d", i);
	for (int i = 0; i < 10; i++)
		wait_for_worker(&jobs[i], names[i], 0);
	for (int turn = 1; turn <= 100; turn++) {
		int *job = queue_next(&q);
		int i = (int)(job - jobs);

		queue_serve(&q, names[i], turn);
		served[i]++;
		wait_for_worker(job, names[i], turn); /* back at once */
		if (turn == 50)
			wait_for_worker(&jobs[10], names[10], turn);
		if (turn == 51)
			assert_int_equal(i, 10);
	}
	for (int i = 0; i < 10; i++)
		assert_in_range(served[i], 7, 11);
}

static void test_limits(void **state)
{
	static char jobs[QUEUE_WAITING_MAX + 1];

	(void)state;
	assert_int_equal(queue_init(&q, 10, 60, 1), 0);
	for (int i = 0; i < QUEUE_WAITING_MAX; i++) {
		assert_int_equal(queue_wait(&q, &jobs[i], 0.5, i), 0);
		assert_null(queue_offer(&q, &jobs[i], true, 0.5, i, 1));
	}
	assert_int_equal(queue_wait(&q, &jobs[QUEUE_WAITING_MAX], 0.5, 0), -ENOSPC);
	for (int i = 0; i < QUEUE_WAITING_MAX; i++)
		assert_ptr_equal(queue_next(&q), &jobs[i]);
	/* Whose turn would come last leaves, or does not come in. */
	assert_ptr_equal(queue_offer(&q, &jobs[QUEUE_WAITING_MAX], true, 0, 0, 1),
			 &jobs[QUEUE_WAITING_MAX]);
	assert_ptr_equal(queue_offer(&q, &jobs[QUEUE_WAITING_MAX], true, 0.6, 0, 1),
			 &jobs[QUEUE_WAITING_MAX - 1]);
	assert_int_equal(q.offers.n, QUEUE_WAITING_MAX);
	assert_ptr_equal(queue_offer_next(&q), &jobs[QUEUE_WAITING_MAX]);
}

/* Strangers, who wait for room that they may not have, cannot fill the line: what is kept in it for
 * the proven leads to the room that is kept for them. */
static void test_line_for_the_proven(void **state)
{
	enum { STRANGERS = QUEUE_WAITING_MAX - QUEUE_WAITING_MAX / QUEUE_KEPT_PART };
	static char strangers[STRANGERS + 2], known[QUEUE_WAITING_MAX + 1 - STRANGERS];

	(void)state;
	assert_int_equal(queue_init(&q, 8, 60, 1), 0);
	queue_set_in(&q, 6, 6);
	for (int i = 0; i < STRANGERS; i++)
		assert_null(queue_offer(&q, &strangers[i], false, 1, i, 3 * HOUR));
	assert_ptr_equal(queue_offer(&q, &strangers[STRANGERS], false, 1, HOUR, 3 * HOUR),
			 &strangers[STRANGERS]);
	assert_null(queue_offer(&q, &known[0], true, 0, 2 * HOUR, 3 * HOUR));
	assert_ptr_equal(queue_offer(&q, &strangers[STRANGERS + 1], false, 1, 0, 3 * HOUR),
			 &strangers[STRANGERS - 1]);
	assert_ptr_equal(queue_offer_next(&q), &known[0]);
	assert_null(queue_offer_next(&q));
	/* Nor do the proven, late ones, push them out. */
	for (size_t i = 0; i < sizeof(known) - 1; i++)
		assert_null(queue_offer(&q, &known[i], true, 0, 2 * HOUR, 3 * HOUR));
	assert_ptr_equal(queue_offer(&q, &known[sizeof(known) - 1], true, 0, 2 * HOUR, 3 * HOUR),
			 &known[sizeof(known) - 1]);
}

static void test_many_devices(void **state)
{
	char id[16];

	(void)state;
	assert_int_equal(queue_init(&q, 10, 60, 1), 0);
	for (int i = 0; i < QUEUE_DEVICES_MAX; i++) {
		snprintf(id, sizeof(id), "d%d", i);
		assert_int_equal(queue_serve(&q, id, 0), 0);
	}
	assert_int_equal(queue_serve(&q, "one-more", 0), -ENOSPC);
	assert_int_equal(queue_serve(&q, "d77", 0), 0);
	assert_int_equal(queue_served(&q, "d77", 0), 2);
	assert_int_equal(queue_served(&q, "d77", 2 * HOUR), 0);
	assert_int_equal(queue_serve(&q, "one-more", 2 * HOUR), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_room, done),
		cmocka_unit_test_teardown(test_room_for_the_proven, done),
		cmocka_unit_test_teardown(test_retry_estimate, done),
		cmocka_unit_test_teardown(test_spread, done),
		cmocka_unit_test_teardown(test_gain, done),
		cmocka_unit_test_teardown(test_line, done),
		cmocka_unit_test_teardown(test_line_of_strangers, done),
		cmocka_unit_test_teardown(test_hour, done),
		cmocka_unit_test_teardown(test_turns, done),
		cmocka_unit_test_teardown(test_fairness, done),
		cmocka_unit_test_teardown(test_limits, done),
		cmocka_unit_test_teardown(test_line_for_the_proven, done),
		cmocka_unit_test_teardown(test_many_devices, done),
	};
	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
