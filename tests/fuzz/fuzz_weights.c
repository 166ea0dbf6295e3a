/* Weights files for a tiny model: what is taken has its exact size, only sound values, and the id
 * of its bytes; what is made of it (a blend, a merge, a graft) is sound, too. An input of another
 * size is run again as a file of the right one, since few changes keep a size; and each, as often
 * as it fits, as one of a model with long tensors. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tiny.h"

#define TINY_BYTES (WEIGHTS_HEADER_SIZE + 4 * TINY_FLOATS)
#define WIDE_BYTES (WEIGHTS_HEADER_SIZE + 4 * WIDE_FLOATS)

static void check_values(const struct model *m, const uint8_t *data)
{
	float v[WIDE_FLOATS];
	memcpy(v, data + WEIGHTS_HEADER_SIZE, 4 * m->n_floats);
	for (size_t i = 0; i < m->n_tensors; i++)
		for (uint64_t k = 0; k < m->tensors[i].count; k++) {
			float f = v[m->tensors[i].offset + k];
			FUZZ_CHECK(isfinite(f));
			FUZZ_CHECK(m->tensors[i].kind != TENSOR_VARIANCE || f >= 0);
		}
}

/* What was written is a weights file, or there is an error and no file. */
static void check_made(const struct model *m, int r, const char *path, const struct err *err)
{
	struct err why = {0};
	if (r < 0) {
		FUZZ_CHECK(*err->text && !file_exists(path));
		return;
	}
	FUZZ_CHECK(weights_check(m, path, NULL, NULL, &why) == 0);
	FUZZ_CHECK(unlink(path) == 0);
}

/* Of a sound file and one whose weights are all 0. */
static void check_edits(const struct model *m, const char *path)
{
	static const uint8_t zeros[TINY_BYTES] = {[4] = 2};
	static char other[FILE_PATH_MAX], out[FILE_PATH_MAX];
	struct err err = {0};
	if (!*other) {
		fuzz_path("zeros", other);
		fuzz_path("out", out);
		fuzz_put(other, zeros, sizeof(zeros));
	}
	check_made(m, weights_blend(m, path, other, 0.25, out, &err), out, &err);
	const struct weights_input inputs[] = {{path, 3}, {other, 1}};
	check_made(m, weights_merge(m, inputs, ARRAY_LEN(inputs), out, &err), out, &err);
	check_made(m, weights_graft(m, path, NULL, 1, out, &err), out, &err);
	check_made(m, weights_graft(m, other, path, 2, out, &err), out, &err);
}

static void check_taken(const struct model *m, const char *path, const struct weights_header *h,
			const char *id, const uint8_t *data, size_t size)
{
	char expected[HASH_SIZE];
	struct weights_stat stats[TINY_TENSORS];
	struct err err = {0};
	FUZZ_CHECK(m->file_bytes == size && h->seen <= WEIGHTS_SEEN_MAX);
	check_values(m, data);
	FUZZ_CHECK(hash_bytes(data, size, expected) == 0 && strcmp(id, expected) == 0);
	FUZZ_CHECK(weights_stats(m, path, stats, &err) == 0);
	for (size_t i = 0; i < m->n_tensors; i++)
		FUZZ_CHECK(stats[i].min <= stats[i].max && stats[i].zeros <= m->tensors[i].count);
	if (m == tiny_model())
		check_edits(m, path);
}

static void run(const struct model *m, const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[FILE_PATH_MAX], id[HASH_SIZE] = "untouched";
	struct weights_header h = {.major = 77};
	struct err err = {0};
	fuzz_file(data, size, &fd, path);
	if (weights_check(m, path, &h, id, &err) < 0) {
		FUZZ_CHECK(*err.text && h.major == 77 && strcmp(id, "untouched") == 0);
		return;
	}
	fuzz_taken++;
	check_taken(m, path, &h, id, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t whole[TINY_BYTES] = {[4] = 2}, wide[WIDE_BYTES];
	run(tiny_model(), data, size);
	if (size != sizeof(whole)) {
		memcpy(whole, data, MIN_OF(size, sizeof(whole)));
		run(tiny_model(), whole, sizeof(whole));
		data = whole;
	}
	memcpy(wide, data, WEIGHTS_HEADER_SIZE);
	for (size_t i = WEIGHTS_HEADER_SIZE; i < sizeof(wide);
	     i += sizeof(whole) - WEIGHTS_HEADER_SIZE)
		memcpy(wide + i, data + WEIGHTS_HEADER_SIZE,
		       MIN_OF(sizeof(wide) - i, sizeof(whole) - WEIGHTS_HEADER_SIZE));
	run(wide_model(), wide, sizeof(wide));
	return 0;
}
