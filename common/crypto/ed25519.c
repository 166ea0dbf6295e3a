#include "common/crypto/ed25519.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define KEY_FILE_MAX 16384

struct ed25519 {
	EVP_PKEY *key;
	unsigned char public_key[ED25519_KEY];
};

static void ctx_freep(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

/* Takes `key`. */
static int wrap(EVP_PKEY *key, struct ed25519 **ret)
{
	size_t len = ED25519_KEY;
	struct ed25519 *k = calloc(1, sizeof(*k));
	if (!k || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
	    !EVP_PKEY_get_raw_public_key(key, k->public_key, &len)) {
		free(k);
		EVP_PKEY_free(key);
		ERR_clear_error();
		return k ? -EINVAL : -ENOMEM;
	}
	k->key = key;
	*ret = k;
	return 0;
}

int ed25519_new(const unsigned char private_key[ED25519_KEY], struct ed25519 **ret)
{
	EVP_PKEY *key =
		EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, ED25519_KEY);
	return key ? wrap(key, ret) : -ENOMEM;
}

/* An encrypted key is refused; nobody is there to type a passphrase. */
static int no_passphrase(char *buf, int size, int rwflag, void *user)
{
	return -1;
}

int ed25519_read(const char *path, struct ed25519 **ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, KEY_FILE_MAX, &text, &len, err);
	if (r < 0)
		return r;
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	BIO_free(bio);
	OPENSSL_cleanse(text, len);
	ERR_clear_error();
	r = key ? wrap(key, ret) : -EINVAL;
	if (r == -EINVAL)
		return err_set(err, r,
			       "%s: found no usable key, expected an Ed25519 private key in PEM, "
			       "without a passphrase",
			       path);
	return r < 0 ? err_errno(err, r, "%s", path) : 0;
}

void ed25519_free(struct ed25519 *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->key);
	free(k);
}

void ed25519_public(const struct ed25519 *k, unsigned char ret[ED25519_KEY])
{
	memcpy(ret, k->public_key, ED25519_KEY);
}

int ed25519_sign(const struct ed25519 *k, const void *data, size_t len,
		 unsigned char ret[ED25519_SIGNATURE])
{
	_cleanup_(ctx_freep) EVP_MD_CTX *c = EVP_MD_CTX_new();
	size_t n = ED25519_SIGNATURE;
	if (!c || EVP_DigestSignInit(c, NULL, NULL, NULL, k->key) != 1)
		return -ENOMEM;
	return EVP_DigestSign(c, ret, &n, data, len) == 1 ? 0 : -EIO;
}

int ed25519_verify(const unsigned char public_key[ED25519_KEY], const void *data, size_t len,
		   const unsigned char signature[ED25519_SIGNATURE])
{
	_cleanup_(ctx_freep) EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_PKEY *key =
		EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, ED25519_KEY);
	bool good = c && key && EVP_DigestVerifyInit(c, NULL, NULL, NULL, key) == 1 &&
		    EVP_DigestVerify(c, signature, ED25519_SIGNATURE, data, len) == 1;
	EVP_PKEY_free(key);
	ERR_clear_error();
	return good ? 0 : -EBADMSG;
}
