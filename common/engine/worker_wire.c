#include "common/engine/worker_wire.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/worker_conf.h"
#include "common/engine/worker_protocol.h"

int worker_wire_check(const struct worker_conf *conf, struct err *err)
{
	if (!*conf->cfg)
		return err_set(err, -EINVAL,
			       "cfg: found nothing, expected the path of a Darknet cfg");
	if (conf->has_data && !*conf->data.path)
		return err_set(err, -EINVAL, "data: found nothing, expected a folder");
	if (conf->data.seed > (uint64_t)JSON_INT_MAX ||
	    conf->data.memory_max_bytes > (uint64_t)JSON_INT_MAX)
		return err_set(err, -ERANGE, "data: seed and memory limit must stay below 2^53");
	if (conf->threads < 0 || conf->threads > WORKER_THREADS_MAX || conf->nice < 0 ||
	    conf->nice > 19 || conf->fold < 0)
		return err_set(
			err, -ERANGE,
			"threads %d, nice %d, fold %d: expected 0 or more, threads at most %d, "
			"nice at most 19",
			conf->threads, conf->nice, conf->fold, WORKER_THREADS_MAX);
	if (conf->step_ms < 0 || conf->step_ms > WORKER_STEP_MS_MAX)
		return err_set(err, -ERANGE, "step_ms: found %d, expected 0 to %d", conf->step_ms,
			       WORKER_STEP_MS_MAX);
	if (conf->memory_max_bytes > (uint64_t)JSON_INT_MAX)
		return err_set(err, -ERANGE, "memory limit: must stay below 2^53");
	return 0;
}

static struct json *data_json(const struct dataset_conf *d)
{
	struct json *j = json_new_obj();
	json_set_str(j, "path", d->path);
	json_set_str(j, "test_path", d->test_path);
	json_set_str(j, "validation_path", d->validation_path);
	json_set_str(j, "stay_path", d->stay_path);
	json_set_int(j, "width", d->width);
	json_set_int(j, "height", d->height);
	json_set_int(j, "channels", d->channels);
	json_set_int(j, "center_crop", d->center_crop);
	json_set_num(j, "validation_share", d->validation_share);
	json_set_num(j, "test_share", d->test_share);
	json_set_int(j, "seed", (int64_t)d->seed);
	json_set_int(j, "limit", d->limit);
	json_set_int(j, "memory_max_bytes", (int64_t)d->memory_max_bytes);
	return j;
}

static struct json *folders_json(const char folders[WORKER_FOLDERS_MAX][1024])
{
	struct json *j = json_new_arr();
	for (size_t i = 0; i < WORKER_FOLDERS_MAX; i++)
		if (*folders[i])
			json_push_str(j, folders[i]);
	return j;
}

static struct json *cage_json(const struct worker_conf *conf)
{
	struct json *j = json_new_obj(), *readable = folders_json(conf->readable);
	for (size_t i = 0; i < conf->n_images; i++)
		json_push_str(readable, conf->images[i]);
	json_set_str(j, "sandbox", *conf->sandbox ? conf->sandbox : worker_sandboxes[0]);
	json_set(j, "readable", readable);
	json_set(j, "writable", folders_json(conf->writable));
	return j;
}

struct json *worker_wire_open(const struct worker_conf *conf)
{
	struct json *j = json_new_obj(), *a = json_new_obj();
	json_set_str(j, "cfg", conf->cfg);
	json_set_str(j, "classes", conf->classes);
	json_set_str(j, "private_classes", conf->private_classes);
	if (conf->has_data)
		json_set(j, "data", data_json(&conf->data));
	json_set_int(a, "shift_px", conf->augment.shift_px);
	json_set_bool(a, "flip", conf->augment.flip);
	json_set_num(a, "blur", conf->augment.blur);
	json_set_num(a, "brightness", conf->augment.brightness);
	json_set(j, "augment", a);
	json_set_int(j, "fold", MAX_OF(conf->fold, 1));
	json_set_str(j, "absent", conf->absent);
	json_set_int(j, "step_ms", conf->step_ms);
	json_set_str(j, "engine", conf->engine);
	json_set_str(j, "precision", conf->precision);
	json_set_int(j, "threads", conf->threads);
	json_set_int(j, "memory_max_bytes", (int64_t)conf->memory_max_bytes);
	json_set(j, "cage", cage_json(conf));
	return j;
}

static int get_hash(const struct json *obj, const char *key, bool may_be_empty, char out[HASH_SIZE],
		    struct err *err)
{
	int r = json_get_str(obj, key, out, HASH_SIZE, err);
	if (r == 0 && !hash_valid(out) && !(may_be_empty && !*out))
		return err_set(err, -EINVAL, "%s: found '%s', expected a sha256", key, out);
	return r;
}

