/* The trainer with everything outside it played by the test: broker, workers and clocks. Database,
 * store and part files are real, in a temporary folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "edge-trainer/trainer.h"

#define SNAPSHOT "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OTHER	 "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define BLOCK	 1024
#define SENT_MAX 4096
#define WORK_MAX 256
#define LEASE	 60000

static const char cfg[] = "[net]\nbatch=4\nsubdivisions=1\nwidth=8\nheight=8\nchannels=1\n"
			  "learning_rate=0.1\nmax_batches=10\n\n[connected]\noutput=10\n"
			  "activation=linear\n\n[softmax]\n";

struct sent {
	struct topic topic;
	char *payload;
	size_t len;
	bool retain;
	int qos;
};

struct work {
	unsigned slot;
	uint64_t id;
	char op[16];
	char out[FILE_PATH_MAX];
	char weights[FILE_PATH_MAX];
	int64_t epoch, schedule_seen, target;
};

static struct {
	char dir[64];
	struct trainer_conf conf;
	struct model *model;
	struct trainer *t;
	int64_t now_ms;
	struct sent sent[SENT_MAX];
	unsigned n_sent, read;
	int full_after; /* publishes until -EAGAIN; < 0: never */
	struct work work[WORK_MAX];
	unsigned n_work, worked;
	uint64_t last_id;
	/* what the device holds */
	char *weights;
	char id[HASH_SIZE];
} f;

/* --- ports --- */

static int fake_publish(void *user, const struct mqtt_publish *p)
{
	struct sent *s = &f.sent[f.n_sent];

	(void)user;
	if (f.full_after == 0)
		return -EAGAIN;
	if (f.full_after > 0)
		f.full_after--;
	assert_true(f.n_sent < SENT_MAX);
	assert_int_equal(topic_parse(p->topic, "home", &s->topic), 0);
	s->payload = malloc(p->len + 1);
	memcpy(s->payload, p->payload, p->len);
	s->payload[p->len] = '\0';
	s->len = p->len;
	s->retain = p->retain;
	s->qos = p->qos;
	f.n_sent++;
	return 0;
}

static int fake_work(void *user, unsigned slot, const char *op, struct json *args, uint64_t *ret_id)
{
	struct work *w = &f.work[f.n_work++];

	(void)user;
	assert_true(f.n_work < WORK_MAX);
	memset(w, 0, sizeof(*w));
	w->slot = slot;
	w->id = *ret_id = ++f.last_id;
	strcpy(w->op, op);
	if (args) {
		json_get_str(args, "out", w->out, sizeof(w->out), NULL);
		json_get_str(args, "weights", w->weights, sizeof(w->weights), NULL);
		json_get_int(args, "epoch", 0, 1000, &w->epoch, NULL);
		json_get_int(args, "schedule_seen", 0, 1000000, &w->schedule_seen, NULL);
		json_get_int(args, "target", 0, 1000000, &w->target, NULL);
	}
	json_free(args);
	return 0;
}

static int64_t fake_mono(void *user)
{
	(void)user;
	return f.now_ms;
}

static int64_t fake_real(void *user)
{
	(void)user;
	return 1700000000000 + f.now_ms;
}

/* --- fixture --- */

static void ready(unsigned n_test)
{
	struct worker_ready r = {.n = {600, 0, n_test}, .classes = 10};

	strcpy(r.snapshot[SPLIT_TEST], SNAPSHOT);
	strcpy(r.model, f.model->id);
	trainer_worker_ready(f.t, 0, &r);
}

static void open_trainer(void)
{
	struct trainer_ports ports = {&f, fake_publish, fake_work, fake_mono, fake_real};
	struct err err = {0};

	if (trainer_new(&f.conf, f.model, &ports, &f.t, &err) < 0)
		fail_msg("%s", err.text);
	trainer_connected(f.t, true);
	ready(100);
}

