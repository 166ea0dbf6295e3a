/* Which worker serves and which loads, by tables; and that any order of events keeps what must
 * hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "libtasuki/lanes.h"

struct row {
	int64_t at_ms;
	enum lanes_event_kind kind;
	int lane;
	const char *checkpoint;
	/* What follows: */
	int load;
	bool swapped;
	int serving;
};

static void run(const struct row *rows, size_t n)
{
	struct lanes l;
	lanes_init(&l);
	for (size_t i = 0; i < n; i++) {
		const struct row *r = &rows[i];
		const struct lanes_event ev = {r->kind, r->lane, r->checkpoint};
		struct lanes_actions a;
		lanes_step(&l, &ev, r->at_ms, &a);
		if (a.load != r->load || a.swapped != r->swapped || l.serving != r->serving)
			fail_msg("row %zu: load %d, swapped %d, serving %d", i, a.load, a.swapped,
				 l.serving);
	}
}

static void one_serves_the_other_loads(void **state)
{
	static const struct row rows[] = {
		{0, LANES_WANT, -1, "a", -1, false, -1}, /* nobody is there */
		{1, LANES_UP, 0, NULL, 0, false, -1},
		{2, LANES_UP, 1, NULL, -1, false, -1}, /* one loads */
		{3, LANES_LOADED, 0, NULL, -1, true, 0},
		{4, LANES_WANT, -1, "b", 1, false, 0},
		{5, LANES_WANT, -1, "c", -1, false, 0}, /* one thing after the other */
		{6, LANES_LOADED, 1, NULL, 0, true, 1},
		{7, LANES_LOADED, 0, NULL, -1, true, 0},
		{8, LANES_WANT, -1, "b", -1, true, 1}, /* it is there still */
		{9, LANES_WANT, -1, "b", -1, false, 1},
	};
	run(rows, ARRAY_LEN(rows));
}

static void a_worker_ends(void **state)
{
	static const struct row rows[] = {
		{0, LANES_UP, 0, NULL, -1, false, -1},
		{1, LANES_UP, 1, NULL, -1, false, -1},
		{2, LANES_WANT, -1, "a", 1, false, -1},
		{3, LANES_LOADED, 1, NULL, -1, true, 1},
		{4, LANES_GONE, 1, NULL, 0, false, -1}, /* the other one at once */
		{5, LANES_LOADED, 0, NULL, -1, true, 0},
		{6, LANES_UP, 1, NULL, -1, false, 0},
		{7, LANES_WANT, -1, "b", 1, false, 0},
		{8, LANES_GONE, 1, NULL, -1, false, 0}, /* in the midst of loading */
		{9, LANES_UP, 1, NULL, 1, false, 0},
		{10, LANES_GONE, 0, NULL, -1, false, -1},
		{11, LANES_LOADED, 1, NULL, -1, true, 1},
	};
	run(rows, ARRAY_LEN(rows));
}

static void what_cannot_be_loaded(void **state)
{
	static const struct row rows[] = {
		{0, LANES_UP, 0, NULL, -1, false, -1},
		{0, LANES_UP, 1, NULL, -1, false, -1},
		{0, LANES_WANT, -1, "a", 1, false, -1},
		{0, LANES_LOADED, 1, NULL, -1, true, 1},
		{0, LANES_WANT, -1, "bad", 0, false, 1},
		{10, LANES_REFUSED, 0, NULL, -1, false, 1}, /* what serves goes on */
		{20, LANES_TIMER, -1, NULL, -1, false, 1},
		{10 + LANES_RETRY_FIRST_MS, LANES_TIMER, -1, NULL, 0, false, 1},
		{300, LANES_REFUSED, 0, NULL, -1, false, 1},
		{300 + LANES_RETRY_FIRST_MS, LANES_TIMER, -1, NULL, -1, false,
		 1}, /* twice as long */
		{301 + LANES_RETRY_FIRST_MS, LANES_WANT, -1, "c", 0, false,
		 1}, /* another: at once */
		{310 + LANES_RETRY_FIRST_MS, LANES_LOADED, 0, NULL, -1, true, 0},
	};
	run(rows, ARRAY_LEN(rows));
}

static void stuck_only_without_one_that_serves(void **state)
{
	struct lanes l;
	struct lanes_actions a;
	static const struct lanes_event events[] = {
		{LANES_UP, 0, NULL}, {LANES_WANT, -1, "bad"}, {LANES_REFUSED, 0, NULL}};
	lanes_init(&l);
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		assert_false(lanes_stuck(&l));
		lanes_step(&l, &events[i], 0, &a);
	}
	assert_true(lanes_stuck(&l));
	assert_int_equal(lanes_deadline_ms(&l, 0), LANES_RETRY_FIRST_MS);
	assert_int_equal(lanes_deadline_ms(&l, LANES_RETRY_FIRST_MS),
			 -1); /* due: not again and again */
}

/* What serves is loaded; it is never told to load; at most one loads; and when nothing goes wrong
 * any more, what is wanted serves. */
static void any_order(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	struct rng rng;
	rng_init(&rng, 7);
	for (int history = 0; history < 2000; history++) {
		struct lanes l;
		struct lanes_actions a;
		lanes_init(&l);
		int64_t now = 0;
		for (int i = 0; i < 60; i++, now += (int64_t)(rng_u64(&rng) % 500)) {
			bool calm = i >= 40;
			struct lanes_event ev = {LANES_TIMER, (int)(rng_u64(&rng) % LANES_N), NULL};
			enum lane_state s = l.lane[ev.lane].state;
			uint64_t dice = rng_u64(&rng) % 8;
			if (i == 0 || (dice < 2 && !calm)) {
				ev = (struct lanes_event){LANES_WANT, -1, names[rng_u64(&rng) % 3]};
			} else if (s == LANE_DOWN) {
				ev.kind = LANES_UP;
			} else if (dice == 2 && !calm) {
				ev.kind = LANES_GONE;
			} else if (s == LANE_LOADING) {
				ev.kind = dice == 3 && !calm ? LANES_REFUSED : LANES_LOADED;
			}
			int served = l.serving;
			lanes_step(&l, &ev, now, &a);
			assert_true(l.serving < 0 || l.lane[l.serving].state == LANE_LOADED);
			assert_true(a.load < 0 ||
				    (a.load != l.serving && l.lane[a.load].state == LANE_LOADING));
			assert_false(l.lane[0].state == LANE_LOADING &&
				     l.lane[1].state == LANE_LOADING);
			assert_true(a.swapped || l.serving == served || l.serving < 0);
			if (calm)
				now += LANES_RETRY_CAP_MS;
		}
		assert_true(l.serving >= 0);
		assert_string_equal(l.lane[l.serving].checkpoint, l.wanted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_serves_the_other_loads),
		cmocka_unit_test(a_worker_ends),
		cmocka_unit_test(what_cannot_be_loaded),
		cmocka_unit_test(stuck_only_without_one_that_serves),
		cmocka_unit_test(any_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
