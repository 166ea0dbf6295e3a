#include "device-agent/conf.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/weights.h"
#include "common/conf/check.h"
#include "common/conf/conf.h"
#include "common/engine/worker_conf.h"
#include "common/privacy/accountant.h"
#include "common/protocol/message.h"

#define CLIENT_ID_PARTS_MAX 120 /* site and id together: they make the MQTT client id */

struct live_key {
	const char *section, *key;
	size_t offset;
	int64_t min, max, fallback;
	bool settable;
};

#define LIVE(section, member, min, max, fallback, settable)                                \
	{                                                                                  \
		section, #member, offsetof(struct agent_live, member), min, max, fallback, \
			settable                                                           \
	}

static const struct live_key live_keys[] = {
	LIVE("train", round_epochs, 1, 1000000, 10, true),
	LIVE("train", rounds, 0, 1000000, 0, true),
	LIVE("train", round_pause_s, 0, 31536000, 0, true),
	LIVE("handover", every_epochs, 0, 1000000, 5, true),
	LIVE("handover", plateau_epochs, 0, 1000000, 0, true),
	LIVE("handover", min_epochs, 0, 1000000, 1, false),
	LIVE("handover", min_accuracy_percent, 0, 100, 0, false),
	LIVE("handover", lease_s, 5, 86400, 120, true),
	LIVE("handover", hold_max_s, 60, 31536000, 21600, false),
	LIVE("data", rescan_s, 0, 86400, 10, true),
};

static int64_t *live_at(struct agent_live *l, const struct live_key *k)
{
	return (int64_t *)((char *)l + k->offset);
}

int agent_live_set(struct agent_live *l, const char *key, const char *value, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(live_keys); i++) {
		const struct live_key *k = &live_keys[i];
		if (!k->settable || strcmp(k->key, key) != 0)
			continue;
		size_t len = strlen(value);
		if (len == 0 || len > 12 || strspn(value, "0123456789") != len)
			return err_set(err, -EINVAL, "%s: found '%.40s', expected a whole number",
				       key, value);
		int64_t v = strtoll(value, NULL, 10);
		if (v < k->min || v > k->max)
			return err_set(err, -ERANGE, "%s: found %lld, expected %lld to %lld", key,
				       (long long)v, (long long)k->min, (long long)k->max);
		*live_at(l, k) = v;
		return 0;
	}
	return err_set(err, -ENOENT,
		       "key: found '%.64s', expected one of every_epochs, plateau_epochs, "
		       "round_epochs, rounds, round_pause_s, rescan_s, lease_s",
		       key);
}

/* Who says who may command: the broker, by its list, or the operator's own signature. */
static int load_commands(struct conf *c, struct agent_conf *a, struct err *err)
{
	static const char *const words[] = {"broker", "signed", NULL};
	int which, r = conf_choice(c, "device", "commands", words, "broker", &which, err);
	if (r < 0)
		return r;
	a->commands_signed = which == 1;
	if (a->commands_signed && !*a->identity.certificate)
		return conf_fail(c, "device", "commands", -EINVAL, err,
				 "found signed, expected broker without a section [identity]");
	return 0;
}

