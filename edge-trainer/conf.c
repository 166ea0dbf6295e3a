/* Each section has one reader; keys that none of them asked for are refused at the end. The
 * ranges here are the named limits of everything a configuration can make grow. */
#include "edge-trainer/conf.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/manifest.h"
#include "common/conf/check.h"
#include "common/conf/conf.h"
#include "common/engine/worker_conf.h"
#include "common/protocol/message.h"
#include "edge-trainer/queue.h"

#define CLIENT_ID_PARTS_MAX 118 /* site and id together: they make the MQTT client id */

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

static int get_int(struct conf *c, const char *section, const char *key, int64_t min, int64_t max,
		   int64_t fallback, int *ret, struct err *err)
{
	int64_t v;
	int r = conf_int(c, section, key, min, max, fallback, &v, err);

	if (r == 0)
		*ret = (int)v;
	return r;
}

static int read_names(struct conf *c, struct trainer_conf *t, struct err *err)
{
	int r = conf_id(c, "trainer", "site", "home", t->site, sizeof(t->site), err);

	if (r == 0)
		r = conf_id(c, "trainer", "id", NULL, t->id, sizeof(t->id), err);
	if (r == 0 && strlen(t->site) + strlen(t->id) > CLIENT_ID_PARTS_MAX)
		r = conf_fail(c, "trainer", "id", -ERANGE, err,
			      "found %zu characters together with site, expected at most %d",
			      strlen(t->site) + strlen(t->id), CLIENT_ID_PARTS_MAX);
	if (r == 0)
		r = conf_file(c, "trainer", "state", "state", t->state, sizeof(t->state), err);
	return r;
}

static int read_broker(struct conf *c, struct trainer_conf *t, struct err *err)
{
	int r = conf_str(c, "broker", "host", "127.0.0.1", t->host, sizeof(t->host), err);

	if (r == 0)
		r = conf_check_host(c, "broker", "host", t->host, err);
	if (r == 0)
		r = get_int(c, "broker", "port", 1, 65535,
			    conf_has_section(c, "identity") ? ROLE_PORT(ROLE_TRAINER) : 1883, &t->port, err);
	if (r == 0)
		r = get_int(c, "broker", "keepalive_s", 1, 3600, 30, &t->keepalive_s, err);
	if (r == 0)
		r = conf_int(c, "broker", "reconnect_first_ms", 1, 600000, 500,
			     &t->reconnect_first_ms, err);
	if (r == 0)
		r = conf_int(c, "broker", "reconnect_cap_ms", 1, 3600000, 30000,
			     &t->reconnect_cap_ms, err);
	if (r == 0 && t->reconnect_cap_ms < t->reconnect_first_ms)
		r = conf_fail(c, "broker", "reconnect_cap_ms", -ERANGE, err,
			      "found %lld, expected at least reconnect_first_ms = %lld",
			      (long long)t->reconnect_cap_ms, (long long)t->reconnect_first_ms);
	return r;
}

static int read_data(struct conf *c, struct trainer_conf *t, struct err *err)
{
	struct dataset_conf *d = &t->worker.data;
	int64_t v;
	int r = conf_file(c, "data", "path", NULL, d->path, sizeof(d->path), err);

	t->worker.has_data = true;
	if (r == 0)
		r = conf_file(c, "data", "validation", "", d->validation_path,
			      sizeof(d->validation_path), err);
	if (r == 0)
		r = conf_file(c, "data", "test", "", d->test_path, sizeof(d->test_path), err);
	if (r == 0)
		r = conf_num(c, "data", "validation_share", 0, 0.9, 0, &d->validation_share, err);
	if (r == 0)
		r = conf_num(c, "data", "test_share", 0, 0.9, 0.2, &d->test_share, err);
	if (r == 0 && d->validation_share + d->test_share >= 1)
		r = conf_fail(c, "data", "validation_share", -ERANGE, err,
			      "found %g together with test_share, expected less than 1",
			      d->validation_share + d->test_share);
	if (r == 0)
		r = conf_int(c, "data", "seed", 0, INT64_C(1) << 52, 1, &v, err);
	if (r == 0)
		d->seed = (uint64_t)v;
	if (r == 0)
		r = conf_int(c, "data", "center_crop", 0, DATASET_IMAGE_DIM_MAX, 0, &v, err);
	if (r == 0)
		d->center_crop = (uint32_t)v;
	if (r == 0)
		r = conf_int(c, "data", "limit", 0, DATASET_IMAGES_MAX, 0, &v, err);
	if (r == 0)
		d->limit = (uint32_t)v;
	if (r == 0)
		r = conf_int(c, "data", "rescan_s", 0, 86400, 60, &t->rescan_s, err);
	return r;
}

static int read_augment(struct conf *c, struct trainer_conf *t, struct err *err)
{
	struct augment *a = &t->worker.augment;
	int r = get_int(c, "augment", "shift_px", 0, 64, 2, &a->shift_px, err);

	if (r == 0)
		r = conf_bool(c, "augment", "flip", false, &a->flip, err);
	if (r == 0)
		r = conf_num(c, "augment", "blur", 0, 10, 0.5, &a->blur, err);
	if (r == 0)
		r = conf_num(c, "augment", "brightness", 0, 0.9, 0.2, &a->brightness, err);
	if (r == 0)
		r = get_int(c, "augment", "fold", 1, 100, 1, &t->worker.fold, err);
	return r;
}

