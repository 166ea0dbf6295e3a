/* Weights made from others: blends, merges, and what is to be handed over with noise; and from
 * none: first weights. The statistics of batch normalization of a blend or merge are those of no
 * network: if it is to be settled, they are measured anew, in a network of its own, before it is
 * saved. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/engine/args.h"
#include "common/engine/ceiling.h"
#include "common/engine/session.h"

static bool has_statistics(const struct model *m)
{
	for (size_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].kind == TENSOR_MEAN)
			return true;
	return false;
}

/* Where the new weights go first: `out`, or, if they are still to be settled, a file beside it. */
static int begin(const struct session *s, struct job *j, char path[FILE_PATH_MAX], bool *ret_settle,
		 struct err *err)
{
	int r = arg_path(j->args, "out", j->out, err);
	if (r == 0)
		r = arg_bool(j->args, "settle", false, ret_settle, err);
	if (r < 0)
		return r;
	*ret_settle &= has_statistics(s->model);
	if (*ret_settle && !(s->data && dataset_count(s->data, SPLIT_TRAIN)))
		return err_set(err, -ENODATA, "settle: there are no training images to measure on");
	r = file_path(path, FILE_PATH_MAX, *ret_settle ? "%s.unsettled" : "%s", j->out);
	return r < 0 ? err_errno(err, r, "%s", j->out) : 0;
}

/* A network of its own: one that trains goes on. One that only waits for its next training makes
 * room if it must, as the limit was found to be enough for one; it can be had again from its
 * files. */
static int make_network(struct session *s, struct job *j, uint64_t seed, struct err *err)
{
	int r = ceiling_room(s, err);
	if (r < 0 && s->training.id)
		return r;
	if (r < 0) {
		dnet_free(TAKE_PTR(s->train_net));
		s->live[0] = 0;
	}
	struct dnet_random random;
	dnet_random_begin(&random, 0);
	r = session_train_net(s, seed, &j->net, err);
	dnet_random_end(&random);
	return r;
}

static int begin_settling(struct session *s, struct job *j, const char *path, struct err *err)
{
	int r = make_network(s, j, 0, err);
	if (r == 0)
		r = dnet_load(j->net, path, &j->seen, j->checkpoint, err);
	if (r == 0)
		r = settle_feed(s, j->net, false, 0, 0, &j->feed, err);
	unlink(path);
	if (r < 0)
		return r;
	uint64_t images = (uint64_t)dataset_count(s->data, SPLIT_TRAIN) * s->fold;
	j->n = settle_batches(j->net, (uint32_t)MIN_OF(images, (uint64_t)UINT32_MAX));
	return 0;
}

int blend_begin(struct session *s, struct job *j, struct err *err)
{
	char a[FILE_PATH_MAX], b[FILE_PATH_MAX], path[FILE_PATH_MAX];
	double alpha;
	bool settle;
	int r = begin(s, j, path, &settle, err);
	if (r < 0 || (r = arg_path(j->args, "a", a, err)) < 0 ||
	    (r = arg_path(j->args, "b", b, err)) < 0 ||
	    (r = json_get_num(j->args, "alpha", 0, 1, &alpha, err)) < 0 ||
	    (r = weights_blend(s->model, a, b, alpha, path, err)) < 0)
		return r;
	return settle ? begin_settling(s, j, path, err) : 0;
}

/* The paths are borrowed from `args`. */
static int read_inputs(const struct json *args, struct weights_input in[WEIGHTS_INPUTS_MAX],
		       size_t *ret_n, struct err *err)
{
	const struct json *list;
	int r = json_get_arr(args, "inputs", WEIGHTS_INPUTS_MAX, &list, err);
	size_t n = 0;
	for (const struct json *e = r == 0 ? json_first(list) : NULL; e; e = json_next(e), n++) {
		if (!json_is_obj(e))
			return err_set(err, -EINVAL, "inputs: found no object at %zu", n);
		r = json_get_text(e, "weights", FILE_PATH_MAX - 1, &in[n].path, err);
		if (r == 0)
			r = json_get_num(e, "share", 0, WEIGHTS_SHARE_MAX, &in[n].share, err);
		if (r < 0) {
			err_prefix(err, "inputs: %zu", n);
			return r;
		}
	}
	*ret_n = n;
	return r;
}

int merge_begin(struct session *s, struct job *j, struct err *err)
{
	struct weights_input in[WEIGHTS_INPUTS_MAX];
	char path[FILE_PATH_MAX];
	bool settle;
	size_t n;
	int r = begin(s, j, path, &settle, err);
	if (r < 0 || (r = read_inputs(j->args, in, &n, err)) < 0 ||
	    (r = weights_merge(s->model, in, n, path, err)) < 0)
		return r;
	return settle ? begin_settling(s, j, path, err) : 0;
}

static int settle_one(struct session *s, struct job *j, struct err *err)
{
	const struct feed_batch *b;
	struct dnet_random random;
	int r = feed_next(j->feed, &b, err);
	if (r < 0)
		return r;
	dnet_input_at(j->net, b->pixels);
	dnet_random_begin(&random, settle_random(j->at, 0));
	dnet_settle(j->net, j->at++);
	dnet_random_end(&random);
	channel_progress(s->channel, CHANNEL_JOB, j->id, j->at, j->n, NAN, 0);
	return 0;
}

int combine_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	int r = j->at < j->n ? settle_one(s, j, err) : 0;
	if (r == 0 && j->at < j->n)
		return 1;
	if (r == 0)
		r = j->net ? dnet_save(j->net, j->out, j->seen, j->checkpoint, err)
			   : weights_check(s->model, j->out, NULL, j->checkpoint, err);
	if (r < 0)
		return r;
	*ret_result = json_new_obj();
	json_set_str(*ret_result, "out", j->out);
	json_set_str(*ret_result, "checkpoint", j->checkpoint);
	return 0;
}

/* First weights, as a training from `seed` begins with. */
int first_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	int64_t seed;
	int r = arg_path(j->args, "out", j->out, err);
	if (r == 0)
		r = json_get_int(j->args, "seed", 0, JSON_INT_MAX, &seed, err);
	if (r == 0)
		r = make_network(s, j, (uint64_t)seed, err);
	return r < 0 ? r : combine_step(s, j, ret_result, err);
}

/* What is handed over in place of `weights`, which it hides (common/checkpoint/weights.h). */
int noise_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	char weights[FILE_PATH_MAX], base[FILE_PATH_MAX];
	struct weights_noise conf;
	int64_t row;
	double norm;
	int r;
	if ((r = arg_path(j->args, "weights", weights, err)) < 0 ||
	    (r = arg_path(j->args, "base", base, err)) < 0 ||
	    (r = arg_path(j->args, "out", j->out, err)) < 0 ||
	    (r = json_get_num(j->args, "clip", WEIGHTS_CLIP_MIN, WEIGHTS_CLIP_MAX, &conf.clip,
			      err)) < 0 ||
	    (r = json_get_num(j->args, "noise", 0, WEIGHTS_NOISE_MAX, &conf.noise, err)) < 0 ||
	    (r = arg_int(j->args, "first_row", 0, s->model->outputs, s->model->outputs, &row,
			 err)) < 0)
		return r;
	conf.first_row = (uint32_t)row;
	r = weights_noise(s->model, weights, base, &conf, j->out, &norm, err);
	if (r == 0)
		r = combine_step(s, j, ret_result, err);
	if (r == 0)
		json_set_num(*ret_result, "norm", norm);
	return r;
}
