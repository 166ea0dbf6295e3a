/* Sealed blocks of a transfer, and keys that are agreed. The first byte says what the rest is:
 *
 *   0   a number, and a block as it comes from the broker
 *   1   a number, changes (changes.h): that block well sealed, and then changed
 *   2   two numbers, changes: the second block with its audit path, changed, and sealed as the
 * first by somebody who has the key 3   two texts with a zero byte between them: a public key, and
 * a site key sealed 4   changes of such an answer, which was well made
 *
 * A block is stored only if it is that one, and a key is taken only as it was given. */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/transfer/sealing.h"
#include "common/trust/sealed.h"
#include "common/trust/sitekey.h"
#include "tests/fuzz/changes.h"
#include "tests/fuzz/fuzz.h"

#define BLOCK  MANIFEST_BLOCK_MIN
#define SIZE   (4 * BLOCK + 100)
#define BLOCKS 5

static const struct sitekey_way way = {"home", "cam-1", "edge-1", 7};
static const uint8_t key[SEAL_KEY] = {1, 2, 3};

static struct manifest manifest = {.size = SIZE, .block_size = BLOCK};
static char dir[FILE_PATH_MAX], from[FILE_PATH_MAX], part[FILE_PATH_MAX], map[FILE_PATH_MAX];
static uint8_t payload[SIZE];
static struct seal *seal;
static struct proof proof;
static struct seal_pair device;
/* The trainer's answer to it: 64 digits and the site key's. */
static char answer[HASH_HEX + 2 * SITEKEY_SEALED + 1];

static void done(void)
{
	seal_free(seal);
	proof_done(&proof);
}

static void begin(void)
{
	static const uint8_t secret[SEAL_KEY] = {9};
	char name[HASH_SIZE + 8], theirs[HASH_SIZE], own[HASH_SIZE], sealed[2 * SITEKEY_SEALED + 1];
	struct err err = {0};
	for (size_t i = 0; i < SIZE; i++)
		payload[i] = (uint8_t)(i * 7 + i / BLOCK);
	FUZZ_CHECK(hash_bytes(payload, SIZE, manifest.id) == 0);
	fuzz_path("", dir);
	fuzz_path("from", from);
	snprintf(name, sizeof(name), "%s.part", manifest.id);
	fuzz_path(name, part);
	snprintf(name, sizeof(name), "%s.map", manifest.id);
	fuzz_path(name, map);
	fuzz_put(from, payload, SIZE);
	FUZZ_CHECK(seal_new(&seal) == 0);
	FUZZ_CHECK(proof_root(&proof, from, &manifest, &err) == 0);
	FUZZ_CHECK(seal_pair_of(secret, &device) == 0);
	const struct sealed mine = {
		.secret = "09"
			  "00000000000000000000000000000000000000000000000000000000000000"};
	FUZZ_CHECK(sealed_public(&mine, own) == 0);
	FUZZ_CHECK(sitekey_wrap(&way, own, key, theirs, sealed) == 0);
	snprintf(answer, sizeof(answer), "%s%s", theirs, sealed);
	atexit(done);
}

static void print_aad(uint32_t i, uint8_t aad[HASH_HEX + 4])
{
	memcpy(aad, manifest.id, HASH_HEX);
	for (int k = 0; k < 4; k++)
		aad[HASH_HEX + k] = (uint8_t)(i >> (24 - 8 * k));
}

/* As sealing_read_block() does, but always under the same nonce. */
static size_t seal_as(uint32_t i, const uint8_t *plain, size_t len, uint8_t *wire)
{
	uint8_t aad[HASH_HEX + 4];
	print_aad(i, aad);
	memset(wire, 0x11, SEAL_NONCE);
	FUZZ_CHECK(seal_block_under_nonce(seal, key, aad, sizeof(aad), plain, len, wire) == 0);
	return len + SEAL_OVERHEAD;
}

