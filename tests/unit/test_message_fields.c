/* Each field of a message arrives in its place; encoders make what they are given fit; commands and
 * answers. Round trips and bad input of all messages: test_message.c. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/protocol/history.h"
#include "common/protocol/message.h"

#define H1     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define H2     "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define T1     1732363200123 /* 2024-11-23T12:00:00.123Z */
#define LONG65 "12345678901234567890123456789012345678901234567890123456789012345"

#define SCORE "{\"n\":100,\"correct\":44,\"accuracy\":0.44,\"loss\":1.5}"
#define MANIFEST                                                                   \
	"\"id\":\"" H1 "\",\"parents\":[\"" H2 "\"],\"model\":\"" H2               \
	"\",\"origin\":\"edge\",\"device\":\"d1\",\"trainer\":\"t1\",\"epoch\":3," \
	"\"images_seen\":1000,\"classes\":10,\"size\":70000,\"block_size\":32768," \
	"\"created\":\"2024-11-23T12:00:00.123Z\",\"encoding\":\"raw\""

static const char good_status[] =
	"{\"boot\":7,\"agent\":\"0.1.0\",\"model\":\"" H1
	"\",\"phase\":\"training\",\"reason\":\"\",\"epoch\":3,\"report_seq\":12,"
	"\"report_first\":3,\"log\":\"Ab3dEf9h\",\"active\":{\"checkpoint\":\"" H2
	"\",\"origin\":\"blend\",\"accuracy\":0.5,\"pinned\":false},"
	"\"skipped_images\":2,\"at\":\"2024-11-23T12:00:00.123Z\",\"progress\":0.25,"
	"\"loss\":2.5,\"images_per_second\":165.5,\"handover\":\"granted\","
	"\"trainer\":\"t1\"}";
static const char good_report[] =
	"{\"seq\":1,\"log\":\"Ab3dEf9h\",\"checkpoint\":\"" H1
	"\",\"origin\":\"local\",\"snapshot\":\"" H2
	"\",\"split\":\"test\",\"n\":100,\"correct\":44,\"accuracy\":0.44,\"loss\":1.5,"
	"\"per_class\":[{\"class\":0,\"n\":60,\"correct\":40},"
	"{\"class\":9,\"n\":40,\"correct\":4}],\"decision\":\"kept\","
	"\"why\":\"unsure\",\"test\":{\"name\":\"mcnemar\",\"contenders\":4,\"won\":7,\"lost\":3,"
	"\"p\":0.25},"
	"\"against\":{\"checkpoint\":\"" H2 "\",\"accuracy\":0.65},"
	"\"privacy\":{\"epsilon\":2.5,\"delta\":1e-05,\"budget\":8,\"handovers\":3},"
	"\"epoch\":3,\"at\":\"2024-11-23T12:00:00.123Z\"}";
static const char good_offer[] =
	"{" MANIFEST ",\"last_trainer\":\"t2\",\"bases\":[\"" H1 "\",\"" H2 "\"],"
	"\"validation\":" SCORE ",\"test\":" SCORE "}";
static const char good_result[] =
	"{" MANIFEST ",\"fence\":9,\"before\":" SCORE ",\"after\":" SCORE ",\"snapshot\":\"" H2
	"\",\"images_trained\":5000,\"duration_ms\":60000}";
static const char good_want[] = "{\"trainer\":\"t1\",\"checkpoint\":\"" H1
				"\",\"blocks\":[0,5,1048575],\"reports\":{\"from\":1,\"to\":100}}";

