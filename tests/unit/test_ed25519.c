/* Ed25519 against RFC 8032, section 7.1; base64 against RFC 4648, section 10. */
#include "ckpt_util.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/crypto/base64.h"
#include "common/crypto/ed25519.h"

static const struct {
	const char *private_key, *public_key, *message, *signature;
} vectors[] = {
	{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
	 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
	 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
	 "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
	{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
	 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
	 "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
	 "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
	{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
	 "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
	 "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
	 "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
};

static size_t bytes_of(const char *hex, unsigned char *ret)
{
	size_t n = strlen(hex) / 2;
	for (size_t i = 0; i < n; i++) {
		unsigned byte;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		ret[i] = (unsigned char)byte;
	}
	return n;
}

static void signatures_are_the_standards(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		unsigned char key[32], expected_public[32], public_key[32], message[8],
			expected[64], signature[64];
		struct ed25519 *k = NULL;
		bytes_of(vectors[i].private_key, key);
		bytes_of(vectors[i].public_key, expected_public);
		bytes_of(vectors[i].signature, expected);
		size_t n = bytes_of(vectors[i].message, message);
		assert_int_equal(ed25519_new(key, &k), 0);
		ed25519_public(k, public_key);
		assert_memory_equal(public_key, expected_public, 32);
		assert_int_equal(ed25519_sign(k, message, n, signature), 0);
		assert_memory_equal(signature, expected, 64);
		assert_int_equal(ed25519_verify(public_key, message, n, signature), 0);
		ed25519_free(k);
	}
}

static void any_changed_bit_is_seen(void **state)
{
	unsigned char key[32], signature[64], message[2];
	bytes_of(vectors[2].public_key, key);
	bytes_of(vectors[2].signature, signature);
	bytes_of(vectors[2].message, message);
	for (int i = 0; i < 512; i++) {
		signature[i / 8] ^= 1 << i % 8;
		assert_int_equal(ed25519_verify(key, message, 2, signature), -EBADMSG);
		signature[i / 8] ^= 1 << i % 8;
	}
	for (int i = 0; i < 16; i++) {
		message[i / 8] ^= 1 << i % 8;
		assert_int_equal(ed25519_verify(key, message, 2, signature), -EBADMSG);
		message[i / 8] ^= 1 << i % 8;
	}
	for (int i = 0; i < 256; i++) {
		key[i / 8] ^= 1 << i % 8;
		assert_int_equal(ed25519_verify(key, message, 2, signature), -EBADMSG);
		key[i / 8] ^= 1 << i % 8;
	}
	assert_int_equal(ed25519_verify(key, message, 1, signature), -EBADMSG);
	assert_int_equal(ed25519_verify(key, message, 2, signature), 0);
}

static void keys_are_read_from_pem(void **state)
{
	/* RFC 8410, section 10.3. */
	static const char pem[] =
		"-----BEGIN PRIVATE KEY-----\n"
		"MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
		"-----END PRIVATE KEY-----\n";
	unsigned char expected[32], found[32];
	char path[256];
	struct err err = {0};
	struct ed25519 *k = NULL;
	snprintf(path, sizeof(path), "%s/key.pem", (char *)*state);
	bytes_of("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1", expected);
	assert_int_equal(ed25519_read(path, &k, &err), -ENOENT);
	assert_int_equal(file_write(path, pem, strlen(pem), NULL), 0);
	assert_int_equal(ed25519_read(path, &k, &err), 0);
	ed25519_public(k, found);
	assert_memory_equal(found, expected, 32);
	ed25519_free(k);
	assert_int_equal(file_write(path, pem, 60, NULL), 0);
	assert_int_equal(ed25519_read(path, &k, &err), -EINVAL);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "Ed25519"));
}

static void base64_has_one_form(void **state)
{
	static const char *const good[][2] = {{"f", "Zg=="},         {"fo", "Zm8="},
					      {"foo", "Zm9v"},       {"foob", "Zm9vYg=="},
					      {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {
		"",      "Zg",   "Zh==", "Zm9=",       "Zg=g", "Zm9v\n",
		" Zm9v", "Z===", "====", "Zm9vZg==\n", "Zm-v", "Zm9vYmFyZm9v"};
	char text[16], bytes[8];
	size_t n;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		size_t len = strlen(good[i][0]);
		base64_encode(good[i][0], len, text);
		assert_string_equal(text, good[i][1]);
		assert_int_equal(BASE64_LEN(len), strlen(text));
		assert_int_equal(base64_decode(text, strlen(text), bytes, 6, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(bytes, good[i][0], n);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (base64_decode(bad[i], strlen(bad[i]), bytes, 6, &n) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signatures_are_the_standards),
		cmocka_unit_test(any_changed_bit_is_seen),
		cmocka_unit_test_setup_teardown(keys_are_read_from_pem, util_dir, util_dir_done),
		cmocka_unit_test(base64_has_one_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
