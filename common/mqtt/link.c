/* Model. Paho (one send and one receive thread per process) calls back with its own lock held; a
 * callback takes `link_lock`, notes what happened in the link and writes its eventfd. Nothing in
 * link*.c calls Paho while holding it, so the two locks always nest in one order.
 *
 * A callback's context is a number, not a pointer: generation << 20 | use << 8 | index. It is
 * looked up among the registered links, so one that comes late, for a connection that has been
 * destroyed, finds nothing and is ignored.
 *
 * An anchor, a handle that never connects, keeps Paho's threads while there is any link: else
 * destroying the only handle would stop them and wait up to seconds for that. */
#include "common/mqtt/link.h"
#include "common/mqtt/nodelay.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/crypto/at_exit.h"

#define PACKET_OVERHEAD_MAX 2048 /* header, topic, properties of a message we accept */
#define RECEIVE_MAX         1000 /* QoS 1 messages the broker may have in flight to us */
#define PAHO_CONNECT_S      30   /* longer than our own deadline: that one decides */
#define DISCONNECT_GRACE_MS 300
#define DRAIN_KICK_MS       10
#define SESSION_TAKEN_OVER  0x8e
#define DISCONNECT_AND_WILL 0x04
#define TLS_REASON_FIELD    6                 /* of a line of OpenSSL's error queue */
#define HEAP_KEPT_MAX       (2 * 1024 * 1024) /* free at the end of the heap, and not given back */
/* Of TLS 1.2; those of 1.3 are all good. Forward secrecy, and authenticated. */
#define TLS_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

_Static_assert(LINK_FEED_MAX <= LINK_INDEX_MASK + 1, "a slot's index has 8 bits of a context");
_Static_assert(LINK_SUB_CLAIM < 64, "one bit a subscription");

pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;
static struct link *links;
static unsigned last_generation;
static MQTTAsync anchor; /* loop thread only */
static unsigned n_links;

void *link_context(unsigned generation, unsigned use, unsigned index)
{
	return (void *)(uintptr_t)((generation & LINK_GENERATION_MASK) << 20 |
				   (use & LINK_USE_MASK) << 8 | (index & LINK_INDEX_MASK));
}

struct link *link_enter(const void *context)
{
	unsigned generation = (unsigned)((uintptr_t)context >> 20) & LINK_GENERATION_MASK;
	pthread_mutex_lock(&link_lock);
	for (struct link *l = links; l; l = l->next)
		if (generation && l->generation == generation)
			return l;
	pthread_mutex_unlock(&link_lock);
	return NULL;
}

void link_wake(struct link *l)
{
	uint64_t one = 1;
	/* Full (EAGAIN) means readable: the loop will come. */
	ssize_t n = write(l->event_fd, &one, sizeof(one));
	(void)n;
}

void link_leave(struct link *l, unsigned events)
{
	l->events.bits |= events;
	if (events)
		link_wake(l);
	pthread_mutex_unlock(&link_lock);
}

static void set_text(struct link *l, int code, const char *text)
{
	if (code >= 0x80 && code <= 0xff)
		snprintf(l->events.text, sizeof(l->events.text), "%s (0x%02X)",
			 MQTTReasonCode_toString((enum MQTTReasonCodes)code), (unsigned)code);
	else
		snprintf(l->events.text, sizeof(l->events.text), "%s",
			 *l->events.tls ? l->events.tls : text);
}

/* ---- callbacks, on Paho's threads ---- */

/* One line of OpenSSL's error queue: "thread:error:code:library:function:reason:file:line:more".
 * The first one says what happened, those after it what followed from that. */
static int on_tls_error(const char *line, size_t len, void *context)
{
	char text[LINK_TEXT_MAX], *fields = text, *reason = NULL;
	struct link *l = link_enter(context);
	if (!l)
		return 1;
	if (!*l->events.tls) {
		snprintf(text, sizeof(text), "%.*s", (int)MIN_OF(len, sizeof(text) - 1), line);
		text[strcspn(text, "\n")] = '\0';
		for (int i = 0; i < TLS_REASON_FIELD && fields; i++)
			reason = strsep(&fields, ":");
		snprintf(l->events.tls, sizeof(l->events.tls), "TLS: %.150s",
			 reason && *reason ? reason : line);
	}
	link_leave(l, 0);
	return 1;
}