static void test_status_fields(void **state)
{
	struct msg_status m;
	const char *good = good_status;
	assert_int_equal(msg_status_parse(good, strlen(good), &m, NULL), 0);
	assert_int_equal(m.boot, 7);
	assert_string_equal(m.agent, "0.1.0");
	assert_string_equal(m.model, H1);
	assert_int_equal(m.phase, PHASE_TRAINING);
	assert_int_equal(m.epoch, 3);
	assert_int_equal(m.report_seq, 12);
	assert_int_equal(m.report_first, 3);
	assert_string_equal(m.log, "Ab3dEf9h");
	assert_true(m.has_active);
	assert_string_equal(m.active.checkpoint, H2);
	assert_int_equal(m.active.origin, ORIGIN_BLEND);
	assert_true(m.active.accuracy == 0.5);
	assert_false(m.active.pinned);
	assert_int_equal(m.skipped_images, 2);
	assert_true(m.at_ms == T1);
	assert_true(m.progress == 0.25 && m.loss == 2.5 && m.images_per_second == 165.5);
	assert_string_equal(m.handover, "granted");
	assert_string_equal(m.trainer, "t1");
	static const char bare[] =
		"{\"boot\":1,\"agent\":\"x\",\"model\":\"" H1
		"\",\"phase\":\"idle\",\"reason\":\"\",\"epoch\":0,"
		"\"report_seq\":0,\"active\":null,\"at\":\"1970-01-01T00:00:00Z\"}";
	assert_int_equal(msg_status_parse(bare, strlen(bare), &m, NULL), 0);
	assert_false(m.has_active);
	assert_true(m.progress < 0 && isnan(m.loss) && isnan(m.images_per_second));
	assert_string_equal(m.handover, "");
	assert_int_equal(m.at_ms, 0);
	assert_true(m.moved_bytes < 0 && m.data_bytes < 0 && m.disk_free_bytes < 0);
}

/* As much as there may be of it, of numbers as long as they may be, is within the limit of its size. */
static void test_history_full(void **state)
{
	static struct msg_history m, back;
	m.at_ms = T1;
	m.n_points = HISTORY_POINTS_MAX;
	for (size_t i = 0; i < m.n_points; i++) {
		m.points[i] = (struct history_point){.at_s = JSON_INT_MAX,
						     .epoch = JSON_INT_MAX,
						     .origin = ORIGIN_LOCAL,
						     .n = JSON_INT_MAX,
						     .correct = JSON_INT_MAX,
						     .swap = i % 2,
						     .checkpoint = "0123456789ab"};
	}
	strcpy(m.confusion.checkpoint, H1);
	m.confusion.classes = HISTORY_CLASSES_MAX;
	for (size_t i = 0; i < ARRAY_LEN(m.confusion.counts); i++)
		m.confusion.counts[i] = INT32_MAX; /* is made to fit */
	_cleanup_free_ char *text = msg_history_print(&m);
	assert_non_null(text);
	assert_in_range(strlen(text), 50000, MESSAGE_LARGE_MAX);
	assert_int_equal(msg_history_parse(text, strlen(text), &back, NULL), 0);
	assert_int_equal(back.n_points, HISTORY_POINTS_MAX);
	assert_true(back.points[255].swap && !back.points[254].swap);
	assert_int_equal(back.confusion.counts[4095], HISTORY_COUNT_MAX);
}

static void test_report_fields(void **state)
{
	struct msg_report m;
	const char *good = good_report;
	assert_int_equal(msg_report_parse(good, strlen(good), &m, NULL), 0);
	assert_string_equal(m.log, "Ab3dEf9h");
	assert_int_equal(m.split, SPLIT_TEST);
	assert_int_equal(m.score.n, 100);
	assert_int_equal(m.score.correct, 44);
	assert_true(m.score.loss == 1.5);
	assert_int_equal(m.n_per_class, 2);
	assert_int_equal(m.per_class[1].class_index, 9);
	assert_int_equal(m.per_class[1].n, 40);
	assert_int_equal(m.per_class[1].correct, 4);
	assert_true(m.has_decision && !m.activated);
	assert_true(m.has_against && m.against_accuracy == 0.65);
	assert_string_equal(m.against, H2);
	assert_string_equal(m.why, "unsure");
	assert_string_equal(m.test, "mcnemar");
	assert_int_equal(m.contenders, 4);
	assert_true(m.has_privacy && m.privacy.epsilon == 2.5 && m.privacy.delta == 1e-5);
	assert_true(m.privacy.budget == 8 && m.privacy.handovers == 3);
	assert_true(m.has_pair && m.won == 7 && m.lost == 3 && m.p == 0.25);
	msg_report_done(&m);
	msg_report_done(&m);
}

