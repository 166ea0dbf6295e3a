/* tasuki export: a checkpoint out of a device's or trainer's state folder, with all that stock
 * darknet needs to use it. Only reads there: the daemon may run. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/store.h"
#include "common/checkpoint/weights.h"
#include "common/conf/conf.h"
#include "device-agent/private_names.h"
#include "edge-trainer/conf.h"

#define PREFIX_MIN        4 /* digits of an id that tell one from another */
#define NAME              "model"
#define MANIFEST_FILE_MAX 65536

enum { OPT_OUT = 256, OPT_CHECKPOINT, OPT_PRIVATE };

static const struct cli_option options[] = {
	{"out", "DIR", "where the files go; it is made", OPT_OUT},
	{"checkpoint", "WHICH",
	 "active, previous, newest, or the beginning of an id (a device's active, a trainer's "
	 "newest)",
	 OPT_CHECKPOINT},
	{"private-names", NULL,
	 "a device's: also the names of its private classes, which then leave it with the list",
	 OPT_PRIVATE},
	CLI_JSON,
	{0},
};
const struct cli_spec spec_export = {
	"CONF --out DIR [OPTION ...]",
	"Copies a checkpoint out of the state folder that an agent.conf or trainer.conf names, "
	"checked,\n"
	"with its cfg, class list and facts. The program may run meanwhile. In DIR lie " NAME
	".weights,\n" NAME ".cfg, " NAME ".names, " NAME ".data and " NAME ".json; there\n"
	"  darknet classifier predict " NAME ".data " NAME ".cfg " NAME ".weights IMAGE\n"
	"uses them. What a device's private classes taught its weights is in them.\n",
	options,
	"tasuki export /etc/tasuki/agent.conf --out for-the-bench",
};

struct export
{
	const char *out, *which;
	bool private_names, json, of_trainer;
	char id[ID_SIZE], state[FILE_PATH_MAX], cfg[FILE_PATH_MAX], classes[FILE_PATH_MAX];
	char store[FILE_PATH_MAX]; /* the folder that has `checkpoints` */
	struct model *model;
	struct classes names;
	struct manifest manifest;
	char checkpoint[HASH_SIZE], weights[FILE_PATH_MAX];
};

/* Only what is needed of it: the daemon judges the rest. */
static int read_conf(struct export *e, const char *path, struct err *err)
{
	struct conf *c;
	int r = conf_load(path, &c, err);
	if (r < 0) {
		cli_near_file(path, err);
		return r;
	}
	r = cli_is_trainers(c, path, &e->of_trainer, err);
	const char *section = e->of_trainer ? "trainer" : "device";
	if (r == 0)
		r = conf_id(c, section, "id", NULL, e->id, sizeof(e->id), err);
	if (r == 0)
		r = conf_file(c, section, "state", "state", e->state, sizeof(e->state), err);
	if (r == 0)
		r = conf_file(c, "model", "cfg", NULL, e->cfg, sizeof(e->cfg), err);
	if (r == 0)
		r = conf_file(c, "model", "classes", NULL, e->classes, sizeof(e->classes), err);
	conf_free(c);
	if (r == 0 && file_path(e->store, sizeof(e->store),
				e->of_trainer ? "%s/" TRAINER_STORE : "%s", e->state) < 0)
		r = err_set(err, -ENAMETOOLONG, "%s: path too long", e->state);
	return r;
}