/* That a good certificate is for another name Paho says in its trace alone, and not of which
 * connection: it is told to those that are being made. For an address it says so, too, before it
 * looks for that in the certificate; once it sends CONNECT all was well, and what the broker thinks
 * of our certificate is next, of which Paho says nothing at all. */
static void on_trace(enum MQTTASYNC_TRACE_LEVELS level, char *message)
{
	(void)level;
	bool wrong = strstr(message, "X509_check_host for hostname ");
	if (!wrong && !strstr(message, "-> CONNECT "))
		return;
	pthread_mutex_lock(&link_lock);
	for (struct link *l = links; l; l = l->next)
		if (l->generation && !l->connected)
			snprintf(l->events.tls, sizeof(l->events.tls), "TLS: %s",
				 wrong ? "the broker's certificate is for another name"
				       : "no answer to CONNECT, perhaps our certificate was "
					 "refused");
	pthread_mutex_unlock(&link_lock);
}

static void on_connected(void *context, MQTTAsync_successData5 *data)
{
	struct link *l = link_enter(context);
	if (!l)
		return;
	int max = MQTTProperties_getNumericValue(&data->properties,
						 MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE);
	l->packet_max = max > 0 ? (uint32_t)max : UINT32_MAX;
	max = MQTTProperties_getNumericValue(&data->properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM);
	l->fed_max = max > 0 && max < LINK_FEED_MAX ? (uint32_t)max : LINK_FEED_MAX;
	l->stats.connects++;
	nodelay_to(l->port);
	l->receiver = pthread_self();
	l->connected = true;
	l->events.tls[0] = '\0';
	link_leave(l, LINK_CONNECTED);
	MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_FATAL);
}

static void on_connect_failed(void *context, MQTTAsync_failureData5 *data)
{
	struct link *l = link_enter(context);
	if (!l)
		return;
	set_text(l, data->reasonCode >= 0x80 ? (int)data->reasonCode : data->code,
		 data->message ? data->message : "cannot connect");
	link_leave(l, LINK_FAILED);
}

static void on_lost(void *context, char *cause)
{
	struct link *l = link_enter(context);
	if (!l)
		return;
	/* A DISCONNECT before it has said more. */
	if (!(l->events.bits & (LINK_LOST | LINK_TAKEN_OVER)))
		set_text(l, 0, cause ? cause : "connection lost");
	link_leave(l, LINK_LOST);
}

static void on_server_disconnect(void *context, MQTTProperties *properties,
				 enum MQTTReasonCodes reason)
{
	(void)properties;
	struct link *l = link_enter(context);
	if (!l)
		return;
	set_text(l, (int)reason, "the broker disconnected us");
	link_leave(l, reason == SESSION_TAKEN_OVER ? LINK_TAKEN_OVER : LINK_LOST);
}

