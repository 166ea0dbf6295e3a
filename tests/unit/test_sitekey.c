/* A site key on its way to one device: it opens for the wish it was made for, and for nothing else.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/trust/sitekey.h"

static const struct sitekey_way way = {"home", "cam-1", "edge-1", 7};
static const uint8_t key[SEAL_KEY] = "a key that nobody else may know";
static struct seal_pair device;
static char public[HASH_SIZE], seal[HASH_SIZE], sealed[2 * SITEKEY_SEALED + 1];

static int wrap(void **state)
{
	int r = seal_pair_new(&device);
	hex_print(device.public, SEAL_KEY, public);
	return r < 0 ? r : sitekey_wrap(&way, public, key, seal, sealed);
}

static int unwrap(const struct sitekey_way *w, const struct seal_pair *mine)
{
	uint8_t got[SEAL_KEY];
	int r = sitekey_unwrap(w, mine, seal, sealed, got);
	if (r == 0)
		assert_memory_equal(got, key, SEAL_KEY);
	return r;
}

static void test_opens(void **state)
{
	assert_int_equal(unwrap(&way, &device), 0);
	char again[HASH_SIZE], otherwise[sizeof(sealed)];
	assert_int_equal(sitekey_wrap(&way, public, key, again, otherwise), 0);
	assert_string_not_equal(again, seal); /* ephemeral at this end, too */
	assert_string_not_equal(otherwise, sealed);
}

/* Names that run together differently are different names. */
static void test_only_on_its_way(void **state)
{
	const struct sitekey_way others[] = {
		{"hom", "ecam-1", "edge-1", 7},  {"home", "cam-2", "edge-1", 7},
		{"home", "cam-1", "edge-2", 7},  {"home", "cam-1", "edge-1", 8},
		{"home", "cam-1", "edge-17", 0}, {"away", "cam-1", "edge-1", 7},
	};
	struct seal_pair another;
	assert_int_equal(seal_pair_new(&another), 0);
	assert_int_equal(unwrap(&way, &another), -EBADMSG);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_int_equal(unwrap(&others[i], &device), -EBADMSG);
}

static void test_every_digit_counts(void **state)
{
	for (size_t i = 0; sealed[i]; i++) {
		char was = sealed[i];
		sealed[i] = was == '0' ? '1' : '0';
		assert_int_equal(unwrap(&way, &device), -EBADMSG);
		sealed[i] = 'g';
		assert_int_equal(unwrap(&way, &device), -EBADMSG);
		sealed[i] = was;
	}
	/* The highest bit of a point is no part of it (RFC 7748, section 5), but of the salt. */
	for (size_t i = 0; seal[i]; i++) {
		char was = seal[i];
		seal[i] = was == '0' ? '8' : '0';
		assert_int_equal(unwrap(&way, &device), -EBADMSG);
		seal[i] = was;
	}
	assert_int_equal(unwrap(&way, &device), 0);
}

/* Whoever sends one would know the secret. */
static void test_no_small_points(void **state)
{
	char zeros[HASH_SIZE], s[HASH_SIZE], k[sizeof(sealed)];
	memset(zeros, '0', HASH_HEX);
	zeros[HASH_HEX] = 0;
	assert_int_equal(sitekey_wrap(&way, zeros, key, s, k), -EBADMSG);
	assert_int_equal(sitekey_wrap(&way, "", key, s, k), -EBADMSG);
	memcpy(seal, zeros, HASH_SIZE);
	assert_int_equal(unwrap(&way, &device), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_opens, wrap),
		cmocka_unit_test_setup(test_only_on_its_way, wrap),
		cmocka_unit_test_setup(test_every_digit_counts, wrap),
		cmocka_unit_test_setup(test_no_small_points, wrap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
