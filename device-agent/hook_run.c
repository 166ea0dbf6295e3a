/* The command is a program with arguments, without a shell between. It has a session of its own, so
 * that a signal reaches all that it started; what it writes comes through a pipe into the log, line
 * by line. Between fork() and exec() only async-signal-safe calls are made: the agent has threads.
 */
#include "device-agent/hook_run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/text.h"
#include "device-agent/hook.h"

#define TOLD_FILE      "on_swap.told" /* in the state folder: id of the checkpoint */
#define LINES_MAX      40             /* of one run that go into the log */
#define LINE_BYTES_MAX 300
#define FAILURE_MAX    96
#define GOODBYE_MS     500 /* for a command that runs when the agent ends */
#define VARIABLES_N    11

struct hook_run {
	struct loop *loop;
	const struct agent_conf *conf;
	void (*ended)(void *user, const char *failure);
	void *user;
	struct hook hook;
	struct agent_swap latest;
	char told_path[FILE_PATH_MAX];
	struct loop_source *timer, *exit_source, *output_source;
	pid_t pid; /* 0: none */
	int pidfd, output;
	char line[LINE_BYTES_MAX];
	size_t len;
	unsigned lines;
};

static void step(struct hook_run *h, enum hook_event_kind kind, const char *checkpoint);

/* ---- what it writes ---- */

static void end_line(struct hook_run *h)
{
	h->line[h->len] = 0;
	text_blank_controls(h->line);
	if (h->len && h->lines++ < LINES_MAX)
		log_info("device=%s on_swap: %s", h->conf->id, h->line);
	h->len = 0;
}

static int on_output(void *user, int fd, uint32_t events)
{
	struct hook_run *h = user;
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		loop_source_free(TAKE_PTR(h->output_source));
		return 0;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] == '\n')
			end_line(h);
		else if (h->len < sizeof(h->line) - 1)
			h->line[h->len++] = buf[i];
	}
	return 0;
}

static void close_output(struct hook_run *h)
{
	/* What it wrote last; a child that it left behind may hold the pipe open, and is not waited
	 * for. */
	for (int i = 0; h->output_source && i < LINES_MAX; i++)
		on_output(h, h->output, EPOLLIN);
	end_line(h);
	loop_source_free(TAKE_PTR(h->output_source));
	close(h->output);
	h->output = -1;
	if (h->lines > LINES_MAX)
		log_warning("device=%s on_swap: %u more lines are left out", h->conf->id,
			    h->lines - LINES_MAX);
}

/* ---- the command ---- */

static const char *const not_its_own[] = {
	"NOTIFY_SOCKET=", "WATCHDOG_PID=",   "WATCHDOG_USEC=", "LISTEN_PID=",
	"LISTEN_FDS=",    "LISTEN_FDNAMES=", "TASUKI_"};

static bool passed_on(const char *variable)
{
	for (size_t i = 0; i < ARRAY_LEN(not_its_own); i++)
		if (strncmp(variable, not_its_own[i], strlen(not_its_own[i])) == 0)
			return false;
	return true;
}

