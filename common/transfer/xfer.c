/* Model: each block is missing, asked (at most XFER_WINDOW of them) or held. Only xfer_want()
 * moves missing -> asked, only xfer_block() asked -> held; timeout and restart move all of asked
 * back to missing, and begin the search at the first block again, so that what is asked next is
 * what may still be on its way. n_asked and n_held always count the bits of their bitmaps, and no
 * block has both. */
#include "common/transfer/xfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STALL_DOUBLINGS_MAX 8 /* each of stalls and patience; the cap is reached before */

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

int xfer_init(struct xfer *x, uint64_t size, uint32_t block_size, const uint8_t *held,
	      int64_t now_ms)
{
	*x = (struct xfer){.size = size, .block_size = block_size, .last_progress_ms = now_ms};
	if (size == 0 || block_size == 0 || (size - 1) / block_size >= XFER_BLOCKS_MAX)
		return -EINVAL;
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

size_t xfer_want(struct xfer *x, int64_t now_ms, uint32_t *ret, size_t max)
{
	size_t n = 0;
	if (x->n_asked == 0)
		x->last_progress_ms = now_ms; /* nothing was waited for until now */
	while (n < max && x->n_asked < XFER_WINDOW && x->n_held + x->n_asked < x->n_blocks) {
		/* Ends: some block is neither held nor asked. */
		while (bit(x->held, x->next) || bit(x->asked, x->next))
			x->next = x->next + 1 < x->n_blocks ? x->next + 1 : 0;
		bit_set(x->asked, x->next);
		x->n_asked++;
		ret[n++] = x->next;
	}
	return n;
}

static enum xfer_result refuse(struct xfer *x, enum xfer_result why)
{
	x->n_refused++;
	return why;
}

/* After a stall it says that the link is slow, not dead. `doubted` bounds how often a sender that
 * repeats itself is believed. */
static void came_twice(struct xfer *x, int64_t now_ms)
{
	if (!x->doubted)
		return;
	x->doubted--;
	x->patience += x->stalls;
	if (x->patience > STALL_DOUBLINGS_MAX)
		x->patience = STALL_DOUBLINGS_MAX;
	x->stalls = 0;
	x->last_progress_ms = now_ms;
}

enum xfer_result xfer_block(struct xfer *x, uint32_t i, size_t len, int64_t now_ms)
{
	if (i >= x->n_blocks)
		return refuse(x, XFER_E_RANGE);
	if (len != xfer_block_len(x, i))
		return refuse(x, XFER_E_LENGTH);
	if (bit(x->held, i)) {
		x->n_twice++;
		came_twice(x, now_ms);
		return XFER_E_TWICE;
	}
	if (!bit(x->asked, i) && !x->any)
		return refuse(x, XFER_E_UNASKED);
	xfer_hold(x, i);
	if (x->doubted)
		x->doubted--;
	x->stalls = x->stalls && x->doubted ? 1 : 0;
	x->last_progress_ms = now_ms;
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
	int64_t ms = (int64_t)XFER_STALL_MS << (x->patience + x->stalls);
	return ms < XFER_STALL_CAP_MS ? ms : XFER_STALL_CAP_MS;
}

int64_t xfer_deadline_ms(const struct xfer *x)
{
	return x->n_asked ? x->last_progress_ms + stall_ms(x) : -1;
}

static void ask_again(struct xfer *x, int64_t now_ms)
{
	x->n_reasked += x->n_asked;
	x->n_asked = 0;
	if (x->asked)
		memset(x->asked, 0, map_bytes(x));
	x->next = 0;
	x->last_progress_ms = now_ms;
}

void xfer_timeout(struct xfer *x, int64_t now_ms)
{
	if (x->n_asked == 0 || now_ms < xfer_deadline_ms(x))
		return;
	x->doubted = 2 * x->n_asked; /* each may come late, and come again */
	ask_again(x, now_ms);
	if (x->stalls < STALL_DOUBLINGS_MAX)
		x->stalls++;
}

void xfer_restart(struct xfer *x, int64_t now_ms)
{
	ask_again(x, now_ms);
	x->doubted = 0;
	x->stalls = 0;
}
