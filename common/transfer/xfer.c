/* Model: each block is missing, asked (at most `window` of them, but for those asked before it
 * shrank) or held. Only xfer_want() moves missing -> asked; timeout and restart move all of asked
 * back to missing, and begin the search at the first block again, so that what is asked next is
 * what may still be on its way. n_asked and n_held always count the bits of their bitmaps, and no
 * block has both. A block is timed only when it is asked for the first time. */
#include "common/transfer/xfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define STALL_DOUBLINGS_MAX 8 /* the cap is reached before */

const char *xfer_result_text(enum xfer_result r)
{
	static const char *const texts[] = {"fine", "held already", "no such block",
					    "not of that block's length", "nobody asked for it",
					    "forged: not the block under the signed root",
					    "found a plain one, expected it sealed",
					    "it does not open with the transfer's key"};
	return texts[r];
}

static bool bit(const uint8_t *map, uint32_t i)
{
	return map[i / 8] >> (i % 8) & 1;
}

static void bit_set(uint8_t *map, uint32_t i)
{
	map[i / 8] |= (uint8_t)(1u << (i % 8));
}

static void bit_clear(uint8_t *map, uint32_t i)
{
	map[i / 8] &= (uint8_t) ~(1u << (i % 8));
}

static size_t map_bytes(const struct xfer *x)
{
	return (x->n_blocks + 7) / 8;
}

static void measure_anew(struct xfer *x)
{
	x->window = XFER_WINDOW_MIN;
	x->exploring = true;
	x->timing = false;
	x->round_min_ms = 0;
}

int xfer_init(struct xfer *x, uint64_t size, uint32_t block_size, const uint8_t *held,
	      int64_t now_ms)
{
	*x = (struct xfer){
		.size = size, .block_size = block_size, .progress_ms = now_ms, .new_ms = now_ms};
	if (size == 0 || block_size == 0 || (size - 1) / block_size >= XFER_BLOCKS_MAX)
		return -EINVAL;
	measure_anew(x);
	xfer_share(x, 1);
	x->n_blocks = (uint32_t)((size - 1) / block_size) + 1;
	x->held = calloc(map_bytes(x), 1);
	x->asked = calloc(map_bytes(x), 1);
	if (!x->held || !x->asked) {
		xfer_done(x);
		return -ENOMEM;
	}
	for (uint32_t i = 0; held && i < x->n_blocks; i++)
		if (bit(held, i))
			xfer_hold(x, i);
	return 0;
}

void xfer_done(struct xfer *x)
{
	free(x->held);
	free(x->asked);
	*x = (struct xfer){0};
}

void xfer_hold(struct xfer *x, uint32_t i)
{
	if (i >= x->n_blocks || bit(x->held, i))
		return;
	if (bit(x->asked, i)) {
		bit_clear(x->asked, i);
		x->n_asked--;
	}
	bit_set(x->held, i);
	x->n_held++;
}

bool xfer_complete(const struct xfer *x)
{
	return x->n_blocks > 0 && x->n_held == x->n_blocks;
}

uint32_t xfer_block_len(const struct xfer *x, uint32_t i)
{
	if (i >= x->n_blocks)
		return 0;
	if (i < x->n_blocks - 1)
		return x->block_size;
	return (uint32_t)(x->size - (uint64_t)i * x->block_size);
}

void xfer_share(struct xfer *x, uint32_t n_transfers)
{
	uint32_t bytes = XFER_WINDOW_BYTES_MAX / MAX_OF(n_transfers, 1u);
	x->window_max = MIN_OF(bytes / x->block_size, (uint32_t)XFER_WINDOW_MAX);
	x->window_max = MAX_OF(x->window_max, (uint32_t)XFER_WINDOW_MIN);
	x->window = MIN_OF(x->window, x->window_max);
}

static void ask(struct xfer *x, uint32_t i, int64_t now_ms)
{
	bit_set(x->asked, i);
	x->n_asked++;
	if (i < x->frontier)
		return;
	x->frontier = i + 1;
	if (x->timing)
		return;
	x->timing = true;
	x->timed = i;
	x->timed_ms = now_ms;
}

