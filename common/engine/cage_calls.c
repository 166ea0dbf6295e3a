/* The system calls that a network needs once its program runs: memory, threads, files by name (of
 * which Landlock says which), time, and reading from the one socket that is there. Any other call
 * is no error that a library could live with, but a process that does what it must not: the kernel
 * raises SIGSYS in its place, whose handler leaves a last line with the call's name, and ends it.
 * Where that signal is blocked, the kernel ends the process by it. (The only door to libseccomp.)
 *
 * Refused with an error instead: clone3(), whose flags a filter cannot see, so that the C library
 * falls back on clone(), and sched_setaffinity(). Names that an architecture does not have are
 * passed over. */
#include "common/engine/cage_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/worker_protocol.h"

#define CALLS_MAX 600 /* numbers of system calls that have a name here */
#define NAMESPACES                                                                     \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET)
#define MAKES       (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) /* opening with these: files */
#define PR_SET_VMA_ 0x53564d41                             /* names a piece of memory */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static const char *const allowed[] = {
	/* memory */
	"brk",
	"munmap",
	"mremap",
	"mprotect",
	"madvise",
	"mincore",
	"mbind",
	"get_mempolicy",
	/* files */
	"read",
	"write",
	"readv",
	"writev",
	"pread64",
	"pwrite64",
	"lseek",
	"close",
	"stat",
	"lstat",
	"fstat",
	"newfstatat",
	"statx",
	"access",
	"faccessat",
	"faccessat2",
	"readlink",
	"readlinkat",
	"getdents64",
	"fsync",
	"fdatasync",
	"ftruncate",
	"fallocate",
	"fadvise64",
	"rename",
	"renameat",
	"unlink",
	"unlinkat",
	"statfs",
	"fstatfs",
	"dup",
	"getcwd",
	"umask",
	/* threads */
	"futex",
	"set_robust_list",
	"rseq",
	"exit",
	"exit_group",
	"gettid",
	"sched_yield",
	"sched_getaffinity",
	"restart_syscall",
	/* signals, to itself */
	"rt_sigprocmask",
	"rt_sigreturn",
	"sigaltstack",
	/* time */
	"clock_gettime",
	"clock_getres",
	"clock_nanosleep",
	"nanosleep",
	"gettimeofday",
	"time",
	"times",
	"getrusage",
	"poll",
	"ppoll",
	/* itself and the machine */
	"getpid",
	"getppid",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"getrandom",
	"getrlimit",
	"setrlimit",
	"getpriority",
	"getcpu",
	"uname",
	"sysinfo",
	"arch_prctl",
};

/* Allowed with certain arguments; further lines of a call are further ways. */
static const struct {
	const char *call;
	struct scmp_arg_cmp arg;
} in_part[] = {
	/* A thread of this process, in no namespace of its own. */
	{"clone", {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD | NAMESPACES, CLONE_THREAD}},
	{"recvfrom", {0, SCMP_CMP_EQ, WORKER_FD, 0}},
	{"prlimit64", {0, SCMP_CMP_EQ, 0, 0}}, /* its own */
	/* The handler of SIGSYS stays. Only the number's lower half counts for the kernel, and all
	   of it here. */
	{"rt_sigaction", {0, SCMP_CMP_LT, SIGSYS, 0}},
	{"rt_sigaction", {0, SCMP_CMP_MASKED_EQ, ~(scmp_datum_t)SIGSYS, SIGSYS + 1}}, /* 32 to 63 */
	{"rt_sigaction", {0, SCMP_CMP_EQ, 64, 0}},
	/* No memory that the limit does not count: what is shared, but for files, and stacks. */
	{"mmap", {3, SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_GROWSDOWN, 0}},
	{"mmap", {3, SCMP_CMP_MASKED_EQ, MAP_TYPE | MAP_GROWSDOWN, MAP_PRIVATE}},
	/* No program with its owner's rights: the owner may be root. */
	{"open", {1, SCMP_CMP_MASKED_EQ, MAKES, 0}},
	{"open", {2, SCMP_CMP_MASKED_EQ, S_ISUID | S_ISGID, 0}},
	{"openat", {2, SCMP_CMP_MASKED_EQ, MAKES, 0}},
	{"openat", {3, SCMP_CMP_MASKED_EQ, S_ISUID | S_ISGID, 0}},
	{"fchmod", {1, SCMP_CMP_MASKED_EQ, S_ISUID | S_ISGID, 0}},
	/* Nothing in the old name's place: that is a device. */
	{"renameat2", {4, SCMP_CMP_MASKED_EQ, RENAME_WHITEOUT, 0}},
	{"fcntl", {1, SCMP_CMP_EQ, F_GETFD, 0}},
	{"fcntl", {1, SCMP_CMP_EQ, F_SETFD, 0}},
	{"fcntl", {1, SCMP_CMP_EQ, F_GETFL, 0}},
	{"fcntl", {1, SCMP_CMP_EQ, F_SETFL, 0}},
	{"fcntl", {1, SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0}},
	/* isatty() */
	{"ioctl", {1, SCMP_CMP_EQ, TCGETS, 0}},
	/* The signal of the daemon's death stays, too. */
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_NAME, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_GET_NAME, 0}},
	{"prctl", {0, SCMP_CMP_EQ, PR_SET_VMA_, 0}},
};

