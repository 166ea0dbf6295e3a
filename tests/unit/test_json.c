/* What the JSON door lets in, what it refuses and how it says so, and that what it prints it can
 * read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/json/json.h"

#define BYTES_MAX 65536

/* From memory without a NUL at its end, so that the sanitizer sees a byte read too many. */
static int parse(const char *text, size_t len, struct json **ret, struct err *err)
{
	_cleanup_free_ char *copy = malloc(len ? len : 1);
	memcpy(copy, text, len);
	return json_parse(copy, len, BYTES_MAX, ret, err);
}

static struct json *must_parse(const char *text)
{
	struct json *j = NULL;
	struct err err = {0};
	if (parse(text, strlen(text), &j, &err))
		fail_msg("%s: %s", text, err.text);
	return j;
}

static void assert_refused(const char *text, size_t len)
{
	struct json *j = (struct json *)1;
	struct err err = {0};
	int r = parse(text, len, &j, &err);
	if (r != -EINVAL || err.code != r || !*err.text || j != (struct json *)1)
		fail_msg("%.*s: got %d '%s'", (int)len, text, r, err.text);
}

static void parse_accepts_json(void **state)
{
	static const char *const good[] = {
		"{}",
		"[]",
		" \t\r\n{ }\n",
		"[1,-1,0,-0,1.5,1e3,1E+3,1e-3,0.1,123456789012]",
		"[\"\",\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\",true,false,null]",
		"{\"a\":{\"b\":[{}]},\"A\":1,\"\":2}",
		"[\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\"]",
		"[\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"]",
		"[\"\x7f\",\"\\\\u0000\",\"\\u0001\"]",
		"[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[{{{{\"]",
	};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		json_free(must_parse(good[i]));
}

