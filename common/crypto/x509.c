#include "common/crypto/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define PEM_FILE_MAX 65536
#define CRL_FILE_MAX (4 * 1024 * 1024) /* some 50,000 revoked ones */

struct certifier {
	X509_STORE *store;
	int64_t until_ms;
};

static void x509_freep(X509 **x)
{
	X509_free(*x);
}

static void crl_freep(X509_CRL **x)
{
	X509_CRL_free(*x);
}

static void bio_freep(BIO **b)
{
	BIO_free(*b);
}

static int64_t time_ms(const ASN1_TIME *t)
{
	struct tm tm;
	return t && ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) * 1000 : 0;
}

/* A file in memory, from which OpenSSL reads; *ret_text is what it lies in. */
static int open_pem(const char *path, size_t max, char **ret_text, BIO **ret, struct err *err)
{
	size_t len;
	int r = file_read(path, max, ret_text, &len, err);
	if (r < 0)
		return r;
	*ret = BIO_new_mem_buf(*ret_text, (int)len);
	return *ret ? 0 : err_errno(err, -ENOMEM, "%s", path);
}

static int read_x509(const char *path, X509 **ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_(bio_freep) BIO *bio = NULL;
	int r = open_pem(path, PEM_FILE_MAX, &text, &bio, err);
	if (r < 0)
		return r;
	*ret = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	ERR_clear_error();
	return *ret ? 0 : err_set(err, -EINVAL, "%s: expected a certificate in PEM", path);
}

/* ---- one certificate ---- */

static int get_name(X509 *x, char ret[ID_SIZE], struct err *err)
{
	X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return err_set(err, -EINVAL, "certificate: expected one common name");
	const ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
	int len = ASN1_STRING_length(s);
	const unsigned char *text = ASN1_STRING_get0_data(s);
	if (len < 1 || len > ID_MAX || memchr(text, 0, (size_t)len))
		return err_set(err, -EINVAL, "certificate: its common name is no id");
	memcpy(ret, text, (size_t)len);
	ret[len] = 0;
	return id_valid(ret) ? 0 : err_set(err, -EINVAL, "certificate: its common name is no id");
}

static int describe(X509 *x, struct certificate *ret, struct err *err)
{
	struct certificate c = {.from_ms = time_ms(X509_get0_notBefore(x)),
				.until_ms = time_ms(X509_get0_notAfter(x))};
	EVP_PKEY *key = X509_get0_pubkey(x);
	size_t len = sizeof(c.key);
	int r = get_name(x, c.name, err);
	if (r < 0)
		return r;
	if (!key || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
	    !EVP_PKEY_get_raw_public_key(key, c.key, &len))
		return err_set(err, -EINVAL, "certificate of %s: its key is not Ed25519", c.name);
	if (X509_check_ca(x))
		return err_set(err, -EINVAL, "certificate of %s: it is an authority's own", c.name);
	*ret = c;
	return 0;
}

static int decode(const void *der, size_t len, X509 **ret, struct err *err)
{
	const unsigned char *p = der;
	X509 *x = len <= CERTIFICATE_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;
	ERR_clear_error();
	if (!x || p != (const unsigned char *)der + len) {
		X509_free(x);
		return err_set(err, -EINVAL, "certificate: expected one in DER of at most %d bytes",
			       CERTIFICATE_MAX);
	}
	*ret = x;
	return 0;
}

int certificate_parse(const void *der, size_t len, struct certificate *ret, struct err *err)
{
	_cleanup_(x509_freep) X509 *x = NULL;
	int r = decode(der, len, &x, err);
	if (r == 0)
		r = describe(x, ret, err);
	ERR_clear_error();
	return r;
}

int certificate_read(const char *path, unsigned char ret[CERTIFICATE_MAX], size_t *ret_len,
		     struct err *err)
{
	_cleanup_(x509_freep) X509 *x = NULL;
	int r = read_x509(path, &x, err);
	if (r < 0)
		return r;
	int len = i2d_X509(x, NULL);
	if (len < 0 || len > CERTIFICATE_MAX)
		return err_set(err, -E2BIG, "%s: found %d bytes of DER, expected at most %d", path,
			       len, CERTIFICATE_MAX);
	i2d_X509(x, &ret);
	*ret_len = (size_t)len;
	return 0;
}

