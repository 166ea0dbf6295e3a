/* Training, batch by batch. What a training computes follows from its weights, data, seed and
 * epoch number alone: order of images, augmentation and dropout are drawn from (seed, epoch), anew
 * for each epoch, so that two requests of one epoch each do what one request of two epochs does,
 * and no evaluation in between changes it.
 *
 * Which images come when is the course's part (course.h). A feed has their batches ready; it is
 * begun where the training stands when a batch is due and there is none, and dropped whenever what
 * it has made ahead will not be needed, or the data are about to change. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/engine/args.h"
#include "common/engine/momentum.h"
#include "common/engine/session.h"

#define RECENT_STEPS 20

static int64_t steps_per_epoch(const struct session *s)
{
	uint32_t step = dnet_step_images(s->train_net);
	return ((int64_t)s->training.n_epoch + step - 1) / step;
}

/* Images of an epoch, from the data as they are now. */
static int measure_epoch(struct session *s, struct err *err)
{
	uint32_t images = dataset_count(s->data, SPLIT_TRAIN) +
			  (s->training.stay ? dataset_count(s->data, SPLIT_STAY) : 0);
	int r = course_length(images, s->fold, &s->training.n_epoch);
	return r < 0 ? err_set(err, r, "train: %u training images, %u times", images, s->fold) : 0;
}

static void mark_present(const struct session *s, enum split split, bool *absent)
{
	for (uint32_t i = 0; i < dataset_count(s->data, split); i++)
		absent[dataset_label(s->data, split, i)] = false;
}

/* Outputs that no image of this training has, where such are to be left out. */
static int leave_out_absent(struct session *s, struct err *err)
{
	if (!s->mask)
		return 0;
	_cleanup_free_ bool *absent = malloc(s->model->outputs * sizeof(*absent));
	if (!absent)
		return err_errno(err, -ENOMEM, "train");
	memset(absent, true, s->model->outputs * sizeof(*absent));
	mark_present(s, SPLIT_TRAIN, absent);
	if (s->training.stay)
		mark_present(s, SPLIT_STAY, absent);
	return dnet_leave_out(s->train_net, absent, err);
}

static void begin_epoch(struct session *s)
{
	struct training *t = &s->training;
	t->at = 0;
	t->epoch_loss = 0;
	t->epoch_steps = 0;
	dnet_seed(course_mix(t->seed, t->epoch, 0, 0));
}

static int begin_feed(struct session *s, struct err *err)
{
	struct training *t = &s->training;
	if (t->settling)
		return settle_feed(s, s->train_net, t->stay, t->seed, t->epoch, &t->feed, err);
	const struct feed_conf conf = {
		.data = s->data,
		.split = SPLIT_TRAIN,
		.stay = t->stay,
		.augment = s->augment,
		.course = {.seed = t->seed,
			   .epoch = t->epoch,
			   .fold = s->fold,
			   .step_images = dnet_step_images(s->train_net),
			   .at = t->at},
		.batch = dnet_batch(s->train_net),
		.epochs = t->epochs_left,
	};
	return feed_new(&conf, &t->feed, err);
}

void train_drop_feed(struct session *s)
{
	feed_free(s->training.feed);
	s->training.feed = NULL;
}

/* The network of `weights`, or a new one. */
static int load(struct session *s, const char *weights, const char *momentum, uint64_t seed,
		uint64_t *ret_seen, struct err *err)
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
	r = session_train_net(s, seed, &s->train_net, err);
	if (r == 0 && *weights)
		r = dnet_load(s->train_net, weights, ret_seen, id, err);
	if (r == 0 && *weights && *momentum)
		r = momentum_load(momentum, id, s->train_net, err);
	return r < 0 ? r : 0;
}

struct train_args {
	char weights[FILE_PATH_MAX], out[FILE_PATH_MAX], momentum[FILE_PATH_MAX];
	int64_t epochs, steps, seed, epoch, schedule_seen; /* -1: as the weights say */
	double rate_scale;
	bool stay;
};

