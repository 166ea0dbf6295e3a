/* The session's state machine, all on the loop's thread:
 *
 *   IDLE -mqtt_start-> CONNECTING -CONNACK-> [CHECKING ->] SUBSCRIBING -last SUBACK-> UP
 *                        ^   | fails, deadline    | refused, lost, deadline    | lost
 *                        |   v                    v                            v
 *                        +- WAITING <-------------+----------------------------+
 *
 * and to FINAL when our client id was taken over. WAITING ends by the back-off timer, CONNECTING,
 * CHECKING and SUBSCRIBING by a deadline on the same timer.
 *
 * Taken over. MQTT 5 brokers say 0x8E to the session that loses its client id, but Mosquitto
 * 2.0.11 only closes the connection, as it also would by dying. So a session with a retained Will
 * marks that topic: its Will and its own retained messages there carry its claim (when it was
 * made, and a random number) as a user property. When it comes back after a loss it looks at what
 * is retained there before it does anything else (CHECKING). A later claim than its own should be
 * of a session that took its client id; but whoever may publish there can forge one. So it is
 * believed when it happens MQTT_RIVAL_LOSSES times within MQTT_RIVAL_MS: each time we came up our
 * own claim took its place, and a rival that lives puts its own there again, thrown out by us as we
 * were by it. Then the session with the earlier claim gives way; the later one finds only earlier
 * claims, and goes on. A claim from the far future is a forgery, or of a clock that nobody should
 * believe. */
#include "common/mqtt/mqtt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/mqtt/link.h"

#define CONNECT_DEADLINE_MS   10000 /* of CONNECTING, and of what follows up to UP */
#define STABLE_MS             10000 /* a connection that lived so long resets the back-off */
#define MESSAGES_PER_WAKE     64    /* then the loop's other sources get their turn */
#define KICK_FIRST_MS         4     /* without progress, Paho gets a link_kick() ... */
#define KICK_PAIR_MS          1  /* ... and one more, out of the sleep that the first puts it in */
#define KICK_CAP_MS           50 /* the pairs' distance grows up to this */
#define PROBE_MS              40 /* without progress, link_probe() */
#define RECONNECT_FIRST_MS    500
#define RECONNECT_CAP_MS      30000
#define KEEPALIVE_S           30
#define CORRELATION_BYTES_MAX 1024
#define WHY_MAX               (LINK_TEXT_MAX + 512)

enum phase {
	PHASE_IDLE,
	PHASE_WAITING,
	PHASE_CONNECTING,
	PHASE_CHECKING,
	PHASE_SUBSCRIBING,
	PHASE_UP,
	PHASE_FINAL,
};

enum sub_state { SUB_FREE, SUB_WANTED, SUB_LEAVING };

struct sub {
	enum sub_state state;
	char filter[MQTT_TOPIC_MAX];
	int qos;
	bool retained;
	bool pending; /* not acknowledged on this connection */
};

struct mqtt {
	struct loop *loop;
	struct loop_source *source, *timer, *kick;
	struct mqtt_conf conf;
	struct mqtt_handler handler;
	struct link link;
	enum phase phase;
	unsigned attempt;
	bool kicking;     /* that timer is armed */
	bool kicked_once; /* the second of the pair is due */
	int64_t kick_ms;
	uint64_t kick_done;  /* publishes that were through at its last turn */
	int64_t progress_ms; /* when the last of them was */
	int64_t up_at_ms;
	struct rng rng;
	struct sub subs[MQTT_SUBS_MAX];
	char claim[LINK_CLAIM_LEN + 1];
	bool claimed;                         /* published at least once */
	unsigned n_rivals;                    /* losses after which a later claim was there */
	int64_t rivals_ms[MQTT_RIVAL_LOSSES]; /* when; a ring */
	bool looked; /* CHECKING: what is retained has come; now waiting for the UNSUBACK */
	char uri[300];
	char why[WHY_MAX]; /* of the last MQTT_DOWN, so that it is not repeated */
};

