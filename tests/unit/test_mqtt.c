/* Messages through common/mqtt and the real mosquitto: delivery, properties, limits, and memory
 * while a checkpoint passes. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "emulated.h"
#include "mqtt_fixture.h"

#define BLOCKS_ALL 800 /* 100 MiB */
#define RSS_MAX_KB (24 * 1024)
/* Nothing is measured by it: one that stands still is to end. */
#define TRANSFER_MAX_MS 240000

static void test_publish_and_receive(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a, c;
	two_up(loop, b->port, &a, "x/#", &c, NULL);
	assert_non_null(strstr(a.why, "127.0.0.1"));
	for (int qos = 0; qos <= 1; qos++) {
		assert_int_equal(publish(&c, "x/y", qos ? "one" : "zero", qos), 0);
		WAIT_FOR(loop, a.n_messages == qos + 1);
		assert_string_equal(a.topic, "x/y");
		assert_string_equal(a.payload, qos ? "one" : "zero");
		assert_false(a.retained);
		assert_string_equal(a.response, "");
	}
	/* Subscribing and unsubscribing while connected. */
	assert_int_equal(mqtt_subscribe(c.mqtt, "late", 1, true), 0);
	assert_int_equal(mqtt_unsubscribe(a.mqtt, "x/#"), 0);
	assert_int_equal(mqtt_unsubscribe(a.mqtt, "x/#"), -ENOENT);
	publish(&c, "late", "to itself", 1); /* behind its own SUBSCRIBE: that is there then */
	WAIT_FOR(loop, c.n_messages == 1);
	publish(&a, "x/y", "nobody", 1);
	publish(&a, "late", "yes", 1);
	WAIT_FOR(loop, c.n_messages == 2);
	spin(loop, 50);
	assert_int_equal(a.n_messages, 2);
	struct mqtt_stats s;
	mqtt_get_stats(a.mqtt, &s);
	assert_int_equal(s.in_messages, 2);
	assert_int_equal(s.in_bytes, 7);
	assert_int_equal(s.connects, 1);
	peer_free(&a);
	peer_free(&c);
	loop_free(loop);
}

static void test_properties(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a, c, d, e;
	peer_up(&c, loop, b->port, "c", NULL);
	struct mqtt_publish p = {.topic = "cmd",
				 .payload = "ping",
				 .len = 4,
				 .qos = 1,
				 .response_topic = "reply/me",
				 .correlation = "1234",
				 .correlation_len = 4,
				 .retain = true};
	assert_int_equal(mqtt_publish(c.mqtt, &p), 0);
	p.topic = "short";
	p.expiry_s = 1;
	assert_int_equal(mqtt_publish(c.mqtt, &p), 0);
	/* One that wants what is retained, and one that wants only what is new. */
	peer_new(&a, loop, b->port, "a");
	peer_new(&d, loop, b->port, "d");
	peer_start(&a, "cmd", 1, true);
	peer_start(&d, "cmd", 1, false);
	WAIT_FOR(loop, a.n_messages == 1 && d.n_up == 1);
	assert_true(a.retained);
	assert_string_equal(a.response, "reply/me");
	assert_string_equal(a.correlation, "1234");
	spin(loop, 100);
	assert_int_equal(d.n_messages, 0);
	publish(&c, "cmd", "new", 1);
	WAIT_FOR(loop, d.n_messages == 1);
	assert_false(d.retained);
	/* Expired, as the one before the last that came: gone. */
	spin(loop, 2100);
	peer_new(&e, loop, b->port, "e");
	peer_start(&e, "short", 1, true);
	mqtt_subscribe(e.mqtt, "cmd", 1, true);
	WAIT_FOR(loop, e.n_messages == 1);
	spin(loop, 100);
	assert_int_equal(e.n_messages, 1);
	assert_string_equal(e.topic, "cmd");
	peer_free(&a);
	peer_free(&c);
	peer_free(&d);
	peer_free(&e);
	loop_free(loop);
}

