/*     address, address ...        CONNECTING -TCP-> SHAKING -TLS-> UP -> OVER
 *
 * CONNECTING tries one address after the other; what goes wrong in any state is told by closed(),
 * from the timer, and nothing else is told after it. */
#include "dashboard/gateway/upstream.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/crypto/tls.h"

#define READ_BYTES 16384

enum state { CONNECTING, SHAKING, UP, OVER };

struct upstream {
	struct loop *loop;
	const struct gateway_conf *conf;
	struct upstream_handler handler;
	enum state state;
	int fd;          /* -1: none */
	struct tls *tls; /* NULL: in the clear */
	struct loop_source *source, *timer;
	struct addrinfo *addresses, *next;
	bool held, full; /* nothing is to be read; nothing could be written */
	char why[ERR_TEXT_MAX];
};

static void over(struct upstream *u, const char *why)
{
	if (u->state == OVER)
		return;
	u->state = OVER;
	snprintf(u->why, sizeof(u->why), "%s", why);
	loop_source_free(TAKE_PTR(u->source));
	loop_timer_at(u->timer, 0);
}

static void watch(struct upstream *u)
{
	uint32_t events = u->held ? 0 : EPOLLIN;
	if (u->state == CONNECTING)
		events = EPOLLOUT;
	else if (u->state == SHAKING)
		events = tls_events(u->tls);
	else if (u->full)
		events |= u->tls ? tls_events(u->tls) : (uint32_t)EPOLLOUT;
	if (u->state != OVER)
		loop_fd_events(u->source, events);
}

static int on_fd(void *user, int fd, uint32_t events);

/* Begins with the next address; the last one's error is that of all. */
static void try_next(struct upstream *u, int error)
{
	while (u->next) {
		const struct addrinfo *a = u->next;
		const int on = 1;
		u->next = a->ai_next;
		loop_source_free(TAKE_PTR(u->source));
		mem_close_fd(&u->fd);
		u->fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (u->fd >= 0)
			setsockopt(u->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (u->fd < 0 ||
		    (connect(u->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)) {
			error = errno;
			continue;
		}
		int r = loop_add_fd(u->loop, u->fd, EPOLLOUT, on_fd, u, &u->source);
		if (r == 0)
			return;
		error = -r;
	}
	over(u, strerror(error));
}

static void up(struct upstream *u)
{
	u->state = UP;
	loop_timer_at(u->timer, -1);
	u->handler.connected(u->handler.user);
}

static void shake(struct upstream *u)
{
	struct err err = {0};
	int r = tls_handshake(u->tls, &err);
	if (r == 0)
		up(u);
	else if (r != -EAGAIN)
		over(u, err.text);
}

static void begin(struct upstream *u)
{
	struct mqtt_tls files;
	struct err err = {0};
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(u->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		try_next(u, error);
		return;
	}
	if (!*u->conf->identity.certificate) {
		up(u);
		return;
	}
	u->state = SHAKING;
	if (identity_tls(&u->conf->identity, &files, &err) < 0 ||
	    tls_new(files.authority, files.certificate, files.key, u->conf->host, u->fd, &u->tls,
		    &err) < 0)
		over(u, err.text);
	else
		shake(u);
}

/* Of what a read or write returned. A refusal of our certificate comes after the handshake, and
 * whichever of the two is next sees it. */
static void ended(struct upstream *u, ssize_t n)
{
	over(u, u->tls && n < 0 ? "TLS: ended, perhaps our certificate was refused"
		: n == 0        ? "the connection has ended"
				: strerror((int)-n));
}

/* Until there is nothing, or nobody wants it. */
static void read_all(struct upstream *u)
{
	while (u->state == UP && !u->held) {
		char buf[READ_BYTES];
		ssize_t n =
			u->tls ? tls_read(u->tls, buf, sizeof(buf)) : read(u->fd, buf, sizeof(buf));
		if (n < 0 && !u->tls)
			n = -errno;
		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n > 0)
			u->handler.data(u->handler.user, buf, (size_t)n);
		else
			ended(u, n);
	}
	watch(u);
}

static int on_fd(void *user, int fd, uint32_t events)
{
	struct upstream *u = user;
	if (u->state == CONNECTING)
		begin(u);
	else if (u->state == SHAKING)
		shake(u);
	else if (u->state == UP && u->full) {
		u->full = false;
		u->handler.writable(u->handler.user);
	}
	read_all(u);
	return 0;
}

static int on_timer(void *user)
{
	struct upstream *u = user;
	if (u->state != OVER)
		over(u, "no answer");
	u->handler.closed(u->handler.user, u->why);
	return 0;
}

int upstream_open(struct loop *l, const struct gateway_conf *c, const struct upstream_handler *h,
		  struct upstream **ret, struct err *err)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	char port[16];
	struct upstream *u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(err, -ENOMEM, "out of memory");
	*u = (struct upstream){.loop = l, .conf = c, .handler = *h, .fd = -1};
	snprintf(port, sizeof(port), "%d", (int)c->port);
	int r = loop_add_timer(l, on_timer, u, &u->timer);
	if (r < 0) {
		upstream_free(u);
		return err_errno(err, r, "timer");
	}
	loop_timer_at(u->timer, clock_mono_ms() + UPSTREAM_CONNECT_S * 1000);
	r = getaddrinfo(c->host, port, &hints, &u->addresses);
	u->next = u->addresses;
	if (r != 0)
		over(u, gai_strerror(r));
	else
		try_next(u, EADDRNOTAVAIL);
	*ret = u;
	return 0;
}

void upstream_free(struct upstream *u)
{
	if (!u)
		return;
	loop_source_free(u->source);
	loop_source_free(u->timer);
	tls_free(u->tls);
	mem_close_fd(&u->fd);
	if (u->addresses)
		freeaddrinfo(u->addresses);
	free(u);
}

size_t upstream_write(struct upstream *u, const void *data, size_t len)
{
	if (u->state != UP || !len)
		return 0;
	ssize_t n = u->tls ? tls_write(u->tls, data, len) : write(u->fd, data, len);
	if (n < 0 && !u->tls)
		n = -errno;
	if (n < 0 && n != -EAGAIN && n != -EINTR)
		ended(u, n);
	u->full = n < (ssize_t)len;
	watch(u);
	return n > 0 ? (size_t)n : 0;
}

void upstream_hold(struct upstream *u, bool hold)
{
	bool resumed = u->held && !hold;
	u->held = hold;
	if (resumed && u->state == UP)
		read_all(u); /* TLS may have it already, which the loop does not see */
	else
		watch(u);
}
