/* Every message: print, parse, print again must give the same text, and the fields that went in.
 * Bad input is made from a good text of each message by replacing, adding or taking away one
 * member, so that each row differs from what is taken in exactly one thing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/codecs.h"

#define H1 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define H2 "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

#define SITE_KEY                                                   \
	"00112233445566778899aabb00112233445566778899aabb00112233" \
	"445566778899aabb00112233445566778899aabb00112233445566778899aabb"
#define SCORE "{\"n\":100,\"correct\":44,\"accuracy\":0.44,\"loss\":1.5}"
#define MANIFEST                                                                               \
	"\"id\":\"" H1 "\",\"parents\":[\"" H2 "\"],\"model\":\"" H2                           \
	"\",\"origin\":\"edge\",\"device\":\"d1\",\"trainer\":\"t1\",\"epoch\":3,"             \
	"\"images_seen\":1000,\"classes\":10,\"size\":70000,\"block_size\":32768,"             \
	"\"created\":\"2024-11-23T12:00:00.123Z\",\"encoding\":\"raw\""

static const char *const good[] = {
	[PRESENCE] = "{\"online\":true,\"boot\":7}",
	[STATUS] =
		"{\"boot\":7,\"agent\":\"0.1.0\",\"model\":\"" H1
		"\",\"phase\":\"training\",\"reason\":\"\",\"epoch\":3,\"report_seq\":12,"
		"\"report_first\":3,\"log\":\"Ab3dEf9h\",\"active\":{\"checkpoint\":\"" H2
		"\",\"origin\":\"blend\",\"accuracy\":0.5,\"pinned\":false},"
		"\"skipped_images\":2,\"at\":\"2024-11-23T12:00:00.123Z\",\"progress\":0.25,"
		"\"loss\":2.5,\"images_per_second\":165.5,\"handover\":\"granted\","
		"\"trainer\":\"t1\",\"moved_bytes\":2000000,\"data_bytes\":3000000,"
		"\"disk_free_bytes\":4000000,\"audit_seq\":812,\"audit_head\":\"" H2 "\"}",
	[REPORT] =
		"{\"seq\":1,\"log\":\"Ab3dEf9h\",\"checkpoint\":\"" H1
		"\",\"origin\":\"local\",\"snapshot\":\"" H2
		"\",\"split\":\"test\",\"n\":100,\"correct\":44,\"accuracy\":0.44,\"loss\":1.5,"
		"\"per_class\":[{\"class\":0,\"n\":60,\"correct\":40},"
		"{\"class\":9,\"n\":40,\"correct\":4}],\"decision\":\"kept\","
		"\"why\":\"unsure\",\"test\":{\"name\":\"mcnemar\",\"contenders\":4,\"won\":7,\"lost\":3,"
		"\"p\":0.25},"
		"\"against\":{\"checkpoint\":\"" H2 "\",\"accuracy\":0.65},"
		"\"privacy\":{\"epsilon\":2.5,\"delta\":1e-05,\"budget\":8,\"handovers\":3},"
		"\"audit_seq\":812,\"audit_head\":\"" H2 "\",\"epoch\":3,\"at\":\"2024-11-23T12:00:00.123Z\"}",
	[OFFER] =
		"{" MANIFEST ",\"last_trainer\":\"t2\",\"bases\":[\"" H1 "\",\"" H2 "\"],"
		"\"validation\":" SCORE ",\"test\":" SCORE "}",
	[CLAIM] =
		"{\"trainer\":\"t1\",\"checkpoint\":\"" H1
		"\",\"fence\":0,\"claim\":41,\"busy\":true,\"retry_ms\":5000,"
		"\"reason\":\"another model\",\"phase\":\"queued\","
		"\"progress\":0.5,\"seal\":\"" H2 "\",\"sequence\":7}",
	[GRANT] =
		"{\"checkpoint\":\"" H1
		"\",\"granted\":true,\"fence\":9,\"claim\":41,\"lease_ms\":60000,"
		"\"reason\":\"again\",\"seal\":\"" H2 "\",\"sequence\":7}",
	[RESULT] =
		"{" MANIFEST ",\"fence\":9,\"before\":" SCORE ",\"after\":" SCORE
		",\"snapshot\":\"" H2 "\",\"images_trained\":5000,\"duration_ms\":60000}",
	[WANT] =
		"{\"trainer\":\"t1\",\"checkpoint\":\"" H1
		"\",\"blocks\":[0,5,1048575],\"reports\":{\"from\":1,\"to\":100}}",
	[ACK] =
		"{\"trainer\":\"t1\",\"checkpoint\":\"" H1
		"\",\"fence\":9,\"decision\":\"refused\",\"reason\":\"old fence\","
		"\"validation\":" SCORE
		",\"test\":" SCORE ",\"local_validation\":" SCORE ",\"local_test\":" SCORE "}",
	[TRAINER] =
		"{\"boot\":7,\"version\":\"0.1.0\",\"model\":\"" H1
		"\",\"queued\":1,\"active\":2,\"capacity\":2,\"devices\":20,\"handovers\":55,"
		"\"load\":1.5,\"strategy\":\"merge\",\"refused\":3,\"refused_messages\":7,\"members\":40,"
		"\"window\":[\"d1\",\"d2\"],\"quarantined\":5,\"quarantine\":[{\"device\":\"d3\",\"since\":\"2024-11-23T12:00:00.123Z\",\"until\":\"2024-11-23T13:00:00.123Z\",\"why\":\"norm out of line\"}],\"audit_seq\":812,\"audit_head\":\"" H2 "\",\"reason\":\"full\",\"at\":\"2024-11-23T12:00:00.123Z\"}",
	[JOB] =
		"{\"device\":\"d1\",\"checkpoint\":\"" H1
		"\",\"fence\":9,\"phase\":\"training\",\"progress\":0.5,\"epoch\":1,\"epochs\":20,"
		"\"window\":12,\"loss\":0.25,\"images_per_second\":1947,\"before\":" SCORE ",\"after\":" SCORE
		",\"at\":\"2024-11-23T12:00:00.123Z\"}",
	[CMD] =
		"{\"cmd\":\"evaluate\",\"id\":\"a1\",\"expires\":\"2024-11-23T12:00:00.123Z\","
		"\"checkpoint\":\"" H1 "\",\"split\":\"test\"}",
	[FLEET] =
		"{\"id\":\"" H1 "\",\"parents\":[],\"model\":\"" H2
		"\",\"origin\":\"fleet\",\"device\":\"t1\",\"trainer\":\"t1\",\"epoch\":3,"
		"\"images_seen\":1000,\"classes\":10,\"size\":70000,\"block_size\":32768,"
		"\"created\":\"2024-11-23T12:00:00.123Z\",\"sequence\":9,\"encoding\":\"raw\","
		"\"share\":10,\"halted\":true,\"reason\":\"worse\",\"starts_in_ms\":2000,"
		"\"spread_ms\":10000,\"test\":" SCORE "}",
	[KEY] =
		"{\"trainer\":\"t1\",\"sequence\":9,\"seal\":\"" H1 "\",\"key\":\"" SITE_KEY "\"}",
	[HISTORY] =
		"{\"at\":\"2024-11-23T12:00:00.123Z\",\"points\":["
		"[1732363200,3,\"local\",100,44,1,\"0123456789ab\"],"
		"[1732363260,3,\"edge\",100,60,0,\"ffffffffffff\"]],"
		"\"confusion\":{\"checkpoint\":\"" H1
		"\",\"classes\":2,\"counts\":[40,16,40,9999999]}}",
};

static void assert_taken(enum codec_kind k, const char *text, const char *expected)
{
	struct err err = {0};
	_cleanup_free_ char *out = NULL;
	if (codecs[k].again(text, strlen(text), &out, &err) < 0)
		fail_msg("%s refused: %s\n%s", codecs[k].name, err.text, text);
	assert_non_null(out);
	assert_string_equal(out, expected);
}

static void assert_refused(enum codec_kind k, const char *text, size_t len)
{
	struct err err = {0};
	_cleanup_free_ char *out = NULL;
	int r = codecs[k].again(text, len, &out, &err);
	if (r >= 0)
		fail_msg("%s taken: %.*s", codecs[k].name, (int)len, text);
	assert_int_equal(err.code, r);
	if (strncmp(err.text, codecs[k].name, strlen(codecs[k].name)) != 0)
		fail_msg("error does not name the %s: %s", codecs[k].name, err.text);
	assert_int_equal(codecs[k].again(text, len, &out, NULL), r);
}

static void test_round_trips(void **state)
{
	for (enum codec_kind k = 0; k < ARRAY_LEN(codecs); k++)
		assert_taken(k, good[k], good[k]);
}

/* What any decoder must refuse, whatever its members. */
static void test_form(void **state)
{
	static const char *const bad[] = {
		"", " ", "null", "1", "\"x\"", "[]", "[{}]", "{", "{}", "{\"a\":1}", "{}{}",
		"{\"critical\":[]", "\xff\xfe{}", "{\"a\":\"\x01\"}",
	};
	for (enum codec_kind k = 0; k < ARRAY_LEN(codecs); k++) {
		for (size_t i = 0; i < ARRAY_LEN(bad); i++)
			assert_refused(k, bad[i], strlen(bad[i]));
		size_t len = strlen(good[k]);
		for (size_t cut = 0; cut < len; cut++)
			assert_refused(k, good[k], cut);
		/* Blanks up to the limit are taken, one more is not. */
		_cleanup_free_ char *big = malloc(codecs[k].max + 1), *out = NULL;
		memset(big, ' ', codecs[k].max + 1);
		memcpy(big, good[k], len);
		assert_int_equal(codecs[k].again(big, codecs[k].max, &out, NULL), 0);
		assert_refused(k, big, codecs[k].max + 1);
	}
}