int worker_ready_parse(const struct json *result, struct worker_ready *ret, struct err *err)
{
	struct worker_ready w = {0};
	const struct json *n, *snapshot, *names, *cage;
	int64_t v, stay, classes, skipped, threads;
	int r = json_get_obj(result, "images", &n, err);
	if (r == 0)
		r = json_get_obj(result, "snapshot", &snapshot, err);
	for (enum split s = 0; r == 0 && s < SPLIT_N; s++) {
		r = json_get_int(n, split_name(s), 0, DATASET_IMAGES_MAX, &v, err);
		if (r == 0)
			r = get_hash(snapshot, split_name(s), true, w.snapshot[s], err);
		w.n[s] = r == 0 ? (uint32_t)v : 0;
	}
	if (r < 0 || (r = json_get_int(result, "stay", 0, DATASET_IMAGES_MAX, &stay, err)) < 0 ||
	    (r = json_get_int(result, "classes", 1, UINT32_MAX, &classes, err)) < 0 ||
	    (r = get_hash(result, "model", false, w.model, err)) < 0 ||
	    (r = json_get_int(result, "skipped", 0, UINT32_MAX, &skipped, err)) < 0 ||
	    (r = json_get_arr(result, "skipped_names", DATASET_SKIPPED_NAMED, &names, err)) < 0 ||
	    (r = json_get_str(result, "engine", w.engine, sizeof(w.engine), err)) < 0 ||
	    (r = json_get_str(result, "precision", w.precision, sizeof(w.precision), err)) < 0 ||
	    (r = json_get_int(result, "threads", 1, WORKER_THREADS_MAX, &threads, err)) < 0 ||
	    (r = json_get_obj(result, "cage", &cage, err)) < 0 ||
	    (r = json_get_str(cage, "parts", w.cage, sizeof(w.cage), err)) < 0 ||
	    (r = json_get_str(cage, "missing", w.cage_missing, sizeof(w.cage_missing), err)) < 0 ||
	    (json_has(result, "bytes") &&
	     (r = json_get_int(result, "bytes", 0, JSON_INT_MAX, &w.bytes, err)) < 0) ||
	    (json_has(result, "changed") &&
	     (r = json_get_bool(result, "changed", &w.changed, err)) < 0))
		return r;
	const char *first = json_str(json_first(names));
	snprintf(w.skipped_first, sizeof(w.skipped_first), "%s", first ? first : "");
	w.threads = (int)threads;
	w.n_stay = (uint32_t)stay;
	w.classes = (uint32_t)classes;
	w.skipped = (uint32_t)skipped;
	*ret = w;
	return 0;
}

static int read_progress(const struct json *line, struct worker_line *l, struct err *err)
{
	char event[16];
	int r = json_get_str(line, "event", event, sizeof(event), err);
	if (r == 0 && strcmp(event, "progress") != 0)
		r = err_set(err, -EINVAL, "event: found '%s', expected 'progress'", event);
	if (r == 0)
		r = json_get_int(line, "step", 0, JSON_INT_MAX, &l->progress.step, err);
	if (r == 0)
		r = json_get_int(line, "steps", 0, JSON_INT_MAX, &l->progress.steps, err);
	if (r == 0)
		r = json_get_num(line, "images_per_second", 0, INFINITY,
				 &l->progress.images_per_second, err);
	l->progress.loss = NAN; /* null: none yet */
	json_get_num(line, "loss", -INFINITY, INFINITY, &l->progress.loss, NULL);
	l->kind = WORKER_LINE_PROGRESS;
	return r;
}

int worker_wire_line(const struct json *line, struct worker_line *ret, struct err *err)
{
	int64_t id, code;
	char category[16];
	bool ok;
	if (!json_is_obj(line))
		return err_set(err, -EINVAL, "found an array, expected an object");
	int r = json_get_int(line, "id", 1, JSON_INT_MAX, &id, err);
	if (r < 0)
		return r;
	ret->id = (uint64_t)id;
	if (json_has(line, "event"))
		return read_progress(line, ret, err);
	r = json_get_bool(line, "ok", &ok, err);
	if (r < 0)
		return r;
	ret->kind = ok ? WORKER_LINE_OK : WORKER_LINE_FAILED;
	if (ok)
		return json_get_obj(line, "result", &ret->result, err);
	r = json_get_int(line, "code", -4095, -1, &code, err);
	if (r == 0)
		r = json_get_str(line, "category", category, sizeof(category), err);
	if (r == 0)
		r = json_get_str(line, "error", ret->err.text, sizeof(ret->err.text), err);
	if (r < 0)
		return r;
	ret->err.code = (int)code;
	ret->err.category = err_category_parse(category);
	return 0;
}