/* As after kill -9: nothing is said, nothing is tidied. */
static void kill_and_reopen(void)
{
	trainer_free(f.t);
	f.t = NULL;
	f.n_work = f.worked = 0;
	f.read = f.n_sent;
	open_trainer();
}

static int set_up(void **state)
{
	static const char *const names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
	char path[FILE_PATH_MAX];
	struct err err = {0};

	(void)state;
	memset(&f, 0, sizeof(f));
	f.full_after = -1;
	f.now_ms = 1000000;
	strcpy(f.dir, "/tmp/tasuki-trainer-XXXXXX");
	if (!mkdtemp(f.dir))
		return -1;
	snprintf(path, sizeof(path), "%s/net.cfg", f.dir);
	if (file_write(path, cfg, strlen(cfg), &err) < 0 ||
	    model_load(path, names, 10, &f.model, &err) < 0)
		fail_msg("%s", err.text);
	strcpy(f.conf.site, "home");
	strcpy(f.conf.id, "edge-1");
	strcpy(f.conf.state, f.dir);
	f.conf.epochs = 2;
	f.conf.seed = 1;
	f.conf.slots = 1;
	f.conf.capacity = 2;
	f.conf.device_per_hour = 5;
	f.conf.keep_days = 1;
	f.conf.lease_ms = LEASE;
	f.conf.block_size = BLOCK;
	f.weights = calloc(1, f.model->file_bytes);
	((int32_t *)(void *)f.weights)[1] = 2; /* version 0.2.0 */
	f.weights[WEIGHTS_HEADER_SIZE] = 1;
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	open_trainer();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	trainer_free(f.t);
	model_free(f.model);
	free(f.weights);
	for (unsigned i = 0; i < f.n_sent; i++)
		free(f.sent[i].payload);
	return file_remove(f.dir, NULL);
}

static void tick(int64_t ms)
{
	f.now_ms += ms;
	trainer_tick(f.t);
}

