/* Signatures: Ed25519 (RFC 8032, the pure form), by OpenSSL's EVP. */
#pragma once

#include <stddef.h>

#include "common/base/err.h"

#define ED25519_KEY       32 /* bytes of a private and of a public key */
#define ED25519_SIGNATURE 64

struct ed25519; /* a private key */

/* PEM as `openssl genpkey -algorithm ed25519` writes it, not encrypted. -ENOENT, -EINVAL ... with
 * the file named. */
int ed25519_read(const char *path, struct ed25519 **ret, struct err *err);
int ed25519_new(const unsigned char private_key[ED25519_KEY], struct ed25519 **ret);
void ed25519_free(struct ed25519 *k); /* NULL allowed */

void ed25519_public(const struct ed25519 *k, unsigned char ret[ED25519_KEY]);
int ed25519_sign(const struct ed25519 *k, const void *data, size_t len,
		 unsigned char ret[ED25519_SIGNATURE]);
/* 0; -EBADMSG: it is no signature of these bytes by that key. */
int ed25519_verify(const unsigned char public_key[ED25519_KEY], const void *data, size_t len,
		   const unsigned char signature[ED25519_SIGNATURE]);