/* A decision that does not follow from the scores says why. */
static void test_report_reason(void **state)
{
	struct msg_report m = {.seq = 1, .checkpoint = H1, .snapshot = H2, .has_decision = true},
			  back;
	strcpy(m.reason, "what was active is damaged");
	_cleanup_free_ char *text = msg_report_print(&m);
	assert_int_equal(msg_report_parse(text, strlen(text), &back, NULL), 0);
	assert_string_equal(back.reason, m.reason);
	m.reason[0] = 0;
	_cleanup_free_ char *bare = msg_report_print(&m);
	assert_null(strstr(bare, "reason"));
	assert_int_equal(msg_report_parse(bare, strlen(bare), &back, NULL), 0);
	assert_string_equal(back.reason, "");
}

static void test_report_of_many_classes(void **state)
{
	struct msg_report m = {.seq = 1, .checkpoint = H1, .snapshot = H2}, back;
	m.per_class = calloc(MESSAGE_CLASSES_MAX + 1, sizeof(*m.per_class));
	for (int i = 0; i <= MESSAGE_CLASSES_MAX; i++)
		m.per_class[i] = (struct class_score){i, JSON_INT_MAX, JSON_INT_MAX};
	m.n_per_class = MESSAGE_CLASSES_MAX;
	_cleanup_free_ char *text = msg_report_print(&m);
	assert_true(strlen(text) <= MESSAGE_LARGE_MAX);
	assert_int_equal(msg_report_parse(text, strlen(text), &back, NULL), 0);
	assert_int_equal(back.n_per_class, MESSAGE_CLASSES_MAX);
	assert_int_equal(back.per_class[511].class_index, 511);
	msg_report_done(&back);
	m.n_per_class = MESSAGE_CLASSES_MAX + 1; /* then none is sent */
	_cleanup_free_ char *bare = msg_report_print(&m);
	assert_int_equal(msg_report_parse(bare, strlen(bare), &back, NULL), 0);
	assert_int_equal(back.n_per_class, 0);
	msg_report_done(&m);
}

static void test_offer_and_result_fields(void **state)
{
	struct msg_offer o;
	struct msg_result r;
	const char *good = good_offer;
	assert_int_equal(msg_offer_parse(good, strlen(good), &o, NULL), 0);
	assert_string_equal(o.manifest.id, H1);
	assert_string_equal(o.manifest.trainer, "t1");
	assert_string_equal(o.trainer, "t2");
	assert_int_equal(o.n_bases, 2);
	assert_string_equal(o.bases[1], H2);
	assert_int_equal(o.validation.correct, 44);
	good = good_result;
	assert_int_equal(msg_result_parse(good, strlen(good), &r, NULL), 0);
	assert_string_equal(r.manifest.parents[0], H2);
	assert_int_equal(r.fence, 9);
	assert_int_equal(r.after.n, 100);
	assert_int_equal(r.images_trained, 5000);
	assert_int_equal(r.duration_ms, 60000);
}

