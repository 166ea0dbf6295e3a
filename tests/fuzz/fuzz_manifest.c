/* Manifests as they lie on disk and in offers: what is taken prints, parses and prints the same,
 * and holds nothing that could surprise a path or a topic. */
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/manifest.h"
#include "tests/fuzz/fuzz.h"

static int decode(const char *text, size_t len, struct manifest *ret, struct err *err)
{
	static const char *const also[] = {"fence", NULL};
	_cleanup_(json_freep) struct json *obj = NULL;
	int r = json_parse(text, len, MANIFEST_BYTES_MAX, &obj, err);
	return r < 0 ? r : manifest_from_json(obj, also, ret, err);
}

static char *encode(const struct manifest *m)
{
	_cleanup_(json_freep) struct json *obj = json_new_obj();
	manifest_to_json(m, obj);
	return json_print(obj);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest m, again;
	struct err err = {0};
	int r = decode((const char *)data, size, &m, &err);
	if (r < 0) {
		FUZZ_CHECK(*err.text);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(hash_valid(m.id) && hash_valid(m.model) && id_valid(m.device));
	FUZZ_CHECK(!*m.trainer || id_valid(m.trainer));
	FUZZ_CHECK(m.n_parents <= MANIFEST_PARENTS_MAX && m.size > 0);
	FUZZ_CHECK(m.block_size >= MANIFEST_BLOCK_MIN && m.block_size <= MANIFEST_BLOCK_MAX);
	_cleanup_free_ char *one = encode(&m);
	FUZZ_CHECK(one && strlen(one) <= MANIFEST_BYTES_MAX);
	r = decode(one, strlen(one), &again, &err);
	if (r < 0)
		fprintf(stderr, "%s\n%s\n", err.text, one);
	FUZZ_CHECK(r == 0);
	_cleanup_free_ char *two = encode(&again);
	FUZZ_CHECK(two && strcmp(one, two) == 0);
	return 0;
}
