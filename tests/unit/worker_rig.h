/* A real tasuki-worker for tests: a loop, a worker, what became of each request, and something
 * for it to learn. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/model.h"
#include "common/checkpoint/weights.h"
#include "common/dataset/digits.h"
#include "common/engine/worker.h"

#define RIG_WAIT_MS  60000
#define RIG_REQUESTS 64

struct rig_request {
	bool answered;
	int code;
	enum err_category category;
	char error[ERR_TEXT_MAX];
	struct json *result;
	unsigned n_progress;
	struct worker_progress progress;
};

struct rig {
	struct loop *loop;
	struct worker *worker;
	unsigned n_ready, n_died;
	struct worker_ready ready;
	char why[ERR_TEXT_MAX];
	enum err_category category;
	bool failed_open;
	int64_t retry_in_ms;
	struct rig_request requests[RIG_REQUESTS];
};

static inline void rig_on_ready(void *user, const struct worker_ready *r)
{
	struct rig *rig = user;
	rig->n_ready++;
	rig->ready = *r;
}

static inline void rig_on_progress(void *user, uint64_t id, const struct worker_progress *p)
{
	struct rig *rig = user;
	assert_true(id < RIG_REQUESTS);
	assert_false(rig->requests[id].answered);
	rig->requests[id].n_progress++;
	rig->requests[id].progress = *p;
}

static inline void rig_on_reply(void *user, uint64_t id, const struct json *result,
				const struct err *err)
{
	struct rig *rig = user;
	assert_true(id < RIG_REQUESTS);
	struct rig_request *q = &rig->requests[id];
	assert_false(q->answered);
	q->answered = true;
	q->code = err ? err->code : 0;
	q->category = err ? err->category : ERR_OTHER;
	snprintf(q->error, sizeof(q->error), "%s", err ? err->text : "");
	q->result = result ? json_dup(result) : NULL;
	assert_true(!result == (err != NULL) && (!err || err->code < 0));
}

static inline void rig_on_died(void *user, const struct err *why, bool failed_open,
			       int64_t retry_in_ms)
{
	struct rig *rig = user;
	rig->n_died++;
	snprintf(rig->why, sizeof(rig->why), "%s", why->text);
	rig->category = why->category;
	rig->failed_open = failed_open;
	rig->retry_in_ms = retry_in_ms;
}

static inline void rig_start(struct rig *rig, const struct worker_conf *conf)
{
	struct err err = {0};
	*rig = (struct rig){0};
	const struct worker_handler h = {rig_on_ready, rig_on_progress, rig_on_reply, rig_on_died,
					 rig};
	assert_int_equal(loop_new(&rig->loop), 0);
	if (worker_new(rig->loop, conf, &h, &rig->worker, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void rig_stop(struct rig *rig)
{
	worker_free(rig->worker);
	loop_free(rig->loop);
	for (size_t i = 0; i < RIG_REQUESTS; i++)
		json_free(rig->requests[i].result);
}

/* Runs the loop until the condition holds. */
#define RIG_WAIT(rig, condition)                                                                 \
	do {                                                                                     \
		int64_t until_ = clock_mono_ms() + RIG_WAIT_MS;                                  \
		while (!(condition)) {                                                           \
			if (clock_mono_ms() > until_)                                            \
				fail_msg("waited in vain for: %s (%s)", #condition, (rig)->why); \
			assert_true(loop_once((rig)->loop, 50) >= 0);                            \
		}                                                                                \
	} while (0)

static inline uint64_t rig_send(struct rig *rig, const char *op, struct json *args)
{
	uint64_t id = 0;
	assert_int_equal(worker_request(rig->worker, op, args, &id), 0);
	assert_true(id > 0 && id < RIG_REQUESTS);
	return id;
}

/* Sends and waits; the answer is the rig's. */
static inline struct rig_request *rig_ask(struct rig *rig, const char *op, struct json *args)
{
	RIG_WAIT(rig, worker_is_ready(rig->worker));
	uint64_t id = rig_send(rig, op, args);
	RIG_WAIT(rig, rig->requests[id].answered);
	return &rig->requests[id];
}

/* The same, and it must succeed. */
static inline const struct json *rig_do(struct rig *rig, const char *op, struct json *args)
{
	struct rig_request *q = rig_ask(rig, op, args);
	if (!q->result)
		fail_msg("%s: %s", op, q->error);
	return q->result;
}

/* Drawn digits and a small network, in a folder of the test's own. */
#define N_DRAWN 240 /* digits_write adds a fifth as test images */

static char dir[64] = "/tmp/test_worker.XXXXXX";

static const char cfg_head[] = "[net]\nbatch=16\nsubdivisions=2\nwidth=28\nheight=28\nchannels=1\n"
			       "learning_rate=%s\npolicy=constant\nmomentum=0.9\ndecay=0.0005\n";
static const char cfg_layers[] =
	"[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
	"[maxpool]\nsize=2\nstride=2\n[dropout]\nprobability=.2\n"
	"[connected]\noutput=10\nactivation=linear\n[softmax]\n%s";

static inline const char *at(const char *name)
{
	static char paths[8][FILE_PATH_MAX];
	static unsigned next;
	char *p = paths[next++ % 8];
	snprintf(p, FILE_PATH_MAX, "%s/%s", dir, name);
	return p;
}

static inline void write_cfg(const char *name, const char *rate, const char *tail)
{
	char text[2048];
	struct err err = {0};
	int n = snprintf(text, sizeof(text), cfg_head, rate);
	n += snprintf(text + n, sizeof(text) - (size_t)n, cfg_layers, tail);
	if (file_write(at(name), text, (size_t)n, &err) < 0)
		fail_msg("%s", err.text);
}

static inline int set_up(void **state)
{
	struct err err = {0};
	assert_non_null(mkdtemp(dir));
	write_cfg("model.cfg", "0.02", "");
	write_cfg("cost.cfg", "0.02", "[cost]\n");
	write_cfg("wild.cfg", "1e6", "");
	write_cfg("wildest.cfg", "1e38", "");
	if (digits_write(at("data"), N_DRAWN, 7, NULL, &err) < 0)
		fail_msg("%s", err.text);
	return 0;
}

static inline int tear_down(void **state)
{
	return file_remove(dir, NULL);
}

static inline struct worker_conf conf_of(const char *cfg)
{
	struct worker_conf c = {.has_data = true,
				.fold = 1,
				.engine = "darknet",
				.threads = 1,
				.backoff_first_ms = 50,
				.backoff_cap_ms = 200};
	snprintf(c.cfg, sizeof(c.cfg), "%s", at(cfg));
	snprintf(c.data.path, sizeof(c.data.path), "%s", at("data"));
	snprintf(c.writable[0], sizeof(c.writable[0]), "%s", dir);
	c.data.validation_share = 0.2;
	c.data.seed = 1;
	c.augment = (struct augment){.shift_px = 2, .blur = 0.5, .brightness = 0.2};
	return c;
}

static inline struct json *train_args(const char *weights, const char *out, int64_t epochs,
				      int64_t epoch)
{
	struct json *j = json_new_obj();
	if (weights)
		json_set_str(j, "weights", at(weights));
	json_set_str(j, "out", at(out));
	json_set_int(j, "epochs", epochs);
	json_set_int(j, "epoch", epoch);
	json_set_int(j, "seed", 3);
	return j;
}

static inline struct json *long_training(const char *out)
{
	struct json *j = json_new_obj();
	json_set_str(j, "out", at(out));
	json_set_int(j, "steps", 100000000);
	json_set_int(j, "seed", 3);
	return j;
}

static inline struct json *evaluate_args(const char *weights, const char *split)
{
	struct json *j = json_new_obj();
	json_set_str(j, "weights", at(weights));
	json_set_str(j, "split", split);
	json_set_bool(j, "confusion", true);
	return j;
}

static inline struct json *target(uint64_t id)
{
	struct json *j = json_new_obj();
	json_set_int(j, "target", (int64_t)id);
	return j;
}

static inline double num(const struct json *j, const char *key)
{
	double v;
	struct err err = {0};
	if (json_get_num(j, key, -INFINITY, INFINITY, &v, &err) < 0)
		fail_msg("%s", err.text);
	return v;
}

static inline void id_of(const struct json *j, char id[HASH_SIZE])
{
	assert_int_equal(json_get_str(j, "checkpoint", id, HASH_SIZE, NULL), 0);
	assert_true(hash_valid(id));
}

static inline void check_weights(const char *cfg, const char *weights, uint64_t seen,
				 const char *id)
{
	_cleanup_(model_freep) struct model *m = NULL;
	struct weights_header h;
	struct err err = {0};
	char found[HASH_SIZE];
	assert_int_equal(model_load(at(cfg), NULL, 0, &m, &err), 0);
	if (weights_check(m, at(weights), &h, found, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(found, id);
	assert_int_equal(h.seen, seen);
}
