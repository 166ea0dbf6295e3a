#include "common/encoding/range.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"

#define BUFFER     65536
#define TOP        ((uint32_t)1 << 24) /* the range stays above it */
#define FAST_SHIFT 4
#define SLOW_SHIFT 7
#define CODE_BYTES 4
#define LEAST      64 /* of a probability, in 1/65536 */

static void fail(struct range_coder *c, int code)
{
	if (!c->failed)
		c->failed = code;
}

static void put_byte(struct range_coder *c, uint8_t byte)
{
	if (c->at == BUFFER) {
		int r = file_write_all(c->fd, c->buf, c->at);
		if (r < 0)
			fail(c, r);
		c->at = 0;
	}
	c->buf[c->at++] = byte;
	c->bytes++;
}

/* After the end: zeros, and it has failed. */
static uint8_t get_byte(struct range_coder *c)
{
	if (c->at == c->n) {
		ssize_t n = c->failed ? 0 : read(c->fd, c->buf, BUFFER);
		if (n < 0 && errno == EINTR)
			return get_byte(c);
		if (n <= 0) {
			fail(c, n < 0 ? -errno : -EBADMSG);
			return 0;
		}
		c->at = 0;
		c->n = (size_t)n;
	}
	c->bytes++;
	return c->buf[c->at++];
}

int range_open(struct range_coder *c, int fd, bool encodes, struct err *err)
{
	*c = (struct range_coder){.encodes = encodes, .fd = fd, .range = UINT32_MAX};
	c->buf = malloc(BUFFER);
	if (!c->buf)
		return err_errno(err, -ENOMEM, "encoding");
	for (int i = 0; i < CODE_BYTES && !encodes; i++)
		c->code = c->code << 8 | get_byte(c);
	return 0;
}

void range_close(struct range_coder *c)
{
	free(c->buf);
	c->buf = NULL;
}

/* The highest byte of `low` leaves, once no carry can reach it any more. */
static void shift_low(struct range_coder *c)
{
	uint8_t carry = (uint8_t)(c->low >> 32), byte = (uint8_t)(c->low >> 24);
	if (byte == 0xff && !carry) {
		c->held_ff++;
	} else {
		if (c->started)
			put_byte(c, (uint8_t)(c->held + carry));
		for (; c->held_ff; c->held_ff--)
			put_byte(c, (uint8_t)(0xff + carry));
		c->held = byte;
		c->started = true;
	}
	c->low = (c->low & (TOP - 1)) << 8;
}

static void normalize(struct range_coder *c)
{
	while (c->range < TOP) {
		c->range <<= 8;
		if (c->encodes)
			shift_low(c);
		else
			c->code = c->code << 8 | get_byte(c);
	}
}

/* Takes the lower part of the range for a 0, the upper one for a 1. */
static unsigned split(struct range_coder *c, uint32_t lower, unsigned bit)
{
	if (!c->encodes)
		bit = c->code >= lower;
	if (!bit) {
		c->range = lower;
	} else {
		c->range -= lower;
		if (c->encodes)
			c->low += lower;
		else
			c->code -= lower;
	}
	normalize(c);
	return bit;
}

unsigned range_bit(struct range_coder *c, struct range_model *m, unsigned bit)
{
	uint32_t p = ((uint32_t)m->fast + m->slow) / 2;
	p = p < LEAST ? LEAST : p > 65536 - LEAST ? 65536 - LEAST : p;
	bit = split(c, (c->range >> 16) * p, bit);
	if (bit) {
		m->fast = (uint16_t)(m->fast - (m->fast >> FAST_SHIFT));
		m->slow = (uint16_t)(m->slow - (m->slow >> SLOW_SHIFT));
	} else {
		m->fast = (uint16_t)(m->fast + ((65535u - m->fast) >> FAST_SHIFT));
		m->slow = (uint16_t)(m->slow + ((65535u - m->slow) >> SLOW_SHIFT));
	}
	return bit;
}

uint32_t range_bits(struct range_coder *c, uint32_t bits, unsigned n)
{
	uint32_t ret = 0;
	while (n--)
		ret = ret << 1 | split(c, c->range >> 1, bits >> n & 1);
	return ret;
}

int range_finish(struct range_coder *c, const char *name, struct err *err)
{
	if (c->encodes) {
		/* The decoder reads CODE_BYTES ahead; one more releases what is held. */
		for (int i = 0; i < CODE_BYTES + 1; i++)
			shift_low(c);
		int r = c->failed ? 0 : file_write_all(c->fd, c->buf, c->at);
		if (r < 0)
			fail(c, r);
	} else if (!c->failed) {
		bool more = c->at < c->n;
		ssize_t n = more ? 1 : read(c->fd, c->buf, 1);
		if (n != 0)
			fail(c, n < 0 ? -errno : -EBADMSG);
	}
	if (c->failed == -EBADMSG)
		return err_set(
			err, c->failed,
			"%s: %llu bytes used: expected its end there, neither before nor after",
			name, (unsigned long long)c->bytes);
	return c->failed ? err_errno(err, c->failed, "%s", name) : 0;
}
