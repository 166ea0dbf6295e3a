/* The key that a checkpoint for everyone is sealed with, on its way to one device:
 *
 *   device   a fresh X25519 pair (D, d); asks with D
 *   trainer  a fresh pair (T, t); wrap = HKDF-SHA256(X25519(t, D), salt: D || T, info)
 *            answers with T and AES-256-GCM(wrap, key), the info authenticated with it
 *
 * where the info is `tasuki/1 site key`, site, device, trainer and the offer's sequence in decimal,
 * a zero byte between any two. So the answer opens for the wish it was made for, and for nothing
 * else; that it comes from the trainer, and the wish from the device, is their signatures' matter.
 * Everybody who has the key can seal with it: what a block is, its manifest's root says. */
#pragma once

#include <stdint.h>

#include "common/base/id.h"
#include "common/crypto/seal.h"

#define SITEKEY_SEALED (SEAL_KEY + SEAL_OVERHEAD) /* bytes */

struct sitekey_way {
	const char *site, *device, *trainer; /* ids */
	int64_t sequence;
};

/* The trainer's side. `theirs`: the wish's public key; ret_seal, ret_key: the answer's members, the
 * latter 2 * SITEKEY_SEALED digits and a zero. -EBADMSG: `theirs` is no hex, or a point of small
 * order. */
int sitekey_wrap(const struct sitekey_way *w, const char *theirs, const uint8_t key[SEAL_KEY],
		 char ret_seal[HASH_SIZE], char ret_key[2 * SITEKEY_SEALED + 1]);
/* The device's, with the pair that it asked with. -EBADMSG: not made for this wish. */
int sitekey_unwrap(const struct sitekey_way *w, const struct seal_pair *mine, const char *theirs,
		   const char *sealed, uint8_t ret[SEAL_KEY]);
