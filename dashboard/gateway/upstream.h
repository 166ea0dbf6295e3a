/* A connection to the broker: bytes, in the clear or over TLS. On the loop's thread. */
#pragma once

#include <sys/types.h>

#include "common/base/loop.h"
#include "dashboard/gateway/conf.h"

#define UPSTREAM_CONNECT_S 10 /* until it is there, TLS and all */

struct upstream;

struct upstream_handler {
	void (*connected)(void *user);
	/* Called until upstream_hold(). */
	void (*data)(void *user, const void *data, size_t len);
	void (*writable)(void *user); /* after an upstream_write() that took not all */
	/* The connection is over, or there was none. The only one in which upstream_free() may be
	 * called. */
	void (*closed)(void *user, const char *why);
	void *user;
};

/* Starts connecting. Resolving a host's name blocks. Errors are told by the return value, or later.
 */
int upstream_open(struct loop *l, const struct gateway_conf *c, const struct upstream_handler *h,
		  struct upstream **ret, struct err *err);
void upstream_free(struct upstream *u); /* NULL allowed */
/* How many bytes it took, perhaps none; after an error none ever, and closed() comes. */
size_t upstream_write(struct upstream *u, const void *data, size_t len);
/* Whether data() is to wait. */
void upstream_hold(struct upstream *u, bool hold);
