#include "common/crypto/seal.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct seal {
	EVP_CIPHER *cipher;
	EVP_CIPHER_CTX *ctx;
};

static void pkey_freep(EVP_PKEY **p)
{
	EVP_PKEY_free(*p);
}

static void pkey_ctx_freep(EVP_PKEY_CTX **p)
{
	EVP_PKEY_CTX_free(*p);
}

static void kdf_freep(EVP_KDF **p)
{
	EVP_KDF_free(*p);
}

static void kdf_ctx_freep(EVP_KDF_CTX **p)
{
	EVP_KDF_CTX_free(*p);
}

int seal_random(uint8_t *ret, size_t len)
{
	return len <= INT_MAX && RAND_bytes(ret, (int)len) == 1 ? 0 : -EIO;
}

void seal_wipe(void *secret, size_t len)
{
	OPENSSL_cleanse(secret, len);
}

int seal_pair_of(const uint8_t secret[SEAL_KEY], struct seal_pair *ret)
{
	_cleanup_(pkey_freep) EVP_PKEY *key =
		EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, secret, SEAL_KEY);
	struct seal_pair pair;
	size_t n = sizeof(pair.public);
	if (!key || EVP_PKEY_get_raw_public_key(key, pair.public, &n) != 1 || n != SEAL_KEY)
		return -EIO;
	memcpy(pair.secret, secret, SEAL_KEY);
	*ret = pair;
	seal_wipe(&pair, sizeof(pair));
	return 0;
}

int seal_pair_new(struct seal_pair *ret)
{
	/* Any 32 bytes are a secret: X25519 itself sets the bits that it wants set. */
	uint8_t secret[SEAL_KEY];
	int r = RAND_priv_bytes(secret, sizeof(secret)) == 1 ? seal_pair_of(secret, ret) : -EIO;
	seal_wipe(secret, sizeof(secret));
	return r;
}

int seal_shared(const uint8_t secret[SEAL_KEY], const uint8_t theirs[SEAL_KEY],
		uint8_t ret[SEAL_KEY])
{
	static const uint8_t zeros[SEAL_KEY];
	_cleanup_(pkey_freep) EVP_PKEY *own =
		EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, secret, SEAL_KEY);
	_cleanup_(pkey_freep) EVP_PKEY *peer =
		EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, theirs, SEAL_KEY);
	_cleanup_(pkey_ctx_freep) EVP_PKEY_CTX *ctx =
		own ? EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL) : NULL;
	if (!ctx || !peer || EVP_PKEY_derive_init(ctx) != 1 ||
	    EVP_PKEY_derive_set_peer(ctx, peer) != 1)
		return -EIO;
	uint8_t shared[SEAL_KEY];
	size_t n = sizeof(shared);
	/* OpenSSL refuses zeros itself; ours is what the header promises, whatever provides it. */
	int r = EVP_PKEY_derive(ctx, shared, &n) == 1 && n == SEAL_KEY &&
				CRYPTO_memcmp(shared, zeros, sizeof(zeros)) != 0
			? 0
			: -EBADMSG;
	if (r == 0)
		memcpy(ret, shared, sizeof(shared));
	seal_wipe(shared, sizeof(shared));
	return r;
}

int seal_derive(const uint8_t *secret, size_t secret_len, const uint8_t *salt, size_t salt_len,
		const uint8_t *info, size_t info_len, uint8_t *ret, size_t ret_len)
{
	_cleanup_(kdf_freep) EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	_cleanup_(kdf_ctx_freep) EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	if (!ctx)
		return -EIO;
	/* The interface is not const-correct; none of these is written to. */
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, secret_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_len),
		OSSL_PARAM_construct_end(),
	};
	return EVP_KDF_derive(ctx, ret, ret_len, params) == 1 ? 0 : -EIO;
}

int seal_new(struct seal **ret)
{
	_cleanup_(seal_freep) struct seal *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	s->ctx = EVP_CIPHER_CTX_new();
	if (!s->cipher || !s->ctx)
		return -ENOMEM;
	*ret = TAKE_PTR(s);
	return 0;
}

void seal_free(struct seal *s)
{
	if (!s)
		return;
	EVP_CIPHER_CTX_free(s->ctx); /* wipes the key in it */
	EVP_CIPHER_free(s->cipher);
	free(s);
}

void seal_freep(struct seal **s)
{
	seal_free(*s);
}

/* Both ways; `tag` is written or compared. */
static int gcm(struct seal *s, int seals, const uint8_t *key, const uint8_t *nonce, const void *aad,
	       size_t aad_len, const uint8_t *in, size_t len, uint8_t *out, uint8_t *tag)
{
	if (len > INT_MAX || aad_len > INT_MAX)
		return -EMSGSIZE;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, SEAL_TAG),
		OSSL_PARAM_construct_end(),
	};
	int n = 0;
	/* 12 bytes are GCM's own nonce length, so it need not be set. */
	if (EVP_CipherInit_ex2(s->ctx, s->cipher, key, nonce, seals, seals ? NULL : params) != 1 ||
	    (aad_len && EVP_CipherUpdate(s->ctx, NULL, &n, aad, (int)aad_len) != 1) ||
	    (len && EVP_CipherUpdate(s->ctx, out, &n, in, (int)len) != 1))
		return -EIO;
	if (EVP_CipherFinal_ex(s->ctx, out + len, &n) != 1)
		return -EBADMSG;
	return !seals || EVP_CIPHER_CTX_get_params(s->ctx, params) == 1 ? 0 : -EIO;
}

int seal_block_under_nonce(struct seal *s, const uint8_t key[SEAL_KEY], const void *aad,
			   size_t aad_len, const uint8_t *plain, size_t len, uint8_t *wire)
{
	return gcm(s, 1, key, wire, aad, aad_len, plain, len, wire + SEAL_NONCE,
		   wire + SEAL_NONCE + len);
}

int seal_block(struct seal *s, const uint8_t key[SEAL_KEY], const void *aad, size_t aad_len,
	       const uint8_t *plain, size_t len, uint8_t *wire)
{
	int r = seal_random(wire, SEAL_NONCE);
	return r < 0 ? r : seal_block_under_nonce(s, key, aad, aad_len, plain, len, wire);
}

int open_block(struct seal *s, const uint8_t key[SEAL_KEY], const void *aad, size_t aad_len,
	       const uint8_t *wire, size_t wire_len, uint8_t *plain)
{
	if (wire_len < SEAL_OVERHEAD)
		return -EBADMSG;
	size_t len = wire_len - SEAL_OVERHEAD;
	uint8_t tag[SEAL_TAG];
	memcpy(tag, wire + SEAL_NONCE + len, sizeof(tag));
	int r = gcm(s, 0, key, wire, aad, aad_len, wire + SEAL_NONCE, len, plain, tag);
	if (r < 0)
		memset(plain, 0, len); /* nobody shall use what nobody vouches for */
	return r;
}