static void test_critical(void **state)
{
	for (enum codec_kind k = 0; k < ARRAY_LEN(codecs); k++) {
		const char *rest = good[k] + 1;
		char text[8192];
		static const char *const bad[] = {"[\"color\"]", "[1]", "\"color\"", "{}", "null",
						  "[\"critical\",\"Fence\"]", "[\"\"]"};
		snprintf(text, sizeof(text), "{\"color\":{\"red\":[1,null]},%s", rest);
		assert_taken(k, text, good[k]);
		for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
			snprintf(text, sizeof(text), "{\"critical\":%s,%s", bad[i], rest);
			assert_refused(k, text, strlen(text));
		}
		/* Each of its own members is known. */
		_cleanup_(json_freep) struct json *root = NULL;
		assert_int_equal(json_parse(good[k], strlen(good[k]), 65536,
					    &root, NULL),
				 0);
		struct json *names = json_new_arr();
		for (const struct json *e = json_first(root); e; e = json_next(e))
			json_push_str(names, json_name(e));
		json_set(root, "critical", names);
		_cleanup_free_ char *all = json_print(root);
		assert_taken(k, all, good[k]);
	}
}

/* ---- one member changed ---- */

#define IDS8	"\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\""
#define IDS33	IDS8 "," IDS8 "," IDS8 "," IDS8 ",\"a\""
#define LONG17	"12345678901234567"
#define LONG33	"123456789012345678901234567890123"
#define LONG65	LONG33 "12345678901234567890123456789012"
#define LONG130 LONG65 LONG65

