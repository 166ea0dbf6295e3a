/* Landlock: landlock(7), Documentation/userspace-api/landlock.rst in the kernel. The numbers are
 * those of <linux/landlock.h>, whose version at hand may be older than the kernel: a newer kernel's
 * rights are asked for by number, and none that it does not know (its interface has a version). */
#include "common/engine/cage_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define FS_FIRST (((uint64_t)LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* version 1: all up to that \
								     */
#define FS_REFER    ((uint64_t)1 << 13)                             /* 2 */
#define FS_TRUNCATE ((uint64_t)1 << 14)                             /* 3 */
#define FS_IOCTL    ((uint64_t)1 << 15)                             /* 5: of devices */
#define NET_TCP     ((uint64_t)3)                                   /* 4: bind, connect */
#define SCOPES      ((uint64_t)3) /* 6: abstract sockets, signals */

#define READ ((uint64_t)LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* No links, folders, pipes or sockets: the daemon goes through these folders, too. */
#define WRITE                                                                 \
	(READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE)
#define OF_FILES                                                                \
	((uint64_t)LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	 LANDLOCK_ACCESS_FS_READ_FILE | FS_TRUNCATE | FS_IOCTL)

struct ruleset { /* struct landlock_ruleset_attr of version 6 */
	uint64_t fs, net, scoped;
};

/* What the program itself reads: libraries that are loaded later (OpenBLAS), its own use of memory,
 * which processors there are. */
static const char *const runtime[] = {"/usr/lib",
				      "/usr/local/lib",
				      "/lib",
				      "/lib64",
				      "/etc/ld.so.cache",
				      "/proc/self",
				      "/proc/cpuinfo",
				      "/proc/meminfo",
				      "/sys/devices/system/cpu",
				      "/sys/devices/system/node",
				      "/dev/urandom",
				      NULL};

static uint64_t known_fs(int version)
{
	uint64_t fs = FS_FIRST;
	if (version >= 2)
		fs |= FS_REFER;
	if (version >= 3)
		fs |= FS_TRUNCATE;
	if (version >= 5)
		fs |= FS_IOCTL;
	return fs;
}

static int allow(int set, const char *path, uint64_t rights)
{
	struct stat st;
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return 0; /* whoever reads it says why it cannot */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rights &= OF_FILES;
	struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
	return syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

static int allow_all(int set, const char *const *paths, uint64_t rights)
{
	int r = 0;
	for (size_t i = 0; r == 0 && paths && paths[i]; i++)
		if (*paths[i])
			r = allow(set, paths[i], rights);
	return r;
}

/* So that what a sanitizer reports has names. */
static int allow_program(int set)
{
	char path[FILE_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n < 0)
		return 0;
	path[n] = 0;
	return allow(set, path, READ);
}

static int restrict_to(const struct cage *c, int set, uint64_t fs)
{
	int r = allow_all(set, runtime, READ);
	if (r == 0)
		r = allow_program(set);
	if (r == 0)
		r = allow(set, "/dev/null",
			  LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
	if (r == 0)
		r = allow_all(set, c->readable, READ);
	if (r == 0)
		r = allow_all(set, c->writable, WRITE & fs);
	if (r == 0 && syscall(SYS_landlock_restrict_self, set, 0) < 0)
		r = -errno;
	return r;
}

int cage_files(const struct cage *c, int *ret_version, char *why, size_t size)
{
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (version < 1) {
		int code = version < 0 ? -errno : -ENOSYS;
		snprintf(why, size, "%s",
			 code == -ENOSYS       ? "not in this kernel"
			 : code == -EOPNOTSUPP ? "switched off in this kernel"
					       : strerror(-code));
		return code;
	}
	const struct ruleset rules = {known_fs((int)version), NET_TCP, SCOPES};
	size_t n = version >= 6   ? sizeof(rules)
		   : version >= 4 ? offsetof(struct ruleset, scoped)
				  : offsetof(struct ruleset, net);
	_cleanup_close_ int set = (int)syscall(SYS_landlock_create_ruleset, &rules, n, 0);
	int r = set < 0 ? -errno : restrict_to(c, set, rules.fs);
	if (r < 0)
		snprintf(why, size, "%s", strerror(-r));
	else
		*ret_version = (int)version;
	return r;
}