static int64_t query(const char *sql)
{
	char path[FILE_PATH_MAX];
	sqlite3 *h;
	sqlite3_stmt *s;
	int64_t v;

	snprintf(path, sizeof(path), "%s/trainer.db", f.dir);
	assert_int_equal(sqlite3_open_v2(path, &h, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(h, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(h);
	return v;
}

/* --- the other side of the broker --- */

/* The next message of that kind since the last one looked at; NULL: none. */
static const struct sent *next(enum topic_kind kind)
{
	while (f.read < f.n_sent) {
		const struct sent *s = &f.sent[f.read++];

		if (s->topic.kind == kind)
			return s;
	}
	return NULL;
}

static void say_raw(enum topic_kind kind, const char *device, const char *checkpoint,
		    uint32_t block, const void *payload, size_t len, bool retained)
{
	struct topic t = {.kind = kind, .block = block};
	char topic[TOPIC_SIZE];
	struct mqtt_message m = {.topic = topic, .payload = payload, .len = len,
				 .retained = retained};

	strcpy(t.device, device);
	strcpy(t.trainer, "edge-1");
	if (checkpoint)
		strcpy(t.checkpoint, checkpoint);
	assert_int_equal(topic_format(topic, "home", &t), 0);
	trainer_message(f.t, &m);
}

static void say(enum topic_kind kind, const char *device, char *text)
{
	assert_non_null(text);
	say_raw(kind, device, NULL, 0, text, strlen(text), false);
	free(text);
}

static struct msg_offer offer_of(const char *device)
{
	struct msg_offer o = {.manifest = {.origin = ORIGIN_LOCAL, .epoch = 7,
					   .images_seen = 700, .classes = 10,
					   .size = (int64_t)f.model->file_bytes,
					   .block_size = BLOCK, .created_ms = 1700000000000,
					   .encoding = "raw"}};

	strcpy(o.manifest.id, f.id);
	strcpy(o.manifest.model, f.model->id);
	strcpy(o.manifest.device, device);
	return o;
}

static void offer(const char *device)
{
	struct msg_offer o = offer_of(device);

	say(TOPIC_DEVICE_OFFER, device, msg_offer_print(&o));
}

static void grant(const char *device, const char *checkpoint, bool granted, int64_t fence)
{
	struct msg_grant g = {.granted = granted, .fence = fence, .lease_ms = granted ? LEASE : 0};

	strcpy(g.checkpoint, checkpoint);
	say(TOPIC_TRAINER_GRANT, device, msg_grant_print(&g));
}

static struct msg_claim claimed(const char *device)
{
	const struct sent *s = next(TOPIC_DEVICE_CLAIM);
	struct msg_claim c;

	assert_non_null(s);
	assert_string_equal(s->topic.device, device);
	assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
	assert_string_equal(c.trainer, "edge-1");
	assert_string_equal(c.checkpoint, f.id);
	return c;
}

/* Answers wants until all blocks are there, or at most n blocks. */
static unsigned give_blocks(const char *device, unsigned most)
{
	const struct sent *s;
	unsigned given = 0;

	while ((s = next(TOPIC_DEVICE_WANT))) {
		struct msg_want w;

		assert_int_equal(msg_want_parse(s->payload, s->len, &w, NULL), 0);
		assert_true(w.n_blocks <= 8);
		for (size_t i = 0; i < w.n_blocks && given < most; i++, given++) {
			size_t at = (size_t)w.blocks[i] * BLOCK;
			size_t len = MIN_OF((size_t)BLOCK, f.model->file_bytes - at);

			say_raw(TOPIC_TRAINER_BLOCK, device, f.id, w.blocks[i], f.weights + at, len,
				false);
		}
	}
	return given;
}

static const struct work *asked(const char *op)
{
	const struct work *w;

	assert_true(f.worked < f.n_work);
	w = &f.work[f.worked++];
	assert_string_equal(w->op, op);
	return w;
}

static void evaluated(const struct work *w, int correct)
{
	struct json *j = json_new_obj();

	json_set_int(j, "n", 100);
	json_set_int(j, "correct", correct);
	json_set_num(j, "loss", 1.5);
	json_set_num(j, "seconds", 0.1);
	json_set_str(j, "snapshot", SNAPSHOT);
	trainer_worker_reply(f.t, w->slot, w->id, j, 0, NULL);
	json_free(j);
}

/* The worker writes what it made of the weights: here, one byte differs with each `mark`. */
static void trained(const struct work *w, char mark, char id[HASH_SIZE])
{
	char *made = malloc(f.model->file_bytes);
	struct json *j = json_new_obj();

	memcpy(made, f.weights, f.model->file_bytes);
	made[WEIGHTS_HEADER_SIZE] = mark;
	assert_int_equal(file_write(w->out, made, f.model->file_bytes, NULL), 0);
	hash_bytes(made, f.model->file_bytes, id);
	free(made);
	json_set_str(j, "checkpoint", id);
	json_set_int(j, "images", 600);
	json_set_num(j, "loss", 0.5);
	json_set_num(j, "seconds", 0.5);
	trainer_worker_reply(f.t, w->slot, w->id, j, 0, NULL);
	json_free(j);
}

static void ack(const char *device, const char *result, int64_t fence, enum decision decision)
{
	struct msg_ack a = {.fence = fence, .has_decision = true, .decision = decision,
			    .validation = {20, 15, 0.4}, .local_validation = {20, 12, 0.6}};

	strcpy(a.checkpoint, result);
	say(TOPIC_TRAINER_ACK, device, msg_ack_print(&a));
}

static void to_training(const char *device, int64_t fence)
{
	offer(device);
	assert_int_equal(claimed(device).fence, 0);
	grant(device, f.id, true, fence);
	give_blocks(device, 1000);
	evaluated(asked("evaluate"), 44);
}

static struct msg_result to_offering(const char *device, int64_t fence, char id[HASH_SIZE])
{
	const struct sent *s;
	struct msg_result r;
	char first[HASH_SIZE];

	to_training(device, fence);
	trained(asked("train"), 2, first);
	trained(asked("train"), 3, id);
	evaluated(asked("evaluate"), 65);
	s = next(TOPIC_DEVICE_RESULT);
	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	return r;
}

/* --- tests --- */

static void test_whole(void **state)
{
	struct msg_result r;
	struct msg_want w = {.blocks = {2, 0, 1, 99}, .n_blocks = 4};
	char id[HASH_SIZE];
	const struct sent *s;
	struct msg_ack over;
	char path[FILE_PATH_MAX];

	(void)state;
	r = to_offering("cam-1", 5, id);
	assert_string_equal(r.manifest.id, id);
	assert_string_equal(r.manifest.parents[0], f.id);
	assert_string_equal(r.manifest.trainer, "edge-1");
	assert_string_equal(r.manifest.device, "cam-1");
	assert_int_equal(r.manifest.origin, ORIGIN_EDGE);
	assert_int_equal(r.manifest.epoch, 9);
	assert_int_equal(r.manifest.images_seen, 1900);
	assert_int_equal(r.fence, 5);
	assert_int_equal(r.before.correct, 44);
	assert_int_equal(r.after.correct, 65);
	assert_int_equal(r.images_trained, 1200);
	assert_int_equal(r.duration_ms, 1200);
	/* Its blocks, and not one that there is not. */
	strcpy(w.checkpoint, id);
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w));
	for (int i = 0; i < 3; i++) {
		size_t at, len;

		s = next(TOPIC_DEVICE_BLOCK);
		assert_non_null(s);
		assert_int_equal(s->topic.block, w.blocks[i]);
		assert_int_equal(s->qos, 0);
		at = (size_t)s->topic.block * BLOCK;
		len = MIN_OF((size_t)BLOCK, f.model->file_bytes - at);
		assert_int_equal(s->len, len);
		if (at > 0)
			assert_memory_equal(s->payload, f.weights + at, len);
	}
	assert_null(next(TOPIC_DEVICE_BLOCK));
	ack("cam-1", id, 4, DECISION_KEPT); /* an old fence: nothing */
	assert_null(next(TOPIC_DEVICE_ACK));
	ack("cam-1", id, 5, DECISION_ACTIVATED);
	s = next(TOPIC_DEVICE_ACK);
	assert_non_null(s);
	assert_int_equal(msg_ack_parse(s->payload, s->len, &over, NULL), 0);
	assert_string_equal(over.checkpoint, id);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'done' AND outcome ="
			       " 'activated' AND validation_correct = 15 AND"
			       " local_validation_correct = 12 AND before_correct = 44"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'finished'"), 1);
	/* The part file is gone; the checkpoint stays for keep_days, the half-way one does not. */
	snprintf(path, sizeof(path), "%s/incoming/cam-1", f.dir);
	assert_false(file_exists(path));
	tick(2000);
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, id);
	assert_true(file_exists(path));
	f.now_ms += (int64_t)2 * 86400 * 1000;
	tick(70000);
	assert_false(file_exists(path));
	assert_int_equal(query("SELECT count(*) FROM checkpoints"), 0);
}

