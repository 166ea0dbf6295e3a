/* The request `open`: cfg, classes and data are read and judged, then the networks are made. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/args.h"
#include "common/engine/ceiling.h"
#include "common/engine/gemm.h"
#include "common/engine/session.h"
#include "common/engine/worker.h"
#include "common/engine/worker_protocol.h"

/* Images per batch of an evaluation follow from the topology alone, so that every process
 * computes the same scores, whatever its training batch; this bounds memory. */
#define EVAL_FLOATS_MAX \
	((uint64_t)4 * 1024 * 1024) /* outputs of all layers, or inputs, for one batch */

static uint32_t eval_batch(const struct model *m)
{
	uint64_t inputs = (uint64_t)m->width * m->height * m->channels, floats = 1;
	for (size_t i = 0; i < m->n_layers; i++)
		floats += (uint64_t)m->layers[i].out_w * m->layers[i].out_h * m->layers[i].out_c;
	uint64_t batch = EVAL_FLOATS_MAX / MAX_OF(floats, inputs); /* Darknet counts in int */
	return (uint32_t)MAX_OF(1u, MIN_OF(batch, (uint64_t)SESSION_EVAL_BATCH_MAX));
}

/* They stand for the outputs after those of the public list; the model is that of the list alone.
 */
static int add_private(struct session *s, const char *path, struct err *err)
{
	_cleanup_(classes_done) struct classes more = {0};
	int r = s->classes.n
			? classes_load(path, &more, err)
			: err_set(err, -EINVAL,
				  "%s: names after those of a class list, but none is given", path);
	if (r == 0)
		r = classes_append(&s->classes, &more, path, err);
	if (r == 0 && s->classes.n > s->model->outputs)
		r = err_set(err, -E2BIG, "%s: %zu names, but %s has only %u spare outputs", path,
			    more.n, s->model->cfg_path, s->model->outputs - s->model->n_classes);
	return r;
}

/* One of the words, by its index; absent or empty: the first. */
static int arg_word(const struct json *args, const char *key, const char *const *words, int *ret,
		    struct err *err)
{
	char word[16];
	int r = arg_str(args, key, word, sizeof(word), err), i = 0;
	while (r == 0 && *word && words[i] && strcmp(word, words[i]) != 0)
		i++;
	*ret = i;
	if (r < 0 || words[i])
		return r;
	char list[64] = "";
	for (i = 0; words[i]; i++) {
		size_t n = strlen(list);
		snprintf(list + n, sizeof(list) - n, "%s%s",
			 i == 0         ? ""
			 : words[i + 1] ? ", "
					: " or ",
			 words[i]);
	}
	return err_set(err, -EINVAL, "%s: found '%s', expected %s", key, word, list);
}

static int read_model(struct session *s, const struct json *args, struct err *err)
{
	static const char *const absents[] = WORKER_ABSENTS;
	char path[1024], classes[1024], more[1024];
	int absent;
	int r = json_get_str(args, "cfg", path, sizeof(path), err);
	if (r == 0)
		r = arg_str(args, "classes", classes, sizeof(classes), err);
	if (r == 0)
		r = arg_str(args, "private_classes", more, sizeof(more), err);
	if (r == 0)
		r = arg_word(args, "absent", absents, &absent, err);
	if (r == 0)
		r = file_read(path, MODEL_CFG_MAX, &s->cfg, &s->cfg_len, err);
	if (r == 0 && *classes)
		r = classes_load(classes, &s->classes, err);
	if (r < 0)
		return r;
	r = model_parse(s->cfg, s->cfg_len, path, (const char *const *)s->classes.names,
			s->classes.n, &s->model, err);
	if (r == 0)
		r = model_check_classifier(s->model, err);
	s->mask = absent != 0;
	return r < 0 || !*more ? r : add_private(s, more, err);
}

/* The images looked at are the steps of `open` and `rescan`. */
static void on_image(void *user)
{
	struct session *s = user;
	channel_progress(s->channel, CHANNEL_JOB, s->reading_id, ++s->images_read, 0, NAN, 0);
}

