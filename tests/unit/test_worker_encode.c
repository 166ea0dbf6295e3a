/* What tasuki-worker makes of weights that travel: coded ones, chosen by their score, and back. */
#include "worker_rig.h"

#include <errno.h>

#include "common/crypto/hash.h"

static struct json *first_args(const char *out, int64_t seed)
{
	struct json *j = json_new_obj();
	json_set_int(j, "seed", seed);
	json_set_str(j, "out", at(out));
	return j;
}

static struct json *encode_args(const char *weights, const char *encoding, const char *split,
				double tolerance)
{
	struct json *j = json_new_obj();
	json_set_str(j, "weights", at(weights));
	json_set_str(j, "out", at("payload"));
	json_set_str(j, "decoded", at("decoded"));
	json_set_str(j, "encoding", encoding);
	if (split)
		json_set_str(j, "split", split);
	json_set_num(j, "tolerance", tolerance);
	return j;
}

static struct json *with_bases(struct json *args, const char *a, const char *b)
{
	struct json *list = json_new_arr();
	json_push_str(list, at(a));
	json_push_str(list, at(b));
	json_set(args, "bases", list);
	return args;
}

static void text(const struct json *j, const char *key, char *buf, size_t size)
{
	struct err err = {0};
	if (json_get_str(j, key, buf, size, &err) < 0)
		fail_msg("%s", err.text);
}

static void is_encoding(const struct json *j, const char *expected)
{
	char found[16];
	text(j, "encoding", found, sizeof(found));
	assert_string_equal(found, expected);
}

/* A receiver makes the same of it; returns the payload's size. */
static size_t arrives(struct rig *rig, const struct json *answer, const char *base)
{
	char encoding[16], id[HASH_SIZE], payload[HASH_SIZE], found[HASH_SIZE], *data;
	struct json *j = json_new_obj();
	struct err err = {0};
	size_t len;
	text(answer, "encoding", encoding, sizeof(encoding));
	text(answer, "payload", payload, sizeof(payload));
	id_of(answer, id);
	json_set_str(j, "payload", at("payload"));
	json_set_str(j, "encoding", encoding);
	json_set_str(j, "out", at("received"));
	if (base)
		json_set_str(j, "base", at(base));
	id_of(rig_do(rig, "decode", j), found);
	assert_string_equal(found, id);
	assert_int_equal(hash_file(at("payload"), found, &err), 0);
	assert_string_equal(found, payload);
	assert_int_equal(file_read(at("payload"), 1 << 24, &data, &len, &err), 0);
	free(data);
	return len;
}

static void train_some(struct rig *rig)
{
	rig_do(rig, "first", first_args("first", 3));
	rig_do(rig, "train", train_args("first", "a", 6, 0));
	rig_do(rig, "train", train_args("a", "b", 1, 6));
}

static void test_first(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char id[3][HASH_SIZE];
	rig_start(&rig, &conf);
	id_of(rig_do(&rig, "first", first_args("f0", 3)), id[0]);
	id_of(rig_do(&rig, "train", train_args("f0", "a", 1, 0)), id[1]);
	id_of(rig_do(&rig, "train", train_args(NULL, "b", 1, 0)), id[2]);
	assert_string_equal(id[1], id[2]); /* what a training begins with */
	id_of(rig_do(&rig, "first", first_args("f1", 3)), id[1]);
	assert_string_equal(id[0], id[1]);
	id_of(rig_do(&rig, "first", first_args("f2", 4)), id[2]);
	assert_string_not_equal(id[0], id[2]);
	assert_int_equal(rig_ask(&rig, "first", json_new_obj())->code, -ENOENT);
	rig_stop(&rig);
}

