/* sha256 (FIPS 180-4). With common/mqtt this folder is the only door to OpenSSL. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"

struct hash;

int hash_new(struct hash **ret);
void hash_free(struct hash *h); /* NULL allowed */
int hash_update(struct hash *h, const void *data, size_t len);
/* Ends the hash, writes it as hex; the object can then only be freed. */
int hash_hex(struct hash *h, char out[HASH_SIZE]);

/* In one go. */
int hash_bytes(const void *data, size_t len, char out[HASH_SIZE]);
/* Streams the file: constant memory. */
int hash_file(const char *path, char out[HASH_SIZE], struct err *err);