static bool text_ok(const char *s, size_t max)
{
	size_t n = strnlen(s, max + 1);
	if (n == 0 || n > max)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

/* Well-formed, shortest form, no surrogates (RFC 3629). */
static bool utf8_ok(const char *text)
{
	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
		int more = *s < 0x80       ? 0
			   : *s >> 5 == 6  ? 1
			   : *s >> 4 == 14 ? 2
			   : *s >> 3 == 30 ? 3
					   : -1;
		if (more < 0)
			return false;
		uint32_t c = more ? *s & (0x3fu >> more) : *s;
		for (int i = 0; i < more; i++)
			if ((*++s & 0xc0) == 0x80)
				c = c << 6 | (*s & 0x3f);
			else
				return false;
		s++;
		if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
	}
	return true;
}

static bool topic_ok(const char *s)
{
	return s && text_ok(s, MQTT_TOPIC_MAX - 1) && !strpbrk(s, "+#") && utf8_ok(s);
}

/* ---- connecting ---- */

int64_t mqtt_reconnect_ms(struct rng *rng, unsigned attempt, bool was_up, int64_t first_ms,
			  int64_t cap_ms)
{
	if (was_up && attempt == 0)
		return first_ms / 2 +
		       (int64_t)(rng_unit(rng) * (double)(MQTT_LOST_SPREAD * first_ms));
	return rng_backoff_ms(rng, attempt, first_ms, cap_ms);
}

static void report(struct mqtt *m, enum mqtt_state state, const char *text)
{
	char why[WHY_MAX];
	snprintf(why, sizeof(why), "broker %s:%d: %s", m->conf.host, m->conf.port, text);
	bool same = state == MQTT_DOWN && strcmp(why, m->why) == 0;
	snprintf(m->why, sizeof(m->why), "%s", state == MQTT_DOWN ? why : "");
	if (!same)
		m->handler.state(m->handler.user, state, why);
}

/* Ends this connection or attempt; the next one comes by the timer. */
static void drop(struct mqtt *m, const char *text)
{
	bool was_up = m->phase == PHASE_UP;
	if (was_up) {
		m->why[0] = '\0';
		if (clock_mono_ms() - m->up_at_ms >= STABLE_MS)
			m->attempt = 0;
	}
	link_close(&m->link);
	m->phase = PHASE_WAITING;
	loop_timer_at(m->timer, clock_mono_ms() + mqtt_reconnect_ms(&m->rng, m->attempt++, was_up,
								    m->conf.reconnect_first_ms,
								    m->conf.reconnect_cap_ms));
	report(m, MQTT_DOWN, text);
}

static bool connecting(const struct mqtt *m)
{
	return m->phase == PHASE_CONNECTING || m->phase == PHASE_CHECKING ||
	       m->phase == PHASE_SUBSCRIBING;
}

/* Armed while something is due from Paho. */
static int on_kick(void *user)
{
	struct mqtt *m = user;
	uint64_t done;
	m->kicking = link_in_flight(&m->link, &done) > 0 || connecting(m);
	if (!m->kicking)
		return 0;
	bool second = m->kicked_once;
	bool stalled = done == m->kick_done;
	int64_t now_ms = clock_mono_ms();
	if (!stalled)
		m->progress_ms = now_ms;
	else if (now_ms - m->progress_ms >= PROBE_MS)
		link_probe(&m->link);
	if (stalled || second)
		link_kick(&m->link);
	m->kicked_once = stalled && !second;
	if (second)
		m->kick_ms = MIN_OF(m->kick_ms + m->kick_ms / 4, KICK_CAP_MS);
	else if (!stalled)
		m->kick_ms = KICK_FIRST_MS;
	m->kick_done = done;
	return loop_timer_at(m->kick, now_ms + (m->kicked_once ? KICK_PAIR_MS : m->kick_ms));
}

static void start_kicking(struct mqtt *m)
{
	if (m->kicking)
		return;
	m->kicking = true;
	m->kicked_once = false;
	m->kick_ms = KICK_FIRST_MS;
	m->progress_ms = clock_mono_ms();
	link_in_flight(&m->link, &m->kick_done);
	loop_timer_at(m->kick, m->progress_ms + m->kick_ms);
}