/* Every epoch goes on from the one before, and its learning rate from our own count. */
static void test_training_requests(void **state)
{
	const struct work *w;
	char id[HASH_SIZE], path[FILE_PATH_MAX];

	(void)state;
	to_training("cam-1", 1);
	w = asked("train");
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, f.id);
	assert_string_equal(w->weights, path);
	assert_int_equal(w->epoch, 7);
	assert_int_equal(w->schedule_seen, 0);
	trained(w, 2, id);
	w = asked("train");
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, id);
	assert_string_equal(w->weights, path);
	assert_int_equal(w->epoch, 8);
	assert_int_equal(w->schedule_seen, 600);
}

static void test_refused_offers(void **state)
{
	struct msg_offer o = offer_of("cam-1");

	(void)state;
	strcpy(o.manifest.model, OTHER);
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	o = offer_of("cam-2"); /* speaks for another */
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	o = offer_of("cam-1");
	o.manifest.size--;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	o = offer_of("cam-1");
	o.manifest.expires_ms = 1700000000000; /* past */
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	say_raw(TOPIC_DEVICE_OFFER, "cam-1", NULL, 0, "{\"id\":", 6, false);
	say_raw(TOPIC_DEVICE_OFFER, "cam-1", NULL, 0, "", 0, false);
	/* A leftover that somebody retained. */
	o = offer_of("cam-1");
	{
		char *text = msg_offer_print(&o);

		say_raw(TOPIC_DEVICE_OFFER, "cam-1", NULL, 0, text, strlen(text), true);
		free(text);
	}
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

static void test_busy(void **state)
{
	struct msg_claim c;

	(void)state;
	offer("cam-1");
	offer("cam-2");
	claimed("cam-1");
	claimed("cam-2");
	offer("cam-3");
	c = claimed("cam-3");
	assert_true(c.busy);
	assert_in_range(c.retry_ms, 1000, 600000);
	/* The one that was refused elsewhere makes room. */
	grant("cam-1", f.id, false, 0);
	offer("cam-3");
	assert_false(claimed("cam-3").busy);
}

static void test_no_worker(void **state)
{
	(void)state;
	trainer_worker_died(f.t, 0, "data: no images", true, 1000);
	offer("cam-1");
	assert_true(claimed("cam-1").busy);
	ready(100);
	offer("cam-1");
	assert_false(claimed("cam-1").busy);
}

/* Blocks that were lost are asked for again; a restart keeps those that came. */
static void test_pull_resumed(void **state)
{
	unsigned n_blocks = (unsigned)((f.model->file_bytes + BLOCK - 1) / BLOCK);

	(void)state;
	assert_true(n_blocks > 2);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	assert_int_equal(give_blocks("cam-1", 1), 1);
	kill_and_reopen();
	assert_int_equal(claimed("cam-1").fence, 1); /* confirms its lease first */
	assert_null(next(TOPIC_DEVICE_WANT));
	grant("cam-1", f.id, true, 1);
	assert_int_equal(give_blocks("cam-1", 1), 1);
	tick(40000); /* stalled */
	assert_true(give_blocks("cam-1", 1000) >= n_blocks - 2);
	assert_int_equal(query("SELECT pulled FROM jobs"), 1);
	asked("evaluate");
}

static void test_bad_checkpoint(void **state)
{
	float nan = NAN;

	(void)state;
	memcpy(f.weights + WEIGHTS_HEADER_SIZE + 8, &nan, sizeof(nan));
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"), 1);
	assert_int_equal(f.n_work, 0);
	offer("cam-1"); /* not again */
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

static void test_flipped_bit(void **state)
{
	(void)state;
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	f.weights[f.model->file_bytes - 1] ^= 1;
	give_blocks("cam-1", 1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"), 1);
	f.weights[f.model->file_bytes - 1] ^= 1;
	offer("cam-1"); /* what the device has may be good all the same */
	claimed("cam-1");
}

/* Killed after the first epoch: goes on with the second, once the grant is confirmed. */
static void test_restart_in_training(void **state)
{
	const struct work *w;
	char id[HASH_SIZE], path[FILE_PATH_MAX];

	(void)state;
	to_training("cam-1", 3);
	trained(asked("train"), 2, id);
	asked("train");
	f.now_ms += 5000;
	kill_and_reopen();
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'killed' AND"
			       " ended_mono_ms - started_mono_ms = 5000"),
			 1);
	assert_int_equal(f.n_work, 0);
	assert_int_equal(claimed("cam-1").fence, 3);
	grant("cam-1", f.id, true, 3);
	w = asked("train");
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/weights", f.dir, id);
	assert_string_equal(w->weights, path);
	assert_int_equal(w->epoch, 8);
	assert_int_equal(w->schedule_seen, 600);
	trained(w, 3, id);
	evaluated(asked("evaluate"), 65);
	assert_non_null(next(TOPIC_DEVICE_RESULT));
}

static void test_restart_in_offering(void **state)
{
	struct msg_result r;
	char id[HASH_SIZE];
	const struct sent *s;

	(void)state;
	to_offering("cam-1", 3, id);
	kill_and_reopen();
	s = next(TOPIC_DEVICE_RESULT);
	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	assert_string_equal(r.manifest.id, id);
	assert_int_equal(r.before.correct, 44);
	ack("cam-1", id, 3, DECISION_KEPT);
	kill_and_reopen();
	assert_null(next(TOPIC_DEVICE_RESULT));
}

/* At the deadline the worker is stopped; what it still says is not taken; the slot is free again
 * only when it has answered; under a new fence the job goes on. */
static void test_lapse(void **state)
{
	const struct work *w, *stop;
	char id[HASH_SIZE];

	(void)state;
	to_training("cam-1", 3);
	w = asked("train");
	for (int i = 0; i < 61; i++)
		tick(1000);
	stop = asked("stop");
	assert_int_equal(stop->target, w->id);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'lease over'"), 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE ended_mono_ms > until_mono_ms"), 0);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	f.read = f.n_sent;
	offer("cam-1");
	assert_int_equal(claimed("cam-1").fence, 0);
	grant("cam-1", f.id, true, 4);
	assert_int_equal(f.n_work, f.worked); /* the slot is not free yet */
	trainer_worker_reply(f.t, 0, w->id, NULL, -ECANCELED, "stopped");
	w = asked("train");
	trained(w, 2, id);
	trained(asked("train"), 3, id);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE fence = 4"), 1);
}

