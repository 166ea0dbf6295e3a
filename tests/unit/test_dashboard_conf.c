/* The gateway's configuration, the page that it names, and the password: the example is complete
 * and says the defaults, mistakes are refused with the place where they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "dashboard/gateway/conf.h"
#include "dashboard/gateway/page.h"
#include "dashboard/gateway/password.h"

#define MINIMAL "[dashboard]\npage = page\n"
/* Of "open-sesame", by mkpasswd -m yescrypt. */
#define HASH "$y$j9T$XMCmiggm/BtyVSUcpYzOB1$xzqM3T1F03vRTIX3xpcFXZgi3l9j/p6CDRHXKlxg4m9"

static char dir[64], path[FILE_PATH_MAX];
static struct gateway_conf conf;
static struct err err;

static void put(const char *name, const char *text, mode_t mode)
{
	char at[FILE_PATH_MAX];
	file_path(at, sizeof(at), "%s/%s", dir, name);
	assert_int_equal(file_write(at, text, strlen(text), NULL), 0);
	assert_int_equal(chmod(at, mode), 0);
}

static void folder(const char *name)
{
	char at[FILE_PATH_MAX];
	file_path(at, sizeof(at), "%s/%s", dir, name);
	assert_int_equal(mkdir(at, 0755), 0);
}

static int setup(void **state)
{
	err = (struct err){0};
	memset(&conf, 0, sizeof(conf));
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	folder("page");
	put("page/index.html", "<!doctype html>", 0644);
	put("crt", "x", 0644);
	put("key", "x", 0600);
	put("open", "x", 0644);
	put("password", HASH "\n", 0600);
	return file_path(path, sizeof(path), "%s/dashboard.conf", dir);
}

static int teardown(void **state)
{
	return file_remove(dir, NULL);
}

static int load(const char *text)
{
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
	return gateway_conf_load(path, &conf, &err);
}

static void test_example_says_the_defaults(void **state)
{
	struct gateway_conf minimal;
	_cleanup_free_ char *text = NULL;
	size_t len;
	assert_int_equal(load(MINIMAL), 0);
	minimal = conf;
	memset(&conf, 0, sizeof(conf));
	assert_int_equal(file_read(TASUKI_SOURCE "/deploy/examples/dashboard.conf", 65536, &text,
				   &len, NULL),
			 0);
	if (load(text) < 0)
		fail_msg("%s", err.text);
	assert_memory_equal(&conf, &minimal, sizeof(conf));
	assert_string_equal(conf.listen, "127.0.0.1");
	assert_int_equal(conf.listen_port, 8080);
	/* What is commented out has each key that there is. */
	for (const char *const *k =
		     (const char *const[]){"[identity]", "[operator]", "[tls]",
					   "#certificate =", "#key =", "#authorities =",
					   "#password_file =", "#port =", NULL};
	     *k; k++)
		assert_non_null(strstr(text, *k));
}

static const struct {
	const char *text;
	int code;
	const char *part;
} refused[] = {
	{"", -ENOENT, "[dashboard] page"},
	{"[dashboard]\npage = nowhere\n", -ENOENT, "nowhere"},
	{MINIMAL "pag = x\n", -EINVAL, "pag"},
	{MINIMAL "[dashbord]\n", -EINVAL, "dashbord"},
	{MINIMAL "site = a/b\n", -EINVAL, "[dashboard] site"},
	{MINIMAL "listen = 8080\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = localhost:8080\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = 127.0.0.1:\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = 127.0.0.1:0\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = 127.0.0.1:65536\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = 127.0.0.1:+80\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = ::1:8080\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = [127.0.0.1]:8080\n", -EINVAL, "expected ADDRESS:PORT"},
	{MINIMAL "listen = 0.0.0.0:8080\n", -EACCES, "[tls]"},
	{MINIMAL "listen = 10.0.0.1:8080\n", -EACCES, "[tls]"},
	{MINIMAL "listen = [::]:8080\n", -EACCES, "[tls]"},
	{MINIMAL "classes = none.txt\n", -ENOENT, "none.txt"},
	{MINIMAL "connections = 1\n", -ERANGE, "connections"},
	{MINIMAL "connections_per_address = 0\n", -ERANGE, "connections_per_address"},
	{MINIMAL "[broker]\nhost = a b\n", -EINVAL, "[broker] host"},
	{MINIMAL "[broker]\nport = 0\n", -ERANGE, "[broker] port"},
	{MINIMAL "[tls]\n", -ENOENT, "[tls] certificate"},
	{MINIMAL "[tls]\ncertificate = crt\n", -ENOENT, "[tls] key"},
	{MINIMAL "[tls]\ncertificate = crt\nkey = open\n", -EACCES, "0644"},
	{MINIMAL "[operator]\n", -ENOENT, "password_file"},
	{MINIMAL "[operator]\npassword_file = open\n", -EACCES, "0644"},
	{MINIMAL "[operator]\npassword_file = key\n", -EINVAL, "mkpasswd"},
	{MINIMAL "[operator]\npassword_file = password\ncertificate = crt\n", -EINVAL,
	 "[operator] certificate"},
	{MINIMAL "[operator]\npassword_file = password\nkey = key\n", -EINVAL, "[operator] key"},
	{MINIMAL "[identity]\ncertificate = crt\nkey = key\n", -ENOENT, "authorities"},
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		conf.port = 77;
		int r = load(refused[i].text);
		if (r != refused[i].code || !strstr(err.text, refused[i].part) ||
		    !strstr(err.text, "dashboard.conf"))
			fail_msg("%s: %d '%s'", refused[i].text, r, err.text);
		assert_int_equal(conf.port, 77); /* untouched */
	}
}

