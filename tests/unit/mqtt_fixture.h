/* The real mosquitto for tests of common/mqtt, on an ephemeral loopback port with a configuration
 * written into a temporary folder, and sessions that note what they see. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/mqtt/mqtt.h"

#define WAIT_MS 60000
#define BLOCK   (128 * 1024)

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

struct broker {
	char dir[64];
	int port;
	pid_t pid;
};

/* A session and what it saw. */
struct peer {
	struct loop *loop;
	struct mqtt *mqtt;
	struct mqtt_conf conf;
	int n_up, n_down, n_taken_over, n_messages, n_writable;
	int n_repeated; /* of n_down: for the same reason as the last */
	bool is_down;
	size_t n_bytes;
	char why[1024];
	char topic[MQTT_TOPIC_MAX], response[MQTT_TOPIC_MAX], correlation[64];
	char payload[64]; /* its beginning */
	size_t len;
	bool retained;
	bool presence; /* publish it whenever up */
};

/* Whether mosquitto is there. */
bool broker_installed(void);
/* Writes the configuration; does not start. */
void broker_prepare(struct broker *b, const char *extra);
void broker_start(struct broker *b);
void broker_kill(struct broker *b);
int broker_setup(void **state);
int broker_teardown(void **state);

void peer_new(struct peer *p, struct loop *loop, int port, const char *id);
void peer_start(struct peer *p, const char *filter, int qos, bool retained);
void peer_up(struct peer *p, struct loop *loop, int port, const char *id, const char *filter);
/* Both at once: Paho takes up to a second to look at a connection that is made beside another. */
void two_up(struct loop *loop, int port, struct peer *a, const char *filter_a, struct peer *c,
	    const char *filter_c);
void peer_free(struct peer *p);
int publish(struct peer *p, const char *topic, const char *text, int qos);
void spin(struct loop *loop, int ms);
/* This test program again, with other arguments; `more` may be NULL. */
pid_t run_self(const char *what, int port, const char *more);

#define WAIT_FOR(loop, condition)                                          \
	do {                                                               \
		int64_t until_ = clock_mono_ms() + WAIT_MS;                \
		bool done_;                                                \
		while (!(done_ = (condition)) && clock_mono_ms() < until_) \
			assert_int_equal(loop_once((loop), 50), 0);        \
		if (!done_)                                                \
			fail_msg("waited in vain for " #condition);        \
	} while (0)
