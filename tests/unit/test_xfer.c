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
#include "common/transfer/serve.h"
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
		assert_true(x->n_asked <= x->window_max);
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
		{WANT, 0, .blocks = "0 1"},
		{WANT, 0, .blocks = ""}, /* the window is full */
		{DEADLINE, .at = XFER_STALL_MS},
		{BLOCK, 10, 1},
		{DEADLINE, .at = 10 + XFER_STALL_MS},
		{BLOCK, 20, 0}, /* the first round is over: the window doubles */
		{WANT, 20, .blocks = "2 3 4 5"},
		{DEADLINE, .at = 20 + XFER_STALL_MIN_MS},
		{WANT, 20, .blocks = ""},
		{BLOCK, 30, 5}, {BLOCK, 30, 3}, {BLOCK, 40, 2},
		{WANT, 40, .blocks = "6 7 8 9 10"}, /* the last one is shorter */
		{BLOCK, 50, 6}, {BLOCK, 50, 7}, {BLOCK, 50, 8}, {BLOCK, 50, 9},
		{BLOCK, 50, 10}, {OPEN}, {WANT, 50, .blocks = ""},
		{BLOCK, 60, 4},
		{DONE},
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

/* One message takes so many; the next one goes at once, and others when there is room for it. */
static void test_want_max(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, 3, .blocks = "0 1"}, {BLOCK, 9, 0}, {BLOCK, 9, 1}, /* 4 */
		{WANT, 9, 3, .blocks = "2 3 4"}, {WANT, 9, 3, .blocks = "5"},
		{WANT, 9, 3, .blocks = ""},
		{BLOCK, 18, 2}, {BLOCK, 18, 3}, {BLOCK, 18, 4}, {BLOCK, 18, 5}, /* 8 */
		{WANT, 18, 8, .blocks = "6 7 8 9 10 11 12 13"},
		{BLOCK, 20, 7}, {WANT, 20, 8, .blocks = ""}, /* less than a quarter */
		{WANT, 20, 1, .blocks = "14"},
		{BLOCK, 20, 8}, {BLOCK, 20, 9}, {WANT, 20, 8, .blocks = "15 16"},
	};
	struct xfer x;
	begin(&x, 100, 1);
	PLAY(&x, rows);
	xfer_done(&x);
}

