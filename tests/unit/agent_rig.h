/* The agent between a broker, a worker and a clock that are the test: what it asks for, what it
 * publishes, what is on disk after it was dropped at a bad moment. Files are real. */
#pragma once

#include "ckpt_util.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/checkpoint/manifest.h"
#include "common/checkpoint/store.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/protocol/message.h"
#include "common/protocol/topic.h"
#include "common/transfer/part.h"
#include "device-agent/agent.h"

#define T0       1000000
#define SENT_MAX 256
#define DEVICE   "tasuki/v1/home/device/cam-1/"
#define TRAINER  "tasuki/v1/home/trainer/edge-1/in/cam-1/"

struct sent {
	char topic[TOPIC_SIZE];
	char *payload;
	size_t len;
	bool retain;
};

struct asked {
	char op[16];
	struct json *args;
	uint64_t id;
};

static char *dir;
static struct model *model;
static struct agent *a;
static struct agent_conf conf;
static struct err err;
static int64_t now, wake;
static struct sent sent[SENT_MAX];
static size_t n_sent;
static int publish_result;
static char subscribed[MQTT_TOPIC_MAX]; /* to the fleet's blocks */
static struct asked asked[16];
static size_t n_asked;
static uint64_t last_id;
static char snapshot[SPLIT_N][HASH_SIZE];
static uint32_t n_stay; /* images that are never shared */

/* ---- the ports ---- */

static int64_t offer_number; /* of the last offer; 0: it had none */

static inline int fake_publish(void *user, const struct mqtt_publish *p)
{
	if (publish_result < 0)
		return publish_result;
	assert_true(n_sent < SENT_MAX);
	struct sent *s = &sent[n_sent++];
	snprintf(s->topic, sizeof(s->topic), "%s", p->topic);
	s->payload = malloc(p->len + 1);
	memcpy(s->payload, p->payload, p->len);
	s->payload[p->len] = 0;
	s->len = p->len;
	s->retain = p->retain;
	const char *number =
		strcmp(s->topic, DEVICE "offer") ? NULL : strstr(s->payload, "\"sequence\":");
	if (number)
		offer_number = strtoll(number + strlen("\"sequence\":"), NULL, 10);
	return 0;
}

static inline int fake_subscribe(void *user, const char *filter, int qos, bool on)
{
	snprintf(subscribed, sizeof(subscribed), "%s", on ? filter : "");
	return 0;
}

static inline int fake_request(void *user, const char *op, struct json *args, uint64_t *ret_id)
{
	assert_true(n_asked < ARRAY_LEN(asked));
	struct asked *q = &asked[n_asked++];
	snprintf(q->op, sizeof(q->op), "%s", op);
	q->args = args;
	q->id = *ret_id = ++last_id;
	return 0;
}

static inline int64_t fake_mono(void *user)
{
	return now;
}

static inline int64_t fake_real(void *user)
{
	return 1790000000000 + now;
}

static inline void fake_wake(void *user, int64_t at_ms)
{
	wake = at_ms;
}

static struct when_readings machine; /* what it says of itself */

static inline void fake_readings(void *user, const struct when_conf *c, const char *state,
				 struct when_readings *ret)
{
	machine.own = ret->own;
	machine.training = ret->training;
	*ret = machine;
}

static char told_of[HASH_SIZE]; /* by a command that runs */

static inline const char *fake_telling(void *user)
{
	return told_of;
}

static inline void forget_sent(void)
{
	while (n_sent)
		free(sent[--n_sent].payload);
}

static inline void forget_asked(void)
{
	while (n_asked)
		json_free(asked[--n_asked].args);
}

/* ---- what tests say ---- */

static inline int begin(void)
{
	const struct agent_ports ports = {.publish = fake_publish,
					  .subscribe = fake_subscribe,
					  .request = fake_request,
					  .mono_ms = fake_mono,
					  .real_ms = fake_real,
					  .wake_at = fake_wake,
					  .readings = fake_readings,
					  .telling = fake_telling};
	forget_asked();
	return agent_new(&conf, model, &ports, 1, &a, &err);
}

