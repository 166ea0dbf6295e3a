/* What is kept of a device's scores when there are more than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "device-agent/history.h"

static struct history h;

static int begin(void **state)
{
	memset(&h, 0, sizeof(h));
	return 0;
}

/* Points 1 to n, every `swaps`th of them a swap; 0: none is. */
static void fill(int64_t n, int64_t swaps)
{
	for (int64_t seq = 1; seq <= n; seq++) {
		struct history_point p = {
			.at_s = 1000 + seq, .n = 10, .swap = swaps && seq % swaps == 0};
		history_add(&h, seq, &p);
	}
}

static void assert_sound(int64_t last)
{
	assert_int_equal(h.n, MIN_OF(last, HISTORY_POINTS_MAX));
	assert_int_equal(h.seq[h.n - 1], last);
	for (size_t i = 0; i < h.n; i++) {
		assert_int_equal(h.at[i].at_s, 1000 + h.seq[i]);
		assert_true(i == 0 || h.seq[i] > h.seq[i - 1]);
	}
}

static size_t n_swaps(void)
{
	size_t n = 0;
	for (size_t i = 0; i < h.n; i++)
		n += h.at[i].swap;
	return n;
}

static int64_t largest_hole(void)
{
	int64_t most = h.seq[0];
	for (size_t i = 1; i < h.n; i++)
		most = MAX_OF(most, h.seq[i] - h.seq[i - 1]);
	return most;
}

static void test_kept(void **state)
{
	static const struct {
		int64_t n, swaps; /* reports; every so many is a swap */
		size_t swaps_kept;
		int64_t hole; /* between two that are kept, at most */
	} rows[] = {
		{1, 0, 0, 1},
		{256, 0, 0, 1},
		{257, 0, 0, 2},
		{256, 2, 128, 1},
		{400, 2, 200, 8}, /* each swap, and the rest of the places for the others */
		{512, 2, 256, 2}, /* only swaps are left, and the newest */
		{10000, 0, 0,
		 134}, /* 45 would be even; what was even is halved when it is too many */
		{10000, 100, 100, 200},
		{10000, 50, 200, 500},
		{10000, 1, 256,
		 134}, /* as many swaps as there are reports: thinned out like others */
		{100000, 1000, 100, 2000},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin(NULL);
		fill(rows[i].n, rows[i].swaps);
		assert_sound(rows[i].n);
		if (n_swaps() != rows[i].swaps_kept || largest_hole() > rows[i].hole)
			fail_msg("row %zu: %zu swaps, largest hole %lld", i, n_swaps(),
				 (long long)largest_hole());
	}
}

static void test_newest_stay(void **state)
{
	fill(10000, 100);
	for (size_t i = 1; i < HISTORY_NEWEST; i++)
		assert_int_equal(h.seq[h.n - 1 - i], 10000 - (int64_t)i);
}

static void test_point_of_report(void **state)
{
	struct msg_report r = {.seq = 7,
			       .origin = ORIGIN_BLEND,
			       .split = SPLIT_VALIDATION,
			       .score = {.n = 20, .correct = 15},
			       .has_decision = true,
			       .activated = true,
			       .epoch = 3,
			       .at_ms = 1732363200123};
	struct history_point p;
	memset(r.checkpoint, 'a', HASH_HEX);
	assert_true(history_point(&r, &p));
	assert_int_equal(p.at_s, 1732363200);
	assert_int_equal(p.epoch, 3);
	assert_int_equal(p.origin, ORIGIN_BLEND);
	assert_int_equal(p.n, 20);
	assert_int_equal(p.correct, 15);
	assert_true(p.swap);
	assert_string_equal(p.checkpoint, "aaaaaaaaaaaa");
	r.activated = false;
	assert_true(history_point(&r, &p) && !p.swap);
	r.activated = true;
	r.has_decision = false;
	assert_true(history_point(&r, &p) && !p.swap);
	r.score.n = 0;
	assert_false(history_point(&r, &p));
	r.score.n = 20;
	r.split = SPLIT_TEST;
	assert_false(history_point(&r, &p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_kept, begin),
		cmocka_unit_test_setup(test_newest_stay, begin),
		cmocka_unit_test(test_point_of_report),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