static int open_link(struct mqtt *m, struct err *err)
{
	int r = link_open(&m->link, &m->conf, m->uri, m->claim, err);
	if (r < 0)
		return r;
	m->phase = PHASE_CONNECTING;
	start_kicking(m);
	loop_timer_at(m->timer, clock_mono_ms() + CONNECT_DEADLINE_MS);
	return 0;
}

static int on_timer(void *user)
{
	struct mqtt *m = user;
	struct err err;
	switch (m->phase) {
	case PHASE_WAITING:
		if (open_link(m, &err) < 0)
			drop(m, err.text);
		break;
	case PHASE_CONNECTING:
		drop(m, "no answer to CONNECT");
		break;
	case PHASE_CHECKING:
	case PHASE_SUBSCRIBING:
		drop(m, "no answer to SUBSCRIBE");
		break;
	case PHASE_IDLE:
	case PHASE_UP:
	case PHASE_FINAL:
		break;
	}
	return 0;
}

static bool subscriptions_stand(const struct mqtt *m)
{
	for (size_t i = 0; i < MQTT_SUBS_MAX; i++)
		if (m->subs[i].state == SUB_WANTED && m->subs[i].pending)
			return false;
	return true;
}

static void up_when_subscribed(struct mqtt *m)
{
	if (!subscriptions_stand(m))
		return;
	m->phase = PHASE_UP;
	m->up_at_ms = clock_mono_ms();
	loop_timer_at(m->timer, -1);
	link_wake(&m->link); /* for what was held back */
	report(m, MQTT_UP, "connected");
}

static int send_sub(struct mqtt *m, unsigned i)
{
	struct sub *s = &m->subs[i];
	s->pending = true;
	return s->state == SUB_WANTED ? link_subscribe(&m->link, s->filter, s->qos, s->retained, i)
				      : link_unsubscribe(&m->link, s->filter, i);
}

static bool connected(const struct mqtt *m)
{
	return m->phase == PHASE_SUBSCRIBING || m->phase == PHASE_UP;
}

static void taken_over(struct mqtt *m, const char *text)
{
	link_close(&m->link);
	m->phase = PHASE_FINAL;
	loop_timer_at(m->timer, -1);
	report(m, MQTT_TAKEN_OVER, text);
}

static void subscribe_all(struct mqtt *m)
{
	m->phase = PHASE_SUBSCRIBING;
	for (unsigned i = 0; i < MQTT_SUBS_MAX; i++) {
		struct sub *s = &m->subs[i];
		/* -ENOTCONN: lost already, and about to be told. */
		int r = s->state == SUB_FREE ? 0 : send_sub(m, i);
		if (r < 0 && r != -ENOTCONN) {
			char text[MQTT_TOPIC_MAX + 64];
			snprintf(text, sizeof(text), "cannot subscribe to '%s': %s", s->filter,
				 strerror(-r));
			drop(m, text);
			return;
		}
	}
	up_when_subscribed(m);
}

static void on_connected(struct mqtt *m)
{
	loop_timer_at(m->timer, clock_mono_ms() + CONNECT_DEADLINE_MS);
	m->looked = false;
	link_watch(&m->link, m->conf.will_topic);
	if (m->claimed &&
	    link_subscribe(&m->link, m->conf.will_topic, 0, true, LINK_SUB_CLAIM) == 0) {
		m->phase = PHASE_CHECKING;
		return;
	}
	link_watch(&m->link, NULL);
	subscribe_all(m);
}

/* Of another session that began later than ours, as far as its claim may be believed. */
static bool is_rival(const struct mqtt *m, const char *claim)
{
	uint64_t began_ms = strtoull(claim, NULL, 16); /* "" gives 0; ends at the '.' */
	return strcmp(claim, m->claim) > 0 &&
	       began_ms <= (uint64_t)clock_real_ms() + MQTT_RIVAL_AHEAD_MS;
}

