/* An agent on an event loop and at its broker: all that it needs but a worker, which whoever has
 * the session brings. One loop may have many. On the loop's thread. */
#pragma once

#include <stdio.h>

#include "common/base/loop.h"
#include "device-agent/agent.h"

struct agent_session_ports {
	/* As worker_request(). */
	int (*request)(void *user, const char *op, struct json *args, uint64_t *ret_id);
	/* As in struct mqtt_handler, before the agent hears of it; MQTT_TAKEN_OVER is the end. */
	void (*state)(void *user, enum mqtt_state state, const char *why);
	/* As in agent_ports; may be NULL. */
	void (*swapped)(void *user, const struct agent_swap *s);
	const char *(*telling)(void *user);
	/* What was sent, and what came in before the agent has it; may be NULL. */
	void (*sent)(void *user, const struct mqtt_publish *p);
	void (*came)(void *user, const struct mqtt_message *m);
	void *user;
};

struct agent_session {
	struct agent_session_ports ports;
	struct agent *agent;
	struct mqtt *mqtt;
	struct loop_source *timer;
};

/* Opens the state folder and begins to connect; conf is copied, loop and model must outlive it. On
 * failure agent_session_done() is still due. */
int agent_session_init(struct agent_session *s, struct loop *loop, const struct agent_conf *conf,
		       const struct model *model, const struct agent_session_ports *ports,
		       struct err *err);
/* Figures of it and its broker, for Prometheus. */
void agent_session_figures(const struct agent_session *s, FILE *to);
/* Says good-bye, waiting at most goodbye_ms for what is in flight. */
void agent_session_done(struct agent_session *s, int goodbye_ms);
