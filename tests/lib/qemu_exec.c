/* Preloaded (QEMU_SET_ENV=LD_PRELOAD=...) into programs that run under qemu-user. A program that
 * they start goes to the machine's own kernel, which cannot run one for another processor: here
 * qemu is put before it, as binfmt_misc does on machines that are configured so. The machine's own
 * programs (the broker, the shell) are left as they are. qemu's settings are inherited by
 * environment.
 *
 * Only what our programs and tests call is replaced, and all of it may run between fork() and
 * exec(). */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARGS_MAX 64

/* It was for this program; the machine's own could not load it, and qemu sets it for the others. */
__attribute__((constructor)) static void forget(void)
{
	unsetenv("LD_PRELOAD");
}

static bool emulated(const char *path)
{
	Elf64_Ehdr h = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC), saved = errno;
	ssize_t n = fd < 0 ? -1 : read(fd, &h, sizeof(h));
	if (fd >= 0)
		close(fd);
	errno = saved;
	return n == (ssize_t)sizeof(h) && memcmp(h.e_ident, ELFMAG, SELFMAG) == 0 &&
	       h.e_machine == MACHINE;
}

int execve(const char *path, char *const argv[], char *const env[])
{
	const char *args[ARGS_MAX + 4] = {EMULATOR, "-0", argv[0], path};
	size_t n = 0;
	if (!emulated(path) || access(path, X_OK) < 0)
		return (int)syscall(SYS_execve, path, argv, env);
	for (; argv[n + 1]; n++) {
		if (n + 5 >= sizeof(args) / sizeof(*args)) {
			errno = E2BIG;
			return -1;
		}
		args[n + 4] = argv[n + 1];
	}
	return execvpe(EMULATOR, (char *const *)args, env);
}

int execl(const char *path, const char *arg, ...)
{
	const char *args[ARGS_MAX] = {arg};
	size_t n = 1;
	va_list more;
	va_start(more, arg);
	while (n + 1 < ARGS_MAX && (args[n] = va_arg(more, const char *)))
		n++;
	va_end(more);
	return execve(path, (char *const *)args, environ);
}
