/* Commands of operators: what each one does to the agent's state. Pure but for one question to
 * the store; the agent saves the changed state, remembered answer included, before it answers, so
 * that a command happens at most once for an id. */
#pragma once

#include <stdbool.h>

#include "common/mqtt/mqtt.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "device-agent/conf.h"
#include "device-agent/state.h"

/* What a command may look at. */
struct commands_view {
	const char *device;
	const char *active, *previous; /* "": none */
	const struct msg_status *status;
	bool (*has)(void *user, const char *checkpoint); /* whether the store holds it */
	void *user;
	bool has_split[SPLIT_N]; /* whether there are images of it */
	bool stays;              /* nothing may be offered: share = never */
	bool spent;              /* nothing may be: the privacy budget is */
};

/* Changes *next (and *live) and fills `answer`. 0: done; 1: the answer comes later (evaluate);
 * negative: refused, err says why, and nothing is to be kept of *next and *live. */
#define COMMANDS_LATER 1
int commands_apply(struct state *next, struct agent_live *live, const struct commands_view *v,
		   const struct msg_cmd *c, struct json *answer, struct err *err);
/* Whether it only looks: then nothing needs to be saved before the answer. */
bool commands_reads_only(enum cmd c);
/* Where the answer goes: the request's response topic if it is one of ours, else reply/<device>. */
int commands_reply_topic(const char *site, const char *device, const char *response_topic,
			 char ret[TOPIC_SIZE]);
