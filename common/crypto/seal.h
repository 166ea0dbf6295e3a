/* Sealing what travels: keys agreed with X25519 (RFC 7748), derived with HKDF-SHA256 (RFC 5869),
 * blocks sealed with AES-256-GCM (NIST SP 800-38D), all of OpenSSL 3.0's EVP.
 *
 * On the wire a sealed block is   nonce (12) || ciphertext (as long as the plain text) || tag (16),
 * where the nonce is random and new for every sealing, also of the same bytes. (With random nonces
 * a key may seal 2^32 blocks, SP 800-38D section 8.3; a transfer has some thousand.) */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SEAL_KEY      32 /* bytes of a key: public, secret, shared, of a block */
#define SEAL_NONCE    12
#define SEAL_TAG      16
#define SEAL_OVERHEAD (SEAL_NONCE + SEAL_TAG)

struct seal_pair {
	uint8_t secret[SEAL_KEY], public[SEAL_KEY];
};

/* A fresh pair. */
int seal_pair_new(struct seal_pair *ret);
/* The pair that `secret` belongs to. */
int seal_pair_of(const uint8_t secret[SEAL_KEY], struct seal_pair *ret);
/* X25519. -EBADMSG: `theirs` is a point of small order, so that the result would be zeros whatever
 * our secret is (RFC 7748, section 6.1). */
int seal_shared(const uint8_t secret[SEAL_KEY], const uint8_t theirs[SEAL_KEY],
		uint8_t ret[SEAL_KEY]);
/* HKDF-SHA256, both steps. An empty salt counts as zeros. */
int seal_derive(const uint8_t *secret, size_t secret_len, const uint8_t *salt, size_t salt_len,
		const uint8_t *info, size_t info_len, uint8_t *ret, size_t ret_len);
/* `len` bytes that nobody can guess. */
int seal_random(uint8_t *ret, size_t len);
/* Overwrites a secret that is used no more, and is not left out by a compiler. */
void seal_wipe(void *secret, size_t len);

/* Contexts that are used for every block, of any key: one thread at a time; nothing is allocated
 * per block. */
struct seal;
int seal_new(struct seal **ret);
void seal_free(struct seal *s); /* NULL allowed */
void seal_freep(struct seal **s);

/* Seals `len` bytes to wire[SEAL_OVERHEAD + len]. `plain` may be wire + SEAL_NONCE: in place. */
int seal_block(struct seal *s, const uint8_t key[SEAL_KEY], const void *aad, size_t aad_len,
	       const uint8_t *plain, size_t len, uint8_t *wire);
/* The same under the nonce that is in wire[0..11] already, which must never be used twice with a
 * key: for published vectors. */
int seal_block_under_nonce(struct seal *s, const uint8_t key[SEAL_KEY], const void *aad,
			   size_t aad_len, const uint8_t *plain, size_t len, uint8_t *wire);
/* Opens wire[wire_len] to plain[wire_len - SEAL_OVERHEAD], which may be wire + SEAL_NONCE.
 * -EBADMSG: too short, or not sealed with this key and these `aad`; then `plain` is zeros. */
int open_block(struct seal *s, const uint8_t key[SEAL_KEY], const void *aad, size_t aad_len,
	       const uint8_t *wire, size_t wire_len, uint8_t *plain);
