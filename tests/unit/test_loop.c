/* The epoll loop: fds, timers, signals, and sources that go away while they are handled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/loop.h"
#include "common/base/mem.h"

/* What a callback sees and leaves behind. */
struct probe {
	struct loop *loop;
	struct loop_source *source, *victim;
	int calls, signo, ret;
	uint32_t events;
	bool free_self, exit;
};

static int act(struct probe *p)
{
	p->calls++;
	if (p->free_self) {
		loop_source_free(p->source);
		p->source = NULL;
	}
	if (p->victim) {
		loop_source_free(p->victim);
		p->victim = NULL;
	}
	if (p->exit)
		loop_exit(p->loop, 5);
	return p->ret;
}

static int on_fd(void *user, int fd, uint32_t events)
{
	struct probe *p = user;
	char c;
	p->events = events;
	if (events & EPOLLIN && read(fd, &c, 1) < 0)
		return -errno;
	return act(p);
}

static int on_timer(void *user)
{
	return act(user);
}

static int on_signal(void *user, int signo)
{
	struct probe *p = user;
	p->signo = signo;
	return act(p);
}

static struct loop *loop;
static int pipe_a[2], pipe_b[2];

static int setup(void **state)
{
	return loop_new(&loop) || pipe2(pipe_a, O_CLOEXEC | O_NONBLOCK) ||
	       pipe2(pipe_b, O_CLOEXEC | O_NONBLOCK);
}

static int teardown(void **state)
{
	loop_free(loop);
	for (int i = 0; i < 2; i++) {
		close(pipe_a[i]);
		close(pipe_b[i]);
	}
	return 0;
}

static void put(int fd)
{
	assert_int_equal(write(fd, "x", 1), 1);
}

static void fd_is_reported(void **state)
{
	struct probe p = {.loop = loop};
	assert_int_equal(loop_add_fd(loop, pipe_a[0], EPOLLIN, on_fd, &p, &p.source), 0);
	assert_int_equal(loop_once(loop, 0), 0);
	assert_int_equal(p.calls, 0);
	put(pipe_a[1]);
	assert_int_equal(loop_once(loop, 1000), 0);
	assert_int_equal(p.calls, 1);
	assert_int_equal(p.events, EPOLLIN);
	assert_int_equal(loop_fd_events(p.source, 0), 0);
	put(pipe_a[1]);
	assert_int_equal(loop_once(loop, 0), 0);
	assert_int_equal(p.calls, 1);
	assert_int_equal(loop_fd_events(p.source, EPOLLIN), 0);
	assert_int_equal(loop_once(loop, 0), 0);
	assert_int_equal(p.calls, 2);
	loop_source_free(p.source);
	put(pipe_a[1]);
	assert_int_equal(loop_once(loop, 0), 0);
	assert_int_equal(p.calls, 2);
}

static void fd_that_cannot_be_watched_is_refused(void **state)
{
	struct loop_source *s = (struct loop_source *)1;
	assert_int_equal(loop_add_fd(loop, -1, EPOLLIN, on_fd, NULL, &s), -EBADF);
	assert_ptr_equal(s, (struct loop_source *)1);
	struct probe p = {.loop = loop};
	assert_int_equal(loop_add_fd(loop, pipe_a[0], EPOLLIN, on_fd, &p, &p.source), 0);
	assert_int_equal(loop_add_fd(loop, pipe_a[0], EPOLLIN, on_fd, &p, &s), -EEXIST);
	loop_source_free(p.source);
}

static void timer_fires_once_and_not_early(void **state)
{
	struct probe p = {.loop = loop};
	assert_int_equal(loop_add_timer(loop, on_timer, &p, &p.source), 0);
	assert_int_equal(loop_once(loop, 5), 0);
	assert_int_equal(p.calls, 0); /* disarmed at first */
	int64_t at = clock_mono_ms() + 20;
	assert_int_equal(loop_timer_at(p.source, at), 0);
	assert_int_equal(loop_once(loop, 1000), 0);
	assert_int_equal(p.calls, 1);
	assert_true(clock_mono_ms() >= at);
	assert_int_equal(loop_once(loop, 5), 0);
	assert_int_equal(p.calls, 1);
	loop_source_free(p.source);
}

