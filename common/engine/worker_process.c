/* Between fork() and exec() only async-signal-safe calls are made: the daemon has threads. */
#include "common/engine/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/worker_protocol.h"

#define PROGRAM        "tasuki-worker"
#define LOG_TAIL_BYTES 2048

static bool runnable(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool find_in_path(char path[1024])
{
	const char *dirs = getenv("PATH");
	while (dirs && *dirs) {
		size_t n = strcspn(dirs, ":");
		if (file_path(path, 1024, "%.*s/" PROGRAM, (int)n, dirs) == 0 && n &&
		    runnable(path))
			return true;
		dirs += n + (dirs[n] == ':');
	}
	return false;
}

int worker_process_find(const struct worker_conf *conf, char path[1024], struct err *err)
{
	static const char *const places[] = {"%s/" PROGRAM, "%s/../common/engine/" PROGRAM,
					     "%s/../../common/engine/" PROGRAM};
	char self[1024];
	if (*conf->program) {
		if (!runnable(conf->program))
			return err_set(err, -ENOENT, "%s: no such program", conf->program);
		memcpy(path, conf->program, 1024);
		return 0;
	}
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = 0;
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = 0;
	for (size_t i = 0; slash && i < ARRAY_LEN(places); i++) {
		const char *tail = places[i] + 2;
		if (file_path(path, 1024, "%s%s", self, tail) == 0 && runnable(path))
			return 0;
	}
	if (find_in_path(path))
		return 0;
	return err_set(err, -ENOENT, PROGRAM ": found neither beside this program (%s) nor in PATH",
		       slash ? self : "?");
}

static int open_log(const struct worker_conf *conf, struct err *err)
{
	/* Without a file its last words are still wanted. */
	int fd = *conf->log_path
			 ? open(conf->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640)
			 : memfd_create("worker-log", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "%s",
				 *conf->log_path ? conf->log_path : "memfd_create");
	if (!*conf->log_path && fcntl(fd, F_SETFL, O_APPEND) < 0) {
		close(fd);
		return err_errno(err, -errno, "worker log");
	}
	return fd;
}

static void die(const char *what, const char *program)
{
	const char *reason = strerrordesc_np(errno);
	const char *parts[] = {"cannot start ", program, ": ", what, reason ? reason : "?", "\n"};
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
			break;
	_exit(127);
}

/* Where a device runs out of memory all the same, the worker goes rather than the agent: another
 * one is started. */
static void offer_to_oom_killer(void)
{
	static const char score[] = "500";
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	if (fd < 0)
		return;
	if (write(fd, score, sizeof(score) - 1) < 0)
		errno = 0; /* it is a hint */
	close(fd);
}

struct child {
	const char *program;
	char **env;
	const struct worker_conf *conf;
	int socket, log, null;
	pid_t parent;
};

/* In the child. The socket moves out of the way of 0..3 first. */
static void become_worker(const struct child *c)
{
	sigset_t none;
	int s = fcntl(c->socket, F_DUPFD, 10), log = fcntl(c->log, F_DUPFD, 10);
	int frames = c->conf->frames ? fcntl(c->conf->frames_fd, F_DUPFD, 10) : -1;
	if (s < 0 || log < 0 || dup2(c->null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
	    dup2(s, WORKER_FD) < 0 || (c->conf->frames && dup2(frames, WORKER_FRAMES_FD) < 0))
		_exit(127);
	if (close_range(c->conf->frames ? WORKER_FRAMES_FD + 1 : WORKER_FD + 1, ~0u, 0) < 0)
		die("close_range: ", c->program);
	/* SIGXFSZ stays ignored across exec: what a build with coverage writes there must not kill
	 * it. */
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, sig == SIGXFSZ ? SIG_IGN : SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The daemon may be gone before this took hold: then there is another parent. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != c->parent)
		_exit(127);
	if (CPU_COUNT(&c->conf->cpus) &&
	    sched_setaffinity(0, sizeof(c->conf->cpus), &c->conf->cpus) < 0)
		die("processors: ", c->program);
	if (c->conf->nice && setpriority(PRIO_PROCESS, 0, c->conf->nice) < 0)
		die("nice: ", c->program);
	struct rlimit core = {0};
	setrlimit(RLIMIT_CORE, &core);
	offer_to_oom_killer();
	char *argv[] = {(char *)PROGRAM, NULL};
	execve(c->program, argv, c->env);
	die("", c->program);
}

static bool begins(const char *variable, const char *const *with, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(variable, with[i], strlen(with[i])) == 0)
			return true;
	return false;
}

