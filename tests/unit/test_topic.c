#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/protocol/topic.h"
#include "common/transfer/xfer.h"

#define H "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
	struct topic t;
	const char *text;
} topics[] = {
	{{.kind = TOPIC_DEVICE_PRESENCE, .device = "d1"}, "device/d1/presence"},
	{{.kind = TOPIC_DEVICE_STATUS, .device = "d1"}, "device/d1/status"},
	{{.kind = TOPIC_DEVICE_HISTORY, .device = "d1"}, "device/d1/history"},
	{{.kind = TOPIC_DEVICE_REPORT, .device = "d1"}, "device/d1/report"},
	{{.kind = TOPIC_DEVICE_OFFER, .device = "d1"}, "device/d1/offer"},
	{{.kind = TOPIC_DEVICE_CLAIM, .device = "d1"}, "device/d1/in/claim"},
	{{.kind = TOPIC_DEVICE_RESULT, .device = "d1"}, "device/d1/in/offer"},
	{{.kind = TOPIC_DEVICE_WANT, .device = "d1"}, "device/d1/in/want"},
	{{.kind = TOPIC_DEVICE_BLOCK, .device = "d1", .checkpoint = H, .block = 0},
	 "device/d1/in/block/" H "/0"},
	{{.kind = TOPIC_DEVICE_KEY, .device = "d1"}, "device/d1/in/key"},
	{{.kind = TOPIC_DEVICE_ACK, .device = "d1"}, "device/d1/in/ack"},
	{{.kind = TOPIC_DEVICE_CMD, .device = "d1"}, "device/d1/in/cmd"},
	{{.kind = TOPIC_FLEET_CMD}, "fleet/cmd"},
	{{.kind = TOPIC_FLEET_OFFER}, "fleet/offer"},
	{{.kind = TOPIC_FLEET_BLOCK, .checkpoint = H, .block = 7}, "fleet/block/" H "/7"},
	{{.kind = TOPIC_TRAINER_PRESENCE, .trainer = "t.1"}, "trainer/t.1/presence"},
	{{.kind = TOPIC_TRAINER_STATUS, .trainer = "t.1"}, "trainer/t.1/status"},
	{{.kind = TOPIC_TRAINER_JOB, .trainer = "t.1", .device = "d1"}, "trainer/t.1/job/d1"},
	{{.kind = TOPIC_TRAINER_GRANT, .trainer = "t.1", .device = "d1"},
	 "trainer/t.1/in/d1/grant"},
	{{.kind = TOPIC_TRAINER_WANT, .trainer = "t.1", .device = "d1"}, "trainer/t.1/in/d1/want"},
	{{.kind = TOPIC_TRAINER_BLOCK,
	  .trainer = "t.1",
	  .device = "d1",
	  .checkpoint = H,
	  .block = XFER_BLOCKS_MAX - 1},
	 "trainer/t.1/in/d1/block/" H "/1048575"},
	{{.kind = TOPIC_TRAINER_KEY, .trainer = "t.1", .device = "d1"}, "trainer/t.1/in/d1/key"},
	{{.kind = TOPIC_TRAINER_ACK, .trainer = "t.1", .device = "d1"}, "trainer/t.1/in/d1/ack"},
	{{.kind = TOPIC_REPLY, .client = "me"}, "reply/me"},
};

static void assert_same(const struct topic *a, const struct topic *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_string_equal(a->device, b->device);
	assert_string_equal(a->trainer, b->trainer);
	assert_string_equal(a->client, b->client);
	assert_string_equal(a->checkpoint, b->checkpoint);
	assert_int_equal(a->block, b->block);
}

static void test_round_trips(void **state)
{
	assert_int_equal(ARRAY_LEN(topics), TOPIC_N);
	for (size_t i = 0; i < ARRAY_LEN(topics); i++) {
		char buf[TOPIC_SIZE], expected[TOPIC_SIZE];
		struct topic back;
		snprintf(expected, sizeof(expected), "tasuki/v1/site/%s", topics[i].text);
		assert_int_equal(topic_format(buf, "site", &topics[i].t), 0);
		assert_string_equal(buf, expected);
		assert_int_equal(topic_parse(buf, "site", &back), 0);
		assert_same(&back, &topics[i].t);
		/* Nothing may follow, except after a reply's client, and nothing may lack. */
		strcat(buf, "/x");
		assert_int_equal(topic_parse(buf, "site", &back),
				 topics[i].t.kind == TOPIC_REPLY ? 0 : -EINVAL);
		*strrchr(expected, '/') = 0;
		assert_int_equal(topic_parse(expected, "site", &back), -EINVAL);
	}
}

