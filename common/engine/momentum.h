/* The momentum of a training in a file, so that one that stops and goes on in another process
 * computes what one that does not stop would. The file stays on its machine: it tells more of
 * the last images than weights do.
 *
 * Layout, little endian: "TSKMOM1\n"; the checkpoint's id as 64 hexadecimal digits; uint64 number of
 * floats; that many float32 in the order of Darknet's layers (biases, scales, weights of each); the
 * sha256 of all of that, as 64 digits. */
#pragma once

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/engine/network.h"

/* Atomically. */
int momentum_save(const char *path, const char id[HASH_SIZE], struct dnet *d, struct err *err);
/* 1: set. 0: there is none for this checkpoint, or it is damaged; d is as it was. */
int momentum_load(const char *path, const char id[HASH_SIZE], struct dnet *d, struct err *err);
