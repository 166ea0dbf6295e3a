/* Dialogues as transcripts: one row an event (what happens, when, with which block) and what must
 * come of it. Then a simulation of a bad network over many seeds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/transfer/xfer.h"

/* ---- transcripts ---- */

enum event {
	WANT,	 /* expected: the blocks asked for, in order */
	BLOCK,	 /* block i of its right length; expected: the result */
	LENGTH,	 /* block i of length `len`; expected: the result */
	TIMEOUT, /* expected: nothing */
	RESTART,
	DEADLINE, /* expected: the time in `at` */
	LOST,
	DONE, /* the transfer is complete */
	OPEN, /* it is not */
};

struct row {
	enum event event;
	int64_t now;
	uint32_t i;
	const char *blocks; /* WANT */
	int result; /* BLOCK, LENGTH */
	int64_t at; /* DEADLINE */
	size_t len;
};

static void do_want(struct xfer *x, const struct row *r, size_t n_row)
{
	uint32_t want[64];
	char text[512] = "";
	size_t n = xfer_want(x, r->now, want, r->i ? r->i : 64);
	for (size_t k = 0, used = 0; k < n; k++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", k ? " " : "",
					 want[k]);
	if (strcmp(text, r->blocks) != 0)
		fail_msg("row %zu: asked '%s', expected '%s'", n_row, text, r->blocks);
}

static void play(struct xfer *x, const struct row *rows, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		const struct row *r = &rows[k];
		int got = 0;
		switch (r->event) {
		case WANT:
			do_want(x, r, k);
			break;
		case BLOCK:
		case LENGTH:
			got = (int)xfer_block(x, r->i,
					      r->event == BLOCK ? xfer_block_len(x, r->i) : r->len,
					      r->now);
			if (got != r->result)
				fail_msg("row %zu: result %d, expected %d", k, got, r->result);
			break;
		case TIMEOUT:
			xfer_timeout(x, r->now);
			break;
		case RESTART:
			xfer_restart(x, r->now);
			break;
		case DEADLINE:
			if (xfer_deadline_ms(x) != r->at)
				fail_msg("row %zu: deadline %lld, expected %lld", k,
					 (long long)xfer_deadline_ms(x), (long long)r->at);
			break;
		case LOST:
			xfer_lost(x, r->i);
			break;
		case DONE:
		case OPEN:
			if (xfer_complete(x) != (r->event == DONE))
				fail_msg("row %zu: completeness", k);
			break;
		}
		assert_true(x->n_asked <= XFER_WINDOW);
	}
}

#define PLAY(x, rows) play(x, rows, ARRAY_LEN(rows))

static void begin(struct xfer *x, uint64_t size, uint32_t block_size)
{
	assert_int_equal(xfer_init(x, size, block_size, NULL, 0), 0);
}

static void test_order_and_reorder(void **state)
{
	static const struct row rows[] = {
		{DEADLINE, .at = -1},
		{WANT, 0, .blocks = "0 1 2 3 4 5 6 7"},
		{WANT, 0, .blocks = ""}, /* the window is full */
		{DEADLINE, .at = XFER_STALL_MS},
		{BLOCK, 10, 7},
		{BLOCK, 20, 3},
		{DEADLINE, .at = 20 + XFER_STALL_MS},
		{WANT, 20, .blocks = "8 9"},
		{WANT, 20, .blocks = ""},
		{BLOCK, 30, 9},
		{BLOCK, 30, 0}, {BLOCK, 30, 1}, {BLOCK, 30, 2}, {BLOCK, 30, 4},
		{BLOCK, 30, 6}, {BLOCK, 30, 5}, {OPEN}, {BLOCK, 30, 8},
		{WANT, 30, .blocks = "10"}, /* the last one, shorter */
		{BLOCK, 40, 10},
		{DONE},
		{WANT, 50, .blocks = ""},
		{DEADLINE, .at = -1},
	};
	struct xfer x;
	begin(&x, 10 * 100 + 1, 100);
	assert_int_equal(x.n_blocks, 11);
	assert_int_equal(xfer_block_len(&x, 9), 100);
	assert_int_equal(xfer_block_len(&x, 10), 1);
	assert_int_equal(xfer_block_len(&x, 11), 0);
	PLAY(&x, rows);
	assert_int_equal(x.n_reasked, 0);
	xfer_done(&x);
}

static void test_want_max(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, 3, .blocks = "0 1 2"},
		{WANT, 0, 3, .blocks = "3 4 5"},
		{WANT, 0, 3, .blocks = "6 7"},
		{WANT, 0, 3, .blocks = ""},
		{BLOCK, 1, 4},
		{WANT, 1, 3, .blocks = "8"},
	};
	struct xfer x;
	begin(&x, 100, 1);
	PLAY(&x, rows);
	xfer_done(&x);
}