/* The agent's, but for what is between it and systemd, and the facts. text owns these. */
static char **environment(const struct hook_run *h, char *text[VARIABLES_N])
{
	const struct agent_swap *s = &h->latest;
	_cleanup_free_ char *state = realpath(h->conf->state, NULL);
	_cleanup_free_ char *cfg = realpath(h->conf->worker.cfg, NULL);
	size_t n = 0, kept = 0;
	while (environ && environ[n])
		n++;
	char **env = calloc(n + VARIABLES_N + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (passed_on(environ[i]))
			env[kept++] = environ[i];
	if (!env || !state || asprintf(&text[0], "TASUKI_CHECKPOINT=%s", s->checkpoint) < 0 ||
	    asprintf(&text[1], "TASUKI_PREVIOUS=%s", h->hook.told) < 0 ||
	    asprintf(&text[2], "TASUKI_ORIGIN=%s", s->origin) < 0 ||
	    asprintf(&text[3], s->n ? "TASUKI_ACCURACY=%.6f" : "TASUKI_ACCURACY=",
		     s->n ? (double)s->correct / (double)s->n : 0) < 0 ||
	    asprintf(&text[4], "TASUKI_N=%lld", (long long)s->n) < 0 ||
	    asprintf(&text[5], "TASUKI_CORRECT=%lld", (long long)s->correct) < 0 ||
	    asprintf(&text[6], "TASUKI_STATE=%s", state) < 0 ||
	    asprintf(&text[7], "TASUKI_WEIGHTS=%s/checkpoints/%s/weights", state, s->checkpoint) <
		    0 ||
	    asprintf(&text[8], "TASUKI_DEVICE=%s", h->conf->id) < 0 ||
	    asprintf(&text[9], "TASUKI_SITE=%s", h->conf->site) < 0 ||
	    asprintf(&text[10], "TASUKI_CFG=%s", cfg ? cfg : h->conf->worker.cfg) < 0) {
		free(env);
		return NULL;
	}
	for (int i = 0; i < VARIABLES_N; i++)
		env[kept++] = text[i];
	return env;
}

static void become(char **argv, char **env, int null, int output, pid_t parent)
{
	sigset_t none;
	setsid();
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int o = fcntl(output, F_DUPFD, 10);
	if (dup2(null, 0) < 0 || o < 0 || dup2(o, 1) < 0 || dup2(o, 2) < 0 ||
	    close_range(3, ~0u, 0) < 0)
		_exit(126);
	/* Two must not run when the agent is started again after a kill. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(126);
	execve(argv[0], argv, env);
	static const char text[] = "cannot be started: ";
	const char *why = strerrordesc_np(errno);
	if (write(2, text, sizeof(text) - 1) < 0 || !why || write(2, why, strlen(why)) < 0)
		_exit(126);
	_exit(127);
}

static int on_exit_event(void *user, int fd, uint32_t events);

static int watch(struct hook_run *h, int *output)
{
	h->pidfd = pidfd_open(h->pid, 0);
	if (h->pidfd < 0)
		return -errno;
	h->output = TAKE_FD(*output);
	h->len = h->lines = 0;
	int r = loop_add_fd(h->loop, h->output, EPOLLIN, on_output, h, &h->output_source);
	return r < 0 ? r
		     : loop_add_fd(h->loop, h->pidfd, EPOLLIN, on_exit_event, h, &h->exit_source);
}

static int start(struct hook_run *h)
{
	int pair[2];
	char *text[VARIABLES_N] = {0}, *argv[AGENT_HOOK_WORDS_MAX + 1] = {0};
	const char *word = h->conf->hook.words;
	for (size_t i = 0; i < h->conf->hook.n; i++, word += strlen(word) + 1)
		argv[i] = (char *)word;
	char **env = environment(h, text);
	_cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int r = !env ? -ENOMEM : null < 0 || pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
	if (r == 0) {
		_cleanup_close_ int in = pair[0], out = pair[1];
		/* Its end must block: nobody expects EAGAIN of standard output. */
		pid_t parent = getpid(), pid = fcntl(out, F_SETFL, 0) < 0 ? -1 : fork();
		if (pid == 0)
			become(argv, env, null, out, parent);
		r = pid < 0 ? -errno : 0;
		h->pid = MAX_OF(pid, 0);
		if (r == 0)
			r = watch(h, &in);
	}
	for (int i = 0; i < VARIABLES_N; i++)
		free(text[i]);
	free(env);
	return r;
}

static void signal_all(const struct hook_run *h, int sig)
{
	/* Of its session and group; itself, where it had no time to make them. */
	if (kill(-h->pid, sig) < 0)
		kill(h->pid, sig);
}

/* ---- its end ---- */

static void forget_process(struct hook_run *h)
{
	loop_source_free(TAKE_PTR(h->exit_source));
	if (h->output >= 0)
		close_output(h);
	if (h->pidfd >= 0)
		close(h->pidfd);
	h->pidfd = -1;
	h->pid = 0;
}

