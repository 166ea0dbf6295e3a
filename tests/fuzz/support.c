#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "tests/fuzz/fuzz.h"

size_t fuzz_taken;

/* In place of the C library's: nothing here needs to outlive a power cut, and inputs come by
 * thousands a second. */
int fsync(int fd)
{
	return 0;
}

int fdatasync(int fd)
{
	return 0;
}

void fuzz_file(const void *data, size_t size, int *ret_fd, char path[FILE_PATH_MAX])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(file_write_all(fd, data, size) == 0);
	FUZZ_CHECK(file_path(path, FILE_PATH_MAX, "/proc/self/fd/%d", fd) == 0);
	*ret_fd = fd;
}

/* In memory, unless told where, or there is no such place. */
static const char *tmp_dir(void)
{
	const char *told = getenv("TMPDIR");
	return told ? told : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static char dir[FILE_PATH_MAX];

static void remove_dir(void)
{
	file_remove(dir, NULL);
}

void fuzz_path(const char *name, char path[FILE_PATH_MAX])
{
	if (!*dir) {
		FUZZ_CHECK(file_path(dir, sizeof(dir), "%s/tasuki-fuzz-XXXXXX", tmp_dir()) == 0);
		FUZZ_CHECK(mkdtemp(dir));
		atexit(remove_dir);
	}
	FUZZ_CHECK(file_path(path, FILE_PATH_MAX, "%s%s%s", dir, *name ? "/" : "", name) == 0);
}

void fuzz_put(const char *path, const void *data, size_t size)
{
	_cleanup_file_ FILE *f = fopen(path, "we");
	FUZZ_CHECK(f && fwrite(data, 1, size, f) == size);
}

bool fuzz_conf(const char *name, const char *folder, const uint8_t *data, size_t size,
	       int (*load)(const char *path, void *ret, struct err *err), void *ret, size_t bytes)
{
	static char path[FILE_PATH_MAX];
	char beside[FILE_PATH_MAX];
	struct err err = {0};
	const uint8_t *was = ret;
	if (!*path) {
		fuzz_path(name, path);
		fuzz_path(folder, beside);
		FUZZ_CHECK(mkdir(beside, 0700) == 0);
	}
	fuzz_put(path, data, size);
	memset(ret, 0x5a, bytes);
	if (load(path, ret, &err) == 0) {
		fuzz_taken++;
		return true;
	}
	FUZZ_CHECK(*err.text);
	for (size_t i = 0; i < bytes; i++)
		FUZZ_CHECK(was[i] == 0x5a);
	return false;
}