/* A worker that says it made weights, and did not. */
static void test_lying_worker(void **state)
{
	const struct work *w;
	struct json *j = json_new_obj();
	char id[HASH_SIZE];

	(void)state;
	to_training("cam-1", 3);
	w = asked("train");
	assert_int_equal(file_write(w->out, "short", 5, NULL), 0);
	json_set_str(j, "checkpoint", OTHER);
	json_set_int(j, "images", 600);
	json_set_num(j, "loss", 0.5);
	json_set_num(j, "seconds", 0.5);
	trainer_worker_reply(f.t, 0, w->id, j, 0, NULL);
	json_free(j);
	assert_int_equal(query("SELECT epoch_done FROM jobs"), 0);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'failed'"), 1);
	tick(1100);
	w = asked("train");
	trained(w, 2, id);
	assert_int_equal(query("SELECT epoch_done FROM jobs"), 1);
}

/* The worker dies again and again: five times it is tried again, then the job is given up. */
static void test_dying_worker(void **state)
{
	int tries = 0;

	(void)state;
	to_training("cam-1", 3);
	while (query("SELECT count(*) FROM jobs WHERE state = 'done'") == 0) {
		const struct work *w = asked("train");

		trainer_worker_reply(f.t, 0, w->id, NULL, -ECONNRESET, "killed by SIGKILL");
		trainer_worker_died(f.t, 0, "killed by SIGKILL", false, 500);
		ready(100);
		assert_true(++tries < 10);
		for (int i = 0; i < 40 && f.worked == f.n_work; i++) {
			tick(1000);
			if (i % 10 == 0)
				grant("cam-1", f.id, true, 3); /* answers renewals */
		}
	}
	assert_int_equal(tries, 6);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped' AND reason ="
			       " 'killed by SIGKILL'"),
			 1);
}