static inline void data_read(void)
{
	struct worker_ready r = {.n = {40, 20, 10}, .n_stay = n_stay, .classes = 5};
	memcpy(r.snapshot, snapshot, sizeof(snapshot));
	memcpy(r.model, model->id, HASH_SIZE);
	assert_int_equal(agent_worker_ready(a, &r, &err), 0);
}

/* As after kill -9 and a new start. */
static inline void restart(void)
{
	agent_free(a);
	a = NULL;
	forget_sent();
	if (begin() < 0)
		fail_msg("%s", err.text);
	agent_link(a, true);
	data_read();
}

/* With the configuration as the test wants it. */
static inline void again(void)
{
	agent_free(a);
	a = NULL;
	restart();
}

static inline void with_confidence(void)
{
	conf.select.selector = SELECTOR_CONFIDENCE;
	conf.select.confidence = 0.95;
	conf.live.every_epochs = 0;
	again();
}

static inline int setup(void **state)
{
	err = (struct err){0};
	now = T0;
	wake = -1;
	publish_result = 0;
	n_stay = 0;
	if (util_dir(state))
		return -1;
	dir = *state;
	model = util_model(SMALL_CFG, 5);
	memset(&conf, 0, sizeof(conf));
	strcpy(conf.site, "home");
	strcpy(conf.id, "cam-1");
	snprintf(conf.state, sizeof(conf.state), "%s/state", dir);
	conf.block_size = 1024;
	conf.live = (struct agent_live){.round_epochs = 100,
					.every_epochs = 2,
					.min_epochs = 1,
					.lease_s = 60,
					.hold_max_s = 1200};
	for (int i = 0; i < SPLIT_N; i++) {
		memset(snapshot[i], "abc"[i], HASH_HEX);
		snapshot[i][HASH_HEX] = 0;
	}
	if (begin() < 0)
		fail_msg("%s", err.text);
	agent_link(a, true);
	data_read();
	return 0;
}

static inline int teardown(void **state)
{
	agent_free(a);
	a = NULL;
	forget_sent();
	forget_asked();
	model_free(model);
	return util_dir_done(state);
}

/* The first outstanding request of that kind, taken off the list; fails when there is none. */
static inline struct asked take(const char *op)
{
	for (size_t i = 0; i < n_asked; i++) {
		if (strcmp(asked[i].op, op) != 0)
			continue;
		struct asked q = asked[i];
		memmove(&asked[i], &asked[i + 1], sizeof(q) * (--n_asked - i));
		return q;
	}
	fail_msg("no '%s' was asked for", op);
	return (struct asked){0};
}

static inline bool is_asked(const char *op)
{
	for (size_t i = 0; i < n_asked; i++)
		if (strcmp(asked[i].op, op) == 0)
			return true;
	return false;
}

/* Answers the training request with weights made from `seed`. */
static inline void trained(uint64_t seed, char id[HASH_SIZE])
{
	struct asked q = take("train");
	char out[FILE_PATH_MAX];
	assert_int_equal(json_get_str(q.args, "out", out, sizeof(out), NULL), 0);
	util_write_weights(model, out, seed, 40 * seed);
	assert_int_equal(hash_file(out, id, NULL), 0);
	struct json *r = json_new_obj();
	json_set_num(r, "loss", 1.5);
	json_set_int(r, "images", 40);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
}

/* Of n images the first ones were right; the text is the caller's. */
static inline char *outcomes_of(int64_t n, int64_t correct)
{
	char *text = calloc((size_t)n * 4 + 1, 1);
	for (int64_t i = 0; i < n; i++)
		memcpy(text + i * 4, i < correct ? "8100" : "0100", 4);
	return text;
}

