/* The agent's configuration file; deploy/examples/agent.conf lists every key with its default. */
#pragma once

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"
#include "common/conf/reload.h"
#include "common/engine/worker.h"
#include "common/metrics/listen.h"
#include "common/trust/identity.h"
#include "device-agent/meter.h"
#include "device-agent/when.h"

#define SELECT_BLENDS_MAX  5
#define SELECT_PROTECT_MAX 64 /* classes */
#define VALIDATION_FEW     30 /* images: fewer decide hardly anything */

enum selector { SELECTOR_BEST, SELECTOR_CONFIDENCE };
enum lineage { LINEAGE_KEEP, LINEAGE_ADOPT };

/* [select]: which checkpoints are tried when a result has come back, which of them becomes active,
 * and what is trained on after that. */
struct select_conf {
	enum selector selector;
	enum lineage lineage;
	double confidence;       /* 0..1, that an exchange is no chance */
	double protect_points;   /* of recall that a protected class, or all private ones together,
				    may lose */
	char protect_names[900]; /* as in the file; agent_conf_classes() makes outputs of them */
	int32_t protect[SELECT_PROTECT_MAX];
	size_t n_protect;
	int64_t blends[SELECT_BLENDS_MAX]; /* percent of the returned one */
	size_t n_blends;
	bool previous;
	int64_t tune_steps, tune_rate_percent;
	int64_t budget_s; /* 0: as long as it takes */
};

/* What the command `set` may change while the agent runs. */
struct agent_live {
	int64_t round_epochs, rounds, round_pause_s;      /* rounds 0: for ever */
	int64_t every_epochs, plateau_epochs, min_epochs; /* handovers; 0: not by itself */
	int64_t rescan_s;                                 /* 0: data are not looked at again */
	int64_t lease_s, hold_max_s;
	int64_t min_accuracy_percent; /* no handover by itself before validation has reached it */
};

/* What an offer carries of private outputs, if there are any: zeros, or their rows. */
/* [privacy]: of what is handed over (docs/security.md). */
struct privacy_conf {
	double noise; /* standard deviation, in clips; 0: all of it is off */
	double clip;  /* L2 norm */
	double delta, budget; /* budget: the largest epsilon */
};

#define AGENT_HOOK_WORDS_MAX 32

/* [hook]: a command to be run after a swap. */
struct hook_conf {
	char words[CONF_VALUE_MAX + 2]; /* program (an absolute path) and arguments, a NUL behind each */
	size_t n;                       /* how many; 0: none */
	int64_t timeout_s;
};

enum private_rows { PRIVATE_ROWS_KEEP, PRIVATE_ROWS_SEND };

struct agent_conf {
	char site[ID_SIZE], id[ID_SIZE];
	char state[FILE_PATH_MAX];
	char host[256];
	int64_t port, keepalive_s, reconnect_first_ms, reconnect_cap_ms;
	struct identity_paths identity;
	struct metrics_conf metrics;
	bool commands_signed;       /* by an operator; else whoever the broker lets say them */
	struct worker_conf worker;  /* cfg, classes and data too */
	bool share_never;           /* nothing that was trained on data.path is offered */
	char private_classes[1024]; /* file of the names of classes that only this device has; "" */
	enum private_rows private_rows;
	int64_t seed; /* of training */
	int64_t block_size;
	struct meter_conf link;
	struct when_conf when;
	struct privacy_conf privacy;
	int encoding;            /* of what is offered: enum encoding, or ENCODING_AUTO */
	double tolerance_points; /* of accuracy on validation images that a form may cost */
	struct agent_live live;
	struct select_conf select;
	struct hook_conf hook;
};

/* Strict: unknown sections and keys, values out of range, and folders and programs that are not
 * there are refused with file, line and key. Makes nothing. */
int agent_conf_load(const char *path, struct agent_conf *ret, struct err *err);
/* The same without a look at what it names: for whoever looks into that one by one. */
int agent_conf_read(const char *path, struct agent_conf *ret, struct err *err);
/* What the file at `path` says otherwise than *now, as conf_reload() does it: the keys of struct
 * agent_live, and those of [link] and [when], come into force. `next`: that file, as
 * agent_conf_load() gave it. */
int agent_conf_reload(const struct conf *start, const char *path, const struct agent_conf *next,
		      struct agent_conf *now, conf_changed_cb changed, void *user, struct err *err);
/* Outputs of the protected classes, once the names of all outputs are known. -EINVAL: a name that
 * is not among them; -E2BIG. */
int agent_conf_classes(struct agent_conf *c, const char *const *names, size_t n, struct err *err);
/* One of the keys of `set`, from text: every_epochs, plateau_epochs, round_epochs, rounds,
 * round_pause_s, rescan_s, lease_s. -ENOENT: not one of them; -EINVAL, -ERANGE. */
int agent_live_set(struct agent_live *l, const char *key, const char *value, struct err *err);
