/* What goes out on a link: publishes and their settling, subscriptions, and the kick.
 *
 * Paho reports a publish of QoS 0 after its last byte went into the socket, but it can lose that
 * report when the write was a partial one. It writes in order, though: when a later publish is
 * done, the earlier ones of QoS 0 are too. settle() relies on that.
 *
 * Paho stalls. After a partial write its receive thread sits in poll() for reading, up to a
 * second, before it goes on writing; and its send thread is not woken when that write is complete,
 * nor when a PUBACK makes room under the broker's receive maximum (20 with Mosquitto).
 * link_kick() helps both: a signal interrupts that poll(), and a CONNECT, which Paho drops for a
 * handle that is connected, wakes the send thread. Measured with the kernel's default socket
 * buffers and an MTU of 1500, blocks of 128 KiB: 2 to 4 MB/s without, 35 to 66 MB/s with it. It
 * comes at a price (Paho sleeps 0.1 s after an interrupted poll() unless kicked again), so the
 * caller kicks only while there is no progress, and twice. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "common/mqtt/link.h"

#define KICK_BYTES     16384 /* a publish that the socket may have taken only a part of */
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
	l->out_done++;
	l->out_count--;
	l->out_bytes -= s->cost_bytes;
}

static void settle(const void *context, bool refused)
{
	struct link *l = link_enter(context);
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
	link_leave(l, room ? LINK_WRITABLE : 0);
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

static int take_slot(struct link *l, const struct mqtt_publish *p, size_t cost, void **ret_context)
{
	int r = 0;
	pthread_mutex_lock(&link_lock);
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
					.use = (s->use + 1) & LINK_USE_MASK,
					.used = true,
					.qos = (uint8_t)p->qos};
		l->out_count++;
		l->out_bytes += cost;
		*ret_context = link_context(l->generation, s->use, i);
	}
	pthread_mutex_unlock(&link_lock);
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
	pthread_mutex_lock(&link_lock);
	l->watched = topic;
	pthread_mutex_unlock(&link_lock);
}

int link_publish(struct link *l, const struct mqtt_publish *p, const char *claim)
{
	if (!l->handle)
		return -ENOTCONN;
	size_t cost = LINK_COST_FIXED + strlen(p->topic) + p->len + p->correlation_len +
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
	r = errno_of(MQTTAsync_sendMessage(l->handle, p->topic, &message, &o));
	MQTTProperties_free(&message.properties);
	pthread_mutex_lock(&link_lock);
	if (r == 0) {
		l->stats.out_messages++;
		l->stats.out_bytes += p->len;
	} else {
		release(l, &l->slots[context_index(context)]);
	}
	pthread_mutex_unlock(&link_lock);
	return r;
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
	for (unsigned i = 0; i < MQTT_OUT_MAX && alive && !partial; i++)
		partial = l->slots[i].used && l->slots[i].cost_bytes >= KICK_BYTES;
	if (partial)
		pthread_kill(l->receiver, LINK_KICK_SIGNAL); /* the anchor keeps that thread */
	pthread_mutex_unlock(&link_lock);
	if (alive)
		MQTTAsync_reconnect(l->handle);
}
