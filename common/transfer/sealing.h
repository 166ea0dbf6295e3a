/* Blocks that travel sealed (docs/protocol.md, "Sealed blocks"):
 *
 *    nonce || AES-256-GCM(key, nonce, AAD: payload || block number, audit path || data) || tag
 *
 * The payload by its 64 digits, the number in 4 bytes, big endian. So a block opens as that block
 * of that payload and as no other, and what opens is proven by the manifest's root before it is
 * stored. With s NULL (no identity) blocks travel as they are, and neither key nor proof is looked
 * at. */
#pragma once

#include <stdint.h>

#include "common/crypto/seal.h"
#include "common/transfer/part.h"
#include "common/transfer/proof.h"

/* The longest one, as it travels. */
#define SEALING_BLOCK_MAX (PROOF_BLOCK_MAX + SEAL_OVERHEAD)

/* The sender's side: block i of the file at `path`, m's payload (of m: id or payload, size, block
 * size), as it is to travel, in buf: SEALING_BLOCK_MAX bytes. Errors as of part_read_block();
 * -ENOKEY: key is NULL, or cannot be sealed with. */
int sealing_read_block(struct seal *s, const uint8_t *key, struct proof *proof, const char *path,
		       const struct manifest *m, uint32_t i, void *buf, uint32_t *ret_len,
		       struct err *err);
/* The receiver's: as part_block(), of a block as it came. XFER_E_PLAIN, XFER_E_SEAL (also where key
 * is NULL) or XFER_E_FORGED where it must not be stored. buf: SEALING_BLOCK_MAX bytes to open it
 * in. */
int sealing_take_block(struct seal *s, const uint8_t *key, struct part *p, uint32_t i,
		       const void *wire, size_t len, void *buf, int64_t now_ms, struct err *err);
