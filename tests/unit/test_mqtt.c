/* common/mqtt against the real mosquitto, on an ephemeral loopback port, with a configuration
 * written into a temporary folder. Programs that must be killed or measured from outside are this
 * one again, with arguments. */
#include <errno.h>
#include <netinet/in.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/mqtt/mqtt.h"

#define WAIT_MS    8000
#define BLOCK      (128 * 1024)
#define BLOCKS_ALL 800 /* 100 MiB */
#define RSS_MAX_KB (24 * 1024)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const char *mosquitto_path;

struct broker {
	char dir[64];
	int port;
	pid_t pid;
};

static int free_port(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	return ntohs(a.sin_port);
}

static bool accepts(int port)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static void broker_start(struct broker *b)
{
	char conf[128];
	file_path(conf, sizeof(conf), "%s/mosquitto.conf", b->dir);
	b->pid = fork();
	if (b->pid == 0) {
		execl(mosquitto_path, "mosquitto", "-c", conf, (char *)NULL);
		_exit(127);
	}
	int64_t until = clock_mono_ms() + WAIT_MS;
	while (!accepts(b->port) && clock_mono_ms() < until)
		usleep(10000);
	assert_true(accepts(b->port));
}

/* Writes the configuration; does not start. */
static void broker_prepare(struct broker *b, const char *extra)
{
	snprintf(b->dir, sizeof(b->dir), "/tmp/test_mqtt.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->port = free_port();
	char text[1024], path[128];
	struct passwd *pw = getpwuid(geteuid());
	int n = snprintf(text, sizeof(text),
			 "listener %d 127.0.0.1\nuser %s\npersistence false\nlog_dest file "
			 "%s/log\nmax_queued_messages 10000\n%s\n",
			 b->port, pw ? pw->pw_name : "nobody", b->dir,
			 extra ? extra : "allow_anonymous true");
	file_path(path, sizeof(path), "%s/mosquitto.conf", b->dir);
	assert_int_equal(file_write(path, text, (size_t)n, NULL), 0);
}

static void broker_kill(struct broker *b)
{
	if (b->pid > 0) {
		kill(b->pid, SIGKILL);
		waitpid(b->pid, NULL, 0);
	}
	b->pid = 0;
}

static int setup(void **state)
{
	struct broker *b = calloc(1, sizeof(*b));
	broker_prepare(b, NULL);
	broker_start(b);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct broker *b = *state;
	broker_kill(b);
	file_remove(b->dir, NULL);
	free(b);
	return 0;
}

/* A session and what it saw. */
struct peer {
	struct loop *loop;
	struct mqtt *mqtt;
	struct mqtt_conf conf;
	int n_up, n_down, n_taken_over, n_messages, n_writable;
	size_t n_bytes;
	char why[1024];
	char topic[MQTT_TOPIC_MAX], response[MQTT_TOPIC_MAX], correlation[64];
	char payload[64]; /* its beginning */
	size_t len;
	bool retained;
	bool presence; /* publish it whenever up */
};

static void on_message(void *user, const struct mqtt_message *m)
{
	struct peer *p = user;
	p->n_messages++;
	p->n_bytes += m->len;
	snprintf(p->topic, sizeof(p->topic), "%s", m->topic);
	snprintf(p->response, sizeof(p->response), "%s",
		 m->response_topic ? m->response_topic : "");
	snprintf(p->correlation, sizeof(p->correlation), "%.*s", (int)m->correlation_len,
		 m->correlation ? (const char *)m->correlation : "");
	snprintf(p->payload, sizeof(p->payload), "%.*s", (int)MIN_OF(m->len, 60),
		 (const char *)m->payload);
	p->len = m->len;
	p->retained = m->retained;
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct peer *p = user;
	*(state == MQTT_UP ? &p->n_up : state == MQTT_DOWN ? &p->n_down : &p->n_taken_over) += 1;
	snprintf(p->why, sizeof(p->why), "%s", why);
	if (state == MQTT_UP && p->presence)
		assert_int_equal(mqtt_publish(p->mqtt, &(struct mqtt_publish){.topic = "presence",
									      .payload = "up",
									      .len = 2,
									      .qos = 1,
									      .retain = true}),
				 0);
}

static void on_writable(void *user)
{
	((struct peer *)user)->n_writable++;
}

static void peer_new(struct peer *p, struct loop *loop, int port, const char *id)
{
	*p = (struct peer){.loop = loop};
	p->conf = (struct mqtt_conf){.host = "127.0.0.1",
				     .port = port,
				     .clean_start = true,
				     .keepalive_s = 10,
				     .reconnect_first_ms = 50,
				     .reconnect_cap_ms = 400};
	snprintf(p->conf.client_id, sizeof(p->conf.client_id), "%s", id);
}

static void peer_start(struct peer *p, const char *filter, int qos, bool retained)
{
	struct mqtt_handler h = {on_message, on_state, on_writable, p};
	struct err err = {0};
	if (mqtt_new(p->loop, &p->conf, &h, &p->mqtt, &err) < 0)
		fail_msg("%s", err.text);
	if (filter)
		assert_int_equal(mqtt_subscribe(p->mqtt, filter, qos, retained), 0);
	if (mqtt_start(p->mqtt, &err) < 0)
		fail_msg("%s", err.text);
}

static void spin(struct loop *loop, int ms)
{
	int64_t until = clock_mono_ms() + ms;
	for (int64_t left; (left = until - clock_mono_ms()) > 0;)
		assert_int_equal(loop_once(loop, (int)left), 0);
}

#define WAIT_FOR(loop, condition)                                          \
	do {                                                               \
		int64_t until_ = clock_mono_ms() + WAIT_MS;                \
		bool done_;                                                \
		while (!(done_ = (condition)) && clock_mono_ms() < until_) \
			assert_int_equal(loop_once((loop), 50), 0);        \
		if (!done_)                                                \
			fail_msg("waited in vain for " #condition);        \
	} while (0)

static void peer_up(struct peer *p, struct loop *loop, int port, const char *id, const char *filter)
{
	peer_new(p, loop, port, id);
	peer_start(p, filter, 1, true);
	WAIT_FOR(loop, p->n_up == 1);
}

/* Both at once: Paho takes up to a second to look at a connection that is made beside another. */
static void two_up(struct loop *loop, int port, struct peer *a, const char *filter_a,
		   struct peer *c, const char *filter_c)
{
	peer_new(a, loop, port, "a");
	peer_new(c, loop, port, "c");
	peer_start(a, filter_a, 1, true);
	peer_start(c, filter_c, 1, true);
	WAIT_FOR(loop, a->n_up == 1 && c->n_up == 1);
}

static int publish(struct peer *p, const char *topic, const char *text, int qos)
{
	return mqtt_publish(
		p->mqtt, &(struct mqtt_publish){
				 .topic = topic, .payload = text, .len = strlen(text), .qos = qos});
}

static void peer_free(struct peer *p)
{
	mqtt_free(p->mqtt, 1000, false);
	p->mqtt = NULL;
}

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
	spin(loop, 100);
	publish(&a, "x/y", "nobody", 1);
	publish(&a, "late", "yes", 1);
	WAIT_FOR(loop, c.n_messages == 1);
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
				 .retain = true,
				 .expiry_s = 3};
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
	/* Expired: gone. */
	spin(loop, 3000);
	peer_up(&e, loop, b->port, "e", "cmd");
	spin(loop, 100);
	assert_int_equal(e.n_messages, 0);
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

static pid_t run_self(const char *what, int port, const char *more)
{
	char text[16];
	snprintf(text, sizeof(text), "%d", port);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_mqtt", what, text, more, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* Holds a session with a Will until killed. */
static int child_with_will(int port)
{
	struct loop *loop;
	loop_new(&loop);
	struct peer p;
	peer_new(&p, loop, port, "mortal");
	snprintf(p.conf.will_topic, sizeof(p.conf.will_topic), "presence");
	snprintf(p.conf.will_payload, sizeof(p.conf.will_payload), "killed");
	peer_start(&p, "nothing", 1, false);
	WAIT_FOR(loop, p.n_up == 1);
	publish(&p, "presence", "alive", 1);
	spin(loop, 30000);
	return 0;
}

static void test_will(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a, c;
	peer_up(&a, loop, b->port, "a", "presence");
	pid_t pid = run_self("will", b->port, NULL);
	WAIT_FOR(loop, a.n_messages == 1);
	assert_string_equal(a.payload, "alive");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	WAIT_FOR(loop, a.n_messages == 2);
	assert_string_equal(a.payload, "killed");
	/* Leaving with and without it. */
	for (int with_will = 1; with_will >= 0; with_will--) {
		peer_new(&c, loop, b->port, "c");
		snprintf(c.conf.will_topic, sizeof(c.conf.will_topic), "presence");
		snprintf(c.conf.will_payload, sizeof(c.conf.will_payload), "left");
		c.conf.will_retain = true;
		peer_start(&c, NULL, 0, false);
		WAIT_FOR(loop, c.n_up == 1);
		assert_int_equal(publish(&c, "presence", "last", 1), 0);
		mqtt_free(c.mqtt, 1000, with_will);
		WAIT_FOR(loop, a.n_messages >= (with_will ? 4 : 5));
		spin(loop, 150);
		assert_int_equal(a.n_messages, with_will ? 4 : 5);
		assert_string_equal(a.payload, with_will ? "left" : "last");
	}
	peer_free(&a);
	peer_up(&c, loop, b->port, "c", "presence");
	WAIT_FOR(loop, c.n_messages == 1);
	assert_true(c.retained);
	peer_free(&c);
	loop_free(loop);
}

static void test_broker_killed_and_restarted(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a, c;
	two_up(loop, b->port, &a, "x", &c, "y");
	for (int round = 1; round <= 2; round++) {
		_cleanup_free_ char *big = calloc(1, BLOCK);
		int downs_a = a.n_down, downs_c = c.n_down;
		/* Half-written messages of both kinds are on their way when it dies. */
		kill(b->pid, SIGSTOP);
		for (int i = 0; i < 40; i++)
			mqtt_publish(c.mqtt, &(struct mqtt_publish){.topic = "z",
								    .payload = big,
								    .len = BLOCK,
								    .qos = i & 1});
		spin(loop, 50);
		broker_kill(b);
		WAIT_FOR(loop, a.n_down > downs_a && c.n_down > downs_c);
		assert_int_equal(publish(&a, "x", "lost", 1), -ENOTCONN);
		assert_false(mqtt_is_up(a.mqtt));
		spin(loop, 300); /* some attempts fail */
		broker_start(b);
		WAIT_FOR(loop, a.n_up == round + 1 && c.n_up == round + 1);
		publish(&c, "x", "again", 1);
		publish(&a, "y", "back", 1);
		WAIT_FOR(loop, a.n_messages == round && c.n_messages == round);
	}
	struct mqtt_stats s;
	mqtt_get_stats(a.mqtt, &s);
	assert_int_equal(s.connects, 3);
	peer_free(&a);
	peer_free(&c);
	loop_free(loop);
}

static void test_broker_not_there(void **state)
{
	struct broker *b = *state;
	broker_kill(b);
	struct loop *loop;
	loop_new(&loop);
	struct peer a;
	peer_new(&a, loop, b->port, "a");
	peer_start(&a, "x", 1, true);
	assert_int_equal(publish(&a, "x", "", 0), -ENOTCONN);
	WAIT_FOR(loop, a.n_down == 1);
	spin(loop, 700);
	assert_int_equal(a.n_down, 1); /* the same reason again is no news */
	broker_start(b);
	WAIT_FOR(loop, a.n_up == 1);
	peer_free(&a);
	/* Never started, never connected, freed while connecting. */
	peer_new(&a, loop, b->port, "a");
	peer_start(&a, NULL, 0, false);
	peer_free(&a);
	a.conf.port = 0;
	struct err err = {0};
	struct mqtt_handler h = {on_message, on_state, NULL, &a};
	assert_int_equal(mqtt_new(loop, &a.conf, &h, &a.mqtt, &err), -EINVAL);
	assert_non_null(strstr(err.text, "port"));
	mqtt_free(NULL, 0, false);
	loop_free(loop);
}

static void test_refused(void **state)
{
	(void)state;
	struct broker b = {0};
	broker_prepare(&b, "allow_anonymous false");
	broker_start(&b);
	struct loop *loop;
	loop_new(&loop);
	struct peer a;
	peer_new(&a, loop, b.port, "a");
	peer_start(&a, NULL, 0, false);
	WAIT_FOR(loop, a.n_down == 1);
	assert_non_null(strstr(a.why, "(0x8"));
	assert_non_null(strstr(a.why, "uthoriz"));
	assert_int_equal(a.n_up, 0);
	peer_free(&a);
	loop_free(loop);
	broker_kill(&b);
	file_remove(b.dir, NULL);
}

static void test_durable_session(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a, c;
	peer_up(&c, loop, b->port, "c", NULL);
	for (int round = 0; round < 2; round++) {
		peer_new(&a, loop, b->port, "a");
		a.conf.clean_start = false;
		a.conf.session_expiry_s = 60;
		peer_start(&a, "cmd", 1, false);
		WAIT_FOR(loop, a.n_up == 1);
		if (round)
			WAIT_FOR(loop, a.n_messages == 1);
		assert_int_equal(a.n_messages, round);
		peer_free(&a);
		publish(&c, "cmd", "while away", 1);
		spin(loop, 100);
	}
	/* A subscription dropped while away is dropped at the broker, too. */
	peer_new(&a, loop, b->port, "a");
	a.conf.clean_start = false;
	a.conf.session_expiry_s = 60;
	peer_start(&a, "cmd", 1, false);
	mqtt_unsubscribe(a.mqtt, "cmd");
	WAIT_FOR(loop, a.n_up == 1 && a.n_messages == 1);
	spin(loop, 100);
	publish(&c, "cmd", "no more", 1);
	spin(loop, 150);
	assert_int_equal(a.n_messages, 1);
	peer_free(&a);
	peer_free(&c);
	loop_free(loop);
}

static void peer_with_presence(struct peer *p, struct loop *loop, struct broker *b, bool durable)
{
	peer_new(p, loop, b->port, "same");
	p->presence = true;
	p->conf.clean_start = !durable;
	p->conf.session_expiry_s = durable ? 60 : 0;
	p->conf.will_retain = true;
	snprintf(p->conf.will_topic, sizeof(p->conf.will_topic), "presence");
	snprintf(p->conf.will_payload, sizeof(p->conf.will_payload), "gone");
	peer_start(p, "x", 1, false);
}

static void take_over(struct broker *b, bool durable)
{
	struct loop *loop;
	loop_new(&loop);
	struct peer a, c;
	peer_with_presence(&a, loop, b, durable);
	WAIT_FOR(loop, a.n_up == 1);
	spin(loop, 20);
	_cleanup_free_ char *big = calloc(1, BLOCK);
	peer_with_presence(&c, loop, b, durable);
	int64_t until = clock_mono_ms() + WAIT_MS;
	while (a.n_taken_over == 0 && clock_mono_ms() < until) {
		/* In the middle of traffic, where the end of a connection is seen by writing. */
		mqtt_publish(a.mqtt,
			     &(struct mqtt_publish){.topic = "x", .payload = big, .len = BLOCK});
		assert_int_equal(loop_once(loop, 1), 0);
	}
	assert_int_equal(a.n_taken_over, 1);
	assert_non_null(strstr(a.why, "0x8E"));
	WAIT_FOR(loop, mqtt_is_up(c.mqtt));
	spin(loop, 200);
	assert_int_equal(a.n_taken_over, 1);
	assert_int_equal(c.n_taken_over, 0);
	assert_true(mqtt_is_up(c.mqtt));
	assert_int_equal(publish(&a, "x", "", 0), -ENOTCONN);
	if (durable) {
		/* The one that stays survives the broker, too. */
		int ups = c.n_up;
		broker_kill(b);
		broker_start(b);
		WAIT_FOR(loop, c.n_up > ups);
		assert_int_equal(c.n_taken_over, 0);
	}
	peer_free(&a);
	peer_free(&c);
	loop_free(loop);
}

static void test_taken_over(void **state)
{
	take_over(*state, true);
	take_over(*state, false);
}

/* What an earlier session left there is no reason to give way. */
static void test_leftover_claim(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer old, a;
	peer_with_presence(&old, loop, b, true);
	WAIT_FOR(loop, old.n_up == 1);
	spin(loop, 20);
	peer_with_presence(&a, loop, b, true);
	WAIT_FOR(loop, a.n_up == 1 && old.n_down == 1);
	peer_free(&old);
	/* A hand that looks like a later one but is not well-formed changes nothing either. */
	const char *claims[] = {"0000000000000001.0000000000000001", "zzz", ""};
	for (size_t i = 0; i < ARRAY_LEN(claims); i++) {
		char cmd[256];
		snprintf(cmd, sizeof(cmd),
			 "mosquitto_pub -V 5 -p %d -t presence -r -m old -D publish user-property "
			 "session '%s'",
			 b->port, claims[i]);
		assert_int_equal(system(cmd), 0);
		int ups = a.n_up;
		snprintf(cmd, sizeof(cmd), "mosquitto_pub -V 5 -p %d -i same -t y -m x", b->port);
		assert_int_equal(system(cmd), 0); /* throws it out, leaves no claim */
		WAIT_FOR(loop, a.n_up == ups + 1);
		assert_int_equal(a.n_taken_over, 0);
	}
	peer_free(&a);
	loop_free(loop);
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
	int asked = 0, done = 0, first = p.n_messages;
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
			assert_true(clock_mono_ms() - begun < 30000);
			loop_once(loop, 2000);
		}
		if (out)
			done = seen;
		if (done % 50 == 0)
			kb = MAX_OF(kb, peak_rss_kb(pid));
	}
	int64_t ms = clock_mono_ms() - begun;
	print_message("100 MiB %s: %.0f MB/s, peak memory %ld KiB\n", out ? "sent" : "received",
		      BLOCKS_ALL * (double)BLOCK / 1000 / (double)MAX_OF(ms, 1), kb);
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	if (!SANITIZED && !getenv("VALGRIND"))
		assert_in_range(kb, 1, RSS_MAX_KB);
	peer_free(&p);
	loop_free(loop);
}

static void test_transfer_memory(void **state)
{
	transfer(*state, true);
	transfer(*state, false);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "transfer") == 0)
		return child_transfer(atoi(argv[2]), argv[3]);
	if (argc == 3 && strcmp(argv[1], "will") == 0)
		return child_with_will(atoi(argv[2]));
	mosquitto_path = access("/usr/sbin/mosquitto", X_OK) == 0 ? "/usr/sbin/mosquitto"
								  : "/usr/local/sbin/mosquitto";
	if (access(mosquitto_path, X_OK) != 0) {
		fprintf(stderr, "skipped: mosquitto is not installed\n");
		return 77;
	}
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_publish_and_receive),
		T(test_properties),
		T(test_limits_of_one_message),
		T(test_room_in_flight),
		T(test_inbound_overflow),
		T(test_will),
		T(test_broker_killed_and_restarted),
		T(test_broker_not_there),
		cmocka_unit_test(test_refused),
		T(test_durable_session),
		T(test_taken_over),
		T(test_leftover_claim),
		T(test_transfer_memory),
	};
	if (argc == 2)
		cmocka_set_test_filter(argv[1]); /* while working on one */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