/* All are of class 3, and the wrong ones are taken for class 1. */
static inline struct json *counts_of(int64_t n, int64_t correct)
{
	struct json *rows = json_new_arr();
	for (int i = 0; i < 5; i++) {
		struct json *row = json_new_arr();
		for (int k = 0; k < 5; k++)
			json_push_int(row, i != 3   ? 0
					   : k == 3 ? correct
					   : k == 1 ? n - correct
						    : 0);
		json_push(rows, row);
	}
	return rows;
}

/* Answers the evaluation request, which must be of that checkpoint's split. */
static inline void evaluated(const char *id, enum split split, int64_t correct)
{
	const int64_t n = split == SPLIT_VALIDATION ? 20 : 10;
	bool outcomes = false, counts = false;
	struct asked q = take("evaluate");
	char weights[FILE_PATH_MAX], name[16];
	assert_int_equal(json_get_str(q.args, "weights", weights, sizeof(weights), NULL), 0);
	assert_int_equal(json_get_str(q.args, "split", name, sizeof(name), NULL), 0);
	if (!strstr(weights, id) || strcmp(name, split_name(split)) != 0)
		fail_msg("evaluates %s of %s", name, weights);
	struct json *r = json_new_obj(), *classes = json_new_arr(), *one = json_new_obj();
	json_set_str(r, "checkpoint", id);
	json_set_str(r, "snapshot", snapshot[split]);
	json_set_int(r, "n", n);
	json_set_int(r, "correct", correct);
	json_set_num(r, "loss", 0.5);
	json_set_int(one, "class", 3);
	json_set_str(one, "name", "private");
	json_set_int(one, "n", 20);
	json_set_int(one, "correct", correct);
	json_push(classes, one);
	json_set(r, "per_class", classes);
	json_get_bool(q.args, "confusion", &counts, NULL);
	if (counts)
		json_set(r, "confusion", counts_of(n, correct));
	json_get_bool(q.args, "outcomes", &outcomes, NULL);
	if (outcomes) {
		char *text = outcomes_of(n, correct);
		json_set_str(r, "outcomes", text);
		free(text);
	}
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
}

/* Answers the evaluation of `id`: of 20 images, the last ten are of class 4. */
static inline void evaluated_two(const char *id, int64_t of_3, int64_t of_4)
{
	struct asked q = take("evaluate");
	char weights[FILE_PATH_MAX];
	assert_int_equal(json_get_str(q.args, "weights", weights, sizeof(weights), NULL), 0);
	assert_non_null(strstr(weights, id));
	struct json *r = json_new_obj(), *classes = json_new_arr();
	char text[20 * 4 + 1] = "";
	for (int i = 0; i < 20; i++)
		strcat(text, (i < 10 ? i < of_3 : i - 10 < of_4) ? "8000" : "0000");
	for (int i = 3; i < 5; i++) {
		struct json *one = json_new_obj();
		json_set_int(one, "class", i);
		json_set_int(one, "n", 10);
		json_set_int(one, "correct", i == 3 ? of_3 : of_4);
		json_push(classes, one);
	}
	json_set(r, "per_class", classes);
	json_set_str(r, "checkpoint", id);
	json_set_str(r, "snapshot", snapshot[SPLIT_VALIDATION]);
	json_set_int(r, "n", 20);
	json_set_int(r, "correct", of_3 + of_4);
	json_set_num(r, "loss", 1);
	json_set_str(r, "outcomes", text);
	agent_worker_reply(a, q.id, r, NULL);
	json_free(r);
	json_free(q.args);
}

/* The last message on a topic, NULL: none. */
static inline const struct sent *last(const char *topic)
{
	for (size_t i = n_sent; i-- > 0;)
		if (strcmp(sent[i].topic, topic) == 0)
			return &sent[i];
	return NULL;
}

static inline void assert_said(const char *topic, const char *part)
{
	const struct sent *s = last(topic);
	if (!s || !strstr(s->payload, part))
		fail_msg("%s: '%s' is not in '%s'", topic, part, s ? s->payload : "(nothing)");
}

