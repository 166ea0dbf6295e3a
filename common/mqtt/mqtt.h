/* An MQTT 5 session over Eclipse Paho MQTTAsync; the only door to Paho.
 *
 * Paho calls back on threads of its own: those copy what came into a bounded queue (MQTT_IN_MAX
 * messages, MQTT_IN_BYTES_MAX bytes; what does not fit is dropped and counted, the protocol above
 * repeats it) and wake the loop through an eventfd. All functions and handlers here run on the
 * loop's thread.
 *
 * The session reconnects by itself, with capped and jittered back-off, and subscribes anew on
 * every connect; MQTT_UP is reported once all subscriptions are acknowledged. Nothing is kept for
 * later while disconnected: mqtt_publish() fails with -ENOTCONN then.
 *
 * Paho gets few publishes at a time; the others wait here and leave with the loop's turns.
 *
 * What comes in before MQTT_UP was reported (retained messages, those a durable session kept) is
 * delivered right after it, so that a handler can always answer. What came in before a connection
 * broke is delivered before MQTT_DOWN is reported. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/loop.h"
#include "common/base/rng.h"

#define MQTT_TOPIC_MAX     256
#define MQTT_PAYLOAD_MAX   (256 * 1024) /* largest message accepted in either direction */
#define MQTT_IN_MAX        4096
#define MQTT_IN_BYTES_MAX  (16 * 1024 * 1024)
#define MQTT_OUT_MAX       256 /* publishes in flight */
#define MQTT_OUT_BYTES_MAX (4 * 1024 * 1024)
#define MQTT_SUBS_MAX      32
#define MQTT_LOST_SPREAD   8
#define MQTT_RIVAL_LOSSES  3
#define MQTT_RIVAL_MS      (5 * 60 * 1000)
/* A session that says it began so much later than our clock shows is none: clocks of two devices
 * may differ, but not by this. */
#define MQTT_RIVAL_AHEAD_MS (24 * 3600 * 1000)

enum mqtt_state {
	MQTT_DOWN,       /* not connected; a reconnect is due by itself */
	MQTT_UP,         /* connected and subscribed */
	MQTT_TAKEN_OVER, /* another client has this client id: no reconnect, final */
};

/* TLS with certificates at both ends: files, PEM. They are read at each attempt to connect, so a
 * renewed certificate is used from the next one on. */
struct mqtt_tls {
	char authority[FILE_PATH_MAX]; /* whose certificate the broker must have */
	char certificate[FILE_PATH_MAX], key[FILE_PATH_MAX]; /* ours */
};

struct mqtt_conf {
	char host[256];
	int port;
	/* Empty: none. Else the broker's certificate must also be for `host`. */
	struct mqtt_tls tls;
	char client_id[129];
	bool clean_start;                             /* trainers and tools: true; devices: false */
	uint32_t session_expiry_s;                    /* 0: ends with the connection */
	int keepalive_s;                              /* 0: 30 */
	int64_t reconnect_first_ms, reconnect_cap_ms; /* 0: 500 and 30000 */
	/* The Will; empty topic: none. QoS 1. A session that has a retained Will, publishes to that
	 * topic with `retain` whenever it comes up, and may read it, also notices that its client
	 * id was taken over where the broker does not say so (Mosquitto 2.0.11 does not): when it
	 * was lost MQTT_RIVAL_LOSSES times within MQTT_RIVAL_MS and found a later session's message
	 * there each time it came back. */
	char will_topic[MQTT_TOPIC_MAX];
	char will_payload[512];
	bool will_retain;
};

struct mqtt_message {
	const char *topic;   /* NUL-terminated */
	const void *payload; /* not NUL-terminated */
	size_t len;
	bool retained;
	const char *response_topic; /* NULL: none */
	const void *correlation;    /* correlation data, NULL: none */
	size_t correlation_len;
};

struct mqtt_publish {
	const char *topic;
	const void *payload;
	size_t len;
	int qos; /* 0 or 1 */
	bool retain;
	uint32_t expiry_s;          /* 0: none */
	const char *response_topic; /* NULL: none */
	const void *correlation;
	size_t correlation_len;
};

struct mqtt_handler {
	/* m and what it points to live until the call returns. */
	void (*message)(void *user, const struct mqtt_message *m);
	/* `why` is one line for the log: the broker's address and reason. MQTT_DOWN is reported
	 * when a connection breaks, and when an attempt fails for another reason than the last. */
	void (*state)(void *user, enum mqtt_state state, const char *why);
	/* Called when publishes in flight have fallen below half of the limits after a publish was
	 * refused with -EAGAIN; may be NULL. */
	void (*writable)(void *user);
	void *user;
};

struct mqtt_stats {
	uint64_t in_messages, in_bytes, in_dropped, out_messages, out_bytes, connects;
	/* Publishes that the broker acknowledged with an error. That nobody has subscribed to a
	 * topic (0x10) is none, and Paho 1.3.12 keeps it to itself. */
	uint64_t out_refused;
};

struct mqtt;

/* How long to wait before the next attempt to connect; the first one is 0. A broker that ends
 * leaves all its clients without a connection at one moment: so the first attempt after a lost one
 * comes at random within MQTT_LOST_SPREAD times the shortest wait. Pure. */
int64_t mqtt_reconnect_ms(struct rng *rng, unsigned attempt, bool was_up, int64_t first_ms,
			  int64_t cap_ms);

/* Copies conf and handler. Does not connect yet. */
int mqtt_new(struct loop *loop, const struct mqtt_conf *conf, const struct mqtt_handler *handler,
	     struct mqtt **ret, struct err *err);
/* Adds a subscription (`retained`: also what is retained already), or changes the one that has
 * this filter. It is made now if connected, and on every connect; one that the broker refuses
 * breaks the connection, which is tried again. -EINVAL bad filter or QoS, -ENOSPC beyond
 * MQTT_SUBS_MAX. */
int mqtt_subscribe(struct mqtt *m, const char *filter, int qos, bool retained);
/* -ENOENT: no such subscription. */
int mqtt_unsubscribe(struct mqtt *m, const char *filter);
/* Starts connecting, and keeps on. */
int mqtt_start(struct mqtt *m, struct err *err);
/* 0; -ENOTCONN; -EAGAIN too much in flight; -E2BIG for us or for the broker; -EINVAL bad topic;
 * copies everything. */
int mqtt_publish(struct mqtt *m, const struct mqtt_publish *p);
bool mqtt_is_up(const struct mqtt *m);
/* Up, and the broker has answered what was subscribed to since. */
bool mqtt_is_subscribed(const struct mqtt *m);
/* Whether this very filter is one of those. */
bool mqtt_has_filter(struct mqtt *m, const char *filter);
void mqtt_get_stats(const struct mqtt *m, struct mqtt_stats *ret);
/* Waits at most timeout_ms for publishes in flight, disconnects; with_will: the broker sends the
 * Will (MQTT 5 reason 0x04). Then frees; NULL allowed. Not from within a handler. The last session
 * of a process also stops Paho's threads, which takes some tenths of a second. */
void mqtt_free(struct mqtt *m, int timeout_ms, bool with_will);