/* Whose message this is, by its user property; hostile until checked. */
static void read_claim(struct link *l, const MQTTProperties *properties)
{
	for (int i = 0; i < properties->count; i++) {
		const MQTTProperty *p = &properties->array[i];
		if (p->identifier != MQTTPROPERTY_CODE_USER_PROPERTY ||
		    p->value.data.len != (int)strlen(LINK_CLAIM_KEY) ||
		    memcmp(p->value.data.data, LINK_CLAIM_KEY, strlen(LINK_CLAIM_KEY)) != 0 ||
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
	size_t cost = LINK_COST_FIXED + topic_bytes + (size_t)message->payloadlen +
		      (size_t)message->properties.length;
	struct link *l = link_enter(context);
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
		link_leave(l, 0);
	if (!keep) {
		free(in);
		MQTTAsync_freeMessage(&message);
		MQTTAsync_free(topic);
	}
	return 1; /* taken, in either case: else Paho queues it without limit */
}

static void on_closed(void *context, MQTTAsync_successData5 *data)
{
	(void)data;
	struct link *l = link_enter(context);
	if (l)
		link_leave(l, LINK_CLOSED);
}

/* ---- opening and closing, on the loop's thread ---- */

static int create(MQTTAsync *ret, const char *uri, const char *id)
{
	MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
	options.maxBufferedMessages = 2 * LINK_FEED_MAX; /* more than it is ever given */
	int rc = MQTTAsync_createWithOptions(ret, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL,
					     &options);
	return rc == MQTTASYNC_SUCCESS ? 0 : -EINVAL;
}

static void on_kick(int signo)
{
	(void)signo; /* to interrupt poll() is all */
}

/* Once per process, before Paho's threads. */
static void prepare_process(void)
{
	at_exit_keep_openssl();
	/* Blocks are allocated by Paho's thread and freed by the loop's. In an arena of its own for
	 * each, that was seen to grow to 24 MB; shared, to 7. */
	mallopt(M_ARENA_MAX, 1);
	/* Each block is copied several times on its way, with TLS once more. Else the first copy is
	 * mapped for itself, and after it the heap's end goes back to the kernel with each: 32 page
	 * faults a copy, a tenth of all the time that a sealed transfer takes. */
	mallopt(M_MMAP_THRESHOLD, 4 * MQTT_PAYLOAD_MAX);
	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_MAX);
	struct sigaction now, ours = {.sa_handler = on_kick};
	if (sigaction(LINK_KICK_SIGNAL, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		sigaction(LINK_KICK_SIGNAL, &ours, NULL);
}

int link_init(struct link *l, struct err *err)
{
	*l = (struct link){0};
	l->in_last = &l->in_first;
	l->out_last = &l->out_first;
	l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->event_fd < 0)
		return err_errno(err, -errno, "eventfd");
	int r = n_links ? 0 : create(&anchor, "tcp://127.0.0.1:1", "anchor");
	if (r < 0) {
		close(l->event_fd);
		l->event_fd = -1;
		return err_errno(err, r, "Paho MQTT");
	}
	prepare_process();
	n_links++;
	l->registered = true;
	pthread_mutex_lock(&link_lock);
	l->next = links;
	links = l;
	pthread_mutex_unlock(&link_lock);
	return 0;
}

void link_done(struct link *l)
{
	if (!l->registered)
		return;
	link_close(l);
	pthread_mutex_lock(&link_lock);
	for (struct link **p = &links; *p; p = &(*p)->next) {
		if (*p == l) {
			*p = l->next;
			break;
		}
	}
	pthread_mutex_unlock(&link_lock);
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
		unsigned g = ++last_generation & LINK_GENERATION_MASK;
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
	link_out_clear(l);
	l->refused = false;
	l->draining = false;
	l->watched = NULL;
	l->connected = false;
}

/* Paho cannot be told the least version but by one version for all, so it is left to choose:
 * Ed25519, which all our certificates are of, cannot be used below TLS 1.2. It knows no list of
 * revoked certificates: a broker that lost its key needs a new authority. */
static void set_tls(MQTTAsync_SSLOptions *ret, const struct mqtt_tls *tls, void *context)
{
	ret->trustStore = tls->authority;
	ret->keyStore = tls->certificate;
	ret->privateKey = tls->key;
	ret->enabledCipherSuites = TLS_CIPHERS;
	ret->enableServerCertAuth = 1;
	ret->verify = 1; /* also the host name; Paho's default is not to */
	ret->disableDefaultTrustStore = 1;
	ret->ssl_error_cb = on_tls_error;
	ret->ssl_error_context = context;
}

static int start(struct link *l, const struct mqtt_conf *conf, const char *claim, void *context)
{
	MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
	MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
	MQTTProperties will_properties = MQTTProperties_initializer;
	MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer5;
	MQTTProperties properties = MQTTProperties_initializer;
	link_add_int(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
		     conf->session_expiry_s);
	link_add_int(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, RECEIVE_MAX);
	link_add_int(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
		     MQTT_PAYLOAD_MAX + PACKET_OVERHEAD_MAX);
	l->port = conf->port;
	o.connectProperties = &properties;
	o.keepAliveInterval = conf->keepalive_s;
	o.cleanstart = conf->clean_start;
	o.connectTimeout = PAHO_CONNECT_S;
	o.maxInflight = 2 * LINK_FEED_MAX;
	o.onSuccess5 = on_connected;
	o.onFailure5 = on_connect_failed;
	o.context = context;
	if (conf->will_topic[0]) {
		will.topicName = conf->will_topic;
		will.message = conf->will_payload;
		will.retained = conf->will_retain;
		will.qos = 1;
		link_add_claim(&will_properties, claim);
		o.will = &will;
		o.willProperties = &will_properties;
	}
	if (conf->tls.certificate[0]) {
		MQTTAsync_setTraceCallback(on_trace);
		MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_PROTOCOL);
		set_tls(&ssl, &conf->tls, context);
		o.ssl = &ssl;
	}
	MQTTAsync_setCallbacks(l->handle, context, on_lost, on_message, NULL);
	MQTTAsync_setDisconnected(l->handle, context, on_server_disconnect);
	/* Paho's threads start here, and must take no signal that the loop waits for. */
	sigset_t all, before;
	sigfillset(&all);
	sigdelset(&all, LINK_KICK_SIGNAL);
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
	pthread_mutex_lock(&link_lock);
	l->generation = new_generation();
	l->packet_max = UINT32_MAX;
	void *context = link_context(l->generation, 0, 0);
	pthread_mutex_unlock(&link_lock);
	int rc = start(l, conf, claim, context);
	if (rc == MQTTASYNC_SUCCESS)
		return 0;
	link_close(l);
	return err_set(err, -EINVAL, "MQTT client '%s' for %s: %s", conf->client_id, uri,
		       MQTTAsync_strerror(rc) ? MQTTAsync_strerror(rc) : "cannot connect");
}

void link_close(struct link *l)
{
	pthread_mutex_lock(&link_lock);
	l->generation = 0;
	forget(l);
	pthread_mutex_unlock(&link_lock);
	if (l->handle)
		MQTTAsync_destroy(&l->handle);
	l->handle = NULL;
}

static uint32_t in_flight(struct link *l, bool draining)
{
	pthread_mutex_lock(&link_lock);
	l->draining = draining;
	uint32_t n = l->events.bits & (LINK_LOST | LINK_TAKEN_OVER) ? 0 : l->out_count;
	pthread_mutex_unlock(&link_lock);
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
		link_feed(l);
		link_kick(l);
		link_probe(l);
	}
	MQTTAsync_disconnectOptions o = MQTTAsync_disconnectOptions_initializer5;
	o.reasonCode = with_will ? DISCONNECT_AND_WILL : 0;
	o.onSuccess5 = on_closed;
	o.context = link_context(l->generation, 0, 0);
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

void link_take_events(struct link *l, unsigned mask, struct link_events *ret)
{
	pthread_mutex_lock(&link_lock);
	*ret = l->events;
	ret->bits &= mask;
	l->events.bits &= ~mask;
	if (mask & LINK_ACKED)
		l->events.subs_acked = l->events.subs_refused = 0;
	pthread_mutex_unlock(&link_lock);
}

struct link_in *link_take_messages(struct link *l, unsigned max)
{
	pthread_mutex_lock(&link_lock);
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
	pthread_mutex_unlock(&link_lock);
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
	pthread_mutex_lock(&link_lock);
	bool any = l->in_first != NULL;
	pthread_mutex_unlock(&link_lock);
	return any;
}

void link_get_stats(const struct link *l, struct mqtt_stats *ret)
{
	pthread_mutex_lock(&link_lock);
	*ret = l->stats;
	pthread_mutex_unlock(&link_lock);
}
