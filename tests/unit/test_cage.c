/* The cage, entered by children of this test, which then try what they must not and what they must
 * be able to. (Whole workers and daemons: tests/integration/test_cage.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/cage.h"
#include "common/engine/worker_protocol.h"

#define FINE 42 /* exit status of a child that found all as it should be */

static char dir[64] = "/tmp/test_cage.XXXXXX";

static const char *at(const char *name)
{
	static char paths[4][FILE_PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 4];
	file_path(p, FILE_PATH_MAX, "%s/%s", dir, name);
	return p;
}

static int set_up(void **state)
{
	assert_non_null(mkdtemp(dir));
	assert_int_equal(mkdir(at("in"), 0700) | mkdir(at("out"), 0700) | mkdir(at("other"), 0700),
			 0);
	assert_int_equal(file_write(at("in/file"), "x", 1, NULL), 0);
	assert_int_equal(file_write(at("other/file"), "x", 1, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	return file_remove(dir, NULL);
}

static int enter(bool required, struct cage_report *r, struct err *err)
{
	const char *readable[] = {at("in"), "/nothing/of/this/name", NULL},
		   *writable[] = {at("out"), NULL};
	const struct cage c = {required, readable, writable};
	return cage_enter(&c, r, err);
}

/* What a child writes to its standard error, and how it ends. */
static int in_child(int (*perform)(const void *), const void *user, char *text, size_t size)
{
	int ends[2], status;
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		_exit(perform(user));
	}
	close(ends[1]);
	size_t n = 0;
	for (ssize_t got; (got = read(ends[0], text + n, size - 1 - n)) > 0;)
		n += (size_t)got;
	text[n] = 0;
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- calls ---- */

struct call {
	const char *name;
	long number, args[5];
};

static int make_call(const void *user)
{
	const struct call *c = user;
	struct cage_report r;
	if (enter(false, &r, NULL) < 0)
		return 1;
	if (c->number == SYS_tgkill || c->number == SYS_kill || c->number == SYS_prlimit64)
		syscall(c->number, getppid(), c->number == SYS_tgkill ? getppid() : 0, 0, 0);
	else
		syscall(c->number, c->args[0], c->args[1], c->args[2], c->args[3], c->args[4]);
	return 2; /* it was not ended */
}

static void forbidden(void **state)
{
	static const struct call calls[] = {
		{"socket", SYS_socket, {1, 1}},
		{"connect", SYS_connect},
		{"sendto", SYS_sendto},
		{"sendmsg", SYS_sendmsg},
		{"recvmsg", SYS_recvmsg},
		{"recvfrom", SYS_recvfrom, {0}},
		{"execve", SYS_execve},
		{"execveat", SYS_execveat},
		{"ptrace", SYS_ptrace},
		{"process_vm_readv", SYS_process_vm_readv},
		{"process_vm_writev", SYS_process_vm_writev},
		{"pidfd_open", SYS_pidfd_open, {1}},
		{"pidfd_getfd", SYS_pidfd_getfd},
		{"kill", SYS_kill},
		{"tgkill", SYS_tgkill},
		{"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {1}},
		{"prlimit64", SYS_prlimit64},
		{"keyctl", SYS_keyctl},
		{"add_key", SYS_add_key},
		{"bpf", SYS_bpf},
		{"io_uring_setup", SYS_io_uring_setup},
		{"mount", SYS_mount},
		{"unshare", SYS_unshare},
		{"setns", SYS_setns},
		{"chroot", SYS_chroot},
		{"kexec_load", SYS_kexec_load},
		{"perf_event_open", SYS_perf_event_open},
		{"open_by_handle_at", SYS_open_by_handle_at},
		{"userfaultfd", SYS_userfaultfd},
		{"init_module", SYS_init_module},
		{"seccomp", SYS_seccomp},
		{"landlock_restrict_self", SYS_landlock_restrict_self},
		{"capset", SYS_capset},
		{"setuid", SYS_setuid},
		{"personality", SYS_personality},
		{"shmget", SYS_shmget},
		{"inotify_init1", SYS_inotify_init1},
		{"mkdirat", SYS_mkdirat},
		{"symlinkat", SYS_symlinkat},
		{"fchmodat", SYS_fchmodat},
		{"truncate", SYS_truncate},
		{"prctl", SYS_prctl, {PR_SET_PDEATHSIG, 0}},
		{"fcntl", SYS_fcntl, {0, F_SETOWN, 1}},
		{"ioctl", SYS_ioctl, {0, TIOCSTI}},
		{"rt_sigaction", SYS_rt_sigaction, {SIGSYS}},
		{"rt_sigaction", SYS_rt_sigaction, {(1L << 32) + SIGSYS}},
		{"memfd_create", SYS_memfd_create},
		{"mmap", SYS_mmap, {0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1}},
		{"mmap",
		 SYS_mmap,
		 {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1}},
		{"openat", SYS_openat, {AT_FDCWD, 0, O_CREAT, S_ISUID | 0700}},
		{"openat", SYS_openat, {AT_FDCWD, 0, O_TMPFILE, S_ISGID | 0700}},
		{"fchmod", SYS_fchmod, {0, S_ISUID | 0700}},
		{"renameat2", SYS_renameat2, {AT_FDCWD, 0, AT_FDCWD, 0, RENAME_WHITEOUT}},
		{"exotic: 550", 550},
	};
	char text[512], expected[128];
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		int status = in_child(make_call, &calls[i], text, sizeof(text));
		const char *number = strchr(calls[i].name, ':'); /* it has none */
		snprintf(expected, sizeof(expected), "\n" WORKER_FORBIDDEN "%s\n",
			 number ? number + 2 : calls[i].name);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != WORKER_EXIT_FORBIDDEN ||
		    strcmp(text, expected) != 0)
			fail_msg("%s: status %#x, found '%s'", calls[i].name, status, text);
	}
}

/* Where nobody can say it, the kernel ends the process. */
static int call_with_all_blocked(const void *user)
{
	struct cage_report r;
	sigset_t all;
	sigfillset(&all);
	if (enter(false, &r, NULL) < 0 || sigprocmask(SIG_BLOCK, &all, NULL) < 0)
		return 1;
	syscall(SYS_socket, 1, 1, 0);
	return 2;
}

static void forbidden_in_silence(void **state)
{
	char text[512];
	int status = in_child(call_with_all_blocked, NULL, text, sizeof(text));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

/* ---- files ---- */

static int opens(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int use_files(const void *user)
{
	struct cage_report r;
	struct err err = {0};
	if (enter(true, &r, &err) < 0)
		return 1;
	return opens(at("in/file"), O_RDONLY) == 0 && opens(at("in/file"), O_WRONLY) == -EACCES &&
			       opens(at("in/new"), O_WRONLY | O_CREAT) == -EACCES &&
			       opens(at("other/file"), O_RDONLY) == -EACCES &&
			       opens(at("other"), O_RDONLY | O_DIRECTORY) == -EACCES &&
			       opens("/etc/passwd", O_RDONLY) == -EACCES &&
			       opens("/", O_RDONLY | O_DIRECTORY) == -EACCES &&
			       opens("/proc/1/status", O_RDONLY) == -EACCES &&
			       opens("/proc/self/statm", O_RDONLY) == 0 &&
			       opens(at("other/none"), O_RDONLY) == -ENOENT &&
			       file_write(at("out/a"), "new", 3, &err) == 0 &&
			       file_rename(at("out/a"), at("out/b"), &err) == 0 &&
			       rename(at("out/b"), at("other/b")) < 0 &&
			       unlink(at("in/file")) < 0 && unlink(at("out/b")) == 0
		       ? FINE
		       : 2;
}

static void files(void **state)
{
	char text[512];
	int status = in_child(use_files, NULL, text, sizeof(text));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), FINE);
}

/* ---- what has to work ---- */

static volatile sig_atomic_t n_signals;

static void on_signal(int signo)
{
	n_signals++;
}

static void *in_thread(void *user)
{
	*(int *)user = opens("/etc/passwd", O_RDONLY); /* what a thread starts with */
	return NULL;
}

static int work(const void *user)
{
	struct cage_report r;
	pthread_t thread;
	int found = 0;
	struct rlimit files, threads, stack, core = {1, 1};
	cpu_set_t cpus;
	if (enter(false, &r, NULL) < 0)
		return 1;
	signal(SIGUSR1, on_signal);
	if (raise(SIGUSR1) != 0 || n_signals != 1)
		return 2;
	if (pthread_create(&thread, NULL, in_thread, &found) || pthread_join(thread, NULL) ||
	    found != -EACCES)
		return 3;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_max > 256 ||
	    getrlimit(RLIMIT_NPROC, &threads) < 0 || threads.rlim_max > 8192 ||
	    getrlimit(RLIMIT_STACK, &stack) < 0 || stack.rlim_max > (rlim_t)64 << 20 ||
	    setrlimit(RLIMIT_CORE, &core) == 0)
		return 4;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0 ||
	    sched_setaffinity(0, sizeof(cpus), &cpus) == 0 || errno != EPERM)
		return 8;
	for (int s = 1; s < NSIG; s++) /* 32 and 33 are the C library's */
		if (s != SIGSYS && s != SIGKILL && s != SIGSTOP && s != 32 && s != 33 &&
		    signal(s, SIG_DFL) == SIG_ERR)
			return 9;
	char *big = malloc((size_t)64 << 20);
	if (!big || syscall(SYS_clone3, NULL, 0) != -1 || errno != ENOSYS)
		return 5;
	free(big);
	signal(SIGXFSZ, SIG_IGN);
	if (cage_limit_file(1000, NULL) < 0 || cage_limit_file(2000, NULL) < 0)
		return 6;
	static char bytes[1500];
	return file_write(at("out/large"), bytes, sizeof(bytes), NULL) == -EFBIG &&
			       strstr(r.parts,
				      "no-new-privileges, capabilities, limits, landlock ") &&
			       strstr(r.parts, ", seccomp") && !*r.missing
		       ? FINE
		       : 7;
}

