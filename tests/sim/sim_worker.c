#include "tests/first_weights.h"
#include "tests/sim/sim_worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/encoding/encoding.h"
#include "tests/sim/sim.h"

#define IMAGES      40
#define START_MS    2000
#define PROGRESS_MS 500
#define RIPE_SEEN   800.0 /* images after which half of what can be learned is */

double sim_worker_fails;
void (*sim_worker_made)(const char *id);
static uint64_t last_id, last_life;

static bool is(const struct sim_request *q, const char *op)
{
	return strcmp(q->op, op) == 0;
}

static struct sim_request *find(struct sim_worker *w, uint64_t id)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->requests[i].id == id)
			return &w->requests[i];
	return NULL;
}

/* Takes it off the list; the caller frees its arguments. */
static struct sim_request take(struct sim_worker *w, uint64_t id)
{
	struct sim_request *q = find(w, id), taken = *q;

	w->n--;
	memmove(q, q + 1, (size_t)(&w->requests[w->n] - q) * sizeof(*q));
	return taken;
}

/* --- what it makes --- */

static uint64_t seen_of(const uint8_t *weights)
{
	uint64_t seen;

	memcpy(&seen, weights + 12, sizeof(seen));
	return seen;
}

static int write_weights(const struct model *m, const char *path, uint64_t seed, uint64_t seen,
			 struct err *err)
{
	_cleanup_free_ uint8_t *data = calloc(1, m->file_bytes);
	struct rng rng;

	first_weights(m, data, 1);
	memcpy(data + 12, &seen, sizeof(seen));
	rng_init(&rng, seed);
	for (uint64_t i = 0; i < m->n_floats; i++) {
		char *at = (char *)data + WEIGHTS_HEADER_SIZE + 4 * i;
		float v;

		memcpy(&v, at, 4);
		v = v * (float)rng_between(&rng, 0.7, 1.3) + 0.01f * (float)rng_unit(&rng);
		memcpy(at, &v, 4);
	}
	return file_write(path, data, m->file_bytes, err);
}

static int read_seen(const struct json *args, uint64_t *ret, struct err *err)
{
	_cleanup_free_ char *data = NULL;
	char path[FILE_PATH_MAX];
	size_t len;
	int r = 0;

	*ret = 0;
	if (!json_has(args, "weights"))
		return 0;
	r = json_get_str(args, "weights", path, sizeof(path), err);
	if (r == 0)
		r = file_read(path, 1 << 24, &data, &len, err);
	if (r == 0)
		*ret = seen_of((const uint8_t *)data);
	return r;
}

static int make(struct sim_worker *w, const struct sim_request *q, struct json *result,
		struct err *err)
{
	char out[FILE_PATH_MAX], id[HASH_SIZE];
	uint64_t seen;
	int r = read_seen(q->args, &seen, err);

	if (r == 0)
		r = json_get_str(q->args, "out", out, sizeof(out), err);
	if (r == 0)
		r = write_weights(w->model, out, rng_u64(&sim_rng), seen + IMAGES, err);
	if (r == 0)
		r = hash_file(out, id, err);
	if (r < 0)
		return r;
	sim_worker_made(id);
	json_set_str(result, "checkpoint", id);
	json_set_int(result, "images", IMAGES);
	json_set_num(result, "loss", 1);
	json_set_num(result, "seconds", 0.5);
	return 0;
}

/* Of what is wrong all is taken for class 1. */
static struct json *counts(const struct sim_worker *w, int64_t n, int64_t correct)
{
	const int64_t k = (int64_t)w->model->outputs;
	struct json *rows = json_new_arr();

	for (int64_t i = 0; i < k; i++) {
		struct json *row = json_new_arr();

		for (int64_t j = 0; j < k; j++)
			json_push_int(row, i > 0 ? 0 : j == 0 ? correct : j == 1 ? n - correct : 0);
		json_push(rows, row);
	}
	return rows;
}

/* More right the more it has seen, and by chance. */
static int evaluate(const struct sim_worker *w, const struct sim_request *q, struct json *result,
		    struct err *err)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE], split[16];
	bool confusion = false;
	struct rng rng;
	uint64_t seen;
	double share;
	int64_t n;
	int r = read_seen(q->args, &seen, err);

	if (r == 0)
		r = json_get_str(q->args, "weights", path, sizeof(path), err);
	if (r == 0)
		r = json_get_str(q->args, "split", split, sizeof(split), err);
	if (r == 0)
		r = hash_file(path, id, err);
	if (r < 0)
		return r;
	n = *split == 'v' ? 20 : 10;
	rng_init(&rng,
		 w->salt ^ strtoull((char[17]){id[0], id[1], id[2], id[3], id[4], id[5], id[6], 0},
				    NULL, 16));
	share = (double)seen / ((double)seen + RIPE_SEEN) + rng_between(&rng, 0, 0.3);
	json_set_str(result, "checkpoint", id);
	json_set_str(result, "snapshot",
		     (char[HASH_SIZE]){[0 ... HASH_HEX - 1] = "abc"[*split == 'v' ? 1 : 2]});
	json_set_int(result, "n", n);
	json_set_int(result, "correct", (int64_t)(MIN_OF(share, 1.0) * (double)n));
	json_set_num(result, "loss", 2 - MIN_OF(share, 1.0));
	json_set_num(result, "seconds", 0.1);
	if (json_has(q->args, "confusion"))
		json_get_bool(q->args, "confusion", &confusion, NULL);
	if (confusion)
		json_set(result, "confusion",
			 counts(w, n, (int64_t)(MIN_OF(share, 1.0) * (double)n)));
	return 0;
}