/* Whether it was stored, as block i; then it is that. */
static bool take(uint32_t i, const uint8_t *wire, size_t len)
{
	static uint8_t opened[SEALING_BLOCK_MAX];
	uint32_t wishes[BLOCKS];
	struct part p;
	struct err err = {0};
	unlink(part);
	unlink(map);
	FUZZ_CHECK(part_open(&p, dir, &manifest, 1000, &err) == 0);
	p.xfer.any = true;
	xfer_want(&p.xfer, 1000, wishes, BLOCKS);
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
	FUZZ_CHECK(copy);
	memcpy(copy, wire, len);
	int r = sealing_take_block(seal, key, &p, i, copy, len, opened, 1000, &err);
	FUZZ_CHECK(r >= 0 && (r == XFER_OK) == (p.xfer.n_held == 1));
	FUZZ_CHECK((r == XFER_OK) == file_exists(map));
	if (r == XFER_OK) {
		uint8_t stored[BLOCK];
		uint32_t n;
		fuzz_taken++;
		FUZZ_CHECK(i < BLOCKS);
		FUZZ_CHECK(part_read_block(part, SIZE, BLOCK, i, stored, &n, &err) == 0);
		FUZZ_CHECK(memcmp(stored, payload + (size_t)i * BLOCK, n) == 0);
	}
	part_close(&p);
	return r == XFER_OK;
}

static void run_block(uint8_t as, uint8_t of, bool after, const uint8_t *data, size_t size)
{
	static uint8_t plain[PROOF_BLOCK_MAX], wire[SEALING_BLOCK_MAX], same[SEALING_BLOCK_MAX];
	struct changes c = changes_take(&data, &size);
	struct err err = {0};
	uint32_t n;
	FUZZ_CHECK(proof_read_block(&proof, from, &manifest, of, plain, &n, &err) == 0);
	memcpy(same, plain, n);
	size_t len = after ? n : changes_make(&c, plain, n);
	bool changed = len != n || memcmp(same, plain, n) != 0;
	len = seal_as(as, plain, len, wire);
	if (after) {
		memcpy(same, wire, len);
		n = (uint32_t)len;
		len = changes_make(&c, wire, len);
		changed = len != n || memcmp(same, wire, n) != 0;
	}
	FUZZ_CHECK(take(as, wire, len) == (!changed && as == of));
}

/* `text` may hold a zero byte; both are as long as messages' members can be. */
static void run_answer(const char *theirs, const char *sealed)
{
	uint8_t found[SEAL_KEY];
	struct err err = {0};
	memset(found, 0x77, sizeof(found));
	bool taken = sitekey_unwrap(&way, &device, theirs, sealed, found) == 0;
	FUZZ_CHECK(!taken || (strncmp(answer, theirs, HASH_HEX) == 0 &&
			      strcmp(answer + HASH_HEX, sealed) == 0));
	FUZZ_CHECK(!taken || memcmp(found, key, sizeof(found)) == 0);
	fuzz_taken += taken;
	bool weak = sealed_check(theirs, &err) != REFUSAL_NONE;
	FUZZ_CHECK(weak == (*err.text != 0) && !(weak && taken));
	const struct sealed s = {.secret = ""};
	struct sealed_memo memo = {0};
	const struct sealed_transfer t = {"home", "cam-1", "edge-1", 3, manifest.id, true, true};
	FUZZ_CHECK(!sealed_key(&memo, &s, &t));
}

static void run_texts(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = calloc(1, size + 2);
	FUZZ_CHECK(text);
	memcpy(text, data, size);
	run_answer(text, text + strlen(text) + 1);
}

static void run_changed(const uint8_t *data, size_t size)
{
	struct changes c = changes_take(&data, &size);
	uint8_t text[sizeof(answer)];
	char theirs[HASH_SIZE] = "";
	memcpy(text, answer, sizeof(answer));
	text[changes_make(&c, text, sizeof(answer) - 1)] = 0;
	size_t n = strnlen((const char *)text, HASH_HEX);
	memcpy(theirs, text, n);
	run_answer(theirs, (const char *)text + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!seal)
		begin();
	if (size < 3)
		return 0;
	switch (data[0] % 5) {
	case 0:
		FUZZ_CHECK(!take(data[1], data + 2, size - 2));
		break;
	case 1:
		run_block(data[1], data[1] % BLOCKS, true, data + 2, size - 2);
		break;
	case 2:
		run_block(data[1], data[2] % BLOCKS, false, data + 3, size - 3);
		break;
	case 3:
		run_texts(data + 1, size - 1);
		break;
	case 4:
		run_changed(data + 1, size - 1);
		break;
	}
	return 0;
}