size_t xfer_want(struct xfer *x, int64_t now_ms, uint32_t *ret, size_t max)
{
	size_t n = 0, room = x->n_asked < x->window ? x->window - x->n_asked : 0;
	if (room < MIN_OF(x->window / 4, max))
		return 0;
	if (x->n_asked == 0)
		x->progress_ms = now_ms; /* nothing was waited for until now */
	for (; n < MIN_OF(room, max) && x->n_held + x->n_asked < x->n_blocks; n++) {
		/* Ends: some block is neither held nor asked. */
		while (bit(x->held, x->next) || bit(x->asked, x->next))
			x->next = x->next + 1 < x->n_blocks ? x->next + 1 : 0;
		ask(x, x->next, now_ms);
		ret[n] = x->next;
	}
	return n;
}

static enum xfer_result refuse(struct xfer *x, enum xfer_result why)
{
	x->n_refused++;
	return why;
}

/* The block that was timed has come: the window for the next round. */
static void end_round(struct xfer *x, int64_t now_ms)
{
	int64_t round = MAX_OF(now_ms - x->timed_ms, 1);
	x->timing = false;
	x->stalls = 0;
	x->round_ms = round;
	if (!x->round_min_ms || round < x->round_min_ms)
		x->round_min_ms = round;
	int64_t delay = round - x->round_min_ms;
	uint32_t queued = delay > XFER_TICK_MS ? (uint32_t)(x->window * delay / round) : 0;
	bool slow = round > XFER_ROUND_MAX_MS;
	if (queued < XFER_QUEUE_MIN && !slow) {
		x->window += x->exploring && 2 * round <= XFER_ROUND_MAX_MS ? x->window : 1;
	} else {
		/* What exploring went too far is taken back at once. */
		if (queued > XFER_QUEUE_MAX || slow)
			x->window -= x->exploring ? queued / 2 : 1;
		x->exploring = false;
	}
	x->window = MIN_OF(MAX_OF(x->window, (uint32_t)XFER_WINDOW_MIN), x->window_max);
}

enum xfer_result xfer_block(struct xfer *x, uint32_t i, size_t len, int64_t now_ms)
{
	if (i >= x->n_blocks)
		return refuse(x, XFER_E_RANGE);
	if (len != xfer_block_len(x, i))
		return refuse(x, XFER_E_LENGTH);
	if (bit(x->held, i)) {
		/* As often as it was asked for again, no sender can put off a stall for ever. */
		if (++x->n_twice <= x->n_reasked)
			x->progress_ms = now_ms;
		return XFER_E_TWICE;
	}
	if (i >= x->frontier && !x->any)
		return refuse(x, XFER_E_UNASKED);
	xfer_hold(x, i);
	x->progress_ms = x->new_ms = now_ms;
	if (x->timing && i == x->timed)
		end_round(x, now_ms);
	return XFER_OK;
}

void xfer_lost(struct xfer *x, uint32_t i)
{
	if (i >= x->n_blocks || !bit(x->held, i))
		return;
	bit_clear(x->held, i);
	x->n_held--;
}

static int64_t stall_ms(const struct xfer *x)
{
	int64_t ms = XFER_STALL_MS;
	if (x->round_ms)
		ms = MAX_OF(XFER_STALL_ROUNDS * x->round_ms, XFER_STALL_MIN_MS);
	return MIN_OF(ms << x->stalls, XFER_STALL_CAP_MS);
}

int64_t xfer_deadline_ms(const struct xfer *x)
{
	return x->n_asked ? x->progress_ms + stall_ms(x) : -1;
}

static void ask_again(struct xfer *x, int64_t now_ms)
{
	x->n_reasked += x->n_asked;
	x->n_asked = 0;
	if (x->asked)
		memset(x->asked, 0, map_bytes(x));
	x->next = 0;
	x->progress_ms = now_ms;
	measure_anew(x);
}

void xfer_timeout(struct xfer *x, int64_t now_ms)
{
	if (x->n_asked == 0 || now_ms < xfer_deadline_ms(x))
		return;
	ask_again(x, now_ms);
	if (x->stalls < STALL_DOUBLINGS_MAX)
		x->stalls++;
}

void xfer_restart(struct xfer *x, int64_t now_ms)
{
	ask_again(x, now_ms);
	x->new_ms = now_ms;
	x->round_ms = 0;
	x->stalls = 0;
}
