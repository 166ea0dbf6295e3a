/* Results like those of x86-64 and no slow numbers, on every processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <pthread.h>

#include "common/engine/denormals.h"
#include "emulated.h"

/* What is left of the smallest normal number, halved and doubled. */
static float there_and_back(float v)
{
	volatile float half = v * 0.5f;
	return half * 2.0f;
}

static void *of_thread(void *ret)
{
	*(float *)ret = there_and_back(*(float *)ret);
	return NULL;
}

static void flushed_here_and_in_new_threads(void **state)
{
	volatile float least = FLT_MIN, below = FLT_MIN / 4;
	float in_thread = FLT_MIN;
	pthread_t t;
	if (under_valgrind()) /* has one rounding mode, and denormals */
		skip();
	assert_true(there_and_back(least) == FLT_MIN);
	denormals_off();
	assert_true(there_and_back(least) == 0);
	assert_true(below * 8 == 0); /* read as 0, too */
	assert_true(least * 4 == 4 * FLT_MIN);
	assert_int_equal(pthread_create(&t, NULL, of_thread, &in_thread), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_true(in_thread == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(flushed_here_and_in_new_threads)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
