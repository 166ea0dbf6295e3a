/* Every source is an fd under epoll: a timerfd for a timer, a signalfd for a signal. A source
 * freed while its round's events are still being handled is only marked, and freed after the
 * round, so that no event can reach freed memory. */
#include "common/base/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/base/mem.h"

#define EVENTS_PER_ROUND 32

enum source_kind { SOURCE_FD, SOURCE_TIMER, SOURCE_SIGNAL };

struct loop_source {
	struct loop *loop;
	enum source_kind kind;
	int fd;
	bool dead;
	union {
		loop_fd_cb fd_cb;
		loop_timer_cb timer_cb;
		loop_signal_cb signal_cb;
	};
	void *user;
	struct loop_source *next_dead;
};

struct loop {
	int epoll_fd;
	unsigned rounds; /* loop_once() calls that have not returned: callbacks may nest them */
	bool exiting;
	int exit_code;
	struct loop_source *dead;
};

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0) {
		int r = -errno;
		free(l);
		return r;
	}
	/* A peer that went away and a file that may not grow are errors to handle, no reason to die. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	*ret = l;
	return 0;
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_source *s = l->dead;
		l->dead = s->next_dead;
		free(s);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	bury(l);
	close(l->epoll_fd);
	free(l);
}

int loop_fd(const struct loop *l)
{
	return l->epoll_fd;
}

static int add(struct loop *l, enum source_kind kind, int fd, uint32_t events, void *user,
	       struct loop_source **ret)
{
	struct loop_source *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct loop_source){.loop = l, .kind = kind, .fd = fd, .user = user};
	struct epoll_event ev = {.events = events, .data.ptr = s};
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int r = -errno;
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_cb cb, void *user,
		struct loop_source **ret)
{
	int r = add(l, SOURCE_FD, fd, events, user, ret);
	if (r == 0)
		(*ret)->fd_cb = cb;
	return r;
}

int loop_fd_events(struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};
	return epoll_ctl(s->loop->epoll_fd, EPOLL_CTL_MOD, s->fd, &ev) < 0 ? -errno : 0;
}

int loop_add_timer(struct loop *l, loop_timer_cb cb, void *user, struct loop_source **ret)
{
	_cleanup_close_ int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	int r = add(l, SOURCE_TIMER, fd, EPOLLIN, user, ret);
	if (r < 0)
		return r;
	(*ret)->timer_cb = cb;
	TAKE_FD(fd);
	return 0;
}

int loop_timer_at(struct loop_source *s, int64_t at_ms)
{
	struct itimerspec it = {0};
	if (at_ms >= 0) {
		/* An all-zero time disarms a timerfd: "now" is one nanosecond after boot. */
		it.it_value.tv_sec = (time_t)(at_ms / 1000);
		it.it_value.tv_nsec = (long)(at_ms % 1000) * 1000000 + 1;
	}
	return timerfd_settime(s->fd, TFD_TIMER_ABSTIME, &it, NULL) < 0 ? -errno : 0;
}

int loop_add_signal(struct loop *l, int signo, loop_signal_cb cb, void *user,
		    struct loop_source **ret)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, signo);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	_cleanup_close_ int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	int r = add(l, SOURCE_SIGNAL, fd, EPOLLIN, user, ret);
	if (r < 0)
		return r;
	(*ret)->signal_cb = cb;
	TAKE_FD(fd);
	return 0;
}

void loop_source_free(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	struct loop *l = s->loop;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->kind != SOURCE_FD)
		close(s->fd);
	s->dead = true;
	if (l->rounds) {
		s->next_dead = l->dead;
		l->dead = s;
	} else {
		free(s);
	}
}

static int dispatch(struct loop_source *s, uint32_t events)
{
	uint64_t ticks;
	struct signalfd_siginfo si;
	switch (s->kind) {
	case SOURCE_TIMER:
		/* Re-armed meanwhile: nothing to read, and nothing due. */
		return read(s->fd, &ticks, sizeof(ticks)) == sizeof(ticks) ? s->timer_cb(s->user)
									   : 0;
	case SOURCE_SIGNAL:
		return read(s->fd, &si, sizeof(si)) == sizeof(si)
			       ? s->signal_cb(s->user, (int)si.ssi_signo)
			       : 0;
	case SOURCE_FD:
		break;
	}
	return s->fd_cb(s->user, s->fd, events);
}

int loop_once(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[EVENTS_PER_ROUND];
	int n = epoll_wait(l->epoll_fd, ev, EVENTS_PER_ROUND, timeout_ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	int r = 0;
	l->rounds++;
	for (int i = 0; i < n && r >= 0; i++) {
		struct loop_source *s = ev[i].data.ptr;
		if (!s->dead)
			r = dispatch(s, ev[i].events);
	}
	if (--l->rounds == 0)
		bury(l);
	return r < 0 ? r : 0;
}

int loop_run(struct loop *l)
{
	while (!l->exiting) {
		int r = loop_once(l, -1);
		if (r < 0)
			return r;
	}
	l->exiting = false;
	return l->exit_code;
}

void loop_exit(struct loop *l, int code)
{
	l->exiting = true;
	l->exit_code = code;
}
