/* A command on its way to a device or the whole fleet: what `tasuki cmd` and the dashboard's
 * gateway share. */
#pragma once

#include "common/json/json.h"
#include "common/mqtt/mqtt.h"
#include "common/protocol/topic.h"
#include "common/trust/identity.h"

#define COMMAND_FLEET    "fleet" /* the target that is all devices */
#define COMMAND_GRAIN_MS 1000    /* a broker counts expiry in whole seconds, begun ones too */

/* Nobody else's. */
void command_new_id(char ret[ID_SIZE]);
/* What it says first. expires_ms (UTC) 0: never. */
struct json *command_new(const char *cmd, const char *id, int64_t expires_ms);
/* A device ignores what it does not know, so a typing error would change what is meant. -EINVAL:
 * the command takes no such member, by docs/protocol.md; 0 also where there is no such command,
 * which the decoder says, and better. */
int command_check_member(const char *cmd, const char *key, struct err *err);
/* How long a signed one is valid whose answer is waited for so long: clocks may differ. */
int64_t command_valid_ms(int64_t timeout_s);
/* Where it goes, and where its answers come. */
int command_topics(const char *site, const char *target, const char *client, char ret[TOPIC_SIZE],
		   char ret_reply[TOPIC_SIZE]);
/* `text` (taken; NULL allowed) as an operator's message to that topic: signed, where there is an
 * identity. The caller frees it. NULL: err says why. */
char *command_sign(const struct identity_paths *identity, const char *topic, char *text,
		   struct err *err);
/* The answer to the command of that id, which the caller frees; NULL: it is none. */
struct json *command_answer(const struct mqtt_message *m, const char *id);
