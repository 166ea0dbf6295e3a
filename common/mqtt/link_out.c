/* What goes out on a link: publishes and their settling, subscriptions, and the kick.
 *
 * Publishes wait here, and Paho gets few at a time: what it has not begun to write when a
 * connection is destroyed it leaks (1.3.12 forgets the payloads), and what is beyond the broker's
 * receive maximum it forgets to send until it is given something else. A big one goes alone.
 *
 * Paho reports a publish of QoS 0 after its last byte went into the socket. Some of its versions
 * can lose that report when the write was a partial one, and we would wait for ever. It writes in
 * order, though: what was given to it before something that the broker has answered is written.
 * So a later publish that is done settles the earlier ones of QoS 0, and where there is no later
 * one, link_probe() sends what costs least: it unsubscribes from nothing.
 *
 * Paho stalls. After a partial write its receive thread sits in poll() for reading, up to a
 * second, before it goes on writing; and its send thread is not woken when that write is complete.
 * link_kick() helps both: a signal interrupts that poll(), and a CONNECT, which Paho drops for a
 * handle that is connected, wakes the send thread. Measured with the kernel's default socket
 * buffers and an MTU of 1500, blocks of 128 KiB: 2 to 4 MB/s without, 37 to 180 MB/s with it. It
 * comes at a price (Paho sleeps 0.1 s after an interrupted poll() unless kicked again), so the
 * caller kicks only while there is no progress, and twice. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/mqtt/link.h"

#define FEED_BYTES     65536 /* that Paho is given at a time, unless one alone is bigger */
#define KICK_BYTES     16384 /* a publish that the socket may have taken only a part of */
#define PROBE_FILTER   "-"   /* nobody subscribes to that */
#define PACKET_PUBACK  4
#define PAHO_NO_MEMORY (-99) /* PAHO_MEMORY_ERROR, which its public headers leave out */

static unsigned context_use(const void *context)
{
	return (unsigned)((uintptr_t)context >> 8) & LINK_USE_MASK;
}

static unsigned context_index(const void *context)
{
	return (unsigned)(uintptr_t)context & LINK_INDEX_MASK;
}

static void release(struct link *l, struct link_slot *s)
{
	s->used = false;
	l->fed_count--;
	l->fed_bytes -= s->cost_bytes;
	l->out_done++;
	l->out_count--;
	l->out_bytes -= s->cost_bytes;
}

void link_out_clear(struct link *l)
{
	for (struct link_out *out; (out = l->out_first);) {
		l->out_first = out->next;
		free(out);
	}
	l->out_last = &l->out_first;
	for (unsigned i = 0; i < LINK_FEED_MAX; i++)
		l->slots[i].used = false;
	l->probing = false;
	l->fed_count = l->out_count = 0;
	l->fed_bytes = l->out_bytes = 0;
}

/* QoS 0 and published before `seq`. */
static void release_older(struct link *l, uint64_t seq)
{
	for (unsigned i = 0; i < LINK_FEED_MAX; i++)
		if (l->slots[i].used && l->slots[i].qos == 0 && l->slots[i].seq < seq)
			release(l, &l->slots[i]);
}

static void leave_released(struct link *l)
{
	unsigned events = l->out_first ? LINK_SETTLED : 0;
	if (l->refused && l->out_count < MQTT_OUT_MAX / 2 &&
	    l->out_bytes < MQTT_OUT_BYTES_MAX / 2) {
		l->refused = false;
		events |= LINK_WRITABLE;
	}
	if (l->draining && l->out_count == 0)
		link_wake(l);
	link_leave(l, events);
}

static void settle(const void *context, bool refused)
{
	struct link *l = link_enter(context);
	if (!l)
		return;
	struct link_slot *s = &l->slots[context_index(context) % LINK_FEED_MAX];
	if (s->used && s->use == context_use(context)) {
		uint64_t seq = s->seq;
		release(l, s);
		release_older(l, seq);
		if (refused)
			l->stats.out_refused++;
	}
	leave_released(l);
}

static void on_probed(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	struct link *l = link_enter(context);
	if (!l)
		return;
	l->probing = false;
	release_older(l, l->probe_seq);
	leave_released(l);
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
	struct link *l = link_enter(context);
	if (!l)
		return;
	l->events.subs_acked |= UINT64_C(1) << context_index(context);
	link_leave(l, LINK_ACKED);
}

