/* Sealing against published vectors: RFC 7748 (sections 5.2 and 6.1), RFC 5869 (appendix A), and
 * those of McGrew and Viega's "The Galois/Counter Mode of Operation" for keys of 256 bits; and that
 * whatever is changed of a sealed block is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/crypto/seal.h"

#define BLOCK 131072

/* Hex to bytes; returns how many. */
static size_t bytes(const char *hex, uint8_t *ret, size_t max)
{
	size_t n = strlen(hex) / 2;
	assert_true(n <= max);
	for (size_t i = 0; i < n; i++) {
		unsigned v;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		ret[i] = (uint8_t)v;
	}
	return n;
}

static void assert_hex(const uint8_t *found, const char *hex)
{
	uint8_t want[256];
	size_t n = bytes(hex, want, sizeof(want));
	assert_memory_equal(found, want, n);
}

static void x25519_matches_rfc_7748(void **state)
{
	static const struct {
		const char *scalar, *u, *out;
	} vectors[] = {
		{"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
		 "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
		 "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
		{"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
		 "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
		 "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
	};
	uint8_t k[SEAL_KEY], u[SEAL_KEY], out[SEAL_KEY];
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		bytes(vectors[i].scalar, k, sizeof(k));
		bytes(vectors[i].u, u, sizeof(u));
		assert_int_equal(seal_shared(k, u, out), 0);
		assert_hex(out, vectors[i].out);
	}
}

static void x25519_iterated_matches_rfc_7748(void **state)
{
	uint8_t k[SEAL_KEY] = {9}, u[SEAL_KEY] = {9}, out[SEAL_KEY];
	for (int i = 1; i <= 1000; i++) {
		assert_int_equal(seal_shared(k, u, out), 0);
		memcpy(u, k, sizeof(u));
		memcpy(k, out, sizeof(k));
		if (i == 1)
			assert_hex(
				k,
				"422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
	}
	assert_hex(k, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

static void two_ends_agree_as_in_rfc_7748(void **state)
{
	uint8_t secret[SEAL_KEY], shared[SEAL_KEY];
	struct seal_pair a, b;
	bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a", secret, SEAL_KEY);
	assert_int_equal(seal_pair_of(secret, &a), 0);
	assert_hex(a.public, "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
	bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", secret, SEAL_KEY);
	assert_int_equal(seal_pair_of(secret, &b), 0);
	assert_hex(b.public, "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
	assert_int_equal(seal_shared(a.secret, b.public, shared), 0);
	assert_hex(shared, "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
	assert_int_equal(seal_shared(b.secret, a.public, shared), 0);
	assert_hex(shared, "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
}

static void points_of_small_order_are_refused(void **state)
{
	/* 0, 1, p - 1, p, p + 1 and the two of order 8, little endian. */
	static const char *const points[] = {
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	};
	struct seal_pair own;
	assert_int_equal(seal_pair_new(&own), 0);
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		uint8_t u[SEAL_KEY], out[SEAL_KEY] = "untouched";
		bytes(points[i], u, sizeof(u));
		assert_int_equal(seal_shared(own.secret, u, out), -EBADMSG);
		assert_string_equal((char *)out, "untouched");
	}
}

static void fresh_pairs_differ(void **state)
{
	struct seal_pair a, b, again;
	assert_int_equal(seal_pair_new(&a), 0);
	assert_int_equal(seal_pair_new(&b), 0);
	assert_memory_not_equal(a.secret, b.secret, SEAL_KEY);
	assert_memory_not_equal(a.public, b.public, SEAL_KEY);
	assert_int_equal(seal_pair_of(a.secret, &again), 0);
	assert_memory_equal(&again, &a, sizeof(a));
	seal_wipe(&a, sizeof(a));
	assert_memory_equal(&a, &(struct seal_pair){0}, sizeof(a));
}

static void hkdf_matches_rfc_5869(void **state)
{
	static const struct {
		const char *ikm, *salt, *info, *okm;
	} vectors[] = {
		{"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
		 "f0f1f2f3f4f5f6f7f8f9",
		 "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185"
		 "865"},
		{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223242526272"
		 "829"
		 "2a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
		 "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283848586878"
		 "889"
		 "8a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
		 "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d"
		 "8d9"
		 "dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
		 "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac782727"
		 "1cb"
		 "41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d8"
		 "7"},
		{"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
		 "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a9"
		 "6c8"},
	};
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		uint8_t ikm[80], salt[80], info[80], okm[82];
		size_t ikm_len = bytes(vectors[i].ikm, ikm, sizeof(ikm));
		size_t salt_len = bytes(vectors[i].salt, salt, sizeof(salt));
		size_t info_len = bytes(vectors[i].info, info, sizeof(info));
		size_t len = strlen(vectors[i].okm) / 2;
		assert_int_equal(
			seal_derive(ikm, ikm_len, salt, salt_len, info, info_len, okm, len), 0);
		assert_hex(okm, vectors[i].okm);
	}
}

/* Cases 13 to 16: key, nonce, data, additional data; ciphertext, tag. */
#define ZEROS_16 "00000000000000000000000000000000"
#define KEY_15   "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define DATA_16                                                                                    \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24" \
	"49a6b525b16aedf5aa0de657ba637b39"
#define SEALED_16                                                                                  \
	"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10" \
	"56828838c5f61e6393ba7a0abcc9f662"

static const struct {
	const char *key, *nonce, *data, *aad, *sealed, *tag;
} gcm_vectors[] = {
	{ZEROS_16 ZEROS_16, "000000000000000000000000", "", "", "",
	 "530f8afbc74536b9a963b4f1c4cb738b"},
	{ZEROS_16 ZEROS_16, "000000000000000000000000", ZEROS_16, "",
	 "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
	{KEY_15, "cafebabefacedbaddecaf888", DATA_16 "1aafd255", "", SEALED_16 "898015ad",
	 "b094dac5d93471bdec1a502270e3cc6c"},
	{KEY_15, "cafebabefacedbaddecaf888", DATA_16, "feedfacedeadbeeffeedfacedeadbeefabaddad2",
	 SEALED_16, "76fc6ece0f4e1768cddf8853bb2d551b"},
};

static void gcm_matches_mcgrew_and_viega(void **state)
{
	_cleanup_(seal_freep) struct seal *s = NULL;
	assert_int_equal(seal_new(&s), 0);
	for (size_t i = 0; i < ARRAY_LEN(gcm_vectors); i++) {
		uint8_t key[SEAL_KEY], data[64], aad[32], wire[64 + SEAL_OVERHEAD], plain[64];
		bytes(gcm_vectors[i].key, key, sizeof(key));
		bytes(gcm_vectors[i].nonce, wire, SEAL_NONCE);
		size_t len = bytes(gcm_vectors[i].data, data, sizeof(data));
		size_t aad_len = bytes(gcm_vectors[i].aad, aad, sizeof(aad));
		assert_int_equal(seal_block_under_nonce(s, key, aad, aad_len, data, len, wire), 0);
		assert_hex(wire, gcm_vectors[i].nonce);
		assert_hex(wire + SEAL_NONCE, gcm_vectors[i].sealed);
		assert_hex(wire + SEAL_NONCE + len, gcm_vectors[i].tag);
		assert_int_equal(open_block(s, key, aad, aad_len, wire, len + SEAL_OVERHEAD, plain),
				 0);
		assert_memory_equal(plain, data, len);
	}
}

static void a_block_is_sealed_in_place(void **state)
{
	_cleanup_(seal_freep) struct seal *s = NULL;
	_cleanup_free_ uint8_t *wire = malloc(BLOCK + SEAL_OVERHEAD), *data = malloc(BLOCK);
	uint8_t key[SEAL_KEY], first[SEAL_NONCE];
	assert_int_equal(seal_new(&s), 0);
	assert_int_equal(seal_random(key, sizeof(key)), 0);
	assert_int_equal(seal_random(data, BLOCK), 0);
	memcpy(wire + SEAL_NONCE, data, BLOCK);
	assert_int_equal(seal_block(s, key, "7", 1, wire + SEAL_NONCE, BLOCK, wire), 0);
	assert_memory_not_equal(wire + SEAL_NONCE, data, BLOCK);
	memcpy(first, wire, sizeof(first));
	assert_int_equal(open_block(s, key, "7", 1, wire, BLOCK + SEAL_OVERHEAD, wire + SEAL_NONCE),
			 0);
	assert_memory_equal(wire + SEAL_NONCE, data, BLOCK);
	assert_int_equal(seal_block(s, key, "7", 1, data, BLOCK, wire), 0);
	assert_memory_not_equal(wire, first, SEAL_NONCE); /* a new one for the same bytes */
}

/* A sealed block of 37 bytes, and what may be done to it. */
#define SMALL 37
struct small {
	struct seal *s;
	uint8_t key[SEAL_KEY], data[SMALL], wire[SMALL + SEAL_OVERHEAD + 1];
};

static void small_new(struct small *b)
{
	*b = (struct small){0};
	assert_int_equal(seal_new(&b->s), 0);
	assert_int_equal(seal_random(b->key, sizeof(b->key)), 0);
	assert_int_equal(seal_random(b->data, sizeof(b->data)), 0);
	assert_int_equal(seal_block(b->s, b->key, "aad", 3, b->data, SMALL, b->wire), 0);
}

static int small_open(struct small *b, const uint8_t *key, const char *aad, size_t len)
{
	uint8_t plain[SMALL + 1];
	memset(plain, 0xee, sizeof(plain));
	int r = open_block(b->s, key, aad, strlen(aad), b->wire, len, plain);
	for (size_t i = 0; r < 0 && len >= SEAL_OVERHEAD && i < len - SEAL_OVERHEAD; i++)
		assert_int_equal(plain[i], 0); /* nothing of it is left to be used */
	return r;
}

static void every_flipped_bit_is_refused(void **state)
{
	struct small b;
	small_new(&b);
	size_t len = SMALL + SEAL_OVERHEAD;
	for (size_t bit = 0; bit < 8 * len; bit++) {
		b.wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(small_open(&b, b.key, "aad", len), -EBADMSG);
		b.wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * SEAL_KEY; bit++) {
		uint8_t key[SEAL_KEY];
		memcpy(key, b.key, sizeof(key));
		key[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(small_open(&b, key, "aad", len), -EBADMSG);
	}
	assert_int_equal(small_open(&b, b.key, "aad", len), 0); /* the context is as good as new */
	seal_free(b.s);
}

static void every_other_length_is_refused(void **state)
{
	struct small b;
	small_new(&b);
	size_t len = SMALL + SEAL_OVERHEAD;
	for (size_t n = 0; n <= len + 1; n++)
		assert_int_equal(small_open(&b, b.key, "aad", n), n == len ? 0 : -EBADMSG);
	static const char *const aads[] = {"", "aa", "aad ", "bad"};
	for (size_t i = 0; i < ARRAY_LEN(aads); i++)
		assert_int_equal(small_open(&b, b.key, aads[i], len), -EBADMSG);
	seal_free(b.s);
	seal_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(x25519_matches_rfc_7748),
		cmocka_unit_test(x25519_iterated_matches_rfc_7748),
		cmocka_unit_test(two_ends_agree_as_in_rfc_7748),
		cmocka_unit_test(points_of_small_order_are_refused),
		cmocka_unit_test(fresh_pairs_differ),
		cmocka_unit_test(hkdf_matches_rfc_5869),
		cmocka_unit_test(gcm_matches_mcgrew_and_viega),
		cmocka_unit_test(a_block_is_sealed_in_place),
		cmocka_unit_test(every_flipped_bit_is_refused),
		cmocka_unit_test(every_other_length_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