static int load_device(struct conf *c, struct agent_conf *a, struct err *err)
{
	int r;
	if ((r = conf_id(c, "device", "site", "home", a->site, sizeof(a->site), err)) < 0 ||
	    (r = conf_id(c, "device", "id", NULL, a->id, sizeof(a->id), err)) < 0 ||
	    (r = conf_file(c, "device", "state", "state", a->state, sizeof(a->state), err)) < 0 ||
	    (r = conf_str(c, "broker", "host", "127.0.0.1", a->host, sizeof(a->host), err)) < 0 ||
	    (r = conf_check_host(c, "broker", "host", a->host, err)) < 0 ||
	    (r = conf_int(c, "broker", "port", 1, 65535,
			  conf_has_section(c, "identity") ? ROLE_PORT(ROLE_DEVICE) : 1883, &a->port,
			  err)) < 0 ||
	    (r = conf_int(c, "broker", "keepalive_s", 5, 3600, 30, &a->keepalive_s, err)) < 0 ||
	    (r = conf_int(c, "broker", "reconnect_first_ms", 10, 600000, 500,
			  &a->reconnect_first_ms, err)) < 0 ||
	    (r = conf_int(c, "broker", "reconnect_cap_ms", 10, 3600000, 30000, &a->reconnect_cap_ms,
			  err)) < 0)
		return r;
	if (strlen(a->site) + strlen(a->id) > CLIENT_ID_PARTS_MAX)
		return conf_fail(c, "device", "id", -ERANGE, err,
				 "found %zu characters together with site, expected at most %d",
				 strlen(a->site) + strlen(a->id), CLIENT_ID_PARTS_MAX);
	if (a->reconnect_cap_ms < a->reconnect_first_ms)
		return conf_fail(c, "broker", "reconnect_cap_ms", -ERANGE, err,
				 "found %lld, expected at least reconnect_first_ms = %lld",
				 (long long)a->reconnect_cap_ms, (long long)a->reconnect_first_ms);
	return 0;
}

static int load_data(struct conf *c, struct agent_conf *a, struct err *err)
{
	static const char *const shares[] = {"yes", "never", NULL};
	struct worker_conf *w = &a->worker;
	struct dataset_conf *d = &w->data;
	struct augment *g = &w->augment;
	int64_t seed, crop, limit, shift, fold;
	int r, share;
	if ((r = conf_file(c, "model", "cfg", NULL, w->cfg, sizeof(w->cfg), err)) < 0 ||
	    (r = conf_file(c, "model", "classes", NULL, w->classes, sizeof(w->classes), err)) < 0 ||
	    (r = conf_file(c, "model", "private_classes", "", a->private_classes,
			   sizeof(a->private_classes), err)) < 0 ||
	    (r = conf_file(c, "data", "path", NULL, d->path, sizeof(d->path), err)) < 0 ||
	    (r = conf_choice(c, "data", "share", shares, "yes", &share, err)) < 0 ||
	    (r = conf_file(c, "data", "never_shared", "", d->stay_path, sizeof(d->stay_path),
			   err)) < 0 ||
	    (r = conf_file(c, "data", "validation", "", d->validation_path,
			   sizeof(d->validation_path), err)) < 0 ||
	    (r = conf_file(c, "data", "test", "", d->test_path, sizeof(d->test_path), err)) < 0 ||
	    (r = conf_num(c, "data", "validation_share", 0, 0.9, 0.2, &d->validation_share, err)) <
		    0 ||
	    (r = conf_num(c, "data", "test_share", 0, 0.9, 0, &d->test_share, err)) < 0 ||
	    (r = conf_int(c, "data", "seed", 0, JSON_INT_MAX, 1, &seed, err)) < 0 ||
	    (r = conf_int(c, "data", "center_crop", 0, DATASET_IMAGE_DIM_MAX, 0, &crop, err)) < 0 ||
	    (r = conf_int(c, "data", "limit", 0, DATASET_IMAGES_MAX, 0, &limit, err)) < 0 ||
	    (r = conf_int(c, "augment", "shift_px", 0, 64, 2, &shift, err)) < 0 ||
	    (r = conf_bool(c, "augment", "flip", false, &g->flip, err)) < 0 ||
	    (r = conf_num(c, "augment", "blur", 0, 10, 0.5, &g->blur, err)) < 0 ||
	    (r = conf_num(c, "augment", "brightness", 0, 0.9, 0.2, &g->brightness, err)) < 0 ||
	    (r = conf_int(c, "augment", "fold", 1, 100, 1, &fold, err)) < 0)
		return r;
	if (d->validation_share + d->test_share >= 1)
		return conf_fail(c, "data", "validation_share", -ERANGE, err,
				 "found %g together with test_share, expected less than 1",
				 d->validation_share + d->test_share);
	w->has_data = true;
	a->share_never = share == 1;
	d->seed = (uint64_t)seed;
	d->center_crop = (uint32_t)crop;
	d->limit = (uint32_t)limit;
	g->shift_px = (int)shift;
	w->fold = (int)fold;
	return 0;
}

