#include "common/transfer/sealed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PLACE_SIZE (HASH_SIZE + 11) /* payload, slash, number */

int sealed_init(struct sealed *s)
{
	int r = seal_new(&s->seal);
	if (r == 0 && !(s->buf = malloc(SEALED_BLOCK_MAX)))
		r = -ENOMEM;
	if (r < 0)
		sealed_done(s);
	return r;
}

void sealed_done(struct sealed *s)
{
	seal_free(s->seal);
	free(s->buf);
	*s = (struct sealed){0};
}

/* What is authenticated beside the bytes: where the block belongs. */
static size_t place(const char *payload, uint32_t i, char out[PLACE_SIZE])
{
	return (size_t)snprintf(out, PLACE_SIZE, "%s/%u", payload, (unsigned)i);
}

int sealed_read_block(struct sealed *s, const uint8_t key[SEAL_KEY], struct proof *p,
		      const char *path, const struct manifest *m, uint32_t i, uint32_t *ret_len,
		      struct err *err)
{
	char at[PLACE_SIZE];
	uint32_t len;
	uint8_t *plain = s->buf + SEAL_NONCE;
	int r = proof_read_block(p, path, m, i, plain, &len, err);
	if (r < 0)
		return r;
	r = seal_block(s->seal, key, at, place(manifest_payload(m), i, at), plain, len, s->buf);
	if (r < 0)
		return err_errno(err, r, "%s: sealing block %u", path, i);
	*ret_len = SEAL_OVERHEAD + len;
	return 0;
}

int sealed_block(struct sealed *s, const uint8_t key[SEAL_KEY], struct part *p, uint32_t i,
		 const void *wire, size_t len, int64_t now_ms, struct err *err)
{
	char at[PLACE_SIZE];
	if (i >= p->xfer.n_blocks || len > SEALED_BLOCK_MAX)
		return part_proven(p, i, s->buf, 0, now_ms, err); /* which says why */
	int r = open_block(s->seal, key, at, place(p->id, i, at), wire, len, s->buf);
	if (r == 0)
		return part_proven(p, i, s->buf, len - SEAL_OVERHEAD, now_ms, err);
	if (r != -EBADMSG)
		return err_errno(err, r, "opening block %u", i);
	p->xfer.n_refused++;
	return XFER_E_SEAL;
}
