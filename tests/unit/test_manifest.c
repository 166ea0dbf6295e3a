/* Manifests: there and back, and every field missing, mistyped, out of range. */
#include "ckpt_util.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/weights.h"

#define H(c)     c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c
#define ID_A     H("a1")
#define ID_B     H("b2")
#define ID_C     H("c3")
#define MODEL_ID H("0f")

#define REST                                                                              \
	"\"device\":\"d-1\",\"epoch\":3,\"images_seen\":640,\"classes\":3,\"size\":1816," \
	"\"block_size\":4096,\"created\":\"2026-11-23T05:58:00Z\",\"encoding\":\"raw\""
#define MINIMAL "{\"id\":\"" ID_A "\",\"model\":\"" MODEL_ID "\",\"origin\":\"local\"," REST "}"

static struct json *parse(const char *text)
{
	struct json *j = NULL;
	struct err err = {0};
	if (json_parse(text, strlen(text), MANIFEST_BYTES_MAX, &j, &err) < 0)
		fail_msg("%s: %s", err.text, text);
	return j;
}

static struct manifest full(void)
{
	struct manifest m = {.id = ID_A,
			     .source = ID_B,
			     .parents = {ID_B, ID_C},
			     .n_parents = 2,
			     .model = MODEL_ID,
			     .origin = ORIGIN_EDGE,
			     .device = "dev.1_x-Y",
			     .trainer = "edge",
			     .epoch = 12,
			     .images_seen = (int64_t)WEIGHTS_SEEN_MAX,
			     .classes = 33,
			     .size = 16000000,
			     .block_size = MANIFEST_BLOCK_MAX,
			     .created_ms = 1795000000123,
			     .expires_ms = 1795000000124,
			     .sequence = 1795000000123,
			     .encoding = ENCODING_RAW,
			     .root = H("ef")};
	return m;
}

static void round_trip(void **state)
{
	struct manifest m = full(), back;
	memset(&back, 0x55, sizeof(back));
	_cleanup_(json_freep) struct json *j = json_new_obj();
	manifest_to_json(&m, j);
	_cleanup_free_ char *text = json_print(j);
	assert_non_null(text);
	_cleanup_(json_freep) struct json *k = parse(text);
	struct err err = {0};
	if (manifest_from_json(k, NULL, &back, &err) < 0)
		fail_msg("%s", err.text);
	_cleanup_(json_freep) struct json *l = json_new_obj();
	manifest_to_json(&back, l);
	_cleanup_free_ char *again = json_print(l);
	assert_string_equal(again, text);
	assert_int_equal(back.expires_ms, m.expires_ms);
}

static void minimal(void **state)
{
	struct manifest m;
	_cleanup_(json_freep) struct json *j = parse(MINIMAL);
	assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
	assert_string_equal(m.source, "");
	assert_string_equal(m.trainer, "");
	assert_int_equal(m.sequence, 0);
	assert_int_equal(m.n_parents, 0);
	assert_int_equal(m.expires_ms, 0);
	assert_int_equal(m.origin, ORIGIN_LOCAL);
	assert_int_equal(m.created_ms, 1795413480000);
	/* A source that is the id says nothing. */
	json_set_str(j, "source", ID_A);
	assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
	assert_string_equal(m.source, "");
}

static void refused(struct json *j, int code, const char *text)
{
	struct manifest m, before;
	struct err err = {0};
	memset(&m, 0x55, sizeof(m));
	memcpy(&before, &m, sizeof(m));
	int r = manifest_from_json(j, NULL, &m, &err);
	if (r != code || !strstr(err.text, text) || !strstr(err.text, "manifest"))
		fail_msg("got %d, expected %d with %s: %s", r, code, text, err.text);
	assert_memory_equal(&m, &before, sizeof(m));
}

static void missing(void **state)
{
	static const char *const required[] = {"id",         "model",       "origin",  "device",
					       "epoch",      "images_seen", "classes", "size",
					       "block_size", "created",     "encoding"};
	for (size_t i = 0; i < ARRAY_LEN(required); i++) {
		_cleanup_(json_freep) struct json *j = parse(MINIMAL);
		_cleanup_(json_freep) struct json *without = json_new_obj();
		_cleanup_(json_freep) struct json *typed = json_dup(j);
		for (const struct json *e = json_first(j); e; e = json_next(e))
			if (strcmp(json_name(e), required[i]))
				json_set(without, json_name(e), json_dup(e));
		assert_int_equal(json_len(without), json_len(j) - 1);
		refused(without, -ENOENT, required[i]);
		json_set_null(typed, required[i]);
		refused(typed, -EINVAL, required[i]);
		json_set(typed, required[i], json_new_arr());
		refused(typed, -EINVAL, required[i]);
	}
}