static void on_sub_failed(void *context, MQTTAsync_failureData5 *data)
{
	if (data->reasonCode < 0x80)
		return; /* the connection broke; on_lost() follows */
	struct link *l = link_enter(context);
	if (!l)
		return;
	l->events.subs_refused |= UINT64_C(1) << context_index(context);
	l->events.refused_code = (int)data->reasonCode;
	link_leave(l, LINK_ACKED);
}

/* ---- on the loop's thread ---- */

void link_add_int(MQTTProperties *properties, enum MQTTPropertyCodes code, uint32_t value)
{
	MQTTProperty p = {.identifier = code};
	if (code == MQTTPROPERTY_CODE_RECEIVE_MAXIMUM)
		p.value.integer2 = (unsigned short)value;
	else
		p.value.integer4 = value;
	MQTTProperties_add(properties, &p);
}

void link_add_claim(MQTTProperties *properties, const char *claim)
{
	MQTTProperty p = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
	p.value.data = (MQTTLenString){(int)strlen(LINK_CLAIM_KEY), (char *)LINK_CLAIM_KEY};
	p.value.value = (MQTTLenString){LINK_CLAIM_LEN, (char *)claim};
	MQTTProperties_add(properties, &p);
}

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
	o.context = link_context(l->generation, 0, index);
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
	o.context = link_context(l->generation, 0, index);
	return errno_of(MQTTAsync_unsubscribe(l->handle, filter, &o));
}

/* A slot for a publish that Paho is about to be given. With the lock held. */
static void *take_slot(struct link *l, int qos, size_t cost)
{
	unsigned i = 0;
	while (l->slots[i].used)
		i++;
	struct link_slot *s = &l->slots[i];
	*s = (struct link_slot){.seq = l->seq++,
				.cost_bytes = (uint32_t)cost,
				.use = (s->use + 1) & LINK_USE_MASK,
				.used = true,
				.qos = (uint8_t)qos};
	l->fed_count++;
	l->fed_bytes += cost;
	return link_context(l->generation, s->use, i);
}

/* With the lock held. */
static bool may_feed(const struct link *l, size_t cost)
{
	return l->fed_count == 0 ||
	       (l->fed_count < l->fed_max && l->fed_bytes + cost <= FEED_BYTES);
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
	pthread_mutex_lock(&link_lock);
	l->watched = topic;
	pthread_mutex_unlock(&link_lock);
}

static int send(struct link *l, const struct mqtt_publish *p, const char *claim, void *context)
{
	MQTTAsync_message message = MQTTAsync_message_initializer;
	message.payload = (void *)p->payload; /* copied, not written to */
	message.payloadlen = (int)p->len;
	message.qos = p->qos;
	message.retained = p->retain;
	if (p->expiry_s)
		link_add_int(&message.properties, MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
			     p->expiry_s);
	if (p->response_topic)
		add_data(&message.properties, MQTTPROPERTY_CODE_RESPONSE_TOPIC, p->response_topic,
			 strlen(p->response_topic));
	if (p->correlation)
		add_data(&message.properties, MQTTPROPERTY_CODE_CORRELATION_DATA, p->correlation,
			 p->correlation_len);
	if (claim)
		link_add_claim(&message.properties, claim);
	MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
	o.onSuccess5 = on_published;
	o.onFailure5 = on_publish_failed;
	o.context = context;
	int r = errno_of(MQTTAsync_sendMessage(l->handle, p->topic, &message, &o));
	MQTTProperties_free(&message.properties);
	if (r < 0) {
		pthread_mutex_lock(&link_lock);
		release(l, &l->slots[context_index(context)]);
		pthread_mutex_unlock(&link_lock);
	}
	return r;
}

static char *put(char **at, const void *data, size_t len)
{
	char *to = *at;
	memcpy(to, data, len);
	to[len] = '\0';
	*at += len + 1;
	return to;
}

static struct link_out *copy_publish(const struct mqtt_publish *p, const char *claim, size_t cost)
{
	size_t topic_len = strlen(p->topic);
	size_t response_len = p->response_topic ? strlen(p->response_topic) : 0;
	struct link_out *out =
		malloc(sizeof(*out) + topic_len + response_len + p->len + p->correlation_len + 4);
	if (!out)
		return NULL;
	*out = (struct link_out){.publish = *p, .claim = claim, .cost_bytes = cost};
	char *at = (char *)(out + 1);
	out->publish.topic = put(&at, p->topic, topic_len);
	if (p->response_topic)
		out->publish.response_topic = put(&at, p->response_topic, response_len);
	if (p->correlation)
		out->publish.correlation = put(&at, p->correlation, p->correlation_len);
	if (p->len)
		out->publish.payload = put(&at, p->payload, p->len);
	return out;
}

