#include "common/trust/signed.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/crypto/base64.h"
#include "common/crypto/ed25519.h"

#define CONTEXT       "tasuki/1 message" /* and its NUL: no other kind of text is signed so */
#define BEFORE_DER    ",\"certificate\":\""
#define AFTER_DER     "\""
#define BEFORE_SIGNED ",\"signature\":\""
#define AFTER_SIGNED  "\"}"
#define HEX           (2 * ED25519_SIGNATURE)
#define LEN(s)        (sizeof(s) - 1)

_Static_assert(LEN(BEFORE_DER) + BASE64_LEN(CERTIFICATE_MAX) + LEN(AFTER_DER) + LEN(BEFORE_SIGNED) +
			       HEX + LEN(AFTER_SIGNED) <=
		       SIGNED_TAIL_MAX,
	       "the longest tail");

struct signer {
	struct ed25519 *key;
	unsigned char der[CERTIFICATE_MAX];
	size_t der_len;
	char base64[BASE64_LEN(CERTIFICATE_MAX) + 1];
};

int signer_read(const struct identity_paths *paths, struct signer **ret, struct err *err)
{
	struct certificate c;
	unsigned char public_key[ED25519_KEY];
	struct signer *s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(err, -ENOMEM, "%s", paths->certificate);
	int r = certificate_read(paths->certificate, s->der, &s->der_len, err);
	if (r == 0) {
		r = certificate_parse(s->der, s->der_len, &c, err);
		if (r < 0)
			err_prefix(err, "%s", paths->certificate);
	}
	if (r == 0)
		r = ed25519_read(paths->key, &s->key, err);
	if (r == 0) {
		ed25519_public(s->key, public_key);
		if (memcmp(public_key, c.key, sizeof(public_key)) != 0)
			r = err_set(err, -EINVAL, "%s: is not the key of the certificate %s",
				    paths->key, paths->certificate);
	}
	if (r < 0) {
		signer_free(s);
		return r;
	}
	base64_encode(s->der, s->der_len, s->base64);
	*ret = s;
	return 0;
}

void signer_free(struct signer *s)
{
	if (!s)
		return;
	ed25519_free(s->key);
	free(s);
}

const unsigned char *signer_der(const struct signer *s, size_t *ret_len)
{
	*ret_len = s->der_len;
	return s->der;
}

/* What is signed: context and topic, each with its NUL, and the text. */
static unsigned char *signed_bytes(const char *topic, const void *text, size_t len, size_t *ret_len)
{
	size_t n_topic = strlen(topic) + 1, n = sizeof(CONTEXT) + n_topic;
	unsigned char *p = malloc(n + len);
	if (!p)
		return NULL;
	memcpy(p, CONTEXT, sizeof(CONTEXT));
	memcpy(p + sizeof(CONTEXT), topic, n_topic);
	memcpy(p + n, text, len);
	*ret_len = n + len;
	return p;
}

/* ---- writing ---- */

static void to_hex(const unsigned char *bytes, size_t n, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		*ret++ = digits[bytes[i] >> 4];
		*ret++ = digits[bytes[i] & 15];
	}
}

char *signed_print(const struct signer *s, const char *topic, char *text)
{
	_cleanup_free_ char *owned = text;
	size_t len = owned ? strlen(owned) : 0, n, n_signed;
	if (len < 3 || text[len - 1] != '}')
		return NULL;
	_cleanup_free_ char *ret = malloc(len + SIGNED_TAIL_MAX + 1);
	unsigned char signature[ED25519_SIGNATURE];
	if (!ret)
		return NULL;
	n = (size_t)sprintf(ret, "%.*s" BEFORE_DER "%s" AFTER_DER, (int)len - 1, text, s->base64);
	_cleanup_free_ unsigned char *bytes = signed_bytes(topic, ret, n, &n_signed);
	if (!bytes || ed25519_sign(s->key, bytes, n_signed, signature) < 0)
		return NULL;
	memcpy(ret + n, BEFORE_SIGNED, LEN(BEFORE_SIGNED));
	n += LEN(BEFORE_SIGNED);
	to_hex(signature, sizeof(signature), ret + n);
	memcpy(ret + n + HEX, AFTER_SIGNED, sizeof(AFTER_SIGNED));
	return TAKE_PTR(ret);
}

/* ---- reading ---- */

struct tail {
	size_t n_signed; /* bytes of the text that are signed */
	unsigned char der[CERTIFICATE_MAX], signature[ED25519_SIGNATURE];
	size_t der_len;
};

/* Whether the text ends with s; then *len is what is before it. */
static bool take_end(const char *text, size_t *len, const char *s, size_t n)
{
	if (*len < n || memcmp(text + *len - n, s, n) != 0)
		return false;
	*len -= n;
	return true;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(const char *text, size_t *len, unsigned char ret[ED25519_SIGNATURE])
{
	if (*len < HEX)
		return false;
	*len -= HEX;
	for (size_t i = 0; i < ED25519_SIGNATURE; i++) {
		int high = digit(text[*len + 2 * i]), low = digit(text[*len + 2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		ret[i] = (unsigned char)(high << 4 | low);
	}
	return true;
}

/* From the end: its form leaves no choice where it begins. */
static bool read_tail(const char *text, size_t len, struct tail *ret)
{
	if (!take_end(text, &len, AFTER_SIGNED, LEN(AFTER_SIGNED)) ||
	    !take_hex(text, &len, ret->signature) ||
	    !take_end(text, &len, BEFORE_SIGNED, LEN(BEFORE_SIGNED)))
		return false;
	ret->n_signed = len;
	if (!take_end(text, &len, AFTER_DER, LEN(AFTER_DER)))
		return false;
	size_t n = 0;
	while (n <= BASE64_LEN(CERTIFICATE_MAX) && n < len && text[len - n - 1] != '"')
		n++;
	len -= n;
	return base64_decode(text + len, n, ret->der, sizeof(ret->der), &ret->der_len) == 0 &&
	       take_end(text, &len, BEFORE_DER, LEN(BEFORE_DER));
}

static bool verifies(const struct tail *t, const struct certificate *c, const char *topic,
		     const void *text)
{
	size_t n;
	_cleanup_free_ unsigned char *bytes = signed_bytes(topic, text, t->n_signed, &n);
	return bytes && ed25519_verify(c->key, bytes, n, t->signature) == 0;
}

enum refusal signed_open(struct authority *a, enum role role, const char *name, const char *topic,
			 const void *payload, size_t len, int64_t now_ms, struct certificate *ret,
			 struct err *err)
{
	struct certificate c;
	struct tail t;
	if (!read_tail(payload, len, &t)) {
		err_set(err, -EBADMSG, "expected a certificate and a signature at its end");
		return REFUSAL_UNSIGNED;
	}
	if (authority_check(a, role, t.der, t.der_len, now_ms, &c, err) < 0)
		return REFUSAL_FOREIGN;
	if (*name && strcmp(c.name, name) != 0) {
		err_set(err, -EPERM, "found the certificate of %s %s, expected that of %s",
			role_name(role), c.name, name);
		return role == ROLE_DEVICE ? REFUSAL_DEVICE : REFUSAL_SIGNER;
	}
	if (!verifies(&t, &c, topic, payload)) {
		err_set(err, -EBADMSG, "the signature of %s %s is not of these bytes on this topic",
			role_name(role), c.name);
		return REFUSAL_FORGED;
	}
	*ret = c;
	return REFUSAL_NONE;
}