static void test_taken(void **state)
{
	char expected[FILE_PATH_MAX];
	assert_int_equal(load(MINIMAL "listen = [::1]:1\n"), 0);
	assert_string_equal(conf.listen, "::1");
	assert_int_equal(conf.listen_port, 1);
	assert_int_equal(load(MINIMAL "listen = 0.0.0.0:80\ninsecure = yes\n"), 0);
	assert_int_equal(load(MINIMAL "listen = 127.9.9.9:65535\n[operator]\npassword_file = "
				      "password\n[broker]\nport = 7\n"),
			 0);
	assert_int_equal(conf.operator_port, 7);
	file_path(expected, sizeof(expected), "%s/password", dir);
	assert_string_equal(conf.password_file, expected);
	assert_int_equal(
		load(MINIMAL "listen = 0.0.0.0:443\n[tls]\ncertificate = crt\nkey = key\n"), 0);
	assert_string_equal(conf.site, "home");
	assert_int_equal(conf.port, 1883);
}

static void test_password(void **state)
{
	static const char *const bad[] = {
		"",
		"open-sesame",
		"*",
		"!",
		"$1$salt$qJH7.N4xYta3aEG/dfqo/0" /* MD5 */,
		"aWXfu5U8BEvZU" /* DES */,
		"$y$j9T$XMCmiggm/BtyVSUcpYzOB1$" /* a salt alone */,
		(HASH "\n" HASH "\n"),
		("root:" HASH),
	};
	char at[FILE_PATH_MAX];
	bool is;
	file_path(at, sizeof(at), "%s/password", dir);
	assert_int_equal(password_check_file(at, &err), 0);
	for (const char *const *p =
		     (const char *const[]){"open-sesame", "open-sesam", "open-sesame ", "",
					   "Open-sesame", HASH, NULL};
	     *p; p++) {
		is = strcmp(*p, "open-sesame") != 0;
		assert_int_equal(password_verify(at, *p, &is, &err), 0);
		assert_int_equal(is, strcmp(*p, "open-sesame") == 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put("password", bad[i], 0600);
		is = true;
		if (password_check_file(at, &err) != -EINVAL || !strstr(err.text, "mkpasswd") ||
		    !strstr(err.text, at))
			fail_msg("%s: '%s'", bad[i], err.text);
		assert_int_equal(password_verify(at, "open-sesame", &is, &err), -EINVAL);
	}
	assert_int_equal(password_check_file("/nowhere", &err), -ENOENT);
}

static void test_page(void **state)
{
	char at[FILE_PATH_MAX];
	struct page *p = NULL;
	file_path(at, sizeof(at), "%s/page", dir);
	folder("page/js");
	put("page/js/app.js", "1", 0644);
	put("page/.hidden.js", "1", 0644);
	put("secret.js", "1", 0644);
	assert_int_equal(page_load(at, &p, &err), 0);
	assert_string_equal(page_find(p, "/")->data, "<!doctype html>");
	assert_ptr_equal(page_find(p, "/"), page_find(p, "/index.html"));
	assert_string_equal(page_find(p, "/js/app.js")->type, "text/javascript; charset=utf-8");
	assert_int_equal(strlen(page_find(p, "/")->tag), HASH_HEX + 2);
	for (const char *const *s =
		     (const char *const[]){"", "/js", "/js/", "//index.html", "/./index.html",
					   "/js/../index.html", "/../secret.js", "/.hidden.js",
					   "/INDEX.HTML", "index.html", NULL};
	     *s; s++)
		assert_null(page_find(p, *s));
	page_free(p);
	/* What no browser is to get is no part of a page. */
	put("page/notes.doc", "1", 0644);
	assert_int_equal(page_load(at, &p, &err), -EINVAL);
	assert_non_null(strstr(err.text, "notes.doc"));
	file_path(at, sizeof(at), "%s/page/js", dir);
	assert_int_equal(page_load(at, &p, &err), -ENOENT);
	assert_non_null(strstr(err.text, "index.html"));
	for (int i = 0; i <= PAGE_DEPTH_MAX; i++) {
		strcat(at, "/d");
		assert_int_equal(mkdir(at, 0755), 0);
	}
	file_path(at, sizeof(at), "%s/page/js", dir);
	assert_int_equal(page_load(at, &p, &err), -ELOOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_example_says_the_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_password, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
