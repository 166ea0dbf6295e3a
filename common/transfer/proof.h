/* The sender's side of blocks that prove themselves: the payload's Merkle tree
 * (common/crypto/merkle.h), made once, gives the root for the manifest and each block its audit
 * path. The receiver's side is part_proven(). A zeroed one is empty. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/checkpoint/manifest.h"
#include "common/crypto/merkle.h"

/* A block after its path. */
#define PROOF_BLOCK_MAX (MERKLE_PATH_MAX + MANIFEST_BLOCK_MAX)

struct proof {
	/* private: */
	char payload[HASH_SIZE];
	uint64_t size;
	uint32_t block_size;
	struct merkle *tree;
};

/* Sets m->root, of the payload that m names, which lies at `path`. Reads all of it, unless the last
 * one was the same. */
int proof_root(struct proof *p, const char *path, struct manifest *m, struct err *err);
/* Its block i after the audit path, in buf: PROOF_BLOCK_MAX bytes. Of m: payload, size and block
 * size. Errors as of part_read_block(). */
int proof_read_block(struct proof *p, const char *path, const struct manifest *m, uint32_t i,
		     void *buf, uint32_t *ret_len, struct err *err);
void proof_done(struct proof *p);
