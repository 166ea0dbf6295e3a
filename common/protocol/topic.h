/* The topic tree, tasuki/v1/<site>/...; every topic is made and read here. docs/protocol.md. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/id.h"

#define TOPIC_SIZE 256 /* = MQTT_TOPIC_MAX */

enum topic_kind {
	TOPIC_DEVICE_PRESENCE, /* device/<device>/presence */
	TOPIC_DEVICE_STATUS,
	TOPIC_DEVICE_HISTORY,
	TOPIC_DEVICE_REPORT,
	TOPIC_DEVICE_OFFER,
	TOPIC_DEVICE_CLAIM, /* device/<device>/in/claim ... */
	TOPIC_DEVICE_RESULT, /* .../in/offer: a trainer's result */
	TOPIC_DEVICE_WANT,
	TOPIC_DEVICE_BLOCK, /* .../in/block/<checkpoint>/<block> */
	TOPIC_DEVICE_KEY, /* .../in/key: a fleet's */
	TOPIC_DEVICE_ACK,
	TOPIC_DEVICE_CMD,
	TOPIC_FLEET_CMD, /* fleet/cmd */
	TOPIC_FLEET_OFFER,
	TOPIC_FLEET_BLOCK, /* fleet/block/<checkpoint>/<block> */
	TOPIC_TRAINER_PRESENCE, /* trainer/<trainer>/presence */
	TOPIC_TRAINER_STATUS,
	TOPIC_TRAINER_JOB, /* trainer/<trainer>/job/<device> */
	TOPIC_TRAINER_GRANT, /* trainer/<trainer>/in/<device>/grant ... */
	TOPIC_TRAINER_WANT,
	TOPIC_TRAINER_BLOCK, /* .../in/<device>/block/<checkpoint>/<block> */
	TOPIC_TRAINER_KEY, /* .../in/<device>/key: the wish for it */
	TOPIC_TRAINER_ACK,
	TOPIC_REPLY, /* reply/<client>/... */
	TOPIC_N,
};

struct topic {
	enum topic_kind kind;
	char device[ID_SIZE], trainer[ID_SIZE], client[ID_SIZE]; /* "" where the kind has none */
	char checkpoint[HASH_SIZE];
	uint32_t block;
};

/* -EINVAL: a part is missing or not a valid id, hash or number; -ENAMETOOLONG. */
int topic_format(char buf[TOPIC_SIZE], const char *site, const struct topic *t);
/* A subscription filter: as topic_format, but an id that is "" becomes '+', and so does the block's
 * number. With `share`, prefixed by "$share/<share>/". */
int topic_filter(char buf[TOPIC_SIZE], const char *site, const struct topic *t, const char *share);
/* -EINVAL for anything that is not exactly a topic of this site. */
int topic_parse(const char *topic, const char *site, struct topic *ret);
