/* The keys of one handover's blocks (docs/protocol.md, "Sealed blocks").
 *
 *    trainer                                                     device
 *       | claim {..., seal: its public key} -----------------------> |   both signed, and so
 *       | <----------- grant {..., fence, seal: its public key} ----- |   are these keys
 *
 *    secret = X25519(own secret key, the other's public key)
 *    key    = HKDF-SHA256(secret, salt: the trainer's || the device's public key,
 *             info: "tasuki/1 seal" 0 site 0 device 0 trainer 0 fence 0 direction 0 payload 0)
 *
 * Fence in decimal, direction `to-trainer` or `to-device`, payload the 64 digits that name it; the
 * zeros are bytes. So each payload, each way, under each fence has a key of its own.
 *
 * Each pair is made for one handover and forgotten when it is over: whoever keeps what crossed the
 * broker and gets hold of either end's certificate and state later cannot read it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/crypto/seal.h"
#include "common/transfer/xfer.h"
#include "common/trust/refusal.h"

/* What one end keeps of the agreement, as messages, state file and database have it: 64 lower-case
 * hex digits. A zeroed one is empty. */
struct sealed {
	char secret[HASH_SIZE]; /* its own X25519 key; "": none */
	char theirs[HASH_SIZE]; /* the other end's public one; "": not heard yet */
};

/* A fresh pair, with nobody yet. */
int sealed_begin(struct sealed *s);
/* Of its own pair, for the message. */
int sealed_public(const struct sealed *s, char ret[HASH_SIZE]);
/* Whether what a claim or a grant has as `seal` can be agreed with; err says what was found. */
enum refusal sealed_check(const char *seal, struct err *err);
/* What such a block is refused as; REFUSAL_NONE: it is not, or not for its seal. */
enum refusal sealed_refusal(enum xfer_result r);
void sealed_wipe(struct sealed *s);

/* One payload on its way. */
struct sealed_transfer {
	const char *site, *device, *trainer;
	int64_t fence;
	const char *payload;
	bool to_device;  /* which way */
	bool own_device; /* which end this is */
};

/* The key of the transfer that was asked for last: it is derived once. A zeroed one is empty. */
struct sealed_memo {
	struct sealed of;
	int64_t fence;
	bool to_device;
	char payload[HASH_SIZE];
	uint8_t key[SEAL_KEY];
};

/* The transfer's key, in the memo until the next call; ids are the same at every call with one
 * memo. NULL: the other end's key is not known, or cannot be agreed with. */
const uint8_t *sealed_key(struct sealed_memo *m, const struct sealed *s,
			  const struct sealed_transfer *t);
void sealed_forget(struct sealed_memo *m);