/* Notes a loss that was a rival's doing; whether there were too many of late. */
static bool rivals_insist(struct mqtt *m)
{
	int64_t now_ms = clock_mono_ms();
	m->rivals_ms[m->n_rivals++ % MQTT_RIVAL_LOSSES] = now_ms;
	return m->n_rivals >= MQTT_RIVAL_LOSSES &&
	       now_ms - m->rivals_ms[m->n_rivals % MQTT_RIVAL_LOSSES] <= MQTT_RIVAL_MS;
}

/* The broker works in order: what was retained has come before the UNSUBACK. */
static void check_claim(struct mqtt *m, const struct link_events *ev)
{
	if (!m->looked) {
		m->looked = true;
		link_unsubscribe(&m->link, m->conf.will_topic, LINK_SUB_CLAIM);
	} else if (is_rival(m, ev->claim) && rivals_insist(m)) {
		taken_over(m, "session taken over (0x8E): another client has this client id");
	} else {
		link_watch(&m->link, NULL);
		subscribe_all(m);
	}
}

static void on_acked(struct mqtt *m, const struct link_events *ev)
{
	if (m->phase == PHASE_CHECKING) {
		check_claim(m, ev);
		return;
	}
	for (unsigned i = 0; i < MQTT_SUBS_MAX; i++) {
		struct sub *s = &m->subs[i];
		uint64_t bit = UINT64_C(1) << i;
		if (s->state == SUB_LEAVING && (ev->subs_acked | ev->subs_refused) & bit) {
			s->state = SUB_FREE;
		} else if (s->state == SUB_WANTED && ev->subs_refused & bit) {
			char text[MQTT_TOPIC_MAX + 128];
			snprintf(text, sizeof(text), "subscription to '%s' refused: %s (0x%02X)",
				 s->filter, MQTTReasonCode_toString(ev->refused_code),
				 (unsigned)ev->refused_code);
			drop(m, text);
			return;
		} else if (s->state == SUB_WANTED && ev->subs_acked & bit) {
			s->pending = false;
		}
	}
	if (m->phase == PHASE_SUBSCRIBING)
		up_when_subscribed(m);
}

/* ---- what Paho's threads left for the loop ---- */

static void deliver(struct mqtt *m, const struct link_in *in)
{
	MQTTAsync_message *pm = in->message;
	struct mqtt_message msg = {
		.topic = in->topic,
		.payload = pm->payload,
		.len = (size_t)pm->payloadlen,
		.retained = pm->retained,
	};
	char response[MQTT_TOPIC_MAX];
	MQTTProperty *p =
		MQTTProperties_getProperty(&pm->properties, MQTTPROPERTY_CODE_RESPONSE_TOPIC);
	if (p && p->value.data.len > 0 && p->value.data.len < MQTT_TOPIC_MAX) {
		size_t n = (size_t)p->value.data.len;
		memcpy(response, p->value.data.data, n);
		response[n] = '\0';
		if (strlen(response) == n && topic_ok(response))
			msg.response_topic = response;
	}
	p = MQTTProperties_getProperty(&pm->properties, MQTTPROPERTY_CODE_CORRELATION_DATA);
	if (p && p->value.data.len > 0 && p->value.data.len <= CORRELATION_BYTES_MAX) {
		msg.correlation = p->value.data.data;
		msg.correlation_len = (size_t)p->value.data.len;
	}
	m->handler.message(m->handler.user, &msg);
}

/* false: there is more. */
static bool deliver_some(struct mqtt *m)
{
	for (unsigned n = 0; n < MESSAGES_PER_WAKE; n++) {
		struct link_in *in = link_take_messages(&m->link, 1);
		if (!in)
			return true;
		deliver(m, in);
		link_in_free(in);
	}
	return !link_has_messages(&m->link);
}