static void timer_takes_past_times_and_is_disarmed(void **state)
{
	struct probe p = {.loop = loop};
	assert_int_equal(loop_add_timer(loop, on_timer, &p, &p.source), 0);
	static const int64_t past[] = {0, 1, 999};
	for (size_t i = 0; i < ARRAY_LEN(past); i++) {
		assert_int_equal(loop_timer_at(p.source, past[i]), 0);
		assert_int_equal(loop_once(loop, 1000), 0);
		assert_int_equal(p.calls, (int)i + 1);
	}
	loop_timer_at(p.source, clock_mono_ms());
	loop_timer_at(p.source, -1);
	assert_int_equal(loop_once(loop, 5), 0);
	assert_int_equal(p.calls, 3);
	loop_source_free(p.source);
}

/* In a world of its own that claims to have slept for 1,000 s: what counts time asleep differs from
 * what does not, and a timer is set on the scale of clock_mono_ms(). The exit status tells. */
static int after_sleep(void)
{
	struct probe p = {.loop = NULL};
	int64_t slept_ms = clock_mono_ms() - clock_awake_ms();
	if (slept_ms < 999000)
		return 1;
	if (loop_new(&p.loop) < 0 || loop_add_timer(p.loop, on_timer, &p, &p.source) < 0)
		return 2;
	int64_t at = clock_mono_ms() + 30;
	loop_timer_at(p.source, at);
	if (loop_once(p.loop, 5000) < 0 || p.calls != 1)
		return 3;
	return clock_mono_ms() >= at ? 0 : 4;
}

/* Exit statuses: after_sleep()'s; 77: such worlds cannot be made here. */
static int in_time_namespace(void)
{
	static const char offset[] = "boottime 1000 0\n";
	int fd, status;
	if (unshare(CLONE_NEWTIME) < 0)
		return 77;
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, offset, strlen(offset)) != (ssize_t)strlen(offset))
		return 77;
	pid_t pid = fork(); /* only children live in it */
	if (pid == 0)
		_exit(after_sleep());
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 5;
}

static void time_goes_on_while_the_machine_sleeps(void **state)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(in_time_namespace());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int postpone(void *user)
{
	struct probe *p = user;
	p->calls++;
	return loop_timer_at(p->victim, clock_mono_ms() + 100000);
}

/* Two timers are due in one round; whichever comes first puts the other off. */
static void timer_put_off_in_its_round_stays_quiet(void **state)
{
	struct probe a = {.loop = loop}, b = {.loop = loop};
	assert_int_equal(loop_add_timer(loop, postpone, &a, &a.source), 0);
	assert_int_equal(loop_add_timer(loop, postpone, &b, &b.source), 0);
	a.victim = b.source;
	b.victim = a.source;
	loop_timer_at(a.source, 0);
	loop_timer_at(b.source, 0);
	usleep(1000);
	assert_int_equal(loop_once(loop, 100), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_source_free(a.source);
	loop_source_free(b.source);
}

static void signal_comes_through_the_loop(void **state)
{
	struct probe p = {.loop = loop};
	assert_int_equal(loop_add_signal(loop, SIGUSR1, on_signal, &p, &p.source), 0);
	kill(getpid(), SIGUSR1);
	assert_int_equal(loop_once(loop, 1000), 0);
	assert_int_equal(p.calls, 1);
	assert_int_equal(p.signo, SIGUSR1);
	loop_source_free(p.source);
}

static void source_may_free_itself(void **state)
{
	struct probe fd = {.loop = loop, .free_self = true};
	struct probe timer = fd, sig = fd;
	assert_int_equal(loop_add_fd(loop, pipe_a[0], EPOLLIN, on_fd, &fd, &fd.source), 0);
	assert_int_equal(loop_add_timer(loop, on_timer, &timer, &timer.source), 0);
	assert_int_equal(loop_add_signal(loop, SIGUSR1, on_signal, &sig, &sig.source), 0);
	put(pipe_a[1]);
	put(pipe_a[1]);
	loop_timer_at(timer.source, 0);
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_once(loop, 5), 0);
	assert_int_equal(fd.calls, 1);
	assert_int_equal(timer.calls, 1);
	assert_int_equal(sig.calls, 1);
}