/* Rounds: each asks for what the window allows, and gets it after `ms`, that of the timed one first. */
static void test_window(void **state)
{
	static const struct {
		int64_t ms;
		uint32_t n; /* rounds of it */
		uint32_t window; /* then */
	} rows[] = {
		/* Doubles while nothing waits: 6 times 2, 2 ^ 7. */
		{100, 5, 64},
		{104, 1, 128}, /* a delay that says nothing */
		/* A tenth waits, 12 blocks: half of them go at once. */
		{111, 1, 122},
		{108, 1, 121}, /* 9 blocks: one less */
		{103, 1, 122},
		{100, 30, 152},
		/* Three wait: all is well. */
		{105, 1, 151},
		{99, 1, 152}, /* shorter than the shortest */
	};
	struct xfer x;
	int64_t now = 0;
	uint32_t want[XFER_WINDOW_MAX];
	assert_int_equal(xfer_init(&x, 1000000, 1, NULL, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (uint32_t k = 0; k < rows[i].n; k++) {
			size_t n = xfer_want(&x, now, want, ARRAY_LEN(want));
			assert_int_equal(n, x.window);
			now += rows[i].ms;
			for (size_t b = 0; b < n; b++)
				assert_int_equal(xfer_block(&x, want[b], 1, now), XFER_OK);
		}
		if (x.window != rows[i].window)
			fail_msg("row %zu: window %u, expected %u", i, x.window, rows[i].window);
	}
	xfer_restart(&x, now);
	assert_int_equal(x.window, XFER_WINDOW_MIN); /* it may be another link */
	xfer_done(&x);
}

static uint32_t widest(uint32_t block_size, uint32_t n_transfers, int64_t round_ms)
{
	struct xfer x;
	uint32_t want[XFER_WINDOW_MAX];
	int64_t now = 0;
	assert_int_equal(xfer_init(&x, UINT64_C(20000) * block_size, block_size, NULL, 0), 0);
	xfer_share(&x, n_transfers);
	for (int i = 0; i < 20; i++) {
		size_t n = xfer_want(&x, now, want, ARRAY_LEN(want));
		now += round_ms;
		while (n--)
			xfer_block(&x, want[n], block_size, now);
	}
	uint32_t window = x.window;
	xfer_done(&x);
	return window;
}

static void test_window_limits(void **state)
{
	assert_int_equal(widest(1024, 1, 100), XFER_WINDOW_MAX);
	assert_int_equal(widest(131072, 1, 100), XFER_WINDOW_BYTES_MAX / 131072);
	assert_int_equal(widest(131072, 4, 100), XFER_WINDOW_BYTES_MAX / 131072 / 4);
	assert_int_equal(widest(131072, 1000, 100), XFER_WINDOW_MIN);
	assert_int_equal(widest(1024, 0, 100), XFER_WINDOW_MAX);
	assert_int_equal(widest(1024, 1, XFER_ROUND_MAX_MS / 2), XFER_WINDOW_MAX);
	assert_int_equal(widest(1024, 1, XFER_ROUND_MAX_MS), XFER_WINDOW_MIN + 20);
	assert_int_equal(widest(1024, 1, XFER_ROUND_MAX_MS + 1), XFER_WINDOW_MIN);
}

static void test_refused_blocks_change_nothing(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1"},
		{BLOCK, 5, 0, .result = XFER_OK},
		{DEADLINE, .at = 5 + XFER_STALL_MIN_MS},
		{BLOCK, 9, 0, .result = XFER_E_TWICE},
		{BLOCK, 9, 2, .result = XFER_E_UNASKED},
		{LENGTH, 9, 3, .len = 10, .result = XFER_E_RANGE},
		{LENGTH, 9, UINT32_MAX, .len = 10, .result = XFER_E_RANGE},
		{LENGTH, 9, 1, .len = 9, .result = XFER_E_LENGTH},
		{LENGTH, 9, 1, .len = 11, .result = XFER_E_LENGTH},
		{LENGTH, 9, 1, .len = 0, .result = XFER_E_LENGTH},
		{LENGTH, 9, 2, .len = 10, .result = XFER_E_LENGTH}, /* the last one has 5 */
		/* None of these was progress. */
		{DEADLINE, .at = 5 + XFER_STALL_MIN_MS},
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
		{WANT, 1000, .blocks = "0 1"},
		{BLOCK, 1500, 1},
		{DEADLINE, .at = 4500},
		{TIMEOUT, 4499}, /* too early: nothing happens */
		{DEADLINE, .at = 4500},
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
		/* Something comes, but to which question? */
		{BLOCK, 50000, 2},
		{DEADLINE, .at = 50000 + XFER_STALL_CAP_MS},
		{WANT, 50000, .blocks = "3"},
		{BLOCK, 50200, 3}, /* of this one it is known: 200 ms */
		{DEADLINE, .at = 50200 + XFER_STALL_MIN_MS},
		{WANT, 50200, .blocks = "4 5 6"},
		{BLOCK, 50900, 4}, /* 700 ms */
		{DEADLINE, .at = 50900 + XFER_STALL_ROUNDS * 700},
		{TIMEOUT, 50900 + XFER_STALL_ROUNDS * 700},
		{WANT, 60000, .blocks = "0 5"},
		{DEADLINE, .at = 60000 + 2 * XFER_STALL_ROUNDS * 700},
	};
	struct xfer x;
	begin(&x, 300, 10);
	PLAY(&x, rows);
	assert_int_equal(x.n_reasked, 2 * 4 - 1 + 3);
	xfer_done(&x);
}