/* --- forms in which checkpoints travel: the real ones --- */

static int first(struct sim_worker *w, const struct sim_request *q, struct err *err)
{
	char out[FILE_PATH_MAX], id[HASH_SIZE];
	int64_t seed;
	int r = json_get_int(q->args, "seed", 0, JSON_INT_MAX, &seed, err);

	if (r == 0)
		r = json_get_str(q->args, "out", out, sizeof(out), err);
	if (r == 0)
		r = write_weights(w->model, out, (uint64_t)seed, 0, err);
	if (r == 0)
		r = hash_file(out, id, err);
	if (r == 0)
		sim_worker_made(id);
	return r;
}

/* "auto" is a difference to the first base, or int8 without one; what is asked for else. */
static enum encoding encoding_of(const struct json *args, char base[FILE_PATH_MAX])
{
	enum encoding e = ENCODING_DELTA;
	const struct json *bases = NULL;
	char name[17] = "";

	base[0] = '\0';
	json_get_str(args, "encoding", name, sizeof(name), NULL);
	if (encoding_parse(name, &e) == 0 && e != ENCODING_DELTA)
		return e;
	if (json_has(args, "bases") && json_get_arr(args, "bases", 8, &bases, NULL) == 0 &&
	    json_first(bases))
		snprintf(base, FILE_PATH_MAX, "%s", json_str(json_first(bases)));
	return *base ? ENCODING_DELTA : ENCODING_INT8;
}

static int noise(struct sim_worker *w, const struct sim_request *q, struct json *result,
		 struct err *err)
{
	char weights[FILE_PATH_MAX], base[FILE_PATH_MAX], out[FILE_PATH_MAX], id[HASH_SIZE];
	struct weights_noise conf = {.first_row = w->model->outputs};
	double norm;
	int r = json_get_str(q->args, "weights", weights, sizeof(weights), err);

	if (r == 0)
		r = json_get_str(q->args, "base", base, sizeof(base), err);
	if (r == 0)
		r = json_get_str(q->args, "out", out, sizeof(out), err);
	if (r == 0)
		r = json_get_num(q->args, "clip", 0, WEIGHTS_CLIP_MAX, &conf.clip, err);
	if (r == 0)
		r = json_get_num(q->args, "noise", 0, WEIGHTS_NOISE_MAX, &conf.noise, err);
	if (r == 0)
		r = weights_noise(w->model, weights, base, &conf, out, &norm, err);
	if (r == 0)
		r = hash_file(out, id, err);
	if (r < 0)
		return r;
	sim_worker_made(id);
	json_set_num(result, "norm", norm);
	return 0;
}

static int encode(struct sim_worker *w, const struct sim_request *q, struct json *result,
		  struct err *err)
{
	char weights[FILE_PATH_MAX], out[FILE_PATH_MAX], decoded[FILE_PATH_MAX];
	char base[FILE_PATH_MAX], id[HASH_SIZE], payload[HASH_SIZE];
	struct encoding_conf conf = {encoding_of(q->args, base), 1};
	int r = json_get_str(q->args, "weights", weights, sizeof(weights), err);

	if (r == 0)
		r = json_get_str(q->args, "out", out, sizeof(out), err);
	if (r == 0)
		r = json_get_str(q->args, "decoded", decoded, sizeof(decoded), err);
	if (r == 0)
		r = encoding_encode(w->model, &conf, weights, *base ? base : NULL, out, decoded, id,
				    err);
	if (r == 0)
		r = hash_file(out, payload, err);
	if (r < 0)
		return r;
	sim_worker_made(id);
	json_set_str(result, "encoding", encoding_name(conf.encoding));
	json_set_str(result, "checkpoint", id);
	json_set_str(result, "payload", payload);
	if (*base)
		json_set_int(result, "base", 0);
	return 0;
}

static int decode(struct sim_worker *w, const struct sim_request *q, struct json *result,
		  struct err *err)
{
	char payload[FILE_PATH_MAX], out[FILE_PATH_MAX], base[FILE_PATH_MAX] = "", id[HASH_SIZE];
	char name[17];
	enum encoding e = ENCODING_RAW;
	int r = json_get_str(q->args, "payload", payload, sizeof(payload), err);

