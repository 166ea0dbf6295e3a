/* Blocks on request. Pure logic: no I/O, no clock.
 *
 *   receiver                                        sender
 *      | want [0,1,...,7] ----------------------------> |
 *      | <------------------------------ block 0 .. 7   |   one MQTT message a block, any order
 *      | want [8,...]  (as blocks come in)  ----------> |
 *      |     no block for XFER_STALL_MS: ask again      |
 *
 * The receiver keeps at most XFER_WINDOW blocks outstanding; the sender only answers and keeps no
 * state. A block that comes twice, unasked, out of range or with a wrong length is counted and
 * changes nothing.
 *
 * The stall clock runs from the last new block (or from when asking began), so that a slow link
 * that delivers is left alone. A block that comes twice after a stall proves that asking again was
 * too early: the longer stall time is then kept for the rest of the transfer, and what comes twice
 * counts as a sign of life, lest a slow link carry everything again and again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XFER_WINDOW	8
#define XFER_STALL_MS	3000 /* first; doubles to the cap while nothing comes */
#define XFER_STALL_CAP_MS 30000
#define XFER_BLOCKS_MAX (1024 * 1024)

enum xfer_result {
	XFER_OK = 0,   /* new: store it */
	XFER_E_TWICE,  /* already held */
	XFER_E_RANGE,  /* no such block */
	XFER_E_LENGTH, /* not the length that block has */
	XFER_E_UNASKED, /* missing, but nobody asked for it */
};

struct xfer {
	uint64_t size;
	uint32_t block_size, n_blocks, n_held, n_asked;
	uint8_t *held; /* bitmaps, bit i of byte i/8 */
	uint8_t *asked;
	uint32_t next; /* where the search for a missing block goes on */
	unsigned stalls; /* in a row */
	unsigned patience; /* doublings of XFER_STALL_MS that are kept */
	uint32_t doubted; /* blocks still to come of which one may come twice for a stall's sake */
	int64_t last_progress_ms;
	bool any; /* set by whoever hears blocks that others asked for: these are taken, too */
	uint64_t n_twice, n_refused, n_reasked; /* n_refused: range, length, unasked */
};

/* `held` may be NULL (nothing yet) or a bitmap of (n_blocks + 7) / 8 bytes, copied.
 * -EINVAL for impossible sizes, -ENOMEM. */
int xfer_init(struct xfer *x, uint64_t size, uint32_t block_size, const uint8_t *held,
	      int64_t now_ms);
void xfer_done(struct xfer *x);
/* Block i is there already; for who finds out after xfer_init(). */
void xfer_hold(struct xfer *x, uint32_t i);
bool xfer_complete(const struct xfer *x);
/* Length of block i. */
uint32_t xfer_block_len(const struct xfer *x, uint32_t i);
/* Blocks to ask for now (at most max and what the window leaves), marked as asked. */
size_t xfer_want(struct xfer *x, int64_t now_ms, uint32_t *ret, size_t max);
enum xfer_result xfer_block(struct xfer *x, uint32_t i, size_t len, int64_t now_ms);
/* Block i was taken but could not be stored: it is missing again. */
void xfer_lost(struct xfer *x, uint32_t i);
/* When xfer_timeout is due; -1: never. */
int64_t xfer_deadline_ms(const struct xfer *x);
/* Nothing came for too long: all outstanding may be asked again. Nothing happens before the
 * deadline, so calling it early does no harm. */
void xfer_timeout(struct xfer *x, int64_t now_ms);
/* The same at once, after a reconnect; resets the stall count. */
void xfer_restart(struct xfer *x, int64_t now_ms);
