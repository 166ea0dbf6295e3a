/* The forms in which checkpoints come to the trainer and go back: the worker that makes and reads them
 * is the test, with the real encoder. */
#include "trainer_fixture.h"

#include <dirent.h>

#include "common/checkpoint/store.h"
#include "common/checkpoint/weights.h"
#include "common/encoding/encoding.h"

static char first_id[HASH_SIZE], first_path[FILE_PATH_MAX];

/* Answers the request for first weights: those of the device, with another byte. */
static void first_made(void)
{
	const struct work *w = asked("first");
	struct json *j = json_new_obj();
	char *weights = malloc(f.model->file_bytes);

	memcpy(weights, f.weights, f.model->file_bytes);
	weights[WEIGHTS_HEADER_SIZE] = 77;
	assert_int_equal(file_write(w->out, weights, f.model->file_bytes, NULL), 0);
	hash_bytes(weights, f.model->file_bytes, first_id);
	snprintf(first_path, sizeof(first_path), "%s/first", f.dir);
	assert_int_equal(file_write(first_path, weights, f.model->file_bytes, NULL), 0);
	free(weights);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

static int set_up_auto(void **state)
{
	if (set_up(state) < 0)
		return -1;
	f.conf.encoding = ENCODING_AUTO;
	f.conf.tolerance = 0.01;
	close_trainer();
	open_trainer();
	first_made();
	return 0;
}

static void read_file(const char *path, char **data, size_t *len)
{
	struct err err = {0};

	if (file_read(path, 1 << 24, data, len, &err) < 0)
		fail_msg("%s", err.text);
}

/* What a device has coded, as the manifest of its offer and as the bytes that it sends. */
static struct msg_offer coded_offer(const char *device, enum encoding e, const char *base,
				    char **payload)
{
	struct msg_offer o = offer_of(device);
	const struct encoding_conf c = {e, 1};
	char in[FILE_PATH_MAX], out[FILE_PATH_MAX], decoded[FILE_PATH_MAX];
	struct err err = {0};
	size_t len;

	snprintf(in, sizeof(in), "%s/device.weights", f.dir);
	snprintf(out, sizeof(out), "%s/device.payload", f.dir);
	snprintf(decoded, sizeof(decoded), "%s/device.decoded", f.dir);
	assert_int_equal(file_write(in, f.weights, f.model->file_bytes, NULL), 0);
	if (encoding_encode(f.model, &c, in, base, out, decoded, o.manifest.id, &err) < 0)
		fail_msg("%s", err.text);
	memcpy(f.id, o.manifest.id, HASH_SIZE);
	read_file(out, payload, &len);
	hash_bytes(*payload, len, o.manifest.payload);
	o.manifest.encoding = e;
	o.manifest.size = (int64_t)len;
	if (e == ENCODING_DELTA)
		memcpy(o.manifest.base, first_id, HASH_SIZE);
	return o;
}

static void send_payload(const char *device, const struct manifest *m, const char *payload)
{
	const struct sent *s;
	size_t given = 0;

	while ((s = next(TOPIC_DEVICE_WANT))) {
		struct msg_want w;

		assert_int_equal(msg_want_parse(s->payload, s->len, &w, NULL), 0);
		assert_string_equal(w.checkpoint, m->payload);
		for (size_t i = 0; i < w.n_blocks; i++, given++) {
			size_t at = (size_t)w.blocks[i] * BLOCK;

			say_raw(TOPIC_TRAINER_BLOCK, device, m->payload, w.blocks[i], payload + at,
				MIN_OF((size_t)BLOCK, (size_t)m->size - at), false);
		}
	}
	assert_true(given > 0);
}

/* Answers the request to decode. */
static void decoded(enum encoding e)
{
	const struct work *w = asked("decode");
	struct json *j = json_new_obj();
	struct err err = {0};
	char id[HASH_SIZE];

	assert_string_equal(w->encoding, encoding_name(e));
	if (encoding_decode(f.model, e, w->payload, *w->base ? w->base : NULL, w->out, id, &err) < 0)
		fail_msg("%s", err.text);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

static void fails(const struct work *w, int code)
{
	struct err err = {0};

	err_set(&err, code, "it does not go");
	trainer_worker_reply(f.t, w->slot, w->id, NULL, &err);
}

/* Answers the request to code the result. "raw": nothing was as good. */
static void coded(enum encoding e, int correct, char id[HASH_SIZE])
{
	const struct work *w = asked("encode");
	const struct encoding_conf c = {e, 1};
	struct json *j = json_new_obj();
	struct err err = {0};

	assert_string_equal(w->encoding, "auto");
	json_set_str(j, "encoding", encoding_name(e));
	json_set_int(j, "n", 100);
	json_set_int(j, "correct", correct);
	json_set_num(j, "loss", 1.5);
	json_set_num(j, "seconds", 0.1);
	json_set_str(j, "snapshot", SNAPSHOT);
	if (e != ENCODING_RAW &&
	    encoding_encode(f.model, &c, w->weights, e == ENCODING_DELTA ? w->base : NULL, w->out,
			    w->decoded, id, &err) < 0)
		fail_msg("%s", err.text);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
}

static struct msg_result result(void)
{
	const struct sent *s = next(TOPIC_DEVICE_RESULT);
	struct msg_result r;

	assert_non_null(s);
	assert_int_equal(msg_result_parse(s->payload, s->len, &r, NULL), 0);
	return r;
}

/* The blocks of a result, as its device gets them: it makes the checkpoint of them. */
static void arrives(const char *device, const struct manifest *m, const char *base)
{
	struct msg_want w = {.n_blocks = 0};
	char path[FILE_PATH_MAX], out[FILE_PATH_MAX], id[HASH_SIZE];
	char *data = malloc((size_t)m->size);
	struct err err = {0};
	size_t at = 0;

	memcpy(w.checkpoint, manifest_payload(m), HASH_SIZE);
	for (; (int64_t)w.n_blocks * BLOCK < m->size; w.n_blocks++)
		w.blocks[w.n_blocks] = (uint32_t)w.n_blocks;
	say(TOPIC_TRAINER_WANT, device, msg_want_print(&w));
	for (size_t i = 0; i < w.n_blocks; i++) {
		const struct sent *s = next(TOPIC_DEVICE_BLOCK);

		assert_non_null(s);
		assert_string_equal(s->topic.checkpoint, manifest_payload(m));
		memcpy(data + at, s->payload, s->len);
		at += s->len;
	}
	assert_int_equal(at, m->size);
	snprintf(path, sizeof(path), "%s/got", f.dir);
	snprintf(out, sizeof(out), "%s/got.weights", f.dir);
	assert_int_equal(file_write(path, data, at, NULL), 0);
	free(data);
	if (encoding_decode(f.model, m->encoding, path, base, out, id, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(id, m->id);
}

static void test_both_ways(void **state)
{
	char *payload, trained_id[HASH_SIZE], id[HASH_SIZE], base[FILE_PATH_MAX];
	struct msg_offer o = coded_offer("cam-1", ENCODING_DELTA, first_path, &payload);

	(void)state;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	send_payload("cam-1", &o.manifest, payload);
	free(payload);
	decoded(ENCODING_DELTA);
	evaluated(asked("evaluate"), 44); /* as it came */
	trained(asked("train"), 2, trained_id);
	trained(asked("train"), 3, trained_id);
	coded(ENCODING_DELTA, 65, id);
	struct msg_result r = result();
	assert_string_equal(r.manifest.id, id);
	assert_string_equal(r.manifest.base, o.manifest.id);
	assert_string_equal(r.manifest.parents[0], o.manifest.id);
	assert_int_equal(r.after.correct, 65);
	assert_true((uint64_t)r.manifest.size < f.model->file_bytes);
	snprintf(base, sizeof(base), "%s/device.decoded", f.dir);
	arrives("cam-1", &r.manifest, base);
	/* The same after a restart, nothing being made again. */
	kill_and_reopen();
	first_made();
	r = result();
	assert_string_equal(r.manifest.id, id);
	arrives("cam-1", &r.manifest, base);
	assert_int_equal(f.worked, f.n_work);
	ack("cam-1", id, 1, DECISION_ACTIVATED);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'activated'"), 1);
}

static void test_nothing_is_as_good(void **state)
{
	char id[HASH_SIZE], unused[HASH_SIZE];

	(void)state;
	to_training("cam-1", 1);
	trained(asked("train"), 2, id);
	trained(asked("train"), 3, id);
	coded(ENCODING_RAW, 65, unused);
	struct msg_result r = result();
	assert_string_equal(r.manifest.id, id);
	assert_int_equal(r.manifest.encoding, ENCODING_RAW);
	assert_int_equal(r.after.correct, 65);
}

/* What is the difference to something else is asked for in another form. */
static void test_lacks(void **state)
{
	char *payload;
	struct msg_offer o = coded_offer("cam-1", ENCODING_DELTA, first_path, &payload);
	struct msg_claim c;

	(void)state;
	memset(o.manifest.base, 'd', HASH_HEX);
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	c = claimed("cam-1");
	assert_true(c.busy);
	assert_string_equal(c.lacks, o.manifest.base);
	assert_string_equal(c.reason, "");
	grant("cam-1", f.id, true, 1);
	assert_null(next(TOPIC_DEVICE_WANT));
	free(payload);
}

/* Nor does it help that the checkpoint itself is here, from another device. */
static void test_lacks_of_what_is_here(void **state)
{
	struct msg_offer o;
	struct msg_claim c;

	(void)state;
	to_training("cam-2", 1);
	o = offer_of("cam-1");
	o.manifest.encoding = ENCODING_DELTA;
	o.manifest.size = 100;
	memset(o.manifest.payload, 'e', HASH_HEX);
	memset(o.manifest.base, 'd', HASH_HEX);
	f.read = f.n_sent;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	c = claimed("cam-1");
	assert_true(c.busy);
	assert_string_equal(c.lacks, o.manifest.base);
	/* Who has given it needs no form any more. */
	o = offer_of("cam-2");
	o.manifest.encoding = ENCODING_DELTA;
	o.manifest.size = 100;
	memset(o.manifest.payload, 'e', HASH_HEX);
	memset(o.manifest.base, 'd', HASH_HEX);
	f.read = f.n_sent;
	say(TOPIC_DEVICE_OFFER, "cam-2", msg_offer_print(&o));
	assert_false(claimed("cam-2").busy);
}

/* What has come from one device is no base for another one that has heard of its id; for itself it is. */
static void test_base_of_another(void **state)
{
	static const char *const devices[] = {"cam-1", "cam-2"};

	(void)state;
	to_training("cam-2", 1);
	for (int i = 0; i < 2; i++) {
		struct msg_offer o = offer_of(devices[i]);

		memset(o.manifest.id, 'c', HASH_HEX);
		o.manifest.encoding = ENCODING_DELTA;
		o.manifest.size = 100;
		memset(o.manifest.payload, 'e', HASH_HEX);
		memcpy(o.manifest.base, f.id, HASH_SIZE);
		f.read = f.n_sent;
		say(TOPIC_DEVICE_OFFER, devices[i], msg_offer_print(&o));
		const struct sent *s = next(TOPIC_DEVICE_CLAIM);
		struct msg_claim c;

		assert_non_null(s);
		assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
		assert_string_equal(c.lacks, i ? "" : f.id);
	}
}

/* A payload that is no such thing, or makes another checkpoint; a worker that dies with it. */
static void test_bad_payloads(void **state)
{
	char *payload;
	struct msg_offer o = coded_offer("cam-1", ENCODING_INT8, NULL, &payload);
	struct msg_claim c;

	(void)state;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	send_payload("cam-1", &o.manifest, payload);
	free(payload);
	fails(asked("decode"), -ECONNRESET);
	ready(100);
	tick(2000); /* the payload is still there: once more */
	assert_null(next(TOPIC_DEVICE_WANT));
	fails(asked("decode"), -EBADMSG);
	c = claimed("cam-1");
	while (!c.busy)
		c = claimed("cam-1");
	assert_int_equal(c.fence, 1);
	/* Not taken again. */
	f.read = f.n_sent;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	c = claimed("cam-1");
	assert_true(c.busy);
	assert_non_null(strstr(c.reason, "came before"));
}

static const struct manifest *give_coded(const char *device, char mark)
{
	static struct msg_offer o;
	char *payload;

	other_weights(mark);
	o = coded_offer(device, ENCODING_INT8, NULL, &payload);
	say(TOPIC_DEVICE_OFFER, device, msg_offer_print(&o));
	claimed(device);
	grant(device, f.id, true, 1);
	send_payload(device, &o.manifest, payload);
	free(payload);
	return &o.manifest;
}

/* A payload that ends workers ends others' training: it is not tried again and again, whatever it
 * is called, and its device waits. */
static void test_ends_workers(void **state)
{
	struct msg_offer o = {.manifest = *give_coded("cam-1", 1)};
	struct msg_claim c;

	(void)state;
	fails(asked("decode"), -ECONNRESET);
	ready(100);
	tick(2000);
	fails(asked("decode"), -ETIMEDOUT);
	ready(100);
	do
		c = claimed("cam-1");
	while (!c.busy);
	assert_int_equal(c.fence, 1);
	tick(60000);
	assert_int_equal(f.worked, f.n_work);
	f.read = f.n_sent;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	assert_non_null(strstr(claimed("cam-1").reason, "came before"));
	/* The next one that ends a worker is the last at once, and the device is kept away for
	 * longer. */
	give_coded("cam-1", 2);
	f.read = f.n_sent;
	fails(asked("decode"), -ECONNRESET);
	ready(100);
	c = claimed("cam-1");
	assert_true(c.busy && c.retry_ms >= 20000);
	tick(2000);
	assert_int_equal(f.worked, f.n_work);
}

/* One payload at a time: requests of jobs find room, and who waits is not blamed. */
static void test_one_at_a_time(void **state)
{
	static const char *const devices[] = {"cam-1", "cam-2", "cam-3"};

	(void)state;
	f.conf.capacity = 4;
	close_trainer();
	open_trainer();
	first_made();
	for (size_t i = 0; i < ARRAY_LEN(devices); i++)
		give_coded(devices[i], (char)(i + 1));
	fails(asked("decode"), -ECONNRESET);
	assert_int_equal(f.n_work - f.worked, 1); /* cam-2's */
	decoded(ENCODING_INT8);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND pulled"), 1);
	decoded(ENCODING_INT8);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE pulled"), 2);
}

/* A device that has sent all of it is not to be blamed for a worker that has much to do. */
static void test_worker_takes_its_time(void **state)
{
	(void)state;
	to_training("cam-1", 1);
	asked("train"); /* and not answered */
	give_coded("cam-2", 9);
	for (int i = 0; i < 100; i++) {
		f.read = f.n_sent;
		tick(1000);
		for (const struct sent *s; (s = next(TOPIC_DEVICE_CLAIM));) {
			struct msg_claim c;

			assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
			assert_false(c.busy);
			grant_claim(s->topic.device, 1, c.claim, LEASE);
		}
	}
	decoded(ENCODING_INT8);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND pulled"), 1);
}

static unsigned count_tmp(void)
{
	char dir[FILE_PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	assert_int_equal(file_path(dir, sizeof(dir), "%s/store/" STORE_OUT, f.conf.state), 0);
	d = opendir(dir);
	assert_non_null(d);
	while ((e = readdir(d)))
		n += strncmp(e->d_name, "slot", 4) == 0 || strncmp(e->d_name, "decoded", 7) == 0;
	closedir(d);
	return n;
}

/* What is decoded when nobody wants it any more is not left behind. */
static void test_decoded_for_nobody(void **state)
{
	const struct work *w;

	(void)state;
	give_coded("cam-1", 1);
	w = asked("decode");
	give_coded("cam-1", 2); /* and nothing of the first one any more */
	assert_int_equal(file_write(w->out, f.weights, f.model->file_bytes, NULL), 0);
	assert_int_equal(count_tmp(), 1);
	struct json *j = json_new_obj();
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
	assert_int_equal(count_tmp(), 0);
	decoded(ENCODING_INT8);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE pulled"), 1);
}

/* The same checkpoint in another form: what is asked for is what the device has now. */
static void test_other_form(void **state)
{
	struct msg_offer raw = offer_of("cam-1"), o;
	char *payload;

	(void)state;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&raw));
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 2);
	o = coded_offer("cam-1", ENCODING_ZSTD, NULL, &payload);
	assert_string_equal(o.manifest.id, raw.manifest.id);
	/* While the trainer still counts on the lease that the device's restart has ended. */
	f.read = f.n_sent;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	claimed("cam-1");
	grant("cam-1", f.id, true, 2);
	send_payload("cam-1", &o.manifest, payload);
	decoded(ENCODING_ZSTD);
	free(payload);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE pulled"), 1);
}

/* The same after the lease has run out. */
static void test_other_form_later(void **state)
{
	struct msg_offer raw = offer_of("cam-1"), o;
	char *payload;

	(void)state;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&raw));
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	give_blocks("cam-1", 2);
	tick(2 * LEASE);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	tick(2 * LEASE); /* nor barred */
	o = coded_offer("cam-1", ENCODING_ZSTD, NULL, &payload);
	f.read = f.n_sent;
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	claimed("cam-1");
	grant("cam-1", f.id, true, 2);
	send_payload("cam-1", &o.manifest, payload);
	decoded(ENCODING_ZSTD);
	free(payload);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE pulled"), 1);
}

