/* Adaptive binary range coding: entropy coding of single bits whose probabilities are learned as
 * they go (Martin 1979; carries as in the coder of LZMA). What an arithmetic coder costs over the
 * entropy is below a thousandth, where a Huffman code, which has at least one bit a symbol, cannot
 * follow: most of what we send are zeros.
 *
 * One type for both ways, so that what is written and what is read cannot come apart: range_bit()
 * takes a bit when it encodes and returns one when it decodes. Through a buffer of 64 KiB from or
 * to a file. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* Probability that a bit is 0, in 1/65536: the mean of two that learn at different speeds. */
struct range_model {
	uint16_t fast, slow;
};
#define RANGE_MODEL_INIT ((struct range_model){0x8000, 0x8000})

struct range_coder {
	bool encodes;
	int fd;
	uint8_t *buf;
	size_t at, n;   /* in buf */
	uint64_t bytes; /* written, or read and used */
	int failed;     /* the first error: a negative errno, -EBADMSG at the end of the input */
	uint32_t range;
	/* Encoding: the number so far, less what is written, and bytes that a carry may still
	 * change. */
	uint64_t low;
	uint8_t held;
	uint64_t held_ff;
	bool started;
	/* Decoding. */
	uint32_t code;
};

/* fd stays the caller's. -ENOMEM. */
int range_open(struct range_coder *c, int fd, bool encodes, struct err *err);
unsigned range_bit(struct range_coder *c, struct range_model *m, unsigned bit);
/* `n` <= 32 bits that are as often 0 as 1, the highest first. */
uint32_t range_bits(struct range_coder *c, uint32_t bits, unsigned n);
/* Everything out, or that the input ended where it should. `name` of the file is for the error.
 * -EBADMSG: it ended too early, or there is more; else what the file said. */
int range_finish(struct range_coder *c, const char *name, struct err *err);
void range_close(struct range_coder *c); /* also of a zeroed one */
