#include <sys/mman.h>
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