struct change {
	enum codec_kind kind;
	const char *path; /* member, or "inner/member" */
	const char *value; /* JSON; NULL: the member is left out */
};

static struct json *value_of(const char *text)
{
	struct json *box = NULL;
	char buf[1024];
	snprintf(buf, sizeof(buf), "[%s]", text);
	if (json_parse(buf, strlen(buf), sizeof(buf), &box, NULL) < 0)
		fail_msg("bad row: %s", text);
	struct json *v = json_dup(json_at(box, 0));
	json_free(box);
	return v;
}

/* A copy of the object with `key` set to `value`, taken, or left out. */
static struct json *with(const struct json *obj, const char *key, struct json *value)
{
	struct json *out = json_new_obj();
	for (const struct json *e = json_first(obj); e; e = json_next(e)) {
		bool same = strcmp(json_name(e), key) == 0;
		if (!same)
			json_set(out, json_name(e), json_dup(e));
		else if (value)
			json_set(out, key, TAKE_PTR(value)); /* where it was */
	}
	if (value)
		json_set(out, key, value);
	return out;
}

static char *changed(const struct change *c)
{
	_cleanup_(json_freep) struct json *root = NULL, *out = NULL;
	const char *text = good[c->kind], *slash = strchr(c->path, '/');
	assert_int_equal(json_parse(text, strlen(text), 65536, &root, NULL), 0);
	struct json *v = c->value ? value_of(c->value) : NULL;
	if (slash) {
		char outer[64];
		const struct json *obj;
		snprintf(outer, sizeof(outer), "%.*s", (int)(slash - c->path), c->path);
		assert_int_equal(json_get_obj(root, outer, &obj, NULL), 0);
		v = with(obj, slash + 1, v);
		out = with(root, outer, v);
	} else {
		out = with(root, c->path, v);
	}
	return json_print(out);
}

