/* The life of a session of common/mqtt with the real mosquitto: Will, loss and return of the
 * broker, refusal, durable sessions, two clients with one id. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "mqtt_fixture.h"

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
		mqtt_free(c.mqtt, WAIT_MS, with_will);
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
	/* The same reason again is no news; a refusal that comes a little later has another one. */
	assert_int_equal(a.n_repeated, 0);
	broker_start(b);
	WAIT_FOR(loop, a.n_up == 1);
	peer_free(&a);
	/* Never started, never connected, freed while connecting. */
	peer_new(&a, loop, b->port, "a");
	peer_start(&a, NULL, 0, false);
	peer_free(&a);
	a.conf.port = 0;
	struct err err = {0};
	struct mqtt_handler h = {.user = &a};
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
	peer_up(&c, loop, b->port, "c", "done");
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
	publish(&a, "done", "",
		1); /* behind its UNSUBSCRIBE, which it does not wait for to be up */
	WAIT_FOR(loop, c.n_messages == 1);
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
	char text[1024] = {0};
	peer_with_presence(&c, loop, b, durable);
	int64_t until = clock_mono_ms() + WAIT_MS;
	while (a.n_taken_over == 0 && clock_mono_ms() < until) {
		/* In the middle of traffic, where the end of a connection is seen by writing. */
		mqtt_publish(a.mqtt, &(struct mqtt_publish){
					     .topic = "x", .payload = text, .len = sizeof(text)});
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

/* Throws the session out, leaves `claim` (NULL: nothing) where it will look for a rival's, waits
 * until it is back. Its own Will, with its own claim, was there in between. */
static void throw_out(struct broker *b, struct loop *loop, struct peer *a, const char *claim)
{
	char cmd[256];
	int ups = a->n_up;
	snprintf(cmd, sizeof(cmd), "mosquitto_pub -V 5 -p %d -i same -t y -m x", b->port);
	assert_int_equal(system(cmd), 0);
	snprintf(cmd, sizeof(cmd),
		 "mosquitto_pub -V 5 -p %d -t presence -r -m old -D publish user-property "
		 "session '%s'",
		 b->port, claim);
	assert_int_equal(claim ? system(cmd) : 0, 0);
	WAIT_FOR(loop, a->n_up == ups + 1 || a->n_taken_over);
	spin(loop, 20); /* for its presence */
}

/* A later claim is easily forged: only one that comes again and again is believed. */
static void test_forged_claim(void **state)
{
	struct broker *b = *state;
	struct loop *loop;
	loop_new(&loop);
	struct peer a;
	peer_with_presence(&a, loop, b, true);
	WAIT_FOR(loop, a.n_up == 1);
	spin(loop, 20);
	/* From the far future: never, */
	for (int i = 0; i < MQTT_RIVAL_LOSSES + 1; i++)
		throw_out(b, loop, &a, "ffffffffffffffff.ffffffffffffffff");
	/* credible, but forged once, however often the connection is lost afterwards. */
	char claim[64];
	snprintf(claim, sizeof(claim), "%016llx.ffffffffffffffff",
		 (unsigned long long)clock_real_ms() + 3600 * 1000);
	for (int i = 0; i < MQTT_RIVAL_LOSSES + 1; i++)
		throw_out(b, loop, &a, i ? NULL : claim);
	assert_int_equal(a.n_taken_over, 0);
	/* Who goes on throwing out and forging does what a second session would do. */
	for (int i = 1; i < MQTT_RIVAL_LOSSES; i++) {
		assert_int_equal(a.n_taken_over, 0);
		throw_out(b, loop, &a, claim);
	}
	assert_int_equal(a.n_taken_over, 1);
	peer_free(&a);
	loop_free(loop);
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
	/* Before it comes back, and throws out the other one. */
	WAIT_FOR(loop, old.n_down == 1);
	peer_free(&old);
	WAIT_FOR(loop, a.n_up == 1);
	/* A hand that looks like a later one but is not well-formed changes nothing either. */
	const char *claims[] = {"0000000000000001.0000000000000001", "zzz"};
	for (size_t i = 0; i < ARRAY_LEN(claims); i++) {
		throw_out(b, loop, &a, claims[i]);
		assert_int_equal(a.n_taken_over, 0);
	}
	peer_free(&a);
	loop_free(loop);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "will") == 0)
		return child_with_will(atoi(argv[2]));
	if (!broker_installed()) {
		fprintf(stderr, "skipped: mosquitto is not installed\n");
		return 77;
	}
#define T(name) cmocka_unit_test_setup_teardown(name, broker_setup, broker_teardown)
	const struct CMUnitTest tests[] = {
		T(test_will),
		T(test_broker_killed_and_restarted),
		T(test_broker_not_there),
		cmocka_unit_test(test_refused),
		T(test_durable_session),
		T(test_taken_over),
		T(test_forged_claim),
		T(test_leftover_claim),
	};
	if (argc == 2)
		cmocka_set_test_filter(argv[1]); /* while working on one */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
