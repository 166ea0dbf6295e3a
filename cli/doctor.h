/* `tasuki doctor`: what its checks share. Each looks with the daemons' own code, changes nothing,
 * says what it found by doctor_say(), and leaves to the next ones what they need; without that they
 * say that they were skipped. */
#pragma once

#include "cli/online.h"
#include "common/checkpoint/model.h"
#include "device-agent/conf.h"
#include "device-agent/private_names.h"
#include "edge-trainer/conf.h"

#define DOCTOR_TEXT_MAX 900

enum doctor_state { DOCTOR_OK, DOCTOR_SKIPPED, DOCTOR_WARNING, DOCTOR_FAULT, DOCTOR_STATE_N };

struct doctor {
	struct online online; /* where the broker is, and who asks */
	struct json *checks;  /* NULL: lines */
	unsigned n[DOCTOR_STATE_N];
	bool quick; /* no worker is started, which would read the images */
	enum role role;
	const char *path; /* of the configuration; NULL: only the broker is looked at */
	/* Of the configuration, whichever it is; `agent` is NULL for a trainer's, and vice versa.
	 */
	struct agent_conf *agent;
	struct trainer_conf *trainer;
	char id[ID_SIZE], state[FILE_PATH_MAX];
	struct worker_conf worker;
	/* What was found. */
	struct classes classes;
	struct private_names names;
	struct model *model; /* NULL: it cannot be read */
	bool trusted;        /* own certificate and authorities are good, or none are needed */
	bool runs;           /* the daemon does, on this state folder */
	bool has_boot;
	int64_t boot; /* of the agent's last start */
	struct worker_ready ready;
};

/* remedy NULL: none is needed. */
void doctor_say(struct doctor *d, enum doctor_state state, const char *what, const char *remedy,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));
#define doctor_ok(d, what, ...) doctor_say(d, DOCTOR_OK, what, NULL, __VA_ARGS__)

/* doctor_site.c */
void doctor_certificates(struct doctor *d);
void doctor_broker(struct doctor *d);

/* doctor_machine.c */
void doctor_folder(struct doctor *d);
void doctor_clock(struct doctor *d);
void doctor_model(struct doctor *d);
void doctor_disk(struct doctor *d);
void doctor_worker(struct doctor *d);
void doctor_when(struct doctor *d);