static void test_claim_and_grant_fields(void **state)
{
	static const char busy[] = "{\"trainer\":\"t1\",\"checkpoint\":\"" H1
				   "\",\"fence\":0,\"claim\":41,\"busy\":true,\"retry_ms\":5000,"
				   "\"reason\":\"another model\"}";
	static const char plain[] = "{\"trainer\":\"t1\",\"checkpoint\":\"" H1
				    "\",\"fence\":0,\"retry_ms\":5000,\"reason\":\"why?\","
				    "\"seal\":\"" H2 "\"}";
	static const char grant[] = "{\"checkpoint\":\"" H1
				    "\",\"granted\":true,\"fence\":9,\"claim\":41,\"lease_ms\":1,"
				    "\"seal\":\"" H2 "\"}";
	struct msg_claim c;
	struct msg_grant g;
	assert_int_equal(msg_claim_parse(busy, strlen(busy), &c, NULL), 0);
	assert_true(c.busy && c.retry_ms == 5000 && c.claim == 41);
	assert_string_equal(c.reason, "another model");
	assert_string_equal(c.seal, "");
	/* What only says something of a busy one is not there without it. */
	assert_int_equal(msg_claim_parse(plain, strlen(plain), &c, NULL), 0);
	assert_true(!c.busy && c.retry_ms == 0 && c.claim == 0);
	assert_string_equal(c.reason, "");
	assert_string_equal(c.seal, H2);
	assert_int_equal(msg_grant_parse(grant, strlen(grant), &g, NULL), 0);
	assert_int_equal(g.claim, 41);
	assert_string_equal(g.seal, H2);
}

static void test_want_fields(void **state)
{
	struct msg_want m;
	const char *good = good_want;
	assert_int_equal(msg_want_parse(good, strlen(good), &m, NULL), 0);
	assert_int_equal(m.n_blocks, 3);
	assert_int_equal(m.blocks[2], 1048575);
	assert_int_equal(m.reports_from, 1);
	assert_int_equal(m.reports_to, 100);
	static const char reports[] = "{\"trainer\":\"t1\",\"reports\":{\"from\":3,\"to\":3}}";
	assert_int_equal(msg_want_parse(reports, strlen(reports), &m, NULL), 0);
	assert_string_equal(m.checkpoint, "");
	assert_int_equal(m.n_blocks, 0);
	static const char none[] = "{\"trainer\":\"t1\"}";
	assert_int_equal(msg_want_parse(none, strlen(none), &m, NULL), -EINVAL);
}

/* What an encoder is given is made to fit what the decoder takes. */
static void test_encoders_fit(void **state)
{
	struct msg_ack m = {.trainer = "t1",
			    .checkpoint = H1,
			    .has_decision = true,
			    .decision = DECISION_REFUSED,
			    .validation = {.n = 3, .correct = 1, .loss = NAN},
			    .test = {.n = 3, .correct = 3, .loss = INFINITY}},
		       back;
	memset(m.reason, 0xe9, sizeof(m.reason) - 1); /* each byte becomes three */
	m.reason[0] = 'x';
	_cleanup_free_ char *text = msg_ack_print(&m);
	assert_int_equal(msg_ack_parse(text, strlen(text), &back, NULL), 0);
	assert_int_equal(strlen(back.reason), 253); /* one more would not be whole */
	assert_string_equal(back.reason + 250, "\xef\xbf\xbd");
	assert_true(back.validation.loss == 1e9 && back.test.loss == 1e9);

	/* A text that was cut in the middle of a character, and control characters. */
	memset(m.reason, 0, sizeof(m.reason));
	strcpy(m.reason, "a\nb\x1b[2J\xc2\x9b\x7f caf\xc3");
	_cleanup_free_ char *text2 = msg_ack_print(&m);
	assert_int_equal(msg_ack_parse(text2, strlen(text2), &back, NULL), 0);
	assert_string_equal(back.reason, "a b [2J    caf\xef\xbf\xbd");

	struct msg_status s = {.agent = "x",
			       .model = H1,
			       .progress = NAN,
			       .loss = INFINITY,
			       .images_per_second = NAN,
			       .has_active = true},
			  t;
	strcpy(s.active.checkpoint, H2);
	s.active.accuracy = -1;
	memset(s.reason, '"', sizeof(s.reason) - 1); /* each byte becomes two */
	_cleanup_free_ char *text3 = msg_status_print(&s);
	assert_int_equal(msg_status_parse(text3, strlen(text3), &t, NULL), 0);
	assert_true(t.active.accuracy < 0 && t.progress < 0 && isnan(t.loss));
	assert_string_equal(t.reason, s.reason);

	struct msg_presence p = {.boot = INT64_MAX};
	assert_null(msg_presence_print(&p));
}

