/* JSON: what is taken prints, and what is printed (compact or not) is taken and prints the same. */
#include <string.h>

#include "common/base/mem.h"
#include "common/json/json.h"
#include "tests/fuzz/fuzz.h"

#define BYTES_MAX 65536

static void check_same(const char *text, const char *expected)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct err err = {0};
	if (json_parse(text, strlen(text), 16 * BYTES_MAX, &j, &err) < 0) {
		fprintf(stderr, "%s\n%s\n", err.text, text);
		abort();
	}
	_cleanup_free_ char *again = json_print(j);
	FUZZ_CHECK(again && strcmp(again, expected) == 0);
}

/* Every getter on every member: none may touch what it must not. */
static void read_all(const struct json *j)
{
	for (const struct json *inner = json_first(j); inner; inner = json_next(inner)) {
		const char *key = json_name(inner), *text;
		int64_t v = 7;
		double d;
		bool b;
		char buf[8];
		if (key) {
			FUZZ_CHECK(json_has(j, key));
			if (json_get_int(j, key, -5, 5, &v, NULL) == 0)
				FUZZ_CHECK(v >= -5 && v <= 5);
			if (json_get_num(j, key, 0, 1, &d, NULL) == 0)
				FUZZ_CHECK(d >= 0 && d <= 1);
			if (json_get_str(j, key, buf, sizeof(buf), NULL) == 0)
				FUZZ_CHECK(strlen(buf) < sizeof(buf));
			if (json_get_text(j, key, 3, &text, NULL) == 0)
				FUZZ_CHECK(strlen(text) <= 3);
			json_get_bool(j, key, &b, NULL);
		}
		json_int(inner, 0, 1, &v);
		json_str(inner);
		read_all(inner); /* as deep as the parser allows */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct err err = {0};
	if (json_parse((const char *)data, size, BYTES_MAX, &j, &err) < 0) {
		FUZZ_CHECK(*err.text && !j);
		return 0;
	}
	fuzz_taken++;
	read_all(j);
	_cleanup_free_ char *one = json_print(j), *pretty = json_print_pretty(j);
	FUZZ_CHECK(one && pretty);
	check_same(one, one);
	check_same(pretty, one);
	return 0;
}
