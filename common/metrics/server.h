/* Answers GET /metrics on a loopback address, within the daemon's own loop: what is told is written
 * into memory by `fill`, on the loop's thread, and sent as its reader takes it. Any other path or
 * method is refused, and so is a request whose Host is no loopback name, as a web page would send
 * it that was led here by its own name server. */
#pragma once

#include <stdio.h>

#include "common/base/err.h"
#include "common/base/loop.h"
#include "common/metrics/listen.h"

#define METRICS_CONNECTIONS_MAX 8     /* at a time */
#define METRICS_TIMEOUT_S       3     /* of a connection on which nothing moves */
#define METRICS_REQUEST_BYTES   16384 /* memory of a connection, its request included */

struct metrics_server;

/* *ret is NULL where conf says that it is off. -EADDRINUSE ..., with the address named. */
int metrics_server_new(struct loop *loop, const struct metrics_conf *conf,
		       void (*fill)(void *user, FILE *to), void *user, struct metrics_server **ret,
		       struct err *err);
void metrics_server_free(struct metrics_server *s); /* NULL allowed; before the loop */
