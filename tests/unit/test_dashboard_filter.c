/* What a browser may say to the broker: each packet that passes, as it passes, and each that does
 * not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "dashboard/gateway/filter.h"

#define CLIENT  "dash-7"
#define CONNECT "\x10\x0f\0\4MQTT\5\2\0\x3c\0\0\2me" /* clean start, 60 s, client id "me" */
/* What becomes of it. */
#define PASSED   "\x10\x13\0\4MQTT\5\2\0\x3c\0\0\6" CLIENT
#define STATUS   "\0\x1etasuki/v1/home/device/+/status" /* as a topic filter, 32 bytes */
#define BYTES(s) (s), sizeof(s) - 1

static struct filter f;
static struct err err;
static int64_t now_ms;

static int setup(void **state)
{
	now_ms = 1000;
	err = (struct err){0};
	filter_init(&f, "home", CLIENT);
	return 0;
}

/* Gives it all, at most `portion` bytes at a time; what passed is in `out`. The last error, or 0.
 */
static int say(const char *bytes, size_t len, size_t portion, uint8_t *out, size_t *ret_out)
{
	size_t n_out = 0;
	for (size_t at = 0; at < len;) {
		uint8_t packet[FILTER_PACKET_MAX];
		size_t used = 0;
		int r = filter_step(&f, (const uint8_t *)bytes + at, MIN_OF(portion, len - at),
				    now_ms, &used, packet, &err);
		if (r < 0)
			return r;
		memcpy(out + n_out, packet, (size_t)r);
		n_out += (size_t)r;
		at += used;
	}
	*ret_out = n_out;
	return 0;
}

static const struct {
	const char *name, *in;
	size_t n_in;
	const char *out;
	size_t n_out;
} passing[] = {
	{"connect", BYTES(CONNECT), BYTES(PASSED)},
	{"keep-alive is bounded from below", BYTES("\x10\x0f\0\4MQTT\5\2\0\0\0\0\2me"),
	 BYTES("\x10\x13\0\4MQTT\5\2\0\5\0\0\6" CLIENT)},
	{"and from above", BYTES("\x10\x0f\0\4MQTT\5\2\xff\xff\0\0\2me"),
	 BYTES("\x10\x13\0\4MQTT\5\2\0\x78\0\0\6" CLIENT)},
	{"no client id", BYTES("\x10\x0d\0\4MQTT\5\2\0\x3c\0\0\0"), BYTES(PASSED)},
	{"what binds the broker passes, no session does",
	 BYTES("\x10\x28\0\4MQTT\5\2\0\x3c\x19"
	       "\x11\xff\xff\xff\xff" /* session expiry */
	       "\x21\0\x14"           /* receive maximum */
	       "\x26\0\1a\0\1b"       /* user property */
	       "\x27\0\1\0\0"         /* maximum packet size */
	       "\x22\0\x0a"           /* topic alias maximum */
	       "\x17\0"               /* request problem information */
	       "\0\2me"),
	 BYTES("\x10\x1d\0\4MQTT\5\2\0\x3c\x0a\x21\0\x14\x27\0\1\0\0\x17\0\0\6" CLIENT)},
	{"subscribe", BYTES(CONNECT "\x82\x24\0\1\0" STATUS "\1"),
	 BYTES(PASSED "\x82\x24\0\1\0" STATUS "\1")},
	{"two at once, one of a device",
	 BYTES(CONNECT "\x82\x4b\0\1\0" STATUS "\0\0\x24tasuki/v1/home/trainer/edge-1/job/ca\1"),
	 BYTES(PASSED "\x82\x4b\0\1\0" STATUS "\0\0\x24tasuki/v1/home/trainer/edge-1/job/ca\1")},
	{"unsubscribe, whatever", BYTES(CONNECT "\xa2\6\0\2\0\0\1#"),
	 BYTES(PASSED "\xa2\6\0\2\0\0\1#")},
	{"acknowledgements", BYTES(CONNECT "\x40\2\0\7\x40\3\0\7\x10\x40\4\0\7\0\0"),
	 BYTES(PASSED "\x40\2\0\7\x40\3\0\7\x10\x40\4\0\7\0\0")},
	{"ping", BYTES(CONNECT "\xc0\0"), BYTES(PASSED "\xc0\0")},
	{"disconnect, without what it asks for", BYTES(CONNECT "\xe0\7\4\5\x11\0\0\xff\xff"),
	 BYTES(PASSED "\xe0\0")},
};

static void test_passing(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(passing); i++)
		for (size_t portion = 1; portion < 200; portion += portion < 20 ? 1 : 90) {
			uint8_t out[FILTER_PACKET_MAX];
			size_t n = 0;
			setup(NULL);
			int r = say(passing[i].in, passing[i].n_in, portion, out, &n);
			if (r < 0 || n != passing[i].n_out || memcmp(out, passing[i].out, n) != 0)
				fail_msg("%s, %zu at a time: %d %s (%zu bytes)", passing[i].name,
					 portion, r, err.text, n);
		}
}