/* ---- an authority ---- */

static int add_crl(struct certifier *c, const char *path, X509 *ca, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_(bio_freep) BIO *bio = NULL;
	_cleanup_(crl_freep) X509_CRL *crl = NULL;
	int r = open_pem(path, CRL_FILE_MAX, &text, &bio, err);
	if (r < 0)
		return r;
	crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
	if (!crl || X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(ca)) != 0 ||
	    X509_CRL_verify(crl, X509_get0_pubkey(ca)) != 1)
		return err_set(err, -EINVAL,
			       "%s: expected a list of revoked certificates in PEM, signed by the "
			       "authority beside it",
			       path);
	if (!X509_STORE_add_crl(c->store, crl) ||
	    !X509_STORE_set_flags(c->store, X509_V_FLAG_CRL_CHECK))
		return err_errno(err, -ENOMEM, "%s", path);
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
	if (next)
		c->until_ms = MIN_OF(c->until_ms, time_ms(next));
	return 0;
}

int certifier_read(const char *crt, const char *crl, struct certifier **ret, struct err *err)
{
	_cleanup_(x509_freep) X509 *ca = NULL;
	int r = read_x509(crt, &ca, err);
	if (r < 0)
		return r;
	if (!X509_check_ca(ca))
		return err_set(err, -EINVAL, "%s: expected an authority's certificate", crt);
	struct certifier *c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(err, -ENOMEM, "%s", crt);
	c->until_ms = time_ms(X509_get0_notAfter(ca));
	c->store = X509_STORE_new();
	if (!c->store || !X509_STORE_add_cert(c->store, ca) ||
	    !X509_STORE_set_depth(c->store, 0)) /* nobody between root and leaf */
		r = err_errno(err, -ENOMEM, "%s", crt);
	if (r == 0)
		r = add_crl(c, crl, ca, err);
	ERR_clear_error();
	if (r < 0) {
		certifier_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void certifier_free(struct certifier *c)
{
	if (!c)
		return;
	X509_STORE_free(c->store);
	free(c);
}

int64_t certifier_until_ms(const struct certifier *c)
{
	return c->until_ms;
}

static int code_of(int x509_error)
{
	switch (x509_error) {
	case X509_V_ERR_CERT_NOT_YET_VALID:
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return -EKEYEXPIRED;
	case X509_V_ERR_CERT_REVOKED:
		return -EKEYREVOKED;
	case X509_V_ERR_OUT_OF_MEM:
		return -ENOMEM;
	default:
		return -EKEYREJECTED;
	}
}

/* OpenSSL's texts, but where they do not say what to do. */
static const char *text_of(int x509_error)
{
	switch (x509_error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		return "signed by another authority";
	case X509_V_ERR_CRL_HAS_EXPIRED:
		return "the authority's list of revoked certificates is outdated";
	default:
		return X509_verify_cert_error_string(x509_error);
	}
}

int certifier_verify(const struct certifier *c, const void *der, size_t len, int64_t now_ms,
		     struct certificate *ret, struct err *err)
{
	_cleanup_(x509_freep) X509 *x = NULL;
	struct certificate found;
	int r = decode(der, len, &x, err);
	if (r == 0)
		r = describe(x, &found, err);
	if (r < 0)
		return r;
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	if (!ctx || !X509_STORE_CTX_init(ctx, c->store, x, NULL)) {
		X509_STORE_CTX_free(ctx);
		return err_errno(err, -ENOMEM, "certificate of %s", found.name);
	}
	X509_STORE_CTX_set_time(ctx, 0, (time_t)(now_ms / 1000));
	if (X509_verify_cert(ctx) != 1) {
		int e = X509_STORE_CTX_get_error(ctx);
		r = err_set(err, code_of(e), "certificate of %s: %s", found.name,
			    text_of(e));
	}
	X509_STORE_CTX_free(ctx);
	ERR_clear_error();
	if (r == 0)
		*ret = found;
	return r;
}
