/* Blocks that somebody wants of a checkpoint, in the order in which he asked; the sender's memory
 * of a transfer, all of it. Pure logic. A zeroed one is empty. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/transfer/xfer.h"

struct serve {
	uint32_t blocks[XFER_WINDOW_MAX];
	size_t n;
};

/* Those that are not waiting yet; what is beyond the largest window is left out, and will be asked
 * for again. */
void serve_add(struct serve *s, const uint32_t *blocks, size_t n);
/* The first n have been sent. */
void serve_sent(struct serve *s, size_t n);
