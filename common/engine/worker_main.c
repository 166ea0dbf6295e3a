/* tasuki-worker: runs the network for the daemon that started it. See worker_protocol.h.
 *
 * One thread does all the work: between any two batches it looks at what the daemon asks, then
 * does one batch of the first job, or of the training when there is no job and it is not paused.
 * Nothing here outlives the daemon. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/engine/denormals.h"
#include "common/engine/session.h"
#include "common/engine/worker_protocol.h"

#define LOG_BYTES_MAX (4 * 1024 * 1024) /* of what Darknet prints, then it begins anew */

double session_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

const char *session_class_name(const struct session *s, uint32_t c, char buf[16])
{
	if (c < s->classes.n)
		return s->classes.names[c];
	snprintf(buf, 16, "%u", c);
	return buf;
}

/* Darknet does not look at what malloc() returns. network.c clears errno before each call into
 * it, so a fault with ENOMEM there is, nearly always, memory that was not given: the last line of
 * the log says so, and the daemon passes it on. */
static void on_fault(int signo)
{
	static const char text[] =
		"\n" WORKER_OUT_OF_MEMORY "\n"; /* Darknet may be within a line */
	if (errno == ENOMEM && write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		errno = EIO;
	raise(signo); /* SA_RESETHAND: for good, once the handler is left */
}

static void prepare(void)
{
	struct sigaction fault = {.sa_handler = on_fault, .sa_flags = (int)SA_RESETHAND};
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG instead */
	signal(SIGINT, SIG_IGN);  /* of a terminal: the daemon decides */
	setvbuf(stdout, NULL, _IONBF, 0);
	denormals_off();
}

static void bound_log(void)
{
	struct stat st;
	if (fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_BYTES_MAX &&
	    ftruncate(STDERR_FILENO, 0) < 0)
		errno = 0;
}

static void run(struct session *s)
{
	for (;;) {
		bool training = s->training.id && !s->paused;
		int64_t wait_ms = s->jobs ? 0 : training ? train_wait_ms(s) : -1;
		size_t len;
		char *line = channel_line(s->channel, wait_ms, &len);
		if (line) {
			session_request(s, line, len);
			bound_log();
		} else if (s->jobs) {
			job_step(s);
		} else if (training && s->until_ms && clock_mono_ms() >= s->until_ms) {
			train_stop(s, -ETIME, "the time that it was given is over");
		} else if (training && train_wait_ms(s) == 0) {
			train_batch(s);
		}
	}
}

int main(int argc, char **argv)
{
	struct session s = {0};
	struct stat st;
	if (argc > 1 || fstat(WORKER_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr,
			"tasuki-worker is started by tasuki-agent, tasuki-trainer and tasuki; "
			"it takes no arguments.\n");
		return 2;
	}
	prepare();
	int r = channel_new(WORKER_FD, &s.channel);
	if (r < 0) {
		fprintf(stderr, "tasuki-worker: %s\n", strerror(-r));
		return 1;
	}
	run(&s);
}
