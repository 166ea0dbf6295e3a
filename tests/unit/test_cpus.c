/* Sets of processors from text and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/cpus.h"

static void there_and_back(void **state)
{
	static const struct {
		const char *text, *printed;
		int n;
	} cases[] = {
		{"0", "0", 1},
		{"0,2-3", "0,2-3", 3},
		{"3,2,0", "0,2-3", 3},
		{"1-1", "1", 1},
		{"0-3,2-5", "0-5", 6},
		{"1023", "1023", 1},
		{"0-1023", "0-1023", 1024},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cpu_set_t set;
		struct err err = {0};
		char text[CPUS_TEXT_MAX];
		assert_int_equal(cpus_parse(cases[i].text, &set, &err), 0);
		assert_int_equal(CPU_COUNT(&set), cases[i].n);
		cpus_print(&set, text, sizeof(text));
		assert_string_equal(text, cases[i].printed);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *text;
		int code;
	} cases[] = {
		{"", -EINVAL},     {",", -EINVAL},    {"0,", -EINVAL},
		{"0,,1", -EINVAL}, {"-1", -EINVAL},   {"2-1", -EINVAL},
		{"1-", -EINVAL},   {"0 1", -EINVAL},  {"0x1", -EINVAL},
		{"all", -EINVAL},  {"1024", -ERANGE}, {"0-1024", -ERANGE},
		{" 1", -EINVAL},   {"1\n", -EINVAL},  {"99999999999999999999", -ERANGE},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cpu_set_t set, before;
		struct err err = {0};
		memset(&set, 0x55, sizeof(set));
		before = set;
		if (cpus_parse(cases[i].text, &set, &err) != cases[i].code)
			fail_msg("'%s': %d %s", cases[i].text, err.code, err.text);
		assert_true(CPU_EQUAL(&set, &before));
		assert_non_null(strstr(err.text, "expected"));
	}
}

/* A set of many pieces does not fit; it is cut. */
static void cut(void **state)
{
	cpu_set_t set;
	char text[8];
	CPU_ZERO(&set);
	for (size_t i = 0; i < 100; i += 2)
		CPU_SET(i, &set);
	cpus_print(&set, text, sizeof(text));
	assert_string_equal(text, "0,2,4,6");
	CPU_ZERO(&set);
	cpus_print(&set, text, sizeof(text));
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(refused),
		cmocka_unit_test(cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