static const struct change refused[] = {
	{PRESENCE, "online", NULL}, {PRESENCE, "online", "1"}, {PRESENCE, "online", "\"true\""},
	{PRESENCE, "boot", NULL}, {PRESENCE, "boot", "-1"}, {PRESENCE, "boot", "1.5"},
	{PRESENCE, "boot", "\"7\""}, {PRESENCE, "boot", "9007199254740992"},
	{PRESENCE, "boot", "null"},

	{STATUS, "agent", NULL}, {STATUS, "agent", "\"" LONG33 "\""}, {STATUS, "agent", "1"},
	{STATUS, "model", NULL}, {STATUS, "model", "\"\""},
	{STATUS, "model", "\"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\""},
	{STATUS, "phase", NULL}, {STATUS, "phase", "\"sleeping\""}, {STATUS, "phase", "0"},
	{STATUS, "reason", NULL}, {STATUS, "reason", "\"" LONG130 LONG130 "\""},
	{STATUS, "reason", "\"a\\nb\""}, {STATUS, "reason", "\"\\u001b[2J\""},
	{STATUS, "reason", "\"\\u009b2J\""}, {STATUS, "reason", "\"\\u007f\""},
	{STATUS, "epoch", "-1"}, {STATUS, "report_seq", "-1"}, {STATUS, "report_first", "0"},
	{STATUS, "report_first", "\"3\""}, {STATUS, "log", "\"\""}, {STATUS, "log", "\"short77\""},
	{STATUS, "log", "\"" LONG33 "\""}, {STATUS, "log", "\"with-dash\""}, {STATUS, "log", "12345678"}, {STATUS, "active", NULL},
	{STATUS, "active", "[]"}, {STATUS, "active", "false"}, {STATUS, "active", "{}"},
	{STATUS, "active/checkpoint", NULL}, {STATUS, "active/checkpoint", "\"x\""},
	{STATUS, "active/origin", NULL}, {STATUS, "active/origin", "\"cloud\""},
	{STATUS, "active/accuracy", NULL}, {STATUS, "active/accuracy", "1.01"},
	{STATUS, "active/accuracy", "-0.01"}, {STATUS, "active/accuracy", "\"NaN\""},
	{STATUS, "active/pinned", NULL}, {STATUS, "active/pinned", "0"},
	{STATUS, "at", NULL}, {STATUS, "at", "0"}, {STATUS, "at", "\"yesterday\""},
	{STATUS, "at", "\"1969-12-31T23:59:59Z\""}, {STATUS, "at", "\"2024-13-01T00:00:00Z\""},
	{STATUS, "progress", "1.5"}, {STATUS, "progress", "-1"}, {STATUS, "progress", "null"},
	{STATUS, "loss", "-1"}, {STATUS, "loss", "1e10"}, {STATUS, "images_per_second", "-1"},
	{STATUS, "handover", "\"" LONG17 "\""}, {STATUS, "trainer", "\"a/b\""},
	{STATUS, "trainer", "\"\""}, {STATUS, "skipped_images", "-1"},
	{STATUS, "moved_bytes", "-1"}, {STATUS, "data_bytes", "1.5"},
	{STATUS, "disk_free_bytes", "null"},

	{HISTORY, "at", NULL}, {HISTORY, "at", "1732363200"}, {HISTORY, "points", NULL},
	{HISTORY, "points", "{}"}, {HISTORY, "points", "[{}]"}, {HISTORY, "points", "[7]"},
	{HISTORY, "points", "[[]]"}, {HISTORY, "points", "[[1,3,\"local\",100,44,1]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,44,1,\"0123456789ab\",0]]"},
	{HISTORY, "points", "[[-1,3,\"local\",100,44,1,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,-3,\"local\",100,44,1,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,\"cloud\",100,44,1,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,7,100,44,1,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",0,0,1,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,101,1,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,44,2,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,44,true,\"0123456789ab\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,44,1,\"0123456789a\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,44,1,\"0123456789aB\"]]"},
	{HISTORY, "points", "[[1,3,\"local\",100,44,1,7]]"},
	{HISTORY, "points", "[{\"a\":1,\"b\":3,\"c\":\"local\",\"d\":1,\"e\":1,\"f\":1,\"g\":\"0123456789ab\"}]"},
	{HISTORY, "confusion", "null"}, {HISTORY, "confusion", "{}"},
	{HISTORY, "confusion/checkpoint", NULL}, {HISTORY, "confusion/checkpoint", "\"cat\""},
	{HISTORY, "confusion/classes", NULL}, {HISTORY, "confusion/classes", "0"},
	{HISTORY, "confusion/classes", "1"}, {HISTORY, "confusion/classes", "3"},
	{HISTORY, "confusion/classes", "65"}, {HISTORY, "confusion/counts", NULL},
	{HISTORY, "confusion/counts", "{}"}, {HISTORY, "confusion/counts", "[1,2,3]"},
	{HISTORY, "confusion/counts", "[1,2,3,4,5]"}, {HISTORY, "confusion/counts", "[1,2,3,-1]"},
	{HISTORY, "confusion/counts", "[1,2,3,10000000]"}, {HISTORY, "confusion/counts", "[1,2,3,\"4\"]"},

	{REPORT, "seq", NULL}, {REPORT, "seq", "0"}, {REPORT, "seq", "-3"},
	{REPORT, "seq", "1e300"}, {REPORT, "log", "\"" LONG33 "\""}, {REPORT, "log", "\"a/b/c/d/e\""},
	{REPORT, "log", "null"}, {REPORT, "checkpoint", NULL}, {REPORT, "origin", NULL},
	{REPORT, "origin", "null"}, {REPORT, "snapshot", NULL}, {REPORT, "snapshot", "\"\""},
	{REPORT, "split", NULL}, {REPORT, "split", "\"all\""}, {REPORT, "n", NULL},
	{REPORT, "n", "-1"}, {REPORT, "n", "43"}, {REPORT, "correct", NULL},
	{REPORT, "correct", "-1"}, {REPORT, "correct", "101"}, {REPORT, "accuracy", NULL},
	{REPORT, "accuracy", "44"}, {REPORT, "accuracy", "-0.1"}, {REPORT, "accuracy", "null"},
	{REPORT, "accuracy", "0.6"}, {REPORT, "loss", NULL}, {REPORT, "loss", "-0.5"},
	{REPORT, "loss", "null"}, {REPORT, "per_class", "{}"}, {REPORT, "per_class", "[1]"},
	{REPORT, "per_class", "[{}]"}, {REPORT, "per_class", "[{\"class\":0,\"n\":1}]"},
	{REPORT, "per_class", "[{\"class\":0,\"n\":1,\"correct\":2}]"},
	{REPORT, "per_class", "[{\"class\":0,\"n\":-1,\"correct\":-1}]"},
	{REPORT, "per_class", "[{\"class\":-1,\"n\":1,\"correct\":1}]"},
	{REPORT, "per_class", "[{\"class\":4096,\"n\":1,\"correct\":1}]"},
	{REPORT, "per_class", "[{\"class\":\"cat\",\"n\":1,\"correct\":1}]"},
	{REPORT, "decision", "\"refused\""}, {REPORT, "decision", "true"},
	{REPORT, "against", "null"}, {REPORT, "against", "{}"},
	{REPORT, "against/checkpoint", NULL}, {REPORT, "against/accuracy", NULL},
	{REPORT, "against/accuracy", "2"}, {REPORT, "epoch", NULL}, {REPORT, "epoch", "-1"},
	{REPORT, "at", NULL}, {REPORT, "why", "7"}, {REPORT, "why", "\"" LONG17 "\""},
	{REPORT, "test", "\"mcnemar\""}, {REPORT, "test", "{}"}, {REPORT, "test/name", NULL},
	{REPORT, "test/name", "\"" LONG17 "\""}, {REPORT, "test/contenders", NULL},
	{REPORT, "test/contenders", "0"}, {REPORT, "test/won", NULL}, {REPORT, "test/won", "-1"},
	{REPORT, "test/lost", NULL}, {REPORT, "test/lost", "0.5"}, {REPORT, "test/p", NULL},
	{REPORT, "test/p", "1.01"}, {REPORT, "test/p", "null"},
	{REPORT, "privacy", "8"}, {REPORT, "privacy", "null"}, {REPORT, "privacy", "{}"},
	{REPORT, "privacy/epsilon", NULL}, {REPORT, "privacy/epsilon", "-1"},
	{REPORT, "privacy/epsilon", "1.1e15"}, {REPORT, "privacy/epsilon", "null"},
	{REPORT, "privacy/delta", NULL}, {REPORT, "privacy/delta", "1.1"},
	{REPORT, "privacy/budget", NULL}, {REPORT, "privacy/budget", "-0.1"},
	{REPORT, "privacy/handovers", NULL}, {REPORT, "privacy/handovers", "-1"},
	{REPORT, "privacy/handovers", "0.5"},

	{OFFER, "id", NULL}, {OFFER, "id", "\"..\""}, {OFFER, "model", NULL},
	{OFFER, "device", NULL}, {OFFER, "device", "\"a+b\""}, {OFFER, "device", "\"#\""},
	{OFFER, "device", "\"..\""}, {OFFER, "size", "-1"}, {OFFER, "size", "0"},
	{OFFER, "block_size", "1"}, {OFFER, "block_size", "262144"},
	{OFFER, "encoding", "\"zip\""}, {OFFER, "created", "\"soon\""}, {OFFER, "epoch", "-1"},
	{OFFER, "last_trainer", "\"a/b\""}, {OFFER, "last_trainer", "1"},
	{OFFER, "bases", "\"x\""}, {OFFER, "bases", "[\"x\"]"}, {OFFER, "bases", "[1]"},
	{OFFER, "bases", "[1,2,3,4,5,6,7,8,9]"}, {OFFER, "validation", "null"},
	{OFFER, "validation", "{}"}, {OFFER, "validation/n", "-1"},
	{OFFER, "validation", "{\"n\":1000,\"correct\":1001,\"accuracy\":1,\"loss\":0}"},
	{OFFER, "validation/correct", "101"}, {OFFER, "validation/accuracy", "1.1"},
	{OFFER, "test/loss", NULL},

	{CLAIM, "trainer", NULL}, {CLAIM, "trainer", "\"a/b\""}, {CLAIM, "trainer", "\"+\""},
	{CLAIM, "trainer", "\"#\""}, {CLAIM, "trainer", "\"..\""},
	{CLAIM, "trainer", "\"" LONG65 "\""}, {CLAIM, "checkpoint", NULL},
	{CLAIM, "checkpoint", "\"" LONG65 "\""}, {CLAIM, "fence", NULL}, {CLAIM, "fence", "-1"},
	{CLAIM, "busy", "1"}, {CLAIM, "retry_ms", "-1"}, {CLAIM, "retry_ms", "86400001"},
	{CLAIM, "phase", "\"" LONG17 "\""}, {CLAIM, "progress", "1.1"},
	{CLAIM, "sequence", "0"}, {CLAIM, "sequence", "\"7\""}, {GRANT, "sequence", "-1"},
	{CLAIM, "claim", "0"}, {CLAIM, "claim", "-1"}, {CLAIM, "claim", "\"1\""},
	{CLAIM, "reason", "\"a\\nb\""}, {CLAIM, "reason", "7"},
	{CLAIM, "lacks", "\"base\""},
	{CLAIM, "seal", "\"" LONG65 "\""}, {CLAIM, "seal", "\"\""}, {CLAIM, "seal", "7"},

	{GRANT, "checkpoint", NULL}, {GRANT, "granted", NULL}, {GRANT, "granted", "1"},
	{GRANT, "fence", NULL}, {GRANT, "fence", "0"}, {GRANT, "lease_ms", NULL},
	{GRANT, "lease_ms", "0"}, {GRANT, "lease_ms", "86400001"}, {GRANT, "reason", "7"},
	{GRANT, "claim", "0"}, {GRANT, "claim", "1.5"}, {GRANT, "claim", "null"},
	{GRANT, "seal", "\"ABC\""}, {GRANT, "seal", "\"" LONG65 "\""}, {GRANT, "seal", "true"},

	{RESULT, "id", NULL}, {RESULT, "parents", "[]"}, {RESULT, "parents", NULL},
	{RESULT, "trainer", NULL}, {RESULT, "fence", NULL}, {RESULT, "fence", "0"},
	{RESULT, "before", NULL}, {RESULT, "after", NULL}, {RESULT, "after/correct", "1000"},
	{RESULT, "snapshot", NULL}, {RESULT, "snapshot", "\"\""},
	{RESULT, "images_trained", NULL}, {RESULT, "images_trained", "-1"},
	{RESULT, "duration_ms", NULL}, {RESULT, "duration_ms", "-1"},

	{KEY, "trainer", NULL}, {KEY, "trainer", "\"a/b\""}, {KEY, "sequence", NULL},
	{KEY, "sequence", "0"}, {KEY, "sequence", "\"9\""}, {KEY, "seal", NULL},
	{KEY, "seal", "\"\""}, {KEY, "seal", "\"" LONG65 "\""}, {KEY, "key", "\"00\""},
	{KEY, "key", "\"" SITE_KEY "0\""}, {KEY, "key", "\"" LONG65 LONG33 "123456789012345678901A\""},

	{WANT, "trainer", "\"a/b\""}, {WANT, "checkpoint", NULL}, {WANT, "checkpoint", "\"x\""},
	{WANT, "blocks", NULL}, {WANT, "blocks", "[]"}, {WANT, "blocks", "[-1]"},
	{WANT, "blocks", "[1048576]"}, {WANT, "blocks", "[0.5]"}, {WANT, "blocks", "[\"1\"]"},
	{WANT, "blocks",
	 "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,"
	 "16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32]"},
	{WANT, "reports", "{}"}, {WANT, "reports", "[1,2]"},
	{WANT, "reports", "{\"from\":0,\"to\":5}"}, {WANT, "reports", "{\"from\":5,\"to\":4}"},
	{WANT, "reports", "{\"from\":1,\"to\":101}"},

	{ACK, "checkpoint", NULL}, {ACK, "fence", NULL}, {ACK, "fence", "-1"},
	{ACK, "decision", "\"maybe\""}, {ACK, "reason", "\"" LONG130 LONG130 "\""},
	{ACK, "trainer", "\"a b\""}, {ACK, "local_test/n", "\"100\""},
	{ACK, "local_validation", "[]"},

	{TRAINER, "boot", NULL}, {TRAINER, "version", NULL}, {TRAINER, "model", NULL},
	{TRAINER, "queued", "-1"}, {TRAINER, "active", "-1"}, {TRAINER, "capacity", "-1"},
	{TRAINER, "devices", "-1"}, {TRAINER, "handovers", "-1"}, {TRAINER, "load", "-1"},
	{TRAINER, "strategy", "\"" LONG17 "\""}, {TRAINER, "refused", "-1"},
	{TRAINER, "members", "-1"}, {TRAINER, "window", "[\"a/b\"]"}, {TRAINER, "window", "[7]"},
	{TRAINER, "window", "{}"}, {TRAINER, "window", "[" IDS33 "]"}, {JOB, "window", "-1"},
	{REPORT, "audit_seq", NULL}, {REPORT, "audit_seq", "0"}, {REPORT, "audit_head", "7"},
	{STATUS, "audit_seq", NULL}, {STATUS, "audit_seq", "0"}, {STATUS, "audit_head", NULL},
	{STATUS, "audit_head", "\"a\""}, {TRAINER, "audit_seq", NULL}, {TRAINER, "audit_head", "7"},
	{TRAINER, "quarantined", "-1"}, {TRAINER, "quarantine", "{}"}, {TRAINER, "quarantine", "[7]"},
	{TRAINER, "quarantine", "[{\"device\":\"d3\"}]"}, {TRAINER, "quarantine", "[{},{},{},{},{}]"},
	{TRAINER, "load", NULL}, {TRAINER, "reason", NULL}, {TRAINER, "at", NULL},

	{JOB, "device", NULL}, {JOB, "device", "\"a/b\""}, {JOB, "checkpoint", NULL},
	{JOB, "fence", "-1"}, {JOB, "phase", NULL}, {JOB, "progress", NULL},
	{JOB, "progress", "2"}, {JOB, "epoch", "-1"}, {JOB, "epochs", NULL},
	{JOB, "before", "{}"}, {JOB, "at", NULL},

	{CMD, "cmd", NULL}, {CMD, "cmd", "\"reboot\""}, {CMD, "cmd", "1"}, {CMD, "cmd", "\"\""},
	{CMD, "id", NULL}, {CMD, "id", "\"\""}, {CMD, "id", "\"a/b\""}, {CMD, "id", "5"},
	{CMD, "expires", "0"}, {CMD, "expires", "\"tomorrow\""}, {CMD, "expires", "null"},
	{CMD, "checkpoint", "\"" "0123" "\""}, {CMD, "split", "\"all\""},
	{CMD, "cmd", "\"set\""}, /* key and value are missing */

	{FLEET, "id", NULL}, {FLEET, "parents", "[\"" H2 "\"]"}, {REPORT, "source", "\"a\""}, {FLEET, "origin", "\"edge\""}, {FLEET, "trainer", NULL},
	{FLEET, "size", "-1"}, {FLEET, "size", "9007199254740991"}, {FLEET, "sequence", NULL},
	{FLEET, "sequence", "0"}, {FLEET, "share", NULL}, {FLEET, "share", "0"},
	{FLEET, "share", "101"}, {FLEET, "halted", "1"}, {FLEET, "reason", "7"},
	{FLEET, "starts_in_ms", "-1"}, {FLEET, "starts_in_ms", "3600001"},
	{FLEET, "spread_ms", NULL}, {FLEET, "spread_ms", "-1"}, {FLEET, "test", "{}"},
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		_cleanup_free_ char *text = changed(&refused[i]);
		assert_refused(refused[i].kind, text, strlen(text));
	}
}