static const char *const strategies[STRATEGY_N + 1] = {"resume", "merge", "agnostic", NULL};

const char *strategy_name(enum strategy s)
{
	return (unsigned)s < STRATEGY_N ? strategies[s] : "?";
}

static int read_strategy(struct conf *c, struct trainer_conf *t, struct err *err)
{
	int v, r = conf_choice(c, "train", "strategy", strategies, strategies[0], &v, err);

	if (r == 0)
		t->strategy = (enum strategy)v;
	return r;
}

static int percent(struct conf *c, const char *key, int64_t max, int64_t fallback, double *ret,
		   struct err *err)
{
	int64_t v;
	int r = conf_int(c, "merge", key, 0, max, fallback, &v, err);

	if (r == 0)
		*ret = (double)v / 100;
	return r;
}

/* A fleet whose devices did not complete a handover yet has no more than these places. */
static int check_places(struct conf *c, const struct trainer_conf *t, struct err *err)
{
	unsigned places = t->capacity - t->capacity / QUEUE_KEPT_PART;

	if (!trainer_merges(t) || t->window.devices <= places)
		return 0;
	return conf_fail(c, "merge", "devices", -ERANGE, err,
			 "found %u, expected at most %u, the places that [queue] capacity = %u has for "
			 "devices that are new",
			 t->window.devices, places, t->capacity);
}

static int read_merge(struct conf *c, struct trainer_conf *t, struct err *err)
{
	int64_t v;
	int r = conf_int(c, "merge", "window_s", 1, TRAINER_WINDOW_MAX_S, 60, &v, err);

	if (r == 0)
		t->window.window_ms = v * 1000;
	if (r == 0)
		r = conf_int(c, "merge", "devices", 0, WINDOW_MEMBERS_MAX, 0, &v, err);
	if (r == 0)
		t->window.devices = (unsigned)v;
	if (r == 0)
		r = percent(c, "lineage_percent", 95, 50, &t->lineage_share, err);
	if (r == 0)
		r = percent(c, "final_percent", 95, 0, &t->final_share, err);
	if (r == 0)
		r = conf_num(c, "merge", "eta", 0, TRAINER_ETA_MAX, 4, &t->mixture.eta, err);
	if (r == 0)
		r = percent(c, "floor_percent", 100, 25, &t->mixture.floor, err);
	return r < 0 ? r : check_places(c, t, err);
}

static int read_fleet(struct conf *c, struct trainer_conf *t, struct err *err)
{
	static const char *const what[] = {"none", "merged", NULL};
	struct rollout_conf *o = &t->rollout;
	int publish, r = conf_choice(c, "fleet", "publish", what, what[0], &publish, err);
	double points = 0;
	int64_t v = 0;

	if (r == 0 && publish && !trainer_merges(t))
		return conf_fail(
			c, "fleet", "publish", -EINVAL, err,
			"found merged with [train] strategy = resume, which merges nothing");
	if (r == 0)
		r = conf_int(c, "fleet", "first_percent", 1, 100, 10, &o->share, err);
	if (r == 0)
		r = conf_int(c, "fleet", "first_reports", 1, ROLLOUT_REPORTS_MAX, 3, &o->reports,
			     err);
	if (r == 0)
		r = conf_int(c, "fleet", "first_wait_s", 1, 31536000, 86400, &v, err);
	if (r == 0)
		r = conf_num(c, "fleet", "tolerance_points", 0, 100, 1, &points, err);
	if (r == 0)
		r = conf_int(c, "fleet", "rate_bytes", 0, TRAINER_RATE_MAX, 1 << 20, &t->fleet_rate,
			     err);
	o->wait_ms = v * 1000;
	o->tolerance = points / 100;
	if (r == 0)
		r = conf_int(c, "fleet", "spread_s", 0, FLEET_SPREAD_MAX_MS / 1000, 30, &v, err);
	t->fleet_merged = r == 0 && publish;
	t->fleet_spread_ms = v * 1000;
	return r;
}

static int read_train(struct conf *c, struct trainer_conf *t, struct err *err)
{
	int64_t v;
	int r = conf_int(c, "train", "epochs", 1, 100000, 10, &t->epochs, err);

	if (r == 0)
		r = conf_int(c, "train", "seed", 0, INT64_C(1) << 52, 1, &t->seed, err);
	if (r == 0)
		r = conf_int(c, "train", "jobs", 1, TRAINER_SLOTS_MAX, 1, &v, err);
	if (r == 0)
		t->slots = (unsigned)v;
	if (r == 0)
		r = read_strategy(c, t, err);
	return r < 0 ? r : worker_conf_read(c, "mask", &t->worker, err);
}