static inline void say(const char *topic, const void *payload, size_t len)
{
	struct mqtt_message m = {.topic = topic, .payload = payload, .len = len};
	agent_message(a, &m);
}

static inline void say_text(const char *topic, char *text)
{
	assert_non_null(text);
	say(topic, text, strlen(text));
	free(text);
}

static inline void assert_active(const char *id)
{
	char path[FILE_PATH_MAX], is[HASH_SIZE];
	file_path(path, sizeof(path), "%s/active.weights", conf.state);
	assert_int_equal(hash_file(path, is, NULL), 0);
	assert_string_equal(is, id);
}

static inline void claim(int64_t fence, const char *checkpoint)
{
	struct msg_claim c = {.trainer = "edge-1", .fence = fence, .phase = "training"};
	memcpy(c.checkpoint, checkpoint, HASH_SIZE);
	say_text(DEVICE "in/claim", msg_claim_print(&c));
}

/* Two epochs: the second is better, and is offered. */
static inline void until_offered(char offered[HASH_SIZE])
{
	char first[HASH_SIZE];
	trained(1, first);
	evaluated(first, SPLIT_VALIDATION, 10);
	trained(2, offered);
	evaluated(offered, SPLIT_VALIDATION, 12);
	evaluated(offered, SPLIT_TEST, 6);
	assert_said(DEVICE "offer", offered);
}

/* What comes from edge-1: a file made from `seed`, and its manifest. */
static inline struct manifest from_edge(enum origin origin, const char *path, uint64_t seed)
{
	struct manifest m = {.origin = origin,
			     .epoch = 6,
			     .images_seen = 4000,
			     .classes = model->n_classes,
			     .size = (int64_t)model->file_bytes,
			     .block_size = 1024,
			     .created_ms = 1790000000000,
			     .encoding = ENCODING_RAW};
	util_write_weights(model, path, seed, 4000);
	assert_int_equal(hash_file(path, m.id, NULL), 0);
	memcpy(m.model, model->id, HASH_SIZE);
	strcpy(m.trainer, "edge-1");
	return m;
}

/* The result of a trainer, made from `seed`, as file in the test's folder and as message. */
static inline struct msg_result result_of(const char *parent, uint64_t seed, int64_t fence,
					  char path[FILE_PATH_MAX])
{
	struct msg_result r = {.fence = fence, .before = {10, 5, 1}, .after = {10, 9, 0.5}};
	file_path(path, FILE_PATH_MAX, "%s/result", dir);
	r.manifest = from_edge(ORIGIN_EDGE, path, seed);
	manifest_add_parent(&r.manifest, parent);
	strcpy(r.manifest.device, "cam-1");
	memcpy(r.snapshot, snapshot[SPLIT_TEST], HASH_SIZE);
	return r;
}

/* An offer to everyone, made from `seed`, likewise. */
static inline struct msg_fleet fleet_offer_of(uint64_t seed, int64_t sequence,
					      char path[FILE_PATH_MAX])
{
	struct msg_fleet f = {.share = 100, .starts_in_ms = 2000, .spread_ms = 10000};
	file_path(path, FILE_PATH_MAX, "%s/fleet-%d", dir, (int)seed);
	f.manifest = from_edge(ORIGIN_FLEET, path, seed);
	f.manifest.sequence = sequence;
	strcpy(f.manifest.device, "edge-1");
	return f;
}

