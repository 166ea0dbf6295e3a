/* The keys of a handover, and its blocks as they travel: both ends come to the same key, whatever
 * differs gives another one, and of a whole checkpoint each block with one bit flipped, cut, moved
 * or in plain is refused by name before anything of it is stored. */
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

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/crypto/hash.h"
#include "common/transfer/sealing.h"
#include "common/trust/sealed.h"

#define BLOCK  1024
#define BLOCKS 37
#define SIZE   (BLOCK * (BLOCKS - 1) + 17) /* the last block is short */

/* ---- keys ---- */

/* Those of RFC 7748's example; the keys were derived from them by Python's cryptography. */
#define TRAINER_SECRET "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
#define TRAINER_PUBLIC "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
#define DEVICE_SECRET  "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
#define DEVICE_PUBLIC  "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
#define PAYLOAD        "abababababababababababababababababababababababababababababababab"
#define OTHER          "cdababababababababababababababababababababababababababababababab"
#define TO_TRAINER     "4195efaddd840219d3d13f5ad59e703f64c8d909cef2f851c56b192a687a8e96"
#define TO_DEVICE      "4b12a83829e44435aaf9a743d9e6b03d3348b56e877ea5859561f5ee5ea4ff7b"

static const struct sealed at_trainer = {TRAINER_SECRET, DEVICE_PUBLIC};
static const struct sealed at_device = {DEVICE_SECRET, TRAINER_PUBLIC};
static const struct sealed_transfer transfer = {"home",  "cam-1", "edge-1", 7,
						PAYLOAD, false,   false};

static void key_text(const struct sealed *s, const struct sealed_transfer *t, char ret[HASH_SIZE])
{
	struct sealed_memo memo = {0};
	const uint8_t *key = sealed_key(&memo, s, t);
	assert_non_null(key);
	hex_print(key, SEAL_KEY, ret);
	sealed_forget(&memo);
}

static void both_ends_come_to_the_same_key(void **state)
{
	char key[HASH_SIZE], public[HASH_SIZE];
	struct sealed_transfer t = transfer;
	for (int i = 0; i < 4; i++) {
		t.own_device = i & 1;
		t.to_device = i & 2;
		key_text(t.own_device ? &at_device : &at_trainer, &t, key);
		assert_string_equal(key, t.to_device ? TO_DEVICE : TO_TRAINER);
	}
	assert_int_equal(sealed_public(&at_trainer, public), 0);
	assert_string_equal(public, TRAINER_PUBLIC);
	assert_int_equal(sealed_public(&at_device, public), 0);
	assert_string_equal(public, DEVICE_PUBLIC);
}

static void whatever_differs_gives_another_key(void **state)
{
	struct sealed_transfer others[] = {transfer, transfer, transfer, transfer, transfer,
					   transfer, transfer, transfer, transfer};
	char keys[ARRAY_LEN(others) + 2][HASH_SIZE];
	struct sealed fresh;
	others[1].site = "homes";
	others[2].device = "cam-2";
	others[3].trainer = "edge-2";
	others[4].fence = 8;
	others[5].payload = OTHER;
	others[6].to_device = true;
	others[7].site = "homecam"; /* the same text but for where a name ends */
	others[7].device = "-1";
	others[8].own_device = true; /* which key is whose counts */
	size_t n = 0;
	for (; n < ARRAY_LEN(others); n++)
		key_text(&at_trainer, &others[n], keys[n]);
	for (int i = 0; i < 2; i++) { /* and each fresh pair */
		assert_int_equal(sealed_begin(&fresh), 0);
		strcpy(fresh.theirs, DEVICE_PUBLIC);
		key_text(&fresh, &transfer, keys[n++]);
	}
	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++)
			assert_string_not_equal(keys[i], keys[k]);
}

static void a_key_is_derived_once(void **state)
{
	struct sealed_memo memo = {0};
	struct sealed_transfer t = transfer;
	struct sealed s = at_trainer;
	const uint8_t *key = sealed_key(&memo, &s, &t);
	char text[HASH_SIZE];
	memo.key[0] ^= 1; /* to see it again */
	assert_ptr_equal(sealed_key(&memo, &s, &t), key);
	hex_print(key, SEAL_KEY, text);
	assert_string_not_equal(text, TO_TRAINER);
	t.fence = 8;
	assert_non_null(sealed_key(&memo, &s, &t));
	t.fence = 7;
	assert_non_null(sealed_key(&memo, &s, &t));
	hex_print(memo.key, SEAL_KEY, text);
	assert_string_equal(text, TO_TRAINER);
	strcpy(s.theirs, TRAINER_PUBLIC); /* the other end's has changed */
	assert_non_null(sealed_key(&memo, &s, &t));
	hex_print(memo.key, SEAL_KEY, text);
	assert_string_not_equal(text, TO_TRAINER);
	s.theirs[0] = 0; /* not heard yet */
	assert_null(sealed_key(&memo, &s, &t));
	assert_null(sealed_key(&memo, &(struct sealed){0}, &t));
	assert_null(sealed_key(&memo, &(struct sealed){.theirs = DEVICE_PUBLIC}, &t));
	assert_memory_equal(&memo, &(struct sealed_memo){0}, sizeof(memo));
}

