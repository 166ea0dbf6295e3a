/* Merkle trees over the blocks of a file, as RFC 6962 (section 2.1; the same in RFC 9162) has them:
 *
 *   leaf = SHA-256(0x00 || block)        node = SHA-256(0x01 || left || right)
 *
 * A last one that has no neighbour goes up a level as it is, which gives the trees that the RFC
 * defines by the largest power of two below n. With the root from somebody who is trusted, a block
 * from anybody is proven by its audit path: its neighbours from the leaf up, lowest first, each
 * MERKLE_HASH bytes. The path's length follows from i and n, so it needs none on the wire. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"

#define MERKLE_HASH       32
#define MERKLE_LEAVES_MAX (1024 * 1024)
#define MERKLE_PATH_MAX   (20 * MERKLE_HASH) /* bytes: log2 of that */

struct merkle;

/* Over the first `size` bytes of the file, which it reads once; 64 bytes of memory a block stay.
 * -EINVAL: no block, or more than MERKLE_LEAVES_MAX; -EIO: the file is shorter. */
int merkle_file(const char *path, uint64_t size, uint32_t block_size, struct merkle **ret,
		struct err *err);
void merkle_free(struct merkle *m); /* NULL allowed */
void merkle_root(const struct merkle *m, char out[HASH_SIZE]);
/* The audit path of block i, which must be there; returns its length in bytes. */
size_t merkle_path(const struct merkle *m, uint32_t i, uint8_t out[MERKLE_PATH_MAX]);

/* Of block i of n, in bytes; 0 also where there is no such block. */
size_t merkle_path_len(uint32_t i, uint32_t n);
/* Whether these are block i of n under the root and its audit path, merkle_path_len(i, n) bytes.
 * -EBADMSG: they are not; -EINVAL: no such block, or the root is no hash; -EIO. */
int merkle_verify(const char *root, uint32_t i, uint32_t n, const uint8_t *path, const void *block,
		  size_t len);
