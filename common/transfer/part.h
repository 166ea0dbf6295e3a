/* A checkpoint that is on its way in, in the form in which it travels, named by its payload's
 * sha256 (manifest_payload()): DIR/<id>.part (the blocks in their places) and DIR/<id>.map (which
 * ones are there), so that a transfer goes on after any disconnect, kill or restart.
 *
 * The map has a header (whose map it is) and 8 bytes a block: 0, or a check sum of the block's
 * bytes, written after them. part_open() reads each block that the map names and holds it only if
 * the sum agrees, so the order in which a crash lets bytes reach the disk does not matter: what
 * was torn is asked for again. Every PART_WRITE_BLOCKS blocks the kernel is told to begin writing,
 * so that a power cut costs no more than it had not done. What is complete is verified against the
 * id, and synced.
 *
 * Both files are made when the first block comes: whoever announces a checkpoint and sends nothing
 * of it takes no room. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/checkpoint/manifest.h"
#include "common/transfer/xfer.h"

#define PART_WRITE_BLOCKS 64

struct part {
	struct xfer xfer;
	char id[HASH_SIZE];
	char root[HASH_SIZE]; /* of the manifest; "": it has none */
	/* Set by whoever shares the blocks' key with the manifest's signer alone: what opens is his,
	 * and part_finish() verifies the whole; so part_proven() looks at no path, which saves one
	 * of two sha256 of all that comes in. */
	bool from_signer;
	/* private: */
	int data_fd, map_fd;
	uint32_t unwritten;
	char data_path[FILE_PATH_MAX], map_path[FILE_PATH_MAX];
};

/* Opens what is there; a leftover of another size or block size is removed. -ENOSPC when the file
 * system has not room for the whole. All blocks may be there already: see xfer_complete(&p->xfer).
 * On failure there is nothing to close. */
int part_open(struct part *p, const char *dir, const struct manifest *m, int64_t now_ms,
	      struct err *err);
/* Stores a block; with the first one the space of all is reserved, where the file system can, or
 * -ENOSPC. Returns an enum xfer_result (>= 0; all but XFER_OK change nothing) or a negative
 * errno from the disk: the block is then missing still, and the part stays usable. */
int part_block(struct part *p, uint32_t i, const void *data, size_t len, int64_t now_ms,
	       struct err *err);
/* The same of a block that comes after its audit path: stored only where these prove it to be that
 * block under the manifest's root, else XFER_E_FORGED (also where the manifest has none); but see
 * from_signer. */
int part_proven(struct part *p, uint32_t i, const void *proven, size_t len, int64_t now_ms,
		struct err *err);
/* When complete: verifies the sha256 against the id, syncs, and gives the path of the finished
 * file (DIR/<id>.part; the caller moves it). -EBADMSG when the hash differs: the part is deleted,
 * the next part_open begins anew. -EAGAIN when blocks are missing. The part is closed in any
 * case. */
int part_finish(struct part *p, char path[FILE_PATH_MAX], struct err *err);
void part_close(struct part *p); /* keeps the files; a zeroed or closed one is allowed */
/* Whether blocks of it are on disk. */
bool part_there(const char *dir, const char *id);
/* Deletes what is left of a transfer. */
void part_discard(const char *dir, const char *id);
/* Deletes what is left of all transfers but that of `keep` (""; none). */
void part_sweep(const char *dir, const char *keep);

/* The sender's side: reads block i of the file. *ret_len is set; -ERANGE past the end. */
int part_read_block(const char *path, uint64_t size, uint32_t block_size, uint32_t i, void *buf,
		    uint32_t *ret_len, struct err *err);
