#include "common/mqtt/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

struct attempt {
	const char *host;
	int64_t until_ms; /* monotonic */
	int fd;
	SSL_CTX *context;
	SSL *ssl;
	bool ticket; /* the broker has let us in: RFC 8446, 4.6.1 */
	struct probe *ret;
};

/* ---- TCP ---- */

static int wait_for(const struct attempt *a, short events, int64_t until_ms)
{
	struct pollfd p = {.fd = a->fd, .events = events};
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
		if (a->fd >= 0)
			close(a->fd);
		r = connect_to(a, i);
	}
	freeaddrinfo(found);
	if (r < 0 && strcmp(a->host, a->ret->address) != 0)
		return err_set(err, r, "%s: %s", a->ret->address, strerror(-r));
	return r < 0 ? err_set(err, r, "%s", strerror(-r)) : 0;
}

/* ---- TLS ---- */

static int on_ticket(SSL *ssl, SSL_SESSION *session)
{
	((struct attempt *)SSL_get_app_data(ssl))->ticket = true;
	return 0;
}

/* What OpenSSL says last, for a person. */
static const char *tls_reason(void)
{
	unsigned long e = ERR_peek_last_error();
	const char *text = e ? ERR_reason_error_string(e) : NULL;
	return text ? text : "the connection was closed";
}

static int setup(struct attempt *a, const struct mqtt_tls *tls, struct err *err)
{
	struct in6_addr ignored;
	a->ret->step = PROBE_TLS;
	a->context = SSL_CTX_new(TLS_client_method());
	if (!a->context || !SSL_CTX_set_min_proto_version(a->context, TLS1_2_VERSION))
		return err_errno(err, -ENOMEM, "TLS");
	if (!SSL_CTX_load_verify_file(a->context, tls->authority))
		return err_set(err, -EINVAL, "%s: %s", tls->authority, tls_reason());
	if (SSL_CTX_use_certificate_file(a->context, tls->certificate, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(a->context, tls->key, SSL_FILETYPE_PEM) != 1)
		return err_set(err, -EINVAL, "%s, %s: %s", tls->certificate, tls->key,
			       tls_reason());
	SSL_CTX_set_session_cache_mode(a->context,
				       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(a->context, on_ticket);
	a->ssl = SSL_new(a->context);
	if (!a->ssl || !SSL_set_fd(a->ssl, a->fd))
		return err_errno(err, -ENOMEM, "TLS");
	SSL_set_app_data(a->ssl, a);
	SSL_set_verify(a->ssl, SSL_VERIFY_PEER, NULL);
	bool address = inet_pton(AF_INET, a->host, &ignored) == 1 ||
		       inet_pton(AF_INET6, a->host, &ignored) == 1;
	int ok = address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(a->ssl), a->host)
			 : SSL_set1_host(a->ssl, a->host) &&
				   SSL_set_tlsext_host_name(a->ssl, a->host);
	return ok ? 0 : err_errno(err, -ENOMEM, "TLS");
}

/* One call's outcome: 0: again, once there is something; else negative. */
static int wait_tls(const struct attempt *a, int result, int64_t until_ms)
{
	switch (SSL_get_error(a->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(a, POLLIN, until_ms);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(a, POLLOUT, until_ms);
	default:
		return -EPROTO;
	}
}

static void note_certificate(struct attempt *a)
{
	X509 *x = SSL_get1_peer_certificate(a->ssl);
	struct tm tm;
	if (x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm))
		a->ret->until_ms = (int64_t)timegm(&tm) * 1000;
	X509_free(x);
}

static int handshake(struct attempt *a, struct err *err)
{
	int done, r = 0;
	ERR_clear_error();
	while ((done = SSL_connect(a->ssl)) != 1 && (r = wait_tls(a, done, a->until_ms)) == 0)
		;
	long verified = SSL_get_verify_result(a->ssl);
	if (done == 1) {
		note_certificate(a);
		return 0;
	}
	if (r == -ETIMEDOUT)
		return err_set(err, r, "TLS: no answer");
	if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH)
		a->ret->step = PROBE_HOST;
	else if (verified != X509_V_OK)
		a->ret->step = PROBE_BROKER;
	return err_set(err, -EPROTO, "TLS: %s",
		       verified == X509_V_OK ? tls_reason()
					     : X509_verify_cert_error_string(verified));
}

/* In TLS 1.3 a server judges the client's certificate when the client has done its part: then it
 * sends an alert, or a ticket. */
static int await_admission(struct attempt *a, struct err *err)
{
	char byte;
	int n, r = 0;
	int64_t until_ms = clock_mono_ms() + PROBE_QUIET_MS;
	a->ret->step = PROBE_ADMITTED;
	ERR_clear_error();
	while (!a->ticket && (n = SSL_read(a->ssl, &byte, 1)) <= 0 &&
	       (r = wait_tls(a, n, until_ms)) == 0)
		;
	if (r < 0 && r != -ETIMEDOUT)
		return err_set(err, r, "TLS: %s", tls_reason());
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
	else if (r == 0) {
		r = setup(&a, tls, err);
		if (r == 0)
			r = handshake(&a, err);
		if (r == 0)
			r = await_admission(&a, err);
	}
	SSL_free(a.ssl);
	SSL_CTX_free(a.context);
	if (a.fd >= 0)
		close(a.fd);
	ERR_clear_error();
	return r;
}
