/* Authorities and certificates for tests, made in memory in a millisecond each, with whatever name
 * and time a test wants; deploy/pki is for people. Keys are those of numbers, the same in each run.
 */
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/trust/identity.h"

#define PKI_DAY_MS 86400000LL

struct pki {
	char dir[FILE_PATH_MAX]; /* with the folder `authorities` */
	EVP_PKEY *key[ROLE_N];
	X509 *ca[ROLE_N];
	long serial;
};

static inline void pki_write(const char *where, const char *name, const char *suffix, char *ret,
			     int (*write)(FILE *out, const void *what), const void *what)
{
	FILE *out;
	snprintf(ret, FILE_PATH_MAX, "%.900s/%.80s.%s", where, name, suffix);
	out = fopen(ret, "w");
	assert_non_null(out);
	assert_true(write(out, what));
	fclose(out);
	assert_int_equal(chmod(ret, 0600), 0);
}

static inline int pki_put_x509(FILE *out, const void *x)
{
	return PEM_write_X509(out, (X509 *)x);
}

static inline int pki_put_crl(FILE *out, const void *x)
{
	return PEM_write_X509_CRL(out, (X509_CRL *)x);
}

static inline int pki_put_key(FILE *out, const void *k)
{
	return PEM_write_PKCS8PrivateKey(out, (EVP_PKEY *)k, NULL, NULL, 0, NULL, NULL);
}

static inline EVP_PKEY *pki_new_key(void)
{
	static uint32_t secret[8];
	++secret[0];
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
						     (const unsigned char *)secret, sizeof(secret));
	assert_non_null(key);
	return key;
}

static inline void pki_extend(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	assert_non_null(e);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

/* Signed by `issuer` with `by`; NULL: by itself. */
static inline X509 *pki_certificate(struct pki *p, const char *name, EVP_PKEY *key, X509 *issuer,
				    EVP_PKEY *by, bool ca, int64_t from_ms, int64_t until_ms)
{
	X509 *x = X509_new();
	X509_NAME *subject = X509_NAME_new();
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
				   -1, 0);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), ++p->serial);
	X509_set_subject_name(x, subject);
	X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject);
	ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(from_ms / 1000));
	ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(until_ms / 1000));
	X509_set_pubkey(x, key);
	pki_extend(x, NID_basic_constraints, ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	pki_extend(x, NID_key_usage,
		   ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
	assert_true(X509_sign(x, by ? by : key, NULL));
	X509_NAME_free(subject);
	return x;
}

/* The role's list of revoked certificates; `by`: whose authority signs it. */
static inline void pki_revoke(struct pki *p, enum role role, enum role by, const long *serials,
			      size_t n, int64_t now_ms, int64_t next_ms)
{
	char folder[FILE_PATH_MAX], path[FILE_PATH_MAX];
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *at = ASN1_TIME_set(NULL, (time_t)(now_ms / 1000));
	ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)(next_ms / 1000));
	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(p->ca[role]));
	X509_CRL_set1_lastUpdate(crl, at);
	X509_CRL_set1_nextUpdate(crl, next);
	for (size_t i = 0; i < n; i++) {
		X509_REVOKED *r = X509_REVOKED_new();
		ASN1_INTEGER *serial = ASN1_INTEGER_new();
		ASN1_INTEGER_set(serial, serials[i]);
		X509_REVOKED_set_serialNumber(r, serial);
		X509_REVOKED_set_revocationDate(r, at);
		X509_CRL_add0_revoked(crl, r);
		ASN1_INTEGER_free(serial);
	}
	X509_CRL_sort(crl);
	assert_true(X509_CRL_sign(crl, p->key[by], NULL));
	snprintf(folder, sizeof(folder), "%.900s/authorities", p->dir);
	pki_write(folder, role_name(role), "crl", path, pki_put_crl, crl);
	X509_CRL_free(crl);
	ASN1_TIME_free(at);
	ASN1_TIME_free(next);
}

/* An authority for each role, with an empty list; they hold from 1990 to 2100, so that any clock of
 * a test will do. */
static inline void pki_init(struct pki *p, const char *where)
{
	char folder[FILE_PATH_MAX], path[FILE_PATH_MAX], name[32];
	*p = (struct pki){0};
	snprintf(p->dir, sizeof(p->dir), "%s", where);
	snprintf(folder, sizeof(folder), "%.900s/authorities", where);
	assert_int_equal(file_mkdirs(folder, NULL), 0);
	for (int i = 0; i < ROLE_N; i++) {
		snprintf(name, sizeof(name), "%s authority", role_name((enum role)i));
		p->key[i] = pki_new_key();
		p->ca[i] = pki_certificate(p, name, p->key[i], NULL, NULL, true, 631152000000,
					   4102444800000);
		pki_write(folder, role_name((enum role)i), "crt", path, pki_put_x509, p->ca[i]);
		pki_revoke(p, (enum role)i, (enum role)i, NULL, 0, 631152000000, 4102444800000);
	}
}

static inline void pki_done(struct pki *p)
{
	for (int i = 0; i < ROLE_N; i++) {
		EVP_PKEY_free(p->key[i]);
		X509_free(p->ca[i]);
	}
}

/* A certificate and its key, as files; returns its serial number. */
static inline long pki_issue_for(struct pki *p, enum role role, const char *name, int64_t from_ms,
				 int64_t until_ms, struct identity_paths *ret)
{
	EVP_PKEY *key = pki_new_key();
	X509 *x =
		pki_certificate(p, name, key, p->ca[role], p->key[role], false, from_ms, until_ms);
	char file[128];
	snprintf(file, sizeof(file), "%s-%.60s-%ld", role_name(role), name, p->serial);
	for (char *c = file; *c; c++)
		if (*c == '/')
			*c = '_';
	pki_write(p->dir, file, "crt", ret->certificate, pki_put_x509, x);
	pki_write(p->dir, file, "key", ret->key, pki_put_key, key);
	snprintf(ret->authorities, sizeof(ret->authorities), "%.900s/authorities", p->dir);
	X509_free(x);
	EVP_PKEY_free(key);
	return p->serial;
}

static inline long pki_issue(struct pki *p, enum role role, const char *name,
			     struct identity_paths *ret)
{
	return pki_issue_for(p, role, name, 631152000000, 4102444800000, ret);
}
