/* tasuki-worker as it would be if what it reads had taken it over: the real one, linked anew, whose
 * second training is a deed instead. Which one says the name of the program's file: rogue-DEED. A
 * deed that was refused fails the request with "rogue: refused: ..."; one that was not, with
 * "rogue: done: ...". */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/session.h"

#define MEMORY_STEP ((size_t)64 << 20)

int __real_train_begin(struct session *s, uint64_t id, const struct json *args, struct err *err);
int __wrap_train_begin(struct session *s, uint64_t id, const struct json *args, struct err *err);

static char
	out[FILE_PATH_MAX]; /* where the request wants its checkpoint: in STATE/.store-tmp/out */

/* A deed returns 0: it was done; or a negative errno: refused. */
static int open_it(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : close(fd);
}

static int do_socket(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 &&
			  errno != ECONNREFUSED)
		       ? -errno
		       : 0;
}

static int do_passwd(void)
{
	return open_it("/etc/passwd", O_RDONLY);
}

static int do_fork(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return pid < 0 ? -errno : waitpid(pid, NULL, 0) < 0 ? -errno : 0;
}

static int do_spawn(void)
{
	char *argv[] = {"true", NULL};
	pid_t pid;
	int r = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, NULL);
	return r ? -r : waitpid(pid, NULL, 0) < 0 ? -errno : 0;
}

static int do_exec(void)
{
	char *argv[] = {"sh", "-c", "echo rogue: done: exec >&2", NULL}, *env[] = {NULL};
	execve("/bin/sh", argv, env);
	return -errno;
}

static int do_memory(void)
{
	for (size_t all = 0; all < (size_t)4 << 30; all += MEMORY_STEP) {
		char *p = mmap(NULL, MEMORY_STEP, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return -errno;
		memset(p, 1, MEMORY_STEP);
		if (all >= (size_t)512 << 20)
			return 0;
	}
	return 0;
}

static int do_hang(void)
{
	for (volatile int i = 0; i >= 0; i = 1)
		;
	return 0;
}

/* STATE/NAME */
static const char *in_state(const char *name)
{
	static char path[2 * FILE_PATH_MAX];
	const char *end = strstr(out, "/.store-tmp/");
	snprintf(path, sizeof(path), "%.*s/%s", end ? (int)(end - out) : 0, out, name);
	return path;
}

static int do_outside(void)
{
	return open_it(in_state("rogue"), O_WRONLY | O_CREAT);
}

/* What is in use, and what the daemon remembers. */
static int do_active(void)
{
	int r = open_it(in_state("active.weights"), O_WRONLY);
	return r < 0 ? r : truncate(in_state("active.weights"), 20) < 0 ? -errno : 0;
}

static int do_secret(void)
{
	return open_it(in_state("state.json"), O_RDONLY);
}

static int do_link(void)
{
	char path[FILE_PATH_MAX + 8];
	snprintf(path, sizeof(path), "%s.link", out);
	return symlink("/etc/passwd", path) < 0 ? -errno : unlink(path);
}

static int do_signal(void)
{
	return kill(getppid(), SIGTERM) < 0 ? -errno : 0;
}

static int do_tgkill(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), SIGTERM) < 0 ? -errno : 0;
}

static int do_parent(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", getppid());
	return open_it(path, O_RDWR);
}

static int do_ptrace(void)
{
	return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) < 0 ? -errno : 0;
}

static int do_sigsys(void)
{
	signal(SIGSYS, SIG_IGN); /* to go on unseen */
	return do_socket();
}

static int do_limit(void)
{
	const struct rlimit most = {1, 1}; /* it was started with none */
	return setrlimit(RLIMIT_CORE, &most) < 0 ? -errno : 0;
}

static const struct {
	const char *name;
	int (*perform)(void);
} deeds[] = {
	{"socket", do_socket}, {"passwd", do_passwd},   {"fork", do_fork},
	{"spawn", do_spawn},   {"exec", do_exec},       {"memory", do_memory},
	{"hang", do_hang},     {"outside", do_outside}, {"active", do_active},
	{"secret", do_secret}, {"link", do_link},       {"signal", do_signal},
	{"tgkill", do_tgkill}, {"parent", do_parent},   {"ptrace", do_ptrace},
	{"sigsys", do_sigsys}, {"limit", do_limit},
};

/* Writes into what it handed over already, over and over. */
static void tamper(int fd)
{
	while (pwrite(fd, "rogue", 5, 4096) > 0)
		usleep(1000);
}

/* Beside the training: `out` comes by a rename of out.tmp, so it is the inode that counts. */
static void *tamper_later(void *user)
{
	int fd;
	char path[FILE_PATH_MAX];
	file_path(path, sizeof(path), "%s", out);
	while ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
		usleep(100);
	usleep(300000); /* it is verified and stored meanwhile */
	tamper(fd);
	return NULL;
}

static const char *deed(void)
{
	static char path[FILE_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[MAX_OF(n, 0)] = 0;
	const char *name = strstr(path, "rogue-");
	return name ? name + 6 : "";
}

int __wrap_train_begin(struct session *s, uint64_t id, const struct json *args, struct err *err)
{
	static unsigned n;
	const char *name = deed();
	pthread_t thread;
	json_get_str(args, "out", out, sizeof(out), NULL);
	if (strcmp(name, "tamper") == 0 && n++ == 0)
		pthread_create(&thread, NULL, tamper_later, NULL);
	if (strcmp(name, "tamper") == 0 || n++ == 0)
		return __real_train_begin(s, id, args, err);
	for (size_t i = 0; i < ARRAY_LEN(deeds); i++) {
		if (strcmp(name, deeds[i].name) != 0)
			continue;
		int r = deeds[i].perform();
		return r < 0 ? err_set(err, r, "rogue: refused: %s: %s", name, strerror(-r))
			     : err_set(err, -EINVAL, "rogue: done: %s", name);
	}
	return err_set(err, -EINVAL, "rogue: no deed is called '%s'", name);
}