/* What may be left out or be at its limit. */
static const struct change taken[] = {
	{PRESENCE, "boot", "9007199254740991"}, {STATUS, "active", "null"},
	{STATUS, "active/accuracy", "null"}, {STATUS, "progress", NULL}, {STATUS, "loss", NULL},
	{STATUS, "images_per_second", NULL}, {STATUS, "handover", NULL},
	{STATUS, "trainer", NULL}, {STATUS, "reason", "\"\xc3\xa9t\xc3\xa9\""},
	{REPORT, "per_class", NULL}, {REPORT, "decision", NULL}, {REPORT, "against", NULL},
	{REPORT, "why", NULL}, {REPORT, "test", NULL}, {REPORT, "privacy", NULL},
	{REPORT, "privacy/epsilon", "1e15"}, {REPORT, "privacy/delta", "0"},
	{REPORT, "test", "{\"name\":\"best\",\"contenders\":1}"}, {REPORT, "test/p", "0"},
	{REPORT, "decision", "\"activated\""}, {OFFER, "last_trainer", NULL},
	{OFFER, "bases", NULL}, {OFFER, "validation", NULL}, {OFFER, "test", NULL},
	{OFFER, "trainer", NULL}, {OFFER, "source", "\"" H2 "\""},
	{CLAIM, "phase", NULL}, {CLAIM, "claim", NULL}, {CLAIM, "reason", NULL},
	{CLAIM, "claim", "9007199254740991"}, {GRANT, "claim", NULL}, {GRANT, "reason", NULL},
	{CLAIM, "seal", NULL}, {GRANT, "seal", NULL}, {CLAIM, "sequence", NULL}, {GRANT, "sequence", NULL},
	{STATUS, "log", NULL}, {STATUS, "log", "\"12345678901234567890123456789012\""},
	{STATUS, "report_first", NULL}, {REPORT, "log", NULL}, {GRANT, "lease_ms", "86400000"},
	{WANT, "trainer", NULL}, {WANT, "reports", NULL},
	{WANT, "reports", "{\"from\":9007199254740991,\"to\":9007199254740991}"},
	{ACK, "trainer", NULL}, {ACK, "decision", NULL}, {ACK, "decision", "\"activated\""},
	{ACK, "reason", NULL}, {ACK, "test", NULL}, {JOB, "loss", NULL}, {JOB, "before", NULL},
	{TRAINER, "strategy", NULL}, {TRAINER, "refused", NULL}, {TRAINER, "quarantine", "[]"},
	{JOB, "window", NULL},
	{CMD, "expires", NULL}, {CMD, "checkpoint", NULL},
	{REPORT, "source", "\"" H2 "\""}, {FLEET, "reason", NULL}, {FLEET, "starts_in_ms", NULL}, {FLEET, "starts_in_ms", "0"},
	{FLEET, "test", NULL}, {FLEET, "share", "100"},
};