static int read_data_conf(struct session *s, const struct json *data, struct dataset_conf *conf,
			  struct err *err)
{
	int64_t crop, seed, limit, memory, side[3];
	const char *const names[3] = {"width", "height", "channels"};
	const uint32_t expected[3] = {s->model->width, s->model->height, s->model->channels};
	int r = json_get_str(data, "path", conf->path, sizeof(conf->path), err);
	if (r < 0 ||
	    (r = arg_str(data, "test_path", conf->test_path, sizeof(conf->test_path), err)) < 0 ||
	    (r = arg_str(data, "validation_path", conf->validation_path,
			 sizeof(conf->validation_path), err)) < 0 ||
	    (r = arg_str(data, "stay_path", conf->stay_path, sizeof(conf->stay_path), err)) < 0 ||
	    (r = arg_int(data, "center_crop", 0, DATASET_IMAGE_DIM_MAX, 0, &crop, err)) < 0 ||
	    (r = arg_num(data, "validation_share", 0, 0.9, 0, &conf->validation_share, err)) < 0 ||
	    (r = arg_num(data, "test_share", 0, 0.9, 0, &conf->test_share, err)) < 0 ||
	    (r = arg_int(data, "seed", 0, JSON_INT_MAX, 0, &seed, err)) < 0 ||
	    (r = arg_int(data, "limit", 0, DATASET_IMAGES_MAX, 0, &limit, err)) < 0 ||
	    (r = arg_int(data, "memory_max_bytes", 0, JSON_INT_MAX, 0, &memory, err)) < 0)
		return r;
	for (int i = 0; i < 3; i++) {
		r = arg_int(data, names[i], 0, MODEL_DIM_MAX, 0, &side[i], err);
		if (r < 0)
			return r;
		if (side[i] && side[i] != expected[i])
			return err_set(err, -EINVAL, "data.%s: %lld, but %s expects %u", names[i],
				       (long long)side[i], s->model->cfg_path, expected[i]);
	}
	conf->width = expected[0];
	conf->height = expected[1];
	conf->channels = expected[2];
	conf->center_crop = (uint32_t)crop;
	conf->seed = (uint64_t)seed;
	conf->limit = (uint32_t)limit;
	conf->memory_max_bytes = (uint64_t)memory;
	conf->on_image = on_image;
	conf->on_image_user = s;
	return 0;
}

/* memory_bytes: that the limit leaves for it; 0: no limit. */
static int read_data(struct session *s, const struct json *args, uint64_t memory_bytes,
		     struct err *err)
{
	const struct json *data;
	struct dataset_conf conf = {0};
	int64_t id = 0;
	int r = json_get_int(args, "id", 1, JSON_INT_MAX, &id, err);
	s->reading_id = (uint64_t)id;
	if (r == 0)
		r = json_get_obj(args, "data", &data, err);
	if (r == 0)
		r = read_data_conf(s, data, &conf, err);
	if (memory_bytes && (!conf.memory_max_bytes || conf.memory_max_bytes > memory_bytes))
		conf.memory_max_bytes = memory_bytes;
	if (r == 0 && !s->classes.n)
		r = classes_from_data(conf.path, &s->classes, err);
	if (r < 0)
		return r;
	if (s->classes.n > s->model->outputs)
		return err_set(err, -EINVAL, "%s has %zu classes, but %s has only %u outputs",
			       conf.path, s->classes.n, s->model->cfg_path, s->model->outputs);
	return dataset_open(&conf, &s->classes, &s->data, err);
}