static int read_args(const struct json *args, struct train_args *a, struct err *err)
{
	int r = json_get_str(args, "out", a->out, sizeof(a->out), err);
	if (r < 0 || (r = arg_str(args, "weights", a->weights, sizeof(a->weights), err)) < 0 ||
	    (r = arg_str(args, "momentum", a->momentum, sizeof(a->momentum), err)) < 0 ||
	    (r = arg_int(args, "epochs", 1, SESSION_EPOCHS_MAX, 0, &a->epochs, err)) < 0 ||
	    (r = arg_int(args, "steps", 1, SESSION_STEPS_MAX, 0, &a->steps, err)) < 0 ||
	    (r = arg_int(args, "seed", 0, JSON_INT_MAX, 0, &a->seed, err)) < 0 ||
	    (r = arg_int(args, "epoch", 0, JSON_INT_MAX, 0, &a->epoch, err)) < 0 ||
	    (r = arg_int(args, "schedule_seen", 0, (int64_t)WEIGHTS_SEEN_MAX, -1, &a->schedule_seen,
			 err)) < 0 ||
	    (r = arg_num(args, "learning_rate_scale", 0, 1e6, 1, &a->rate_scale, err)) < 0 ||
	    (r = arg_bool(args, "stay", false, &a->stay, err)) < 0)
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
	r = load(s, a.weights, a.momentum, (uint64_t)a.seed, &seen, err);
	if (r < 0)
		return r;
	*t = (struct training){0};
	memcpy(t->out, a.out, sizeof(t->out));
	memcpy(t->momentum, a.momentum, sizeof(t->momentum));
	t->seed = (uint64_t)a.seed;
	t->epoch = (uint64_t)a.epoch;
	t->epochs_left = a.epochs;
	t->seen = seen;
	t->stay = a.stay;
	t->recent_loss = NAN;
	r = measure_epoch(s, err);
	if (r == 0)
		r = leave_out_absent(s, err);
	if (r < 0)
		return r;
	begin_epoch(s);
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
	train_drop_feed(s);
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
	int r = measure_epoch(s, &err);
	if (r == 0)
		r = leave_out_absent(s, &err);
	if (r < 0) {
		train_stop(s, r, err.text);
		return;
	}
	if (t->epochs_left)
		t->steps += t->epochs_left * (steps_per_epoch(s) - before);
}

/* The next batch into the network; what it replaced is noted. */
static int take_batch(struct session *s, bool *ret_ends_epoch, struct err *err)
{
	struct training *t = &s->training;
	const struct feed_batch *b;
	int r = t->feed ? 0 : begin_feed(s, err);
	if (r == 0)
		r = feed_next(t->feed, &b, err);
	if (r < 0)
		return r;
	dnet_input_at(s->train_net, b->pixels);
	for (uint32_t slot = 0; slot < b->n; slot++)
		dnet_label(s->train_net, slot, b->labels[slot]);
	if (b->replaced && !t->replaced)
		t->replaced_first = b->fault;
	t->replaced += b->replaced;
	t->at = b->at;
	*ret_ends_epoch = b->ends_epoch;
	return 0;
}

static void finish(struct session *s)
{
	struct training *t = &s->training;
	struct err err = {0};
	char id[HASH_SIZE];
	uint64_t seen = t->seen + t->images;
	int r = dnet_save(s->train_net, t->out, seen, id, &err);
	if (r == 0 && *t->momentum)
		r = momentum_save(t->momentum, id, s->train_net, &err);
	if (r < 0) {
		train_stop(s, r, err.text);
		return;
	}
	memcpy(s->live, id, sizeof(id));
	train_drop_feed(s);
	struct json *j = json_new_obj();
	json_set_str(j, "out", t->out);
	json_set_str(j, "checkpoint", id);
	json_set_int(j, "images", (int64_t)t->images);
	json_set_int(j, "steps", t->step);
	json_set_num(j, "seconds", t->seconds);
	json_set_num(j, "settle_seconds", t->settle_seconds);
	double training = t->seconds - t->settle_seconds;
	json_set_num(j, "images_per_second", training > 0 ? (double)t->images / training : 0);
	json_set_num(j, "loss", t->epoch_loss / (double)t->epoch_steps);
	json_set_int(j, "seen", (int64_t)seen);
	if (t->replaced) {
		json_set_int(j, "replaced", (int64_t)t->replaced);
		json_set_str(j, "replaced_first", t->replaced_first.text);
	}
	channel_reply(s->channel, t->id, j);
	t->id = 0;
}