static int by_link(struct export *e, const char *name, struct err *err)
{
	char path[FILE_PATH_MAX], to[FILE_PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/%s", e->state, name);
	ssize_t n = r < 0 ? -1 : readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return err_set(err, -ENOENT, "%s: there is no %s checkpoint", e->state, name);
	to[n] = 0;
	const char *slash = strrchr(to, '/');
	if (!hash_valid(slash ? slash + 1 : to))
		return err_set(err, -EINVAL,
			       "%s: found a link to '%s', expected a checkpoint's folder", path,
			       to);
	memcpy(e->checkpoint, slash ? slash + 1 : to, HASH_SIZE);
	return 0;
}

/* The newest, or the one whose id begins so. */
static int by_listing(struct export *e, const char *prefix, struct err *err)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
	int64_t newest = 0;
	int found = 0;
	DIR *folder = file_path(dir, sizeof(dir), "%s/" STORE_CHECKPOINTS, e->store) == 0
			      ? opendir(dir)
			      : NULL;
	if (!folder)
		return err_errno(err, -errno, "%s", dir);
	for (struct dirent *f; (f = readdir(folder));) {
		struct stat st;
		if (!hash_valid(f->d_name) || strncmp(f->d_name, prefix, strlen(prefix)) != 0 ||
		    file_path(path, sizeof(path), "%s/%s/weights", dir, f->d_name) < 0 ||
		    stat(path, &st) < 0)
			continue;
		int64_t at = st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
		if (!found++ || at > newest) {
			newest = at;
			memcpy(e->checkpoint, f->d_name, HASH_SIZE);
		}
	}
	closedir(folder);
	if (!found)
		return err_set(err, -ENOENT, "%s: found no checkpoint%s%s", dir,
			       *prefix ? " whose id begins with " : "", prefix);
	if (*prefix && found > 1)
		return err_set(err, -EINVAL,
			       "%s: found %d checkpoints whose id begins with %s, expected one",
			       dir, found, prefix);
	return 0;
}

static int choose(struct export *e, struct err *err)
{
	const char *which = e->which ? e->which : e->of_trainer ? "newest" : "active";
	if (!strcmp(which, "active") || !strcmp(which, "previous"))
		return by_link(e, which, err);
	if (!strcmp(which, "newest"))
		return by_listing(e, "", err);
	if (strlen(which) < PREFIX_MIN || strspn(which, "0123456789abcdef") != strlen(which))
		return err_set(err, -EINVAL,
			       "--checkpoint: found '%s', expected active, previous, newest or at "
			       "least %d digits of an id",
			       which, PREFIX_MIN);
	return by_listing(e, which, err);
}

static int load(struct export *e, struct err *err)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	_cleanup_(json_freep) struct json *j = NULL;
	int r = classes_load(e->classes, &e->names, err);
	if (r == 0)
		r = model_load(e->cfg, (const char *const *)e->names.names, e->names.n, &e->model,
			       err);
	if (r == 0 && file_path(path, sizeof(path), "%s/" STORE_CHECKPOINTS "/%s/manifest.json",
				e->store, e->checkpoint) < 0)
		r = err_set(err, -ENAMETOOLONG, "%s: path too long", e->state);
	if (r == 0)
		r = json_parse_file(path, MANIFEST_FILE_MAX, &j, err);
	if (r == 0 && (r = manifest_from_json(j, NULL, &e->manifest, err)) < 0)
		err_prefix(err, "%s", path);
	if (r == 0)
		r = file_path(e->weights, sizeof(e->weights), "%s/" STORE_CHECKPOINTS "/%s/weights",
			      e->store, e->checkpoint);
	if (r == 0)
		r = weights_check(e->model, e->weights, NULL, id, err);
	if (r == 0 && strcmp(id, e->checkpoint) != 0)
		r = err_set(err, -EBADMSG,
			    "%s: found sha256 %.12s, expected what its folder is called: the file "
			    "is damaged",
			    e->weights, id);
	return r;
}

static int put(const struct export *e, const char *suffix, const void *data, size_t len,
	       struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/" NAME "%s", e->out, suffix);
	if (r < 0)
		return err_errno(err, r, "%s", e->out);
	r = file_write(path, data, len, err);
	if (r == 0)
		cli_share_modes(path);
	return r;
}

static int copy(const struct export *e, const char *from, size_t max, const char *suffix,
		struct err *err)
{
	_cleanup_free_ char *data = NULL;
	size_t len;
	int r = file_read(from, max, &data, &len, err);
	return r < 0 ? r : put(e, suffix, data, len, err);
}