static void parse_refuses_the_rest(void **state)
{
	static const char *const bad[] = {
		/* not one object or array */
		"",
		"  ",
		"1",
		"\"a\"",
		"null",
		"true",
		"{}{}",
		"{} x",
		"[1] 2",
		"{",
		"[",
		"}",
		"]",
		"[}",
		"{]",
		"[1",
		"{\"a\":1",
		"\xef\xbb\xbf{}",
		/* commas, colons, words */
		"[1,]",
		"[,1]",
		"[1 2]",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{1:1}",
		"{'a':1}",
		"[True]",
		"[nul]",
		"[truefalse]",
		"[/**/]",
		"[NaN]",
		"[Infinity]",
		"[undefined]",
		/* numbers */
		"[01]",
		"[-01]",
		"[+1]",
		"[-]",
		"[1.]",
		"[.5]",
		"[1e]",
		"[1e+]",
		"[0x10]",
		"[--1]",
		"[1.2.3]",
		"[1e999]",
		"[-1e999]",
		"{\"a\":{\"b\":[1e400]}}",
		/* strings */
		"[\"a]",
		"[\"\\",
		"[\"\\\"]",
		"[\"\n\"]",
		"[\"\t\"]",
		"[\"\x01\"]",
		"[\"\\x\"]",
		"[\"\\u12\"]",
		"[\"\\u12g4\"]",
		"[\"\\ud83d\\ug000\"]",
		"[\"\\ud800\"]",
		"[\"\\udc00\"]",
		"[\"\\ud800\\u0041\"]",
		"[\"a\\u0000b\"]",
		"{\"a\\u0000\":1}",
		/* control and other bytes around values */
		"[\x01]",
		"[1\x0b]",
		"[\x7f]",
		"[\xc2\xa0]",
		"{}\x01",
		/* UTF-8: continuation alone, cut, over-long, surrogate, beyond U+10FFFF */
		"[\"\x80\"]",
		"[\"\xc3\"]",
		"[\"\xc3",
		"[\"\xe2\x82\"]",
		"[\"\xc0\x80\"]",
		"[\"\xc1\xbf\"]",
		"[\"\xe0\x9f\xbf\"]",
		"[\"\xed\xa0\x80\"]",
		"[\"\xf0\x8f\xbf\xbf\"]",
		"[\"\xf4\x90\x80\x80\"]",
		"[\"\xf5\x80\x80\x80\"]",
		"[\"\xff\"]",
		"{\"\xff\":1}",
		"[\"\\\xff\"]",
		"[\"\xf0\x90\x80",
		/* the same member twice */
		"{\"a\":1,\"a\":2}",
		"{\"a\":1,\"b\":2,\"\\u0061\":3}",
		"[{\"x\":{\"a\":1,\"b\":1,\"a\":1}}]",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_refused(bad[i], strlen(bad[i]));
	assert_refused("{}\0", 3);
	assert_refused("[\"a\0b\"]", 7);
	assert_refused("\0{}", 3);
}

static void parse_says_where(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{"[1, 01]", "JSON: found a malformed number at byte 4, expected a number"},
		{"{\"a\":1,\"a\":2}", "JSON: found member 'a' twice, expected it once"},
		{"[1] x", "JSON: found text at byte 4, expected the end of the value there"},
		{"", "JSON: found nothing, expected an object or array"},
		{"[\"\xff\"]", "JSON: found a byte that is no UTF-8 at byte 2, expected UTF-8"},
		{"[\"ab", "JSON: found a string without end at byte 1, expected a closing quote"},
		{"[1e999]", "JSON: found a number too large for a double, expected a finite one"},
		{"[1,,2]", "JSON: found an error near byte 3, expected valid JSON"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct json *j;
		struct err err = {0};
		assert_int_equal(parse(rows[i].text, strlen(rows[i].text), &j, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].error);
	}
}

static void nest(char *text, int depth)
{
	memset(text, '[', (size_t)depth);
	memset(text + depth, ']', (size_t)depth);
	text[2 * depth] = 0;
}

static void parse_limits_depth_and_size(void **state)
{
	static char text[2 * 20000 + 1];
	struct json *j = NULL;
	struct err err = {0};
	nest(text, JSON_DEPTH_MAX);
	json_free(must_parse(text));
	nest(text, JSON_DEPTH_MAX + 1);
	assert_refused(text, strlen(text));
	nest(text, 20000);
	assert_refused(text, strlen(text));
	assert_refused(text, 20000); /* never closed */

	assert_int_equal(json_parse("[1,2]", 5, 5, &j, &err), 0);
	json_free(j);
	assert_int_equal(json_parse("[1,2]", 5, 4, &j, &err), -E2BIG);
	assert_string_equal(err.text, "JSON: found 5 bytes, expected at most 4");
}

static void many_members_are_checked_fast(void **state)
{
	static char text[600000];
	size_t len = 0;
	text[len++] = '{';
	for (int i = 0; i < 30000; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "\"k%d\":1,", i);
	snprintf(text + len, sizeof(text) - len, "\"end\":1}");
	struct json *j = NULL;
	assert_int_equal(json_parse(text, strlen(text), sizeof(text), &j, NULL), 0);
	assert_int_equal(json_len(j), 30001);
	json_free(j);
	snprintf(text + len, sizeof(text) - len, "\"k29999\":1}");
	assert_int_equal(json_parse(text, strlen(text), sizeof(text), &j, NULL), -EINVAL);
}

static void walking_visits_each_once(void **state)
{
	static char text[400000];
	size_t len = 0;
	for (int i = 0; i < 60000; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%c%d", i ? ',' : '[', i % 10);
	text[len++] = ']';
	_cleanup_(json_freep) struct json *arr = NULL;
	assert_int_equal(json_parse(text, len, sizeof(text), &arr, NULL), 0);
	int64_t n = 0, v;
	for (const struct json *e = json_first(arr); e; e = json_next(e), n++) {
		assert_int_equal(json_int(e, 0, 9, &v), 0);
		assert_int_equal(v, n % 10);
		assert_null(json_name(e));
	}
	assert_int_equal(n, 60000);
	_cleanup_(json_freep) struct json *obj = must_parse("{\"a\":\"x\",\"b\":{}}");
	const struct json *e = json_first(obj);
	assert_string_equal(json_name(e), "a");
	assert_string_equal(json_str(e), "x");
	e = json_next(e);
	assert_string_equal(json_name(e), "b");
	assert_null(json_str(e));
	assert_null(json_first(e));
	assert_null(json_next(e));
	assert_null(json_next(NULL));
	assert_null(json_first(NULL));
	assert_null(json_str(NULL));
}

static void parse_file_names_it(void **state)
{
	char dir[] = "/tmp/tasuki-test-XXXXXX", path[64], expected[256];
	struct json *j = NULL;
	struct err err = {0};
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f.json", dir);
	assert_int_equal(json_parse_file(path, 100, &j, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	file_write(path, "{\"a\":[1]}\n", 10, NULL);
	assert_int_equal(json_parse_file(path, 100, &j, &err), 0);
	assert_true(json_has(j, "a"));
	json_free(j);
	assert_int_equal(json_parse_file(path, 9, &j, &err), -E2BIG);
	assert_non_null(strstr(err.text, path));
	file_write(path, "{\"a\":[1]", 8, NULL);
	assert_int_equal(json_parse_file(path, 100, &j, &err), -EINVAL);
	snprintf(expected, sizeof(expected), "%s: JSON: found an error", path);
	assert_int_equal(strncmp(err.text, expected, strlen(expected)), 0);
	file_remove(dir, NULL);
}

/* ---- getters ---- */

static const char sample[] = "{\"s\":\"text\",\"i\":-7,\"f\":1.5,\"t\":true,\"n\":null,\"o\":{"
			     "\"in\":1},\"a\":[1,\"two\",3.5,[4]],"
			     "\"big\":9007199254740991,\"over\":9007199254740993,\"huge\":1e300}";

static void getters_get(void **state)
{
	_cleanup_(json_freep) struct json *j = must_parse(sample);
	const struct json *sub;
	const char *text;
	char buf[5];
	int64_t i;
	double f;
	bool b = false;
	assert_int_equal(json_get_str(j, "s", buf, sizeof(buf), NULL), 0);
	assert_string_equal(buf, "text");
	assert_int_equal(json_get_text(j, "s", 4, &text, NULL), 0);
	assert_string_equal(text, "text");
	assert_int_equal(json_get_int(j, "i", -7, -7, &i, NULL), 0);
	assert_int_equal(i, -7);
	assert_int_equal(json_get_int(j, "big", 0, INT64_MAX, &i, NULL), 0);
	assert_true(i == JSON_INT_MAX);
	assert_int_equal(json_get_num(j, "f", 1.5, 1.5, &f, NULL), 0);
	assert_true(f == 1.5);
	assert_int_equal(json_get_bool(j, "t", &b, NULL), 0);
	assert_true(b);
	assert_int_equal(json_get_obj(j, "o", &sub, NULL), 0);
	assert_true(json_is_obj(sub) && json_has(sub, "in") && !json_has(sub, "s"));
	assert_string_equal(json_name(json_at(sub, 0)), "in");
	assert_null(json_name(json_at(sub, 1)));
	assert_int_equal(json_get_arr(j, "a", 4, &sub, NULL), 0);
	assert_int_equal(json_len(sub), 4);
	assert_int_equal(json_int(json_at(sub, 0), 1, 1, &i), 0);
	assert_int_equal(i, 1);
	assert_string_equal(json_str(json_at(sub, 1)), "two");
	assert_int_equal(json_num(json_at(sub, 2), &f), 0);
	assert_true(f == 3.5);
	assert_int_equal(json_len(json_at(sub, 3)), 1);
	assert_false(json_is_obj(sub));
	assert_false(json_has(j, "S")); /* names are not case-folded */
}

static void elements_out_of_place(void **state)
{
	_cleanup_(json_freep) struct json *j = must_parse("[1,\"two\",3.5]");
	int64_t i = 42;
	double f = 42;
	assert_null(json_at(j, 3));
	assert_null(json_str(json_at(j, 0)));
	assert_null(json_str(json_at(j, 3)));
	assert_null(json_name(json_at(j, 0)));
	assert_int_equal(json_int(json_at(j, 3), 0, 9, &i), -ENOENT);
	assert_int_equal(json_int(json_at(j, 1), 0, 9, &i), -EINVAL);
	assert_int_equal(json_int(json_at(j, 2), 0, 9, &i), -EINVAL);
	assert_int_equal(json_int(json_at(j, 0), 2, 9, &i), -ERANGE);
	assert_int_equal(json_num(json_at(j, 3), &f), -ENOENT);
	assert_int_equal(json_num(json_at(j, 1), &f), -EINVAL);
	assert_int_equal(i, 42);
	assert_true(f == 42);
	assert_int_equal(json_len(json_at(j, 0)), 0);
	assert_int_equal(json_len(NULL), 0);
	assert_null(json_at(NULL, 0));
	assert_false(json_has(NULL, "a"));
	assert_false(json_is_obj(NULL));
}

#define CHECK(call, expected, message)                  \
	do {                                            \
		assert_int_equal(call, expected);       \
		assert_int_equal(err.code, expected);   \
		assert_string_equal(err.text, message); \
	} while (0)

static void getters_name_what_is_wrong(void **state)
{
	_cleanup_(json_freep) struct json *j = must_parse(sample);
	const struct json *sub = (struct json *)1;
	struct err err = {0};
	const char *text = (char *)1;
	char buf[4] = "old";
	int64_t i = 42;
	double f = 42;
	bool b = true;
	CHECK(json_get_str(j, "x", buf, 4, &err), -ENOENT, "x: found nothing, expected a string");
	CHECK(json_get_str(j, "i", buf, 4, &err), -EINVAL, "i: found a number, expected a string");
	CHECK(json_get_str(j, "s", buf, 4, &err), -E2BIG,
	      "s: found a string of 4 bytes, expected at most 3");
	CHECK(json_get_text(j, "s", 3, &text, &err), -E2BIG,
	      "s: found a string of 4 bytes, expected at most 3");
	CHECK(json_get_int(j, "s", 0, 9, &i, &err), -EINVAL,
	      "s: found a string, expected an integer");
	CHECK(json_get_int(j, "i", 0, 9, &i, &err), -ERANGE,
	      "i: found -7, expected an integer from 0 to 9");
	CHECK(json_get_int(j, "f", 0, 9, &i, &err), -EINVAL,
	      "f: found 1.5, expected an integer from 0 to 9");
	CHECK(json_get_int(j, "huge", 0, 9, &i, &err), -ERANGE,
	      "huge: found 1.0000000000000001e+300, expected an integer from 0 to 9");
	assert_int_equal(json_get_int(j, "over", 0, INT64_MAX, &i, &err), -ERANGE);
	CHECK(json_get_num(j, "n", 0, 1, &f, &err), -EINVAL, "n: found null, expected a number");
	CHECK(json_get_num(j, "f", 0, 1, &f, &err), -ERANGE,
	      "f: found 1.5, expected a number from 0 to 1");
	CHECK(json_get_bool(j, "i", &b, &err), -EINVAL, "i: found a number, expected a boolean");
	CHECK(json_get_obj(j, "a", &sub, &err), -EINVAL, "a: found an array, expected an object");
	CHECK(json_get_arr(j, "o", 9, &sub, &err), -EINVAL,
	      "o: found an object, expected an array");
	CHECK(json_get_arr(j, "a", 3, &sub, &err), -E2BIG,
	      "a: found 4 elements, expected at most 3");
	CHECK(json_get_bool(json_at(j, 0), "k", &b, &err), -EINVAL,
	      "k: found a string in place of the object around it");
	CHECK(json_get_bool(NULL, "k", &b, &err), -EINVAL,
	      "k: found nothing in place of the object around it");
	assert_string_equal(buf, "old");
	assert_ptr_equal(text, (char *)1);
	assert_ptr_equal(sub, (struct json *)1);
	assert_true(i == 42 && f == 42 && b);
}

/* ---- building and printing ---- */

static void assert_prints(const struct json *j, const char *expected)
{
	_cleanup_free_ char *text = json_print(j);
	assert_non_null(text);
	assert_string_equal(text, expected);
}

static void build_and_print(void **state)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	struct json *a = json_new_arr();
	json_set_str(j, "s", "a\"\\\n\x01é");
	json_set_int(j, "i", -JSON_INT_MAX);
	json_set_num(j, "f", 0.1);
	json_set_num(j, "nan", NAN);
	json_set_num(j, "inf", INFINITY);
	json_set_bool(j, "b", true);
	json_set_null(j, "n");
	json_push_str(a, "x");
	json_push_int(a, JSON_INT_MAX);
	json_push_num(a, 1.0 / 3);
	json_push(a, json_new_obj());
	json_set(j, "a", a);
	assert_prints(
		j, "{\"s\":\"a\\\"\\\\\\n\\u0001é\",\"i\":-9007199254740991,\"f\":0.1,\"nan\":null,"
		   "\"inf\":null,\"b\":true,\"n\":null,"
		   "\"a\":[\"x\",9007199254740991,0.3333333333333333,{}]}");
	/* Setting again replaces, whatever the type was. */
	json_set_int(j, "a", 1);
	json_set_str(j, "s", "t");
	for (int i = 0; i < 2; i++) {
		assert_prints(
			j,
			"{\"i\":-9007199254740991,\"f\":0.1,\"nan\":null,\"inf\":null,\"b\":true,"
			"\"n\":null,\"a\":1,\"s\":\"t\"}");
	}
	int64_t v;
	assert_int_equal(json_get_int(j, "a", 0, 9, &v, NULL), 0); /* printing left it as it was */
}

static void numbers_survive_the_trip(void **state)
{
	static const double values[] = {0,
					-1,
					0.1,
					1.0 / 3,
					2.0 / 3,
					1e15,
					1e16,
					123456789012345678.0,
					5e-324,
					2.2250738585072014e-308,
					1.7976931348623157e308,
					9007199254740991.0,
					0.30000000000000004,
					1795413480123.0};
	_cleanup_(json_freep) struct json *a = json_new_arr();
	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		json_push_num(a, values[i]);
	_cleanup_free_ char *text = json_print(a);
	_cleanup_(json_freep) struct json *back = must_parse(text);
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		double v = 42;
		assert_int_equal(json_num(json_at(back, i), &v), 0);
		assert_true(v == values[i]);
	}
}

static void text_that_is_no_utf8_is_mended(void **state)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	json_set_str(j, "a\xff", "\xc3(\xe2\x82\xac\xe2\x82");
	json_set_str(j, "a\xff", "\xed\xa0\x80"); /* the same mended name: replaced */
	_cleanup_free_ char *text = json_print(j);
	assert_string_equal(text, "{\"a\xef\xbf\xbd\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}");
	json_free(must_parse(text));
	json_set_str(j, "b", "\xc3(\xe2\x82\xac\xe2\x82");
	const char *b = NULL;
	assert_int_equal(json_get_text(j, "b", 100, &b, NULL), 0);
	assert_string_equal(b, "\xef\xbf\xbd(€\xef\xbf\xbd\xef\xbf\xbd");
}

static void failures_are_remembered(void **state)
{
	/* Each failure in a tree of its own, two levels down. */
	for (int k = 0; k < 6; k++) {
		struct json *j = json_new_obj(), *mid = json_new_arr(), *low = json_new_obj();
		if (k == 1)
			json_set(low, "x", NULL);
		else if (k == 2)
			json_set_str(low, "x", NULL);
		else if (k == 3)
			json_set_int(low, "x", JSON_INT_MAX + 1);
		else if (k == 4)
			json_push(mid, NULL);
		else if (k == 5)
			json_push_int(low, 1); /* not an array */
		json_push(mid, low);
		json_set(j, "mid", mid);
		struct json *copy = json_dup(j);
		_cleanup_free_ char *text = json_print(j), *again = json_print_pretty(copy);
		assert_int_equal(!text, k != 0);
		assert_int_equal(!again, k != 0);
		json_free(j);
		json_free(copy);
	}
	/* No root at all: nothing crashes, what was given is freed. */
	json_set(NULL, "x", json_new_obj());
	json_push(NULL, json_new_obj());
	json_set_int(NULL, "x", 1);
	json_push_str(NULL, "x");
	assert_null(json_print(NULL));
	assert_null(json_dup(NULL));
	json_free(NULL);
}

static void dup_is_deep(void **state)
{
	_cleanup_(json_freep) struct json *j = must_parse("{\"a\":{\"b\":[1,2]}}");
	_cleanup_(json_freep) struct json *copy = json_dup(j);
	json_set_int(j, "a", 0);
	assert_prints(copy, "{\"a\":{\"b\":[1,2]}}");
	const struct json *a, *b;
	assert_int_equal(json_get_obj(copy, "a", &a, NULL), 0);
	assert_int_equal(json_get_arr(a, "b", 2, &b, NULL), 0);
	_cleanup_(json_freep) struct json *part = json_dup(b);
	assert_prints(part, "[1,2]");
	_cleanup_free_ char *pretty = json_print_pretty(copy);
	assert_non_null(strchr(pretty, '\n'));
	_cleanup_(json_freep) struct json *back = must_parse(pretty);
	assert_prints(back, "{\"a\":{\"b\":[1,2]}}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_accepts_json),
		cmocka_unit_test(parse_refuses_the_rest),
		cmocka_unit_test(parse_says_where),
		cmocka_unit_test(parse_limits_depth_and_size),
		cmocka_unit_test(many_members_are_checked_fast),
		cmocka_unit_test(walking_visits_each_once),
		cmocka_unit_test(parse_file_names_it),
		cmocka_unit_test(getters_get),
		cmocka_unit_test(elements_out_of_place),
		cmocka_unit_test(getters_name_what_is_wrong),
		cmocka_unit_test(build_and_print),
		cmocka_unit_test(numbers_survive_the_trip),
		cmocka_unit_test(text_that_is_no_utf8_is_mended),
		cmocka_unit_test(failures_are_remembered),
		cmocka_unit_test(dup_is_deep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