static void test_back_off_never_overflows(void **state)
{
	struct xfer x;
	int64_t now = 0;
	uint32_t want[8];
	begin(&x, 30, 10);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(xfer_want(&x, now, want, 8), 2);
		assert_in_range(xfer_deadline_ms(&x) - now, XFER_STALL_MS, XFER_STALL_CAP_MS);
		now = xfer_deadline_ms(&x);
		xfer_timeout(&x, now);
	}
	xfer_done(&x);
}

static void test_late_blocks_are_taken(void **state)
{
	/* The answer takes longer than the stall time. What is asked again is the same, so that the
	 * late blocks count; what was given up and is not asked for yet counts as well; what then
	 * comes twice is a sign of life. */
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1"}, {BLOCK, 5, 0}, {BLOCK, 5, 1},
		{WANT, 5, .blocks = "2 3 4 5"},
		{TIMEOUT, 1005},
		{WANT, 1005, .blocks = "2 3"},
		{DEADLINE, .at = 1005 + 2 * XFER_STALL_MIN_MS},
		{BLOCK, 2000, 2}, {BLOCK, 2000, 3}, {BLOCK, 2000, 4},
		{BLOCK, 2000, 6, .result = XFER_E_UNASKED},
		{WANT, 2000, .blocks = "5 6"},
		{BLOCK, 3000, 2, .result = XFER_E_TWICE},
		{DEADLINE, .at = 3000 + 2 * XFER_STALL_MIN_MS},
		{BLOCK, 4000, 3, .result = XFER_E_TWICE},
		{DEADLINE, .at = 4000 + 2 * XFER_STALL_MIN_MS},
		{BLOCK, 5000, 5},
		{BLOCK, 5100, 6}, /* after 3100: the first that was asked for once */
		{WANT, 5100, 1, .blocks = "7"},
		{DEADLINE, .at = 5100 + XFER_STALL_ROUNDS * 3100},
	};
	struct xfer x;
	begin(&x, 12, 1);
	PLAY(&x, rows);
	assert_int_equal(x.n_reasked, 4);
	xfer_done(&x);
}

/* A sender that only repeats itself cannot put off the stall for ever. */
static void test_repetitions_do_not_hold_off(void **state)
{
	struct xfer x;
	uint32_t want[8];
	begin(&x, 3, 1);
	xfer_want(&x, 0, want, 8);
	assert_int_equal(xfer_block(&x, 1, 1, 1), XFER_OK);
	xfer_timeout(&x, 3001);
	xfer_want(&x, 3001, want, 8);
	int64_t now = 3001;
	for (int i = 0; i < 50; i++)
		assert_int_equal(xfer_block(&x, 1, 1, ++now), XFER_E_TWICE);
	assert_int_equal(xfer_deadline_ms(&x), 3002 + 6000); /* one was asked for again */
	assert_int_equal(x.n_twice, 50);
	assert_int_equal(x.new_ms, 1);
	xfer_done(&x);
}

