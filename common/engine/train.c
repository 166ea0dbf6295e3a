/* Training, batch by batch. What a training computes follows from its weights, data, seed and
 * epoch number alone: order of images, augmentation and dropout are drawn from (seed, epoch), anew
 * for each epoch, so that two requests of one epoch each do what one request of two epochs does,
 * and no evaluation in between changes it.
 *
 * An epoch visits each of the images x fold once, in steps of the cfg's batch. Where they do not
 * fill the last step, it is filled up from the beginning of the same order. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/engine/args.h"
#include "common/engine/session.h"

#define RECENT_STEPS 20

/* One number from several, for seeds that must not be alike. */
static uint64_t mix(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	const uint64_t parts[] = {a, b, c};
	struct rng r;
	rng_init(&r, seed);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		r.state = rng_u64(&r) ^ parts[i];
	return rng_u64(&r);
}

static int64_t steps_per_epoch(const struct session *s)
{
	uint32_t step = dnet_step_images(s->train_net);
	return ((int64_t)s->training.n_order + step - 1) / step;
}

/* Draws the order of training.epoch; keeps the place within it. */
static int draw_order(struct session *s, struct err *err)
{
	struct training *t = &s->training;
	uint64_t n = (uint64_t)dataset_count(s->data, SPLIT_TRAIN) * s->fold;
	if (n == 0 || n > UINT32_MAX)
		return err_set(err, n ? -E2BIG : -ENODATA, "train: %llu training images",
			       (unsigned long long)n);
	if (n != t->n_order) {
		uint32_t *order = realloc(t->order, n * sizeof(*order));
		if (!order)
			return err_errno(err, -ENOMEM, "train: order of %llu images",
					 (unsigned long long)n);
		t->order = order;
		t->n_order = (uint32_t)n;
	}
	dataset_order(t->seed, t->epoch, t->n_order, t->order);
	return 0;
}

static int begin_epoch(struct session *s, struct err *err)
{
	struct training *t = &s->training;
	t->at = 0;
	t->epoch_loss = 0;
	t->epoch_steps = 0;
	int r = draw_order(s, err);
	dnet_seed(mix(t->seed, t->epoch, 0, 0));
	return r;
}

/* The network of `weights`, or a new one. */
static int load(struct session *s, const char *weights, uint64_t seed, uint64_t *ret_seen,
		struct err *err)
{
	char id[HASH_SIZE];
	struct weights_header h = {0};
	int r = *weights ? weights_check(s->model, weights, &h, id, err) : 0;
	if (r < 0)
		return r;
	*ret_seen = h.seen;
	if (*weights && s->train_net && strcmp(id, s->live) == 0)
		return 0; /* as it is, with its momentum */
	/* A new one has no momentum, and nothing else of what was trained before. */
	s->live[0] = 0;
	dnet_free(s->train_net);
	s->train_net = NULL;
	const struct dnet_conf conf = {.engine = s->engine,
				       .precision = s->precision,
				       .threads = s->threads,
				       .training = true,
				       .seed = seed};
	r = dnet_new(s->model, s->cfg, s->cfg_len, &conf, &s->train_net, err);
	return r == 0 && *weights ? dnet_load(s->train_net, weights, ret_seen, id, err) : r;
}

struct train_args {
	char weights[FILE_PATH_MAX], out[FILE_PATH_MAX];
	int64_t epochs, steps, seed, epoch, schedule_seen; /* -1: as the weights say */
	double rate_scale;
};

static int read_args(const struct json *args, struct train_args *a, struct err *err)
{
	int r = json_get_str(args, "out", a->out, sizeof(a->out), err);
	if (r < 0 || (r = arg_str(args, "weights", a->weights, sizeof(a->weights), err)) < 0 ||
	    (r = arg_int(args, "epochs", 1, SESSION_EPOCHS_MAX, 0, &a->epochs, err)) < 0 ||
	    (r = arg_int(args, "steps", 1, SESSION_STEPS_MAX, 0, &a->steps, err)) < 0 ||
	    (r = arg_int(args, "seed", 0, JSON_INT_MAX, 0, &a->seed, err)) < 0 ||
	    (r = arg_int(args, "epoch", 0, JSON_INT_MAX, 0, &a->epoch, err)) < 0 ||
	    (r = arg_int(args, "schedule_seen", 0, (int64_t)WEIGHTS_SEEN_MAX, -1, &a->schedule_seen,
			 err)) < 0 ||
	    (r = arg_num(args, "learning_rate_scale", 0, 1e6, 1, &a->rate_scale, err)) < 0)
		return r;
	if (!a->out[0])
		return err_set(err, -EINVAL, "train: out: found nothing, expected a path");
	if (!a->epochs == !a->steps)
		return err_set(err, -EINVAL,
			       "train: found %s, expected one of 'epochs' and 'steps'",
			       a->epochs ? "both" : "neither");
	return 0;
}