static const struct {
	const char *name, *in;
	size_t n_in;
	int code;
	const char *part; /* of what err says */
} refused[] = {
	{"publish", BYTES(CONNECT "\x30\5\0\1t\0x"), -EPROTO, "found PUBLISH"},
	{"publish, QoS 1, retained", BYTES(CONNECT "\x33\7\0\1t\0\1\0x"), -EPROTO, "found PUBLISH"},
	{"publish first", BYTES("\x30\5\0\1t\0x"), -EPROTO, "PUBLISH"},
	{"subscribe first", BYTES("\x82\x24\0\1\0" STATUS "\1"), -EPROTO, "CONNECT"},
	{"connect twice", BYTES(CONNECT CONNECT), -EPROTO, "type 1"},
	{"will", BYTES("\x10\x16\0\4MQTT\5\6\0\x3c\0\0\2me\0\0\1t\0\1x"), -EPROTO, "a Will"},
	{"user name", BYTES("\x10\x12\0\4MQTT\5\x82\0\x3c\0\0\2me\0\1u"), -EPROTO, "a user name"},
	{"password", BYTES("\x10\x12\0\4MQTT\5\x42\0\x3c\0\0\2me\0\1p"), -EPROTO,
	 "a user name or password"},
	{"an old session", BYTES("\x10\x0f\0\4MQTT\5\0\0\x3c\0\0\2me"), -EPROTO, "clean start"},
	{"reserved flag", BYTES("\x10\x0f\0\4MQTT\5\3\0\x3c\0\0\2me"), -EPROTO, "clean start"},
	{"MQTT 3.1.1", BYTES("\x10\x0e\0\4MQTT\4\2\0\x3c\0\2me"), -EPROTO, "MQTT 5"},
	{"another protocol", BYTES("\x10\x0f\0\4MQIs\5\2\0\x3c\0\0\2me"), -EPROTO, "MQTT 5"},
	{"authentication", BYTES("\x10\x13\0\4MQTT\5\2\0\x3c\4\x15\0\1a\0\2me"), -EPROTO,
	 "property"},
	{"property twice", BYTES("\x10\x15\0\4MQTT\5\2\0\x3c\6\x21\0\1\x21\0\1\0\2me"), -EPROTO,
	 "twice"},
	{"property cut off", BYTES("\x10\x11\0\4MQTT\5\2\0\x3c\2\x21\0\0\2me"), -EPROTO, "cut off"},
	{"properties beyond", BYTES("\x10\x0f\0\4MQTT\5\2\0\x3c\x7f\0\2me"), -EPROTO, "cut off"},
	{"something behind", BYTES("\x10\x10\0\4MQTT\5\2\0\x3c\0\0\2mex"), -EPROTO,
	 "another length"},
	{"client id beyond", BYTES("\x10\x0f\0\4MQTT\5\2\0\x3c\0\0\3me"), -EPROTO,
	 "another length"},
	{"nothing in it", BYTES("\x10\0"), -EPROTO, "MQTT 5"},
	{"flags of connect", BYTES("\x11\x0f\0\4MQTT\5\2\0\x3c\0\0\2me"), -EPROTO, "flags"},
	{"everything", BYTES(CONNECT "\x82\7\0\1\0\0\1#\1"), -EPROTO, "may not read"},
	{"everything of the site", BYTES(CONNECT "\x82\x17\0\1\0\0\x11tasuki/v1/home/##\1"),
	 -EPROTO, "may not read"},
	{"QoS 2", BYTES(CONNECT "\x82\x24\0\1\0" STATUS "\2"), -EPROTO, "QoS 2"},
	{"unused options", BYTES(CONNECT "\x82\x24\0\1\0" STATUS "\x41"), -EPROTO, "QoS"},
	{"no options", BYTES(CONNECT "\x82\x23\0\1\0" STATUS), -EPROTO, "cut off"},
	{"no filter", BYTES(CONNECT "\x82\3\0\1\0"), -EPROTO, "no topic filter"},
	{"no packet id", BYTES(CONNECT "\x82\x24\0\0\0" STATUS "\1"), -EPROTO, "packet id"},
	{"properties", BYTES(CONNECT "\x82\x26\0\1\2\x0b\1" STATUS "\1"), -EPROTO, "properties"},
	{"flags of subscribe", BYTES(CONNECT "\x80\x24\0\1\0" STATUS "\1"), -EPROTO, "flags"},
	{"no filter to unsubscribe", BYTES(CONNECT "\xa2\3\0\1\0"), -EPROTO, "no topic filter"},
	{"acknowledgement with properties", BYTES(CONNECT "\x40\5\0\7\0\1\x1f"), -EPROTO, "PUBACK"},
	{"of nothing", BYTES(CONNECT "\x40\2\0\0"), -EPROTO, "PUBACK"},
	{"of QoS 2", BYTES(CONNECT "\x50\2\0\7"), -EPROTO, "type 5"},
	{"a broker's packet", BYTES(CONNECT "\x20\3\0\0\0"), -EPROTO, "type 2"},
	{"auth", BYTES(CONNECT "\xf0\0"), -EPROTO, "type 15"},
	{"type 0", BYTES("\0\0"), -EPROTO, "CONNECT"},
	{"ping with a body", BYTES(CONNECT "\xc0\1x"), -EPROTO, "type 12"},
	{"too long", BYTES("\x10\xff\x7f"), -E2BIG, "expected at most 4096"},
	{"much too long", BYTES("\x10\xff\xff\xff\x7f"), -E2BIG, "expected at most 4096"},
	{"a length of five bytes", BYTES("\x10\x80\x80\x80\x80\1"), -EPROTO, "five bytes"},
	{"after the end", BYTES(CONNECT "\xe0\0\xc0\0"), -EPROTO, "after the end"},
	{"HTTP",
	 BYTES("GET / HTTP/1.1\r\n\r\n"
	       "                                                                       "),
	 -EPROTO, "flags"},
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		uint8_t out[FILTER_PACKET_MAX];
		size_t n, used;
		setup(NULL);
		int r = say(refused[i].in, refused[i].n_in, 1 + i % 9, out, &n);
		if (r != refused[i].code || !strstr(err.text, refused[i].part))
			fail_msg("%s: %d '%s'", refused[i].name, r, err.text);
		/* Nothing is taken any more. */
		assert_int_equal(
			filter_step(&f, (const uint8_t *)"\xc0\0", 2, now_ms, &used, out, &err),
			-EPROTO);
	}
}

