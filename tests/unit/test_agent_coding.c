/* The forms in which the agent's checkpoints travel: the worker that makes them is the test, with
 * the real encoder. */
#include "agent_rig.h"

#include "common/encoding/encoding.h"

#define LOST_MAX 3 /* workers */

static int setup_auto(void **state)
{
	if (setup(state) < 0)
		return -1;
	conf.encoding = ENCODING_AUTO;
	conf.tolerance_points = 0.5;
	again();
	return 0;
}

static size_t n_bases(const struct asked *q)
{
	const struct json *bases;
	assert_int_equal(json_get_arr(q->args, "bases", 8, &bases, &err), 0);
	return json_len(bases);
}

/* Answers the request for a form, with one of its bases; "raw": as good as none. */
static void coded(enum encoding e, size_t base, size_t of_bases, char id[HASH_SIZE])
{
	struct asked q = take("encode");
	const struct encoding_conf c = {e, 1};
	char weights[FILE_PATH_MAX], out[FILE_PATH_MAX], decoded[FILE_PATH_MAX];
	const struct json *bases;
	struct json *r = json_new_obj();
	double tolerance;
	assert_int_equal(json_get_num(q.args, "tolerance", 0, 1, &tolerance, NULL), 0);
	assert_true(tolerance == 0.005);
	path_of(&q, "weights", weights);
	path_of(&q, "out", out);
	path_of(&q, "decoded", decoded);
	assert_int_equal(n_bases(&q), of_bases);
	assert_int_equal(json_get_arr(q.args, "bases", 8, &bases, &err), 0);
	const struct json *b = json_first(bases);
	for (size_t i = 0; i < base; i++)
		b = json_next(b);
	json_set_str(r, "encoding", encoding_name(e));
	json_set_str(r, "snapshot", snapshot[SPLIT_VALIDATION]);
	json_set_int(r, "n", 20);
	json_set_int(r, "correct", 11);
	json_set_num(r, "loss", 0.6);
	if (e != ENCODING_RAW &&
	    encoding_encode(model, &c, weights, b ? json_str(b) : NULL, out, decoded, id, &err) < 0)
		fail_msg("%s", err.text);
	if (e == ENCODING_DELTA)
		json_set_int(r, "base", (int64_t)base);
	request_done(&q, r);
}

/* The blocks that a trainer gets are those of the form, which it makes the offered checkpoint of.
 */