/* Two devices, one worker: the second waits, and has its turn. */
static void test_two_devices(void **state)
{
	char id[HASH_SIZE];

	(void)state;
	to_training("cam-1", 1);
	offer("cam-2");
	claimed("cam-2");
	grant("cam-2", f.id, true, 9);
	/* The very same weights are here already: no block is asked for. */
	assert_int_equal(give_blocks("cam-2", 1000), 0);
	trained(asked("train"), 2, id);
	trained(asked("train"), 3, id);
	evaluated(asked("evaluate"), 65);
	evaluated(asked("evaluate"), 44); /* cam-2's */
	asked("train");
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND"
			       " state = 'training'"),
			 1);
}

/* The device has granted another handover: the old one is over. */
static void test_superseded(void **state)
{
	char old[HASH_SIZE], result[HASH_SIZE];

	(void)state;
	to_offering("cam-1", 1, result);
	strcpy(old, f.id);
	f.weights[WEIGHTS_HEADER_SIZE] = 9;
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 2);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"), 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'pulling'"), 1);
	ack("cam-1", result, 1, DECISION_KEPT); /* too late */
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'kept'"), 0);
}

/* A connection that takes no more: the rest follows when it does, each block once. */
static void test_full_connection(void **state)
{
	struct msg_want w = {.blocks = {0, 1, 2}, .n_blocks = 3};
	char id[HASH_SIZE];
	unsigned got = 0;

	(void)state;
	to_offering("cam-1", 1, id);
	strcpy(w.checkpoint, id);
	f.full_after = 1;
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w));
	assert_non_null(next(TOPIC_DEVICE_BLOCK));
	assert_null(next(TOPIC_DEVICE_BLOCK));
	say(TOPIC_TRAINER_WANT, "cam-1", msg_want_print(&w)); /* impatient */
	f.full_after = -1;
	trainer_writable(f.t);
	while (next(TOPIC_DEVICE_BLOCK))
		got++;
	assert_int_equal(got, 3); /* 1, 2, and 0 that was asked for again */
}

