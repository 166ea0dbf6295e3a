#include "tests/unit/trainer_fixture.h"

#include <signal.h>
#include <sys/resource.h>

static const char cfg[] = "[net]\nbatch=4\nsubdivisions=1\nwidth=8\nheight=8\nchannels=1\n"
			  "learning_rate=0.1\nmax_batches=10\n\n[connected]\noutput=10\n"
			  "activation=linear\n\n[softmax]\n";

struct trainer_fixture f;

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

static void read_inputs(const struct json *args, struct work *w)
{
	const struct json *list;
	char path[FILE_PATH_MAX];

	if (json_get_arr(args, "inputs", 8, &list, NULL) < 0)
		return;
	for (const struct json *e = json_first(list); e; e = json_next(e)) {
		assert_int_equal(json_get_num(e, "share", 0, 1, &w->shares[w->n_inputs], NULL), 0);
		assert_int_equal(json_get_str(e, "weights", path, sizeof(path), NULL), 0);
		assert_true(file_exists(path));
		*strrchr(path, '/') = '\0';
		memcpy(w->inputs[w->n_inputs++], strrchr(path, '/') + 1, HASH_SIZE);
	}
}

static void read_coding(const struct json *args, struct work *w)
{
	const struct json *bases;

	json_get_str(args, "payload", w->payload, sizeof(w->payload), NULL);
	json_get_str(args, "decoded", w->decoded, sizeof(w->decoded), NULL);
	json_get_str(args, "base", w->base, sizeof(w->base), NULL);
	json_get_str(args, "encoding", w->encoding, sizeof(w->encoding), NULL);
	if (!json_has(args, "bases") || json_get_arr(args, "bases", 8, &bases, NULL) < 0)
		return;
	w->n_bases = (unsigned)json_len(bases);
	if (w->n_bases)
		snprintf(w->base, sizeof(w->base), "%s", json_str(json_first(bases)));
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
		json_get_int(args, "until_ms", 0, JSON_INT_MAX, &w->until_ms, NULL);
		json_get_bool(args, "settle", &w->settle, NULL);
		read_inputs(args, w);
		read_coding(args, w);
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

void ready(unsigned n_test)
{
	struct worker_ready r = {.n = {600, 0, n_test}, .classes = 10};

	strcpy(r.snapshot[SPLIT_TEST], SNAPSHOT);
	strcpy(r.model, f.model->id);
	trainer_worker_ready(f.t, 0, &r);
}

void open_trainer(void)
{
	struct trainer_ports ports = {&f, fake_publish, fake_work, fake_mono, fake_real};
	struct err err = {0};

	if (trainer_new(&f.conf, f.model, &ports, &f.t, &err) < 0)
		fail_msg("%s", err.text);
	trainer_connected(f.t, true);
	ready(100);
}

void close_trainer(void)
{
	trainer_free(f.t);
	f.t = NULL;
	f.n_work = f.worked = 0;
	f.read = f.n_sent;
}

/* As after kill -9: nothing is said, nothing is tidied. */
void kill_and_reopen(void)
{
	close_trainer();
	open_trainer();
}

int set_up(void **state)
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
	f.conf.history_days = 30;
	f.conf.disk_max_bytes = 1 << 24;
	f.conf.lease_ms = LEASE;
	f.conf.block_size = BLOCK;
	f.weights = calloc(1, f.model->file_bytes);
	((int32_t *)(void *)f.weights)[1] = 2; /* version 0.2.0 */
	f.weights[WEIGHTS_HEADER_SIZE] = 1;
	hash_bytes(f.weights, f.model->file_bytes, f.id);
	open_trainer();
	return 0;
}

int tear_down(void **state)
{
	(void)state;
	trainer_free(f.t);
	model_free(f.model);
	free(f.weights);
	for (unsigned i = 0; i < f.n_sent; i++)
		free(f.sent[i].payload);
	return file_remove(f.dir, NULL);
}

void tick(int64_t ms)
{
	f.now_ms += ms;
	trainer_tick(f.t);
}

int64_t query(const char *sql)
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
const struct sent *next(enum topic_kind kind)
{
	while (f.read < f.n_sent) {
		const struct sent *s = &f.sent[f.read++];

		if (s->topic.kind == kind)
			return s;
	}
	return NULL;
}

