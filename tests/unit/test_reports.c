/* The reports file: numbers without gaps, also after crashes, and only the last 10,000. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "device-agent/reports.h"

static char dir[64], path[FILE_PATH_MAX];
static struct reports *r;
static struct err err;

static int setup(void **state)
{
	err = (struct err){0};
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	return file_path(path, sizeof(path), "%s/reports.jsonl", dir);
}

static int teardown(void **state)
{
	reports_free(TAKE_PTR(r));
	return file_remove(dir, NULL);
}

static void open_it(int64_t last_seq)
{
	reports_free(TAKE_PTR(r));
	if (reports_open(path, last_seq, &r, &err) < 0)
		fail_msg("%s", err.text);
}

static void append(int64_t seq)
{
	char text[64];
	snprintf(text, sizeof(text), "{\"seq\":%lld,\"x\":\"%lld\"}", (long long)seq,
		 (long long)seq * 7);
	if (reports_append(r, text, &err) < 0)
		fail_msg("%s", err.text);
}

static void assert_report(int64_t seq)
{
	char *text = NULL, expected[64];
	snprintf(expected, sizeof(expected), "{\"seq\":%lld,\"x\":\"%lld\"}", (long long)seq,
		 (long long)seq * 7);
	if (reports_read(r, seq, &text, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(text, expected);
	free(text);
}

static void assert_kept(int64_t first, int64_t last)
{
	char *text = (char *)1;
	assert_int_equal(reports_first(r), first);
	assert_int_equal(reports_last(r), last);
	if (last >= first) {
		assert_report(first);
		assert_report(last);
	}
	assert_int_equal(reports_read(r, first - 1, &text, &err), -ENOENT);
	assert_int_equal(reports_read(r, last + 1, &text, &err), -ENOENT);
	assert_ptr_equal(text, (char *)1);
}

static void add_text(const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static void test_append_and_read(void **state)
{
	open_it(0);
	assert_kept(1, 0);
	for (int64_t i = 1; i <= 20; i++)
		append(i);
	assert_kept(1, 20);
	open_it(20);
	assert_kept(1, 20);
	append(21);
	assert_report(13);
	open_it(20);
	assert_kept(1, 21);
}

static void test_torn_line(void **state)
{
	open_it(0);
	append(1);
	append(2);
	add_text("{\"seq\":3,\"x\":\"2");
	open_it(2);
	assert_kept(1, 2);
	append(3);
	open_it(3);
	assert_kept(1, 3);
}

static void test_damage(void **state)
{
	struct reports *none = NULL;
	open_it(0);
	append(1);
	add_text("{\"seq\":3}\n");
	assert_int_equal(reports_open(path, 1, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 2: seq: found 3, expected 2"));
	assert_int_equal(truncate(path, 0), 0);
	add_text("nonsense\n");
	assert_int_equal(reports_open(path, 0, &none, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 1"));
	assert_null(none);
}

static void test_lost_file(void **state)
{
	/* Numbers that were used are never used again. */
	open_it(0);
	append(1);
	append(2);
	open_it(7);
	assert_kept(8, 7);
	append(8);
	assert_kept(8, 8);
	open_it(8);
	assert_kept(8, 8);
	char old[FILE_PATH_MAX];
	file_path(old, sizeof(old), "%s.old", path);
	assert_true(file_exists(old));
	assert_int_equal(unlink(path), 0);
	open_it(8);
	assert_kept(9, 8);
}

static void test_keeps_the_last(void **state)
{
	/* Made in one go: thousands of syncs would take their time. */
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	for (int64_t i = 1; i <= REPORTS_KEEP + REPORTS_SLACK; i++)
		fprintf(f, "{\"seq\":%lld,\"x\":\"%lld\"}\n", (long long)i, (long long)i * 7);
	fclose(f);
	open_it(0);
	assert_kept(1, REPORTS_KEEP + REPORTS_SLACK);
	append(REPORTS_KEEP + REPORTS_SLACK + 1);
	assert_kept(REPORTS_SLACK + 1, REPORTS_KEEP + REPORTS_SLACK + 1);
	assert_report(5555);
	append(REPORTS_KEEP + REPORTS_SLACK + 2);
	open_it(0);
	assert_kept(REPORTS_SLACK + 1, REPORTS_KEEP + REPORTS_SLACK + 2);
}

static void test_full_disk(void **state)
{
	/* A file size limit stands for it: the write is cut short, then refused. */
	struct rlimit old, small;
	open_it(0);
	append(1);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = (rlim_t)st.st_size + 5;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_true(reports_append(r, "{\"seq\":2,\"x\":\"14\"}", &err) < 0);
	assert_non_null(strstr(err.text, "reports.jsonl"));
	setrlimit(RLIMIT_FSIZE, &old);
	assert_kept(1, 1);
	append(2);
	open_it(2);
	assert_kept(1, 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_append_and_read), T(test_torn_line),      T(test_damage),
		T(test_lost_file),       T(test_keeps_the_last), T(test_full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
