#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/protocol/message.h"
#include "common/trust/freshness.h"
#include "common/trust/trust.h"

/* What a command takes beside its name, by docs/protocol.md. */
static const char *const members[CMD_N][3] = {
	[CMD_TRAIN] = {"epochs"},
	[CMD_PIN] = {"checkpoint"},
	[CMD_EVALUATE] = {"checkpoint", "split"},
	[CMD_SET] = {"key", "value"},
};

void command_new_id(char ret[ID_SIZE])
{
	snprintf(ret, ID_SIZE, "%016llx", (unsigned long long)rng_entropy());
}

struct json *command_new(const char *cmd, const char *id, int64_t expires_ms)
{
	struct json *j = json_new_obj();
	json_set_str(j, "cmd", cmd);
	json_set_str(j, "id", id);
	if (expires_ms) {
		char at[CLOCK_TEXT_MAX];
		clock_format(expires_ms, at);
		json_set_str(j, "expires", at);
	}
	return j;
}

int command_check_member(const char *cmd, const char *key, struct err *err)
{
	int c = 0;
	while (c < CMD_N && strcmp(cmd, cmd_name((enum cmd)c)) != 0)
		c++;
	if (c == CMD_N)
		return 0;
	const char *const *m = members[c];
	for (size_t i = 0; m[i]; i++)
		if (!strcmp(m[i], key))
			return 0;
	if (!m[0])
		return err_set(err, -EINVAL, "found '%.64s=', expected nothing after %s", key, cmd);
	return err_set(err, -EINVAL, "found '%.64s=', expected %s%s%s, as %s takes no other", key,
		       m[0], m[1] ? " or " : "", m[1] ? m[1] : "", cmd);
}

int64_t command_valid_ms(int64_t timeout_s)
{
	return MIN_OF(timeout_s * 1000 + FRESHNESS_SKEW_MS, FRESHNESS_COMMAND_MS);
}

int command_topics(const char *site, const char *target, const char *client, char ret[TOPIC_SIZE],
		   char ret_reply[TOPIC_SIZE])
{
	bool fleet = !strcmp(target, COMMAND_FLEET);
	struct topic t = {.kind = fleet ? TOPIC_FLEET_CMD : TOPIC_DEVICE_CMD},
		     rt = {.kind = TOPIC_REPLY};
	if (!fleet)
		snprintf(t.device, sizeof(t.device), "%s", target);
	snprintf(rt.client, sizeof(rt.client), "%s", client);
	int r = topic_format(ret, site, &t);
	return r < 0 ? r : topic_format(ret_reply, site, &rt);
}

char *command_sign(const struct identity_paths *identity, const char *topic, char *text,
		   struct err *err)
{
	struct trust *t;
	if (trust_new(identity, ROLE_OPERATOR, clock_real_ms(), &t, err) < 0) {
		free(text);
		return NULL;
	}
	text = trust_sign_always(t, topic, text);
	trust_free(t);
	if (!text)
		err_set(err, -ENOMEM, "out of memory");
	return text;
}

struct json *command_answer(const struct mqtt_message *m, const char *id)
{
	struct json *j = NULL;
	char got[ID_SIZE] = "";
	if (json_parse(m->payload, m->len, MESSAGE_LARGE_MAX, &j, NULL) < 0)
		return NULL;
	json_get_str(j, "id", got, sizeof(got), NULL);
	if (!strcmp(got, id))
		return j;
	json_free(j);
	return NULL;
}