static void test_auto(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	struct err err = {0};
	char id[HASH_SIZE], weights[HASH_SIZE];
	rig_start(&rig, &conf);
	train_some(&rig);
	/* Whatever it does to the score: the smallest, to the nearest base. */
	const struct json *r = rig_do(
		&rig, "encode", with_bases(encode_args("b", "auto", "test", 1), "first", "a"));
	is_encoding(r, "delta");
	assert_true(num(r, "base") == 1 && num(r, "step") == 1.5);
	id_of(r, id);
	assert_int_equal(hash_file(at("decoded"), weights, &err), 0);
	assert_string_equal(weights, id);
	double correct = num(r, "correct"), whole = num(r, "whole_correct");
	arrives(&rig, r, "a");
	assert_true(num(rig_do(&rig, "evaluate", evaluate_args("received", "test")), "correct") ==
		    correct);
	assert_true(num(rig_do(&rig, "evaluate", evaluate_args("b", "test")), "correct") == whole);
	/* Within the tolerance, on those images. */
	static const double tolerances[] = {0, 0.02, 0.1};
	for (size_t i = 0; i < ARRAY_LEN(tolerances); i++) {
		r = rig_do(
			&rig, "encode",
			with_bases(encode_args("b", "auto", "test", tolerances[i]), "a", "first"));
		assert_true(num(r, "correct") >=
			    num(r, "whole_correct") -
				    (tolerances[i] > 0 ? fmax(1, tolerances[i] * num(r, "n")) : 0));
	}
	/* No base: as good, all the same. */
	r = rig_do(&rig, "encode", encode_args("b", "auto", "test", 1));
	is_encoding(r, "int8");
	arrives(&rig, r, NULL);
	/* No images: what needs no measuring. */
	r = rig_do(&rig, "encode", with_bases(encode_args("b", "auto", NULL, 0), "a", "first"));
	is_encoding(r, "f16");
	assert_false(json_has(r, "correct"));
	arrives(&rig, r, NULL);
	rig_stop(&rig);
}

static void test_named(void **state)
{
	static const char *const names[] = {"zstd", "f16", "int8", "delta"};
	size_t size[4];
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	train_some(&rig);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct json *r =
			rig_do(&rig, "encode",
			       with_bases(encode_args("b", names[i], "test", 1), "a", "first"));
		is_encoding(r, names[i]);
		size[i] = arrives(&rig, r, i == 3 ? "a" : NULL);
		assert_true(i == 0 || size[i] < size[i - 1]);
	}
	is_encoding(rig_do(&rig, "encode", encode_args("b", "delta", "test", 0)), "int8");
	rig_stop(&rig);
}

static void test_refused(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	rig_start(&rig, &conf);
	train_some(&rig);
	static const char *const names[] = {"raw", "zip", ""};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(rig_ask(&rig, "encode", encode_args("b", names[i], NULL, 0))->code,
				 -EINVAL);
	assert_int_equal(rig_ask(&rig, "encode", encode_args("b", "int8", "tests", 0))->code,
			 -EINVAL);
	assert_int_equal(rig_ask(&rig, "encode", encode_args("b", "int8", NULL, 2))->code, -ERANGE);
	assert_int_equal(rig_ask(&rig, "encode", encode_args("none", "int8", NULL, 0))->code,
			 -ENOENT);
	assert_int_equal(
		rig_ask(&rig, "encode", with_bases(encode_args("b", "delta", NULL, 0), "a", "none"))
			->code,
		-ENOENT);
	struct json *j = json_new_obj();
	json_set_str(j, "payload", at("b"));
	json_set_str(j, "encoding", "int8");
	json_set_str(j, "out", at("received"));
	struct rig_request *q = rig_ask(&rig, "decode", j);
	assert_int_equal(q->code, -EBADMSG);
	assert_non_null(strstr(q->error, "found no coded checkpoint"));
	rig_stop(&rig);
}

/* While a training goes on, and without a trace in it. */
static void test_in_training(void **state)
{
	struct rig rig;
	struct worker_conf conf = conf_of("model.cfg");
	char id[2][HASH_SIZE];
	rig_start(&rig, &conf);
	train_some(&rig);
	for (int k = 0; k < 2; k++) {
		uint64_t training = rig_send(&rig, "train", train_args("a", "c", 4, 6));
		for (int i = 0; k && i < 3; i++)
			rig_do(&rig, "encode",
			       with_bases(encode_args("b", "auto", "test", 0), "a", "first"));
		assert_true(!k || !rig.requests[training].answered);
		RIG_WAIT(&rig, rig.requests[training].answered);
		id_of(rig.requests[training].result, id[k]);
	}
	assert_string_equal(id[0], id[1]);
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first), cmocka_unit_test(test_auto),
		cmocka_unit_test(test_named), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_in_training)};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