void say_raw(enum topic_kind kind, const char *device, const char *checkpoint,
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

void say(enum topic_kind kind, const char *device, char *text)
{
	struct topic t = {.kind = kind, .trainer = "edge-1"};
	char topic[TOPIC_SIZE];

	strcpy(t.device, device);
	assert_int_equal(topic_format(topic, "home", &t), 0);
	if (f.sign)
		text = f.sign(kind, topic, text);
	assert_non_null(text);
	say_raw(kind, device, NULL, 0, text, strlen(text), false);
	free(text);
}

struct msg_offer offer_of(const char *device)
{
	struct msg_offer o = {.manifest = {.origin = ORIGIN_LOCAL, .epoch = 7,
					   .images_seen = 700, .classes = 10,
					   .size = (int64_t)f.model->file_bytes,
					   .block_size = BLOCK, .created_ms = 1700000000000,
					   .encoding = ENCODING_RAW}};

	strcpy(o.manifest.id, f.id);
	strcpy(o.manifest.model, f.model->id);
	strcpy(o.manifest.device, device);
	return o;
}

void offer(const char *device)
{
	struct msg_offer o = offer_of(device);

	say(TOPIC_DEVICE_OFFER, device, msg_offer_print(&o));
}

void grant(const char *device, const char *checkpoint, bool granted, int64_t fence)
{
	struct msg_grant g = {.granted = granted, .fence = fence, .lease_ms = granted ? LEASE : 0};

	strcpy(g.checkpoint, checkpoint);
	say(TOPIC_TRAINER_GRANT, device, msg_grant_print(&g));
}

void grant_claim(const char *device, int64_t fence, int64_t claim, int64_t lease_ms)
{
	struct msg_grant g = {.granted = true, .fence = fence, .claim = claim,
			      .lease_ms = lease_ms};

	strcpy(g.checkpoint, f.id);
	say(TOPIC_TRAINER_GRANT, device, msg_grant_print(&g));
}

void other_weights(char mark)
{
	f.weights[WEIGHTS_HEADER_SIZE] = mark;
	hash_bytes(f.weights, f.model->file_bytes, f.id);
}

void limit_files(unsigned long bytes)
{
	struct rlimit l;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &l);
	l.rlim_cur = bytes ? bytes : l.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

struct msg_claim claimed(const char *device)
{
	const struct sent *s = next(TOPIC_DEVICE_CLAIM);
	struct msg_claim c;

	assert_non_null(s);
	assert_string_equal(s->topic.device, device);
	assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
	assert_string_equal(c.trainer, "edge-1");
	assert_string_equal(c.checkpoint, f.id);
	f.claim = c.claim;
	return c;
}

/* Answers wants until all blocks are there, or at most n blocks. */
unsigned give_blocks(const char *device, unsigned most)
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

const struct work *asked(const char *op)
{
	const struct work *w;

	/* A renewal may come at any time. */
	while (f.worked < f.n_work && strcmp(op, "until") != 0 &&
	       strcmp(f.work[f.worked].op, "until") == 0)
		f.worked++;
	assert_true(f.worked < f.n_work);
	w = &f.work[f.worked++];
	assert_string_equal(w->op, op);
	return w;
}

void evaluated(const struct work *w, int correct)
{
	struct json *j = json_new_obj();

	json_set_int(j, "n", 100);
	json_set_int(j, "correct", correct);
	json_set_num(j, "loss", 1.5);
	json_set_num(j, "seconds", 0.1);
	json_set_str(j, "snapshot", SNAPSHOT);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

/* The worker writes what it made of the weights: here, one byte differs with each `mark`. */
static struct json *made(const struct work *w, char mark, char id[HASH_SIZE])
{
	char *weights = malloc(f.model->file_bytes);
	struct json *j = json_new_obj();

	memcpy(weights, f.weights, f.model->file_bytes);
	weights[WEIGHTS_HEADER_SIZE] = mark;
	assert_int_equal(file_write(w->out, weights, f.model->file_bytes, NULL), 0);
	hash_bytes(weights, f.model->file_bytes, id);
	free(weights);
	json_set_str(j, "checkpoint", id);
	return j;
}

void merged(const struct work *w, char mark, char id[HASH_SIZE])
{
	struct json *j = made(w, mark, id);

	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

void trained(const struct work *w, char mark, char id[HASH_SIZE])
{
	struct json *j = made(w, mark, id);

	json_set_int(j, "images", 600);
	json_set_num(j, "loss", 0.5);
	json_set_num(j, "seconds", 0.5);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

void ack(const char *device, const char *result, int64_t fence, enum decision decision)
{
	struct msg_ack a = {.fence = fence, .has_decision = true, .decision = decision,
			    .validation = {20, 15, 0.4}, .local_validation = {20, 12, 0.6}};

	strcpy(a.checkpoint, result);
	say(TOPIC_TRAINER_ACK, device, msg_ack_print(&a));
}

void to_training(const char *device, int64_t fence)
{
	offer(device);
	assert_int_equal(claimed(device).fence, 0);
	grant(device, f.id, true, fence);
	give_blocks(device, 1000);
	evaluated(asked("evaluate"), 44);
}

struct msg_result to_offering(const char *device, int64_t fence, char id[HASH_SIZE])
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

void hand_over(const char *device, int64_t fence)
{
	char id[HASH_SIZE];

	to_offering(device, fence, id);
	ack(device, id, fence, DECISION_KEPT);
	tick(2000);
	f.read = f.n_sent;
}
