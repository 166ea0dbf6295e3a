/* Whole agents and trainers in the simulation, and what is written down of what they do. */
#pragma once

#include "common/base/file.h"
#include "common/checkpoint/model.h"
#include "common/protocol/history.h"
#include "common/protocol/message.h"
#include "common/trust/identity.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#define SITE "home"

/* --- history.c: what was seen, and what must hold of it --- */

struct history_decision {
	char device[ID_SIZE], trainer[ID_SIZE], result[HASH_SIZE];
	int64_t fence;
	enum decision decision;
	unsigned n_jobs; /* of trainers that ended by it */
};

/* A line of the history; printed when the seed fails. */
__attribute__((format(printf, 1, 2))) void history_note(const char *fmt, ...);
/* What must hold does not. */
__attribute__((format(printf, 1, 2))) void history_fail(const char *fmt, ...);
bool history_failed(void);
void history_begin(uint64_t seed, bool verbose);
void history_print(FILE *to);
void history_made(const char *id); /* a worker wrote that checkpoint */
bool history_is_made(const char *id);
/* The retained one that a device sent last; NULL: none. */
const struct msg_history *history_retained(const char *device);
/* What a device sent: fences and decisions must not contradict each other. */
void history_sent(const struct mqtt_publish *p);
/* NULL: that device has decided nothing about it. */
struct history_decision *history_decision(const char *device, int64_t fence, const char *result);
/* Each decision ended one job. */
void history_check(void);
unsigned history_n_decided(void); /* results activated or kept */

/* --- sim_device.c --- */

struct sim_device;
struct sim_device *sim_device_new(unsigned number, const char *dir, const struct model *m);
void sim_device_free(struct sim_device *d);
void sim_device_kill(struct sim_device *d); /* it starts again by itself */
struct sim_client *sim_device_client(struct sim_device *d);
bool sim_device_is_done(const struct sim_device *d); /* trained all, nothing is handed over */
/* The fence that it gave out last; 0 while it does not run. */
int64_t sim_device_fence(const struct sim_device *d);
int64_t sim_device_reports(const struct sim_device *d);
char *sim_device_report(struct sim_device *d, int64_t seq); /* caller frees; NULL */
/* Whether what its retained history says is what its reports say. */
void sim_device_check_history(struct sim_device *d);
void sim_device_describe(const struct sim_device *d, char *buf, size_t size);

/* --- sim_trainer.c --- */

struct sim_trainer;
struct sim_trainer *sim_trainer_new(unsigned number, const char *dir, const struct model *m);
void sim_trainer_free(struct sim_trainer *t);
void sim_trainer_kill(struct sim_trainer *t);
struct sim_client *sim_trainer_client(struct sim_trainer *t);
/* Handovers that are not over, but for those that a later fence of their device has passed. */
unsigned sim_trainer_open(const struct sim_trainer *t, char *buf, size_t size);
/* Checks its database against the devices' reports and decisions. */
void sim_trainer_check(struct sim_trainer *t, struct sim_device *const *devices, unsigned n);

/* In faulty times: that a publish is the last thing that a program does. */
extern double sim_crash;
extern int64_t sim_down_max_ms;
/* In what form checkpoints go both ways: an enum encoding, or ENCODING_AUTO. */
extern int sim_encoding;
/* Handovers that each device's [privacy] budget is for; 0: without noise. */
extern unsigned sim_handovers_max;
/* sim_identity.c: whether they have identities: messages are signed, blocks sealed. Without it
 * sim_identity() gives none. */
extern bool sim_secure;
void sim_identity_begin(const char *dir); /* of the history's folder */
void sim_identity(enum role role, const char *name, struct identity_paths *ret);
void sim_identity_end(void);
/* soak.c: the fence that this device gave out last. */
int64_t soak_fence(const char *device);