	if (r == 0)
		r = json_get_str(q->args, "out", out, sizeof(out), err);
	if (r == 0)
		r = json_get_str(q->args, "encoding", name, sizeof(name), err);
	if (r == 0)
		r = encoding_parse(name, &e);
	if (r == 0 && e == ENCODING_DELTA)
		r = json_get_str(q->args, "base", base, sizeof(base), err);
	if (r == 0)
		r = encoding_decode(w->model, e, payload, *base ? base : NULL, out, id, err);
	if (r == 0)
		json_set_str(result, "checkpoint", id);
	return r;
}

/* --- its life --- */

static void be_ready(void *arg, uint64_t life)
{
	struct sim_worker *w = arg;

	if (w->life != life)
		return;
	w->there = true;
	w->ready(w->owner);
}

void sim_worker_start(struct sim_worker *w)
{
	w->life = ++last_life;
	sim_at(sim_now() + sim_between(1, START_MS), be_ready, w, w->life);
}

void sim_worker_kill(struct sim_worker *w)
{
	w->life = ++last_life;
	w->there = false;
	while (w->n > 0)
		json_free(take(w, w->requests[0].id).args);
}

/* code: how it failed, 0: it did not. */
static void answer(struct sim_worker *w, uint64_t id, int code)
{
	struct sim_request q = take(w, id);
	struct json *result = json_new_obj();
	struct err err = {0};

	if (code < 0)
		err_set(&err, code, "the simulation had it fail");
	else if (is(&q, "train") || is(&q, "merge"))
		code = make(w, &q, result, &err);
	else if (is(&q, "evaluate"))
		code = evaluate(w, &q, result, &err);
	else if (is(&q, "first"))
		code = first(w, &q, &err);
	else if (is(&q, "noise"))
		code = noise(w, &q, result, &err);
	else if (is(&q, "encode"))
		code = encode(w, &q, result, &err);
	else if (is(&q, "decode"))
		code = decode(w, &q, result, &err);
	json_free(q.args);
	w->reply(w->owner, id, code < 0 ? NULL : result, code < 0 ? &err : NULL);
	json_free(result);
}

/* As worker.c: the requests in hand are answered, then it is said to be dead. */
static void die(struct sim_worker *w)
{
	struct err err = {0};
	uint64_t life = w->life;

	w->there = false;
	while (w->n > 0 && w->life == life)
		answer(w, w->requests[0].id, -ECONNRESET);
	if (w->life != life) /* so has its owner meanwhile */
		return;
	err_set(&err, -ECONNRESET, "killed by the simulation");
	w->died(w->owner, &err);
	if (w->life == life)
		sim_worker_start(w);
}

static void due(void *arg, uint64_t id)
{
	struct sim_worker *w = arg;
	struct sim_request *q = find(w, id);

	if (!q)
		return;
	if (q->stopped)
		answer(w, id, -ECANCELED);
	else if (q->until_ms > 0 && sim_now() > q->until_ms)
		answer(w, id, -ETIME);
	else if (sim_chance(sim_worker_fails))
		die(w);
	else if (sim_chance(sim_worker_fails))
		answer(w, id, -EIO);
	else
		answer(w, id, 0);
}

static void tell(void *arg, uint64_t id)
{
	struct sim_worker *w = arg;

	if (!find(w, id))
		return;
	w->progress(w->owner, id);
	sim_at(sim_now() + PROGRESS_MS, tell, w, id);
}

int sim_worker_request(struct sim_worker *w, const char *op, struct json *args, uint64_t *ret_id)
{
	struct sim_request *q = &w->requests[w->n], *target;
	int64_t n = 0;

	if (!w->there || w->n == SIM_REQUESTS_MAX) {
		json_free(args);
		return w->there ? -EBUSY : -ENOTCONN;
	}
	*q = (struct sim_request){.id = ++last_id, .args = args};
	snprintf(q->op, sizeof(q->op), "%s", op);
	*ret_id = q->id;
	w->n++;
	if (is(q, "train") || is(q, "evaluate") || is(q, "merge") || is(q, "encode") ||
	    is(q, "decode") || is(q, "noise")) {
		if (args && json_has(args, "until_ms"))
			json_get_int(args, "until_ms", 0, JSON_INT_MAX, &q->until_ms, NULL);
		sim_at(sim_now() + sim_between(10, w->step_max_ms), due, w, q->id);
		sim_at(sim_now() + PROGRESS_MS, tell, w, q->id);
		return 0;
	}
	sim_at(sim_now() + 1, due, w, q->id);
	if (is(q, "stop") && json_get_int(args, "target", 0, JSON_INT_MAX, &n, NULL) == 0 &&
	    (target = find(w, (uint64_t)n))) {
		target->stopped = true;
		sim_at(sim_now() + sim_between(1, 200), due, w, target->id);
	}
	for (unsigned i = 0; is(q, "until") && i < w->n; i++) {
		target = &w->requests[i];
		if (is(target, "train"))
			json_get_int(args, "until_ms", 0, JSON_INT_MAX, &target->until_ms, NULL);
	}
	return 0;
}