/* ---- commands ---- */

static int parse_cmd(const char *text, struct msg_cmd *ret, char id[ID_SIZE])
{
	strcpy(id, "before");
	return msg_cmd_parse(text, strlen(text), ret, id, NULL);
}

static void test_commands(void **state)
{
	static const struct {
		const char *text;
		enum cmd cmd;
	} rows[] = {
		{"{\"cmd\":\"ping\",\"id\":\"a1\"}", CMD_PING},
		{"{\"cmd\":\"status\",\"id\":\"a1\"}", CMD_STATUS},
		{"{\"cmd\":\"train\",\"id\":\"a1\"}", CMD_TRAIN},
		{"{\"cmd\":\"train\",\"id\":\"a1\",\"epochs\":5}", CMD_TRAIN},
		{"{\"cmd\":\"handover\",\"id\":\"a1\"}", CMD_HANDOVER},
		{"{\"cmd\":\"pause\",\"id\":\"a1\"}", CMD_PAUSE},
		{"{\"cmd\":\"resume\",\"id\":\"a1\"}", CMD_RESUME},
		{"{\"cmd\":\"pin\",\"id\":\"a1\",\"checkpoint\":\"" H1 "\"}", CMD_PIN},
		{"{\"cmd\":\"unpin\",\"id\":\"a1\"}", CMD_UNPIN},
		{"{\"cmd\":\"rollback\",\"id\":\"a1\"}", CMD_ROLLBACK},
		{"{\"cmd\":\"evaluate\",\"id\":\"a1\",\"split\":\"validation\"}", CMD_EVALUATE},
		{"{\"cmd\":\"set\",\"id\":\"a1\",\"key\":\"k\",\"value\":\"\"}", CMD_SET},
	};
	char id[ID_SIZE];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct msg_cmd m;
		assert_int_equal(parse_cmd(rows[i].text, &m, id), 0);
		assert_int_equal(m.cmd, rows[i].cmd);
		assert_string_equal(m.id, "a1");
		assert_string_equal(id, "a1");
		assert_int_equal(m.expires_ms, 0);
		_cleanup_free_ char *again = msg_cmd_print(&m);
		assert_string_equal(again, rows[i].text);
	}
	struct msg_cmd m;
	assert_int_equal(parse_cmd("{\"cmd\":\"evaluate\",\"id\":\"x\"}", &m, id), 0);
	assert_int_equal(m.split, SPLIT_VALIDATION);
	assert_int_equal(parse_cmd("{\"cmd\":\"train\",\"id\":\"x\",\"epochs\":5}", &m, id), 0);
	assert_int_equal(m.epochs, 5);
}

static void test_command_expiry(void **state)
{
	struct msg_cmd m;
	char id[ID_SIZE];
	assert_int_equal(parse_cmd("{\"cmd\":\"ping\",\"id\":\"x\",\"expires\":"
				   "\"2024-11-23T13:00:00.123+01:00\"}",
				   &m, id),
			 0);
	assert_true(m.expires_ms == T1);
	/* Long ago, and not 'never'. */
	assert_int_equal(parse_cmd("{\"cmd\":\"ping\",\"id\":\"x\",\"expires\":"
				   "\"1970-01-01T00:00:00Z\"}",
				   &m, id),
			 0);
	assert_true(m.expires_ms > 0);
}

