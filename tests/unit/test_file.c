/* Files: what is there after success, and after each way to fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/mem.h"

static char dir[64]; /* fresh for each test */

static int setup(void **state)
{
	strcpy(dir, "/tmp/tasuki-test-XXXXXX");
	return mkdtemp(dir) ? chdir(dir) : -1;
}

static int teardown(void **state)
{
	return chdir("/") || file_remove(dir, NULL);
}

static unsigned entries_in(const char *path)
{
	unsigned n = 0;
	DIR *d = opendir(path);
	assert_non_null(d);
	for (const struct dirent *e = readdir(d); e; e = readdir(d))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void assert_content(const char *path, const char *expected)
{
	_cleanup_free_ char *data = NULL;
	size_t len = 0;
	assert_int_equal(file_read(path, 1000, &data, &len, NULL), 0);
	assert_int_equal(len, strlen(expected));
	assert_string_equal(data, expected);
}

/* Also over a leftover that others may read. */
static void secrets_are_the_owners(void **state)
{
	struct stat st;
	assert_int_equal(file_write("f.tmp", "left", 4, NULL), 0);
	assert_int_equal(file_write("f", "all may", 7, NULL), 0);
	assert_int_equal(file_write_private("f", "secret", 6, NULL), 0);
	assert_content("f", "secret");
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void write_then_read(void **state)
{
	struct err err = {0};
	assert_int_equal(file_write("f", "first", 5, &err), 0);
	assert_content("f", "first");
	assert_int_equal(file_write("f", "2", 1, &err), 0);
	assert_content("f", "2");
	assert_int_equal(file_write("f", "", 0, &err), 0);
	assert_content("f", "");
	assert_int_equal(entries_in("."), 1);
	assert_true(file_exists("f"));
	assert_false(file_exists("g"));
	assert_int_equal(file_sync("f", &err), 0);
	assert_int_equal(file_sync(".", &err), 0);
}

static void read_names_what_is_wrong(void **state)
{
	char *data = (char *)1;
	size_t len = 77;
	struct err err = {0};
	assert_int_equal(file_read("absent", 10, &data, &len, &err), -ENOENT);
	assert_string_equal(err.text, "absent: No such file or directory");
	assert_int_equal(file_read(".", 10, &data, &len, &err), -EINVAL);
	assert_string_equal(err.text, ".: not a regular file");
	assert_int_equal(mkfifo("pipe", 0600), 0);
	assert_int_equal(file_read("pipe", 10, &data, &len, &err), -EINVAL);
	assert_int_equal(file_write("big", "0123456789A", 11, &err), 0);
	assert_int_equal(file_read("big", 10, &data, &len, &err), -EFBIG);
	assert_string_equal(err.text, "big: 11 bytes, at most 10 expected");
	assert_ptr_equal(data, (char *)1);
	assert_int_equal(len, 77);
	assert_int_equal(file_read("big", 11, &data, &len, &err), 0);
	free(data);
}

static void write_into_nothing(void **state)
{
	struct err err = {0};
	assert_int_equal(file_write("no/f", "x", 1, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no/f"));
	char path[FILE_PATH_MAX + 10];
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	assert_int_equal(file_write(path, "x", 1, &err), -ENAMETOOLONG);
	assert_int_equal(file_symlink("x", path, &err), -ENAMETOOLONG);
	assert_int_equal(file_mkdirs(path, &err), -ENAMETOOLONG);
	/* A folder stands where the file is to be: refused, and no temporary file is left. */
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(file_write("d", "x", 1, &err), -EISDIR);
	assert_int_equal(file_symlink("x", "d", &err), -EISDIR);
	assert_int_equal(entries_in("."), 1);
}

/* A file-size limit fails a write in its middle, as a full disk does. */
static void write_without_room_keeps_the_old_file(void **state)
{
	struct err err = {0};
	static char big[8192];
	struct rlimit old, limit;
	assert_int_equal(file_write("f", "old", 3, &err), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){4096, old.rlim_max};
	setrlimit(RLIMIT_FSIZE, &limit);
	int r = file_write("f", big, sizeof(big), &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -EFBIG);
	assert_string_equal(err.text, "f.tmp: File too large");
	assert_content("f", "old");
	assert_int_equal(entries_in("."), 1);

	_cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(file_write_all(full, "x", 1), -ENOSPC);
}

static void rename_replaces(void **state)
{
	struct err err = {0};
	file_write("a", "A", 1, &err);
	file_write("b", "B", 1, &err);
	assert_int_equal(file_rename("a", "b", &err), 0);
	assert_content("b", "A");
	assert_int_equal(file_rename("absent", "b", &err), -ENOENT);
	assert_string_equal(err.text, "absent: rename to b: No such file or directory");
	assert_content("b", "A");
}

static void symlink_switches(void **state)
{
	char target[32] = "";
	struct err err = {0};
	assert_int_equal(file_symlink("one", "link", &err), 0);
	assert_int_equal(symlink("leftover", "link.tmp"), 0); /* of a crash */
	assert_int_equal(file_symlink("two", "link", &err), 0);
	assert_int_equal(readlink("link", target, sizeof(target) - 1), 3);
	assert_string_equal(target, "two");
	assert_int_equal(file_symlink("x", "no/link", &err), -ENOENT);
	struct stat st;
	assert_int_equal(lstat("link.tmp", &st), -1);
}

static void mkdirs_makes_all(void **state)
{
	struct err err = {0};
	char absolute[128];
	assert_int_equal(file_mkdirs("a/b//c/", &err), 0);
	assert_int_equal(file_mkdirs("a/b/c", &err), 0);
	struct stat st;
	assert_int_equal(stat("a/b/c", &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 07, 0);
	snprintf(absolute, sizeof(absolute), "%s/x/y", dir);
	assert_int_equal(file_mkdirs(absolute, &err), 0);
	assert_true(file_exists("x/y"));
	assert_int_equal(file_mkdirs("/", &err), 0);
	assert_int_equal(file_mkdirs("", &err), -EINVAL);
	file_write("file", "x", 1, &err);
	assert_int_equal(file_mkdirs("file", &err), -ENOTDIR);
	assert_int_equal(file_mkdirs("file/sub", &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "file/sub"));
}

static void remove_takes_trees_and_follows_no_links(void **state)
{
	struct err err = {0};
	file_mkdirs("tree/deep/er", &err);
	file_mkdirs("kept", &err);
	file_write("kept/f", "x", 1, &err);
	file_write("tree/deep/f", "x", 1, &err);
	assert_int_equal(symlink("../kept", "tree/link"), 0);
	assert_int_equal(symlink("kept", "link"), 0);
	assert_int_equal(file_remove("tree", &err), 0);
	assert_int_equal(file_remove("link", &err), 0);
	assert_int_equal(file_remove("absent", &err), 0);
	assert_content("kept/f", "x");
	assert_int_equal(entries_in("."), 1);
	assert_int_equal(file_remove("kept/f", &err), 0);
	assert_int_equal(entries_in("kept"), 0);
	/* A process cannot take from /proc. */
	assert_true(file_remove("/proc/self/status", &err) < 0);
	assert_int_equal(strncmp(err.text, "/proc/self/status: remove: ", 27), 0);
}

static void lock_excludes_another_process(void **state)
{
	int fd = -1, other = 77;
	struct err err = {0};
	assert_int_equal(file_lock("lock", &fd, &err), 0);
	assert_true(fd >= 0);
	char expected[128];
	snprintf(expected, sizeof(expected), "lock: held by another process (pid %ld)",
		 (long)getpid());
	/* flock(2) belongs to the open file: a second open in this process is as good as another's.
	 */
	assert_int_equal(file_lock("lock", &other, &err), -EBUSY);
	assert_string_equal(err.text, expected);
	assert_int_equal(other, 77);
	close(fd);
	assert_int_equal(file_lock("lock", &fd, &err), 0);
	close(fd);
	assert_int_equal(file_lock("no/lock", &fd, &err), -ENOENT);
}

static void lock_ends_with_its_process(void **state)
{
	int fd = -1, ready[2];
	char c;
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		bool ok = file_lock("lock", &fd, NULL) == 0;
		_exit(ok && write(ready[1], "x", 1) == 1 ? pause() : 1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	struct err err = {0};
	char expected[64];
	snprintf(expected, sizeof(expected), "(pid %ld)", (long)pid);
	assert_int_equal(file_lock("lock", &fd, &err), -EBUSY);
	assert_non_null(strstr(err.text, expected));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(file_lock("lock", &fd, &err), 0);
	close(fd);
}

static void path_is_whole_or_empty(void **state)
{
	char buf[8];
	assert_int_equal(file_path(buf, sizeof(buf), "%s/%s", "abc", "def"), 0);
	assert_string_equal(buf, "abc/def");
	assert_int_equal(file_path(buf, sizeof(buf), "%s/%s", "abc", "defg"), -ENAMETOOLONG);
	assert_string_equal(buf, "");
}

static void free_bytes_are_told(void **state)
{
	uint64_t n = 0;
	assert_int_equal(file_free_bytes(".", &n), 0);
	assert_true(n > 0);
	n = 7;
	assert_int_equal(file_free_bytes("absent", &n), -ENOENT);
	assert_int_equal(n, 7);
}

static void read_at_gives_what_is_there(void **state)
{
	char buf[8] = "";
	int fd;
	assert_int_equal(file_write("f", "0123456789", 10, NULL), 0);
	fd = open("f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(file_read_at(fd, buf, 4, 3), 4);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(file_read_at(fd, buf, 8, 8), 2);
	assert_memory_equal(buf, "8956", 4);
	assert_int_equal(file_read_at(fd, buf, 8, 10), 0);
	close(fd);
	assert_int_equal(file_read_at(fd, buf, 8, 0), -EBADF);
}

int main(void)
{
#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		FILE_TEST(write_then_read),
		FILE_TEST(secrets_are_the_owners),
		FILE_TEST(read_names_what_is_wrong),
		FILE_TEST(write_into_nothing),
		FILE_TEST(write_without_room_keeps_the_old_file),
		FILE_TEST(rename_replaces),
		FILE_TEST(symlink_switches),
		FILE_TEST(mkdirs_makes_all),
		FILE_TEST(remove_takes_trees_and_follows_no_links),
		FILE_TEST(lock_excludes_another_process),
		FILE_TEST(lock_ends_with_its_process),
		FILE_TEST(path_is_whole_or_empty),
		FILE_TEST(free_bytes_are_told),
		FILE_TEST(read_at_gives_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
