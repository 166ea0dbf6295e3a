/* Blocks on request. Pure logic: no I/O, no clock.
 *
 *   receiver                                        sender
 *      | want [0,1] ----------------------------------> |
 *      | <------------------------------- block 0, 1    |   one MQTT message a block, any order
 *      | want [2,...]  (as blocks come in)  ----------> |
 *      |     nothing for a stall time: ask again        |
 *
 * The sender only answers and keeps no state. A block that comes twice, unasked, out of range or
 * with a wrong length is counted and changes nothing; one that was given up is welcome still.
 *
 * The window, blocks outstanding, follows the link as TCP Vegas does (Brakmo and Peterson, 1995):
 * of each round one block is timed, and what a round takes longer than the shortest one is what
 * waits in queues on the way: window * (round - shortest) / round. The window doubles each round
 * until XFER_QUEUE_MIN blocks wait, and from then on is moved by one block a round so that
 * XFER_QUEUE_MIN to XFER_QUEUE_MAX do. So it comes to what fills the link and a little more, delays
 * what else goes there by a few blocks only, and transfers that share a link, each of which keeps
 * as many blocks in its queue as the others, share it fairly. A round of more than
 * XFER_ROUND_MAX_MS is too long, whatever waits: claims and renewals wait behind it.
 *
 * There is one timeout, of progress: XFER_STALL_ROUNDS rounds as last measured without a new block.
 * It doubles each time until a block that was asked for once has come again (Karn and Partridge,
 * 1987: of one asked for twice nobody knows what it answers). What comes twice because it was asked
 * for twice is a sign of life: a slow link must not carry everything again and again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XFER_WINDOW_MIN 2   /* blocks; where a connection begins, too */
#define XFER_WINDOW_MAX 256 /* blocks; a sender need not remember more wishes */
/* 1 Gbit/s for 100 ms; less than a session's queue takes (MQTT_IN_BYTES_MAX). */
#define XFER_WINDOW_BYTES_MAX (12 * 1024 * 1024)
#define XFER_QUEUE_MIN        2 /* blocks that wait on the way ... */
#define XFER_QUEUE_MAX        4 /* ... when the link is full and nobody hindered */
#define XFER_TICK_MS          4 /* a delay that says nothing: loops turn that often */
#define XFER_ROUND_MAX_MS     4000
#define XFER_STALL_MS         3000 /* before anything was timed */
#define XFER_STALL_MIN_MS     1000
#define XFER_STALL_CAP_MS     30000
#define XFER_STALL_ROUNDS     4
#define XFER_BLOCKS_MAX       (1024 * 1024)

enum xfer_result {
	XFER_OK = 0,    /* new: store it */
	XFER_E_TWICE,   /* already held */
	XFER_E_RANGE,   /* no such block */
	XFER_E_LENGTH,  /* not the length that block has */
	XFER_E_UNASKED, /* missing, but nobody ever asked for it */
	XFER_E_FORGED,  /* its bytes are not those under the manifest's root (part_proven()) */
	XFER_E_PLAIN,   /* of a plain one's length, where it must be sealed */
	XFER_E_SEAL,    /* it does not open with the transfer's key */
};

/* What is wrong with such a block, for logs. */
const char *xfer_result_text(enum xfer_result r);

struct xfer {
	uint64_t size;
	uint32_t block_size, n_blocks, n_held, n_asked;
	uint8_t *held; /* bitmaps, bit i of byte i/8 */
	uint8_t *asked;
	uint32_t next;               /* where the search for a missing block goes on */
	uint32_t frontier;           /* none from here on was ever asked for */
	uint32_t window, window_max; /* blocks */
	bool exploring;              /* the window doubles */
	bool timing;                 /* a block is timed: timed, asked for at timed_ms */
	uint32_t timed;
	int64_t timed_ms;
	int64_t round_ms, round_min_ms; /* last, shortest; 0: not known on this connection */
	unsigned stalls;                /* doublings of the stall time */
	int64_t progress_ms;            /* stall time runs from here */
	int64_t new_ms; /* the last new block, connection or, at first, xfer_init() */
	bool any; /* set by whoever hears blocks that others asked for: these are taken, too */
	uint64_t n_twice, n_refused, n_reasked; /* n_refused: the others but twice */
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
/* So many transfers come in over this connection: what may be outstanding is shared. */
void xfer_share(struct xfer *x, uint32_t n_transfers);
/* Blocks to ask for now (at most max and what the window leaves), marked as asked; none until a
 * quarter of the window, or max, has room. Call it until it returns 0. */
size_t xfer_want(struct xfer *x, int64_t now_ms, uint32_t *ret, size_t max);
enum xfer_result xfer_block(struct xfer *x, uint32_t i, size_t len, int64_t now_ms);
/* Block i was taken but could not be stored: it is missing again. */
void xfer_lost(struct xfer *x, uint32_t i);
/* When xfer_timeout is due; -1: never. */
int64_t xfer_deadline_ms(const struct xfer *x);
/* Nothing came for too long: all outstanding may be asked again. Nothing happens before the
 * deadline, so calling it early does no harm. */
void xfer_timeout(struct xfer *x, int64_t now_ms);
/* The same at once, after a reconnect; what was measured is forgotten, for it may be another link.
 */
void xfer_restart(struct xfer *x, int64_t now_ms);