/* Sends the blocks that the agent's last want names, until it wants no more. */
static inline void send_blocks(const struct manifest *m, const char *path, bool flip_a_bit)
{
	for (;;) {
		const struct sent *s = last(TRAINER "want");
		struct msg_want w;
		assert_non_null(s);
		assert_int_equal(msg_want_parse(s->payload, s->len, &w, &err), 0);
		assert_string_equal(w.checkpoint, manifest_payload(m));
		forget_sent();
		for (size_t i = 0; i < w.n_blocks; i++) {
			char topic[TOPIC_SIZE];
			uint8_t buf[1024];
			uint32_t len;
			assert_int_equal(part_read_block(path, (uint64_t)m->size, 1024, w.blocks[i],
							 buf, &len, NULL),
					 0);
			buf[7] ^= flip_a_bit;
			snprintf(topic, sizeof(topic), DEVICE "in/block/%s/%u", manifest_payload(m),
				 w.blocks[i]);
			say(topic, buf, len);
		}
		if (!last(TRAINER "want"))
			return;
	}
}

/* The result comes in whole. */
static inline void bring_result(const struct msg_result *r, const char *path)
{
	say_text(DEVICE "in/offer", msg_result_print(r));
	send_blocks(&r->manifest, path, false);
}

static inline void path_of(const struct asked *q, const char *key, char path[FILE_PATH_MAX])
{
	if (json_get_str(q->args, key, path, FILE_PATH_MAX, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void request_done(struct asked *q, struct json *result)
{
	agent_worker_reply(a, q->id, result, NULL);
	json_free(result);
	json_free(q->args);
}

/* Answers the request for first weights. */
static inline void first_made(char id[HASH_SIZE])
{
	struct asked q = take("first");
	char out[FILE_PATH_MAX];
	path_of(&q, "out", out);
	util_write_weights(model, out, 99, 0);
	assert_int_equal(hash_file(out, id, NULL), 0);
	request_done(&q, json_new_obj());
}

static inline void a_second_later(void)
{
	now += 1000; /* statuses come no sooner */
	agent_tick(a);
}

static inline void two_epochs(char newest[HASH_SIZE])
{
	char before[HASH_SIZE];
	trained(1, before);
	evaluated(before, SPLIT_VALIDATION, 10);
	trained(2, newest);
	evaluated(newest, SPLIT_VALIDATION, 12);
	evaluated(newest, SPLIT_TEST, 6);
}

static inline struct msg_offer last_offer(void)
{
	const struct sent *s = last(DEVICE "offer");
	struct msg_offer o;
	if (!s)
		fail_msg("nothing is offered");
	if (msg_offer_parse(s->payload, s->len, &o, &err) < 0)
		fail_msg("%s", err.text);
	return o;
}

static inline void request_fails(const char *op, int code)
{
	struct asked q = take(op);
	struct err why = {0};
	err_set(&why, code, "it does not go");
	agent_worker_reply(a, q.id, NULL, &why);
	json_free(q.args);
}

/* All blocks of what was granted, as a trainer gets them, into a file. */
static inline void fetched(const struct manifest *m, char path[FILE_PATH_MAX])
{
	char topic[TOPIC_SIZE];
	struct msg_want w = {.trainer = "edge-1"};
	char *data = malloc((size_t)m->size);
	size_t at = 0;
	memcpy(w.checkpoint, manifest_payload(m), HASH_SIZE);
	for (w.n_blocks = 0; (int64_t)w.n_blocks * m->block_size < m->size; w.n_blocks++)
		w.blocks[w.n_blocks] = (uint32_t)w.n_blocks;
	forget_sent();
	say_text(DEVICE "in/want", msg_want_print(&w));
	for (size_t i = 0; i < w.n_blocks; i++) {
		snprintf(topic, sizeof(topic), TRAINER "block/%s/%zu", manifest_payload(m), i);
		const struct sent *s = last(topic);
		if (!s)
			fail_msg("no %s", topic);
		memcpy(data + at, s->payload, s->len);
		at += s->len;
	}
	assert_int_equal(at, m->size);
	file_path(path, FILE_PATH_MAX, "%s/got", dir);
	util_write(path, data, at);
	free(data);
}

/* Stands for a full disk: no file may grow beyond. */
static inline void limit_files(rlim_t bytes)
{
	struct rlimit l;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &l);
	l.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