/* A block crosses well within a lease, or a transfer would be taken for one that stands still. */
#define LINK_BLOCKS_A_LEASE 4

static int load_link(struct conf *c, struct agent_conf *a, struct err *err)
{
	int r;
	if ((r = conf_int(c, "link", "rate_bytes", 0, JSON_INT_MAX, 0, &a->link.rate_bytes, err)) <
		    0 ||
	    (r = conf_int(c, "link", "bytes_a_day", 0, JSON_INT_MAX, 0, &a->link.bytes_a_day,
			  err)) < 0)
		return r;
	int64_t least = LINK_BLOCKS_A_LEASE * a->block_size / a->live.lease_s;
	if (a->link.rate_bytes && a->link.rate_bytes < least)
		return conf_fail(c, "link", "rate_bytes", -ERANGE, err,
				 "found %lld, expected 0 or at least %lld: %d blocks of block_size "
				 "in lease_s",
				 (long long)a->link.rate_bytes, (long long)least,
				 LINK_BLOCKS_A_LEASE);
	return 0;
}

static int load_hours(struct conf *c, struct when_hours *ret, struct err *err)
{
	char text[CONF_VALUE_MAX];
	struct err why = {0};
	int r = conf_str(c, "when", "hours", "", text, sizeof(text), err);
	if (r == 0 && when_parse_hours(text, ret, &why) < 0)
		r = conf_fail(c, "when", "hours", why.code, err, "%s", why.text);
	return r;
}

static int load_when(struct conf *c, struct when_conf *w, struct err *err)
{
	static const char *const powers[] = {"any", "mains", NULL};
	static const char *const waits[] = {"nothing", "handover", "all", NULL};
	int r, power, metered;
	int64_t disk_mb;
	if ((r = load_hours(c, &w->hours, err)) < 0 ||
	    (r = conf_choice(c, "when", "power", powers, "any", &power, err)) < 0 ||
	    (r = conf_int(c, "when", "battery_min_percent", 0, 100, 0, &w->battery_min_percent,
			  err)) < 0 ||
	    (r = conf_num(c, "when", "temperature_max_c", 0, 150, 0, &w->temperature_max_c, err)) <
		    0 ||
	    (r = conf_num(c, "when", "load_max", 0, 1000, 0, &w->load_max, err)) < 0 ||
	    (r = conf_int(c, "when", "disk_free_min_mb", 0, INT64_C(1) << 40, 0, &disk_mb, err)) <
		    0 ||
	    (r = conf_str(c, "when", "metered_interfaces", "", w->interfaces, sizeof(w->interfaces),
			  err)) < 0 ||
	    (r = conf_choice(c, "when", "metered_link", waits, "handover", &metered, err)) < 0 ||
	    (r = conf_file(c, "when", "root", "/", w->root, sizeof(w->root), err)) < 0)
		return r;
	w->mains = power == 1;
	w->metered = (enum when_metered)metered;
	w->disk_free_min_bytes = disk_mb << 20;
	return 0;
}

static int load_train(struct conf *c, struct agent_conf *a, struct err *err)
{
	/* In the order of the enum. */
	static const char *const private_rows[] = {"keep", "send", NULL};
	int r, rows;
	for (size_t i = 0; i < ARRAY_LEN(live_keys); i++) {
		const struct live_key *k = &live_keys[i];
		r = conf_int(c, k->section, k->key, k->min, k->max, k->fallback,
			     live_at(&a->live, k), err);
		if (r < 0)
			return r;
	}
	if ((r = conf_int(c, "train", "seed", 0, JSON_INT_MAX, 1, &a->seed, err)) < 0 ||
	    (r = conf_int(c, "handover", "block_size", MANIFEST_BLOCK_MIN, MANIFEST_BLOCK_MAX,
			  131072, &a->block_size, err)) < 0 ||
	    (r = conf_choice(c, "transfer", "encoding", encoding_choices, "auto", &a->encoding,
			     err)) < 0 ||
	    (r = conf_num(c, "transfer", "tolerance_points", 0, 100, 0.5, &a->tolerance_points,
			  err)) < 0 ||
	    (r = conf_choice(c, "handover", "private_rows", private_rows, "keep", &rows, err)) < 0)
		return r;
	a->private_rows = (enum private_rows)rows;
	return worker_conf_read(c, "train", &a->worker, err);
}