/* A device that is known to be away is not sent results that only queue up. */
static void test_device_away(void **state)
{
	struct msg_presence away = {.online = false, .boot = 4}, back = {.online = true, .boot = 5};
	char id[HASH_SIZE];

	(void)state;
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 4}));
	to_offering("cam-1", 1, id);
	/* The Will of an older boot says nothing. */
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = false, .boot = 3}));
	tick(2500);
	assert_non_null(next(TOPIC_DEVICE_RESULT));
	say(TOPIC_DEVICE_PRESENCE, "cam-1", msg_presence_print(&away));
	tick(70000);
	tick(70000);
	assert_null(next(TOPIC_DEVICE_RESULT));
	say(TOPIC_DEVICE_PRESENCE, "cam-1", msg_presence_print(&back));
	assert_non_null(next(TOPIC_DEVICE_RESULT));
}

static void test_no_test_images(void **state)
{
	char id[HASH_SIZE];
	struct msg_result r;
	const struct sent *s;

	(void)state;
	ready(0);
	offer("cam-1");
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 1000);
	trained(asked("train"), 2, id);
	trained(asked("train"), 3, id);
	s = next(TOPIC_DEVICE_RESULT);
	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	assert_int_equal(r.before.n, 0);
}

static void report(const char *device, int64_t seq)
{
	struct msg_report r = {.seq = seq, .checkpoint = OTHER, .snapshot = SNAPSHOT,
			       .split = SPLIT_VALIDATION, .score = {10, 5, 1}, .epoch = 1};

	say(TOPIC_DEVICE_REPORT, device, msg_report_print(&r));
}

static bool wants_reports(int64_t *from, int64_t *to)
{
	const struct sent *s = next(TOPIC_DEVICE_WANT);
	struct msg_want w;

	if (!s)
		return false;
	assert_int_equal(msg_want_parse(s->payload, s->len, &w, NULL), 0);
	*from = w.reports_from;
	*to = w.reports_to;
	return true;
}