static void served(const struct manifest *m, const char *base)
{
	char path[FILE_PATH_MAX], out[FILE_PATH_MAX], id[HASH_SIZE];
	fetched(m, path);
	file_path(out, sizeof(out), "%s/got.weights", dir);
	if (m->encoding == ENCODING_RAW)
		assert_int_equal(hash_file(path, id, NULL), 0);
	else if (encoding_decode(model, m->encoding, path, base, out, id, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(id, m->id);
}

static void store_path(const char *id, char path[FILE_PATH_MAX])
{
	file_path(path, FILE_PATH_MAX, "%s/checkpoints/%s/weights", conf.state, id);
}

/* Offered in a form; the result comes back in one, as the difference to what was offered. */
static void test_both_ways(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], sent_id[HASH_SIZE], path[FILE_PATH_MAX];
	char base[FILE_PATH_MAX], payload[FILE_PATH_MAX];
	two_epochs(whole);
	assert_null(last(DEVICE "offer"));
	first_made(first);
	a_second_later();
	assert_said(DEVICE "status", "\"reason\":\"a form to travel in is chosen\"");
	coded(ENCODING_DELTA, 0, 1, sent_id);
	assert_null(last(DEVICE "offer"));
	evaluated(sent_id, SPLIT_TEST, 5); /* the scores of an offer are of what the trainer gets */
	struct msg_offer o = last_offer();
	assert_string_equal(o.manifest.id, sent_id);
	assert_string_equal(o.manifest.source, whole);
	assert_string_equal(o.manifest.base, first);
	assert_string_equal(o.bases[0], first);
	assert_int_equal(o.validation.correct, 11);
	assert_int_equal(o.test.correct, 5);
	assert_true((uint64_t)o.manifest.size < model->file_bytes);
	claim(0, sent_id);
	store_path(first, base);
	served(&o.manifest, base);
	/* Back. */
	struct msg_result r = result_of(sent_id, 77, 1, path);
	const struct encoding_conf c = {ENCODING_DELTA, 1};
	store_path(sent_id, base);
	file_path(payload, sizeof(payload), "%s/payload", dir);
	util_write_weights(model, path, 77, 4000);
	assert_int_equal(encoding_encode(model, &c, path, base, payload, path, r.manifest.id, &err),
			 0);
	char *data;
	size_t len;
	assert_int_equal(file_read(payload, 1 << 20, &data, &len, &err), 0);
	free(data);
	r.manifest.encoding = ENCODING_DELTA;
	r.manifest.size = (int64_t)len;
	memcpy(r.manifest.base, sent_id, HASH_SIZE);
	assert_int_equal(hash_file(payload, r.manifest.payload, &err), 0);
	bring_result(&r, payload);
	a_second_later();
	assert_said(DEVICE "status", "\"reason\":\"what came in is decoded\"");
	struct asked q = take("decode");
	char in[FILE_PATH_MAX], out[FILE_PATH_MAX], with[FILE_PATH_MAX], id[HASH_SIZE];
	path_of(&q, "payload", in);
	path_of(&q, "out", out);
	path_of(&q, "base", with);
	assert_int_equal(encoding_decode(model, ENCODING_DELTA, in, with, out, id, &err), 0);
	request_done(&q, json_new_obj());
	evaluated(r.manifest.id, SPLIT_TEST, 8);
	evaluated(r.manifest.id, SPLIT_VALIDATION, 15);
	assert_active(r.manifest.id);
	assert_said(TRAINER "ack", "\"decision\":\"activated\"");
	assert_false(part_there(conf.state, r.manifest.payload));
	/* The next difference may be to either of what both have now, or to the first weights, also
	 * after a restart. */
	restart();
	char third[HASH_SIZE], fourth[HASH_SIZE];
	trained(3, third);
	evaluated(third, SPLIT_VALIDATION, 16);
	trained(4, fourth);
	evaluated(fourth, SPLIT_VALIDATION, 17);
	evaluated(fourth, SPLIT_TEST, 9);
	coded(ENCODING_DELTA, 1, 3, sent_id);
	evaluated(sent_id, SPLIT_TEST, 9);
	o = last_offer();
	assert_string_equal(o.manifest.base, r.manifest.parents[0]);
}

/* Each base that a trainer lacks is left out, until it is none. */
static void test_lacked(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], one[HASH_SIZE], two[HASH_SIZE];
	two_epochs(whole);
	first_made(first);
	coded(ENCODING_DELTA, 0, 1, one);
	evaluated(one, SPLIT_TEST, 5);
	assert_string_equal(last_offer().manifest.id, one);
	struct msg_claim c = {.trainer = "edge-1", .busy = true, .retry_ms = 1000};
	memcpy(c.checkpoint, one, HASH_SIZE);
	memcpy(c.lacks, whole, HASH_SIZE); /* not that one: nothing to do */
	say_text(DEVICE "in/claim", msg_claim_print(&c));
	now += 3000;
	agent_tick(a);
	assert_false(is_asked("encode"));
	memcpy(c.lacks, first, HASH_SIZE);
	say_text(DEVICE "in/claim", msg_claim_print(&c));
	say_text(DEVICE "in/claim", msg_claim_print(&c));
	now += 3000;
	agent_tick(a);
	coded(ENCODING_INT8, 0, 0, two);
	evaluated(two, SPLIT_TEST, 5);
	now += 3000;
	agent_tick(a);
	struct msg_offer o = last_offer();
	assert_string_equal(o.manifest.id, two);
	assert_int_equal(o.manifest.encoding, ENCODING_INT8);
	assert_string_equal(o.manifest.source, whole);
	claim(0, two);
	served(&o.manifest, NULL);
}

/* Nothing smaller is as good, or none can be made: as it is. */
static void test_as_it_is(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], id[HASH_SIZE];
	two_epochs(whole);
	first_made(first);
	coded(ENCODING_RAW, 0, 1, id);
	struct msg_offer o = last_offer();
	assert_string_equal(o.manifest.id, whole);
	assert_false(*o.manifest.source || *o.manifest.payload);
	claim(0, whole);
	served(&o.manifest, NULL);
}

static void test_failures(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE];
	two_epochs(whole);
	request_fails("first", -ECONNRESET); /* the worker died: the next one is asked again */
	assert_null(last(DEVICE "offer"));
	data_read();
	first_made(first);
	request_fails("encode", -ECONNRESET);
	data_read();
	assert_null(last(DEVICE "offer"));
	request_fails("encode", -EIO);
	assert_string_equal(last_offer().manifest.id, whole);
}

