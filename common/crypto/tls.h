/* TLS (1.2 or later) towards a server, with certificates at both ends, on a connected non-blocking
 * socket, by OpenSSL. Whoever waits for the socket asks tls_events() what for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"

struct tls;

/* Files, PEM: whose certificates are believed, our certificate and its key. The server's must be
 * for `host`, a name or an address. `fd` stays the caller's. Errors name the file. */
int tls_new(const char *authority, const char *certificate, const char *key, const char *host,
	    int fd, struct tls **ret, struct err *err);
void tls_free(struct tls *t); /* NULL allowed; says goodbye if the socket takes it */
/* 0: done; -EAGAIN: again after tls_events(); else why not. */
int tls_handshake(struct tls *t, struct err *err);
/* As read(2) and write(2), with a negative errno: -EAGAIN, -EPROTO. What was read beyond what is
 * asked for is not seen by who waits for the socket: to be called until -EAGAIN. */
ssize_t tls_read(struct tls *t, void *buf, size_t len);
ssize_t tls_write(struct tls *t, const void *buf, size_t len);
/* EPOLLIN or EPOLLOUT, which are also POLLIN and POLLOUT: what the last -EAGAIN waits for. */
uint32_t tls_events(const struct tls *t);

/* ---- for who looks for a fault ---- */

/* What was wrong with the server's certificate, once tls_handshake() has failed. */
enum tls_doubt {
	TLS_DOUBT_NONE,      /* nothing, as far as it came */
	TLS_DOUBT_AUTHORITY, /* it is not of our authority, or not of now */
	TLS_DOUBT_HOST       /* it is for another name */
};
enum tls_doubt tls_doubt(const struct tls *t);
/* UTC: when the server's certificate ends; 0: not known. */
int64_t tls_server_until_ms(const struct tls *t);
/* It has taken our certificate: in TLS 1.3 it judges that when the handshake is over for us, then
 * sends an alert, or a ticket (RFC 8446, 4.6.1), which tls_read() sees. */
bool tls_admitted(const struct tls *t);
/* Why the last call failed, for a person. */
const char *tls_why(const struct tls *t);
