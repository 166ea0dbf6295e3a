/* Changes of something that was well made, at the head of an input: a byte that says how many, then
 * three bytes each: where (big endian; beyond the end counts from the beginning again) and which
 * bits, 0: it ends there. So one that verifies is what fuzzing begins with. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/mem.h"

struct changes {
	const uint8_t *at;
	size_t n;
};

/* Takes them off the input. */
static inline struct changes changes_take(const uint8_t **data, size_t *size)
{
	struct changes c = {*data + 1, 0};
	if (*size > 0)
		c.n = MIN_OF((size_t) * *data, (*size - 1) / 3);
	*data += MIN_OF(*size, (size_t)1) + 3 * c.n;
	*size -= MIN_OF(*size, (size_t)1) + 3 * c.n;
	return c;
}

/* Returns the new length. */
static inline size_t changes_make(const struct changes *c, uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < c->n && len > 0; i++) {
		const uint8_t *p = c->at + 3 * i;
		size_t where = ((size_t)p[0] << 8 | p[1]) % len;
		if (p[2])
			buf[where] ^= p[2];
		else
			len = where;
	}
	return len;
}