static void test_limits_of_one_message(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a;
	peer_up(&a, loop, b->port, "a", "big");
	_cleanup_free_ char *big = calloc(1, MQTT_PAYLOAD_MAX + 1);
	struct mqtt_publish p = {.topic = "big", .payload = big, .len = MQTT_PAYLOAD_MAX + 1};
	assert_int_equal(mqtt_publish(a.mqtt, &p), -E2BIG);
	p.len--;
	assert_int_equal(mqtt_publish(a.mqtt, &p), 0);
	WAIT_FOR(loop, a.n_messages == 1);
	assert_int_equal(a.len, MQTT_PAYLOAD_MAX);
	assert_int_equal(publish(&a, "a/+/b", "", 0), -EINVAL);
	assert_int_equal(publish(&a, "a/#", "", 0), -EINVAL);
	assert_int_equal(publish(&a, "", "", 0), -EINVAL);
	assert_int_equal(publish(&a, "a\nb", "", 0), -EINVAL);
	assert_int_equal(publish(&a, "\xff\xfe", "", 0), -EINVAL);
	assert_int_equal(publish(&a, "x", "", 2), -EINVAL);
	assert_int_equal(mqtt_subscribe(a.mqtt, "x", 2, false), -EINVAL);
	char name[32];
	for (int i = 1; i < MQTT_SUBS_MAX; i++) {
		snprintf(name, sizeof(name), "sub/%d", i);
		assert_int_equal(mqtt_subscribe(a.mqtt, name, 0, false), 0);
	}
	assert_int_equal(mqtt_subscribe(a.mqtt, "more", 0, false), -ENOSPC);
	assert_int_equal(mqtt_subscribe(a.mqtt, name, 1, false), 0); /* a change, not one more */
	/* One from elsewhere that is beyond what we accept does not come, and breaks nothing. */
	char cmd[256];
	snprintf(cmd, sizeof(cmd), "head -c 400000 /dev/zero | mosquitto_pub -p %d -t big -s -q 1",
		 b->port);
	assert_int_equal(system(cmd), 0);
	publish(&a, "big", "still here", 1);
	WAIT_FOR(loop, a.n_messages == 2);
	assert_string_equal(a.payload, "still here");
	assert_int_equal(a.n_down, 0);
	peer_free(&a);
	loop_free(loop);
}

static void test_room_in_flight(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a;
	peer_up(&a, loop, b->port, "a", NULL);
	_cleanup_free_ char *big = calloc(1, BLOCK);
	struct mqtt_publish large = {.topic = "t", .payload = big, .len = BLOCK, .qos = 1};
	kill(b->pid, SIGSTOP); /* no acknowledgement while we fill */
	int n = 0, r;
	while ((r = mqtt_publish(a.mqtt, &large)) == 0)
		n++;
	assert_int_equal(r, -EAGAIN);
	assert_in_range(n, 30, 32); /* bytes */
	spin(loop, 100);
	assert_int_equal(a.n_writable, 0);
	kill(b->pid, SIGCONT);
	WAIT_FOR(loop, a.n_writable == 1);
	/* When the last is acknowledged, so are all: then fill by count. */
	kill(b->pid, SIGSTOP);
	for (n = 0; (r = publish(&a, "t", "x", 1)) == 0; n++)
		;
	assert_int_equal(r, -EAGAIN);
	assert_in_range(n, MQTT_OUT_MAX / 2, MQTT_OUT_MAX);
	kill(b->pid, SIGCONT);
	WAIT_FOR(loop, a.n_writable == 2);
	/* QoS 0 makes room, too, though Paho may not report each. */
	for (int i = 0; i < 400; i++) {
		large.qos = 0;
		while ((r = mqtt_publish(a.mqtt, &large)) == -EAGAIN)
			assert_int_equal(loop_once(loop, 3000), 0);
		assert_int_equal(r, 0);
	}
	peer_free(&a);
	loop_free(loop);
}

