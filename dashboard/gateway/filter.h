/* What a browser may say to the broker: MQTT 5 (OASIS standard, sections 2 and 3), its bytes in any
 * portions, one packet at a time. Pure: no I/O, no clock.
 *
 *     browser                    filter                                   broker
 *     CONNECT, any client id     a CONNECT of ours: a client id of ours,
 *                                clean, no session after it               CONNECT
 *     SUBSCRIBE                  what a dashboard may read, QoS 0 or 1    SUBSCRIBE
 *     UNSUBSCRIBE, PUBACK, PINGREQ, DISCONNECT   as they are
 *     anything else              refused, and so is all after it
 *
 * So a browser publishes nothing, leaves no Will and no session, is nobody by name, takes over
 * nobody's session, and reads what docs/security.md says of dashboards, also where the broker has
 * no access control. What the broker says is passed on as it is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bucket.h"
#include "common/base/err.h"
#include "common/base/id.h"

#define FILTER_PACKET_MAX        4096  /* bytes of a packet from a browser; a CONNECT has some 50 */
#define FILTER_SUBSCRIPTIONS_MAX 10000 /* of a connection, ever: a broker keeps each */
#define FILTER_KEEPALIVE_MIN_S   5
#define FILTER_KEEPALIVE_MAX_S   120 /* a browser that has gone is noticed after 1.5 times that */
/* Topic filters that are subscribed to: each may bring all that is retained. */
#define FILTER_SUBSCRIBES ((struct bucket_limit){.burst = 500, .per_s = 20})

struct filter {
	char site[ID_SIZE], client[ID_SIZE];
	bool connected, refused, ended; /* CONNECT is through; refused; DISCONNECT is through */
	uint32_t subscriptions;
	struct bucket subscribes;
	size_t have;
	uint8_t packet[FILTER_PACKET_MAX];
};

/* `client`: the client id that the broker sees. */
void filter_init(struct filter *f, const char *site, const char *client);
/* Takes bytes up to the end of one packet; *ret_used says how many. Returns the bytes of the packet
 * that is to go to the broker, written to `out`; 0: there is none yet. -EPROTO: the packet is none,
 * or none that a browser may send; -E2BIG; -EDQUOT: too many subscriptions; err says what was
 * found. After an error, and after DISCONNECT, nothing is taken any more: -EPROTO. */
int filter_step(struct filter *f, const uint8_t *in, size_t len, int64_t now_ms, size_t *ret_used,
		uint8_t out[FILTER_PACKET_MAX], struct err *err);
