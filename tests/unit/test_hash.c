/* sha256 against the vectors of FIPS 180-4 (its examples, and the standard's long one). */
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
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"

#define MILLION      1000000
#define MILLION_HASH "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

static const struct {
	const char *text, *hash;
} vectors[] = {
	{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static char *million_a(void)
{
	char *a = malloc(MILLION);
	assert_non_null(a);
	memset(a, 'a', MILLION);
	return a;
}

static void bytes_match_the_standard(void **state)
{
	char hex[HASH_SIZE];
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		assert_int_equal(hash_bytes(vectors[i].text, strlen(vectors[i].text), hex), 0);
		assert_string_equal(hex, vectors[i].hash);
		assert_true(hash_valid(hex));
	}
	_cleanup_free_ char *a = million_a();
	assert_int_equal(hash_bytes(a, MILLION, hex), 0);
	assert_string_equal(hex, MILLION_HASH);
}

static void pieces_make_the_whole(void **state)
{
	static const size_t steps[] = {1, 63, 64, 65, 4096};
	_cleanup_free_ char *a = million_a();
	char hex[HASH_SIZE];
	for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
		struct hash *h = NULL;
		assert_int_equal(hash_new(&h), 0);
		for (size_t at = 0; at < MILLION; at += steps[k])
			assert_int_equal(hash_update(h, a + at, MIN_OF(steps[k], MILLION - at)), 0);
		assert_int_equal(hash_hex(h, hex), 0);
		assert_string_equal(hex, MILLION_HASH);
		hash_free(h);
	}
	hash_free(NULL);
}

static void file_is_hashed(void **state)
{
	char dir[] = "/tmp/tasuki-test-XXXXXX", path[64], hex[HASH_SIZE] = "untouched";
	struct err err = {0};
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	assert_int_equal(hash_file(path, hex, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(hash_file(dir, hex, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(hash_file(path, hex, &err), -EINVAL); /* and does not wait for a writer */
	assert_string_equal(hex, "untouched");
	unlink(path);
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		file_write(path, vectors[i].text, strlen(vectors[i].text), &err);
		assert_int_equal(hash_file(path, hex, &err), 0);
		assert_string_equal(hex, vectors[i].hash);
	}
	_cleanup_free_ char *a = million_a();
	file_write(path, a, MILLION, &err);
	assert_int_equal(hash_file(path, hex, &err), 0);
	assert_string_equal(hex, MILLION_HASH);
	file_remove(dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_match_the_standard),
		cmocka_unit_test(pieces_make_the_whole),
		cmocka_unit_test(file_is_hashed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
