/* The only door to libmicrohttpd. It runs without a thread of its own: its epoll descriptor is a
 * source of the loop, and a timer ends idle connections. */
#include "common/metrics/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics_server {
	struct MHD_Daemon *daemon;
	struct loop_source *ready, *timer;
	void (*fill)(void *user, FILE *to);
	void *user;
};

static enum MHD_Result respond(struct MHD_Connection *c, unsigned status, char *text,
			       enum MHD_ResponseMemoryMode mode, const char *allow)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), text, mode);
	if (!r) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, CONTENT_TYPE);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (allow)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, allow);
	enum MHD_Result queued = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return queued;
}

/* With a port or without. */
static bool host_is_loopback(const char *host)
{
	struct address a;
	char with_port[INET6_ADDRSTRLEN + sizeof("[]:65535")];
	if (!host)
		return false;
	size_t n = strcspn(host, ":");
	if (n == strlen("localhost") && strncasecmp(host, "localhost", n) == 0)
		return true;
	bool has_port = strrchr(host, ':') && !strchr(strrchr(host, ':'), ']');
	snprintf(with_port, sizeof(with_port), has_port ? "%s" : "%s:80", host);
	return address_parse(with_port, &a) == 0 && a.loopback;
}

static enum MHD_Result answer(void *user, struct MHD_Connection *c, const char *url,
			      const char *method, const char *version, const char *upload,
			      size_t *upload_size, void **state)
{
	struct metrics_server *s = user;
	_cleanup_free_ char *text = NULL;
	size_t len;
	if (!host_is_loopback(
		    MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST)))
		return respond(c, MHD_HTTP_FORBIDDEN, "Host: expected a loopback address\n",
			       MHD_RESPMEM_PERSISTENT, NULL);
	if (strcmp(url, "/metrics") != 0)
		return respond(c, MHD_HTTP_NOT_FOUND, "expected /metrics\n", MHD_RESPMEM_PERSISTENT,
			       NULL);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
		return respond(c, MHD_HTTP_METHOD_NOT_ALLOWED, "expected GET\n",
			       MHD_RESPMEM_PERSISTENT, MHD_HTTP_METHOD_GET);
	FILE *to = open_memstream(&text, &len);
	if (!to)
		return MHD_NO;
	s->fill(s->user, to);
	if (fclose(to) != 0)
		return MHD_NO;
	return respond(c, MHD_HTTP_OK, TAKE_PTR(text), MHD_RESPMEM_MUST_FREE, NULL);
}

static void on_log(void *user, const char *fmt, va_list ap)
{
	char text[256];
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	log_debug("metrics: %s", text);
}

/* ---- in the loop ---- */

static unsigned connections(const struct metrics_server *s)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
	return info ? info->num_connections : 0;
}

/* At its limit of connections libmicrohttpd stops listening; it goes on in the next run after one
 * has ended, for which nothing else might be there to wake it. */
static int run(struct metrics_server *s)
{
	MHD_UNSIGNED_LONG_LONG ms;
	unsigned before, now = connections(s);
	do {
		before = now;
		if (MHD_run(s->daemon) != MHD_YES)
			log_debug("metrics: MHD_run failed");
		now = connections(s);
	} while (now < before);
	bool due = MHD_get_timeout(s->daemon, &ms) == MHD_YES;
	return loop_timer_at(s->timer, due ? clock_mono_ms() + (int64_t)ms : -1);
}

static int on_ready(void *user, int fd, uint32_t events)
{
	return run(user);
}

static int on_timer(void *user)
{
	return run(user);
}

static int start(struct metrics_server *s, struct loop *loop, const struct metrics_conf *conf)
{
	const bool six = conf->address.socket.any.sa_family == AF_INET6;
	const unsigned flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG | (six ? MHD_USE_IPv6 : 0);
	errno = 0;
	s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, answer, s, MHD_OPTION_EXTERNAL_LOGGER,
				     on_log, NULL, MHD_OPTION_SOCK_ADDR, &conf->address.socket.any,
				     MHD_OPTION_CONNECTION_LIMIT, (unsigned)METRICS_CONNECTIONS_MAX,
				     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)METRICS_TIMEOUT_S,
				     MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				     (size_t)METRICS_REQUEST_BYTES, MHD_OPTION_END);
	if (!s->daemon)
		return errno ? -errno : -EIO;
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -EOPNOTSUPP;
	int r = loop_add_timer(loop, on_timer, s, &s->timer);
	return r < 0 ? r : loop_add_fd(loop, info->epoll_fd, EPOLLIN, on_ready, s, &s->ready);
}

int metrics_server_new(struct loop *loop, const struct metrics_conf *conf,
		       void (*fill)(void *user, FILE *to), void *user, struct metrics_server **ret,
		       struct err *err)
{
	*ret = NULL;
	if (!*conf->listen)
		return 0;
	struct metrics_server *s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(err, -ENOMEM, "[metrics] listen");
	s->fill = fill;
	s->user = user;
	int r = start(s, loop, conf);
	if (r < 0) {
		metrics_server_free(s);
		return err_errno(err, r, "[metrics] listen = %s", conf->listen);
	}
	*ret = s;
	return 0;
}

void metrics_server_free(struct metrics_server *s)
{
	if (!s)
		return;
	loop_source_free(s->ready);
	loop_source_free(s->timer);
	if (s->daemon)
		MHD_stop_daemon(s->daemon);
	free(s);
}
