/* Blocks of a sealed transfer, between a file and the wire:
 *
 *   seal_block(key, "<payload>/<n>", audit path || data)       (common/crypto/seal.h, proof.h)
 *
 * Sealed with whichever key the two ends have agreed on: a handover's, or a fleet's. What is sealed
 * with another one, or was meant for another place, does not open; what was sealed by somebody who
 * has the key, but is not the payload that the manifest's signer had, does not prove itself. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/crypto/seal.h"
#include "common/transfer/part.h"
#include "common/transfer/proof.h"

#define SEALED_BLOCK_MAX (SEAL_OVERHEAD + PROOF_BLOCK_MAX)

/* What is used for all transfers of a program, on one thread. A zeroed one allows done(). */
struct sealed {
	struct seal *seal;
	uint8_t *buf; /* SEALED_BLOCK_MAX bytes: the last block that was sealed or opened */
};

int sealed_init(struct sealed *s); /* -ENOMEM */
void sealed_done(struct sealed *s);

/* Block i of the payload that m names and that lies at `path`, sealed, in s->buf. Errors as of
 * part_read_block(). */
int sealed_read_block(struct sealed *s, const uint8_t key[SEAL_KEY], struct proof *p,
		      const char *path, const struct manifest *m, uint32_t i, uint32_t *ret_len,
		      struct err *err);
/* Opens, proves and stores it: as part_block(), and XFER_E_SEAL or XFER_E_FORGED. */
int sealed_block(struct sealed *s, const uint8_t key[SEAL_KEY], struct part *p, uint32_t i,
		 const void *wire, size_t len, int64_t now_ms, struct err *err);
