/* Merkle trees against the values that certificate-transparency's own tests publish (the leaves,
 * roots and audit paths of its reference tree), and every small tree against the definition of RFC
 * 6962, which is recursive where ours is not. */
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
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/crypto/merkle.h"

#define SMALL_MAX 33 /* leaves of the trees that are looked at whole */
#define BLOCK     3  /* bytes, the last one shorter */

static char folder[] = "/tmp/test_merkle_XXXXXX", file[FILE_PATH_MAX];

static void put_file(const void *data, size_t len)
{
	struct err err;
	assert_int_equal(file_write(file, data, len, &err), 0);
}

/* ---- published ---- */

static const struct {
	uint8_t bytes[16];
	size_t len;
} ct_leaves[8] = {
	{{0}, 0},
	{{0x00}, 1},
	{{0x10}, 1},
	{{0x20, 0x21}, 2},
	{{0x30, 0x31}, 2},
	{{0x40, 0x41, 0x42, 0x43}, 4},
	{{0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57}, 8},
	{{0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e,
	  0x6f},
	 16},
};

static const char *const ct_roots[8] = {
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

static const struct {
	uint32_t i, n;
	size_t n_path;
	const char *path[3];
} ct_paths[] = {
	{0, 1, 0, {0}},
	{0,
	 8,
	 3,
	 {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
	  "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
	  "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
	{5,
	 8,
	 3,
	 {"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
	  "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
	  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
	{2, 3, 1, {"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
	{1,
	 5,
	 3,
	 {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	  "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
	  "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
};

static void from_hex(const char *hex, uint8_t *out)
{
	assert_int_equal(hex_parse(hex, out, MERKLE_HASH), 0);
}

static void the_published_paths_prove_the_published_leaves(void **state)
{
	for (size_t k = 0; k < ARRAY_LEN(ct_paths); k++) {
		uint32_t i = ct_paths[k].i, n = ct_paths[k].n;
		uint8_t path[MERKLE_PATH_MAX];
		for (size_t j = 0; j < ct_paths[k].n_path; j++)
			from_hex(ct_paths[k].path[j], path + j * MERKLE_HASH);
		assert_int_equal(merkle_path_len(i, n), ct_paths[k].n_path * MERKLE_HASH);
		assert_int_equal(merkle_verify(ct_roots[n - 1], i, n, path, ct_leaves[i].bytes,
					       ct_leaves[i].len),
				 0);
		for (uint32_t other = 0; other < 8; other++)
			if (other != i)
				assert_int_equal(merkle_verify(ct_roots[n - 1], i, n, path,
							       ct_leaves[other].bytes,
							       ct_leaves[other].len),
						 -EBADMSG);
	}
}

/* ---- the definition ---- */

static void plain_hash(uint8_t kind, const void *a, size_t a_len, const void *b, size_t b_len,
		       uint8_t out[MERKLE_HASH])
{
	struct hash *h;
	char hex[HASH_SIZE];
	assert_int_equal(hash_new(&h), 0);
	assert_int_equal(hash_update(h, &kind, 1), 0);
	assert_int_equal(hash_update(h, a, a_len), 0);
	assert_int_equal(hash_update(h, b, b_len), 0);
	assert_int_equal(hash_hex(h, hex), 0);
	hash_free(h);
	from_hex(hex, out);
}

static uint32_t split(uint32_t n)
{
	uint32_t k = 1;
	while (2 * k < n)
		k *= 2;
	return k;
}

/* MTH(D[n]) of section 2.1. */
static void defined_root(const uint8_t (*leaf)[MERKLE_HASH], uint32_t n, uint8_t out[MERKLE_HASH])
{
	uint8_t left[MERKLE_HASH], right[MERKLE_HASH];
	if (n == 1) {
		memcpy(out, leaf[0], MERKLE_HASH);
		return;
	}
	uint32_t k = split(n);
	defined_root(leaf, k, left);
	defined_root(leaf + k, n - k, right);
	plain_hash(1, left, MERKLE_HASH, right, MERKLE_HASH, out);
}

/* PATH(m, D[n]) of section 2.1.1; returns its length in hashes. */
static size_t defined_path(const uint8_t (*leaf)[MERKLE_HASH], uint32_t m, uint32_t n, uint8_t *out)
{
	if (n == 1)
		return 0;
	uint32_t k = split(n);
	size_t len =
		m < k ? defined_path(leaf, m, k, out) : defined_path(leaf + k, m - k, n - k, out);
	if (m < k)
		defined_root(leaf + k, n - k, out + len * MERKLE_HASH);
	else
		defined_root(leaf, k, out + len * MERKLE_HASH);
	return len + 1;
}

/* Writes a file of n blocks, the last of last_len bytes, and the hashes of its leaves. */
static void small_file(uint32_t n, size_t last_len, uint8_t data[], uint8_t leaf[][MERKLE_HASH])
{
	size_t size = (n - 1) * BLOCK + last_len;
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(17 * i + n);
	put_file(data, size);
	for (uint32_t i = 0; i < n; i++)
		plain_hash(0, data + i * BLOCK, i < n - 1 ? BLOCK : last_len, "", 0, leaf[i]);
}

/* The reference tree has leaves of different lengths, so no file has it: its roots are compared
 * with the definition, and the definition with the trees of files. */
static void the_definition_has_the_published_roots(void **state)
{
	uint8_t leaf[8][MERKLE_HASH], root[MERKLE_HASH];
	char hex[HASH_SIZE];
	for (size_t i = 0; i < 8; i++)
		plain_hash(0, ct_leaves[i].bytes, ct_leaves[i].len, "", 0, leaf[i]);
	for (uint32_t n = 1; n <= 8; n++) {
		defined_root((const uint8_t(*)[MERKLE_HASH])leaf, n, root);
		hex_print(root, MERKLE_HASH, hex);
		assert_string_equal(hex, ct_roots[n - 1]);
	}
}

static void every_small_tree_is_as_defined(void **state)
{
	uint8_t data[SMALL_MAX * BLOCK], leaf[SMALL_MAX][MERKLE_HASH], want[MERKLE_PATH_MAX],
		path[MERKLE_PATH_MAX];
	char root[HASH_SIZE], want_root[HASH_SIZE];
	for (uint32_t n = 1; n <= SMALL_MAX; n++) {
		struct merkle *m;
		struct err err;
		size_t last = 1 + n % BLOCK;
		small_file(n, last, data, leaf);
		assert_int_equal(merkle_file(file, (n - 1) * BLOCK + last, BLOCK, &m, &err), 0);
		defined_root((const uint8_t(*)[MERKLE_HASH])leaf, n, want);
		hex_print(want, MERKLE_HASH, want_root);
		merkle_root(m, root);
		assert_string_equal(root, want_root);
		for (uint32_t i = 0; i < n; i++) {
			size_t len = MERKLE_HASH *
				     defined_path((const uint8_t(*)[MERKLE_HASH])leaf, i, n, want);
			assert_int_equal(merkle_path(m, i, path), len);
			assert_int_equal(merkle_path_len(i, n), len);
			assert_memory_equal(path, want, len);
			assert_int_equal(merkle_verify(root, i, n, path, data + i * BLOCK,
						       i < n - 1 ? BLOCK : last),
					 0);
		}
		merkle_free(m);
	}
}

/* ---- forgeries ---- */

/* Every bit of block, path and root; every other index and size; each length that is not its. */
static void forge(const char *root, uint32_t i, uint32_t n, uint8_t *path, uint8_t *block,
		  size_t len)
{
	char other[HASH_SIZE];
	for (size_t b = 0; b < 8 * len; b++) {
		block[b / 8] ^= (uint8_t)(1 << b % 8);
		assert_int_equal(merkle_verify(root, i, n, path, block, len), -EBADMSG);
		block[b / 8] ^= (uint8_t)(1 << b % 8);
	}
	for (size_t b = 0; b < 8 * merkle_path_len(i, n); b++) {
		path[b / 8] ^= (uint8_t)(1 << b % 8);
		assert_int_equal(merkle_verify(root, i, n, path, block, len), -EBADMSG);
		path[b / 8] ^= (uint8_t)(1 << b % 8);
	}
	for (size_t c = 0; c < HASH_HEX; c++) {
		memcpy(other, root, HASH_SIZE);
		other[c] = root[c] == 'a' ? 'b' : 'a';
		assert_int_equal(merkle_verify(other, i, n, path, block, len), -EBADMSG);
	}
	for (uint32_t k = 0; k < n; k++)
		if (k != i)
			assert_int_equal(merkle_verify(root, k, n, path, block, len), -EBADMSG);
	for (size_t l = 0; l < len; l++)
		assert_int_equal(merkle_verify(root, i, n, path, block, l), -EBADMSG);
	assert_int_equal(merkle_verify(root, n, n, path, block, len), -EINVAL);
}

static void nothing_else_is_taken_for_a_block(void **state)
{
	uint8_t data[SMALL_MAX * BLOCK], leaf[SMALL_MAX][MERKLE_HASH], path[MERKLE_PATH_MAX] = {0};
	char root[HASH_SIZE];
	for (uint32_t n = 1; n <= 9; n++) {
		struct merkle *m;
		struct err err;
		small_file(n, BLOCK, data, leaf);
		assert_int_equal(merkle_file(file, n * BLOCK, BLOCK, &m, &err), 0);
		merkle_root(m, root);
		for (uint32_t i = 0; i < n; i++) {
			merkle_path(m, i, path);
			forge(root, i, n, path, data + i * BLOCK, BLOCK);
		}
		merkle_free(m);
	}
}

/* Two nodes are no block: what is hashed begins otherwise (a second preimage, were it not so). */
static void a_node_is_no_leaf(void **state)
{
	uint8_t data[2 * BLOCK], leaf[2][MERKLE_HASH];
	char root[HASH_SIZE];
	struct merkle *m;
	struct err err;
	small_file(2, BLOCK, data, leaf);
	assert_int_equal(merkle_file(file, sizeof(data), BLOCK, &m, &err), 0);
	merkle_root(m, root);
	merkle_free(m);
	assert_int_equal(merkle_verify(root, 0, 1, NULL, leaf, sizeof(leaf)), -EBADMSG);
}

static void what_is_no_tree_is_refused(void **state)
{
	struct merkle *m = NULL;
	struct err err;
	put_file("abc", 3);
	assert_int_equal(merkle_file(file, 0, 1, &m, &err), -EINVAL);
	assert_int_equal(merkle_file(file, 3, 0, &m, &err), -EINVAL);
	assert_int_equal(merkle_file(file, 4, 2, &m, &err), -EIO);
	assert_int_equal(merkle_file(file, MERKLE_LEAVES_MAX + 1, 1, &m, &err), -EINVAL);
	assert_int_equal(merkle_file("/nonexistent", 3, 1, &m, &err), -ENOENT);
	assert_null(m);
	assert_int_equal(merkle_verify("", 0, 1, NULL, "abc", 3), -EINVAL);
	assert_int_equal(merkle_verify(ct_roots[0], 0, UINT32_MAX, NULL, "", 0), -EINVAL);
	assert_int_equal(merkle_path_len(3, 3), 0);
	assert_true(merkle_path_len(0, MERKLE_LEAVES_MAX) == MERKLE_PATH_MAX);
}

static int make_folder(void **state)
{
	return mkdtemp(folder) && file_path(file, sizeof(file), "%s/file", folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
	return file_remove(file, NULL) == 0 ? rmdir(folder) : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_published_paths_prove_the_published_leaves),
		cmocka_unit_test(the_definition_has_the_published_roots),
		cmocka_unit_test(every_small_tree_is_as_defined),
		cmocka_unit_test(nothing_else_is_taken_for_a_block),
		cmocka_unit_test(a_node_is_no_leaf),
		cmocka_unit_test(what_is_no_tree_is_refused),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