/* A form that no worker lives to make is none. */
static void test_making_ends_workers(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE];
	two_epochs(whole);
	first_made(first);
	for (int i = 0; i < LOST_MAX; i++) {
		assert_null(last(DEVICE "offer"));
		request_fails("encode", -ECONNRESET);
		data_read();
	}
	assert_string_equal(last_offer().manifest.id, whole);
	assert_false(is_asked("encode"));
}

/* A payload that is damaged on disk does not travel; a form is made anew. */
static void test_damaged_payload(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], id[HASH_SIZE], path[FILE_PATH_MAX];
	two_epochs(whole);
	first_made(first);
	coded(ENCODING_INT8, 0, 1, id);
	evaluated(id, SPLIT_TEST, 5);
	struct msg_offer o = last_offer();
	file_path(path, sizeof(path), "%s/checkpoints/%s/payload", conf.state, id);
	char *data;
	size_t len;
	assert_int_equal(file_read(path, 1 << 20, &data, &len, &err), 0);
	data[len / 2] ^= 1;
	util_write(path, data, len);
	free(data);
	claim(0, id);
	struct msg_want w = {.trainer = "edge-1", .n_blocks = 1};
	memcpy(w.checkpoint, o.manifest.payload, HASH_SIZE);
	forget_sent();
	say_text(DEVICE "in/want", msg_want_print(&w));
	for (size_t i = 0; i < n_sent; i++)
		assert_null(strstr(sent[i].topic, "/block/"));
	coded(ENCODING_INT8, 0, 1, id);
	assert_string_equal(id, o.manifest.id);
}

/* Results whose base is not here, or which are not what they should be decoded to. */
static void test_bad_results(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], id[HASH_SIZE], path[FILE_PATH_MAX];
	two_epochs(whole);
	first_made(first);
	coded(ENCODING_INT8, 0, 1, id);
	evaluated(id, SPLIT_TEST, 5);
	claim(0, id);
	struct msg_result r = result_of(id, 77, 1, path);
	r.manifest.encoding = ENCODING_DELTA;
	r.manifest.size = 100;
	memset(r.manifest.base, 'd', HASH_HEX);
	memset(r.manifest.payload, 'e', HASH_HEX);
	say_text(DEVICE "in/offer", msg_result_print(&r));
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_said(TRAINER "ack", "base: checkpoint dddddddddddd is not here");
	assert_false(is_asked("decode"));
}

static void test_bomb(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], id[HASH_SIZE], path[FILE_PATH_MAX];
	two_epochs(whole);
	first_made(first);
	coded(ENCODING_INT8, 0, 1, id);
	evaluated(id, SPLIT_TEST, 5);
	claim(0, id);
	struct msg_result r = result_of(id, 77, 1, path);
	util_write(path, "coded, but by nobody we know", 28);
	r.manifest.encoding = ENCODING_INT8;
	r.manifest.size = 28;
	assert_int_equal(hash_file(path, r.manifest.payload, &err), 0);
	bring_result(&r, path);
	request_fails("decode", -EBADMSG);
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_false(part_there(conf.state, r.manifest.payload));
	assert_active(whole);
}

/* What a trainer sent ends the worker: not again and again, as nothing is trained meanwhile. */
static void test_ends_workers(void **state)
{
	char whole[HASH_SIZE], first[HASH_SIZE], id[HASH_SIZE], path[FILE_PATH_MAX];
	two_epochs(whole);
	first_made(first);
	coded(ENCODING_INT8, 0, 1, id);
	evaluated(id, SPLIT_TEST, 5);
	claim(0, id);
	struct msg_result r = result_of(id, 77, 1, path);
	util_write(path, "coded, but by nobody we know", 28);
	r.manifest.encoding = ENCODING_INT8;
	r.manifest.size = 28;
	assert_int_equal(hash_file(path, r.manifest.payload, &err), 0);
	bring_result(&r, path);
	for (int i = 0; i < LOST_MAX; i++) {
		assert_null(last(TRAINER "ack"));
		request_fails("decode", -ECONNRESET);
		data_read();
		now += 2000;
		agent_tick(a);
	}
	assert_said(TRAINER "ack", "\"decision\":\"refused\"");
	assert_false(is_asked("decode"));
	assert_active(whole);
}

#define A(f) cmocka_unit_test_setup_teardown(f, setup_auto, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		A(test_both_ways), A(test_lacked),          A(test_as_it_is),
		A(test_failures),  A(test_damaged_payload), A(test_bad_results),
		A(test_bomb),      A(test_ends_workers),    A(test_making_ends_workers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
