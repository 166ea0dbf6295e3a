/* The trainer: takes offers, pulls, trains, offers back. Everything outside it is reached through
 * ports, so that tests can stand in for broker, workers and clocks; database and store are real
 * files in the state folder. One thread; nothing here blocks but disk I/O.
 *
 * STATE/ lock          held by whoever runs here (main's)
 *        trainer.db    see db.h
 *        store/        checkpoints that came, and what was made of them
 *        incoming/<device>/   part files
 *        fleet.json    what is offered to everyone, and how far that is
 *        publish/      weights that an operator wants offered to everyone: taken from there
 *        worker-N.log  what workers print */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/checkpoint/model.h"
#include "common/engine/worker.h"
#include "common/json/json.h"
#include "common/mqtt/mqtt.h"
#include "common/trust/refusal.h"
#include "edge-trainer/conf.h"

#define TRAINER_DEVICES_MAX 100000
#define TRAINER_JOBS_MAX    4096 /* in memory: all that are not done */
#define TRAINER_SUBS_MAX    10

struct trainer_ports {
	void *user;
	/* As mqtt_publish(). */
	int (*publish)(void *user, const struct mqtt_publish *p);
	/* As worker_request() on the worker of that slot; takes args. */
	int (*work)(void *user, unsigned slot, const char *op, struct json *args,
		    uint64_t *ret_id);
	int64_t (*mono_ms)(void *user);
	int64_t (*real_ms)(void *user);
};

struct trainer;

/* Opens database and store, loads the jobs that are not done. The state folder must be there and
 * locked; conf and model are borrowed and must outlive it. */
int trainer_new(const struct trainer_conf *conf, const struct model *model,
		const struct trainer_ports *ports, struct trainer **ret, struct err *err);
void trainer_free(struct trainer *t); /* NULL allowed */
/* Messages that were not believed, since the start. */
uint64_t trainer_refused(const struct trainer *t, enum refusal why);

/* What to subscribe to: number of filters. retained[i]: also what is retained; qos[i]. */
unsigned trainer_subscriptions(const struct trainer *t, char filters[][MQTT_TOPIC_MAX], int *qos,
			       bool *retained);
/* Topic and payload of the Will (retained). */
int trainer_will(const struct trainer *t, char *topic, size_t topic_size, char *payload,
		 size_t payload_size);

void trainer_connected(struct trainer *t, bool up);
void trainer_message(struct trainer *t, const struct mqtt_message *m);
void trainer_writable(struct trainer *t);

void trainer_worker_ready(struct trainer *t, unsigned slot, const struct worker_ready *r);
void trainer_worker_progress(struct trainer *t, unsigned slot, uint64_t request,
			     const struct worker_progress *p);
void trainer_worker_reply(struct trainer *t, unsigned slot, uint64_t request,
			  const struct json *result, const struct err *err);
void trainer_worker_died(struct trainer *t, unsigned slot, const struct err *why, bool failed_open,
			 int64_t retry_in_ms);

/* Figures of it, but for those of its broker. */
struct metrics;
void trainer_figures(struct trainer *t, struct metrics *m);

/* Does what is due; returns when it wants to be called again (monotonic). */
int64_t trainer_tick(struct trainer *t);
/* Orderly end: closes runs, says offline. No further calls but trainer_free(). */
void trainer_stop(struct trainer *t);
