/* The online commands' connection, and what it has heard of the fleet. */
#pragma once

#include "cli/cli.h"
#include "common/base/loop.h"
#include "common/mqtt/mqtt.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "common/trust/identity.h"

#define ONLINE_DEVICES_MAX  100000
#define ONLINE_TRAINERS_MAX 1000

struct online_device {
	char id[ID_SIZE];
	bool has_presence, online, has_status, has_report, has_job;
	bool changed; /* something of it was heard; whoever has shown it takes it back */
	struct msg_presence presence;
	struct msg_status status;
	struct msg_report report; /* the newest heard */
	struct msg_job job; /* of the trainer that works for it */
	char trainer[ID_SIZE];
};

struct online_trainer {
	char id[ID_SIZE];
	bool has_presence, has_status;
	struct msg_presence presence;
	struct msg_trainer_status status;
};

struct online {
	const char *name; /* of the sub-command, for messages */
	char site[ID_SIZE], client[ID_SIZE]; /* `client`: in topics of answers */
	struct identity_paths identity;
	struct mqtt_conf mqtt_conf; /* port 0: the one that fits */
	struct loop *loop;
	struct mqtt *mqtt;
	bool up;
	char why_down[256]; /* "broker HOST:PORT: ...": why not */
	int64_t last_message_ms;
	int64_t retained_ms, waiting_ms; /* when the last retained message came; since when it waits */
	struct online_fence {
		enum { FENCE_NONE, FENCE_SEEN, FENCE_ASKED, FENCE_PASSED } phase;
		char topic[MQTT_TOPIC_MAX];
	} fence; /* of online_hear() */
	int64_t timeout_s;
	struct online_device **devices; /* sorted by id */
	size_t n_devices;
	struct online_trainer **trainers;
	size_t n_trainers;
	struct msg_fleet fleet; /* what is offered to everyone; its sequence 0: nothing */
	void (*on_reply)(struct online *o, const struct mqtt_message *m); /* NULL: none wanted */
	/* Before a message of the site is taken in; NULL: not wanted. */
	void (*on_message)(struct online *o, const struct topic *t, const struct mqtt_message *m);
	void *user;
};

#define ONLINE_TIMEOUT_S 5
#define ONLINE_OPTIONS                                                                             \
	{"broker", "HOST[:PORT]", "(TASUKI_BROKER, else 127.0.0.1; port 1883, or 8885 with a certificate)", 'b'}, \
		{"site", "ID", "(TASUKI_SITE, else home)", 's'},                                   \
		{"certificate", "FILE", "(TASUKI_CERTIFICATE) yours, at a secured broker; with it also --key and --authorities", 'c'}, \
		{"key", "FILE", "(TASUKI_KEY) of the certificate", 'k'},                           \
		{"authorities", "DIR", "(TASUKI_AUTHORITIES) ROLE.crt of each role", 'a'},         \
		{"timeout", "S", "wait so long for the broker, and for an answer (5)", 'T'}

/* Fills in the defaults from the environment. */
bool online_init(struct online *o, const char *name);
/* 1: done, 0: not one of ONLINE_OPTIONS, -1: bad, message printed. */
int online_option(struct online *o, int option, const char *value);
/* After the options: who we are, by a certificate, key and authorities, all three or none. */
int online_identify(struct online *o, struct err *err);
/* Connects; also listens to presence, status, reports and jobs, of `device` or of all
 * (ONLINE_ALL), and to what is for everyone, unless it is NULL. Waits for --timeout at most, saying after ONLINE_SAY_MS what it waits for. */
#define ONLINE_SAY_MS 800
#define ONLINE_ALL ""
int online_connect(struct online *o, const char *device, struct err *err);
/* All three: identifies, connects, and hears what is retained. */
int online_open(struct online *o, const char *device, struct err *err);
/* Hears what is retained. Brokers send that in order, so the first topic heard is subscribed to once
 * more, and its second coming is the end; where there is nothing, a quarter of a second of silence. */
int online_hear(struct online *o);
/* One line on standard error, once for each `waiting_ms`, when it is time. */
void online_waits(struct online *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Handles what comes until `until_ms` (monotonic), or until nothing came for quiet_ms (0: no). */
int online_listen(struct online *o, int64_t until_ms, int quiet_ms);
void online_done(struct online *o);

/* The id of a device of the site that is nearly called so, by what presence says; NULL: none, or
 * nobody answered. For a device that has said nothing. */
const char *online_near(struct online *o, const char *id);
/* Subscribes to one further topic, with what is retained there. */
int online_subscribe(struct online *o, const struct topic *t);
/* The device; else -ENOENT, and what was perhaps meant. */
int online_get(struct online *o, const char *id, const struct online_device **ret, struct err *err);
/* NULL: it has said nothing. */
const struct online_device *online_find(const struct online *o, const char *id);