static void test_parse_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		"tasuki",
		"tasuki/v1/site",
		"tasuki/v1/site/",
		"tasuki/v2/site/fleet/cmd",
		"tasuki/v1/sit/fleet/cmd",
		"tasuki/v1/site2/fleet/cmd",
		"tasuki/v1/sitexfleet/cmd",
		"/tasuki/v1/site/fleet/cmd",
		"tasuki/v1/site/fleet",
		"tasuki/v1/site/fleet/cmd/",
		"tasuki/v1/site/D/x/status",
		"tasuki/v1/site/device//status",
		"tasuki/v1/site/device/+/status",
		"tasuki/v1/site/device/#/status",
		"tasuki/v1/site/device/../status",
		"tasuki/v1/site/device/./status",
		"tasuki/v1/site/device/a b/status",
		"tasuki/v1/site/device/\xc3\xa4/status",
		"tasuki/v1/site/device/d1/statuses",
		"tasuki/v1/site/device/d1/stat",
		"tasuki/v1/site/device/d1/in",
		"tasuki/v1/site/device/d1/in/in/cmd",
		"tasuki/v1/site/device/d1/in/block/" H,
		"tasuki/v1/site/device/d1/in/block/" H "/",
		"tasuki/v1/site/device/d1/in/block/" H "/-1",
		"tasuki/v1/site/device/d1/in/block/" H "/+1",
		"tasuki/v1/site/device/d1/in/block/" H "/01",
		"tasuki/v1/site/device/d1/in/block/" H "/1x",
		"tasuki/v1/site/device/d1/in/block/" H "/1048576",
		"tasuki/v1/site/device/d1/in/block/" H "/9999999",
		"tasuki/v1/site/device/d1/in/block/" H "/4294967296",
		"tasuki/v1/site/device/d1/in/block/" H "0/1",
		"tasuki/v1/site/device/d1/in/block/x123456789abcdef0123456789abcdef0123456789abcdef"
		"0123456789abcdef/1",
		"tasuki/v1/site/trainer/t1/in/d1",
		"tasuki/v1/site/trainer/t1/in/d1/cmd",
		"tasuki/v1/site/trainer/t1/job",
		"tasuki/v1/site/reply",
		"tasuki/v1/site/reply/",
		"tasuki/v1/site/reply/me/",
		"tasuki/v1/site/reply/me//x",
		"tasuki/v1/site/reply/me/+",
		"tasuki/v1/site/reply/me/#",
		"tasuki/v1/site/reply/me/a\x01",
		"tasuki/v1/site/reply/me/\xff",
		/* 65 bytes of device id */
		"tasuki/v1/site/device/"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/status",
	};
	struct topic t = {.kind = TOPIC_N, .device = "untouched"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (topic_parse(bad[i], "site", &t) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_int_equal(t.kind, TOPIC_N);
		assert_string_equal(t.device, "untouched");
	}
	assert_int_equal(topic_parse("tasuki/v1/+/fleet/cmd", "+", &t), -EINVAL);
	assert_int_equal(topic_parse("tasuki/v1//fleet/cmd", "", &t), -EINVAL);
}

static void test_parse_length(void **state)
{
	char text[TOPIC_SIZE + 8] = "tasuki/v1/site/reply/me/";
	size_t n = strlen(text);
	struct topic t;
	memset(text + n, 'x', TOPIC_SIZE - 1 - n);
	assert_int_equal(topic_parse(text, "site", &t), 0);
	assert_string_equal(t.client, "me");
	strcat(text, "x");
	assert_int_equal(topic_parse(text, "site", &t), -EINVAL);
}

