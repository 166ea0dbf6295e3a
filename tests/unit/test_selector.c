/* Which checkpoint becomes active: strictly better on the very same images, else what is stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "device-agent/selector.h"

static struct candidate on(const char *snapshot, int64_t n, int64_t correct, double loss)
{
	return (struct candidate){"id", snapshot, {n, correct, loss}};
}

static void test_strictly_better_takes_over(void **state)
{
	struct candidate c[] = {on("s", 100, 80, 0.5), on("s", 100, 81, 9.9)};
	assert_int_equal(selector_best(c, 2, 0), 1);
	assert_true(selector_better(&c[1], &c[0]));
	assert_false(selector_better(&c[0], &c[1]));
}

static void test_tie_keeps_active(void **state)
{
	/* Whatever the loss says. */
	struct candidate c[] = {on("s", 100, 80, 2.0), on("s", 100, 80, 0.1)};
	assert_int_equal(selector_best(c, 2, 0), 0);
	assert_int_equal(selector_best(c, 2, 1), 1);
	assert_false(selector_better(&c[0], &c[1]));
}

static void test_other_images_say_nothing(void **state)
{
	struct candidate c[] = {on("s", 100, 10, 1), on("other", 100, 99, 1), on("s", 101, 99, 1)};
	assert_int_equal(selector_best(c, 3, 0), 0);
}

static void test_unscored_never_wins(void **state)
{
	struct candidate c[] = {on("s", 100, 0, 1), on("s", 0, 0, 0)};
	assert_int_equal(selector_best(c, 2, 0), 0);
	struct candidate unscored[] = {on("s", 0, 0, 0), on("s", 100, 1, 1)};
	/* Nor does anything beat an active one whose score is not known. */
	assert_int_equal(selector_best(unscored, 2, 0), 0);
}

static void test_first_one(void **state)
{
	struct candidate c[] = {on("s", 0, 0, 0), on("s", 100, 0, 3), on("s", 100, 5, 3)};
	assert_int_equal(selector_best(c, 2, -1), 1);
	assert_int_equal(selector_best(c, 3, -1), 2);
	assert_int_equal(selector_best(c, 1, -1), -1);
	assert_int_equal(selector_best(c, 0, -1), -1);
}

static void test_best_of_several(void **state)
{
	struct candidate c[] = {on("s", 100, 80, 1), on("s", 100, 85, 1), on("s", 100, 90, 1),
				on("s", 100, 90, 0.5), on("s", 100, 90, 0.5)};
	assert_int_equal(selector_best(c, 5, 0), 3); /* less loss, then the first */
	assert_int_equal(selector_best(c, 5, 2), 2); /* but not against what is active */
	assert_int_equal(selector_best(c, 5, 4), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strictly_better_takes_over),
		cmocka_unit_test(test_tie_keeps_active),
		cmocka_unit_test(test_other_images_say_nothing),
		cmocka_unit_test(test_unscored_never_wins),
		cmocka_unit_test(test_first_one),
		cmocka_unit_test(test_best_of_several),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
