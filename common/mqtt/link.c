/* Model. Paho (one send and one receive thread per process) calls back with its own lock held; a
 * callback here takes `lock`, notes what happened in the link and writes its eventfd. Nothing in
 * this file calls Paho while holding `lock`, so the two locks always nest in one order.
 *
 * A callback's context is a number, not a pointer: generation << 20 | use << 8 | index. It is
 * looked up among the registered links, so one that comes late, for a connection that has been
 * destroyed, finds nothing and is ignored.
 *
 * Paho reports a publish of QoS 0 after its last byte went into the socket, but it can lose that
 * report when the write was a partial one. It writes in order, though: when a later publish is
 * done, the earlier ones of QoS 0 are too. settle() relies on that.
 *
 * Paho stalls. After a partial write its receive thread sits in poll() for reading, up to a
 * second, before it goes on writing; and its send thread is not woken when that write is complete,
 * nor when a PUBACK makes room under the broker's receive maximum. link_kick() helps both: a
 * signal interrupts that poll(), and a CONNECT, which Paho drops for a handle that is connected,
 * wakes the send thread. It comes at a price (Paho sleeps 0.1 s after an interrupted poll unless
 * kicked again), so the caller kicks only while there is no progress.
 *
 * An anchor, a handle that never connects, keeps Paho's threads while there is any link: else
 * destroying the only handle would stop them and wait up to seconds for that. */
#include "common/mqtt/link.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define GENERATION_MASK	    0xfffu
#define USE_MASK	    0xfffu
#define INDEX_MASK	    0xffu
#define PACKET_OVERHEAD_MAX 2048 /* header, topic, properties of a message we accept */
#define RECEIVE_MAX	    1000 /* QoS 1 messages the broker may have in flight to us */
#define PAHO_CONNECT_S	    30 /* longer than our own deadline: that one decides */
#define DISCONNECT_GRACE_MS 300
#define DRAIN_KICK_MS	    10
#define COST_FIXED	    256 /* of a queued message, beside its bytes */
#define CLAIM_KEY	    "session" /* user property */
#define SESSION_TAKEN_OVER  0x8e
#define DISCONNECT_AND_WILL 0x04
#define KICK_SIGNAL	    SIGURG /* ignored by default, and free in our programs */
#define KICK_BYTES	    16384 /* a publish that the socket may have taken only a part of */
#define PACKET_PUBACK	    4
#define PAHO_NO_MEMORY	    (-99) /* PAHO_MEMORY_ERROR, which its public headers leave out */

_Static_assert(MQTT_OUT_MAX <= INDEX_MASK + 1, "a slot's index has 8 bits of a context");
_Static_assert(LINK_SUB_CLAIM < 64, "one bit a subscription");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct link *links;
static unsigned last_generation;
static MQTTAsync anchor; /* loop thread only */
static unsigned n_links;

static void *context_of(unsigned generation, unsigned use, unsigned index)
{
	return (void *)(uintptr_t)((generation & GENERATION_MASK) << 20 | (use & USE_MASK) << 8 |
				   (index & INDEX_MASK));
}

static unsigned context_use(const void *context)
{
	return (unsigned)((uintptr_t)context >> 8) & USE_MASK;
}

static unsigned context_index(const void *context)
{
	return (unsigned)(uintptr_t)context & INDEX_MASK;
}

/* Takes the lock; NULL (and not locked) when the connection is of the past. */
static struct link *enter(const void *context)
{
	unsigned generation = (unsigned)((uintptr_t)context >> 20) & GENERATION_MASK;
	pthread_mutex_lock(&lock);
	for (struct link *l = links; l; l = l->next)
		if (generation && l->generation == generation)
			return l;
	pthread_mutex_unlock(&lock);
	return NULL;
}

void link_wake(struct link *l)
{
	uint64_t one = 1;
	/* Full (EAGAIN) means readable: the loop will come. */
	ssize_t n = write(l->event_fd, &one, sizeof(one));
	(void)n;
}

static void leave(struct link *l, unsigned events)
{
	l->events.bits |= events;
	if (events)
		link_wake(l);
	pthread_mutex_unlock(&lock);
}

