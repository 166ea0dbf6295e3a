/* Signed messages: a JSON text that ends with who signed it, and the signature over its exact
 * bytes.
 *
 *     {...,"certificate":"<base64 of DER>","signature":"<128 lower-case hex digits>"}
 *
 * Signed (Ed25519) is `tasuki/1 message`, a zero byte, the whole topic, a zero byte, and all bytes
 * of the text up to `,"signature":`. So the certificate is signed as well, and so is where the
 * message goes: which site, which device, which direction. It is verified on the bytes, before any
 * JSON is parsed; docs/protocol.md has it for other programs. */
#pragma once

#include "common/trust/authority.h"
#include "common/trust/refusal.h"

/* What the tail adds to a message, at most; it counts in the message's limit (common/protocol). */
#define SIGNED_TAIL_MAX 1200

struct signer; /* a certificate and its key */

/* That they belong together. Errors name the file. */
int signer_read(const struct identity_paths *paths, struct signer **ret, struct err *err);
void signer_free(struct signer *s); /* NULL allowed */
/* Its certificate, DER. */
const unsigned char *signer_der(const struct signer *s, size_t *ret_len);

/* `text` (taken; NULL allowed) with the tail, for this topic. The caller frees it; NULL: out of
 * memory, or not an object with a member. */
char *signed_print(const struct signer *s, const char *topic, char *text);

/* Who signed it: nothing but the tail is looked at. `name` "": anybody of that role. On
 * REFUSAL_NONE *ret is the certificate's content; otherwise err says what was found. now_ms: UTC.
 */
enum refusal signed_open(struct authority *a, enum role role, const char *name, const char *topic,
			 const void *payload, size_t len, int64_t now_ms, struct certificate *ret,
			 struct err *err);
