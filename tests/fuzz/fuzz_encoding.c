/* Payloads for a tiny model, after a byte that names the encoding (bits 0 and 1): what is decoded
 * is a sound weights file with the id of its bytes, and nothing else is left. What is decoded,
 * and encoded again, comes back as the encoder said. With bit 2 the input is weights, which are
 * encoded, so that the decoder gets streams that it reads to the end. The corpus is made by
 * make_payloads.py, which has the encoder do it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/encoding/encoding.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tiny.h"

#define IS_WEIGHTS 4

static char base[FILE_PATH_MAX], in[FILE_PATH_MAX], out[FILE_PATH_MAX], tmp[FILE_PATH_MAX];
static char again[FILE_PATH_MAX], coded[FILE_PATH_MAX];

/* The base: every weight 0.5. */
static void begin(void)
{
	static float weights[WEIGHTS_HEADER_SIZE / sizeof(float) + TINY_FLOATS];
	fuzz_path("base", base);
	fuzz_path("in", in);
	fuzz_path("out", out);
	fuzz_path("out.tmp", tmp);
	fuzz_path("again", again);
	fuzz_path("coded", coded);
	((int32_t *)(void *)weights)[1] = 2;
	for (size_t i = 0; i < TINY_FLOATS; i++)
		weights[WEIGHTS_HEADER_SIZE / sizeof(float) + i] = 0.5f;
	fuzz_put(base, weights, sizeof(weights));
}

/* Into `coded` and `out`, and back: nothing of it is left, taken or refused. */
static bool code(const char *weights, enum encoding e, double step)
{
	const struct encoding_conf conf = {.encoding = e, .step = step};
	const char *from = e == ENCODING_DELTA ? base : NULL;
	char promised[HASH_SIZE], found[HASH_SIZE];
	struct err err = {0};
	bool taken = encoding_encode(tiny_model(), &conf, weights, from, coded, again, promised,
				     &err) == 0;
	if (taken) {
		FUZZ_CHECK(unlink(again) == 0);
		FUZZ_CHECK(encoding_decode(tiny_model(), e, coded, from, again, found, &err) == 0);
		FUZZ_CHECK(strcmp(found, promised) == 0);
		FUZZ_CHECK(unlink(again) == 0 && unlink(coded) == 0);
	}
	FUZZ_CHECK(taken || err.code == -EFBIG || err.code == -ERANGE);
	FUZZ_CHECK((taken || *err.text) && !file_exists(again) && !file_exists(coded));
	return taken;
}

static void run_weights(enum encoding e, double step, const uint8_t *data, size_t size)
{
	uint8_t whole[WEIGHTS_HEADER_SIZE + 4 * TINY_FLOATS] = {[4] = 2};
	memcpy(whole + WEIGHTS_HEADER_SIZE, data,
	       MIN_OF(size, sizeof(whole) - WEIGHTS_HEADER_SIZE));
	fuzz_put(in, whole, sizeof(whole));
	if (weights_check(tiny_model(), in, NULL, NULL, NULL) < 0)
		return;
	const char *const bases[] = {base, in};
	size_t nearest = 7;
	struct err err = {0};
	FUZZ_CHECK(encoding_nearest(tiny_model(), in, bases, 2, &nearest, &err) == 0);
	FUZZ_CHECK(nearest < 2);
	fuzz_taken += code(in, e, MAX_OF(step, ENCODING_STEP_MIN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char id[HASH_SIZE] = "untouched", found[HASH_SIZE];
	struct err err = {0};
	if (!*base)
		begin();
	if (size == 0)
		return 0;
	enum encoding e = (enum encoding)(1 + data[0] % (ENCODING_N - 1));
	if (data[0] & IS_WEIGHTS) {
		run_weights(e, (data[0] >> 3) / 4.0, data + 1, size - 1);
		return 0;
	}
	fuzz_put(in, data + 1, size - 1);
	if (encoding_decode(tiny_model(), e, in, base, out, id, &err) < 0) {
		FUZZ_CHECK(*err.text && !file_exists(out) && !file_exists(tmp));
		FUZZ_CHECK(strcmp(id, "untouched") == 0);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(weights_check(tiny_model(), out, NULL, found, &err) == 0);
	FUZZ_CHECK(strcmp(found, id) == 0 && !file_exists(tmp));
	if (e != ENCODING_ZSTD)
		code(out, e, 1);
	FUZZ_CHECK(unlink(out) == 0);
	return 0;
}
