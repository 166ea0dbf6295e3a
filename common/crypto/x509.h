/* Certificates (X.509, RFC 5280), and whether an authority stands for them, by OpenSSL. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/crypto/ed25519.h"

#define CERTIFICATE_MAX 768 /* bytes of one, DER: with the longest id about 400 */

struct certificate {
	char name[ID_SIZE]; /* the subject's one common name, a valid id */
	unsigned char key[ED25519_KEY];
	int64_t from_ms, until_ms; /* UTC: not before, not after */
};

/* What it says, without asking whether that is true. -EINVAL: it is no certificate, its name is no
 * id, its key not Ed25519, or it is an authority's. */
int certificate_parse(const void *der, size_t len, struct certificate *ret, struct err *err);
/* The first certificate of a PEM file, as DER. Errors name the file. */
int certificate_read(const char *path, unsigned char ret[CERTIFICATE_MAX], size_t *ret_len,
		     struct err *err);

/* An authority: a self-signed root and its list of revoked certificates. */
struct certifier;

/* Both PEM. -EINVAL: also where the list is not this authority's. Errors name the file. */
int certifier_read(const char *crt, const char *crl, struct certifier **ret, struct err *err);
void certifier_free(struct certifier *c); /* NULL allowed */
/* That the certificate is signed by this very authority (nobody in between), valid at that time
 * (UTC) and not revoked. -EINVAL as certificate_parse(); -EKEYREJECTED: another authority's, or an
 * outdated list; -EKEYEXPIRED: not yet or no longer valid; -EKEYREVOKED. */
int certifier_verify(const struct certifier *c, const void *der, size_t len, int64_t now_ms,
		     struct certificate *ret, struct err *err);
/* Until when (UTC) what it says holds, at most: its own certificate, and its list. */
int64_t certifier_until_ms(const struct certifier *c);