static int on_wake(void *user, int fd, uint32_t events)
{
	(void)events;
	struct mqtt *m = user;
	uint64_t ticks;
	ssize_t n = read(fd, &ticks, sizeof(ticks));
	(void)n;
	struct link_events ev;
	bool drained = m->phase != PHASE_UP || deliver_some(m);
	/* The end of a connection waits until what came before it is delivered. */
	link_take_events(&m->link,
			 LINK_CONNECTED | LINK_ACKED | LINK_WRITABLE | LINK_SETTLED |
				 (drained ? LINK_FAILED | LINK_LOST | LINK_TAKEN_OVER : 0),
			 &ev);
	if (!drained)
		link_wake(&m->link);
	if (ev.bits & LINK_SETTLED)
		link_feed(&m->link);
	if (ev.bits & LINK_TAKEN_OVER) {
		taken_over(m, ev.text);
	} else if (ev.bits & (LINK_FAILED | LINK_LOST)) {
		drop(m, ev.text);
	} else {
		if (ev.bits & LINK_CONNECTED)
			on_connected(m);
		if (ev.bits & LINK_ACKED)
			on_acked(m, &ev);
		if (ev.bits & LINK_WRITABLE && m->phase == PHASE_UP && m->handler.writable)
			m->handler.writable(m->handler.user);
	}
	return 0;
}

/* ---- for callers ---- */

static int check_conf(const struct mqtt_conf *c, struct err *err)
{
	if (!text_ok(c->host, sizeof(c->host) - 1))
		return err_set(err, -EINVAL, "broker host: found '%.64s', expected a name",
			       c->host);
	if (c->port < 1 || c->port > 65535)
		return err_set(err, -EINVAL, "broker port: found %d, expected 1..65535", c->port);
	if (!text_ok(c->client_id, sizeof(c->client_id) - 1))
		return err_set(err, -EINVAL, "MQTT client id: found '%.64s', expected 1..%zu bytes",
			       c->client_id, sizeof(c->client_id) - 1);
	if (c->keepalive_s < 0 || c->keepalive_s > 65535)
		return err_set(err, -EINVAL, "keepalive: found %d s, expected 0..65535",
			       c->keepalive_s);
	if (c->will_topic[0] && !topic_ok(c->will_topic))
		return err_set(err, -EINVAL,
			       "topic of the Will: found '%.64s', expected no wildcard",
			       c->will_topic);
	return 0;
}

static int init(struct mqtt *m, struct err *err)
{
	int r = link_init(&m->link, err);
	if (r < 0)
		return r;
	r = loop_add_fd(m->loop, m->link.event_fd, EPOLLIN, on_wake, m, &m->source);
	if (r == 0)
		r = loop_add_timer(m->loop, on_timer, m, &m->timer);
	if (r == 0)
		r = loop_add_timer(m->loop, on_kick, m, &m->kick);
	return r < 0 ? err_errno(err, r, "MQTT session") : 0;
}

int mqtt_new(struct loop *loop, const struct mqtt_conf *conf, const struct mqtt_handler *handler,
	     struct mqtt **ret, struct err *err)
{
	int r = check_conf(conf, err);
	if (r < 0)
		return r;
	struct mqtt *m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(err, -ENOMEM, "MQTT session: out of memory");
	m->loop = loop;
	m->conf = *conf;
	m->handler = *handler;
	if (m->conf.reconnect_first_ms <= 0)
		m->conf.reconnect_first_ms = RECONNECT_FIRST_MS;
	if (m->conf.reconnect_cap_ms <= 0)
		m->conf.reconnect_cap_ms = RECONNECT_CAP_MS;
	if (!m->conf.keepalive_s)
		m->conf.keepalive_s = KEEPALIVE_S;
	rng_init(&m->rng, rng_entropy());
	snprintf(m->claim, sizeof(m->claim), "%016" PRIx64 ".%016" PRIx64,
		 (uint64_t)clock_real_ms(), rng_u64(&m->rng));
	bool v6 = strchr(conf->host, ':');
	snprintf(m->uri, sizeof(m->uri), v6 ? "%s://[%s]:%d" : "%s://%s:%d",
		 *conf->tls.certificate ? "ssl" : "tcp", conf->host, conf->port);
	r = init(m, err);
	if (r < 0) {
		mqtt_free(m, 0, false);
		return r;
	}
	*ret = m;
	return 0;
}