static void bad_seals_have_names(void **state)
{
	struct err err = {0};
	struct sealed s;
	char public[HASH_SIZE];
	assert_int_equal(sealed_begin(&s), 0);
	assert_int_equal(sealed_public(&s, public), 0);
	assert_int_equal(sealed_check(public, &err), REFUSAL_NONE);
	assert_int_equal(sealed_check("", &err), REFUSAL_UNSEALED);
	assert_int_equal(sealed_check("abc", &err), REFUSAL_UNSEALED);
	memset(public, '0', HASH_HEX);
	assert_int_equal(sealed_check(public, &err), REFUSAL_WEAK);
	assert_non_null(strstr(err.text, public));
	strcpy(s.theirs, public);
	assert_null(sealed_key(&(struct sealed_memo){0}, &s, &transfer));
	sealed_wipe(&s);
	assert_memory_equal(&s, &(struct sealed){0}, sizeof(s));
	assert_int_equal(sealed_refusal(XFER_E_PLAIN), REFUSAL_UNSEALED);
	assert_int_equal(sealed_refusal(XFER_E_SEAL), REFUSAL_BLOCK);
	assert_int_equal(sealed_refusal(XFER_E_FORGED), REFUSAL_BLOCK);
	assert_int_equal(sealed_refusal(XFER_E_UNASKED), REFUSAL_NONE);
	assert_string_equal(refusal_name(REFUSAL_UNSEALED), "unsealed");
	assert_string_equal(refusal_name(REFUSAL_WEAK), "weak seal");
	assert_string_equal(refusal_name(REFUSAL_BLOCK), "forged block");
}

/* ---- blocks ---- */

static char dir[FILE_PATH_MAX - 100], path[FILE_PATH_MAX];
static uint8_t data[SIZE], key[SEAL_KEY];
static uint8_t wire[SEALING_BLOCK_MAX + 1], opened[SEALING_BLOCK_MAX];
static struct manifest manifest;
static struct proof proof;
static struct seal *seal;
static struct part part;

static int setup(void **state)
{
	strcpy(dir, "/tmp/tasuki-sealed-XXXXXX");
	manifest = (struct manifest){.size = SIZE, .block_size = BLOCK};
	if (!mkdtemp(dir) || seal_random(data, SIZE) < 0 || seal_random(key, sizeof(key)) < 0 ||
	    seal_new(&seal) < 0 || hash_bytes(data, SIZE, manifest.id) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/whole", dir);
	if (file_write(path, data, SIZE, NULL) < 0 ||
	    proof_root(&proof, path, &manifest, NULL) < 0 ||
	    part_open(&part, dir, &manifest, 0, NULL) < 0)
		return -1;
	part.xfer.any = true;
	return 0;
}

static int teardown(void **state)
{
	part_close(&part);
	proof_done(&proof);
	seal_free(seal);
	return file_remove(dir, NULL);
}

static uint32_t read_block(uint32_t i)
{
	uint32_t len;
	assert_int_equal(
		sealing_read_block(seal, key, &proof, path, &manifest, i, wire, &len, NULL), 0);
	return len;
}

static int take(uint32_t i, size_t len)
{
	return sealing_take_block(seal, key, &part, i, wire, len, opened, 0, NULL);
}

static void flip(size_t bit)
{
	wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static bool nothing_is_stored(void)
{
	return part.xfer.n_held == 0 && !part_there(dir, manifest.id);
}

static void complete(void)
{
	char whole[FILE_PATH_MAX], id[HASH_SIZE];
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(take(i, read_block(i)), XFER_OK);
	assert_true(xfer_complete(&part.xfer));
	assert_int_equal(part_finish(&part, whole, NULL), 0);
	assert_int_equal(hash_file(whole, id, NULL), 0);
	assert_string_equal(id, manifest.id);
}

static void sealed_blocks_make_the_whole(void **state)
{
	complete();
}

/* One random bit of every block of a checkpoint; and every bit of one. */
static void flipped_bits_are_refused(void **state)
{
	struct rng rng;
	uint64_t n = 0;
	rng_init(&rng, 7);
	for (uint32_t i = 0; i < BLOCKS; i++, n++) {
		uint32_t len = read_block(i);
		flip(rng_below(&rng, 8 * len));
		assert_int_equal(take(i, len), XFER_E_SEAL);
	}
	uint32_t len = read_block(BLOCKS - 1);
	for (size_t bit = 0; bit < 8 * (size_t)len; bit++, n++) {
		flip(bit);
		assert_int_equal(take(BLOCKS - 1, len), XFER_E_SEAL);
		flip(bit);
	}
	assert_int_equal(part.xfer.n_refused, n);
	assert_true(nothing_is_stored());
	complete();
}

static void other_lengths_are_refused(void **state)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint32_t len = read_block(i);
		const size_t cut[] = {0, 1, SEAL_OVERHEAD - 1, SEAL_OVERHEAD, len - 1, len + 1};
		for (size_t k = 0; k < ARRAY_LEN(cut); k++, n++)
			assert_int_equal(take(i, cut[k]), XFER_E_SEAL);
	}
	assert_int_equal(take(0, SEALING_BLOCK_MAX + 1), XFER_E_SEAL);
	/* All of one, down to nothing. (One of them is as long as the plain block.) */
	uint32_t len = read_block(BLOCKS - 1);
	for (size_t l = 0; l < len; l++, n++)
		assert_int_equal(take(BLOCKS - 1, l), l == 17 ? XFER_E_PLAIN : XFER_E_SEAL);
	assert_int_equal(part.xfer.n_refused, n + 1);
	assert_true(nothing_is_stored());
	complete();
}