static bool is_passed_on(const char *variable)
{
	static const char *const ours[] = {"OPENBLAS_NUM_THREADS=", "GOMP_SPINCOUNT="};
	static const char *const known[] = {
		"PATH=",     "TMPDIR=", "TZ=",	   "LANG=",   "LC_",   "LD_",	"GLIBC_TUNABLES=", "MALLOC_",
		"OMP_",	     "GOMP_",	"OPENBLAS_", "DNNL_", "ONEDNN_", "ASAN_", "UBSAN_",	  "LSAN_",
		"TSAN_",     "GCOV_",	"LLVM_PROFILE_", "QEMU_", "VALGRIND_"};
	return begins(variable, known, ARRAY_LEN(known)) &&
	       !begins(variable, ours, ARRAY_LEN(ours));
}

/* Of our environment what C library, threads, matrix products and tools for tests look at: nothing in
 * the rest, which may be secret, is for a process that reads what comes from others. And:
 * - one thread for OpenBLAS until the worker says otherwise: those it starts on being loaded would
 *   not have the worker's floating point mode;
 * - threads that wait for each other look so many times before they sleep. libgomp's default looks
 *   for milliseconds, during which the one that is waited for may not get the CPU: measured, a
 *   tenth of the speed as soon as other programs want it too; with this, a twentieth is lost alone.
 * The array is the caller's. */
static char **environment(void)
{
	static char one_thread[] = "OPENBLAS_NUM_THREADS=1", spin[] = "GOMP_SPINCOUNT=1000";
	size_t n = 0, kept = 0;
	while (environ && environ[n])
		n++;
	char **env = calloc(n + 3, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (is_passed_on(environ[i]))
			env[kept++] = environ[i];
	if (env) {
		env[kept++] = one_thread;
		env[kept] = spin;
	}
	return env;
}

int worker_process_start(struct worker_process *p, const char *program,
			 const struct worker_conf *conf, struct err *err)
{
	int pair[2];
	_cleanup_close_ int log = open_log(conf, err);
	if (log < 0)
		return log;
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_free_ char **env = environment();
	if (null < 0 || !env)
		return err_errno(err, null < 0 ? -errno : -ENOMEM, "/dev/null");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, -errno, "socketpair");
	_cleanup_close_ int ours = pair[0], theirs = pair[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(err, -errno, "socketpair");
	struct child c = {program, env, conf, theirs, log, null, getpid()};
	struct stat st = {0};
	fstat(log, &st);
	pid_t pid = fork();
	if (pid < 0)
		return err_errno(err, -errno, "%s: fork", program);
	if (pid == 0)
		become_worker(&c);
	*p = (struct worker_process){
		.pid = pid, .fd = TAKE_FD(ours), .log_fd = TAKE_FD(log), .log_start = st.st_size};
	return 0;
}

/* The last line that was printed since the start; "" when there is none. */
static void last_line(const struct worker_process *p, char *line, size_t size)
{
	char tail[LOG_TAIL_BYTES + 1];
	struct stat st;
	line[0] = 0;
	if (p->log_fd < 0 || fstat(p->log_fd, &st) < 0)
		return;
	/* Shorter than at the start: it began anew. */
	off_t from = st.st_size < p->log_start ? 0 : p->log_start;
	from = MAX_OF(from, st.st_size - LOG_TAIL_BYTES);
	ssize_t n = pread(p->log_fd, tail, LOG_TAIL_BYTES, from);
	while (n > 0 && (unsigned char)tail[n - 1] <= ' ')
		n--;
	if (n <= 0)
		return;
	tail[n] = 0;
	char *begin = strrchr(tail, '\n');
	begin = begin ? begin + 1 : tail;
	for (char *c = begin; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
			*c = '?'; /* for logs and status messages */
	snprintf(line, size, "%.*s", (int)size - 1, begin);
}

void worker_process_end(struct worker_process *p, struct err *ret)
{
	char line[200], how[100] = "gone";
	int status;
	if (!p->pid)
		return;
	kill(p->pid, SIGKILL);
	pid_t r;
	do {
		r = waitpid(p->pid, &status, 0);
	} while (r < 0 && errno == EINTR);
	if (r == p->pid && WIFEXITED(status))
		snprintf(how, sizeof(how), "exited with status %d", WEXITSTATUS(status));
	else if (r == p->pid && WIFSIGNALED(status))
		snprintf(how, sizeof(how), "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
	last_line(p, line, sizeof(line));
	err_set(ret, -ECONNRESET, "%s%s%s%s", how, *line ? ", last line: '" : "", line,
		*line ? "'" : "");
	bool forbidden = strncmp(line, WORKER_FORBIDDEN, strlen(WORKER_FORBIDDEN)) == 0 ||
			 (r == p->pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	err_categorize(ret, strcmp(line, WORKER_OUT_OF_MEMORY) == 0 ? ERR_MEMORY
			    : forbidden				      ? ERR_FORBIDDEN
								      : ERR_WORKER);
	close(p->fd);
	if (p->log_fd >= 0)
		close(p->log_fd);
	*p = (struct worker_process){.fd = -1, .log_fd = -1};
}