static void test_command_id_of_refused(void **state)
{
	static const struct {
		const char *text, *id;
	} rows[] = {
		{"{\"cmd\":\"reboot\",\"id\":\"a1\"}", "a1"},
		{"{\"id\":\"a1\"}", "a1"},
		{"{\"cmd\":7,\"id\":\"a1\"}", "a1"},
		{"{\"cmd\":\"pin\",\"id\":\"a1\"}", "a1"},
		{"{\"cmd\":\"pin\",\"id\":\"a1\",\"checkpoint\":\"0123\"}", "a1"},
		{"{\"cmd\":\"ping\",\"id\":\"a1\",\"expires\":\"x\"}", "a1"},
		{"{\"cmd\":\"ping\",\"id\":\"a1\",\"critical\":[\"color\"]}", "a1"},
		{"{\"cmd\":\"train\",\"id\":\"a1\",\"epochs\":0}", "a1"},
		{"{\"cmd\":\"train\",\"id\":\"a1\",\"epochs\":1000001}", "a1"},
		{"{\"cmd\":\"set\",\"id\":\"a1\",\"key\":\"k\"}", "a1"},
		{"{\"cmd\":\"set\",\"id\":\"a1\",\"key\":\"\",\"value\":\"v\"}", "a1"},
		{"{\"cmd\":\"set\",\"id\":\"a1\",\"key\":\"k\",\"value\":1}", "a1"},
		{"{\"cmd\":\"set\",\"id\":\"a1\",\"key\":\"" LONG65 "\",\"value\":\"v\"}", "a1"},
		{"{\"cmd\":\"ping\"}", ""},
		{"{\"cmd\":\"ping\",\"id\":1}", ""},
		{"{\"cmd\":\"ping\",\"id\":\"a/b\"}", ""},
		{"{\"cmd\":\"ping\",\"id\":\"" LONG65 "\"}", ""},
		{"{\"cmd\":\"ping\",\"id\":\"a1\"", ""},
		{"[\"ping\"]", ""},
		{"", ""},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct msg_cmd m = {.cmd = CMD_N, .epochs = 33};
		char id[ID_SIZE];
		if (parse_cmd(rows[i].text, &m, id) >= 0)
			fail_msg("taken: %s", rows[i].text);
		assert_string_equal(id, rows[i].id);
		assert_int_equal(m.cmd, CMD_N);
		assert_int_equal(m.epochs, 33);
	}
}

static void test_replies(void **state)
{
	_cleanup_free_ char *ok = msg_reply_print("a1", NULL, NULL);
	assert_string_equal(ok, "{\"id\":\"a1\",\"ok\":true}");
	_cleanup_free_ char *bad = msg_reply_print("a1", "no such\ncheckpoint", NULL);
	assert_string_equal(bad, "{\"id\":\"a1\",\"ok\":false,\"error\":\"no such checkpoint\"}");
	_cleanup_free_ char *nobody = msg_reply_print("", "malformed", NULL);
	assert_string_equal(nobody, "{\"id\":null,\"ok\":false,\"error\":\"malformed\"}");
	struct json *extra = json_new_obj();
	json_set_str(extra, "device", "d1");
	json_set_bool(extra, "ok", false); /* ours, not theirs */
	_cleanup_free_ char *more = msg_reply_print("a1", NULL, extra);
	assert_string_equal(more, "{\"id\":\"a1\",\"ok\":true,\"device\":\"d1\"}");
	extra = json_new_obj();
	json_set(extra, "x", NULL);
	assert_null(msg_reply_print("a1", NULL, extra));
}

static void test_names(void **state)
{
	assert_string_equal(phase_name(PHASE_PAUSED), "paused");
	assert_string_equal(phase_name(PHASE_N), "unknown");
	assert_string_equal(cmd_name(CMD_SET), "set");
	assert_string_equal(cmd_name(CMD_N), "unknown");
	assert_string_equal(decision_name(DECISION_KEPT), "kept");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_fields), cmocka_unit_test(test_history_full),
		cmocka_unit_test(test_report_fields),
		cmocka_unit_test(test_report_reason),
		cmocka_unit_test(test_report_of_many_classes),
		cmocka_unit_test(test_offer_and_result_fields),
		cmocka_unit_test(test_claim_and_grant_fields),
		cmocka_unit_test(test_want_fields),
		cmocka_unit_test(test_encoders_fit),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_command_expiry),
		cmocka_unit_test(test_command_id_of_refused),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