/* By number: a handler of a signal can ask nobody. */
static char *names[CALLS_MAX];

static void put(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(WORKER_EXIT_FORBIDDEN);
}

static void on_forbidden(int signo, siginfo_t *info, void *context)
{
	int n = info->si_syscall;
	char digits[12], *d = &digits[sizeof(digits) - 1];
	*d = 0;
	for (unsigned rest = (unsigned)n; d > digits && (rest || !*d); rest /= 10)
		*--d = (char)('0' + rest % 10);
	put("\n" WORKER_FORBIDDEN); /* Darknet may be within a line */
	put(n >= 0 && n < CALLS_MAX && names[n] ? names[n] : d);
	put("\n");
	_exit(WORKER_EXIT_FORBIDDEN);
}

static int watch(void)
{
	for (int i = 0; i < CALLS_MAX; i++)
		names[i] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
	struct sigaction act = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	sigset_t its;
	sigemptyset(&its);
	sigaddset(&its, SIGSYS);
	if (sigaction(SIGSYS, &act, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &its, NULL) < 0)
		return -errno;
	return 0;
}

static int add_call(scmp_filter_ctx f, uint32_t action, const char *name, unsigned n,
		    const struct scmp_arg_cmp *args)
{
	int number = seccomp_syscall_resolve_name(name);
	return number < 0 ? 0 : seccomp_rule_add_array(f, action, number, n, args);
}

/* And what sanitizers do to say what they found: they start a program that knows names. */
static int refuse_quietly(scmp_filter_ctx f)
{
	int r = add_call(f, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
	if (r == 0) /* threads that are told to be bound stay on the processors of `cpus` */
		r = add_call(f, SCMP_ACT_ERRNO(EPERM), "sched_setaffinity", 0, NULL);
#ifdef SANITIZED
	static const char *const of_sanitizers[] = {"fork", "vfork", "pipe", "pipe2", "socketpair"};
	const struct scmp_arg_cmp process = {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0};
	if (r == 0)
		r = add_call(f, SCMP_ACT_ERRNO(EPERM), "clone", 1, &process);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(of_sanitizers); i++)
		r = add_call(f, SCMP_ACT_ERRNO(EPERM), of_sanitizers[i], 0, NULL);
#endif
	return r;
}

static int fill(scmp_filter_ctx f)
{
	const struct scmp_arg_cmp self = {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0};
	int r = refuse_quietly(f);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
		r = add_call(f, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(in_part); i++)
		r = add_call(f, SCMP_ACT_ALLOW, in_part[i].call, 1, &in_part[i].arg);
	if (r == 0)
		r = add_call(f, SCMP_ACT_ALLOW, "tgkill", 1, &self);
	return r;
}

int cage_calls(char *why, size_t size)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);
	int r = f ? fill(f) : -ENOMEM;
	/* Calls of another architecture have other numbers: there is no way to know what they are.
	 */
	if (r == 0)
		r = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = seccomp_attr_set(f, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (r == 0)
		r = watch();
	if (r == 0)
		r = seccomp_load(f);
	if (f)
		seccomp_release(f);
	if (r < 0)
		snprintf(why, size, "%s",
			 r == -ENOSYS || r == -EINVAL || r == -EOPNOTSUPP ? "not in this kernel"
									  : strerror(-r));
	return r;
}