/* The worker says that it is well, and it is another's. */
static void test_another(void **state)
{
	char *payload;
	struct msg_offer o = coded_offer("cam-1", ENCODING_INT8, NULL, &payload);
	const struct work *w;
	struct json *j = json_new_obj();

	(void)state;
	memset(o.manifest.id, 'e', HASH_HEX);
	memcpy(f.id, o.manifest.id, HASH_SIZE);
	say(TOPIC_DEVICE_OFFER, "cam-1", msg_offer_print(&o));
	claimed("cam-1");
	grant("cam-1", f.id, true, 1);
	send_payload("cam-1", &o.manifest, payload);
	free(payload);
	w = asked("decode");
	assert_int_equal(file_write(w->out, f.weights, f.model->file_bytes, NULL), 0);
	trainer_worker_reply(f.t, w->slot, w->id, j, NULL);
	json_free(j);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE outcome = 'dropped'"), 1);
}

/* Any worker decodes, also while it trains another's. */
static void test_while_training(void **state)
{
	char *payload, id[HASH_SIZE];
	const struct work *training;

	(void)state;
	to_training("cam-1", 1);
	training = asked("train");
	other_weights(9);
	struct msg_offer o = coded_offer("cam-2", ENCODING_INT8, NULL, &payload);
	say(TOPIC_DEVICE_OFFER, "cam-2", msg_offer_print(&o));
	claimed("cam-2");
	grant("cam-2", f.id, true, 1);
	send_payload("cam-2", &o.manifest, payload);
	free(payload);
	decoded(ENCODING_INT8);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND pulled"), 1);
	trained(training, 2, id);
	asked("train");
}

#define A(x) cmocka_unit_test_setup_teardown(x, set_up_auto, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		A(test_both_ways),    A(test_nothing_is_as_good), A(test_lacks),
		A(test_lacks_of_what_is_here), A(test_base_of_another), A(test_bad_payloads), A(test_another),		  A(test_while_training),
		A(test_ends_workers),  A(test_one_at_a_time),	  A(test_worker_takes_its_time),
		A(test_decoded_for_nobody), A(test_other_form), A(test_other_form_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
