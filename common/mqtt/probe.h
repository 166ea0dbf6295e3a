/* How far a connection to a broker comes, step by step, without a word of MQTT: so no session
 * begins, and none of anybody ends. For people who look for a fault; blocks, up to timeout_ms in
 * all. */
#pragma once

#include <stdint.h>

#include "common/mqtt/mqtt.h"

#define PROBE_ADDRESS_MAX 64
#define PROBE_QUIET_MS    500 /* a broker that refuses a certificate says so by then */

enum probe_step {
	PROBE_RESOLVE,  /* the name has an address */
	PROBE_CONNECT,  /* somebody listens there */
	PROBE_TLS,      /* and speaks TLS, as we do */
	PROBE_BROKER,   /* its certificate is of our authority, and of now */
	PROBE_HOST,     /* and for the name that we call it by */
	PROBE_ADMITTED, /* and it takes ours */
	PROBE_DONE
};

struct probe {
	enum probe_step step;            /* the one that failed; PROBE_DONE: none */
	char address[PROBE_ADDRESS_MAX]; /* tried last; "" */
	int64_t until_ms;                /* UTC: the broker's certificate ends; 0: not known */
};

/* As a session with that configuration would connect; tls with an empty authority: without TLS, and
 * done once it is connected. Negative: *ret says at which step, err what was found. */
int probe_broker(const char *host, int port, const struct mqtt_tls *tls, int timeout_ms,
		 struct probe *ret, struct err *err);