static void test_restart(void **state)
{
	static const struct row rows[] = {
		{WANT, 0, .blocks = "0 1"},
		{BLOCK, 100, 1},
		{TIMEOUT, 3100},
		{WANT, 3100, .blocks = "0 2"},
		{DEADLINE, .at = 3100 + 6000},
		{RESTART, 5000},
		{DEADLINE, .at = -1},
		{WANT, 6000, .blocks = "0 2"},
		{DEADLINE, .at = 6000 + XFER_STALL_MS},
		{BLOCK, 6001, 0},
		{WANT, 6001, .blocks = "3"},
		{BLOCK, 6002, 0, .result = XFER_E_TWICE}, /* of before */
		{DEADLINE, .at = 6002 + XFER_STALL_MS},
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
		{WANT, 7, .blocks = "4 5"}, {BLOCK, 8, 0, .result = XFER_E_TWICE},
		{BLOCK, 8, 6, .result = XFER_E_UNASKED}, {BLOCK, 8, 4},
		{WANT, 8, .blocks = "6 7"}, {BLOCK, 9, 5}, {BLOCK, 9, 6}, {OPEN},
		{BLOCK, 9, 7}, {DONE},
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
	assert_int_equal(xfer_want(&x, 0, want, 8), 2);
	xfer_hold(&x, 1);
	xfer_hold(&x, 1);
	xfer_hold(&x, 10);
	assert_int_equal(x.n_held, 1);
	assert_int_equal(x.n_asked, 1);
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
	uint32_t want[32];
	size_t n = xfer_want(&s->x, s->now, want, 1 + rng_below(&s->rng, 32));
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
	assert_true(asked <= XFER_WINDOW_MAX);
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

/* ---- links: what is asked goes through one queue, at a rate, and takes a time besides ---- */

struct link_row {
	double bytes_per_ms;
	int64_t delay_ms;
	uint32_t block_size;
	uint64_t size;
	uint32_t n; /* transfers that share it, each of `size` */
};

struct link {
	const struct link_row *row;
	struct xfer x[4];
	struct {
		uint32_t who, block;
		int64_t at; /* when it is through */
	} queue[4096]; /* a ring */
	size_t head, tail;
	double free_at;
	int64_t now, first_done, queue_max_ms;
	uint64_t carried;
};

static void link_ask(struct link *l, uint32_t who)
{
	uint32_t want[32];
	size_t n;
	while ((n = xfer_want(&l->x[who], l->now, want, ARRAY_LEN(want))) > 0)
		for (size_t i = 0; i < n; i++) {
			uint32_t len = xfer_block_len(&l->x[who], want[i]);
			/* Half of the delay to ask, half of it for the answer. */
			double begins = (double)(l->now + l->row->delay_ms / 2);
			l->free_at = (begins > l->free_at ? begins : l->free_at) +
				     len / l->row->bytes_per_ms;
			size_t k = l->tail++ % ARRAY_LEN(l->queue);
			assert_true(l->tail - l->head <= ARRAY_LEN(l->queue));
			l->queue[k].who = who;
			l->queue[k].block = want[i];
			l->queue[k].at = (int64_t)(l->free_at + 0.5) + l->row->delay_ms / 2;
			l->carried += len;
			if (l->queue[k].at - l->now > l->queue_max_ms)
				l->queue_max_ms = l->queue[k].at - l->now;
		}
}

static bool link_step(struct link *l)
{
	int64_t due = INT64_MAX;
	bool all = true;
	for (uint32_t i = 0; i < l->row->n; i++) {
		int64_t at = xfer_deadline_ms(&l->x[i]);
		all = all && xfer_complete(&l->x[i]);
		if (xfer_complete(&l->x[i]) && !l->first_done)
			l->first_done = l->now;
		due = at >= 0 && at < due ? at : due;
	}
	if (all)
		return false;
	size_t k = l->head % ARRAY_LEN(l->queue);
	if (l->head < l->tail && l->queue[k].at <= due) {
		uint32_t who = l->queue[k].who;
		l->now = l->queue[k].at;
		xfer_block(&l->x[who], l->queue[k].block,
			   xfer_block_len(&l->x[who], l->queue[k].block), l->now);
		l->head++;
		link_ask(l, who);
		return true;
	}
	l->now = due;
	for (uint32_t i = 0; i < l->row->n; i++) {
		xfer_timeout(&l->x[i], l->now);
		link_ask(l, i);
	}
	return true;
}

/* The second and further transfers begin when the first one has a third. */
static void play_link(struct link *l, const struct link_row *row)
{
	*l = (struct link){.row = row};
	for (uint32_t i = 0; i < row->n; i++)
		assert_int_equal(xfer_init(&l->x[i], row->size, row->block_size, NULL, 0), 0);
	link_ask(l, 0);
	bool others = false;
	while (link_step(l))
		if (!others && l->x[0].n_held >= l->x[0].n_blocks / 3) {
			others = true;
			for (uint32_t i = 1; i < row->n; i++)
				link_ask(l, i);
		}
	for (uint32_t i = 0; i < row->n; i++)
		xfer_done(&l->x[i]);
}

static void test_links(void **state)
{
	static const struct {
		struct link_row link;
		int least_percent; /* of the link used */
		int64_t most_ms; /* that anything waits on the way */
	} rows[] = {
		{{1250, 100, 65536, 16 << 20, 1}, 95, 700}, /* 10 Mbit/s */
		{{1250, 100, 131072, 16 << 20, 1}, 95, 1100},
		{{12500, 100, 65536, 64 << 20, 1}, 92, 400}, /* 100 Mbit/s */
		{{125000, 100, 65536, 1 << 30, 1}, 80, 250}, /* 1 Gbit/s */
		{{32, 60, 65536, 2 << 20, 1}, 95, 8200}, /* 256 kbit/s */
		{{32, 60, 16384, 2 << 20, 1}, 95, 5000},
		{{250, 600, 65536, 4 << 20, 1}, 85, 4300}, /* by satellite */
		{{300000, 1, 65536, 256 << 20, 1}, 90, 30}, /* loopback */
		{{13, 0, 131072, 200 * 131072, 1}, 85, 62000}, /* 10 s a block */
	};
	static struct link l;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct link_row *r = &rows[i].link;
		play_link(&l, r);
		double least_ms = (double)r->size / r->bytes_per_ms;
		print_message("link %zu: %.0f %% used, %lld ms on the way, %.1f %% twice\n", i,
			      100 * least_ms / (double)l.now, (long long)l.queue_max_ms,
			      100. * (double)(l.carried - r->size) / (double)r->size);
		assert_true(100 * least_ms >= rows[i].least_percent * (double)l.now);
		assert_true(l.queue_max_ms <= rows[i].most_ms);
		assert_true(l.carried <= r->size + 8 * r->block_size);
	}
}

/* Those that come later get what the first one has, and none much more: while all run, who has a
 * third already ends well before the others. */
static void test_fair_shares(void **state)
{
	static const struct link_row rows[] = {
		{1250, 100, 65536, 32 << 20, 2},
		{1250, 100, 65536, 32 << 20, 4},
		{12500, 40, 65536, 128 << 20, 3},
		{32, 60, 65536, 4 << 20, 2},
	};
	static struct link l;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct link_row *r = &rows[i];
		play_link(&l, r);
		double alone_ms = (double)r->size / r->bytes_per_ms;
		/* Fair: a third alone, two thirds at 1/n. */
		double fair_ms = alone_ms / 3 + alone_ms * 2 / 3 * r->n;
		print_message("row %zu: first done after %lld ms, fair %.0f, all after %lld\n", i,
			      (long long)l.first_done, fair_ms, (long long)l.now);
		assert_true((double)l.first_done > 0.6 * fair_ms);
		assert_true((double)l.first_done < 1.6 * fair_ms);
		assert_true((double)l.now < 1.1 * r->n * alone_ms);
	}
}