static int read_augment(struct session *s, const struct json *args, struct err *err)
{
	int64_t shift = 0, fold;
	const struct json *a;
	int r = arg_int(args, "fold", 1, SESSION_FOLD_MAX, 1, &fold, err);
	if (r == 0 && json_has(args, "augment")) {
		if ((r = json_get_obj(args, "augment", &a, err)) < 0 ||
		    (r = arg_int(a, "shift_px", 0, 64, 0, &shift, err)) < 0 ||
		    (r = arg_bool(a, "flip", false, &s->augment.flip, err)) < 0 ||
		    (r = arg_num(a, "blur", 0, 10, 0, &s->augment.blur, err)) < 0 ||
		    (r = arg_num(a, "brightness", 0, 1, 0, &s->augment.brightness, err)) < 0)
			return r;
	}
	if (r < 0)
		return r;
	s->augment.shift_px = (int)shift;
	s->fold = (uint32_t)fold;
	return 0;
}

static int read_engine(struct session *s, const struct json *args, struct err *err)
{
	/* In the order of the enums. */
	static const char *const engines[] = WORKER_ENGINES, *const precisions[] =
								     WORKER_PRECISIONS;
	int64_t threads, memory, step_ms;
	int engine, precision;
	int r = arg_word(args, "engine", engines, &engine, err);
	if (r < 0 || (r = arg_word(args, "precision", precisions, &precision, err)) < 0 ||
	    (r = arg_int(args, "threads", 0, WORKER_THREADS_MAX, 0, &threads, err)) < 0 ||
	    (r = arg_int(args, "step_ms", 0, WORKER_STEP_MS_MAX, 0, &step_ms, err)) < 0 ||
	    (r = arg_int(args, "memory_max_bytes", 0, JSON_INT_MAX, 0, &memory, err)) < 0)
		return r;
	s->step_ms = step_ms;
	s->engine = (enum dnet_engine)engine;
	s->precision = (enum dnet_precision)precision;
	s->memory_max_bytes = (uint64_t)memory;
	cpu_set_t cpus;
	if (!threads)
		threads = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
	s->threads = (int)MIN_OF(threads, WORKER_THREADS_MAX);
	/* Where it is needed for certain, it counts as part of the program: see ceiling.c. */
	return s->engine == DNET_DARKNET ? gemm_init(s->threads, err) : 0;
}

/* Now, rather than when the first training begins. */
static int check_precision(const struct session *s, struct err *err)
{
	if (s->precision != DNET_BF16)
		return 0;
	if (strcmp(dnet_engine_name(s->eval_net), "onednn") != 0)
		return err_set(
			err, -EOPNOTSUPP,
			"precision: found 'bf16', but the engine '%s' computes in float32 only",
			dnet_engine_name(s->eval_net));
	if (!dnet_has_bf16())
		return err_set(err, -EOPNOTSUPP,
			       "precision: found 'bf16', but this CPU has no bfloat16 arithmetic");
	return 0;
}

static void forget(struct session *s)
{
	dnet_free(s->eval_net);
	s->eval_net = NULL;
	dataset_free(s->data);
	model_free(s->model);
	classes_done(&s->classes);
	free(s->cfg);
	s->data = NULL;
	s->model = NULL;
	s->cfg = NULL;
	s->classes = (struct classes){0};
}

/* What the configuration says, judged before anything large is allocated. */
static int read_settings(struct session *s, const struct json *args, uint64_t *ret_data_bytes,
			 struct err *err)
{
	int r = read_engine(s, args, err);
	if (r == 0)
		r = read_model(s, args, err);
	if (r == 0)
		r = read_augment(s, args, err);
	if (r == 0)
		r = ceiling_check(s, eval_batch(s->model), json_has(args, "data"), ret_data_bytes,
				  err);
	return r;
}

int session_gemm(const struct session *s, const struct dnet *d, struct err *err)
{
	return dnet_uses_gemm(d) ? gemm_init(s->threads, err) : 0;
}

int session_train_net(const struct session *s, uint64_t seed, struct dnet **ret, struct err *err)
{
	const struct dnet_conf conf = {.engine = s->engine,
				       .precision = s->precision,
				       .threads = s->threads,
				       .training = true,
				       .seed = seed};
	int r = dnet_new(s->model, s->cfg, s->cfg_len, &conf, ret, err);
	return r < 0 ? r : session_gemm(s, *ret, err);
}