/* Batch normalization's running statistics lag behind the weights: before these are saved, they
 * are measured anew. Random numbers are those of no epoch, so nothing depends on it. */
static void begin_settling(struct session *s)
{
	struct training *t = &s->training;
	train_drop_feed(s);
	t->settling = true;
	if (dnet_settles(s->train_net))
		t->settle_batches = settle_batches(s->train_net, t->n_epoch);
	dnet_seed(settle_random(t->seed, t->epoch));
}

static void settle(struct session *s)
{
	struct training *t = &s->training;
	struct err err = {0};
	double begun = session_seconds();
	bool epoch_ends;
	if (t->settled < t->settle_batches) {
		int r = take_batch(s, &epoch_ends, &err);
		if (r < 0) {
			train_stop(s, r, err.text);
			return;
		}
		dnet_settle(s->train_net, t->settled++);
		double seconds = session_seconds() - begun;
		t->seconds += seconds;
		t->settle_seconds += seconds;
	}
	if (t->settled == t->settle_batches)
		finish(s);
}

int64_t train_wait_ms(const struct session *s)
{
	int64_t now = clock_mono_ms(), wait = s->step_ends_ms - now;
	if (s->until_ms)
		wait = MIN_OF(wait, s->until_ms - now);
	return MAX_OF(wait, 0);
}

/* A step takes its time, also where it is done sooner. */
static void pace(struct session *s)
{
	struct training *t = &s->training;
	double least = (double)s->step_ms / 1000;
	s->step_ends_ms = t->step_begun_ms + s->step_ms;
	t->seconds += MAX_OF(least - t->step_seconds, 0);
	t->step_seconds = 0;
}

/* After a step: the end of the epoch, of the request, or neither. */
static void end_step(struct session *s, bool epoch_ends)
{
	struct training *t = &s->training;
	double loss = t->step_loss / t->step_batches;
	pace(s);
	t->step++;
	t->epoch_loss += loss;
	t->epoch_steps++;
	double weight = t->step < RECENT_STEPS ? 1.0 / (double)t->step : 1.0 / RECENT_STEPS;
	t->recent_loss = t->step == 1 ? loss : t->recent_loss + weight * (loss - t->recent_loss);
	t->step_loss = 0;
	t->step_batches = 0;
	if (t->epochs_left ? epoch_ends && t->epochs_left == 1 : t->step >= t->steps) {
		begin_settling(s);
		return;
	}
	if (!epoch_ends)
		return;
	t->epoch++;
	if (t->epochs_left)
		t->epochs_left--;
	begin_epoch(s);
}

void train_batch(struct session *s)
{
	struct training *t = &s->training;
	double begun = session_seconds(), loss;
	if (t->settling) {
		settle(s);
		return;
	}
	if (t->step_batches == 0)
		t->step_begun_ms = clock_mono_ms();
	if (t->step == 0 && t->step_batches == 0)
		channel_progress(s->channel, CHANNEL_TRAIN, t->id, 0, t->steps, NAN, 0);
	struct err err = {0};
	bool epoch_ends;
	int r = take_batch(s, &epoch_ends, &err);
	if (r < 0) {
		train_stop(s, r, err.text);
		return;
	}
	bool stepped = dnet_train(s->train_net, &loss);
	t->images += dnet_batch(s->train_net);
	double seconds = session_seconds() - begun;
	t->seconds += seconds;
	t->step_seconds += seconds;
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
		end_step(s, epoch_ends);
	if (t->id)
		channel_progress(s->channel, CHANNEL_TRAIN, t->id, t->step, t->steps,
				 t->recent_loss, (double)t->images / t->seconds);
}