/* Both are ready in one round: the first to run frees the other, which then must not run. */
static void source_may_free_another_in_its_round(void **state)
{
	struct probe a = {.loop = loop}, b = {.loop = loop};
	assert_int_equal(loop_add_fd(loop, pipe_a[0], EPOLLIN, on_fd, &a, &a.source), 0);
	assert_int_equal(loop_add_fd(loop, pipe_b[0], EPOLLIN, on_fd, &b, &b.source), 0);
	a.victim = b.source;
	b.victim = a.source;
	put(pipe_a[1]);
	put(pipe_b[1]);
	assert_int_equal(loop_once(loop, 100), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_source_free(a.calls ? a.source : b.source);
}

static int nested(void *user, int fd, uint32_t events)
{
	struct probe *p = user;
	char c;
	p->calls++;
	assert_int_equal(read(fd, &c, 1), 1);
	loop_source_free(p->victim);
	/* This inner round must not free what the outer one still has to look at. */
	return p->calls + ((struct probe *)p->loop)->calls == 1 ? loop_once(loop, 0) : 0;
}

static void rounds_may_nest(void **state)
{
	/* `loop` of each names its partner here. */
	struct probe a = {0}, b = {0};
	a.loop = (struct loop *)&b;
	b.loop = (struct loop *)&a;
	assert_int_equal(loop_add_fd(loop, pipe_a[0], EPOLLIN, nested, &a, &a.source), 0);
	assert_int_equal(loop_add_fd(loop, pipe_b[0], EPOLLIN, nested, &b, &b.source), 0);
	a.victim = b.source;
	b.victim = a.source;
	put(pipe_a[1]);
	put(pipe_b[1]);
	assert_int_equal(loop_once(loop, 100), 0);
	assert_int_equal(a.calls + b.calls, 1);
	loop_source_free(a.calls ? a.source : b.source);
}

static void run_ends_with_its_code(void **state)
{
	struct probe p = {.loop = loop, .exit = true};
	assert_int_equal(loop_add_timer(loop, on_timer, &p, &p.source), 0);
	for (int i = 1; i <= 2; i++) {
		loop_timer_at(p.source, 0);
		assert_int_equal(loop_run(loop), 5);
		assert_int_equal(p.calls, i);
	}
	loop_exit(loop, 3); /* before it runs */
	assert_int_equal(loop_run(loop), 3);
	loop_source_free(p.source);
}

static void failing_callback_ends_run(void **state)
{
	struct probe p = {.loop = loop, .ret = -EPROTO};
	assert_int_equal(loop_add_timer(loop, on_timer, &p, &p.source), 0);
	loop_timer_at(p.source, 0);
	assert_int_equal(loop_run(loop), -EPROTO);
	loop_source_free(p.source);
	loop_source_free(NULL);
	loop_free(NULL);
}

int main(void)
{
#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		LOOP_TEST(fd_is_reported),
		LOOP_TEST(fd_that_cannot_be_watched_is_refused),
		LOOP_TEST(timer_fires_once_and_not_early),
		LOOP_TEST(timer_takes_past_times_and_is_disarmed),
		LOOP_TEST(time_goes_on_while_the_machine_sleeps),
		LOOP_TEST(timer_put_off_in_its_round_stays_quiet),
		LOOP_TEST(signal_comes_through_the_loop),
		LOOP_TEST(source_may_free_itself),
		LOOP_TEST(source_may_free_another_in_its_round),
		LOOP_TEST(rounds_may_nest),
		LOOP_TEST(run_ends_with_its_code),
		LOOP_TEST(failing_callback_ends_run),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