static void test_refused_blocks_change_nothing(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, 2, .blocks = "0 1"},
		{BLOCK, 5, 0, .result = XFER_OK},
		{DEADLINE, .at = 5 + XFER_STALL_MS},
		{BLOCK, 9, 0, .result = XFER_E_TWICE},
		{BLOCK, 9, 2, .result = XFER_E_UNASKED},
		{LENGTH, 9, 3, .len = 10, .result = XFER_E_RANGE},
		{LENGTH, 9, UINT32_MAX, .len = 10, .result = XFER_E_RANGE},
		{LENGTH, 9, 1, .len = 9, .result = XFER_E_LENGTH},
		{LENGTH, 9, 1, .len = 11, .result = XFER_E_LENGTH},
		{LENGTH, 9, 1, .len = 0, .result = XFER_E_LENGTH},
		{LENGTH, 9, 2, .len = 10, .result = XFER_E_LENGTH}, /* the last one has 5 */
		/* None of these was progress. */
		{DEADLINE, .at = 5 + XFER_STALL_MS},
		{BLOCK, 10, 1, .result = XFER_OK},
		{WANT, 10, .blocks = "2"},
		{BLOCK, 11, 2, .result = XFER_OK},
		{DONE},
	};
	struct xfer x;
	begin(&x, 25, 10);
	PLAY(&x, rows);
	assert_int_equal(x.n_twice, 1);
	assert_int_equal(x.n_refused, 7);
	xfer_done(&x);
}

static void test_loss_and_back_off(void **state)
{
	static const struct row rows[] = {
		{WANT, 1000, .blocks = "0 1 2"},
		{BLOCK, 1500, 1},
		{DEADLINE, .at = 4500},
		{TIMEOUT, 4499}, /* too early: nothing happens */
		{DEADLINE, .at = 4500},
		{WANT, 4499, .blocks = ""},
		{TIMEOUT, 4500},
		{DEADLINE, .at = -1}, /* nothing is outstanding until asked again */
		{WANT, 4500, .blocks = "0 2"},
		{DEADLINE, .at = 4500 + 6000},
		{TIMEOUT, 10500},
		{WANT, 10500, .blocks = "0 2"},
		{DEADLINE, .at = 10500 + 12000},
		{TIMEOUT, 22500},
		{WANT, 22500, .blocks = "0 2"},
		{DEADLINE, .at = 22500 + 24000},
		{TIMEOUT, 46500},
		{WANT, 46500, .blocks = "0 2"},
		{DEADLINE, .at = 46500 + XFER_STALL_CAP_MS},
		{TIMEOUT, 76500},
		{WANT, 76500, .blocks = "0 2"},
		{DEADLINE, .at = 76500 + XFER_STALL_CAP_MS},
		/* Something comes: back to the second stall time, and to the first once what was
		 * asked again has had its time to come twice. */
		{BLOCK, 80000, 2},
		{DEADLINE, .at = 80000 + 2 * XFER_STALL_MS},
		{WANT, 80000, .blocks = ""},
		{TIMEOUT, 86000},
		{WANT, 86000, .blocks = "0"},
		{BLOCK, 86001, 0},
		{DONE},
	};
	struct xfer x;
	begin(&x, 30, 10);
	PLAY(&x, rows);
	assert_int_equal(x.n_reasked, 11);
	xfer_done(&x);
}

static void test_back_to_first_stall_time(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1 2 3 4 5 6 7"},
		{BLOCK, 10, 0}, {BLOCK, 10, 1}, {BLOCK, 10, 2}, {BLOCK, 10, 3},
		{BLOCK, 10, 4}, {BLOCK, 10, 5}, {BLOCK, 10, 6}, /* 7 is lost */
		{TIMEOUT, 3010},
		{WANT, 3010, 1, .blocks = "7"},
		{BLOCK, 3020, 7},
		{WANT, 3020, 2, .blocks = "8 9"},
		{DEADLINE, .at = 3020 + 2 * XFER_STALL_MS},
		{BLOCK, 3030, 8},
		{DEADLINE, .at = 3030 + XFER_STALL_MS},
	};
	struct xfer x;
	begin(&x, 20, 1);
	PLAY(&x, rows);
	xfer_done(&x);
}

