/* Configuration files: what is read, and that each mistake is refused with its file and line. */
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

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/conf/check.h"
#include "common/conf/conf.h"
#include "common/conf/reload.h"

static char dir[64];
static struct err err;

static int setup(void **state)
{
	err = (struct err){0};
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	return mkdtemp(dir) ? chdir(dir) : -1;
}

static int teardown(void **state)
{
	return chdir("/") || file_remove(dir, NULL);
}

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

static int load_bytes(const char *text, size_t len, struct conf **ret)
{
	assert_int_equal(file_write("t.conf", text, len, NULL), 0);
	return conf_load("t.conf", ret, &err);
}

static struct conf *must_load(const char *text)
{
	struct conf *c = NULL;
	if (load_bytes(text, strlen(text), &c))
		fail_msg("%s", err.text);
	return c;
}

static void assert_refused_bytes(const char *text, size_t len, int code, const char *message)
{
	struct conf *c = (struct conf *)1;
	assert_int_equal(load_bytes(text, len, &c), code);
	assert_string_equal(err.text, message);
	assert_ptr_equal(c, (struct conf *)1);
}

static void assert_refused(const char *text, const char *message)
{
	assert_refused_bytes(text, strlen(text), -EINVAL, message);
}

#define CHECK(call, expected, message)                  \
	do {                                            \
		assert_int_equal(call, expected);       \
		assert_int_equal(err.code, expected);   \
		assert_string_equal(err.text, message); \
	} while (0)

/* ---- loading ---- */

static void reads_what_people_write(void **state)
{
	_cleanup_(conf_freep) struct conf *c = must_load("\xef\xbb\xbf# a comment\r\n"
							 "; another\n"
							 "[empty]\n"
							 "\n"
							 "[ one ] ; said here\n"
							 "  indented = yes\n"
							 "a=b = c # kept\n"
							 "colon: 1 ; a comment\n"
							 "none =\n"
							 "[two]\n"
							 "a = 襷\r\n"
							 "[ one ]\n"
							 "last = end");
	static const char *const rows[][3] = {
		{" one ", "indented", "yes"}, {" one ", "a", "b = c # kept"},
		{" one ", "colon", "1"},      {" one ", "none", ""},
		{"two", "a", "襷"},           {" one ", "last", "end"},
	};
	char buf[32];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(conf_str(c, rows[i][0], rows[i][1], "?", buf, sizeof(buf), &err),
				 0);
		assert_string_equal(buf, rows[i][2]);
	}
	assert_int_equal(conf_finish(c, &err), 0);
	conf_free(NULL);
}

static void lines_are_one_value_each(void **state)
{
	assert_refused("[s]\na = 1\n  2\n",
		       "t.conf:3: found a line that is neither, expected [section] or key = value");
}

static void refuses_bad_lines(void **state)
{
	assert_refused("a = 1\n", "t.conf:1: found a key, expected a [section] before it");
	assert_refused("[s]\na = 1\n\nb = 2\na = 3\n",
		       "t.conf:5: [s] a: found a second time (first in line 2), expected once");
	assert_refused("[s]\na = 1\n[t]\na = 1\n[s]\na = 1\n",
		       "t.conf:6: [s] a: found a second time (first in line 2), expected once");
	assert_refused("[s]\n\nnonsense\n",
		       "t.conf:3: found a line that is neither, expected [section] or key = value");
	assert_refused("[s\na = 1\n", "t.conf:1: found '[' without ']', expected [section]");
	assert_refused("[]\na = 1\n",
		       "t.conf:1: found an empty section name, expected 1 to 48 bytes");
	assert_refused("[s] a = 1\n",
		       "t.conf:1: found text after ']', expected the end of the line");
	assert_refused("[s]\n= 1\n",
		       "t.conf:2: found an empty key, expected 1 to 48 bytes before '='");
	assert_refused("[s]\na = \x1b[2J\n", "t.conf:2: found a control character, expected text");
	assert_refused("[s]\na = 1\rb = 2\n", "t.conf:2: found a control character, expected text");
	assert_refused("\n# \x7f\n", "t.conf:2: found a control character, expected text");
	assert_refused_bytes("[s]\na = 1\0002\n", 12, -EINVAL,
			     "t.conf:2: found a control character, expected text");
	assert_refused_bytes("[s]\na = 1\n\0", 11, -EINVAL,
			     "t.conf:3: found a control character, expected text");
}

