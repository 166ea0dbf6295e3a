#include "common/base/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/text.h"

/* Pings in the time within which one is due: two may come late. */
#define WATCHDOG_PINGS    3
#define WATCHDOG_USEC_MAX (INT64_C(3600000000) * 24 * 366)

void notify_send(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	if (!path || !*path)
		return;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len >= sizeof(sa.sun_path))
		return;
	memcpy(sa.sun_path, path, len);
	if (sa.sun_path[0] == '@')
		sa.sun_path[0] = 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

void notify_status(const char *text)
{
	char line[NOTIFY_STATUS_MAX];
	snprintf(line, sizeof(line), "STATUS=%s", text);
	text_blank_controls(line);
	notify_send(line);
}

void notify_reloading(void)
{
	/* The manager compares this with its own clock, which is this one, not ours of clock.h. */
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	char text[80];
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
		 (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
	notify_send(text);
}

/* Microseconds; 0: none. */
static int64_t watchdog_usec(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	if (!usec || (pid && strtoll(pid, NULL, 10) != (long long)getpid()))
		return 0;
	errno = 0;
	long long v = strtoll(usec, NULL, 10);
	return errno || v <= 0 || v > WATCHDOG_USEC_MAX ? 0 : v;
}

static int ping(void *user)
{
	struct watchdog *w = user;
	notify_send("WATCHDOG=1");
	return loop_timer_at(w->timer, clock_mono_ms() + w->every_ms);
}

int watchdog_start(struct watchdog *w, struct loop *l)
{
	int64_t usec = watchdog_usec();
	if (!usec)
		return 0;
	w->every_ms = usec / 1000 / WATCHDOG_PINGS;
	if (w->every_ms < 1)
		w->every_ms = 1;
	int r = loop_add_timer(l, ping, w, &w->timer);
	return r < 0 ? r : loop_timer_at(w->timer, 0);
}

void watchdog_stop(struct watchdog *w)
{
	loop_source_free(w->timer);
	w->timer = NULL;
}
