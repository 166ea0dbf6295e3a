/* Who gets a checkpoint for everyone first, and what becomes of it after their reports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/protocol/message.h"
#include "edge-trainer/rollout.h"

#define HOUR 3600000

static const struct rollout_conf conf = {
	.share = 10, .reports = 3, .wait_ms = HOUR, .tolerance = 0.01};

struct at {
	int64_t ms;
	enum rollout_event_kind kind;
	double gain;
	enum rollout_action expected;
};

static const struct {
	const char *name;
	int64_t share;
	struct at at[8];
	enum rollout_phase phase;
	int64_t reports;
} rows[] = {
	{"everyone at once",
	 100,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, -0.5, ROLLOUT_NOTHING},
	  {2 * HOUR, ROLLOUT_EV_TIMER, 0, ROLLOUT_NOTHING}},
	 ROLLOUT_REST,
	 0},
	{"better",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, 0.1, ROLLOUT_NOTHING},
	  {2, ROLLOUT_EV_REPORT, -0.05, ROLLOUT_NOTHING},
	  {3, ROLLOUT_EV_REPORT, 0, ROLLOUT_WIDEN},
	  {4, ROLLOUT_EV_REPORT, -1, ROLLOUT_NOTHING}},
	 ROLLOUT_REST,
	 3},
	{"as good",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, 0, ROLLOUT_NOTHING},
	  {2, ROLLOUT_EV_REPORT, 0, ROLLOUT_NOTHING},
	  {3, ROLLOUT_EV_REPORT, 0, ROLLOUT_WIDEN}},
	 ROLLOUT_REST,
	 3},
	{"within the tolerance",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, -0.015, ROLLOUT_NOTHING},
	  {2, ROLLOUT_EV_REPORT, 0, ROLLOUT_NOTHING},
	  {3, ROLLOUT_EV_REPORT, -0.014, ROLLOUT_WIDEN}},
	 ROLLOUT_REST,
	 3},
	{"worse",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, 0.01, ROLLOUT_NOTHING},
	  {2, ROLLOUT_EV_REPORT, -0.1, ROLLOUT_NOTHING},
	  {3, ROLLOUT_EV_REPORT, 0, ROLLOUT_HALT},
	  {4, ROLLOUT_EV_REPORT, 1, ROLLOUT_NOTHING},
	  {2 * HOUR, ROLLOUT_EV_TIMER, 0, ROLLOUT_NOTHING}},
	 ROLLOUT_HALTED,
	 3},
	{"too few in time",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, 1, ROLLOUT_NOTHING},
	  {HOUR - 1, ROLLOUT_EV_TIMER, 0, ROLLOUT_NOTHING},
	  {HOUR, ROLLOUT_EV_TIMER, 0, ROLLOUT_HALT}},
	 ROLLOUT_HALTED,
	 1},
	{"another one begins anew",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, 1, ROLLOUT_NOTHING},
	  {2, ROLLOUT_EV_REPORT, 1, ROLLOUT_NOTHING},
	  {HOUR / 2, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {HOUR, ROLLOUT_EV_TIMER, 0, ROLLOUT_NOTHING},
	  {HOUR, ROLLOUT_EV_REPORT, 1, ROLLOUT_NOTHING}},
	 ROLLOUT_FIRST,
	 1},
	{"an operator goes on",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_REPORT, -1, ROLLOUT_NOTHING},
	  {2, ROLLOUT_EV_NEXT, 0, ROLLOUT_WIDEN},
	  {3, ROLLOUT_EV_NEXT, 0, ROLLOUT_NOTHING},
	  {4, ROLLOUT_EV_REPORT, -1, ROLLOUT_NOTHING},
	  {2 * HOUR, ROLLOUT_EV_TIMER, 0, ROLLOUT_NOTHING}},
	 ROLLOUT_REST,
	 1},
	{"an operator halts the first",
	 10,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_HALT, 0, ROLLOUT_HALT},
	  {2, ROLLOUT_EV_HALT, 0, ROLLOUT_NOTHING},
	  {3, ROLLOUT_EV_NEXT, 0, ROLLOUT_NOTHING},
	  {4, ROLLOUT_EV_REPORT, 1, ROLLOUT_NOTHING},
	  {5, ROLLOUT_EV_TIMER, 0, ROLLOUT_NOTHING}},
	 ROLLOUT_HALTED,
	 0},
	{"an operator halts the rest",
	 100,
	 {{0, ROLLOUT_EV_BEGIN, 0, ROLLOUT_OFFER},
	  {1, ROLLOUT_EV_HALT, 0, ROLLOUT_HALT}},
	 ROLLOUT_HALTED,
	 0},
};

static void test_steps(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rollout r = {0};

		for (size_t k = 0; k < ARRAY_LEN(rows[i].at); k++) {
			const struct at *a = &rows[i].at[k];
			struct rollout_event ev = {a->kind, rows[i].share, a->gain, a->gain > 0};

			if (k > 0 && a->ms == 0)
				break;
			if (rollout_step(&r, &conf, &ev, a->ms) != a->expected)
				fail_msg("%s: step %zu", rows[i].name, k);
		}
		if (r.phase != rows[i].phase || r.reports != rows[i].reports)
			fail_msg("%s: %s after %lld reports", rows[i].name,
				 rollout_phase_name(r.phase), (long long)r.reports);
		assert_int_equal(r.share, r.phase == ROLLOUT_REST ? 100 : rows[i].share);
		assert_int_equal(rollout_next_ms(&r, &conf) >= 0, r.phase == ROLLOUT_FIRST);
	}
}

static void test_nothing_begun(void **state)
{
	struct rollout r = {0};
	struct rollout_event ev = {.kind = ROLLOUT_EV_REPORT};

	for (ev.kind = ROLLOUT_EV_REPORT; ev.kind <= ROLLOUT_EV_HALT; ev.kind++)
		assert_int_equal(rollout_step(&r, &conf, &ev, 0), ROLLOUT_NOTHING);
	assert_int_equal(r.reports, 0);
	assert_int_equal(r.phase, ROLLOUT_NONE);
}

static void test_share(void **state)
{
	int64_t n[100] = {0};

	assert_int_equal(rollout_share(&conf, n), 100); /* an empty fleet */
	n[50] = 2;
	assert_int_equal(rollout_share(&conf, n), 100); /* fewer than reports are needed */
	n[60] = 1;
	assert_int_equal(rollout_share(&conf, n), 61);
	for (size_t i = 0; i < 100; i++)
		n[i] = 1;
	assert_int_equal(rollout_share(&conf, n), 10);
	n[0] = 50;
	assert_int_equal(rollout_share(&conf, n), 10);
}

/* Another agent must come to the same. */
static void test_places(void **state)
{
	int64_t n[100] = {0};
	char id[32];

	for (int i = 0; i < 20000; i++) {
		snprintf(id, sizeof(id), "cam-%d", i);
		n[fleet_place(id, 7)]++;
	}
	for (size_t i = 0; i < 100; i++)
		assert_in_range(n[i], 130, 280);
	assert_int_equal(fleet_place("cam-1", 7), 0xeaf870ec % 100);
	assert_int_equal(fleet_place("cam-1", 8), 0xf144a86e % 100);
	assert_false(fleet_has("cam-1", 7, 0xeaf870ec % 100));
	assert_true(fleet_has("cam-1", 7, 0xeaf870ec % 100 + 1));
	assert_true(fleet_has("cam-1", 7, 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_nothing_begun),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_places),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