static void refuses_what_is_too_long(void **state)
{
	char name[CONF_NAME_MAX + 2], value[CONF_VALUE_MAX + 2], comment[CONF_LINE_MAX + 1];
	char text[4096], got[CONF_VALUE_MAX + 1];
	memset(name, 'n', sizeof(name));
	memset(value, 'v', sizeof(value));
	memset(comment, '#', sizeof(comment));
	/* The longest that is allowed, whole. */
	snprintf(text, sizeof(text), "[%.*s]\n%.*s = %.*s\n%.*s\n", CONF_NAME_MAX, name,
		 CONF_NAME_MAX, name, CONF_VALUE_MAX, value, CONF_LINE_MAX - 1, comment);
	_cleanup_(conf_freep) struct conf *c = must_load(text);
	name[CONF_NAME_MAX] = 0;
	assert_int_equal(conf_str(c, name, name, NULL, got, sizeof(got), &err), 0);
	assert_int_equal(strlen(got), CONF_VALUE_MAX);
	assert_int_equal(conf_finish(c, &err), 0);

	memset(name, 'n', sizeof(name));
	snprintf(text, sizeof(text), "[%.*s]\n", CONF_NAME_MAX + 1, name);
	assert_refused(text, "t.conf:1: found a longer section name, expected 1 to 48 bytes");
	snprintf(text, sizeof(text), "[s]\n%.*s=1\n", CONF_NAME_MAX + 1, name);
	assert_refused(text, "t.conf:2: found a longer key, expected 1 to 48 bytes before '='");
	snprintf(text, sizeof(text), "[s]\na=%.*s\n", CONF_VALUE_MAX + 1, value);
	assert_refused_bytes(text, strlen(text), -E2BIG,
			     "t.conf:2: found a longer value, expected at most 900 bytes");
	snprintf(text, sizeof(text), "[s]\n%.*s\n", CONF_LINE_MAX, comment);
	assert_refused_bytes(text, strlen(text), -E2BIG,
			     "t.conf:2: found a longer line, expected at most 1200 bytes");
}

static void refuses_too_much(void **state)
{
	size_t size = CONF_BYTES_MAX + 1, len = 0;
	_cleanup_free_ char *text = calloc(1, size);
	len = (size_t)snprintf(text, size, "[s]\n");
	for (int i = 0; i < CONF_KEYS_MAX; i++)
		len += (size_t)snprintf(text + len, size - len, "k%d = 1\n", i);
	conf_free(must_load(text));
	len += (size_t)snprintf(text + len, size - len, "k%d = 1\n", CONF_KEYS_MAX);
	assert_refused_bytes(text, len, -E2BIG,
			     "t.conf:514: found more keys, expected at most 512");

	memset(text, '\n', size);
	assert_refused_bytes(text, size, -EFBIG, "t.conf: 262145 bytes, at most 262144 expected");
	struct conf *c = NULL;
	assert_int_equal(load_bytes(text, size - 1, &c), 0);
	conf_free(c);
	assert_int_equal(load_bytes("", 0, &c), 0);
	conf_free(c);
	CHECK(conf_load("absent.conf", &c, &err), -ENOENT,
	      "absent.conf: No such file or directory");
}

/* ---- getters ---- */