static void set_text(struct link *l, int code, const char *text)
{
	if (code >= 0x80 && code <= 0xff)
		snprintf(l->events.text, sizeof(l->events.text), "%s (0x%02X)",
			 MQTTReasonCode_toString((enum MQTTReasonCodes)code), (unsigned)code);
	else
		snprintf(l->events.text, sizeof(l->events.text), "%s", text);
}

/* ---- callbacks, on Paho's threads ---- */

static void on_connected(void *context, MQTTAsync_successData5 *data)
{
	struct link *l = enter(context);
	if (!l)
		return;
	int max = MQTTProperties_getNumericValue(&data->properties,
						       MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE);
	l->packet_max = max > 0 ? (uint32_t)max : UINT32_MAX;
	l->stats.connects++;
	l->receiver = pthread_self();
	l->connected = true;
	leave(l, LINK_CONNECTED);
}

static void on_connect_failed(void *context, MQTTAsync_failureData5 *data)
{
	struct link *l = enter(context);
	if (!l)
		return;
	set_text(l, data->reasonCode >= 0x80 ? (int)data->reasonCode : data->code,
		 data->message ? data->message : "cannot connect");
	leave(l, LINK_FAILED);
}

static void on_lost(void *context, char *cause)
{
	struct link *l = enter(context);
	if (!l)
		return;
	/* A DISCONNECT before it has said more. */
	if (!(l->events.bits & (LINK_LOST | LINK_TAKEN_OVER)))
		set_text(l, 0, cause ? cause : "connection lost");
	leave(l, LINK_LOST);
}

static void on_server_disconnect(void *context, MQTTProperties *properties,
				 enum MQTTReasonCodes reason)
{
	(void)properties;
	struct link *l = enter(context);
	if (!l)
		return;
	set_text(l, (int)reason, "the broker disconnected us");
	leave(l, reason == SESSION_TAKEN_OVER ? LINK_TAKEN_OVER : LINK_LOST);
}

/* Whose message this is, by its user property; hostile until checked. */
static void read_claim(struct link *l, const MQTTProperties *properties)
{
	for (int i = 0; i < properties->count; i++) {
		const MQTTProperty *p = &properties->array[i];
		if (p->identifier != MQTTPROPERTY_CODE_USER_PROPERTY ||
		    p->value.data.len != (int)strlen(CLAIM_KEY) ||
		    memcmp(p->value.data.data, CLAIM_KEY, strlen(CLAIM_KEY)) != 0 ||
		    p->value.value.len != LINK_CLAIM_LEN)
			continue;
		memcpy(l->events.claim, p->value.value.data, LINK_CLAIM_LEN);
		l->events.claim[LINK_CLAIM_LEN] = '\0';
		if (strspn(l->events.claim, "0123456789abcdef.") == LINK_CLAIM_LEN)
			return;
		l->events.claim[0] = '\0';
	}
}

static int on_message(void *context, char *topic, int topic_len, MQTTAsync_message *message)
{
	/* Against its manual, Paho gives the length or 0. A NUL within a topic is forbidden. */
	size_t topic_bytes = strlen(topic);
	bool whole = topic_len == 0 || (size_t)topic_len == topic_bytes;
	struct link_in *in = whole ? malloc(sizeof(*in)) : NULL;
	size_t cost = COST_FIXED + topic_bytes + (size_t)message->payloadlen +
		      (size_t)message->properties.length;
	struct link *l = enter(context);
	bool watched = l && l->watched && strcmp(l->watched, topic) == 0;
	bool keep = l && in && !watched && topic_bytes < MQTT_TOPIC_MAX &&
		    message->payloadlen <= MQTT_PAYLOAD_MAX && l->in_count < MQTT_IN_MAX &&
		    l->in_bytes + cost <= MQTT_IN_BYTES_MAX;
	if (keep) {
		*in = (struct link_in){.message = message, .topic = topic, .cost_bytes = cost};
		*l->in_last = in;
		l->in_last = &in->next;
		l->in_count++;
		l->in_bytes += cost;
		l->stats.in_messages++;
		l->stats.in_bytes += (uint64_t)message->payloadlen;
		link_wake(l);
	} else if (watched) {
		read_claim(l, &message->properties);
	} else if (l) {
		l->stats.in_dropped++;
	}
	if (l)
		leave(l, 0);
	if (!keep) {
		free(in);
		MQTTAsync_freeMessage(&message);
		MQTTAsync_free(topic);
	}
	return 1; /* taken, in either case: else Paho queues it without limit */
}