/* Nobody can be called by an output that no class name stands for. */
static int leave_out_unnamed(struct session *s, struct err *err)
{
	if (!s->mask)
		return 0;
	_cleanup_free_ bool *unnamed = calloc(s->model->outputs, sizeof(*unnamed));
	if (!unnamed)
		return err_errno(err, -ENOMEM, "open");
	for (uint32_t c = 0; c < s->model->outputs; c++)
		unnamed[c] = s->classes.n && c >= s->classes.n;
	return dnet_leave_out(s->eval_net, unnamed, err);
}

static int make_network(struct session *s, struct err *err)
{
	/* Scores are taken in float32 always: the same weights score the same everywhere. */
	const struct dnet_conf conf = {
		.engine = s->engine, .threads = s->threads, .batch = eval_batch(s->model)};
	int r = dnet_new(s->model, s->cfg, s->cfg_len, &conf, &s->eval_net, err);
	if (r == 0)
		r = session_gemm(s, s->eval_net, err);
	if (r == 0)
		r = check_precision(s, err);
	return r < 0 ? r : leave_out_unnamed(s, err);
}

int session_open(struct session *s, const struct json *args, struct err *err)
{
	uint64_t data_bytes = 0;
	if (s->is_open)
		return err_set(err, -EEXIST, "open: it is open already");
	int r = confine(s, args, err);
	if (r == 0)
		r = channel_start(s->channel, err);
	if (r == 0)
		r = read_settings(s, args, &data_bytes, err);
	if (r == 0)
		r = confine_files(s, err);
	if (r == 0)
		r = ceiling_set(s, err);
	if (r < 0) {
		err_categorize(err, ERR_CONF);
	} else if (json_has(args, "data")) {
		r = read_data(s, args, data_bytes, err);
		if (r < 0)
			err_categorize(err, ERR_DATA);
	}
	if (r == 0) {
		r = make_network(s, err);
		if (r == -EOPNOTSUPP || r == -ELIBACC)
			err_categorize(err, ERR_CONF);
	}
	if (r < 0) {
		forget(s);
		return r;
	}
	session_predict(s); /* so that memory that is not there shows now */
	dnet_rest(s->eval_net);
	s->is_open = true;
	return 0;
}

struct json *session_ready(const struct session *s)
{
	struct json *j = json_new_obj(), *n = json_new_obj(), *snapshots = json_new_obj();
	struct json *skipped = json_new_arr();
	for (enum split i = 0; i < SPLIT_N; i++) {
		char hash[HASH_SIZE] = "";
		if (s->data)
			dataset_snapshot(s->data, i, hash);
		json_set_int(n, split_name(i), s->data ? dataset_count(s->data, i) : 0);
		json_set_str(snapshots, split_name(i), hash);
	}
	const char *name;
	for (uint32_t i = 0; s->data && (name = dataset_skipped_name(s->data, i)); i++)
		json_push_str(skipped, name);
	json_set(j, "images", n);
	json_set_int(j, "stay", s->data ? dataset_count(s->data, SPLIT_STAY) : 0);
	json_set_int(j, "bytes", s->data ? (int64_t)dataset_bytes(s->data) : 0);
	json_set(j, "snapshot", snapshots);
	json_set_int(j, "classes", (int64_t)(s->classes.n ? s->classes.n : s->model->outputs));
	json_set_str(j, "model", s->model->id);
	json_set_int(j, "skipped", s->data ? dataset_skipped(s->data) : 0);
	json_set(j, "skipped_names", skipped);
	bool planned = s->eval_net && strcmp(dnet_engine_name(s->eval_net), "onednn") == 0;
	json_set_str(j, "engine", planned ? "onednn" : gemm_engine());
	json_set_str(j, "precision", s->precision == DNET_BF16 ? "bf16" : "f32");
	json_set_int(j, "threads", s->threads);
	json_set(j, "cage", confine_report(s));
	return j;
}
