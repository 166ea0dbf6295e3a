#include "common/crypto/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

struct tls {
	SSL_CTX *ctx;
	SSL *ssl;
	uint32_t events;
	bool broken;     /* an error after which nothing more may be said */
	bool admitted;   /* a ticket has come */
	const char *why; /* OpenSSL's constant text */
};

/* What OpenSSL says last; NULL: nothing. */
static const char *reason(void)
{
	unsigned long e = ERR_peek_last_error();
	return e ? ERR_reason_error_string(e) : NULL;
}

static int failed(struct err *err, const char *path)
{
	const char *why = reason();
	err_set(err, -EINVAL, "%.300s: %s", path, why ? why : "not accepted");
	ERR_clear_error();
	return -EINVAL;
}

static int use_files(SSL_CTX *ctx, const char *authority, const char *certificate, const char *key,
		     struct err *err)
{
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
		return failed(err, "TLS 1.2");
	if (SSL_CTX_load_verify_file(ctx, authority) != 1)
		return failed(err, authority);
	if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
		return failed(err, certificate);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1)
		return failed(err, key);
	return 0;
}

static int expect_host(SSL *ssl, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
}

static int on_ticket(SSL *ssl, SSL_SESSION *session)
{
	((struct tls *)SSL_get_app_data(ssl))->admitted = true;
	return 0;
}

int tls_new(const char *authority, const char *certificate, const char *key, const char *host,
	    int fd, struct tls **ret, struct err *err)
{
	struct tls *t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "TLS: out of memory");
	t->ctx = SSL_CTX_new(TLS_client_method());
	int r = t->ctx ? use_files(t->ctx, authority, certificate, key, err)
		       : err_set(err, -ENOMEM, "TLS: out of memory");
	if (r == 0) {
		SSL_CTX_set_session_cache_mode(t->ctx,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(t->ctx, on_ticket);
		t->ssl = SSL_new(t->ctx);
		if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || expect_host(t->ssl, host) != 1)
			r = failed(err, host);
	}
	if (r < 0) {
		tls_free(t);
		return r;
	}
	SSL_set_app_data(t->ssl, t);
	/* What is written may be elsewhere, and more of it, when it is tried again. */
	SSL_set_mode(t->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	*ret = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->ssl && SSL_is_init_finished(t->ssl) && !t->broken)
		SSL_shutdown(t->ssl);
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	free(t);
	ERR_clear_error();
}

/* What a call that returned n <= 0 says. 0: the other end has ended it. */
static int outcome(struct tls *t, int n)
{
	switch (SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_READ:
		t->events = EPOLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		t->events = EPOLLOUT;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		t->broken = true;
		t->why = reason();
		return -EPROTO;
	}
}

int tls_handshake(struct tls *t, struct err *err)
{
	ERR_clear_error();
	int n = SSL_connect(t->ssl);
	if (n == 1)
		return 0;
	int r = outcome(t, n);
	if (r == -EAGAIN)
		return r;
	t->broken = true;
	switch (tls_doubt(t)) {
	case TLS_DOUBT_HOST:
		t->why = "the server's certificate is for another name";
		break;
	case TLS_DOUBT_AUTHORITY:
		t->why = X509_verify_cert_error_string(SSL_get_verify_result(t->ssl));
		break;
	case TLS_DOUBT_NONE:
		break;
	}
	ERR_clear_error();
	return err_set(err, -EPROTO, "TLS: %s", tls_why(t));
}

ssize_t tls_read(struct tls *t, void *buf, size_t len)
{
	size_t n;
	ERR_clear_error();
	int r = SSL_read_ex(t->ssl, buf, len, &n);
	return r == 1 ? (ssize_t)n : outcome(t, r);
}

ssize_t tls_write(struct tls *t, const void *buf, size_t len)
{
	size_t n;
	ERR_clear_error();
	int r = SSL_write_ex(t->ssl, buf, len, &n);
	return r == 1 ? (ssize_t)n : outcome(t, r) ?: -EPROTO;
}

uint32_t tls_events(const struct tls *t)
{
	return t->events;
}

enum tls_doubt tls_doubt(const struct tls *t)
{
	switch (SSL_get_verify_result(t->ssl)) {
	case X509_V_OK:
		return TLS_DOUBT_NONE;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return TLS_DOUBT_HOST;
	default:
		return TLS_DOUBT_AUTHORITY;
	}
}

int64_t tls_server_until_ms(const struct tls *t)
{
	const X509 *x = SSL_get0_peer_certificate(t->ssl);
	struct tm tm;
	return x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) ? (int64_t)timegm(&tm) * 1000 : 0;
}

bool tls_admitted(const struct tls *t)
{
	return t->admitted;
}

const char *tls_why(const struct tls *t)
{
	return t->why ? t->why : "the connection has ended";
}
