/* Virtual time and a simulated broker for the product's own libraries (docs/architecture.md, "The
 * simulation"). One thread, one seed: the same seed makes the same history.
 *
 * The broker does what Mosquitto does, and what it may do: QoS 1 to whoever is connected, kept for
 * durable sessions that are not, retained messages, Wills, shared subscriptions. On top of it comes
 * what a network does: delay, reordering, loss (a full queue drops what it has acknowledged),
 * duplication, bits that flip in blocks, connections that break with what was on its way. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/rng.h"
#include "common/mqtt/mqtt.h"

#define SIM_FILTERS_MAX 16
#define SIM_QUEUED_MAX  100 /* for a session that is away; what is more is dropped */

/* --- time --- */

extern struct rng sim_rng;
int64_t sim_now(void);
/* Ports of agent and trainer: their clocks. `user` is not looked at. */
int64_t sim_mono_ms(void *user);
int64_t sim_real_ms(void *user); /* UTC; begins in September 2026 */
void sim_begin(uint64_t seed, int64_t now_ms);
void sim_end(void); /* drops what is due, and knows no client any more */
/* Calls fn(arg, n) at that time; what is due at the same moment runs in the order it was asked for.
 */
void sim_at(int64_t at_ms, void (*fn)(void *arg, uint64_t n), void *arg, uint64_t n);
/* Runs what is due until then, or, where `done` (may be NULL) says so after an event, before. */
bool sim_run(int64_t until_ms, bool (*done)(void));
/* A new folder in memory, where there is such a file system; NULL: none can be made. */
#define SIM_DIR_SIZE 64
char *sim_dir(char ret[SIM_DIR_SIZE]);
bool sim_chance(double p);
int64_t sim_between(int64_t lo, int64_t hi);

/* --- network --- */

struct sim_faults {
	double lose, twice, flip; /* of messages; flip: of blocks */
	double full;              /* of publishes that find the sender's queue full */
	int64_t delay_max_ms;
	bool reorder;
};
extern struct sim_faults sim_faults;

struct sim_kept;
struct sim_client {
	/* Set before sim_join(). */
	void *user;
	bool durable;
	void (*message)(void *user, const struct mqtt_message *m);
	void (*link)(void *user, bool up);
	void (*writable)(void *user);
	char filters[SIM_FILTERS_MAX][MQTT_TOPIC_MAX];
	bool retained[SIM_FILTERS_MAX]; /* also what is retained */
	int qos[SIM_FILTERS_MAX];
	unsigned n_filters;
	char will_topic[MQTT_TOPIC_MAX], will[512]; /* topic "": none */
	/* The simulation's. */
	bool on; /* the program runs, and wants to be connected */
	bool up, session, will_due;
	char last_will[512]; /* of the last connection, where will_due */
	uint64_t connection; /* its number; what belongs to another one is late */
	unsigned attempt;
	int64_t last_ms; /* when the last message comes in, unless they are reordered */
	struct sim_kept *queue, **queue_end;
	unsigned n_queued;
	struct sim_client *next;
};

void sim_join(struct sim_client *c);
void sim_start(struct sim_client *c);             /* its program runs from now on */
void sim_stop(struct sim_client *c, bool killed); /* killed: the Will is sent */
void sim_cut(struct sim_client *c); /* the connection breaks; it comes back by itself */
void sim_broker_restart(bool forgets_retained);
int sim_publish(struct sim_client *c, const struct mqtt_publish *p);
uint64_t sim_n_messages(void);