static void strings(void **state)
{
	_cleanup_(conf_freep) struct conf *c = must_load("[s]\na = word\nnone =\n");
	char buf[5] = "old";
	CHECK(conf_str(c, "s", "b", NULL, buf, sizeof(buf), &err), -ENOENT,
	      "t.conf: [s] b: found nothing, expected a value");
	CHECK(conf_str(c, "s", "none", NULL, buf, sizeof(buf), &err), -ENOENT,
	      "t.conf: [s] none: found nothing, expected a value");
	CHECK(conf_str(c, "s", "a", NULL, buf, 4, &err), -ERANGE,
	      "t.conf:2: [s] a: found 4 bytes, expected at most 3");
	assert_string_equal(buf, "old");
	assert_int_equal(conf_str(c, "s", "b", "else", buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "else");
	assert_int_equal(conf_str(c, "s", "a", NULL, buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "word");
	assert_int_equal(conf_str(c, "s", "none", "else", buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "");
}

static void files_are_relative_to_theirs(void **state)
{
	static const char text[] = "[s]\nrel = x/y\nabs = /x/y\nnone =\n";
	char buf[FILE_PATH_MAX], expected[FILE_PATH_MAX], path[128];
	snprintf(path, sizeof(path), "%s/t.conf", dir);
	_cleanup_(conf_freep) struct conf *here = must_load(text), *c = NULL;
	assert_int_equal(conf_load(path, &c, &err), 0);
	assert_int_equal(conf_file(here, "s", "rel", NULL, buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "x/y");
	assert_int_equal(conf_file(c, "s", "rel", NULL, buf, sizeof(buf), &err), 0);
	snprintf(expected, sizeof(expected), "%s/x/y", dir);
	assert_string_equal(buf, expected);
	assert_int_equal(conf_file(c, "s", "fallback", "z", buf, sizeof(buf), &err), 0);
	snprintf(expected, sizeof(expected), "%s/z", dir);
	assert_string_equal(buf, expected);
	assert_int_equal(conf_file(c, "s", "abs", NULL, buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "/x/y");
	assert_int_equal(conf_file(c, "s", "none", "z", buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "");
	assert_int_equal(conf_file(c, "s", "absent", "", buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "");
	assert_int_equal(conf_file(c, "s", "absent", NULL, buf, sizeof(buf), &err), -ENOENT);
	assert_int_equal(conf_file(c, "s", "rel", NULL, buf, 8, &err), -ERANGE);
	assert_non_null(strstr(err.text, "/t.conf: [s] rel: found a path of more than 7 bytes"));
}

static void ids(void **state)
{
	_cleanup_(conf_freep) struct conf *c = must_load("[s]\na = dev-1\nb = a/b\nc = ..\nd =\n");
	char buf[65] = "old";
	assert_int_equal(conf_id(c, "s", "a", NULL, buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "dev-1");
	CHECK(conf_id(c, "s", "b", NULL, buf, sizeof(buf), &err), -EINVAL,
	      "t.conf:3: [s] b: found 'a/b', expected 1 to 64 of A-Z a-z 0-9 . _ -");
	assert_int_equal(conf_id(c, "s", "c", NULL, buf, sizeof(buf), &err), -EINVAL);
	assert_int_equal(conf_id(c, "s", "d", "x", buf, sizeof(buf), &err), -EINVAL);
	assert_int_equal(conf_id(c, "s", "e", NULL, buf, sizeof(buf), &err), -ENOENT);
	assert_int_equal(conf_id(c, "s", "e", "x", buf, sizeof(buf), &err), 0);
	assert_string_equal(buf, "x");
}

static void integers(void **state)
{
	_cleanup_(conf_freep) struct conf *c =
		must_load("[s]\na = -5\nb = 1.5\nc = 0x10\nd = 99999999999999999999\n"
			  "e = 10\nf =\ng = 1 2\nh = -9223372036854775808\n");
	int64_t v = 42;
	assert_int_equal(conf_int(c, "s", "a", -5, 9, 0, &v, &err), 0);
	assert_int_equal(v, -5);
	assert_int_equal(conf_int(c, "s", "h", INT64_MIN, 0, 0, &v, &err), 0);
	assert_true(v == INT64_MIN);
	assert_int_equal(conf_int(c, "s", "absent", 0, 9, 7, &v, &err), 0);
	assert_int_equal(v, 7);
	CHECK(conf_int(c, "s", "a", 0, 9, 0, &v, &err), -ERANGE,
	      "t.conf:2: [s] a: found '-5', expected an integer from 0 to 9");
	CHECK(conf_int(c, "s", "absent", 0, 9, -1, &v, &err), -ENOENT,
	      "t.conf: [s] absent: found nothing, expected an integer from 0 to 9");
	static const char *const malformed[] = {"b", "c", "f", "g"};
	for (size_t i = 0; i < ARRAY_LEN(malformed); i++)
		assert_int_equal(conf_int(c, "s", malformed[i], 0, 99, 0, &v, &err), -EINVAL);
	assert_int_equal(conf_int(c, "s", "d", 0, INT64_MAX, 0, &v, &err), -ERANGE);
	assert_int_equal(conf_int(c, "s", "e", 0, 9, 0, &v, &err), -ERANGE);
	assert_int_equal(v, 7);
}

static void numbers(void **state)
{
	_cleanup_(conf_freep) struct conf *c =
		must_load("[s]\na = 0.5\nb = 1e-3\nc = nan\nd = inf\ne = 0x1p3\nf = 1..2\ng =\nh = "
			  "2\ni = 1e999\n");
	double v = 42;
	assert_int_equal(conf_num(c, "s", "a", 0, 1, 0, &v, &err), 0);
	assert_true(v == 0.5);
	assert_int_equal(conf_num(c, "s", "b", 0, 1, 0, &v, &err), 0);
	assert_true(v == 1e-3);
	assert_int_equal(conf_num(c, "s", "absent", 0, 1, 1, &v, &err), 0);
	assert_true(v == 1);
	static const char *const malformed[] = {"c", "d", "e", "f", "g"};
	for (size_t i = 0; i < ARRAY_LEN(malformed); i++)
		assert_int_equal(conf_num(c, "s", malformed[i], -1e9, 1e9, 0, &v, &err), -EINVAL);
	assert_int_equal(conf_num(c, "s", "i", 0, 1e9, 0, &v, &err), -ERANGE);
	CHECK(conf_num(c, "s", "h", 0, 1, 0, &v, &err), -ERANGE,
	      "t.conf:9: [s] h: found '2', expected a number from 0 to 1");
	CHECK(conf_num(c, "s", "absent", 0, 1, -1, &v, &err), -ENOENT,
	      "t.conf: [s] absent: found nothing, expected a number from 0 to 1");
	assert_true(v == 1);
}

static void booleans(void **state)
{
	_cleanup_(conf_freep) struct conf *c =
		must_load("[s]\na = yes\nb = TRUE\nc = on\nd = 1\ne = No\nf = false\ng = off\nh = "
			  "0\ni = 2\nj =\n");
	char key[2] = "a";
	bool v;
	for (; *key <= 'h'; (*key)++) {
		v = *key > 'd';
		assert_int_equal(conf_bool(c, "s", key, v, &v, &err), 0);
		assert_int_equal(v, *key <= 'd');
	}
	v = true;
	CHECK(conf_bool(c, "s", "i", false, &v, &err), -EINVAL,
	      "t.conf:10: [s] i: found '2', expected yes or no");
	assert_int_equal(conf_bool(c, "s", "j", false, &v, &err), -EINVAL);
	assert_true(v);
	assert_int_equal(conf_bool(c, "s", "absent", false, &v, &err), 0);
	assert_false(v);
}

static void choices(void **state)
{
	static const char *const words[] = {"keep", "send", NULL};
	_cleanup_(conf_freep) struct conf *c = must_load("[s]\na = send\nb = Send\n");
	int v = 42;
	assert_int_equal(conf_choice(c, "s", "a", words, NULL, &v, &err), 0);
	assert_int_equal(v, 1);
	CHECK(conf_choice(c, "s", "b", words, "keep", &v, &err), -EINVAL,
	      "t.conf:3: [s] b: found 'Send', expected one of keep send");
	CHECK(conf_choice(c, "s", "absent", words, NULL, &v, &err), -ENOENT,
	      "t.conf: [s] absent: found nothing, expected one of keep send");
	assert_int_equal(v, 1);
	assert_int_equal(conf_choice(c, "s", "absent", words, "keep", &v, &err), 0);
	assert_int_equal(v, 0);
}

static void leftovers_are_refused(void **state)
{
	static const struct {
		const char *line, *message;
	} rows[] = {
		{"[train]\nepocs = 1\n",
		 "t.conf:4: [train] epocs: found an unknown key, expected perhaps "
		 "[train] epochs"},
		{"[brokre]\nport = 1\n",
		 "t.conf:4: [brokre] port: found an unknown key, expected perhaps [broker] port"},
		{"[train]\nsomething = 1\n",
		 "t.conf:4: [train] something: found an unknown key, expected none"},
		{"[train]\nxy = 1\n", "t.conf:4: [train] xy: found an unknown key, expected none"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[256];
		int64_t v;
		snprintf(text, sizeof(text), "[train]\nbatch = 1\n%s", rows[i].line);
		_cleanup_(conf_freep) struct conf *c = must_load(text);
		for (int twice = 0; twice < 2; twice++) {
			conf_int(c, "train", "batch", 0, 9, 0, &v, &err);
			conf_int(c, "train", "epochs", 0, 9, 0, &v, &err);
			conf_int(c, "broker", "port", 0, 9, 0, &v, &err);
			conf_int(c, "train", "ab", 0, 9, 0, &v, &err);
		}
		CHECK(conf_finish(c, &err), -EINVAL, rows[i].message);
	}
}

static void unknown_sections_are_refused(void **state)
{
	static const char *const names[] = {"device", "data", "train", NULL};
	static const struct {
		const char *text, *message;
	} rows[] = {
		{"[train]\n[dta]\npath = x\n[dta]\n[tran]\n",
		 "t.conf:2: [dta]: found an unknown section, expected perhaps [data]"},
		{"\n[ data ]\n",
		 "t.conf:2: [ data ]: found an unknown section, expected perhaps [data]"},
		{"[device]\n[something]\n",
		 "t.conf:2: [something]: found an unknown section, expected none"},
		{"[xy]\n", "t.conf:1: [xy]: found an unknown section, expected none"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(conf_freep) struct conf *c = must_load(rows[i].text);
		CHECK(conf_sections(c, names, &err), -EINVAL, rows[i].message);
	}
	_cleanup_(conf_freep) struct conf *c = must_load("[data]\n[train]\na = 1\n[data]\nb = 2\n");
	assert_int_equal(conf_sections(c, names, &err), 0);

	char text[CONF_SECTIONS_MAX * 16];
	size_t len = 0;
	for (int i = 0; i < CONF_SECTIONS_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "[s%d]\n", i);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "[s0]\n");
	conf_free(must_load(text));
	snprintf(text + len, sizeof(text) - len, "[more]\n");
	assert_refused_bytes(text, strlen(text), -E2BIG,
			     "t.conf:66: found more sections, expected at most 64 of different "
			     "names");
}

static void what_is_named_must_be_there(void **state)
{
	_cleanup_(conf_freep) struct conf *c = must_load("[s]\na = 1\n");
	assert_int_equal(mkdir("folder", 0755), 0);
	assert_int_equal(file_write("file", "x", 1, NULL), 0);
	assert_int_equal(file_write("program", "x", 1, NULL), 0);
	assert_int_equal(chmod("file", 0644) | chmod("program", 0755), 0);

	assert_int_equal(conf_check_folder(c, "s", "a", "folder", &err), 0);
	assert_int_equal(conf_check_folder(c, "s", "a", "", &err), 0);
	CHECK(conf_check_folder(c, "s", "a", "absent", &err), -ENOENT,
	      "t.conf:2: [s] a: found 'absent' (No such file or directory), expected a folder "
	      "that can be read");
	CHECK(conf_check_folder(c, "s", "b", "file", &err), -ENOTDIR,
	      "t.conf: [s] b: found 'file' (Not a directory), expected a folder that can be read");

	assert_int_equal(conf_check_program(c, "s", "a", "program", &err), 0);
	assert_int_equal(conf_check_program(c, "s", "a", "", &err), 0);
	CHECK(conf_check_program(c, "s", "a", "absent", &err), -ENOENT,
	      "t.conf:2: [s] a: found 'absent' (No such file or directory), expected a program "
	      "that can be run");
	assert_int_equal(conf_check_program(c, "s", "a", "file", &err), -EACCES);
	assert_int_equal(conf_check_program(c, "s", "a", "folder", &err), -EISDIR);

	assert_int_equal(conf_check_host(c, "s", "a", "::1", &err), 0);
	CHECK(conf_check_host(c, "s", "a", "", &err), -EINVAL,
	      "t.conf:2: [s] a: found nothing, expected a host name or address");
	assert_int_equal(conf_check_host(c, "s", "a", "a b", &err), -EINVAL);
}

static void state_folders_can_be_made(void **state)
{
	_cleanup_(conf_freep) struct conf *c = must_load("[s]\na = 1\n");
	static const char *const good[] = {"folder", "folder/x", "folder/x//y/", "x", "./x", "."};
	assert_int_equal(mkdir("folder", 0755), 0);
	assert_int_equal(mkdir("folder/shut", 0555), 0);
	assert_int_equal(file_write("file", "x", 1, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (conf_check_state(c, "s", "a", good[i], &err) < 0)
			fail_msg("%s", err.text);
	/* It only looks. */
	assert_false(file_exists("x"));
	assert_false(file_exists("folder/x"));
	CHECK(conf_check_state(c, "s", "a", "", &err), -ENOENT,
	      "t.conf:2: [s] a: found nothing, expected a folder");
	CHECK(conf_check_state(c, "s", "a", "file", &err), -ENOTDIR,
	      "t.conf:2: [s] a: found 'file', which cannot be made or written (file: Not a "
	      "directory), expected a folder");
	assert_int_equal(conf_check_state(c, "s", "a", "file/x/y", &err), -ENOTDIR);
	assert_int_equal(conf_check_state(c, "s", "a", "/dev/null/x", &err), -ENOTDIR);
	/* Nothing is shut to root. */
	if (geteuid() != 0) {
		assert_int_equal(conf_check_state(c, "s", "a", "folder/shut", &err), -EACCES);
		assert_int_equal(conf_check_state(c, "s", "a", "folder/shut/x/y", &err), -EACCES);
	}
}

/* "+[section] key" for what was taken, "-" for what waits. */
static char changes[512];

static void note_change(void *user, const char *section, const char *key, bool taken)
{
	size_t len = strlen(changes);
	assert_ptr_equal(user, changes);
	snprintf(changes + len, sizeof(changes) - len, "%c[%s] %s ", taken ? '+' : '-', section,
		 key);
}

struct settings {
	int64_t a, b;
	double c;
};

static void what_changes_is_taken_or_named(void **state)
{
	static const struct conf_live live[] = {
		{"s", "a", offsetof(struct settings, a), sizeof(int64_t)},
		{"s", "c", offsetof(struct settings, c), sizeof(double)},
	};
	static const struct {
		const char *file;
		struct settings next, then;
		int taken;
		const char *changes;
	} table[] = {
		{"[s]\na=1\nb=2\n[t]\nx=y\n", {1, 2, 3}, {1, 2, 3}, 0, ""},
		/* Written otherwise, and the same. */
		{"[t]\nx = y\n[s]\nb=2\na=01\nc=3\n", {1, 2, 3}, {1, 2, 3}, 0, ""},
		{"[s]\na=9\nb=8\n[t]\nx=y\n", {9, 8, 3}, {9, 2, 3}, 1, "+[s] a -[s] b "},
		/* Gone is a default again. */
		{"[s]\nc=7\n", {0, 0, 7}, {0, 2, 7}, 2, "+[s] a +[s] c -[s] b -[t] x "},
		{"[s]\na=1\nb=2\n[t]\nx=y\nz=\n[u]\n", {1, 2, 3}, {1, 2, 3}, 0, "-[t] z "},
	};
	_cleanup_(conf_freep) struct conf *start = must_load(table[0].file);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct settings now = table[0].next;
		conf_freep(&(struct conf *){must_load(table[i].file)});
		*changes = 0;
		assert_int_equal(conf_reload(start, "t.conf", live, ARRAY_LEN(live), &table[i].next,
					     &now, note_change, changes, &err),
				 table[i].taken);
		assert_string_equal(changes, table[i].changes);
		assert_memory_equal(&now, &table[i].then, sizeof(now));
	}
	*changes = 0;
	struct settings now = {1, 2, 3}, next = {4, 5, 6};
	assert_int_equal(unlink("t.conf"), 0);
	assert_int_equal(conf_reload(start, "t.conf", live, ARRAY_LEN(live), &next, &now,
				     note_change, changes, &err),
			 -ENOENT);
	assert_string_equal(changes, "");
	assert_int_equal(now.a, 1);
}

int main(void)
{
#define CONF_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CONF_TEST(reads_what_people_write),
		CONF_TEST(lines_are_one_value_each),
		CONF_TEST(refuses_bad_lines),
		CONF_TEST(refuses_what_is_too_long),
		CONF_TEST(refuses_too_much),
		CONF_TEST(strings),
		CONF_TEST(files_are_relative_to_theirs),
		CONF_TEST(ids),
		CONF_TEST(integers),
		CONF_TEST(numbers),
		CONF_TEST(booleans),
		CONF_TEST(choices),
		CONF_TEST(leftovers_are_refused),
		CONF_TEST(unknown_sections_are_refused),
		CONF_TEST(what_is_named_must_be_there),
		CONF_TEST(state_folders_can_be_made),
		CONF_TEST(what_changes_is_taken_or_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
