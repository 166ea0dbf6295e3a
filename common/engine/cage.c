#include "common/engine/cage.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/cage_parts.h"

#define OPEN_FILES_MAX 256
/* Of all its user's: the kernel counts them together, and never root's. */
#define THREADS_MAX     8192
#define STACK_MAX_BYTES (64 * 1024 * 1024)

static void add(char text[CAGE_TEXT_MAX], const char *what)
{
	size_t n = strlen(text);
	snprintf(text + n, CAGE_TEXT_MAX - n, "%s%s", n ? ", " : "", what);
}

/* What the kernel cannot: named, or an error where all is required. */
static int lack(const struct cage *c, struct cage_report *r, int code, const char *part,
		const char *why, struct err *err)
{
	char text[CAGE_TEXT_MAX - 2]; /* ", " may come before it */
	snprintf(text, sizeof(text), "%s: %s", part, why);
	if (c->required)
		return err_set(err, code,
			       "the worker cannot be confined as [worker] sandbox = require "
			       "wants: %s",
			       text);
	add(r->missing, text);
	return 0;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	const __u32 keep = 1u << CAP_DAC_OVERRIDE;
	for (size_t i = 0; i < ARRAY_LEN(data); i++) {
		__u32 of_these = i ? 0 : keep;
		data[i].effective &= of_these;
		data[i].permitted &= of_these;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int limit(int what, uint64_t most)
{
	struct rlimit now;
	if (getrlimit(what, &now) < 0)
		return -errno;
	rlim_t new = MIN_OF((rlim_t)most, now.rlim_cur); /* a lower one is somebody's wish */
	return setrlimit(what, &(struct rlimit){new, new}) < 0 ? -errno : 0;
}

/* A stack is nothing that RLIMIT_DATA counts, so it stays as large as it may be. */
static int set_limits(void)
{
	int r = limit(RLIMIT_NOFILE, OPEN_FILES_MAX);
	if (r == 0)
		r = limit(RLIMIT_NPROC, THREADS_MAX);
	return r < 0 ? r : limit(RLIMIT_STACK, STACK_MAX_BYTES);
}

int cage_limit_file(uint64_t bytes, struct err *err)
{
	int r = limit(RLIMIT_FSIZE, bytes);
	return r < 0 ? err_errno(err, r, "limit of %llu bytes for a file",
				 (unsigned long long)bytes)
		     : 0;
}

static unsigned count_threads(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	while (d && (e = readdir(d)))
		n += *e->d_name != '.';
	if (d)
		closedir(d);
	return n;
}

static int confine_files(const struct cage *c, struct cage_report *r, struct err *err)
{
	char why[128], what[32];
	int version = 0, code = cage_files(c, &version, why, sizeof(why));
	unsigned n_threads = count_threads();
	if (code < 0)
		return lack(c, r, code, "landlock", why, err);
	snprintf(what, sizeof(what), "landlock %d", version);
	add(r->parts, what);
	if (n_threads < 2)
		return 0;
	snprintf(why, sizeof(why), "threads that were there before it: %u", n_threads - 1);
	return lack(c, r, -EBUSY, "landlock", why, err);
}

int cage_enter(const struct cage *c, struct cage_report *ret, struct err *err)
{
	struct cage_report r = {0};
	char why[128];
	int code = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
	if (code < 0)
		return err_errno(err, code, "no-new-privileges");
	add(r.parts, "no-new-privileges");
	code = drop_capabilities();
	if (code < 0)
		code = lack(c, &r, code, "capabilities", strerror(-code), err);
	else
		add(r.parts, "capabilities");
	if (code < 0)
		return code;
	code = set_limits();
	if (code < 0)
		return err_errno(err, code, "limits");
	add(r.parts, "limits");
	code = confine_files(c, &r, err);
	if (code < 0)
		return code;
	code = cage_calls(why, sizeof(why));
	if (code < 0)
		code = lack(c, &r, code, "seccomp", why, err);
	else
		add(r.parts, "seccomp");
	if (code == 0)
		*ret = r;
	return code;
}