static void say_failure(const struct hook_run *h, int status, bool timed_out,
			char text[FAILURE_MAX])
{
	text[0] = 0;
	if (timed_out)
		snprintf(text, FAILURE_MAX, "on_swap: not done within %lld s, ended",
			 (long long)(h->hook.timeout_ms / 1000));
	else if (WIFSIGNALED(status))
		snprintf(text, FAILURE_MAX, "on_swap: ended by SIG%s",
			 sigabbrev_np(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		snprintf(text, FAILURE_MAX, "on_swap: exit status %d", WEXITSTATUS(status));
}

static void tell_end(struct hook_run *h, const char *checkpoint, const char *failure)
{
	if (*failure)
		log_warning("device=%s checkpoint=%.12s %s: %s", h->conf->id, checkpoint, failure,
			    h->conf->hook.words);
	else
		log_info("device=%s checkpoint=%.12s on_swap: done", h->conf->id, checkpoint);
	h->ended(h->user, failure);
}

static int on_exit_event(void *user, int fd, uint32_t events)
{
	struct hook_run *h = user;
	char failure[FAILURE_MAX], checkpoint[HASH_SIZE];
	int status = 0;
	if (waitpid(h->pid, &status, WNOHANG) == 0)
		return 0;
	bool timed_out = h->hook.phase != HOOK_RUNNING;
	if (timed_out)
		signal_all(h, SIGKILL); /* those that it started, too */
	forget_process(h);
	say_failure(h, status, timed_out, failure);
	memcpy(checkpoint, h->hook.running, sizeof(checkpoint));
	tell_end(h, checkpoint, failure);
	step(h, HOOK_ENDED, NULL);
	return 0;
}

static void keep(struct hook_run *h)
{
	struct err err = {0};
	if (file_write(h->told_path, h->hook.told, strlen(h->hook.told), &err) < 0)
		log_warning("device=%s on_swap: it will be run again at the next start: %s",
			    h->conf->id, err.text);
}

static void step(struct hook_run *h, enum hook_event_kind kind, const char *checkpoint)
{
	const struct hook_event ev = {kind, checkpoint};
	struct hook_actions a;
	hook_step(&h->hook, &ev, clock_mono_ms(), &a);
	if (a.keep)
		keep(h);
	if (a.signal)
		signal_all(h, a.signal);
	int r = a.start ? start(h) : 0;
	if (r < 0) {
		char failure[FAILURE_MAX];
		if (h->pid)
			kill(h->pid, SIGKILL), waitpid(h->pid, NULL, 0);
		forget_process(h);
		snprintf(failure, sizeof(failure), "on_swap: cannot be started: %s", strerror(-r));
		tell_end(h, h->hook.running, failure);
		step(h, HOOK_ENDED, NULL); /* nothing is due: that was the latest */
		return;
	}
	loop_timer_at(h->timer, hook_deadline_ms(&h->hook));
}

static int on_timer(void *user)
{
	step(user, HOOK_TIMER, NULL);
	return 0;
}

void hook_run_swap(struct hook_run *h, const struct agent_swap *swap)
{
	if (!h)
		return;
	h->latest = *swap;
	step(h, HOOK_SWAP, swap->checkpoint);
}

const char *hook_run_telling(const struct hook_run *h)
{
	return h ? h->hook.running : "";
}

/* ---- start and end ---- */

int hook_run_new(struct loop *loop, const struct agent_conf *conf,
		 void (*ended)(void *user, const char *failure), void *user, struct hook_run **ret,
		 struct err *err)
{
	*ret = NULL;
	if (!conf->hook.n)
		return 0;
	struct hook_run *h = calloc(1, sizeof(*h));
	if (!h)
		return err_errno(err, -ENOMEM, "on_swap");
	*h = (struct hook_run){.loop = loop,
			       .conf = conf,
			       .ended = ended,
			       .user = user,
			       .pidfd = -1,
			       .output = -1};
	_cleanup_free_ char *told = NULL;
	size_t len;
	int r = file_path(h->told_path, sizeof(h->told_path), "%s/" TOLD_FILE, conf->state);
	if (r == 0 && file_exists(h->told_path))
		file_read(h->told_path, HASH_HEX, &told, &len,
			  NULL); /* damaged: it is told again */
	hook_init(&h->hook, conf->hook.timeout_s * 1000, told && hash_valid(told) ? told : "");
	if (r == 0)
		r = loop_add_timer(loop, on_timer, h, &h->timer);
	if (r < 0) {
		free(h);
		return err_errno(err, r, "on_swap");
	}
	*ret = h;
	return 0;
}

void hook_run_free(struct hook_run *h)
{
	if (!h)
		return;
	if (h->pid) {
		signal_all(h, SIGTERM);
		for (int64_t end = clock_mono_ms() + GOODBYE_MS;
		     clock_mono_ms() < end && waitpid(h->pid, NULL, WNOHANG) == 0;)
			usleep(10000);
		signal_all(h, SIGKILL);
		waitpid(h->pid, NULL, 0);
		forget_process(h);
	}
	loop_source_free(h->timer);
	free(h);
}