static void test_reports(void **state)
{
	int64_t from, to;

	(void)state;
	report("cam-1", 1);
	report("cam-1", 1);
	report("cam-1", 4);
	tick(100);
	assert_int_equal(query("SELECT count(*) FROM reports"), 2);
	tick(5000);
	assert_false(wants_reports(&from, &to)); /* is it there at all? */
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	tick(1000);
	assert_false(wants_reports(&from, &to)); /* may be on its way */
	tick(2000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 2);
	assert_int_equal(to, 3);
	report("cam-1", 2);
	tick(70000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 3);
	report("cam-1", 3);
	tick(70000);
	tick(70000);
	assert_false(wants_reports(&from, &to));
	assert_int_equal(query("SELECT report_have FROM devices"), 4);
}

/* What the status says to exist is asked for as well, in portions, and given up in the end. */
static void test_reports_by_status(void **state)
{
	struct msg_status st = {.boot = 1, .agent = "1", .phase = PHASE_IDLE, .report_seq = 150,
				.progress = -1, .loss = NAN, .images_per_second = NAN,
				.at_ms = 1700000000000};
	int64_t from, to, last_to = 0;
	int asks = 0;

	(void)state;
	strcpy(st.model, f.model->id);
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	say(TOPIC_DEVICE_STATUS, "cam-1", msg_status_print(&st));
	tick(3000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 1);
	assert_int_equal(to, 100);
	for (int i = 0; i < 4000; i++) {
		tick(1000);
		while (wants_reports(&from, &to)) {
			asks++;
			last_to = to;
		}
	}
	assert_int_equal(last_to, 150);
	assert_in_range(asks, 20, 26);
	assert_int_equal(query("SELECT report_have FROM devices"), 150);
}

static void test_status_and_stop(void **state)
{
	struct msg_trainer_status st;
	const struct sent *s, *last = NULL;
	struct msg_presence p;

	(void)state;
	s = next(TOPIC_TRAINER_PRESENCE);
	assert_true(s && s->retain);
	to_training("cam-1", 1);
	f.read = 0;
	tick(1000);
	while ((s = next(TOPIC_TRAINER_STATUS)))
		last = s;
	assert_true(last && last->retain);
	assert_int_equal(msg_trainer_status_parse(last->payload, last->len, &st, NULL), 0);
	assert_int_equal(st.active, 1);
	assert_int_equal(st.queued, 0);
	assert_int_equal(st.devices, 1);
	assert_int_equal(st.capacity, 2);
	assert_true(st.load == 0.5);
	/* The same again is not said again. */
	tick(1000);
	assert_null(next(TOPIC_TRAINER_STATUS));
	trainer_stop(f.t);
	s = next(TOPIC_TRAINER_PRESENCE);
	assert_true(s && s->retain);
	assert_int_equal(msg_presence_parse(s->payload, s->len, &p, NULL), 0);
	assert_false(p.online);
	assert_int_equal(p.boot, 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'shutdown'"), 1);
	offer("cam-2");
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

#define TEST(x) cmocka_unit_test_setup_teardown(x, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole),
		TEST(test_training_requests),
		TEST(test_refused_offers),
		TEST(test_busy),
		TEST(test_no_worker),
		TEST(test_pull_resumed),
		TEST(test_bad_checkpoint),
		TEST(test_flipped_bit),
		TEST(test_restart_in_training),
		TEST(test_restart_in_offering),
		TEST(test_lapse),
		TEST(test_lying_worker),
		TEST(test_dying_worker),
		TEST(test_two_devices),
		TEST(test_superseded),
		TEST(test_full_connection),
		TEST(test_device_away),
		TEST(test_no_test_images),
		TEST(test_reports),
		TEST(test_reports_by_status),
		TEST(test_status_and_stop),
	};

	log_init("test_trainer", LOG_P_ERROR);
	return cmocka_run_group_tests_name("trainer", tests, NULL, NULL);
}
