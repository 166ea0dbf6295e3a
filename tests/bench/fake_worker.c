#include "tests/bench/fake_worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "tests/first_weights.h"

#define IMAGES       200 /* of each split */
#define EVALUATE_MS  20
#define STOPPED      "stopped"
#define HEADER_BYTES 20 /* docs/protocol.md, "Layout of the weights" */

static void snapshot(char ret[HASH_SIZE], int split)
{
	memset(ret, "abc"[split], HASH_HEX);
	ret[HASH_HEX] = '\0';
}

/* Each time others, of usual norms. */
static int write_weights(struct fake_worker *w, const char *path, struct err *err)
{
	_cleanup_free_ uint8_t *data = calloc(1, w->model->file_bytes);
	if (!data)
		return err_errno(err, -ENOMEM, "%s", path);
	first_weights(w->model, data, 1);
	for (size_t at = HEADER_BYTES; at + sizeof(float) <= w->model->file_bytes;
	     at += sizeof(float)) {
		float v;
		memcpy(&v, data + at, sizeof(v));
		v *= (float)rng_between(&w->rng, 0.7, 1.3);
		memcpy(data + at, &v, sizeof(v));
	}
	return file_write(path, data, w->model->file_bytes, err);
}

static int train(struct fake_worker *w, const struct json *args, struct json *result,
		 struct err *err)
{
	char out[FILE_PATH_MAX];
	int r = json_get_str(args, "out", out, sizeof(out), err);
	if (r == 0)
		r = write_weights(w, out, err);
	json_set_num(result, "loss", 1);
	json_set_int(result, "images", IMAGES);
	json_set_num(result, "images_per_second", IMAGES * 1000.0 / (double)w->epoch_ms);
	return r;
}

static int evaluate(struct fake_worker *w, const struct json *args, struct json *result,
		    struct err *err)
{
	char weights[FILE_PATH_MAX], split[16], id[HASH_SIZE], images[HASH_SIZE];
	int r = json_get_str(args, "weights", weights, sizeof(weights), err);
	if (r == 0)
		r = json_get_str(args, "split", split, sizeof(split), err);
	if (r == 0)
		r = hash_file(weights, id, err);
	if (r < 0)
		return r;
	for (int i = 0; i < SPLIT_N; i++)
		if (strcmp(split, split_name((enum split)i)) == 0)
			snapshot(images, i);
	json_set_str(result, "checkpoint", id);
	json_set_str(result, "snapshot", images);
	json_set_int(result, "n", IMAGES);
	json_set_int(result, "correct", IMAGES / 2 + rng_below(&w->rng, IMAGES / 2));
	json_set_num(result, "loss", 0.5);
	json_set(result, "per_class", json_new_arr());
	return 0;
}

static void answer(struct fake_worker *w, struct fake_request q)
{
	struct json *result = json_new_obj();
	struct err err = {0};
	int r = 0;
	if (strcmp(q.op, "train") == 0)
		r = train(w, q.args, result, &err);
	else if (strcmp(q.op, "evaluate") == 0)
		r = evaluate(w, q.args, result, &err);
	else if (strcmp(q.op, STOPPED) == 0)
		r = err_set(&err, -ECANCELED, "stopped on request");
	else if (strcmp(q.op, "stop") != 0 && strcmp(q.op, "pause") != 0 &&
		 strcmp(q.op, "resume") != 0)
		r = err_set(&err, -EOPNOTSUPP, "'%s': the stand-in cannot do it", q.op);
	w->reply(w->user, q.id, r < 0 ? NULL : result, r < 0 ? &err : NULL);
	json_free(result);
	json_free(q.args);
}

static int64_t due_ms(const struct fake_worker *w, const struct fake_request *q)
{
	return w->held && strcmp(q->op, "train") == 0 ? INT64_MAX : q->due_ms;
}

static int rearm(struct fake_worker *w)
{
	int64_t at_ms = INT64_MAX;
	for (size_t i = 0; i < w->n; i++)
		at_ms = MIN_OF(at_ms, due_ms(w, &w->requests[i]));
	return loop_timer_at(w->timer, at_ms == INT64_MAX ? -1 : at_ms);
}

static struct fake_request take(struct fake_worker *w, size_t i)
{
	struct fake_request q = w->requests[i];
	w->n--;
	memmove(&w->requests[i], &w->requests[i + 1], (w->n - i) * sizeof(q));
	return q;
}

static int on_timer(void *user)
{
	struct fake_worker *w = user;
	for (size_t i = 0; i < w->n; i++)
		if (due_ms(w, &w->requests[i]) <= clock_mono_ms()) {
			answer(w, take(w, i));
			break; /* it may have asked for more, or for less */
		}
	return rearm(w);
}

/* The request is answered when its turn comes: not from within this call. */
static void stop(struct fake_worker *w, const struct json *args)
{
	int64_t target;
	if (json_get_int(args, "target", 1, JSON_INT_MAX, &target, NULL) < 0)
		return;
	for (size_t i = 0; i < w->n; i++)
		if (w->requests[i].id == (uint64_t)target) {
			w->requests[i].due_ms = 0;
			memcpy(w->requests[i].op, STOPPED, sizeof(STOPPED));
		}
}

int fake_worker_request(struct fake_worker *w, const char *op, struct json *args, uint64_t *ret_id)
{
	_cleanup_(json_freep) struct json *owned = args;
	if (w->n == WORKER_REQUESTS_MAX)
		return -EBUSY;
	int64_t ms = 0;
	if (strcmp(op, "train") == 0)
		ms = (int64_t)((double)w->epoch_ms *
			       (w->last_id ? rng_between(&w->rng, 0.9, 1.1) : rng_unit(&w->rng)));
	else if (strcmp(op, "evaluate") == 0)
		ms = EVALUATE_MS;
	else if (strcmp(op, "stop") == 0)
		stop(w, args);
	struct fake_request *q = &w->requests[w->n++];
	*q = (struct fake_request){.id = ++w->last_id, .due_ms = clock_mono_ms() + ms};
	snprintf(q->op, sizeof(q->op), "%s", op);
	q->args = TAKE_PTR(owned);
	*ret_id = q->id;
	return rearm(w);
}

void fake_worker_ready(const struct fake_worker *w, struct worker_ready *ret)
{
	*ret = (struct worker_ready){.classes = w->model->n_classes, .threads = 1};
	for (int i = 0; i < SPLIT_N; i++) {
		ret->n[i] = IMAGES;
		snapshot(ret->snapshot[i], i);
	}
	memcpy(ret->model, w->model->id, HASH_SIZE);
	memcpy(ret->engine, "none", sizeof("none"));
}

int fake_worker_init(struct fake_worker *w, struct loop *loop)
{
	rng_init(&w->rng, rng_entropy());
	return loop_add_timer(loop, on_timer, w, &w->timer);
}

void fake_worker_done(struct fake_worker *w)
{
	while (w->n)
		json_free(w->requests[--w->n].args);
	loop_source_free(w->timer);
	w->timer = NULL;
}