static void release(struct link *l, struct link_slot *s)
{
	s->used = false;
	l->out_done++;
	l->out_count--;
	l->out_bytes -= s->cost_bytes;
}

static void settle(const void *context, bool refused)
{
	struct link *l = enter(context);
	if (!l)
		return;
	struct link_slot *s = &l->slots[context_index(context)];
	if (s->used && s->use == context_use(context)) {
		uint64_t seq = s->seq;
		release(l, s);
		for (unsigned i = 0; i < MQTT_OUT_MAX; i++)
			if (l->slots[i].used && l->slots[i].qos == 0 && l->slots[i].seq < seq)
				release(l, &l->slots[i]);
		if (refused)
			l->stats.out_refused++;
	}
	bool room = l->refused && l->out_count < MQTT_OUT_MAX / 2 &&
		    l->out_bytes < MQTT_OUT_BYTES_MAX / 2;
	if (room)
		l->refused = false;
	if (l->draining && l->out_count == 0)
		link_wake(l);
	leave(l, room ? LINK_WRITABLE : 0);
}

static void on_published(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	settle(context, false);
}

static void on_publish_failed(void *context, MQTTAsync_failureData5 *data)
{
	/* Only a PUBACK carries a reason; of a failed write the rest is not even initialized. */
	settle(context, data->packet_type == PACKET_PUBACK && data->reasonCode >= 0x80);
}

static void on_acked(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	struct link *l = enter(context);
	if (!l)
		return;
	l->events.subs_acked |= UINT64_C(1) << context_index(context);
	leave(l, LINK_ACKED);
}

static void on_sub_failed(void *context, MQTTAsync_failureData5 *data)
{
	if (data->reasonCode < 0x80)
		return; /* the connection broke; on_lost() follows */
	struct link *l = enter(context);
	if (!l)
		return;
	l->events.subs_refused |= UINT64_C(1) << context_index(context);
	l->events.refused_code = (int)data->reasonCode;
	leave(l, LINK_ACKED);
}

static void on_closed(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	struct link *l = enter(context);
	if (l)
		leave(l, LINK_CLOSED);
}

/* ---- opening and closing, on the loop's thread ---- */

static int create(MQTTAsync *ret, const char *uri, const char *id)
{
	MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
	options.maxBufferedMessages = 2 * MQTT_OUT_MAX; /* link_publish() decides earlier */
	int rc = MQTTAsync_createWithOptions(ret, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL,
					     &options);
	return rc == MQTTASYNC_SUCCESS ? 0 : rc == PAHO_NO_MEMORY ? -ENOMEM : -EINVAL;
}

static void on_kick(int signo)
{
	(void)signo; /* to interrupt poll() is all */
}

