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
	assert_int_equal(retry_ms, -1);
	queue_set_in(&q, 2, 0);
	assert_int_equal(queue_room(&q, "a", true, 0, &retry_ms), -EBUSY);
	assert_int_equal(retry_ms, QUEUE_JOB_GUESS_MS);
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
	assert_true(retry_ms > 0);
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

/* The estimate follows the length of jobs, the number of slots and what the device had. */
static void test_retry_estimate(void **state)
{
	int64_t first, later;

	(void)state;
	assert_int_equal(queue_init(&q, 1, 60, 2), 0);
	queue_set_in(&q, 1, 0);
	for (int i = 0; i < 40; i++)
		queue_note(&q, 8000);
	assert_int_equal(queue_room(&q, "a", true, 0, &first), -EBUSY);
	assert_in_range(first, 4000, 4100);
	queue_serve(&q, "b", 0);
	assert_int_equal(queue_room(&q, "b", true, 0, &later), -EBUSY);
	assert_true(later > first);
	for (int i = 0; i < 40; i++)
		queue_note(&q, 0);
	assert_int_equal(queue_room(&q, "a", true, 0, &first), -EBUSY);
	assert_int_equal(first, QUEUE_RETRY_MIN_MS);
	for (int i = 0; i < 40; i++)
		queue_note(&q, 100 * HOUR);
	assert_int_equal(queue_room(&q, "a", true, 0, &first), -EBUSY);
	assert_int_equal(first, QUEUE_RETRY_MAX_MS);
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
	assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), -EBUSY);
	assert_int_equal(retry_ms, QUEUE_RETRY_MAX_MS);
	assert_int_equal(queue_room(&q, "b", true, now, &retry_ms), 0);
	now += HOUR - QUEUE_WINDOW_MS;
	assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), -EBUSY);
	assert_int_equal(retry_ms, QUEUE_WINDOW_MS);
	now += QUEUE_WINDOW_MS;
	assert_int_equal(queue_room(&q, "a", true, now, &retry_ms), 0);
	assert_int_equal(queue_served(&q, "a", now), 0);
	assert_int_equal(q.served.n, 0); /* forgotten, not kept for ever */
}

static void test_turns(void **state)
{
	int a, a2, b, c;

	(void)state;
	assert_int_equal(queue_init(&q, 10, 60, 1), 0);
	assert_null(queue_next(&q, 0));
	queue_serve(&q, "a", 0);
	queue_serve(&q, "a", 0);
	queue_serve(&q, "b", 0);
	assert_int_equal(queue_wait(&q, &a, "a", 1), 0);
	assert_int_equal(queue_wait(&q, &a, "a", 1), -EEXIST);
	assert_int_equal(queue_wait(&q, &b, "b", 2), 0);
	assert_int_equal(queue_wait(&q, &c, "c", 3), 0);
	assert_int_equal(queue_wait(&q, &a2, "a", 4), 0);
	assert_ptr_equal(queue_next(&q, 5), &c);
	assert_ptr_equal(queue_next(&q, 5), &b);
	assert_ptr_equal(queue_next(&q, 5), &a); /* among equals the oldest */
	queue_cancel(&q, &a);			 /* not there any more */
	queue_cancel(&q, &a2);
	assert_null(queue_next(&q, 5));
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
		queue_wait(&q, &jobs[i], names[i], 0);
	for (int turn = 1; turn <= 100; turn++) {
		int *job = queue_next(&q, turn);
		int i = (int)(job - jobs);

		queue_serve(&q, names[i], turn);
		served[i]++;
		queue_wait(&q, job, names[i], turn); /* back at once */
		if (turn == 50)
			queue_wait(&q, &jobs[10], names[10], turn);
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
	for (int i = 0; i < QUEUE_WAITING_MAX; i++)
		assert_int_equal(queue_wait(&q, &jobs[i], "a", i), 0);
	assert_int_equal(queue_wait(&q, &jobs[QUEUE_WAITING_MAX], "a", 0), -ENOSPC);
	for (int i = 0; i < QUEUE_WAITING_MAX; i++)
		assert_ptr_equal(queue_next(&q, 0), &jobs[i]);
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
		cmocka_unit_test_teardown(test_hour, done),
		cmocka_unit_test_teardown(test_turns, done),
		cmocka_unit_test_teardown(test_fairness, done),
		cmocka_unit_test_teardown(test_limits, done),
		cmocka_unit_test_teardown(test_many_devices, done),
	};
	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
