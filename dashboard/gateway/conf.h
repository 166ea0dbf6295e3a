/* dashboard.conf: deploy/examples/dashboard.conf has every key. */
#pragma once

#include <stdbool.h>

#include "common/trust/identity.h"

#define GATEWAY_HOST_SIZE 256

struct gateway_conf {
	char site[ID_SIZE];
	char listen[GATEWAY_HOST_SIZE]; /* an address; no name */
	int listen_port;
	bool insecure;
	char host_name[GATEWAY_HOST_SIZE]; /* "": by the loopback's names only, where that matters
					    */
	char page[FILE_PATH_MAX];          /* folder of the page */
	char classes[FILE_PATH_MAX];       /* "": none */
	int64_t connections, connections_per_address;
	char host[GATEWAY_HOST_SIZE]; /* the broker's */
	int64_t port;
	struct identity_paths identity;    /* of role dashboard; certificate "": plain */
	char password_file[FILE_PATH_MAX]; /* "": nobody may command, and the rest of [operator] is
					      empty */
	struct identity_paths operator;
	int64_t operator_port;
	char certificate[FILE_PATH_MAX], key[FILE_PATH_MAX]; /* for browsers; "": plain HTTP */
};

/* Errors as conf_fail()'s. */
int gateway_conf_load(const char *path, struct gateway_conf *ret, struct err *err);
