/* The agent: what is between broker, worker and disk. It does no waiting and knows no loop: main.c
 * (or a test) brings in what happened and gives it ports to act through. After each call it asks
 * by `wake_at` for agent_tick(). Single-threaded. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/checkpoint/model.h"
#include "common/engine/worker.h"
#include "common/mqtt/mqtt.h"
#include "common/trust/refusal.h"
#include "device-agent/conf.h"

/* What is active now, where it is another than before. */
struct agent_swap {
	char checkpoint[HASH_SIZE];
	char origin[16];
	int64_t n, correct; /* on validation images; n 0: not scored */
};

struct agent_ports {
	/* As mqtt_publish(). */
	int (*publish)(void *user, const struct mqtt_publish *p);
	/* As mqtt_subscribe() without what is retained, or mqtt_unsubscribe(); may be NULL. */
	int (*subscribe)(void *user, const char *filter, int qos, bool on);
	/* As worker_request(). */
	int (*request)(void *user, const char *op, struct json *args, uint64_t *ret_id);
	int64_t (*mono_ms)(void *user);
	int64_t (*real_ms)(void *user);
	void (*wake_at)(void *user, int64_t at_ms); /* on the mono_ms scale; -1: not */
	/* Another checkpoint is active, or there is one at the start; may be NULL. */
	void (*swapped)(void *user, const struct agent_swap *s);
	/* The checkpoint that somebody is being told of since then, whose files stay; "": none.
	 * agent_hook_ended() follows. The port's string, read at once. May be NULL. */
	const char *(*telling)(void *user);
	void *user;
	/* As readings_read(); NULL: [when] says nothing. */
	void (*readings)(void *user, const struct when_conf *c, const char *state,
			 struct when_readings *ret);
};

struct agent;

/* Checks its own certificate, takes the state folder's lock, reads what is there, ends what a crash
 * left half done, and counts the boot up, durably. conf and ports are copied; the model must
 * outlive the agent. -EBUSY: another agent has the folder. */
int agent_new(const struct agent_conf *conf, const struct model *model,
	      const struct agent_ports *ports, uint64_t seed, struct agent **ret, struct err *err);
void agent_free(struct agent *a);
int64_t agent_boot(const struct agent *a);
/* Messages that were not believed, since the start. */
uint64_t agent_refused(const struct agent *a, enum refusal why);

/* For worker_new(): as configured, with the names of private classes. */
void agent_worker_conf(const struct agent *a, struct worker_conf *ret);

/* For mqtt_conf: client id, Will; and the filters to subscribe to. */
void agent_mqtt_conf(const struct agent *a, struct mqtt_conf *ret);
#define AGENT_FILTERS 10
/* *ret_retained: also what is retained already. -ENOENT: filter i is not needed now. */
int agent_filter(const struct agent *a, size_t i, char filter[MQTT_TOPIC_MAX], int *ret_qos,
		 bool *ret_retained);

/* What happens. */
void agent_link(struct agent *a, bool up);
void agent_message(struct agent *a, const struct mqtt_message *m);
void agent_writable(struct agent *a);
/* -EINVAL: the worker reads another model than we do; the agent cannot go on. */
int agent_worker_ready(struct agent *a, const struct worker_ready *r, struct err *err);
void agent_worker_progress(struct agent *a, uint64_t request, const struct worker_progress *p);
void agent_worker_reply(struct agent *a, uint64_t request, const struct json *result,
			const struct err *err);
void agent_worker_died(struct agent *a, const struct err *why);
void agent_tick(struct agent *a);
/* The configuration was read again: what of it may change while the agent runs comes into force
 * (agent_conf_reload()), also over what `set` has changed. */
void agent_reload(struct agent *a, const struct agent_conf *conf);
/* The command that is run after a swap has ended: "", or why it failed, for the status. */
void agent_hook_ended(struct agent *a, const char *failure);
/* Says good-bye to the broker. */
void agent_stop(struct agent *a);

/* Figures of it, but for those of its broker. */
struct metrics;
void agent_figures(struct agent *a, struct metrics *m);