static void prepare_kick(void)
{
	struct sigaction now, ours = {.sa_handler = on_kick};
	if (sigaction(KICK_SIGNAL, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		sigaction(KICK_SIGNAL, &ours, NULL);
}

int link_init(struct link *l, struct err *err)
{
	*l = (struct link){0};
	l->in_last = &l->in_first;
	l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->event_fd < 0)
		return err_errno(err, -errno, "eventfd");
	int r = n_links ? 0 : create(&anchor, "tcp://127.0.0.1:1", "anchor");
	if (r < 0) {
		close(l->event_fd);
		l->event_fd = -1;
		return err_errno(err, r, "Paho MQTT");
	}
	prepare_kick();
	n_links++;
	l->registered = true;
	pthread_mutex_lock(&lock);
	l->next = links;
	links = l;
	pthread_mutex_unlock(&lock);
	return 0;
}

void link_done(struct link *l)
{
	if (!l->registered)
		return;
	link_close(l);
	pthread_mutex_lock(&lock);
	for (struct link **p = &links; *p; p = &(*p)->next) {
		if (*p == l) {
			*p = l->next;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	for (struct link_in *in; (in = link_take_messages(l, 1));)
		link_in_free(in);
	l->registered = false;
	if (--n_links == 0)
		MQTTAsync_destroy(&anchor);
	close(l->event_fd);
	l->event_fd = -1;
}

/* With the lock held. */
static unsigned new_generation(void)
{
	for (;;) {
		unsigned g = ++last_generation & GENERATION_MASK;
		bool taken = g == 0;
		for (struct link *l = links; l; l = l->next)
			taken |= l->generation == g;
		if (!taken)
			return g;
	}
}

static void forget(struct link *l)
{
	uint64_t ticks;
	ssize_t n = read(l->event_fd, &ticks, sizeof(ticks));
	(void)n;
	l->events = (struct link_events){0};
	for (unsigned i = 0; i < MQTT_OUT_MAX; i++)
		l->slots[i].used = false;
	l->out_count = 0;
	l->out_bytes = 0;
	l->refused = false;
	l->draining = false;
	l->watched = NULL;
	l->connected = false;
}

static void add_int(MQTTProperties *properties, enum MQTTPropertyCodes code, uint32_t value)
{
	MQTTProperty p = {.identifier = code};
	if (code == MQTTPROPERTY_CODE_RECEIVE_MAXIMUM)
		p.value.integer2 = (unsigned short)value;
	else
		p.value.integer4 = value;
	MQTTProperties_add(properties, &p);
}

static void add_claim(MQTTProperties *properties, const char *claim)
{
	MQTTProperty p = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
	p.value.data = (MQTTLenString){(int)strlen(CLAIM_KEY), (char *)CLAIM_KEY};
	p.value.value = (MQTTLenString){LINK_CLAIM_LEN, (char *)claim};
	MQTTProperties_add(properties, &p);
}

static int start(struct link *l, const struct mqtt_conf *conf, const char *claim, void *context)
{
	MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
	MQTTProperties will_properties = MQTTProperties_initializer;
	MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer5;
	MQTTProperties properties = MQTTProperties_initializer;
	add_int(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, conf->session_expiry_s);
	add_int(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, RECEIVE_MAX);
	add_int(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
		MQTT_PAYLOAD_MAX + PACKET_OVERHEAD_MAX);
	o.connectProperties = &properties;
	o.keepAliveInterval = conf->keepalive_s;
	o.cleanstart = conf->clean_start;
	o.connectTimeout = PAHO_CONNECT_S;
	o.maxInflight = MQTT_OUT_MAX;
	o.onSuccess5 = on_connected;
	o.onFailure5 = on_connect_failed;
	o.context = context;
	if (conf->will_topic[0]) {
		will.topicName = conf->will_topic;
		will.message = conf->will_payload;
		will.retained = conf->will_retain;
		will.qos = 1;
		add_claim(&will_properties, claim);
		o.will = &will;
		o.willProperties = &will_properties;
	}
	MQTTAsync_setCallbacks(l->handle, context, on_lost, on_message, NULL);
	MQTTAsync_setDisconnected(l->handle, context, on_server_disconnect);
	/* Paho's threads start here, and must take no signal that the loop waits for. */
	sigset_t all, before;
	sigfillset(&all);
	sigdelset(&all, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = MQTTAsync_connect(l->handle, &o);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	MQTTProperties_free(&properties);
	MQTTProperties_free(&will_properties);
	return rc;
}

int link_open(struct link *l, const struct mqtt_conf *conf, const char *uri, const char *claim,
	      struct err *err)
{
	link_close(l);
	int r = create(&l->handle, uri, conf->client_id);
	if (r < 0)
		return err_errno(err, r, "MQTT client '%s' for %s", conf->client_id, uri);
	pthread_mutex_lock(&lock);
	l->generation = new_generation();
	l->packet_max = UINT32_MAX;
	void *context = context_of(l->generation, 0, 0);
	pthread_mutex_unlock(&lock);
	int rc = start(l, conf, claim, context);
	if (rc == MQTTASYNC_SUCCESS)
		return 0;
	link_close(l);
	return err_set(err, -EINVAL, "MQTT client '%s' for %s: %s", conf->client_id, uri,
		       MQTTAsync_strerror(rc) ? MQTTAsync_strerror(rc) : "cannot connect");
}

void link_close(struct link *l)
{
	pthread_mutex_lock(&lock);
	l->generation = 0;
	forget(l);
	pthread_mutex_unlock(&lock);
	if (l->handle)
		MQTTAsync_destroy(&l->handle);
	l->handle = NULL;
}

static uint32_t in_flight(struct link *l, bool draining)
{
	pthread_mutex_lock(&lock);
	l->draining = draining;
	uint32_t n = l->events.bits & (LINK_LOST | LINK_TAKEN_OVER) ? 0 : l->out_count;
	pthread_mutex_unlock(&lock);
	return n;
}

static void wait_event(struct link *l, int64_t until_ms)
{
	int64_t left_ms = until_ms - clock_mono_ms();
	struct pollfd p = {.fd = l->event_fd, .events = POLLIN};
	uint64_t ticks;
	if (left_ms > 0 && poll(&p, 1, (int)left_ms) > 0) {
		ssize_t n = read(l->event_fd, &ticks, sizeof(ticks));
		(void)n;
	}
}

void link_finish(struct link *l, int timeout_ms, bool with_will)
{
	int64_t until_ms = clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : 0);
	while (l->handle && in_flight(l, true) > 0 && clock_mono_ms() < until_ms) {
		wait_event(l, MIN_OF(until_ms, clock_mono_ms() + DRAIN_KICK_MS));
		link_kick(l);
	}
	MQTTAsync_disconnectOptions o = MQTTAsync_disconnectOptions_initializer5;
	o.reasonCode = with_will ? DISCONNECT_AND_WILL : 0;
	o.onSuccess5 = on_closed;
	o.context = context_of(l->generation, 0, 0);
	if (l->handle && MQTTAsync_disconnect(l->handle, &o) == MQTTASYNC_SUCCESS) {
		struct link_events ev = {0};
		until_ms = clock_mono_ms() + DISCONNECT_GRACE_MS;
		while (!ev.bits && clock_mono_ms() < until_ms) {
			wait_event(l, until_ms);
			link_take_events(l, LINK_CLOSED | LINK_LOST | LINK_TAKEN_OVER, &ev);
		}
	}
	link_close(l);
}

/* ---- traffic, on the loop's thread ---- */

static int errno_of(int rc)
{
	switch (rc) {
	case MQTTASYNC_SUCCESS:
		return 0;
	case MQTTASYNC_DISCONNECTED:
		return -ENOTCONN;
	case MQTTASYNC_MAX_BUFFERED_MESSAGES:
	case MQTTASYNC_NO_MORE_MSGIDS:
		return -EAGAIN;
	case PAHO_NO_MEMORY:
		return -ENOMEM;
	case MQTTASYNC_FAILURE:
		return -EIO;
	default: /* bad UTF-8, bad QoS ... */
		return -EINVAL;
	}
}

int link_subscribe(struct link *l, const char *filter, int qos, bool retained, unsigned index)
{
	if (!l->handle)
		return -ENOTCONN;
	MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
	o.onSuccess5 = on_acked;
	o.onFailure5 = on_sub_failed;
	o.context = context_of(l->generation, 0, index);
	o.subscribeOptions.retainHandling = retained ? 0 : 2;
	return errno_of(MQTTAsync_subscribe(l->handle, filter, qos, &o));
}

int link_unsubscribe(struct link *l, const char *filter, unsigned index)
{
	if (!l->handle)
		return -ENOTCONN;
	MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
	/* However it ends: there is nothing left to try. */
	o.onSuccess5 = on_acked;
	o.onFailure5 = on_sub_failed;
	o.context = context_of(l->generation, 0, index);
	return errno_of(MQTTAsync_unsubscribe(l->handle, filter, &o));
}

static int take_slot(struct link *l, const struct mqtt_publish *p, size_t cost, void **ret_context)
{
	int r = 0;
	pthread_mutex_lock(&lock);
	if (cost > l->packet_max) {
		r = -E2BIG;
	} else if (l->out_count >= MQTT_OUT_MAX || l->out_bytes + cost > MQTT_OUT_BYTES_MAX) {
		l->refused = true;
		r = -EAGAIN;
	} else {
		unsigned i = 0;
		while (l->slots[i].used)
			i++;
		struct link_slot *s = &l->slots[i];
		*s = (struct link_slot){.seq = l->seq++,
					.cost_bytes = (uint32_t)cost,
					.use = (s->use + 1) & USE_MASK,
					.used = true,
					.qos = (uint8_t)p->qos};
		l->out_count++;
		l->out_bytes += cost;
		*ret_context = context_of(l->generation, s->use, i);
	}
	pthread_mutex_unlock(&lock);
	return r;
}

static void add_data(MQTTProperties *properties, enum MQTTPropertyCodes code, const void *data,
		     size_t len)
{
	MQTTProperty p = {.identifier = code};
	p.value.data.data = (char *)data; /* copied, not written to */
	p.value.data.len = (int)len;
	MQTTProperties_add(properties, &p);
}

void link_watch(struct link *l, const char *topic)
{
	pthread_mutex_lock(&lock);
	l->watched = topic;
	pthread_mutex_unlock(&lock);
}

int link_publish(struct link *l, const struct mqtt_publish *p, const char *claim)
{
	if (!l->handle)
		return -ENOTCONN;
	size_t cost = COST_FIXED + strlen(p->topic) + p->len + p->correlation_len +
		      (p->response_topic ? strlen(p->response_topic) : 0);
	void *context = NULL;
	int r = take_slot(l, p, cost, &context);
	if (r < 0)
		return r;
	MQTTAsync_message message = MQTTAsync_message_initializer;
	message.payload = (void *)p->payload; /* copied, not written to */
	message.payloadlen = (int)p->len;
	message.qos = p->qos;
	message.retained = p->retain;
	if (p->expiry_s)
		add_int(&message.properties, MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
			p->expiry_s);
	if (p->response_topic)
		add_data(&message.properties, MQTTPROPERTY_CODE_RESPONSE_TOPIC, p->response_topic,
			 strlen(p->response_topic));
	if (p->correlation)
		add_data(&message.properties, MQTTPROPERTY_CODE_CORRELATION_DATA, p->correlation,
			 p->correlation_len);
	if (claim)
		add_claim(&message.properties, claim);
	MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
	o.onSuccess5 = on_published;
	o.onFailure5 = on_publish_failed;
	o.context = context;
	r = errno_of(MQTTAsync_sendMessage(l->handle, p->topic, &message, &o));
	MQTTProperties_free(&message.properties);
	pthread_mutex_lock(&lock);
	if (r == 0) {
		l->stats.out_messages++;
		l->stats.out_bytes += p->len;
	} else {
		release(l, &l->slots[context_index(context)]);
	}
	pthread_mutex_unlock(&lock);
	return r;
}

uint32_t link_in_flight(struct link *l, uint64_t *ret_done)
{
	pthread_mutex_lock(&lock);
	uint32_t n = l->out_count;
	*ret_done = l->out_done;
	pthread_mutex_unlock(&lock);
	return n;
}

void link_kick(struct link *l)
{
	pthread_mutex_lock(&lock);
	bool alive = l->connected && !(l->events.bits & (LINK_LOST | LINK_TAKEN_OVER));
	bool partial = false;
	for (unsigned i = 0; i < MQTT_OUT_MAX && alive && !partial; i++)
		partial = l->slots[i].used && l->slots[i].cost_bytes >= KICK_BYTES;
	if (partial)
		pthread_kill(l->receiver, KICK_SIGNAL); /* the anchor keeps that thread */
	pthread_mutex_unlock(&lock);
	if (alive)
		MQTTAsync_reconnect(l->handle);
}

void link_take_events(struct link *l, unsigned mask, struct link_events *ret)
{
	pthread_mutex_lock(&lock);
	*ret = l->events;
	ret->bits &= mask;
	l->events.bits &= ~mask;
	if (mask & LINK_ACKED)
		l->events.subs_acked = l->events.subs_refused = 0;
	pthread_mutex_unlock(&lock);
}

struct link_in *link_take_messages(struct link *l, unsigned max)
{
	pthread_mutex_lock(&lock);
	struct link_in *first = l->in_first, **end = &first;
	while (*end && max--) {
		l->in_count--;
		l->in_bytes -= (*end)->cost_bytes;
		end = &(*end)->next;
	}
	l->in_first = *end;
	if (!l->in_first)
		l->in_last = &l->in_first;
	*end = NULL;
	pthread_mutex_unlock(&lock);
	return first;
}

void link_in_free(struct link_in *in)
{
	MQTTAsync_freeMessage(&in->message);
	MQTTAsync_free(in->topic);
	free(in);
}

bool link_has_messages(struct link *l)
{
	pthread_mutex_lock(&lock);
	bool any = l->in_first != NULL;
	pthread_mutex_unlock(&lock);
	return any;
}

void link_get_stats(const struct link *l, struct mqtt_stats *ret)
{
	pthread_mutex_lock(&lock);
	*ret = l->stats;
	pthread_mutex_unlock(&lock);
}
