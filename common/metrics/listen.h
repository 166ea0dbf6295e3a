/* [metrics] of a daemon's configuration: where its figures can be read. */
#pragma once

#include "common/base/address.h"
#include "common/base/err.h"
#include "common/conf/conf.h"

struct metrics_conf {
	char listen[64]; /* as it is in the file; "": off */
	struct address address;
};

/* Refuses, with file, line and key, what is not ADDRESS:PORT with a numeric loopback address, of
 * 127.0.0.0/8 or [::1], and a port from 1 on: there is neither encryption nor a question who asks.
 */
int metrics_conf(struct conf *c, struct metrics_conf *ret, struct err *err);
/* The same of a text; -EINVAL. */
int metrics_listen_parse(const char *text, struct metrics_conf *ret);