static void test_inbound_overflow(void **state)
{
	struct broker *b = *state;
	struct loop *la, *lc;
	loop_new(&la);
	loop_new(&lc);
	struct peer a, c;
	peer_new(&a, la, b->port, "a");
	peer_start(&a, "t", 0, false);
	WAIT_FOR(la, a.n_up == 1);
	peer_up(&c, lc, b->port, "c", "done");
	/* a's loop does not run meanwhile. */
	int sent = 0;
	while (sent < MQTT_IN_MAX + 100) {
		int r = publish(&c, "t", "x", 1);
		if (r == -EAGAIN)
			loop_once(lc, 100);
		else
			sent++;
	}
	WAIT_FOR(lc, publish(&c, "done", "x", 1) == 0);
	WAIT_FOR(lc, c.n_messages == 1);
	struct mqtt_stats s;
	int64_t until = clock_mono_ms() + WAIT_MS;
	do {
		usleep(20000);
		mqtt_get_stats(a.mqtt, &s);
	} while (s.in_messages + s.in_dropped < (uint64_t)sent && clock_mono_ms() < until);
	assert_int_equal(s.in_messages, MQTT_IN_MAX);
	assert_int_equal(s.in_dropped, 100);
	/* One round hands over only some of them, so that timers get their turn. */
	loop_once(la, 0);
	assert_in_range(a.n_messages, 1, 64);
	WAIT_FOR(la, a.n_messages == MQTT_IN_MAX);
	/* By bytes. */
	_cleanup_free_ char *big = calloc(1, BLOCK);
	for (sent = 0; sent < 160;) {
		struct mqtt_publish p = {.topic = "t", .payload = big, .len = BLOCK};
		if (mqtt_publish(c.mqtt, &p) == -EAGAIN)
			loop_once(lc, 100);
		else
			sent++;
	}
	until = clock_mono_ms() + WAIT_MS;
	do {
		loop_once(lc, 20);
		mqtt_get_stats(a.mqtt, &s);
	} while (s.in_messages + s.in_dropped < MQTT_IN_MAX + 260 && clock_mono_ms() < until);
	assert_in_range(s.in_messages - MQTT_IN_MAX, 100, MQTT_IN_BYTES_MAX / BLOCK);
	assert_int_equal(s.in_messages + s.in_dropped, MQTT_IN_MAX + 260);
	peer_free(&a);
	peer_free(&c);
	loop_free(la);
	loop_free(lc);
}

/* An agent's part in a transfer, either direction: reports its peak memory as its exit status. */
static int child_transfer(int port, const char *direction)
{
	struct loop *loop;
	loop_new(&loop);
	struct peer p;
	bool sends = strcmp(direction, "out") == 0;
	peer_new(&p, loop, port, "agent");
	peer_start(&p, sends ? "want" : "block", sends, false);
	WAIT_FOR(loop, p.n_up == 1);
	_cleanup_free_ char *block = calloc(1, BLOCK);
	int done = 0, asked = 0;
	if (sends)
		publish(&p, "ready", "", 1);
	while (done < BLOCKS_ALL && p.n_down == 0) {
		if (sends && done < p.n_messages) {
			if (mqtt_publish(p.mqtt, &(struct mqtt_publish){.topic = "block",
									.payload = block,
									.len = BLOCK}) == 0)
				done++;
		} else if (!sends && asked < p.n_messages + 8 && asked < BLOCKS_ALL) {
			publish(&p, "want", "", 1);
			asked++;
		} else if (loop_once(loop, 2000) < 0) {
			return 1;
		}
		if (!sends)
			done = p.n_messages;
	}
	peer_free(&p);
	loop_free(loop);
	return done == BLOCKS_ALL ? 0 : 1;
}

static long peak_rss_kb(pid_t pid)
{
	char path[64], line[128];
	file_path(path, sizeof(path), "/proc/%d/status", (int)pid);
	_cleanup_file_ FILE *f = fopen(path, "re");
	long kb = -1;
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %ld", &kb) == 1)
			break;
	return kb;
}