/* Same members and values, in whatever order. */
static void assert_same_members(const char *a, const char *b)
{
	_cleanup_(json_freep) struct json *x = NULL, *y = NULL;
	assert_int_equal(json_parse(a, strlen(a), 65536, &x, NULL), 0);
	assert_int_equal(json_parse(b, strlen(b), 65536, &y, NULL), 0);
	assert_int_equal(json_len(x), json_len(y));
	for (const struct json *e = json_first(x), *m; e; e = json_next(e)) {
		struct json *one = json_new_arr(), *two = json_new_arr();
		for (m = json_first(y); m && strcmp(json_name(m), json_name(e)) != 0;)
			m = json_next(m);
		assert_non_null(m);
		json_push(one, json_dup(e));
		json_push(two, json_dup(m));
		_cleanup_free_ char *s = json_print(one), *t = json_print(two);
		assert_string_equal(s, t);
		json_free(one);
		json_free(two);
	}
}

static void test_taken(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
		_cleanup_free_ char *text = changed(&taken[i]), *out = NULL;
		struct err err = {0};
		if (codecs[taken[i].kind].again(text, strlen(text), &out, &err) < 0)
			fail_msg("refused: %s\n%s", err.text, text);
		assert_same_members(text, out);
	}
}

static void test_untouched_on_failure(void **state)
{
	struct msg_grant m = {.fence = 77, .reason = "mine"};
	static const char text[] = "{\"checkpoint\":\"" H1 "\",\"granted\":true,\"fence\":8}";
	assert_int_equal(msg_grant_parse(text, strlen(text), &m, NULL), -ENOENT);
	assert_int_equal(m.fence, 77);
	assert_string_equal(m.reason, "mine");
	assert_string_equal(m.checkpoint, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_critical),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_untouched_on_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
