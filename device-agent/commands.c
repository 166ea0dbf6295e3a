#include "device-agent/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

bool commands_reads_only(enum cmd c)
{
	return c == CMD_PING || c == CMD_STATUS;
}

static int answer_status(const struct commands_view *v, struct json *answer, struct err *err)
{
	_cleanup_(json_freep) struct json *status = NULL;
	_cleanup_free_ char *text = msg_status_print(v->status);
	if (!text)
		return err_errno(err, -ENOMEM, "status");
	int r = json_parse(text, strlen(text), MESSAGE_SMALL_MAX, &status, err);
	for (const struct json *e = json_first(status); e; e = json_next(e))
		json_set(answer, json_name(e), json_dup(e));
	return r < 0 ? r : 0;
}

static int order_handover(struct state *next, const struct commands_view *v, struct json *answer,
			  struct err *err)
{
	const struct handover *h = &next->handover;
	if (!*next->local)
		return err_set(err, -ENOENT, "handover: no local checkpoint yet");
	if (v->stays)
		return err_set(err, -EPERM,
			       "handover: what this device trains stays on it (share = never)");
	if (v->spent)
		return err_set(err, -EPERM,
			       "handover: the privacy budget is spent ([privacy] budget)");
	if (!handover_may_offer(h))
		return err_set(err, -EBUSY, "handover: one is under way, %s, with trainer %s",
			       handover_phase_name(h->phase), h->trainer);
	next->rounds.offer_ordered = true;
	json_set_str(answer, "checkpoint", next->local);
	return 0;
}

static int pin(struct state *next, const struct commands_view *v, const char *checkpoint,
	       struct json *answer, struct err *err)
{
	if (!v->has(v->user, checkpoint))
		return err_set(err, -ENOENT, "checkpoint: %s is not on this device", checkpoint);
	next->pinned = true;
	COPY(next->pending.activate, checkpoint);
	json_set_str(answer, "checkpoint", checkpoint);
	return 0;
}

static void unpin(struct state *next, const struct commands_view *v)
{
	if (!next->pinned)
		return;
	next->pinned = false;
	if (*v->previous)
		state_undecided_push(next, v->previous);
	if (*next->local)
		state_undecided_push(next, next->local);
}

static int check_evaluate(const struct commands_view *v, const struct msg_cmd *c, struct err *err)
{
	if (*c->checkpoint && !v->has(v->user, c->checkpoint))
		return err_set(err, -ENOENT, "checkpoint: %s is not on this device", c->checkpoint);
	if (!*c->checkpoint && !*v->active)
		return err_set(err, -ENOENT, "evaluate: no checkpoint is active yet");
	if (!v->has_split[c->split])
		return err_set(err, -ENOENT, "evaluate: no %s images on this device",
			       split_name(c->split));
	return COMMANDS_LATER;
}

int commands_apply(struct state *next, struct agent_live *live, const struct commands_view *v,
		   const struct msg_cmd *c, struct json *answer, struct err *err)
{
	switch (c->cmd) {
	case CMD_PING:
		json_set_str(answer, "device", v->device);
		json_set_int(answer, "boot", next->boot);
		return 0;
	case CMD_STATUS:
		return answer_status(v, answer, err);
	case CMD_TRAIN:
		json_set_int(answer, "epochs", rounds_order(&next->rounds, live, c->epochs));
		return 0;
	case CMD_HANDOVER:
		return order_handover(next, v, answer, err);
	case CMD_PAUSE:
	case CMD_RESUME:
		next->paused = c->cmd == CMD_PAUSE;
		return 0;
	case CMD_PIN:
		return pin(next, v, c->checkpoint, answer, err);
	case CMD_UNPIN:
		unpin(next, v);
		return 0;
	case CMD_ROLLBACK:
		if (!*v->previous)
			return err_set(err, -ENOENT, "rollback: there is no previous checkpoint");
		return pin(next, v, v->previous, answer, err);
	case CMD_EVALUATE:
		return check_evaluate(v, c, err);
	case CMD_SET:
		json_set_str(answer, "key", c->key);
		json_set_str(answer, "value", c->value);
		return agent_live_set(live, c->key, c->value, err);
	case CMD_N:
		break;
	}
	return err_set(err, -EINVAL, "cmd: unknown");
}

int commands_reply_topic(const char *site, const char *device, const char *response_topic,
			 char ret[TOPIC_SIZE])
{
	struct topic t;
	if (response_topic && strlen(response_topic) < TOPIC_SIZE &&
	    topic_parse(response_topic, site, &t) == 0 && t.kind == TOPIC_REPLY) {
		snprintf(ret, TOPIC_SIZE, "%s", response_topic);
		return 0;
	}
	t = (struct topic){.kind = TOPIC_REPLY};
	COPY(t.client, device);
	return topic_format(ret, site, &t);
}
