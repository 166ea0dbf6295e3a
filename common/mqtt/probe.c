#include "common/mqtt/probe.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/crypto/tls.h"

struct attempt {
	const char *host;
	int64_t until_ms; /* monotonic */
	int fd;
	struct tls *tls; /* NULL: in the clear */
	struct probe *ret;
};

/* ---- TCP ---- */

static int wait_for(const struct attempt *a, uint32_t events, int64_t until_ms)
{
	struct pollfd p = {.fd = a->fd, .events = (short)events};
	int64_t left = MIN_OF(until_ms, a->until_ms) - clock_mono_ms();
	int n = left > 0 ? poll(&p, 1, (int)left) : 0;
	return n > 0 ? 0 : n < 0 ? -errno : -ETIMEDOUT;
}

static int connect_to(struct attempt *a, const struct addrinfo *i)
{
	int code = 0;
	socklen_t len = sizeof(code);
	getnameinfo(i->ai_addr, i->ai_addrlen, a->ret->address, sizeof(a->ret->address), NULL, 0,
		    NI_NUMERICHOST);
	a->fd = socket(i->ai_family, i->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0)
		return -errno;
	if (connect(a->fd, i->ai_addr, i->ai_addrlen) == 0)
		return 0;
	int r = errno == EINPROGRESS ? wait_for(a, POLLOUT, a->until_ms) : -errno;
	if (r == 0 && getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0)
		r = -code;
	return r;
}

static int reach(struct attempt *a, int port, struct err *err)
{
	const struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *found, *i;
	char service[8];
	snprintf(service, sizeof(service), "%d", port);
	a->ret->step = PROBE_RESOLVE;
	int r = getaddrinfo(a->host, service, &want, &found);
	if (r)
		return err_set(err, -ENXIO, "%s", gai_strerror(r));
	a->ret->step = PROBE_CONNECT;
	r = -ENXIO;
	for (i = found; r < 0 && i; i = i->ai_next) {
		mem_close_fd(&a->fd);
		r = connect_to(a, i);
	}
	freeaddrinfo(found);
	if (r < 0 && strcmp(a->host, a->ret->address) != 0)
		return err_set(err, r, "%s: %s", a->ret->address, strerror(-r));
	return r < 0 ? err_set(err, r, "%s", strerror(-r)) : 0;
}

/* ---- TLS ---- */

static int handshake(struct attempt *a, const struct mqtt_tls *files, struct err *err)
{
	a->ret->step = PROBE_TLS;
	int r = tls_new(files->authority, files->certificate, files->key, a->host, a->fd, &a->tls,
			err);
	if (r < 0)
		return r;
	while ((r = tls_handshake(a->tls, err)) == -EAGAIN)
		if ((r = wait_for(a, tls_events(a->tls), a->until_ms)) < 0)
			return err_set(err, r, "TLS: no answer");
	if (r == 0)
		a->ret->until_ms = tls_server_until_ms(a->tls);
	else if (tls_doubt(a->tls) != TLS_DOUBT_NONE)
		a->ret->step = tls_doubt(a->tls) == TLS_DOUBT_HOST ? PROBE_HOST : PROBE_BROKER;
	return r;
}

static int await_admission(struct attempt *a, struct err *err)
{
	char byte;
	ssize_t n = -EAGAIN;
	int r = 0;
	int64_t until_ms = clock_mono_ms() + PROBE_QUIET_MS;
	a->ret->step = PROBE_ADMITTED;
	while (r == 0 && (n = tls_read(a->tls, &byte, 1)) == -EAGAIN && !tls_admitted(a->tls))
		r = wait_for(a, tls_events(a->tls), until_ms);
	if (n == 0 || (n < 0 && n != -EAGAIN) || (r < 0 && r != -ETIMEDOUT))
		return err_set(err, r < 0 ? r : -EPROTO, "TLS: %s", tls_why(a->tls));
	a->ret->step = PROBE_DONE;
	return 0;
}

int probe_broker(const char *host, int port, const struct mqtt_tls *tls, int timeout_ms,
		 struct probe *ret, struct err *err)
{
	*ret = (struct probe){.step = PROBE_RESOLVE};
	struct attempt a = {
		.host = host, .until_ms = clock_mono_ms() + timeout_ms, .fd = -1, .ret = ret};
	int r = reach(&a, port, err);
	if (r == 0 && !*tls->authority)
		ret->step = PROBE_DONE;
	else if (r == 0 && (r = handshake(&a, tls, err)) == 0)
		r = await_admission(&a, err);
	tls_free(a.tls);
	mem_close_fd(&a.fd);
	return r;
}
