/* The Paho side of a session: one connection at a time, and what crosses from Paho's threads to
 * the loop. Private to common/mqtt; everything here is called on the loop's thread.
 *
 * A connection attempt has a Paho handle of its own, so that nothing a broken connection left in
 * Paho's queues can surface on the next one. */
#pragma once

#include <MQTTAsync.h>
#include <pthread.h>

#include "common/mqtt/mqtt.h"

#define LINK_TEXT_MAX  192
#define LINK_CLAIM_LEN 33            /* 16 hex digits, '.', 16 hex digits: ordered as text */
#define LINK_FEED_MAX  64            /* publishes that Paho is given at a time */
#define LINK_SUB_CLAIM MQTT_SUBS_MAX /* index of the claim's own subscription */

enum link_event {
	LINK_CONNECTED = 1 << 0,  /* CONNACK: success */
	LINK_FAILED = 1 << 1,     /* the attempt ended without a connection */
	LINK_LOST = 1 << 2,       /* the connection is gone */
	LINK_TAKEN_OVER = 1 << 3, /* the broker's DISCONNECT said 0x8E */
	LINK_ACKED = 1 << 4,      /* SUBACK or UNSUBACK: see subs_acked, subs_refused */
	LINK_WRITABLE = 1 << 5,   /* room again after -EAGAIN */
	LINK_CLOSED = 1 << 6,     /* our own DISCONNECT is out */
	LINK_SETTLED = 1 << 7,    /* a publish is through, and others wait: link_feed() */
};

struct link_events {
	unsigned bits;
	uint64_t subs_acked, subs_refused; /* one bit a subscription */
	int refused_code;                  /* MQTT reason code of the last refusal */
	char claim[LINK_CLAIM_LEN + 1];    /* on the topic watched for it; "": none came */
	char text[LINK_TEXT_MAX];          /* of LINK_FAILED, LINK_LOST, LINK_TAKEN_OVER */
	char tls[LINK_TEXT_MAX];           /* what OpenSSL said first; "": nothing */
};

/* A message as Paho allocated it: kept, not copied again. */
struct link_in {
	struct link_in *next;
	MQTTAsync_message *message;
	char *topic;
	size_t cost_bytes;
};

/* A publish that waits for its turn at Paho; what it points to lies behind it. */
struct link_out {
	struct link_out *next;
	struct mqtt_publish publish;
	const char *claim;
	size_t cost_bytes;
};

/* A publish that Paho has. */
struct link_slot {
	uint64_t seq; /* order of publishing */
	uint32_t cost_bytes;
	uint16_t use; /* tells this use of the slot from earlier ones */
	bool used;
	uint8_t qos;
};

struct link {
	MQTTAsync handle; /* NULL: none */
	int event_fd;     /* readable: something to take */
	bool registered;
	struct link *next;
	/* All below is guarded by link_lock. */
	unsigned generation; /* of the connection; callbacks of any other are ignored; 0: none */
	struct link_events events;
	struct link_in *in_first, **in_last;
	uint32_t in_count;
	size_t in_bytes;
	struct link_slot slots[LINK_FEED_MAX];
	uint64_t seq;
	uint32_t fed_count,
		fed_max; /* with Paho: now, and what the broker's receive maximum allows */
	size_t fed_bytes;
	struct link_out *out_first, **out_last;
	uint32_t out_count; /* waiting or with Paho */
	size_t out_bytes;
	bool probing; /* the answer to link_probe() is due, for publishes before probe_seq */
	uint64_t probe_seq;
	uint64_t out_done;  /* publishes settled */
	pthread_t receiver; /* Paho's receive thread, once `connected` */
	bool connected;
	const char *watched; /* topic whose messages are only looked at for a claim; NULL: none */
	uint32_t packet_max; /* what the broker accepts */
	int port;            /* the broker's */
	bool refused;        /* a publish got -EAGAIN */
	bool draining;       /* someone waits for out_count to reach 0 */
	struct mqtt_stats stats;
};

int link_init(struct link *l, struct err *err);
/* Closes, and frees what is still queued. The last link of the process stops Paho's threads. */
void link_done(struct link *l);
/* `claim` goes with the Will. */
int link_open(struct link *l, const struct mqtt_conf *conf, const char *uri, const char *claim,
	      struct err *err);
/* Ends the connection at once. What has come in stays queued; publishes in flight are forgotten. */
void link_close(struct link *l);
/* The acknowledgement sets bit `index`. */
int link_subscribe(struct link *l, const char *filter, int qos, bool retained, unsigned index);
int link_unsubscribe(struct link *l, const char *filter, unsigned index);
/* From now on (topic, which must outlive that) or no more (NULL). */
void link_watch(struct link *l, const char *topic);
/* `claim`: NULL: none; must outlive the link. */
int link_publish(struct link *l, const struct mqtt_publish *p, const char *claim);
/* Waits for publishes in flight, then disconnects and waits for that; then link_close(). */
void link_finish(struct link *l, int timeout_ms, bool with_will);
/* Moves the events of `mask` out. */
void link_take_events(struct link *l, unsigned mask, struct link_events *ret);
/* At most max messages, oldest first; the caller frees each with link_in_free(). */
struct link_in *link_take_messages(struct link *l, unsigned max);
void link_in_free(struct link_in *in);
bool link_has_messages(struct link *l);
/* Hands Paho what waits, as far as there is room. */
void link_feed(struct link *l);
/* Finds out whether publishes of QoS 0 are through of which Paho does not say so. */
void link_probe(struct link *l);
/* Publishes in flight; *ret_done counts those that are through. */
uint32_t link_in_flight(struct link *l, uint64_t *ret_done);
/* Makes Paho look at what there is to do for this connection. See link.c. */
void link_kick(struct link *l);
void link_get_stats(const struct link *l, struct mqtt_stats *ret);
void link_wake(struct link *l);

/* ---- between link.c and link_out.c ---- */

#define LINK_CLAIM_KEY   "session" /* user property */
#define LINK_KICK_SIGNAL SIGURG    /* ignored by default, and free in our programs */
#define LINK_COST_FIXED  256       /* of a queued message, beside its bytes */

extern pthread_mutex_t link_lock;

/* A callback's context, and its parts. */
#define LINK_GENERATION_MASK 0xfffu
#define LINK_USE_MASK        0xfffu
#define LINK_INDEX_MASK      0xffu
void *link_context(unsigned generation, unsigned use, unsigned index);
/* Takes the lock; NULL (and not locked) when the connection is of the past. */
struct link *link_enter(const void *context);
/* Adds events, wakes the loop if there are any, gives the lock back. */
void link_leave(struct link *l, unsigned events);
/* Forgets all publishes, waiting and with Paho. With the lock held. */
void link_out_clear(struct link *l);
void link_add_int(MQTTProperties *properties, enum MQTTPropertyCodes code, uint32_t value);
void link_add_claim(MQTTProperties *properties, const char *claim);
