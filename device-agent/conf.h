/* The agent's configuration file; deploy/examples/agent.conf lists every key with its default. */
#pragma once

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"
#include "common/engine/worker.h"

/* What the command `set` may change while the agent runs. */
struct agent_live {
	int64_t round_epochs, rounds, round_pause_s;      /* rounds 0: for ever */
	int64_t every_epochs, plateau_epochs, min_epochs; /* handovers; 0: not by itself */
	int64_t rescan_s;                                 /* 0: data are not looked at again */
	int64_t lease_s, hold_max_s;
};

/* What an offer carries of private outputs, if there are any: zeros, or their rows. */
enum private_rows { PRIVATE_ROWS_KEEP, PRIVATE_ROWS_SEND };

struct agent_conf {
	char site[ID_SIZE], id[ID_SIZE];
	char state[FILE_PATH_MAX];
	char host[256];
	int64_t port, keepalive_s, reconnect_first_ms, reconnect_cap_ms;
	struct worker_conf worker; /* cfg, classes and data too */
	bool share_never;          /* nothing that was trained on data.path is offered */
	char private_classes[1024]; /* names of classes that only this device knows; "": none */
	enum private_rows private_rows;
	int64_t seed;              /* of training */
	int64_t block_size;
	struct agent_live live;
};

/* Strict: unknown sections and keys, values out of range, and folders and programs that are not
 * there are refused with file, line and key. Makes nothing. */
int agent_conf_load(const char *path, struct agent_conf *ret, struct err *err);
/* One of the keys of `set`, from text: every_epochs, plateau_epochs, round_epochs, rounds,
 * round_pause_s, rescan_s, lease_s. -ENOENT: not one of them; -EINVAL, -ERANGE. */
int agent_live_set(struct agent_live *l, const char *key, const char *value, struct err *err);
