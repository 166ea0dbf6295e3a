#include "common/transfer/sealing.h"

#include <errno.h>
#include <string.h>

#define AAD_SIZE (HASH_HEX + 4)

static void print_aad(const char *payload, uint32_t i, uint8_t ret[AAD_SIZE])
{
	memcpy(ret, payload, HASH_HEX);
	for (int k = 0; k < 4; k++)
		ret[HASH_HEX + k] = (uint8_t)(i >> (24 - 8 * k));
}

int sealing_read_block(struct seal *s, const uint8_t *key, struct proof *proof, const char *path,
		       const struct manifest *m, uint32_t i, void *buf, uint32_t *ret_len,
		       struct err *err)
{
	uint8_t aad[AAD_SIZE], *wire = buf;
	uint32_t len;
	if (!s)
		return part_read_block(path, (uint64_t)m->size, (uint32_t)m->block_size, i, buf,
				       ret_len, err);
	if (!key)
		return err_set(err, -ENOKEY, "checkpoint %.12s: found no key to seal block %u with",
			       manifest_payload(m), i);
	int r = proof_read_block(proof, path, m, i, wire + SEAL_NONCE, &len, err);
	if (r < 0)
		return r;
	print_aad(manifest_payload(m), i, aad);
	if (seal_block(s, key, aad, sizeof(aad), wire + SEAL_NONCE, len, wire) < 0)
		return err_set(err, -ENOKEY, "checkpoint %.12s: block %u cannot be sealed",
			       manifest_payload(m), i);
	*ret_len = len + SEAL_OVERHEAD;
	return 0;
}

int sealing_take_block(struct seal *s, const uint8_t *key, struct part *p, uint32_t i,
		       const void *wire, size_t len, void *buf, int64_t now_ms, struct err *err)
{
	uint8_t aad[AAD_SIZE];
	if (!s)
		return part_block(p, i, wire, len, now_ms, err);
	print_aad(p->id, i, aad);
	if (key && len <= SEALING_BLOCK_MAX &&
	    open_block(s, key, aad, sizeof(aad), wire, len, buf) == 0)
		return part_proven(p, i, buf, len - SEAL_OVERHEAD, now_ms, err);
	p->xfer.n_refused++;
	return i < p->xfer.n_blocks && len == xfer_block_len(&p->xfer, i) ? XFER_E_PLAIN
									  : XFER_E_SEAL;
}
