#include "libtasuki/tasuki.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/checkpoint/model_file.h"
#include "common/engine/worker_process.h"
#include "libtasuki/impl.h"

#define OPTIONS_SIZE_MAX 4096

static int tell(struct tasuki_error *to, int r, const struct err *err)
{
	if (to && r < 0) {
		to->code = r;
		snprintf(to->text, sizeof(to->text), "%s", err->text);
	}
	return r;
}

const char *tasuki_version(void)
{
	return TASUKI_VERSION;
}

/* ---- open and close ---- */

/* A caller may have been built with a newer header: what it asks for there is not to be passed
 * over. */
static int read_options(const struct tasuki_options *from, struct tasuki_options *o,
			struct err *err)
{
	*o = (struct tasuki_options){.size = sizeof(*o)};
	if (!from)
		return 0;
	if (from->size < sizeof(*o) || from->size > OPTIONS_SIZE_MAX)
		return err_set(err, -EINVAL,
			       "options: size: found %zu, expected sizeof(struct tasuki_options)",
			       from->size);
	for (size_t i = sizeof(*o); i < from->size; i++)
		if (((const char *)from)[i])
			return err_set(
				err, -EOPNOTSUPP,
				"options: found one that version %s of the library does not know",
				TASUKI_VERSION);
	memcpy(o, from, sizeof(*o));
	if (o->center_crop < -1 || o->center_crop > MODEL_FILE_CROP_MAX)
		return err_set(err, -ERANGE, "options: center_crop: found %d, expected -1 to %d",
			       o->center_crop, MODEL_FILE_CROP_MAX);
	if (o->threads < 0 || o->threads > WORKER_THREADS_MAX)
		return err_set(err, -ERANGE, "options: threads: found %d, expected 0 to %d",
			       o->threads, WORKER_THREADS_MAX);
	return 0;
}

static int copy_path(char to[FILE_PATH_MAX], const char *path, const char *what, struct err *err)
{
	_cleanup_free_ char *whole = realpath(path, NULL);
	int r = whole ? file_path(to, FILE_PATH_MAX, "%s", whole) : -errno;
	return r < 0 ? err_errno(err, r, "%s: %s", what, path) : 0;
}

/* A state folder that nobody has described is no error where the caller says it all. */
static int configure(struct tasuki *t, const char *state, const struct tasuki_options *o,
		     struct err *err)
{
	struct worker_conf *w = &t->worker;
	struct model_file m = {0};
	int r = copy_path(t->state, state, "state folder", err);
	if (r == 0 && (r = model_file_read(t->state, &m, err)) == -ENOENT && o->cfg && o->classes)
		r = 0;
	if (r == 0)
		r = copy_path(w->cfg, o->cfg ? o->cfg : m.cfg, "cfg", err);
	if (r == 0)
		r = copy_path(w->classes, o->classes ? o->classes : m.classes, "class list", err);
	if (r == 0)
		r = file_path(w->readable[0], sizeof(w->readable[0]), "%s/checkpoints", t->state);
	if (r < 0)
		return r;
	memcpy(t->private_classes, m.private_classes, sizeof(t->private_classes));
	snprintf(w->absent, sizeof(w->absent), "%s", m.absent);
	t->center_crop = o->center_crop < 0 ? 0
			 : o->center_crop   ? (uint32_t)o->center_crop
					    : m.center_crop;
	w->threads = MAX_OF(o->threads, 1);
	w->stall_ms = TASUKI_STALL_MS;
	w->start_timeout_ms = TASUKI_START_MS;
	w->backoff_first_ms = TASUKI_BACKOFF_MS;
	w->backoff_cap_ms = TASUKI_BACKOFF_MAX_MS;
	if (o->worker)
		return copy_path(w->program, o->worker, "worker", err);
	char found[1024];
	if (worker_process_find(w, found, NULL) < 0) /* neither beside this program nor in PATH */
		snprintf(w->program, sizeof(w->program), "%s", TASUKI_WORKER);
	return 0;
}

static int open_model(struct tasuki *t, struct err *err)
{
	int r = serve_names(t, &t->names, err);
	if (r < 0)
		return r;
	_cleanup_(classes_done) struct classes listed = {0}; /* without the private ones */
	r = classes_load(t->worker.classes, &listed, err);
	if (r == 0)
		r = model_load(t->worker.cfg, (const char *const *)listed.names, listed.n,
			       &t->model, err);
	if (r == 0)
		r = model_check_classifier(t->model, err);
	if (r < 0)
		return r;
	t->inputs = (size_t)t->model->width * t->model->height * t->model->channels;
	t->outputs = t->model->outputs;
	return 0;
}

static int start(struct tasuki *t, const char *state, const struct tasuki_options *options,
		 struct err *err)
{
	struct tasuki_options o;
	int r = state ? read_options(options, &o, err)
		      : err_set(err, -EINVAL, "state: found NULL, expected a path");
	if (r < 0)
		return r;
	t->on_swap = o.on_swap;
	t->on_trouble = o.on_trouble;
	t->user = o.user;
	r = configure(t, state, &o, err);
	if (r == 0)
		r = open_model(t, err);
	if (r == 0)
		r = serve_start(t, err);
	return r < 0 ? r : serve_settle(t, err);
}

int tasuki_open(const char *state, const struct tasuki_options *options, tasuki **ret,
		struct tasuki_error *error)
{
	struct err err = {0};
	struct tasuki *t = calloc(1, sizeof(*t));
	if (!t)
		return tell(error, err_errno(&err, -ENOMEM, "tasuki_open"), &err);
	t->wake_fd = t->swap_fd = t->inotify_fd = -1;
	for (int i = 0; i < LANES_N; i++)
		t->io[i].fd = -1;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->settled_cond, NULL);
	int r = start(t, state, options, &err);
	if (r < 0)
		tasuki_close(t);
	else
		*ret = t;
	return tell(error, r, &err);
}