static int load_privacy(struct conf *c, struct privacy_conf *p, struct err *err)
{
	int r;
	if ((r = conf_num(c, "privacy", "noise", 0, WEIGHTS_NOISE_MAX, 0, &p->noise, err)) < 0 ||
	    (r = conf_num(c, "privacy", "clip", WEIGHTS_CLIP_MIN, WEIGHTS_CLIP_MAX, 1, &p->clip,
			  err)) < 0 ||
	    (r = conf_num(c, "privacy", "delta", ACCOUNTANT_DELTA_MIN, ACCOUNTANT_DELTA_MAX, 1e-5,
			  &p->delta, err)) < 0 ||
	    (r = conf_num(c, "privacy", "budget", 0, MESSAGE_EPSILON_MAX, 8, &p->budget, err)) < 0)
		return r;
	if (p->noise > 0 && p->noise < WEIGHTS_NOISE_MIN)
		return conf_fail(c, "privacy", "noise", -ERANGE, err,
				 "found %g, expected 0 or at least %g", p->noise,
				 WEIGHTS_NOISE_MIN);
	return 0;
}

/* Whole percents, rising, separated by commas. */
static int read_blends(struct conf *c, struct select_conf *s, struct err *err)
{
	char text[128];
	int r = conf_str(c, "select", "blends", "", text, sizeof(text), err);
	const char *at = text;
	while (r >= 0 && *at) {
		char *end;
		at += strspn(at, " \t");
		long v = isdigit((unsigned char)*at) ? strtol(at, &end, 10) : 0;
		if (v > 0)
			end += strspn(end, " \t");
		if (v < 1 || v > 99 || (*end && *end != ',') || (*end && !end[1]) ||
		    (s->n_blends && v <= s->blends[s->n_blends - 1]))
			return conf_fail(c, "select", "blends", -EINVAL, err,
					 "found '%s', expected rising whole numbers from 1 to 99, "
					 "separated by commas",
					 text);
		if (s->n_blends == SELECT_BLENDS_MAX)
			return conf_fail(c, "select", "blends", -E2BIG, err,
					 "found more than %d weights", SELECT_BLENDS_MAX);
		s->blends[s->n_blends++] = v;
		at = *end ? end + 1 : end;
	}
	return r;
}

static int load_select(struct conf *c, struct select_conf *s, struct err *err)
{
	static const char *const selectors[] = {"best", "confidence", NULL};
	static const char *const lineages[] = {"keep", "adopt", NULL};
	int selector, lineage, r;
	double percent;
	if ((r = conf_choice(c, "select", "selector", selectors, "confidence", &selector, err)) <
		    0 ||
	    (r = conf_num(c, "select", "confidence_percent", 50, 99.99, 95, &percent, err)) < 0 ||
	    (r = conf_str(c, "select", "protect", "", s->protect_names, sizeof(s->protect_names),
			  err)) < 0 ||
	    (r = conf_num(c, "select", "protect_points", 0, 100, 10, &s->protect_points, err)) <
		    0 ||
	    (r = read_blends(c, s, err)) < 0 ||
	    (r = conf_int(c, "select", "tune_steps", 0, 1000000, 120, &s->tune_steps, err)) < 0 ||
	    (r = conf_int(c, "select", "tune_rate_percent", 1, 1000, 50, &s->tune_rate_percent,
			  err)) < 0 ||
	    (r = conf_bool(c, "select", "previous", false, &s->previous, err)) < 0 ||
	    (r = conf_int(c, "select", "budget_s", 0, 31536000, 1800, &s->budget_s, err)) < 0 ||
	    (r = conf_choice(c, "select", "lineage", lineages, "adopt", &lineage, err)) < 0)
		return r;
	if (*s->protect_names && selector == SELECTOR_BEST)
		return conf_fail(c, "select", "protect", -EINVAL, err,
				 "found '%s' with selector = best, which protects no class",
				 s->protect_names);
	s->selector = (enum selector)selector;
	s->lineage = (enum lineage)lineage;
	s->confidence = percent / 100;
	return 0;
}