int train_begin(struct session *s, uint64_t id, const struct json *args, struct err *err)
{
	struct training *t = &s->training;
	struct train_args a;
	uint64_t seen;
	int r = read_args(args, &a, err);
	if (r < 0)
		return r;
	if (t->id)
		return err_set(err, -EBUSY, "train: request %llu is training",
			       (unsigned long long)t->id);
	if (!s->data)
		return err_set(err, -ENODATA, "train: opened without data");
	r = load(s, a.weights, (uint64_t)a.seed, &seen, err);
	if (r < 0)
		return r;
	*t = (struct training){.order = t->order, .n_order = t->n_order};
	memcpy(t->out, a.out, sizeof(t->out));
	t->seed = (uint64_t)a.seed;
	t->epoch = (uint64_t)a.epoch;
	t->epochs_left = a.epochs;
	t->seen = seen;
	t->recent_loss = NAN;
	r = begin_epoch(s, err);
	if (r < 0)
		return r;
	t->steps = a.steps ? a.steps : a.epochs * steps_per_epoch(s);
	if (t->seen + (uint64_t)t->steps * dnet_step_images(s->train_net) > WEIGHTS_SEEN_MAX)
		return err_set(err, -ERANGE,
			       "train: the weights have seen %llu images, and would see "
			       "more than %llu",
			       (unsigned long long)seen, (unsigned long long)WEIGHTS_SEEN_MAX);
	dnet_schedule(s->train_net, a.schedule_seen >= 0 ? (uint64_t)a.schedule_seen : seen);
	dnet_rate_scale(s->train_net, a.rate_scale);
	t->id = id;
	s->live[0] = 0; /* from the first step on it is not what was saved */
	return 0;
}

void train_stop(struct session *s, int code, const char *error)
{
	struct err err = {0};
	err_set(&err, code, "%s", error);
	channel_fail(s->channel, s->training.id, &err);
	s->training.id = 0;
}

void train_data_changed(struct session *s)
{
	struct training *t = &s->training;
	struct err err = {0};
	if (!t->id)
		return;
	int64_t before = steps_per_epoch(s);
	int r = draw_order(s, &err);
	if (r < 0) {
		train_stop(s, r, err.text);
		return;
	}
	if (t->epochs_left)
		t->steps += t->epochs_left * (steps_per_epoch(s) - before);
}

static void fill_batch(struct session *s)
{
	struct training *t = &s->training;
	uint32_t n = dataset_count(s->data, SPLIT_TRAIN);
	for (uint32_t slot = 0; slot < dnet_batch(s->train_net); slot++) {
		uint32_t i = t->order[t->at++ % t->n_order];
		uint32_t image = i % n, variant = i / n;
		struct rng rng;
		rng_init(&rng, mix(t->seed, t->epoch, image, variant));
		dataset_pixels(s->data, SPLIT_TRAIN, image, variant ? &s->augment : NULL, &rng,
			       dnet_input(s->train_net, slot));
		dnet_label(s->train_net, slot, dataset_label(s->data, SPLIT_TRAIN, image));
	}
}

static void finish(struct session *s)
{
	struct training *t = &s->training;
	struct err err = {0};
	char id[HASH_SIZE];
	uint64_t seen = t->seen + t->images;
	int r = dnet_save(s->train_net, t->out, seen, id, &err);
	if (r < 0) {
		train_stop(s, r, err.text);
		return;
	}
	memcpy(s->live, id, sizeof(id));
	struct json *j = json_new_obj();
	json_set_str(j, "out", t->out);
	json_set_str(j, "checkpoint", id);
	json_set_int(j, "images", (int64_t)t->images);
	json_set_int(j, "steps", t->step);
	json_set_num(j, "seconds", t->seconds);
	json_set_num(j, "images_per_second", t->seconds > 0 ? (double)t->images / t->seconds : 0);
	json_set_num(j, "loss", t->epoch_loss / (double)t->epoch_steps);
	json_set_int(j, "seen", (int64_t)seen);
	channel_reply(s->channel, t->id, j);
	t->id = 0;
}

/* After a step: the end of the epoch, of the request, or neither. */
static void end_step(struct session *s)
{
	struct training *t = &s->training;
	struct err err = {0};
	double loss = t->step_loss / t->step_batches;
	t->step++;
	t->epoch_loss += loss;
	t->epoch_steps++;
	double weight = t->step < RECENT_STEPS ? 1.0 / (double)t->step : 1.0 / RECENT_STEPS;
	t->recent_loss = t->step == 1 ? loss : t->recent_loss + weight * (loss - t->recent_loss);
	t->step_loss = 0;
	t->step_batches = 0;
	bool epoch_ends = t->at >= t->n_order;
	if (t->epochs_left ? epoch_ends && t->epochs_left == 1 : t->step >= t->steps) {
		finish(s);
		return;
	}
	if (!epoch_ends)
		return;
	t->epoch++;
	if (t->epochs_left)
		t->epochs_left--;
	int r = begin_epoch(s, &err);
	if (r < 0)
		train_stop(s, r, err.text);
}

void train_batch(struct session *s)
{
	struct training *t = &s->training;
	double begun = session_seconds(), loss;
	if (t->step == 0 && t->step_batches == 0)
		channel_progress(s->channel, CHANNEL_TRAIN, t->id, 0, t->steps, NAN, 0);
	fill_batch(s);
	bool stepped = dnet_train(s->train_net, &loss);
	t->images += dnet_batch(s->train_net);
	t->seconds += session_seconds() - begun;
	if (!isfinite(loss)) {
		char text[128];
		snprintf(text, sizeof(text),
			 "the loss is not finite at step %lld: the learning rate may be too high",
			 (long long)t->step + 1);
		train_stop(s, -EDOM, text);
		return;
	}
	t->step_loss += loss;
	t->step_batches++;
	if (stepped)
		end_step(s);
	if (t->id)
		channel_progress(s->channel, CHANNEL_TRAIN, t->id, t->step, t->steps,
				 t->recent_loss, (double)t->images / t->seconds);
}