static void bad_texts(void **state)
{
	static const char long_id[] = H("xy") "z";
	static const struct {
		const char *key, *value;
		int code;
	} cases[] = {
		{"id", "", -EINVAL},
		{"id", "a1", -EINVAL},
		{"id", H("A1"), -EINVAL},
		{"id", H("g1"), -EINVAL},
		{"id", ID_A "a", -E2BIG},
		{"id", "../../../../../../etc/passwd", -EINVAL},
		{"source", "x", -EINVAL},
		{"model", "x", -EINVAL},
		{"origin", "martian", -EINVAL},
		{"origin", "Local", -EINVAL},
		{"origin", "localandmuchmorethanthat", -E2BIG},
		{"device", "", -EINVAL},
		{"device", "a/b", -EINVAL},
		{"device", "+", -EINVAL},
		{"device", "#", -EINVAL},
		{"device", "..", -EINVAL},
		{"device", "a\nb", -EINVAL},
		{"device", long_id, -E2BIG},
		{"trainer", "a b", -EINVAL},
		{"trainer", "", -EINVAL},
		{"created", "yesterday", -EINVAL},
		{"created", "2026-02-30T00:00:00Z", -EINVAL},
		{"created", "1960-01-01T00:00:00Z", -ERANGE},
		{"expires", "2026-11-23T05:58:00Z", -EINVAL},
		{"expires", "1970-01-01T00:00:00Z", -EINVAL},
		{"expires", "", -EINVAL},
		{"encoding", "gzip", -EOPNOTSUPP},
		{"payload", ID_B, -EINVAL},
		{"base", ID_B, -EINVAL},
		{"encoding", "", -EOPNOTSUPP},
		{"encoding", "a-much-too-long-name", -E2BIG},
		{"root", "", -EINVAL},
		{"root", "abc", -EINVAL},
		{"sequence", "1", -EINVAL},
		{"parents", "text", -EINVAL},
		{"critical", "text", -EINVAL},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(json_freep) struct json *j = parse(MINIMAL);
		json_set_str(j, cases[i].key, cases[i].value);
		refused(j, cases[i].code, cases[i].key);
	}
	_cleanup_(json_freep) struct json *j = parse(MINIMAL);
	json_set_int(j, "sequence", 0);
	refused(j, -ERANGE, "sequence");
	/* How the message was signed is not for the decoder to judge. */
	json_set_int(j, "sequence", 1);
	json_set_str(j, "certificate", "AAAA");
	json_set_str(j, "signature", "rubbish");
	struct manifest m;
	assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
	assert_int_equal(m.sequence, 1);
}

/* Which of them go with which encoding. */
static void coded(void **state)
{
	for (int e = ENCODING_ZSTD; e < ENCODING_N; e++) {
		_cleanup_(json_freep) struct json *j = parse(MINIMAL), *back = json_new_obj();
		struct manifest m;
		json_set_str(j, "encoding", encoding_name((enum encoding)e));
		refused(j, -ENOENT, "payload");
		json_set_str(j, "payload", "text");
		refused(j, -EINVAL, "payload");
		json_set_str(j, "payload", ID_B);
		if (e == ENCODING_DELTA) {
			refused(j, -ENOENT, "base");
			json_set_str(j, "base", ID_C);
		}
		assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
		assert_int_equal(m.encoding, e);
		assert_string_equal(manifest_payload(&m), ID_B);
		assert_string_equal(m.base, e == ENCODING_DELTA ? ID_C : "");
		manifest_to_json(&m, back);
		struct manifest again;
		assert_int_equal(manifest_from_json(back, NULL, &again, NULL), 0);
		assert_memory_equal(&m, &again, sizeof(m));
		json_set_str(j, "base", ID_C);
		if (e != ENCODING_DELTA)
			refused(j, -EINVAL, "base");
		manifest_decoded(&m, 4444);
		assert_int_equal(m.encoding, ENCODING_RAW);
		assert_int_equal(m.size, 4444);
		assert_string_equal(manifest_payload(&m), m.id);
		assert_false(*m.base);
	}
}

static void bad_numbers(void **state)
{
	static const struct {
		const char *key;
		double value;
		int code;
	} cases[] = {
		{"epoch", -1, -ERANGE},
		{"epoch", 1.5, -EINVAL},
		{"epoch", 1e12, -ERANGE},
		{"images_seen", -1, -ERANGE},
		{"images_seen", 2e12, -ERANGE},
		{"classes", -1, -ERANGE},
		{"classes", MODEL_CLASSES_MAX + 1, -ERANGE},
		{"size", 0, -ERANGE},
		{"size", 19, -ERANGE},
		{"size", 3e9, -ERANGE},
		{"block_size", 0, -ERANGE},
		{"block_size", MANIFEST_BLOCK_MIN - 1, -ERANGE},
		{"block_size", MANIFEST_BLOCK_MAX + 1, -ERANGE},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(json_freep) struct json *j = parse(MINIMAL);
		json_set_num(j, cases[i].key, cases[i].value);
		refused(j, cases[i].code, cases[i].key);
	}
	/* Too many blocks together. */
	_cleanup_(json_freep) struct json *j = parse(MINIMAL);
	json_set_int(j, "size", 1500000000);
	json_set_int(j, "block_size", 1024);
	refused(j, -ERANGE, "blocks");
}