int agent_conf_classes(struct agent_conf *c, const char *const *names, size_t n, struct err *err)
{
	struct select_conf *s = &c->select;
	char text[sizeof(s->protect_names)], *rest = *s->protect_names ? text : NULL;
	memcpy(text, s->protect_names, sizeof(text));
	s->n_protect = 0;
	for (char *name; (name = strsep(&rest, ","));) {
		size_t i = 0;
		name += strspn(name, " \t");
		for (size_t len = strlen(name); len && strchr(" \t", name[len - 1]);)
			name[--len] = 0;
		while (i < n && strcmp(names[i], name) != 0)
			i++;
		if (i == n)
			return err_set(err, -EINVAL,
				       "[select] protect: found '%s', expected names from %s%s%s",
				       name, c->worker.classes, *c->private_classes ? " and " : "",
				       c->private_classes);
		if (s->n_protect == SELECT_PROTECT_MAX)
			return err_set(err, -E2BIG, "[select] protect: found more than %d classes",
				       SELECT_PROTECT_MAX);
		s->protect[s->n_protect++] = (int32_t)i;
	}
	return 0;
}

/* Of an image that is in both, nothing that leaves is trained. */
static int check_other(const struct conf *c, const char *key, const char *path,
		       const char *other_key, const char *other, struct err *err)
{
	struct stat a, b;
	if (!*path || stat(path, &a) < 0 || stat(other, &b) < 0 || a.st_dev != b.st_dev ||
	    a.st_ino != b.st_ino)
		return 0;
	return conf_fail(c, "data", key, -EINVAL, err,
			 "found '%.200s', which is %s, too, expected another folder", path,
			 other_key);
}

/* Words between blanks, as they are: no shell, no quotes. */
static int load_hook(struct conf *c, struct hook_conf *h, struct err *err)
{
	char text[CONF_VALUE_MAX + 1], *rest = text, *at = h->words;
	int r = conf_str(c, "hook", "on_swap", "", text, sizeof(text), err);
	if (r >= 0)
		r = conf_int(c, "hook", "timeout_s", 1, 3600, 30, &h->timeout_s, err);
	if (r < 0)
		return r;
	for (char *word; (word = strsep(&rest, " \t"));) {
		if (!*word)
			continue;
		if (h->n == AGENT_HOOK_WORDS_MAX)
			return conf_fail(c, "hook", "on_swap", -E2BIG, err,
					 "found more than %d words", AGENT_HOOK_WORDS_MAX);
		at = stpcpy(at, word) + 1; /* fits: no more than there was */
		h->n++;
	}
	if (h->n && *h->words != '/')
		return conf_fail(c, "hook", "on_swap", -EINVAL, err,
				 "found '%.200s', expected the absolute path of a program",
				 h->words);
	return 0;
}

/* Last: what is written comes before what it stands for. */
static int check_paths(const struct conf *c, const struct agent_conf *a, struct err *err)
{
	const struct worker_conf *w = &a->worker;
	int r;
	if ((r = conf_check_state(c, "device", "state", a->state, err)) < 0 ||
	    (r = conf_check_folder(c, "data", "path", w->data.path, err)) < 0 ||
	    (r = conf_check_folder(c, "data", "validation", w->data.validation_path, err)) < 0 ||
	    (r = conf_check_folder(c, "data", "test", w->data.test_path, err)) < 0 ||
	    (r = conf_check_folder(c, "data", "never_shared", w->data.stay_path, err)) < 0 ||
	    (r = check_other(c, "never_shared", w->data.stay_path, "path", w->data.path, err)) <
		    0 ||
	    (r = conf_check_folder(c, "when", "root", a->when.root, err)) < 0 ||
	    (r = conf_check_folder(c, "worker", "readable", w->readable[0], err)) < 0 ||
	    (r = conf_check_program(c, "worker", "program", w->program, err)) < 0 ||
	    (a->hook.n && (r = conf_check_program(c, "hook", "on_swap", a->hook.words, err)) < 0))
		return r;
	return 0;
}