static int read_queue(struct conf *c, struct trainer_conf *t, struct err *err)
{
	int64_t v;
	int r = conf_int(c, "queue", "capacity", 1, TRAINER_CAPACITY_MAX, 16, &v, err);

	if (r == 0)
		t->capacity = (unsigned)v;
	if (r == 0)
		r = conf_int(c, "queue", "device_per_hour", 1, 60000, 60, &v, err);
	if (r == 0)
		t->device_per_hour = (unsigned)v;
	if (r == 0)
		r = conf_int(c, "queue", "keep_days", 0, 36500, 30, &t->keep_days, err);
	if (r == 0)
		r = conf_int(c, "queue", "history_days", 0, 36500, MAX_OF(365, t->keep_days),
			     &t->history_days, err);
	if (r == 0 && t->history_days < t->keep_days)
		r = conf_fail(c, "queue", "history_days", -ERANGE, err,
			      "found %lld, expected at least keep_days = %lld",
			      (long long)t->history_days, (long long)t->keep_days);
	if (r == 0)
		r = conf_int(c, "queue", "disk_max_mb", TRAINER_DISK_MIN_MB, TRAINER_DISK_MAX_MB,
			     16384, &v, err);
	if (r == 0)
		t->disk_max_bytes = v << 20;
	if (r == 0)
		r = conf_int(c, "queue", "lease_s", TRAINER_LEASE_MIN_S, TRAINER_LEASE_MAX_S, 120,
			     &v, err);
	if (r == 0)
		t->lease_ms = v * 1000;
	if (r == 0)
		r = conf_int(c, "queue", "block_size", MANIFEST_BLOCK_MIN, MANIFEST_BLOCK_MAX,
			     MANIFEST_BLOCK_MAX, &t->block_size, err);
	return r;
}

static int read_transfer(struct conf *c, struct trainer_conf *t, struct err *err)
{
	double percent;
	int r = conf_choice(c, "transfer", "encoding", encoding_choices, "auto", &t->encoding, err);

	if (r == 0)
		r = conf_num(c, "transfer", "tolerance_points", 0, 100, 0.5, &percent, err);
	if (r == 0)
		t->tolerance = percent / 100;
	return r;
}

/* Last: what is written comes before what it stands for. */
static int check_paths(const struct conf *c, const struct trainer_conf *t, struct err *err)
{
	const struct worker_conf *w = &t->worker;
	int r = conf_check_state(c, "trainer", "state", t->state, err);

	if (r == 0)
		r = conf_check_folder(c, "data", "path", w->data.path, err);
	if (r == 0)
		r = conf_check_folder(c, "data", "validation", w->data.validation_path, err);
	if (r == 0)
		r = conf_check_folder(c, "data", "test", w->data.test_path, err);
	if (r == 0)
		r = conf_check_folder(c, "worker", "readable", w->readable[0], err);
	if (r == 0)
		r = conf_check_program(c, "worker", "program", w->program, err);
	return r;
}

static int read_folders(struct trainer_conf *t, const char *path, struct err *err)
{
	char store[FILE_PATH_MAX];
	int r = file_path(store, sizeof(store), "%s/" TRAINER_STORE, t->state);

	if (r == 0)
		r = worker_conf_state(&t->worker, t->state, store);
	return r < 0 ? err_set(err, r, "%s: [trainer] state: too long", path) : 0;
}

int trainer_conf_load(const char *path, struct trainer_conf *ret, struct err *err)
{
	static const char *const sections[] = {"trainer", "broker", "model", "data",     "augment",
					       "train",   "merge",  "fleet", "queue",    "transfer",
					       "worker",  "identity", "metrics", NULL};
	_cleanup_(conf_freep) struct conf *c = NULL;
	_cleanup_free_ struct trainer_conf *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	r = conf_load(path, &c, err);
	if (r == 0)
		r = conf_sections(c, sections, err);
	if (r == 0)
		r = read_names(c, t, err);
	if (r == 0)
		r = read_broker(c, t, err);
	if (r == 0)
		r = conf_file(c, "model", "cfg", NULL, t->worker.cfg, sizeof(t->worker.cfg), err);
	if (r == 0)
		r = conf_file(c, "model", "classes", NULL, t->worker.classes,
			      sizeof(t->worker.classes), err);
	if (r == 0)
		r = read_data(c, t, err);
	if (r == 0)
		r = read_augment(c, t, err);
	if (r == 0)
		r = read_train(c, t, err);
	if (r == 0)
		r = read_queue(c, t, err);
	if (r == 0)
		r = read_transfer(c, t, err);
	if (r == 0)
		r = read_merge(c, t, err);
	if (r == 0)
		r = read_fleet(c, t, err);
	if (r == 0)
		r = identity_conf(c, &t->identity, err);
	if (r == 0)
		r = identity_conf_name(c, &t->identity, t->id, err);
	if (r == 0)
		r = metrics_conf(c, &t->metrics, err);
	if (r == 0)
		r = conf_finish(c, err);
	if (r == 0)
		r = check_paths(c, t, err);
	if (r == 0)
		r = read_folders(t, path, err);
	if (r == 0)
		*ret = *t;
	return r;
}
