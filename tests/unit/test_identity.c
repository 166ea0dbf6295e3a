/* The section [identity]: all of it or none, and each file as it must be. */
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

#include "common/base/mem.h"
#include "common/trust/identity.h"
#include "pki_util.h"

static char dir[64];
static struct pki pki;
static struct identity_paths mine;

static int setup(void **state)
{
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	pki_init(&pki, dir);
	pki_issue(&pki, ROLE_DEVICE, "cam-1", &mine);
	return 0;
}

static int teardown(void **state)
{
	pki_done(&pki);
	return file_remove(dir, NULL);
}

static int read_section(const char *text, const char *id, struct identity_paths *ret,
			struct err *err)
{
	char path[128];
	struct conf *c = NULL;
	file_path(path, sizeof(path), "%s/agent.conf", dir);
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
	assert_int_equal(conf_load(path, &c, err), 0);
	int r = identity_conf(c, ret, err);
	if (r == 0)
		r = identity_conf_name(c, ret, id, err);
	if (r == 0)
		r = conf_finish(c, err);
	conf_free(c);
	return r;
}

static int read_with(const char *certificate, const char *key, const char *authorities,
		     const char *id, struct identity_paths *ret, struct err *err)
{
	char text[4 * FILE_PATH_MAX];
	snprintf(text, sizeof(text), "[identity]\ncertificate = %s\nkey = %s\nauthorities = %s\n",
		 certificate, key, authorities);
	return read_section(text, id, ret, err);
}

static void test_plain(void **state)
{
	struct identity_paths p = {.certificate = "x"};
	struct mqtt_tls tls = {.key = "x"};
	struct err err = {0};
	assert_int_equal(read_section("\n", "cam-1", &p, &err), 0);
	assert_string_equal(p.certificate, "");
	assert_int_equal(identity_tls(&p, &tls, &err), 0);
	assert_string_equal(tls.key, "");
}

static void test_whole(void **state)
{
	struct identity_paths p;
	struct mqtt_tls tls;
	struct err err = {0};
	char expected[FILE_PATH_MAX], name[ID_SIZE];
	if (read_with(mine.certificate, mine.key, "authorities", "cam-1", &p, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(identity_tls(&p, &tls, &err), 0);
	assert_string_equal(tls.certificate, mine.certificate);
	assert_string_equal(tls.key, mine.key);
	file_path(expected, sizeof(expected), "%s/authorities/broker.crt", dir);
	assert_string_equal(tls.authority, expected);
	assert_int_equal(identity_name(&p, name, &err), 0);
	assert_string_equal(name, "cam-1");
	assert_int_equal(ROLE_PORT(ROLE_DASHBOARD), 8886);
}

/* A part of the section is no plain mode. */
static void test_half(void **state)
{
	static const char *const texts[] = {
		"[identity]\n",
		"[identity]\ncertificate =\n",
		"[identity]\ncertificate =\nkey = k\nauthorities = authorities\n",
		"[identity]\ncertificate = c\nauthorities = authorities\n",
		"[identity]\ncertificate = c\nkey = k\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct identity_paths p = {.certificate = "untouched"};
		struct err err = {0};
		assert_int_equal(read_section(texts[i], "cam-1", &p, &err), -ENOENT);
		assert_non_null(strstr(err.text, "[identity]"));
		assert_string_equal(p.certificate, "untouched");
	}
}

static void test_refused(void **state)
{
	char open_key[FILE_PATH_MAX], bare[128], *text = NULL;
	size_t len;
	file_path(open_key, sizeof(open_key), "%s/open.key", dir);
	file_path(bare, sizeof(bare), "%s/bare", dir);
	assert_int_equal(file_read(mine.key, 4096, &text, &len, NULL), 0);
	assert_int_equal(file_write(open_key, text, len, NULL), 0);
	free(text);
	assert_int_equal(chmod(open_key, 0640), 0);
	assert_int_equal(mkdir(bare, 0700), 0);
	const struct {
		const char *certificate, *key, *authorities, *id, *named;
	} cases[] = {
		{"none.crt", mine.key, "authorities", "cam-1",
		 "agent.conf:2: [identity] certificate: found '"},
		{dir, mine.key, "authorities", "cam-1", "[identity] certificate"},
		{mine.key, mine.key, "authorities", "cam-1", "[identity] certificate"},
		{mine.certificate, "none.key", "authorities", "cam-1",
		 "agent.conf:3: [identity] key"},
		{mine.certificate, open_key, "authorities", "cam-1", "mode 0640, expected"},
		{mine.certificate, mine.key, "none", "cam-1",
		 "agent.conf:4: [identity] authorities"},
		{mine.certificate, mine.key, bare, "cam-1", "bare/device.crt"},
		{mine.certificate, mine.key, "authorities", "cam-2",
		 "[identity] certificate: found the certificate of 'cam-1', expected that of "
		 "'cam-2'"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct identity_paths p;
		struct err err = {0};
		int r = read_with(cases[i].certificate, cases[i].key, cases[i].authorities,
				  cases[i].id, &p, &err);
		if (r >= 0 || !strstr(err.text, cases[i].named))
			fail_msg("case %zu: %d, '%s' does not name '%s'", i, r, err.text,
				 cases[i].named);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_half),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