/* ---- the sender's side ---- */

static void test_serve(void **state)
{
	struct serve s = {0};
	uint32_t blocks[XFER_WINDOW_MAX + 10];
	for (uint32_t i = 0; i < ARRAY_LEN(blocks); i++)
		blocks[i] = 7 * i;
	serve_add(&s, blocks, 3);
	serve_add(&s, blocks, 4); /* those that wait already do not wait twice */
	assert_int_equal(s.n, 4);
	serve_sent(&s, 2);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.blocks[0], 14);
	serve_add(&s, blocks, 1); /* sent, and asked for again */
	assert_int_equal(s.blocks[2], 0);
	serve_add(&s, blocks, ARRAY_LEN(blocks));
	assert_int_equal(s.n, XFER_WINDOW_MAX);
	serve_sent(&s, s.n);
	assert_int_equal(s.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_reorder),
		cmocka_unit_test(test_want_max),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_window_limits),
		cmocka_unit_test(test_refused_blocks_change_nothing),
		cmocka_unit_test(test_loss_and_back_off),
		cmocka_unit_test(test_back_off_never_overflows),
		cmocka_unit_test(test_late_blocks_are_taken),
		cmocka_unit_test(test_repetitions_do_not_hold_off),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_resume_from_bitmap),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_simulation),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_fair_shares),
		cmocka_unit_test(test_serve),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