static void transfer(struct broker *b, bool out)
{
	struct loop *loop;
	loop_new(&loop);
	struct peer p;
	peer_new(&p, loop, b->port, "peer");
	peer_start(&p, out ? "block" : "want", !out, false);
	if (out)
		mqtt_subscribe(p.mqtt, "ready", 1, false);
	WAIT_FOR(loop, p.n_up == 1);
	pid_t pid = run_self("transfer", b->port, out ? "out" : "in");
	_cleanup_free_ char *block = calloc(1, BLOCK);
	if (out)
		WAIT_FOR(loop, p.n_messages == 1);
	int asked = 0, done = 0, first = p.n_messages, look_at = 1;
	int64_t begun = clock_mono_ms();
	long kb = 0;
	while (done < BLOCKS_ALL) {
		int seen = p.n_messages - first;
		if (out && asked < seen + 8 && asked < BLOCKS_ALL) {
			publish(&p, "want", "", 1);
			asked++;
		} else if (!out && done < seen) {
			struct mqtt_publish m = {.topic = "block", .payload = block, .len = BLOCK};
			if (mqtt_publish(p.mqtt, &m) == 0)
				done++;
		} else {
			assert_true(clock_mono_ms() - begun < TRANSFER_MAX_MS);
			loop_once(loop, 100);
		}
		if (out)
			done = seen;
		if (done >= look_at) { /* they come several at a time */
			kb = MAX_OF(kb, peak_rss_kb(pid));
			look_at = done + 50;
		}
	}
	int64_t ms = clock_mono_ms() - begun;
	print_message("100 MiB %s: %.0f MB/s, peak memory %ld KiB\n", out ? "sent" : "received",
		      BLOCKS_ALL * (double)BLOCK / 1000 / (double)MAX_OF(ms, 1), kb);
	int status;
	while (waitpid(pid, &status, WNOHANG) == 0)
		loop_once(loop, 20); /* the last blocks leave with its turns */
	assert_int_equal(status, 0);
	if (!SANITIZED && !under_qemu("tell a program's memory from its own"))
		assert_in_range(kb, 1, RSS_MAX_KB);
	peer_free(&p);
	loop_free(loop);
}

static void test_transfer_memory(void **state)
{
	transfer(*state, true);
	transfer(*state, false);
}

/* Clients whose broker ended do not come back at one moment; who was refused waits longer and
 * longer. */
static void test_reconnect_waits(void **state)
{
	enum { FIRST = 500, CAP = 30000, N = 1000 };
	int64_t least = CAP, most = 0;
	struct rng rng;
	rng_init(&rng, 1);
	for (int i = 0; i < N; i++) {
		int64_t ms = mqtt_reconnect_ms(&rng, 0, true, FIRST, CAP);
		least = MIN_OF(least, ms);
		most = MAX_OF(most, ms);
		ms = mqtt_reconnect_ms(&rng, 0, false, FIRST, CAP);
		assert_true(ms >= FIRST / 2 && ms <= FIRST);
		ms = mqtt_reconnect_ms(&rng, 3, true, FIRST, CAP);
		assert_true(ms >= 8 * FIRST / 2 && ms <= 8 * FIRST);
		ms = mqtt_reconnect_ms(&rng, 40, true, FIRST, CAP);
		assert_true(ms >= CAP / 2 && ms <= CAP);
	}
	assert_true(least >= FIRST / 2 && least < FIRST);
	assert_true(most > 8 * FIRST && most <= MQTT_LOST_SPREAD * FIRST + FIRST / 2);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "transfer") == 0)
		return child_transfer(atoi(argv[2]), argv[3]);
	if (!broker_installed()) {
		fprintf(stderr, "skipped: mosquitto is not installed\n");
		return 77;
	}
#define T(name) cmocka_unit_test_setup_teardown(name, broker_setup, broker_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reconnect_waits),
		T(test_publish_and_receive),
		T(test_properties),
		T(test_limits_of_one_message),
		T(test_room_in_flight),
		T(test_inbound_overflow),
		T(test_transfer_memory),
	};
	if (argc == 2)
		cmocka_set_test_filter(argv[1]); /* while working on one */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
