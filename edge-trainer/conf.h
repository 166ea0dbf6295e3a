/* tasuki-trainer's configuration: every key of deploy/examples/trainer.conf. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"
#include "common/dataset/dataset.h"
#include "common/engine/worker.h"
#include "common/metrics/listen.h"
#include "common/trust/identity.h"
#include "edge-trainer/mixture.h"
#include "edge-trainer/rollout.h"
#include "edge-trainer/window.h"

#define TRAINER_SLOTS_MAX    16	  /* [train] jobs: workers side by side */
#define TRAINER_CAPACITY_MAX 1024 /* [queue] capacity */
#define TRAINER_LEASE_MIN_S  5
#define TRAINER_DISK_MIN_MB  1
#define TRAINER_DISK_MAX_MB  ((int64_t)1 << 30)
#define TRAINER_LEASE_MAX_S  86400
#define TRAINER_WINDOW_MAX_S 86400
#define TRAINER_RATE_MAX     ((int64_t)1 << 30) /* [fleet] rate_bytes */
#define TRAINER_ETA_MAX	     20 /* [merge] eta */

/* What becomes of checkpoints that devices hand over. */
enum strategy {
	STRATEGY_RESUME,   /* each is trained from for itself */
	STRATEGY_MERGE,	   /* those of a window are merged by example count, and trained from once */
	STRATEGY_AGNOSTIC, /* the same, by weights that move toward whoever fares worst */
	STRATEGY_N
};
const char *strategy_name(enum strategy s);

#define TRAINER_STORE "store" /* in the state folder */

struct trainer_conf {
	char site[ID_SIZE], id[ID_SIZE];
	char state[FILE_PATH_MAX];

	char host[256];
	int port, keepalive_s;
	int64_t reconnect_first_ms, reconnect_cap_ms;
	struct identity_paths identity;
	struct metrics_conf metrics;

	/* cfg, classes, data, augment, fold, engine, threads, nice, memory, stall, program; the
	 * log path is filled in for each worker. */
	struct worker_conf worker;
	int64_t rescan_s; /* 0: never */

	int64_t epochs, seed;
	unsigned slots; /* [train] jobs */
	enum strategy strategy;

	struct window_conf window;
	double lineage_share; /* of a merge, of the last merged result */
	double final_share;   /* of what goes back, of what was merged before it was trained */
	struct mixture_conf mixture;

	bool fleet_merged; /* [fleet] publish: a window's result is offered to everyone */
	struct rollout_conf rollout;
	int64_t fleet_rate; /* bytes a second of blocks of what is offered to everyone; 0: no limit */
	int64_t fleet_spread_ms;

	unsigned capacity, device_per_hour;
	int64_t keep_days, history_days, lease_ms, block_size;
	int encoding; /* of what goes back: an enum encoding, or ENCODING_AUTO */
	double tolerance; /* of accuracy on the test images that a form may cost, 0..1 */
	int64_t disk_max_bytes; /* of checkpoints and their parts */
};

/* Whether checkpoints wait for a window. */
static inline bool trainer_merges(const struct trainer_conf *c)
{
	return c->strategy != STRATEGY_RESUME;
}

/* Strict: unknown sections and keys, values out of range, and folders and programs that are not
 * there are refused with file, line and key. Makes nothing. */
int trainer_conf_load(const char *path, struct trainer_conf *ret, struct err *err);
