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
	char why_down[256];
	int64_t last_message_ms;
	struct online_device *devices; /* sorted by id */
	size_t n_devices;
	struct online_trainer *trainers;
	size_t n_trainers;
	struct msg_fleet fleet; /* what is offered to everyone; its sequence 0: nothing */
	void (*on_reply)(struct online *o, const struct mqtt_message *m); /* NULL: none wanted */
	void *user;
};

#define ONLINE_OPTIONS                                                             \
	{"broker", required_argument, NULL, 'b'}, {"site", required_argument, NULL, 's'},  \
		{"certificate", required_argument, NULL, 'c'},                             \
		{"key", required_argument, NULL, 'k'},                                     \
		{"authorities", required_argument, NULL, 'a'}
#define ONLINE_HELP                                                                \
	"  --broker HOST[:PORT]  (TASUKI_BROKER, else 127.0.0.1; port 1883, or 8885 with a certificate)\n" \
	"  --site ID             (TASUKI_SITE, else home)\n"                       \
	"  --certificate FILE    (TASUKI_CERTIFICATE) yours, at a secured broker; with it also\n" \
	"  --key FILE            (TASUKI_KEY) and\n"                               \
	"  --authorities DIR     (TASUKI_AUTHORITIES) ROLE.crt of each role\n"

/* Fills in the defaults from the environment. */
bool online_init(struct online *o, const char *name);
/* 1: done, 0: not one of ONLINE_OPTIONS, -1: bad, message printed. */
int online_option(struct online *o, int option, const char *value);
/* After the options: who we are, by a certificate, key and authorities, all three or none. */
int online_identify(struct online *o, struct err *err);
/* Connects; also listens to presence, status, reports and jobs, of `device` or of all
 * (ONLINE_ALL), and to what is for everyone, unless it is NULL. Waits at most 5 s, saying after one what it waits for. */
#define ONLINE_ALL ""
int online_connect(struct online *o, const char *device, struct err *err);
/* Hears what is retained. */
int online_hear(struct online *o);
/* Handles what comes until `until_ms` (monotonic), or until nothing came for quiet_ms (0: no). */
int online_listen(struct online *o, int64_t until_ms, int quiet_ms);
void online_done(struct online *o);

const struct online_device *online_find(const struct online *o, const char *id);