static void test_format_refuses(void **state)
{
	char buf[TOPIC_SIZE];
	static const struct {
		const char *site;
		struct topic t;
	} bad[] = {
		{"site", {.kind = TOPIC_DEVICE_STATUS}},
		{"site", {.kind = TOPIC_DEVICE_STATUS, .device = "a/b"}},
		{"site", {.kind = TOPIC_DEVICE_STATUS, .device = "+"}},
		{"site", {.kind = TOPIC_DEVICE_STATUS, .device = ".."}},
		{"", {.kind = TOPIC_FLEET_CMD}},
		{"a/b", {.kind = TOPIC_FLEET_CMD}},
		{"#", {.kind = TOPIC_FLEET_CMD}},
		{"site", {.kind = TOPIC_N}},
		{"site", {.kind = TOPIC_TRAINER_ACK, .trainer = "t1"}},
		{"site", {.kind = TOPIC_TRAINER_ACK, .device = "d1"}},
		{"site", {.kind = TOPIC_DEVICE_BLOCK, .device = "d1"}},
		{"site", {.kind = TOPIC_DEVICE_BLOCK, .device = "d1", .checkpoint = "abc"}},
		{"site",
		 {.kind = TOPIC_DEVICE_BLOCK,
		  .device = "d1",
		  .checkpoint = H,
		  .block = XFER_BLOCKS_MAX}},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		strcpy(buf, "x");
		assert_int_equal(topic_format(buf, bad[i].site, &bad[i].t), -EINVAL);
		assert_string_equal(buf, "");
	}
}

static void test_too_long(void **state)
{
	char buf[TOPIC_SIZE], site[ID_SIZE];
	struct topic t = {.kind = TOPIC_TRAINER_BLOCK, .checkpoint = H, .block = 1000000};
	memset(site, 's', ID_MAX);
	site[ID_MAX] = 0;
	memcpy(t.trainer, site, ID_SIZE);
	memcpy(t.device, site, ID_SIZE);
	assert_int_equal(topic_format(buf, site, &t), -ENAMETOOLONG);
	assert_string_equal(buf, "");
	/* "tasuki/v1/" "/trainer/" 64 "/in/" 64 "/block/" 64 "/1000000" + site: 255 fit. */
	site[255 - (10 + 9 + 64 + 4 + 64 + 7 + 64 + 8)] = 0;
	assert_int_equal(topic_format(buf, site, &t), 0);
	assert_int_equal(strlen(buf), 255);
	struct topic back;
	assert_int_equal(topic_parse(buf, site, &back), 0);
	assert_same(&back, &t);
	strcat(site, "s");
	assert_int_equal(topic_format(buf, site, &t), -ENAMETOOLONG);
}

static void test_filters(void **state)
{
	static const struct {
		struct topic t;
		const char *share, *text;
	} rows[] = {
		{{.kind = TOPIC_DEVICE_STATUS}, NULL, "tasuki/v1/site/device/+/status"},
		{{.kind = TOPIC_DEVICE_STATUS, .device = "d1"},
		 NULL,
		 "tasuki/v1/site/device/d1/status"},
		{{.kind = TOPIC_DEVICE_OFFER},
		 "trainers",
		 "$share/trainers/tasuki/v1/site/device/+/offer"},
		{{.kind = TOPIC_DEVICE_BLOCK, .device = "d1"},
		 NULL,
		 "tasuki/v1/site/device/d1/in/block/+/+"},
		{{.kind = TOPIC_DEVICE_BLOCK, .device = "d1", .checkpoint = H, .block = 7},
		 NULL,
		 "tasuki/v1/site/device/d1/in/block/" H "/+"},
		{{.kind = TOPIC_TRAINER_GRANT, .trainer = "t1"},
		 NULL,
		 "tasuki/v1/site/trainer/t1/in/+/grant"},
		{{.kind = TOPIC_TRAINER_JOB}, NULL, "tasuki/v1/site/trainer/+/job/+"},
		{{.kind = TOPIC_REPLY, .client = "me"}, NULL, "tasuki/v1/site/reply/me"},
		{{.kind = TOPIC_FLEET_CMD}, NULL, "tasuki/v1/site/fleet/cmd"},
	};
	char buf[TOPIC_SIZE];
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(topic_filter(buf, "site", &rows[i].t, rows[i].share), 0);
		assert_string_equal(buf, rows[i].text);
	}
	struct topic bad = {.kind = TOPIC_DEVICE_STATUS, .device = "#"};
	assert_int_equal(topic_filter(buf, "site", &bad, NULL), -EINVAL);
	assert_int_equal(topic_filter(buf, "site", &rows[0].t, "a/b"), -EINVAL);
	assert_int_equal(topic_filter(buf, "+", &rows[0].t, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),  cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_parse_length), cmocka_unit_test(test_format_refuses),
		cmocka_unit_test(test_too_long),     cmocka_unit_test(test_filters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
