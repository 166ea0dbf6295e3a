/* When a device is in quarantine, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "edge-trainer/standing.h"

#define T0   ((int64_t)1795000000000)
#define HOUR ((int64_t)3600000)
#define DAY  (24 * HOUR)

static void test_refusals(void **state)
{
	struct standing s = {.delta = -1};

	(void)state;
	assert_false(standing_refused(&s, "a", T0));
	assert_false(standing_refused(&s, "b", T0 + HOUR));
	assert_int_equal(standing_left_ms(&s, T0 + HOUR), 0);
	assert_true(standing_refused(&s, "c", T0 + 2 * HOUR));
	assert_string_equal(s.why, "c");
	assert_int_equal(standing_left_ms(&s, T0 + 2 * HOUR), STANDING_FIRST_MS);
	assert_int_equal(standing_left_ms(&s, T0 + 2 * HOUR + STANDING_FIRST_MS), 0);
	/* Within a day of the first; else they count anew. */
	s = (struct standing){.delta = -1};
	assert_false(standing_refused(&s, "a", T0));
	assert_false(standing_refused(&s, "b", T0 + 1));
	assert_false(standing_refused(&s, "c", T0 + DAY + 1));
	assert_false(standing_refused(&s, "c", T0 + DAY + 2));
	assert_true(standing_refused(&s, "c", T0 + DAY + 3));
}

static int64_t next_one(struct standing *s, int64_t now_ms)
{
	for (int i = 1; i < STANDING_REFUSALS; i++)
		assert_false(standing_refused(s, "x", now_ms));
	assert_true(standing_refused(s, "x", now_ms));
	return standing_left_ms(s, now_ms);
}

static void test_doubles(void **state)
{
	struct standing s = {.delta = -1};
	int64_t now_ms = T0, ms = 0;

	(void)state;
	for (int i = 0; i < 12; i++) {
		ms = next_one(&s, now_ms);
		assert_int_equal(ms, MIN_OF(STANDING_FIRST_MS << i, STANDING_CAP_MS));
		now_ms = s.until_ms + DAY;
	}
	assert_int_equal(ms, STANDING_CAP_MS);
	assert_int_equal(next_one(&s, s.until_ms + STANDING_FORGET_MS + 1), STANDING_FIRST_MS);
}

static void test_clock(void **state)
{
	struct standing s = {.delta = -1};

	(void)state;
	next_one(&s, T0);
	/* Set back: no longer than it was to be. Set forward: over. */
	assert_int_equal(standing_left_ms(&s, 0), STANDING_FIRST_MS);
	assert_int_equal(standing_left_ms(&s, T0 + DAY), 0);
	assert_false(standing_refused(&s, "x", 5));
	assert_int_equal(s.first_ms, 5);
}

static void test_release(void **state)
{
	struct standing s = {.delta = -1};

	(void)state;
	assert_false(standing_release(&s, T0));
	next_one(&s, T0);
	assert_true(standing_release(&s, T0 + 1));
	assert_int_equal(standing_left_ms(&s, T0 + 1), 0);
	assert_false(standing_release(&s, T0 + 2));
	next_one(&s, T0 + 3);
	assert_true(standing_release(&s, T0 - 7)); /* by a clock that was set back */
	assert_int_equal(standing_left_ms(&s, T0 - 7), 0);
	assert_int_equal(standing_left_ms(&s, T0), 0);
	/* It counts all the same. */
	assert_int_equal(next_one(&s, T0 + 4), 4 * STANDING_FIRST_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_doubles),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_release),
	};

	return cmocka_run_group_tests_name("test_standing", tests, NULL, NULL);
}
