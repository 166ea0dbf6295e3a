#include <sys/mman.h>

#include "tests/fuzz/fuzz.h"

size_t fuzz_taken;

void fuzz_file(const void *data, size_t size, int *ret_fd, char path[FILE_PATH_MAX])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(file_write_all(fd, data, size) == 0);
	FUZZ_CHECK(file_path(path, FILE_PATH_MAX, "/proc/self/fd/%d", fd) == 0);
	*ret_fd = fd;
}