/* Which filters are within what a dashboard may read. */
static void test_filters(void **state)
{
	static const struct {
		const char *filter;
		bool may;
	} rows[] = {
		{"tasuki/v1/home/device/+/presence", true},
		{"tasuki/v1/home/device/cam-1/status", true},
		{"tasuki/v1/home/device/+/report", true},
		{"tasuki/v1/home/device/+/history", true},
		{"tasuki/v1/home/trainer/+/presence", true},
		{"tasuki/v1/home/trainer/edge-1/status", true},
		{"tasuki/v1/home/trainer/+/job/+", true},
		{"tasuki/v1/home/trainer/edge-1/job/cam-1", true},
		{"tasuki/v1/home/device/+/offer", false},
		{"tasuki/v1/home/device/+/in/cmd", false},
		{"tasuki/v1/home/device/+/in/block/+/+", false},
		{"tasuki/v1/home/device/+/+", false},
		{"tasuki/v1/home/+/+/status", false},
		{"tasuki/v1/home/device/#", false},
		{"tasuki/v1/home/device/+/status/#", false},
		{"tasuki/v1/home/device/#/status", false},
		{"tasuki/v1/home/device//status", false},
		{"tasuki/v1/home/device/a+/status", false},
		{"tasuki/v1/home/device/+/status/", false},
		{"tasuki/v1/home/device/+/statu", false},
		{"tasuki/v1/home/device/+", false},
		{"tasuki/v1/home", false},
		{"tasuki/v1/other/device/+/status", false},
		{"tasuki/v1/+/device/+/status", false},
		{"/tasuki/v1/home/device/+/status", false},
		{"$share/g/tasuki/v1/home/device/+/status", false},
		{"$SYS/#", false},
		{"+/+/+/+/+/+", false},
		{"tasuki/v1/home/reply/+", false},
		{"tasuki/v1/home/fleet/block/+/+", false},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char packet[256];
		uint8_t out[FILTER_PACKET_MAX];
		size_t n = strlen(rows[i].filter), n_out;
		setup(NULL);
		memcpy(packet, CONNECT "\x82", sizeof(CONNECT));
		char *p = packet + sizeof(CONNECT);
		*p++ = (char)(n + 6);
		memcpy(p, "\0\1\0\0", 4);
		p[4] = (char)n;
		memcpy(p + 5, rows[i].filter, n);
		p[5 + n] = 1;
		int r = say(packet, (size_t)(p + 6 + n - packet), 1000, out, &n_out);
		if ((r == 0) != rows[i].may)
			fail_msg("%s: %d", rows[i].filter, r);
	}
}

static void test_too_many_subscriptions(void **state)
{
	uint8_t out[FILTER_PACKET_MAX];
	size_t n;
	uint32_t made = 0;
	int r = say(BYTES(CONNECT), 100, out, &n);
	while (r == 0 && made < 2 * FILTER_SUBSCRIPTIONS_MAX) {
		r = say(BYTES("\x82\x24\0\1\0" STATUS "\1"), 100, out, &n);
		made += r == 0;
		if (made == 500) /* at once; then as fast as they may come */
			assert_true(r == 0);
		now_ms += made >= 500 ? 50 : 0;
	}
	assert_int_equal(r, -EDQUOT);
	assert_int_equal(made, FILTER_SUBSCRIPTIONS_MAX);
	setup(NULL);
	r = say(BYTES(CONNECT), 100, out, &n);
	for (made = 0; r == 0; made++)
		r = say(BYTES("\x82\x24\0\1\0" STATUS "\1"), 100, out, &n);
	assert_int_equal(r, -EDQUOT);
	assert_int_equal(made, 501);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_passing, setup),
		cmocka_unit_test_setup(test_refused, setup),
		cmocka_unit_test_setup(test_filters, setup),
		cmocka_unit_test_setup(test_too_many_subscriptions, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