static void parents(void **state)
{
	_cleanup_(json_freep) struct json *j = parse(MINIMAL);
	struct json *arr = json_new_arr();
	char id[HASH_SIZE] = ID_B;
	struct manifest m;
	for (int i = 0; i < MANIFEST_PARENTS_MAX; i++) {
		id[0] = (char)('0' + i);
		json_push_str(arr, id);
	}
	json_set(j, "parents", json_dup(arr));
	assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
	assert_int_equal(m.n_parents, MANIFEST_PARENTS_MAX);
	json_push_str(arr, ID_C);
	json_set(j, "parents", arr);
	refused(j, -E2BIG, "parents");
	static const char *const bad[][2] = {{ID_B, ID_B}, {ID_B, ID_A}, {ID_B, "x"}, {ID_B, NULL}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		arr = json_new_arr();
		json_push_str(arr, bad[i][0]);
		if (bad[i][1])
			json_push_str(arr, bad[i][1]);
		else
			json_push_int(arr, 1);
		json_set(j, "parents", arr);
		refused(j, -EINVAL, "entry 1");
	}
}

static void critical(void **state)
{
	static const char *const ours[] = {"fence", "base", NULL};
	_cleanup_(json_freep) struct json *j = parse(MINIMAL);
	struct manifest m;
	json_set_str(j, "future", "thing");
	assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
	struct json *arr = json_new_arr();
	json_push_str(arr, "expires");
	json_push_str(arr, "fence");
	json_set(j, "critical", json_dup(arr));
	assert_int_equal(manifest_from_json(j, ours, &m, NULL), 0);
	refused(j, -EOPNOTSUPP, "fence");
	json_push_str(arr, "future");
	json_set(j, "critical", json_dup(arr));
	refused(j, -EOPNOTSUPP, "critical");
	struct err err = {0};
	assert_int_equal(manifest_from_json(j, ours, &m, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "'future'"));
	json_push_int(arr, 5);
	json_set(j, "critical", arr);
	assert_int_equal(manifest_from_json(j, ours, &m, NULL), -EOPNOTSUPP);
	arr = json_new_arr();
	for (int i = 0; i < 65; i++)
		json_push_str(arr, "id");
	json_set(j, "critical", arr);
	refused(j, -E2BIG, "critical");
	_cleanup_(json_freep) struct json *list = parse("[1]");
	refused(list, -EINVAL, "object");
}

static void fits(void **state)
{
	_cleanup_(model_freep) struct model *model = util_model(SMALL_CFG, 3);
	struct manifest m;
	struct err err = {0};
	_cleanup_(json_freep) struct json *j = parse(MINIMAL);
	assert_int_equal(manifest_from_json(j, NULL, &m, NULL), 0);
	assert_int_equal(manifest_fits(&m, model, 0, &err), -EINVAL);
	char expected[13], words[64];
	snprintf(words, sizeof(words), "of another model: found %.12s, expected %s (topology ",
		 m.model, hash_short(model->id, expected));
	assert_non_null(strstr(err.text, words));
	assert_null(strstr(err.text, model->cfg_path)); /* it goes to whoever sent it */
	memcpy(m.model, model->id, HASH_SIZE);
	assert_int_equal(manifest_fits(&m, model, INT64_MAX, &err), 0);
	m.expires_ms = 1000;
	assert_int_equal(manifest_fits(&m, model, 999, &err), 0);
	assert_int_equal(manifest_fits(&m, model, 1000, &err), -ETIME);
	assert_non_null(strstr(err.text, "1970-01-01T00:00:01"));
	m.expires_ms = 0;
	m.size++;
	assert_int_equal(manifest_fits(&m, model, 0, &err), -EINVAL);
	assert_non_null(strstr(err.text, "found 1817, expected 1816"));
	m.encoding = ENCODING_INT8;
	assert_int_equal(manifest_fits(&m, model, 0, &err), -EINVAL);
	m.size--;
	assert_int_equal(manifest_fits(&m, model, 0, &err), -EINVAL);
	assert_non_null(strstr(err.text, "found 1816, expected less than 1816"));
	m.size--;
	assert_int_equal(manifest_fits(&m, model, 0, &err), 0);
	m.encoding = ENCODING_RAW;
	m.size++;
	m.classes = 2;
	assert_int_equal(manifest_fits(&m, model, 0, &err), -EINVAL);
	assert_non_null(strstr(err.text, "classes"));
}

static void origins(void **state)
{
	enum origin o = ORIGIN_N;
	for (int i = 0; i < ORIGIN_N; i++) {
		assert_int_equal(origin_parse(origin_name((enum origin)i), &o), 0);
		assert_int_equal(o, i);
	}
	assert_int_equal(origin_parse("unknown", &o), -EINVAL);
	assert_string_equal(origin_name(ORIGIN_N), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),  cmocka_unit_test(minimal),
		cmocka_unit_test(missing),     cmocka_unit_test(bad_texts),
		cmocka_unit_test(bad_numbers), cmocka_unit_test(parents),
		cmocka_unit_test(critical),    cmocka_unit_test(fits),
		cmocka_unit_test(origins),     cmocka_unit_test(coded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