static void test_back_off_never_overflows(void **state)
{
	struct xfer x;
	int64_t now = 0;
	uint32_t want[8];
	begin(&x, 30, 10);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(xfer_want(&x, now, want, 8), 3);
		assert_in_range(xfer_deadline_ms(&x) - now, XFER_STALL_MS, XFER_STALL_CAP_MS);
		now = xfer_deadline_ms(&x);
		xfer_timeout(&x, now);
	}
	xfer_done(&x);
}

static void test_late_blocks_are_taken(void **state)
{
	/* The answer takes longer than the stall time: what is asked again is the same, so that the
	 * late blocks count; what then comes twice is a sign of life and makes patient. */
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1 2 3 4 5 6 7"},
		{TIMEOUT, 3000},
		{WANT, 3000, .blocks = "0 1 2 3 4 5 6 7"},
		{BLOCK, 4000, 0}, {BLOCK, 4000, 1}, {BLOCK, 4000, 2}, {BLOCK, 4000, 3},
		{WANT, 4000, .blocks = "8 9 10 11"},
		{DEADLINE, .at = 4000 + 2 * XFER_STALL_MS},
		{BLOCK, 5000, 0, .result = XFER_E_TWICE},
		{DEADLINE, .at = 5000 + 2 * XFER_STALL_MS},
		{BLOCK, 5500, 1, .result = XFER_E_TWICE},
		{DEADLINE, .at = 5500 + 2 * XFER_STALL_MS},
		{BLOCK, 6000, 4},
		{DEADLINE, .at = 6000 + 2 * XFER_STALL_MS},
		{TIMEOUT, 12000},
		{WANT, 12000, 1, .blocks = "5"},
		{DEADLINE, .at = 12000 + 4 * XFER_STALL_MS},
	};
	struct xfer x;
	begin(&x, 12, 1);
	PLAY(&x, rows);
	xfer_done(&x);
}

/* A sender that only repeats itself cannot put off the stall for ever. */
static void test_repetitions_do_not_hold_off(void **state)
{
	struct xfer x;
	uint32_t want[8];
	begin(&x, 3, 1);
	xfer_want(&x, 0, want, 8);
	assert_int_equal(xfer_block(&x, 0, 1, 1), XFER_OK);
	xfer_timeout(&x, 3001);
	xfer_want(&x, 3001, want, 8);
	int64_t now = 3001;
	for (int i = 0; i < 50; i++)
		assert_int_equal(xfer_block(&x, 0, 1, ++now), XFER_E_TWICE);
	assert_in_range(xfer_deadline_ms(&x), 3001 + 6000, 3005 + 6000);
	assert_int_equal(x.n_twice, 50);
	xfer_done(&x);
}

static void test_patience_is_capped(void **state)
{
	struct xfer x;
	uint32_t want[8];
	int64_t now = 0;
	begin(&x, 1000, 1);
	for (uint32_t i = 0; i < 100; i++) {
		xfer_want(&x, now, want, 8);
		now = xfer_deadline_ms(&x);
		xfer_timeout(&x, now);
		xfer_want(&x, now, want, 8);
		assert_int_equal(xfer_block(&x, i, 1, now), XFER_OK);
		assert_int_equal(xfer_block(&x, i, 1, now), XFER_E_TWICE);
	}
	assert_int_equal(xfer_deadline_ms(&x), now + XFER_STALL_CAP_MS);
	xfer_done(&x);
}

static void test_restart(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1 2 3 4 5 6 7"},
		{BLOCK, 100, 1},
		{TIMEOUT, 3100},
		{WANT, 3100, .blocks = "0 2 3 4 5 6 7 8"},
		{DEADLINE, .at = 3100 + 6000},
		{RESTART, 5000},
		{DEADLINE, .at = -1},
		{WANT, 6000, .blocks = "0 2 3 4 5 6 7 8"},
		{DEADLINE, .at = 6000 + XFER_STALL_MS},
		{BLOCK, 6001, 1, .result = XFER_E_TWICE},
		{DEADLINE, .at = 6000 + XFER_STALL_MS}, /* a reconnect teaches nothing */
	};
	struct xfer x;
	begin(&x, 9, 1);
	PLAY(&x, rows);
	xfer_done(&x);
}

static void test_lost(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1"},
		{LOST, 0, 1}, /* not held: nothing to lose */
		{BLOCK, 1, 0},
		{LOST, 1, 0}, /* could not be stored */
		{LOST, 1, 7}, /* no such block */
		{BLOCK, 2, 1},
		{OPEN},
		{WANT, 2, .blocks = "0"},
		{BLOCK, 3, 0},
		{DONE},
	};
	struct xfer x;
	begin(&x, 2, 1);
	PLAY(&x, rows);
	xfer_done(&x);
}