static int load_identity(struct conf *c, bool look, struct agent_conf *a, struct err *err)
{
	if (!look)
		return identity_conf_read(c, &a->identity, err);
	int r = identity_conf(c, &a->identity, err);
	return r < 0 ? r : identity_conf_name(c, &a->identity, a->id, err);
}

/* look: at what it names. */
static int load(const char *path, bool look, struct agent_conf *ret, struct err *err)
{
	static const char *const sections[] = {
		"device",   "broker",   "model",   "data",   "augment", "train",
		"handover", "transfer", "link",    "select", "privacy", "when",
		"worker",   "identity", "metrics", "hook",   NULL};
	struct conf *c = NULL;
	int r = conf_load(path, &c, err);
	if (r < 0)
		return r;
	struct agent_conf *a = calloc(1, sizeof(*a));
	if (!a)
		r = err_errno(err, -ENOMEM, "%s", path);
	if (r >= 0)
		r = conf_sections(c, sections, err);
	if (r >= 0)
		r = load_device(c, a, err);
	if (r >= 0)
		r = load_data(c, a, err);
	if (r >= 0)
		r = load_train(c, a, err);
	if (r >= 0)
		r = load_link(c, a, err);
	if (r >= 0)
		r = load_privacy(c, &a->privacy, err);
	if (r >= 0)
		r = load_when(c, &a->when, err);
	if (r >= 0)
		r = load_select(c, &a->select, err);
	if (r >= 0)
		r = load_hook(c, &a->hook, err);
	if (r >= 0)
		r = load_identity(c, look, a, err);
	if (r >= 0)
		r = load_commands(c, a, err);
	if (r >= 0)
		r = metrics_conf(c, &a->metrics, err);
	if (r >= 0)
		r = conf_finish(c, err);
	if (r >= 0 && look)
		r = check_paths(c, a, err);
	if (r >= 0)
		r = file_path(a->worker.log_path, sizeof(a->worker.log_path), "%s/worker.log",
			      a->state);
	if (r >= 0)
		r = worker_conf_state(&a->worker, a->state, a->state);
	if (r == -ENAMETOOLONG)
		err_set(err, r, "%s: [device] state: too long", path);
	if (r >= 0) {
		*ret = *a;
		r = 0;
	}
	free(a);
	conf_free(c);
	return r;
}

int agent_conf_load(const char *path, struct agent_conf *ret, struct err *err)
{
	return load(path, true, ret, err);
}

int agent_conf_read(const char *path, struct agent_conf *ret, struct err *err)
{
	return load(path, false, ret, err);
}

#define AT(member) offsetof(struct agent_conf, member), sizeof(((struct agent_conf *)NULL)->member)

/* Live, too. */
static const struct conf_live live_others[] = {
	{"link", "rate_bytes", AT(link.rate_bytes)},
	{"link", "bytes_a_day", AT(link.bytes_a_day)},
	{"when", "hours", AT(when.hours)},
	{"when", "power", AT(when.mains)},
	{"when", "battery_min_percent", AT(when.battery_min_percent)},
	{"when", "temperature_max_c", AT(when.temperature_max_c)},
	{"when", "load_max", AT(when.load_max)},
	{"when", "disk_free_min_mb", AT(when.disk_free_min_bytes)},
	{"when", "metered_interfaces", AT(when.interfaces)},
	{"when", "metered_link", AT(when.metered)},
};

int agent_conf_reload(const struct conf *start, const char *path, const struct agent_conf *next,
		      struct agent_conf *now, conf_changed_cb changed, void *user, struct err *err)
{
	struct conf_live live[ARRAY_LEN(live_keys) + ARRAY_LEN(live_others)];
	size_t n = 0;
	for (; n < ARRAY_LEN(live_keys); n++)
		live[n] = (struct conf_live){
			live_keys[n].section, live_keys[n].key,
			offsetof(struct agent_conf, live) + live_keys[n].offset, sizeof(int64_t)};
	for (size_t i = 0; i < ARRAY_LEN(live_others); i++)
		live[n++] = live_others[i];
	return conf_reload(start, path, live, n, next, now, changed, user, err);
}