void tasuki_close(tasuki *t)
{
	if (!t)
		return;
	serve_stop(t);
	classes_done(&t->names);
	model_free(t->model);
	pthread_cond_destroy(&t->settled_cond);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* ---- what there is ---- */

void tasuki_shape(const tasuki *t, uint32_t *width, uint32_t *height, uint32_t *channels,
		  uint32_t *outputs)
{
	*width = t->model->width;
	*height = t->model->height;
	*channels = t->model->channels;
	*outputs = t->model->outputs;
}

int tasuki_class_name(tasuki *t, uint32_t index, char name[TASUKI_NAME_SIZE])
{
	if (index >= t->outputs)
		return -ERANGE;
	pthread_mutex_lock(&t->lock);
	if (index < t->names.n)
		snprintf(name, TASUKI_NAME_SIZE, "%s", t->names.names[index]);
	else
		snprintf(name, TASUKI_NAME_SIZE, "%u", index);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

void tasuki_current(tasuki *t, struct tasuki_checkpoint *ret)
{
	uint64_t n;
	pthread_mutex_lock(&t->lock);
	*ret = t->current;
	if (read(t->swap_fd, &n, sizeof(n)) < 0)
		errno = 0; /* nothing is new */
	pthread_mutex_unlock(&t->lock);
}

int tasuki_fd(const tasuki *t)
{
	return t->swap_fd;
}

/* ---- classify ---- */

static int check_call(const struct tasuki *t, const void *image, const struct tasuki_result *ret,
		      const float *probabilities, size_t n, struct err *err)
{
	if (!image || !ret)
		return err_set(err, -EINVAL, "%s: found NULL", image ? "ret" : "image");
	if (probabilities && n != t->outputs)
		return err_set(err, -EINVAL,
			       "probabilities: room for %zu, expected for %zu outputs", n,
			       t->outputs);
	if (serve_is_own_thread())
		return err_set(err, -EDEADLK, "called on the library's own thread");
	return 0;
}

static int finish(struct tasuki *t, const struct call *c, struct tasuki_result *ret,
		  struct err *err)
{
	struct tasuki_result r = {0};
	for (size_t i = 0; i < t->outputs; i++) {
		if (!isfinite(c->output[i]))
			return err_set(err, -EDOM, "checkpoint %.12s: its answer is not finite",
				       c->checkpoint);
		if (c->output[i] > c->output[r.class_index])
			r.class_index = (uint32_t)i;
	}
	r.score = c->output[r.class_index];
	memcpy(r.checkpoint, c->checkpoint, sizeof(r.checkpoint));
	tasuki_class_name(t, r.class_index, r.name);
	*ret = r;
	return 0;
}

static int classify(struct tasuki *t, const float *input, struct tasuki_result *ret,
		    float *probabilities, struct err *err)
{
	_cleanup_free_ float *output = malloc(t->outputs * sizeof(*output));
	if (!output)
		return err_errno(err, -ENOMEM, "classify");
	for (size_t i = 0; i < t->inputs; i++)
		if (!isfinite(input[i]))
			return err_set(err, -EINVAL, "input: number %zu is not finite", i);
	struct call c = {.input = input, .output = output};
	int r = calls_wait(t, &c);
	if (r < 0) {
		*err = c.err;
		return r;
	}
	r = finish(t, &c, ret, err);
	if (r == 0 && probabilities)
		memcpy(probabilities, output, t->outputs * sizeof(*output));
	return r;
}

int tasuki_classify_input(tasuki *t, const float *input, size_t n_input, struct tasuki_result *ret,
			  float *probabilities, size_t n, struct tasuki_error *error)
{
	struct err err = {0};
	int r = check_call(t, input, ret, probabilities, n, &err);
	if (r == 0 && n_input != t->inputs)
		r = err_set(&err, -EINVAL, "input: found %zu numbers, expected %ux%ux%u", n_input,
			    t->model->width, t->model->height, t->model->channels);
	if (r == 0)
		r = classify(t, input, ret, probabilities, &err);
	return tell(error, r, &err);
}

int tasuki_classify_pixels(tasuki *t, const uint8_t *pixels, uint32_t width, uint32_t height,
			   uint32_t channels, size_t stride, struct tasuki_result *ret,
			   float *probabilities, size_t n, struct tasuki_error *error)
{
	struct err err = {0};
	int r = check_call(t, pixels, ret, probabilities, n, &err);
	_cleanup_free_ float *input = r == 0 ? malloc(t->inputs * sizeof(*input)) : NULL;
	if (r == 0 && !input)
		r = err_errno(&err, -ENOMEM, "classify");
	if (r == 0)
		r = dataset_fit_pixels(pixels, width, height, channels, stride, t->model->width,
				       t->model->height, t->model->channels, t->center_crop, input,
				       &err);
	if (r == 0)
		r = classify(t, input, ret, probabilities, &err);
	return tell(error, r, &err);
}

int tasuki_classify_file(tasuki *t, const char *path, struct tasuki_result *ret,
			 float *probabilities, size_t n, struct tasuki_error *error)
{
	struct err err = {0};
	int r = check_call(t, path, ret, probabilities, n, &err);
	_cleanup_free_ float *input = r == 0 ? malloc(t->inputs * sizeof(*input)) : NULL;
	if (r == 0 && !input)
		r = err_errno(&err, -ENOMEM, "classify");
	if (r == 0)
		r = dataset_read_image(path, t->model->width, t->model->height, t->model->channels,
				       t->center_crop, input, &err);
	if (r == 0)
		r = classify(t, input, ret, probabilities, &err);
	return tell(error, r, &err);
}