static void test_resume_from_bitmap(void **state)
{
	static const uint8_t held[] = {0x0f, 0xff}; /* bits past the end are nothing */
	static const struct row rows[] = {
		{WANT, 7, .blocks = "4 5 6 7"}, {BLOCK, 8, 0, .result = XFER_E_TWICE},
		{BLOCK, 8, 4}, {BLOCK, 8, 5}, {BLOCK, 8, 6}, {OPEN}, {BLOCK, 8, 7}, {DONE},
	};
	struct xfer x;
	assert_int_equal(xfer_init(&x, 10, 1, held, 7), 0);
	assert_int_equal(x.n_held, 6);
	PLAY(&x, rows);
	xfer_done(&x);
	static const uint8_t all[] = {0xff, 0xff};
	assert_int_equal(xfer_init(&x, 10, 1, all, 7), 0);
	assert_true(xfer_complete(&x));
	xfer_done(&x);
	begin(&x, 10, 1);
	uint32_t want[8];
	assert_int_equal(xfer_want(&x, 0, want, 8), 8);
	xfer_hold(&x, 3);
	xfer_hold(&x, 3);
	xfer_hold(&x, 10);
	assert_int_equal(x.n_held, 1);
	assert_int_equal(x.n_asked, 7);
	xfer_done(&x);
	xfer_done(&x);
	assert_false(xfer_complete(&x));
}