void mqtt_free(struct mqtt *m, int timeout_ms, bool with_will)
{
	if (!m)
		return;
	if (connected(m) || m->phase == PHASE_CHECKING)
		link_finish(&m->link, timeout_ms, with_will);
	loop_source_free(m->source);
	loop_source_free(m->timer);
	loop_source_free(m->kick);
	link_done(&m->link);
	free(m);
}

int mqtt_start(struct mqtt *m, struct err *err)
{
	if (m->phase != PHASE_IDLE)
		return err_set(err, -EALREADY, "MQTT session: already started");
	return open_link(m, err);
}

static struct sub *find_sub(struct mqtt *m, const char *filter)
{
	for (size_t i = 0; i < MQTT_SUBS_MAX; i++)
		if (m->subs[i].state != SUB_FREE && strcmp(m->subs[i].filter, filter) == 0)
			return &m->subs[i];
	return NULL;
}

int mqtt_subscribe(struct mqtt *m, const char *filter, int qos, bool retained)
{
	if (!text_ok(filter, MQTT_TOPIC_MAX - 1) || qos < 0 || qos > 1)
		return -EINVAL;
	struct sub *s = find_sub(m, filter);
	for (size_t i = 0; !s && i < MQTT_SUBS_MAX; i++)
		if (m->subs[i].state == SUB_FREE)
			s = &m->subs[i];
	if (!s)
		return -ENOSPC;
	*s = (struct sub){.state = SUB_WANTED, .qos = qos, .retained = retained};
	snprintf(s->filter, sizeof(s->filter), "%s", filter);
	if (!connected(m))
		return 0;
	int r = send_sub(m, (unsigned)(s - m->subs));
	return r == -ENOTCONN ? 0 : r;
}

int mqtt_unsubscribe(struct mqtt *m, const char *filter)
{
	struct sub *s = find_sub(m, filter);
	if (!s || s->state == SUB_LEAVING)
		return -ENOENT;
	/* A durable session remembers it at the broker: kept until the broker has confirmed. */
	s->state = SUB_LEAVING;
	if (connected(m)) {
		int r = send_sub(m, (unsigned)(s - m->subs));
		if (m->phase == PHASE_SUBSCRIBING)
			up_when_subscribed(m);
		return r == -ENOTCONN ? 0 : r;
	}
	if (m->phase == PHASE_IDLE && m->conf.clean_start)
		s->state = SUB_FREE;
	return 0;
}

int mqtt_publish(struct mqtt *m, const struct mqtt_publish *p)
{
	if (m->phase != PHASE_UP)
		return -ENOTCONN;
	if (!topic_ok(p->topic) || p->qos < 0 || p->qos > 1 ||
	    (p->response_topic && !topic_ok(p->response_topic)))
		return -EINVAL;
	if (p->len > MQTT_PAYLOAD_MAX || p->correlation_len > CORRELATION_BYTES_MAX)
		return -E2BIG;
	bool claim = p->retain && m->conf.will_retain && strcmp(p->topic, m->conf.will_topic) == 0;
	int r = link_publish(&m->link, p, claim ? m->claim : NULL);
	m->claimed |= r == 0 && claim;
	if (r == 0)
		start_kicking(m);
	return r;
}

bool mqtt_is_up(const struct mqtt *m)
{
	return m->phase == PHASE_UP;
}

bool mqtt_is_subscribed(const struct mqtt *m)
{
	return mqtt_is_up(m) && subscriptions_stand(m);
}

bool mqtt_has_filter(struct mqtt *m, const char *filter)
{
	const struct sub *s = find_sub(m, filter);
	return s && s->state == SUB_WANTED;
}

void mqtt_get_stats(const struct mqtt *m, struct mqtt_stats *ret)
{
	link_get_stats(&m->link, ret);
}