static void what_comes_in_plain_is_refused(void **state)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint32_t len;
		assert_int_equal(part_read_block(path, SIZE, BLOCK, i, wire, &len, NULL), 0);
		assert_int_equal(take(i, len), XFER_E_PLAIN);
	}
	assert_true(nothing_is_stored());
	complete();
}

static void blocks_open_nowhere_else(void **state)
{
	uint32_t len = read_block(3);
	for (uint32_t i = 0; i < BLOCKS + 1; i++)
		if (i != 3)
			assert_int_equal(take(i, len), XFER_E_SEAL);
	assert_int_equal(take(UINT32_MAX, len), XFER_E_SEAL);
	part.id[0] ^= 1; /* another payload */
	assert_int_equal(take(3, len), XFER_E_SEAL);
	part.id[0] ^= 1;
	key[31] ^= 1;
	assert_int_equal(take(3, len), XFER_E_SEAL);
	key[31] ^= 1;
	assert_int_equal(sealing_take_block(seal, NULL, &part, 3, wire, len, opened, 0, NULL),
			 XFER_E_SEAL);
	assert_true(nothing_is_stored());
	assert_int_equal(take(3, len), XFER_OK);
	assert_int_equal(take(3, len), XFER_E_TWICE);
}

/* Who has the key, but not what the root is of. */
static void what_opens_is_proven(void **state)
{
	uint32_t len = read_block(3);
	assert_int_equal(take(3, len), XFER_OK);
	data[5 * BLOCK] ^= 1;
	assert_int_equal(file_write(path, data, SIZE, NULL), 0);
	assert_int_equal(take(5, read_block(5)), XFER_E_FORGED);
	part.root[0] = 0;
	assert_int_equal(take(4, read_block(4)), XFER_E_FORGED);
	assert_int_equal(part.xfer.n_held, 1);
}

static void no_nonce_comes_twice(void **state)
{
	enum { N = 4 * BLOCKS };
	uint8_t nonces[N][SEAL_NONCE];
	for (size_t i = 0; i < N; i++) {
		read_block((uint32_t)(i % BLOCKS));
		memcpy(nonces[i], wire, SEAL_NONCE);
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(nonces[i], nonces[k], SEAL_NONCE);
	}
}

static void without_an_identity_blocks_are_plain(void **state)
{
	uint32_t len;
	assert_int_equal(sealing_read_block(NULL, NULL, NULL, path, &manifest, 2, wire, &len, NULL),
			 0);
	assert_int_equal(len, BLOCK);
	assert_memory_equal(wire, data + 2 * BLOCK, BLOCK);
	assert_int_equal(sealing_take_block(NULL, NULL, &part, 2, wire, len, NULL, 0, NULL),
			 XFER_OK);
	struct err err = {0};
	assert_int_equal(
		sealing_read_block(seal, NULL, &proof, path, &manifest, 2, wire, &len, &err),
		-ENOKEY);
	assert_non_null(strstr(err.text, "no key"));
	assert_int_equal(
		sealing_read_block(seal, key, &proof, path, &manifest, BLOCKS, wire, &len, NULL),
		-ERANGE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_come_to_the_same_key),
		cmocka_unit_test(whatever_differs_gives_another_key),
		cmocka_unit_test(a_key_is_derived_once),
		cmocka_unit_test(bad_seals_have_names),
		T(sealed_blocks_make_the_whole),
		T(flipped_bits_are_refused),
		T(other_lengths_are_refused),
		T(what_comes_in_plain_is_refused),
		T(blocks_open_nowhere_else),
		T(what_opens_is_proven),
		T(no_nonce_comes_twice),
		T(without_an_identity_blocks_are_plain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