/* A name for each output: the public ones, then the private ones, or what stands for them. */
static char *names_text(const struct export *e, const struct classes *private)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	for (uint32_t i = 0; f && i < e->model->outputs; i++) {
		uint32_t k = i - (uint32_t)e->names.n;
		if (i < e->names.n)
			fprintf(f, "%s\n", e->names.names[i]);
		else if (k < private->n)
			fprintf(f, "%s\n", private->names[k]);
		else
			fprintf(f, "private-%u\n", k);
	}
	return f && fclose(f) == 0 ? text : NULL;
}

static int put_names(const struct export *e, struct err *err)
{
	char path[FILE_PATH_MAX], data[256];
	struct classes private = {0};
	int r = 0;
	if (e->private_names &&
	    file_path(path, sizeof(path), "%s/" PRIVATE_NAMES_FILE, e->state) == 0 &&
	    file_exists(path))
		r = classes_load(path, &private, err);
	_cleanup_free_ char *text = r == 0 ? names_text(e, &private) : NULL;
	classes_done(&private);
	if (r == 0 && !text)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = put(e, ".names", text, strlen(text), err);
	/* darknet reads these from where it is started. */
	int n = snprintf(data, sizeof(data),
			 "classes=%u\nnames=" NAME ".names\nlabels=" NAME ".names\ntop=%u\n",
			 e->model->outputs, MIN_OF(e->model->outputs, 5u));
	return r < 0 ? r : put(e, ".data", data, (size_t)n, err);
}

static struct json *facts(const struct export *e)
{
	char at[CLOCK_TEXT_MAX];
	struct json *j = json_new_obj(), *m = json_new_obj();
	clock_format(clock_real_ms(), at);
	manifest_to_json(&e->manifest, m);
	json_set_str(j, "checkpoint", e->checkpoint);
	json_set_str(j, "from", e->id);
	json_set_str(j, "exported", at);
	json_set_int(j, "width", e->model->width);
	json_set_int(j, "height", e->model->height);
	json_set_int(j, "channels", e->model->channels);
	json_set_int(j, "outputs", e->model->outputs);
	json_set_int(j, "public_classes", (int64_t)e->names.n);
	json_set(j, "manifest", m);
	return j;
}

static int write_all(const struct export *e, struct err *err)
{
	bool is_new = !file_exists(e->out);
	int r = file_mkdirs(e->out, err);
	if (r == 0 && is_new)
		cli_share_modes(e->out);
	if (r == 0)
		r = copy(e, e->weights, e->model->file_bytes, ".weights", err);
	if (r == 0)
		r = copy(e, e->cfg, MODEL_CFG_MAX, ".cfg", err);
	if (r == 0)
		r = put_names(e, err);
	struct json *j = facts(e);
	_cleanup_free_ char *text = json_print_pretty(j);
	json_free(j);
	if (r == 0)
		r = text ? put(e, ".json", text, strlen(text), err)
			 : err_set(err, -ENOMEM, "out of memory");
	return r;
}

int cmd_export(int argc, char **argv)
{
	struct export e = {0};
	struct err err = {0};
	int c, r = CLI_OK;
	optind = 1;
	while ((c = cli_next(&spec_export, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG)
			return CLI_USAGE;
		if (c == OPT_OUT)
			e.out = optarg;
		if (c == OPT_CHECKPOINT)
			e.which = optarg;
		e.private_names |= c == OPT_PRIVATE;
		e.json |= c == CLI_OPT_JSON;
	}
	if (argc - optind != 1 || !e.out)
		return cli_usage("export",
				 "an agent.conf or trainer.conf, and --out, are expected");
	if (read_conf(&e, argv[optind], &err) < 0 || choose(&e, &err) < 0 || load(&e, &err) < 0 ||
	    write_all(&e, &err) < 0)
		r = cli_fail("export", &err);
	else if (e.json)
		r = cli_print_json(facts(&e));
	else
		printf("%s: checkpoint %.12s of %s (%s, epoch %lld)\n", e.out, e.checkpoint, e.id,
		       origin_name(e.manifest.origin), (long long)e.manifest.epoch);
	model_free(e.model);
	classes_done(&e.names);
	return r;
}