static void allowed(void **state)
{
	char text[512];
	assert_int_equal(setrlimit(RLIMIT_CORE, &(struct rlimit){0}), 0);
	int status = in_child(work, NULL, text, sizeof(text));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != FINE)
		fail_msg("status %#x, found '%s'", status, text);
}

/* ---- kernels that lack it ---- */

struct lacking {
	long number; /* of the call that the kernel does not have; 0: all is there, but so is a
			thread */
	bool required;
	const char *missing;
};

static void *wait_for_ever(void *user)
{
	for (;;)
		nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
	return NULL;
}

/* As in a kernel without that call, and without prctl(PR_SET_SECCOMP) afterwards. */
static int hide(long number)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {ARRAY_LEN(f), f};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
		       ? -errno
		       : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int enter_lacking(const void *user)
{
	const struct lacking *l = user;
	struct cage_report r = {0};
	struct err err = {0};
	pthread_t thread;
	if (!l->number)
		pthread_create(&thread, NULL, wait_for_ever, NULL);
	else if (hide(l->number) < 0)
		return 1;
	int code = enter(l->required, &r, &err);
	fprintf(stderr, "%s%s", r.missing, err.text);
	return (code < 0) == l->required ? FINE : 2;
}

static void lacking(void **state)
{
	static const struct lacking cases[] = {
		{SYS_landlock_create_ruleset, false, "landlock: not in this kernel"},
		{SYS_landlock_create_ruleset, true,
		 "the worker cannot be confined as [worker] sandbox = require wants: landlock: not "
		 "in this kernel"},
		{SYS_seccomp, false, "seccomp: not in this kernel"},
		{SYS_seccomp, true,
		 "the worker cannot be confined as [worker] sandbox = require wants: seccomp: not "
		 "in this kernel"},
		{0, false, "landlock: threads that were there before it: 1"},
	};
	char text[512];
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int status = in_child(enter_lacking, &cases[i], text, sizeof(text));
		if (!WIFEXITED(status) || WEXITSTATUS(status) != FINE ||
		    strcmp(text, cases[i].missing) != 0)
			fail_msg("expected '%s': status %#x, found '%s'", cases[i].missing, status,
				 text);
	}
}

int main(void)
{
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1) {
		printf("skipped: this kernel has no Landlock\n");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forbidden), cmocka_unit_test(forbidden_in_silence),
		cmocka_unit_test(files),     cmocka_unit_test(allowed),
		cmocka_unit_test(lacking),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
