/* Evaluation: every image of a split once, as it is, in the order of the split. The last batch is
 * filled up with black images that are not counted. Batch size and arithmetic do not depend on the
 * training or on its threads: the same weights and images give the same scores everywhere.
 *
 * Loss is the mean of -log(p of the true class), p at least P_MIN. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/args.h"
#include "common/engine/gemm.h"
#include "common/engine/session.h"
#include "common/engine/worker_protocol.h"

#define P_MIN 1e-12 /* WORKER_OUTCOME_LOSS_MAX is -log of it */

/* Layout of job->counts for c classes: n[c], correct[c], confusion[c][outputs' class]. */
static uint32_t *row_n(const struct job *j)
{
	return j->counts;
}

static uint32_t *row_correct(const struct session *s, const struct job *j)
{
	return j->counts + s->model->outputs;
}

static uint32_t *confusion_row(const struct session *s, const struct job *j, uint32_t truth)
{
	return j->counts + (size_t)(2 + truth) * s->model->outputs;
}

/* How a product is shared among threads changes the order of its sums: on one they are the same
 * for all. Little is lost, the products of one image are small. */
const float *session_predict(struct session *s)
{
	gemm_threads(1);
	const float *p = dnet_predict(s->eval_net);
	gemm_threads(s->threads);
	return p;
}

/* Places for what is counted of each class, and of each image if that is asked for. */
static int make_counts(const struct session *s, struct job *j, bool outcomes, struct err *err)
{
	size_t rows = 2 + (j->confusion ? s->model->outputs : 0);
	j->counts = calloc(rows * s->model->outputs, sizeof(*j->counts));
	outcomes = outcomes && j->n <= WORKER_OUTCOMES_MAX;
	if (outcomes)
		j->outcomes = calloc(1, (size_t)j->n * WORKER_OUTCOME_DIGITS + 1);
	return j->counts && !j->outcomes == !outcomes ? 0
						      : err_errno(err, -ENOMEM, "evaluate: counts");
}

int evaluate_begin(struct session *s, struct job *j, struct err *err)
{
	char weights[FILE_PATH_MAX], split[16];
	uint64_t seen;
	bool outcomes;
	int r = json_get_str(j->args, "weights", weights, sizeof(weights), err);
	if (r < 0 || (r = arg_str(j->args, "split", split, sizeof(split), err)) < 0 ||
	    (r = arg_bool(j->args, "confusion", false, &j->confusion, err)) < 0 ||
	    (r = arg_bool(j->args, "outcomes", false, &outcomes, err)) < 0)
		return r;
	j->split = SPLIT_VALIDATION;
	if (*split && split_parse(split, &j->split) < 0)
		return err_set(err, -EINVAL,
			       "split: found '%s', expected train, validation or test", split);
	j->n = s->data ? dataset_count(s->data, j->split) : 0;
	if (!j->n)
		return err_set(err, -ENODATA, "evaluate: there are no %s images",
			       split_name(j->split));
	if (s->model->outputs > WORKER_CONFUSION_MAX)
		j->confusion = false;
	r = make_counts(s, j, outcomes, err);
	if (r == 0)
		r = dnet_load(s->eval_net, weights, &seen, j->checkpoint, err);
	if (r < 0)
		return r;
	const struct feed_conf conf = {
		.data = s->data, .split = j->split, .batch = dnet_batch(s->eval_net)};
	return feed_new(&conf, &j->feed, err);
}

/* worker_protocol.h, `evaluate`. */
static void note_outcome(const struct job *j, uint32_t image, bool correct, double loss)
{
	char *to = j->outcomes + (size_t)image * WORKER_OUTCOME_DIGITS, digits[8];
	double share = loss / WORKER_OUTCOME_LOSS_MAX;
	unsigned v = (unsigned)lround((share < 1 ? share : 1) * WORKER_OUTCOME_LOSS_STEPS);
	snprintf(digits, sizeof(digits), "%0*x", WORKER_OUTCOME_DIGITS,
		 v | (correct ? WORKER_OUTCOME_CORRECT : 0u));
	memcpy(to, digits, WORKER_OUTCOME_DIGITS);
}

static void count(struct session *s, struct job *j, uint32_t image, uint32_t truth, const float *p)
{
	uint32_t best = 0;
	for (uint32_t c = 1; c < s->model->outputs; c++)
		if (p[c] > p[best])
			best = c;
	/* Written so that a value that is no number is wrong, and as bad as can be. */
	bool correct = best == truth && isfinite(p[truth]);
	row_n(j)[truth]++;
	row_correct(s, j)[truth] += correct;
	if (j->confusion)
		confusion_row(s, j, truth)[best]++;
	double loss = -log(p[truth] > P_MIN ? (double)p[truth] : P_MIN);
	j->loss += loss;
	if (j->outcomes)
		note_outcome(j, image, correct, loss);
}

static struct json *scores(struct session *s, struct job *j)
{
	struct json *out = json_new_obj(), *per_class = json_new_arr(), *rows = json_new_arr();
	uint32_t classes = dataset_classes(s->data);
	int64_t correct = 0;
	char snapshot[HASH_SIZE], buf[16];
	dataset_snapshot(s->data, j->split, snapshot);
	for (uint32_t c = 0; c < classes; c++) {
		struct json *one = json_new_obj();
		json_set_int(one, "class", c);
		json_set_str(one, "name", session_class_name(s, c, buf));
		json_set_int(one, "n", row_n(j)[c]);
		json_set_int(one, "correct", row_correct(s, j)[c]);
		json_push(per_class, one);
		correct += row_correct(s, j)[c];
		struct json *row = json_new_arr();
		for (uint32_t i = 0; j->confusion && i < s->model->outputs; i++)
			json_push_int(row, confusion_row(s, j, c)[i]);
		json_push(rows, row);
	}
	json_set_int(out, "n", j->n);
	json_set_int(out, "correct", correct);
	json_set_num(out, "accuracy", (double)correct / j->n);
	json_set_num(out, "loss", j->loss / j->n);
	json_set(out, "per_class", per_class);
	if (j->confusion)
		json_set(out, "confusion", rows);
	else
		json_free(rows);
	if (j->outcomes)
		json_set_str(out, "outcomes", j->outcomes);
	json_set_str(out, "snapshot", snapshot);
	json_set_num(out, "seconds", j->seconds);
	json_set_num(out, "images_per_second", j->seconds > 0 ? j->n / j->seconds : 0);
	json_set_str(out, "checkpoint", j->checkpoint);
	return out;
}

int evaluate_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	double begun = session_seconds();
	if (!j->at)
		channel_progress(s->channel, CHANNEL_JOB, j->id, 0, j->n, NAN, 0);
	const struct feed_batch *b;
	int r = feed_next(j->feed, &b, err);
	if (r < 0)
		return r;
	dnet_input_at(s->eval_net, b->pixels);
	const float *p = session_predict(s);
	for (uint32_t i = 0; i < b->n; i++)
		count(s, j, j->at + i, b->labels[i], p + (size_t)i * s->model->outputs);
	j->at += b->n;
	j->seconds += session_seconds() - begun;
	if (j->at < j->n) {
		channel_progress(s->channel, CHANNEL_JOB, j->id, j->at, j->n, j->loss / j->at,
				 j->at / j->seconds);
		return 1;
	}
	*ret_result = scores(s, j);
	return 0;
}
