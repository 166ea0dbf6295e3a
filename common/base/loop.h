/* One epoll loop per daemon. Single-threaded: every function here, and every callback, runs on
 * the thread that calls loop_run(); other threads may only write to an eventfd they were given.
 * Sources are owned by the loop's user and freed by loop_source_free(), also from within their
 * own callback. A callback that returns a negative errno ends loop_run() with it. */
#pragma once

#include <stdint.h>

struct loop;
struct loop_source;

typedef int (*loop_fd_cb)(void *user, int fd, uint32_t events);
typedef int (*loop_timer_cb)(void *user);
typedef int (*loop_signal_cb)(void *user, int signo);

/* Also ignores SIGPIPE and SIGXFSZ in this process: EPIPE and EFBIG are seen instead. */
int loop_new(struct loop **ret);
void loop_free(struct loop *l); /* after its sources; NULL allowed */
/* For a loop within another one, which waits for this descriptor (not to be closed) and then calls
 * loop_once(). */
int loop_fd(const struct loop *l);

/* Watches fd (not owned) for EPOLLIN/EPOLLOUT... Free the source before closing fd: while a child
 * holds a copy of it, epoll goes on reporting it. */
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_cb cb, void *user,
		struct loop_source **ret);
int loop_fd_events(struct loop_source *s, uint32_t events);
/* A one-shot timer, disarmed at first; one that fell due while the machine slept fires when it
 * wakes. */
int loop_add_timer(struct loop *l, loop_timer_cb cb, void *user, struct loop_source **ret);
/* Fires at `at_ms` (clock_mono_ms scale; past times fire at once); at_ms < 0 disarms. */
int loop_timer_at(struct loop_source *s, int64_t at_ms);
/* Blocks the signal in this thread and delivers it through the loop. Call before any thread
 * starts, so that they inherit the mask; a child does too, and has to reset it before exec. */
int loop_add_signal(struct loop *l, int signo, loop_signal_cb cb, void *user,
		    struct loop_source **ret);
void loop_source_free(struct loop_source *s);

/* Runs until loop_exit() (returns its code; also when that came before) or a callback fails. */
int loop_run(struct loop *l);
void loop_exit(struct loop *l, int code);
/* One round, waiting at most timeout_ms; for tests and for code that waits for one thing. */
int loop_once(struct loop *l, int timeout_ms);
