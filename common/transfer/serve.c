#include "common/transfer/serve.h"

#include <string.h>

#include "common/base/mem.h"

void serve_add(struct serve *s, const uint32_t *blocks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t k = 0;
		while (k < s->n && s->blocks[k] != blocks[i])
			k++;
		if (k == s->n && s->n < ARRAY_LEN(s->blocks))
			s->blocks[s->n++] = blocks[i];
	}
}

void serve_sent(struct serve *s, size_t n)
{
	s->n -= n;
	memmove(&s->blocks[0], &s->blocks[n], sizeof(s->blocks[0]) * s->n);
}