/* Room for it, and whether it may go to Paho at once: *ret_context is set then. */
static int admit(struct link *l, const struct mqtt_publish *p, size_t cost, void **ret_context)
{
	if (cost > l->packet_max)
		return -E2BIG;
	if (l->out_count >= MQTT_OUT_MAX || l->out_bytes + cost > MQTT_OUT_BYTES_MAX) {
		l->refused = true;
		return -EAGAIN;
	}
	l->out_count++;
	l->out_bytes += cost;
	if (!l->out_first && may_feed(l, cost))
		*ret_context = take_slot(l, p->qos, cost);
	return 0;
}

int link_publish(struct link *l, const struct mqtt_publish *p, const char *claim)
{
	if (!l->handle)
		return -ENOTCONN;
	size_t cost = LINK_COST_FIXED + strlen(p->topic) + p->len + p->correlation_len +
		      (p->response_topic ? strlen(p->response_topic) : 0);
	struct link_out *out = NULL;
	void *context = NULL;
	pthread_mutex_lock(&link_lock);
	int r = admit(l, p, cost, &context);
	if (r == 0 && !context) {
		out = copy_publish(p, claim, cost);
		if (out) {
			*l->out_last = out;
			l->out_last = &out->next;
		} else {
			l->out_count--;
			l->out_bytes -= cost;
			r = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&link_lock);
	if (r == 0 && context)
		r = send(l, p, claim, context);
	pthread_mutex_lock(&link_lock);
	if (r == 0) {
		l->stats.out_messages++;
		l->stats.out_bytes += p->len;
	}
	pthread_mutex_unlock(&link_lock);
	return r;
}

void link_feed(struct link *l)
{
	while (l->handle) {
		pthread_mutex_lock(&link_lock);
		struct link_out *out = l->out_first;
		bool go = out && may_feed(l, out->cost_bytes);
		void *context = NULL;
		if (go) {
			l->out_first = out->next;
			if (!l->out_first)
				l->out_last = &l->out_first;
			context = take_slot(l, out->publish.qos, out->cost_bytes);
		}
		pthread_mutex_unlock(&link_lock);
		if (!go)
			return;
		/* Checked when it was admitted: fails only for a connection that is lost. */
		send(l, &out->publish, out->claim, context);
		free(out);
	}
}

void link_probe(struct link *l)
{
	pthread_mutex_lock(&link_lock);
	bool due = false;
	for (unsigned i = 0; i < LINK_FEED_MAX && !l->probing && !due; i++)
		due = l->slots[i].used && l->slots[i].qos == 0;
	l->probing |= due;
	l->probe_seq = due ? l->seq : l->probe_seq;
	void *context = link_context(l->generation, 0, 0);
	pthread_mutex_unlock(&link_lock);
	if (!due || !l->handle)
		return;
	MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
	o.onSuccess5 = on_probed; /* a failure is a lost connection, which forgets all this */
	o.context = context;
	MQTTAsync_unsubscribe(l->handle, PROBE_FILTER, &o);
}

uint32_t link_in_flight(struct link *l, uint64_t *ret_done)
{
	pthread_mutex_lock(&link_lock);
	uint32_t n = l->out_count;
	*ret_done = l->out_done;
	pthread_mutex_unlock(&link_lock);
	return n;
}

void link_kick(struct link *l)
{
	pthread_mutex_lock(&link_lock);
	bool alive = l->connected && !(l->events.bits & (LINK_LOST | LINK_TAKEN_OVER));
	bool partial = false;
	for (unsigned i = 0; i < LINK_FEED_MAX && alive && !partial; i++)
		partial = l->slots[i].used && l->slots[i].cost_bytes >= KICK_BYTES;
	if (partial)
		pthread_kill(l->receiver, LINK_KICK_SIGNAL); /* the anchor keeps that thread */
	pthread_mutex_unlock(&link_lock);
	if (alive)
		MQTTAsync_reconnect(l->handle);
}