static void test_sizes(void **state)
{
	static const struct {
		uint64_t size;
		uint32_t block_size;
		int r;
		uint32_t n, last;
	} rows[] = {
		{0, 1024, -EINVAL, 0, 0},
		{1, 0, -EINVAL, 0, 0},
		{1, 1, 0, 1, 1},
		{1, 1024, 0, 1, 1},
		{1024, 1024, 0, 1, 1024},
		{1025, 1024, 0, 2, 1},
		{(uint64_t)XFER_BLOCKS_MAX * 1024, 1024, 0, XFER_BLOCKS_MAX, 1024},
		{(uint64_t)XFER_BLOCKS_MAX * 1024 + 1, 1024, -EINVAL, 0, 0},
		{UINT64_MAX, 1, -EINVAL, 0, 0},
		{UINT64_MAX, UINT32_MAX, -EINVAL, 0, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct xfer x;
		assert_int_equal(xfer_init(&x, rows[i].size, rows[i].block_size, NULL, 0),
				 rows[i].r);
		assert_int_equal(x.n_blocks, rows[i].n);
		if (rows[i].n)
			assert_int_equal(xfer_block_len(&x, rows[i].n - 1), rows[i].last);
		xfer_done(&x);
	}
}

/* ---- simulation ---- */

#define FLIGHT_MAX 256

struct sim {
	struct rng rng;
	struct xfer x;
	uint8_t stored[256]; /* times block i was XFER_OK */
	int loss, twice, mangled, resets, restarts; /* per 1000 */
	uint32_t delay_ms;
	struct {
		int64_t at;
		uint32_t block;
		size_t len;
	} flight[FLIGHT_MAX];
	size_t n_flight;
	int64_t now;
};

static bool chance(struct sim *s, int per_1000)
{
	return (int)rng_below(&s->rng, 1000) < per_1000;
}

static void send_block(struct sim *s, uint32_t i)
{
	if (s->n_flight == FLIGHT_MAX || chance(s, s->loss))
		return;
	size_t len = xfer_block_len(&s->x, i);
	if (chance(s, s->mangled)) {
		len++;
		if (chance(s, 500))
			i = rng_below(&s->rng, 1000);
	}
	s->flight[s->n_flight].at = s->now + rng_below(&s->rng, s->delay_ms + 1);
	s->flight[s->n_flight].block = i;
	s->flight[s->n_flight++].len = len;
}

static void ask(struct sim *s)
{
	uint32_t want[XFER_WINDOW];
	size_t n = xfer_want(&s->x, s->now, want, 1 + rng_below(&s->rng, XFER_WINDOW));
	if (chance(s, s->loss))
		return; /* the want itself is lost */
	for (size_t i = 0; i < n; i++)
		for (int copies = chance(s, s->twice) ? 3 : 1; copies > 0; copies--)
			send_block(s, want[i]);
}

/* The next block to arrive, or -1. */
static int earliest(const struct sim *s)
{
	int best = -1;
	for (size_t i = 0; i < s->n_flight; i++)
		if (best < 0 || s->flight[i].at < s->flight[best].at)
			best = (int)i;
	return best;
}

static void arrive(struct sim *s, int k)
{
	uint32_t i = s->flight[k].block;
	s->now = s->flight[k].at > s->now ? s->flight[k].at : s->now;
	if (xfer_block(&s->x, i, s->flight[k].len, s->now) == XFER_OK)
		s->stored[i]++;
	s->flight[k] = s->flight[--s->n_flight];
}

static void check(const struct sim *s)
{
	uint32_t held = 0, asked = 0;
	for (uint32_t i = 0; i < s->x.n_blocks; i++) {
		int h = s->x.held[i / 8] >> (i % 8) & 1, a = s->x.asked[i / 8] >> (i % 8) & 1;
		assert_false(h && a);
		held += (uint32_t)h;
		asked += (uint32_t)a;
	}
	assert_int_equal(held, s->x.n_held);
	assert_int_equal(asked, s->x.n_asked);
	assert_true(asked <= XFER_WINDOW);
}

/* A new process that has only the bitmap. */
static void restart_process(struct sim *s)
{
	struct xfer old = s->x;
	assert_int_equal(xfer_init(&s->x, old.size, old.block_size, old.held, s->now), 0);
	xfer_done(&old);
}

static void simulate(uint64_t seed)
{
	struct sim s = {0};
	rng_init(&s.rng, seed);
	s.loss = (int)rng_below(&s.rng, 400);
	s.twice = (int)rng_below(&s.rng, 300);
	s.mangled = (int)rng_below(&s.rng, 100);
	s.resets = (int)rng_below(&s.rng, 20);
	s.restarts = (int)rng_below(&s.rng, 20);
	s.delay_ms = rng_below(&s.rng, 2) ? rng_below(&s.rng, 100) : rng_below(&s.rng, 20000);
	uint64_t size = 1 + rng_below(&s.rng, 25600);
	assert_int_equal(xfer_init(&s.x, size, 100, NULL, 0), 0);
	int steps = 0;
	for (; !xfer_complete(&s.x); steps++) {
		if (steps > 20000)
			fail_msg("seed %llu does not end", (unsigned long long)seed);
		ask(&s);
		int k = earliest(&s);
		int64_t due = xfer_deadline_ms(&s.x);
		if (k >= 0 && (due < 0 || s.flight[k].at < due)) {
			arrive(&s, k);
		} else {
			assert_true(due >= 0); /* what is missing is always waited for */
			s.now = due > s.now ? due : s.now;
			xfer_timeout(&s.x, s.now);
		}
		if (chance(&s, s.resets)) {
			s.n_flight = 0; /* the connection is new: what was under way is gone */
			xfer_restart(&s.x, s.now);
		}
		if (chance(&s, s.restarts))
			restart_process(&s);
		check(&s);
	}
	for (uint32_t i = 0; i < s.x.n_blocks; i++)
		assert_int_equal(s.stored[i], 1);
	xfer_done(&s.x);
}

static void test_simulation(void **state)
{
	for (uint64_t seed = 0; seed < 1000; seed++)
		simulate(seed);
}

/* A link that takes 5 s a block, longer than the first stall time: what it then carries twice is
 * the first window and little more. */
static void test_slow_link(void **state)
{
	struct {
		uint32_t block;
		int64_t at;
	} queue[256];
	struct xfer x;
	uint32_t want[XFER_WINDOW];
	size_t head = 0, tail = 0;
	int64_t now = 0, free_at = 0;
	begin(&x, 200, 1);
	while (!xfer_complete(&x)) {
		size_t n = xfer_want(&x, now, want, XFER_WINDOW);
		for (size_t i = 0; i < n; i++, tail++) {
			assert_true(tail < ARRAY_LEN(queue));
			queue[tail].block = want[i];
			queue[tail].at = now;
		}
		int64_t due = xfer_deadline_ms(&x);
		bool idle = head < tail && queue[head].at > free_at;
		int64_t next = (idle ? queue[head].at : free_at) + 5000;
		if (head < tail && next <= due) {
			now = free_at = next;
			xfer_block(&x, queue[head++].block, 1, now);
		} else {
			now = due;
			xfer_timeout(&x, now);
		}
	}
	assert_in_range(tail, 200, 240);
	xfer_done(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_reorder),
		cmocka_unit_test(test_want_max),
		cmocka_unit_test(test_refused_blocks_change_nothing),
		cmocka_unit_test(test_loss_and_back_off),
		cmocka_unit_test(test_back_to_first_stall_time),
		cmocka_unit_test(test_back_off_never_overflows),
		cmocka_unit_test(test_late_blocks_are_taken),
		cmocka_unit_test(test_repetitions_do_not_hold_off),
		cmocka_unit_test(test_patience_is_capped),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_resume_from_bitmap),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_simulation),
		cmocka_unit_test(test_slow_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
