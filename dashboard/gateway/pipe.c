/* A pipe is one browser's WebSocket and one connection to the broker, made when the browser's
 * CONNECT has passed the filter, with a bounded queue each way. Whoever fills a queue is not read
 * from until half of it has gone; so a slow browser holds up its own connection to the broker,
 * which drops what it has no room for, and nobody else's. One that takes nothing for GATEWAY_SEND_S
 * is dropped. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "dashboard/gateway/gateway.h"

#define CLOSE_REFUSED 1008 /* RFC 6455, 7.4.1: policy violation */
#define CLOSE_AWAY    1013 /* IANA's registry: try again later */

/* MQTT 5, 3.2: session not present, reason 0x88 "server unavailable", no properties. */
static const uint8_t connack_away[] = {0x20, 3, 0, 0x88, 0};

struct queue {
	uint8_t *data; /* LWS_PRE bytes before it, which libwebsockets writes to */
	size_t len, max;
	bool held; /* who fills it is not read from */
};

struct pipe {
	struct visitor *visitor;      /* NULL: gone */
	struct lws *browser, *broker; /* NULL: none */
	struct filter filter;
	struct queue to_broker, to_browser;
	bool asked, connected; /* a connection to the broker was begun; is there */
	bool answered;         /* the broker has said something */
	bool closing;          /* the browser's end, once its queue is empty */
	uint16_t close_code;
	int64_t sending_ms; /* since when the browser has not taken what it got last; 0: it has */
};

/* ---- queues ---- */

static int queue_init(struct queue *q, size_t max)
{
	q->data = malloc(LWS_PRE + max);
	q->max = max;
	return q->data ? 0 : -ENOMEM;
}

static bool queue_put(struct queue *q, const void *data, size_t len)
{
	if (q->len + len > q->max)
		return false;
	memcpy(q->data + LWS_PRE + q->len, data, len);
	q->len += len;
	return true;
}

/* Writes what goes at once. -1: the connection is to end. */
static int queue_write(struct queue *q, struct lws *wsi, enum lws_write_protocol how)
{
	size_t n = MIN_OF(q->len, GATEWAY_CHUNK);
	if (!n)
		return 0;
	/* lws writes the frame's head before the data, and keeps what the socket does not take. */
	if (lws_write(wsi, q->data + LWS_PRE, n, how) < (int)n)
		return -1;
	q->len -= n;
	memmove(q->data + LWS_PRE, q->data + LWS_PRE + n, q->len);
	return 0;
}

/* Stops or goes on reading from `from`; room for one read is always left. */
static void queue_hold(struct queue *q, struct lws *from, size_t room)
{
	bool hold = q->held ? q->len > q->max / 2 : q->len + room > q->max;
	if (hold == q->held || !from)
		return;
	q->held = hold;
	lws_rx_flow_control(from, !hold);
}

/* ---- ends ---- */

static void pipe_free(struct pipe *p)
{
	free(p->to_broker.data);
	free(p->to_browser.data);
	free(p);
}

/* The browser's WebSocket ends, with that code, when what is queued for it has gone. */
static void close_browser(struct pipe *p, uint16_t code)
{
	if (!p->browser || p->closing)
		return;
	p->closing = true;
	p->close_code = code;
	lws_set_timeout(p->browser, PENDING_TIMEOUT_CLOSE_SEND, GATEWAY_CONNECT_S);
	lws_callback_on_writable(p->browser);
}

static void broker_away(struct pipe *p, const char *why)
{
	log_warning("browser=%s broker %s:%lld: %s", p->visitor->address,
		    p->visitor->gateway->conf->host, (long long)p->visitor->gateway->conf->port,
		    why);
	if (!p->answered)
		queue_put(&p->to_browser, connack_away, sizeof(connack_away));
	close_browser(p, CLOSE_AWAY);
}

/* ---- the browser's end ---- */

int pipe_open(struct visitor *v, struct lws *wsi)
{
	char client[ID_SIZE];
	struct pipe *p = calloc(1, sizeof(*p));
	if (!p || queue_init(&p->to_broker, GATEWAY_TO_BROKER_MAX) < 0 ||
	    queue_init(&p->to_browser, GATEWAY_TO_BROWSER_MAX) < 0) {
		if (p)
			pipe_free(p);
		return -1;
	}
	snprintf(client, sizeof(client), "dashboard-%016llx", (unsigned long long)rng_entropy());
	filter_init(&p->filter, v->gateway->conf->site, client);
	p->visitor = v;
	p->browser = wsi;
	v->pipe = p;
	lws_set_timeout(wsi, PENDING_TIMEOUT_AWAITING_PROXY_RESPONSE, GATEWAY_CONNECT_S);
	log_info("browser=%s looks on as client=%s", v->address, client);
	return 0;
}

static int connect_broker(struct pipe *p)
{
	struct gateway *g = p->visitor->gateway;
	const struct lws_client_connect_info i = {
		.context = g->lws,
		.vhost = g->inside,
		.address = g->conf->host,
		.host = g->conf->host,
		.port = (int)g->conf->port,
		.path = "",
		.method = "RAW",
		.local_protocol_name = "broker",
		.opaque_user_data = p,
		.pwsi = &p->broker,
	};
	p->asked = true;
	if (!lws_client_connect_via_info(&i) && !p->closing)
		broker_away(p, "no connection");
	return 0;
}

int pipe_from_browser(struct visitor *v, const void *data, size_t len)
{
	struct pipe *p = v->pipe;
	const uint8_t *in = data;
	struct err err = {0};
	while (len && !p->closing) {
		uint8_t out[FILTER_PACKET_MAX];
		size_t used;
		int n = filter_step(&p->filter, in, len, clock_mono_ms(), &used, out, &err);
		if (n >= 0 && !queue_put(&p->to_broker, out, (size_t)n))
			n = err_set(&err, -ENOBUFS, "found more than %d bytes at once",
				    GATEWAY_TO_BROKER_MAX);
		if (n < 0) {
			log_warning("browser=%s refused: %s", v->address, err.text);
			close_browser(p, CLOSE_REFUSED);
			return 0;
		}
		in += used;
		len -= used;
		if (n && !p->asked)
			connect_broker(p);
	}
	if (p->connected && p->to_broker.len)
		lws_callback_on_writable(p->broker);
	queue_hold(&p->to_broker, p->browser, 2 * FILTER_PACKET_MAX);
	return 0;
}

int pipe_browser_writeable(struct visitor *v)
{
	struct pipe *p = v->pipe;
	bool more = p->to_browser.len > 0;
	if (p->asked && !p->closing) { /* before, and after it, another time-out runs */
		p->sending_ms = more ? clock_mono_ms() : 0;
		lws_set_timeout(p->browser,
				more ? PENDING_TIMEOUT_HTTP_CONTENT : NO_PENDING_TIMEOUT,
				GATEWAY_SEND_S);
	}
	if (more) {
		if (queue_write(&p->to_browser, p->browser, LWS_WRITE_BINARY) < 0)
			return -1;
		queue_hold(&p->to_browser, p->broker, GATEWAY_CHUNK);
		lws_callback_on_writable(p->browser); /* comes when this is through */
		return 0;
	}
	if (!p->closing)
		return 0;
	lws_close_reason(p->browser, p->close_code, NULL, 0);
	return -1;
}

void pipe_browser_closed(struct visitor *v)
{
	struct pipe *p = v->pipe;
	if (p->sending_ms && clock_mono_ms() - p->sending_ms >= GATEWAY_SEND_S * 1000)
		log_warning("browser=%s dropped: it took nothing for %d s", v->address,
			    GATEWAY_SEND_S);
	else
		log_info("browser=%s has gone", v->address);
	p->visitor = NULL;
	p->browser = NULL;
	v->pipe = NULL;
	if (p->broker)
		lws_set_timeout(p->broker, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
	else
		pipe_free(p);
}

/* ---- the broker's end ---- */

static void broker_gone(struct pipe *p, const char *why)
{
	if (p->broker)
		lws_set_opaque_user_data(p->broker, NULL);
	p->broker = NULL;
	p->connected = false;
	if (!p->visitor)
		pipe_free(p);
	else if (!p->closing)
		broker_away(p, why);
}

int pipe_broker_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
			 size_t len)
{
	struct pipe *p = lws_get_opaque_user_data(wsi);
	if (!p)
		return 0;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		broker_gone(p, in ? in : "no connection");
		return 0;
	case LWS_CALLBACK_RAW_CONNECTED:
		p->connected = true;
		lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
		if (p->browser)
			lws_set_timeout(p->browser, NO_PENDING_TIMEOUT, 0);
		lws_callback_on_writable(wsi);
		return 0;
	case LWS_CALLBACK_RAW_WRITEABLE:
		if (!p->visitor || queue_write(&p->to_broker, wsi, LWS_WRITE_RAW) < 0)
			return -1;
		if (p->to_broker.len)
			lws_callback_on_writable(wsi);
		queue_hold(&p->to_broker, p->browser, 2 * FILTER_PACKET_MAX);
		return 0;
	case LWS_CALLBACK_RAW_RX:
		if (!p->visitor || p->closing || !queue_put(&p->to_browser, in, len))
			return -1;
		p->answered = true;
		lws_callback_on_writable(p->browser);
		queue_hold(&p->to_browser, wsi, GATEWAY_CHUNK);
		return 0;
	case LWS_CALLBACK_RAW_CLOSE:
		broker_gone(p, "the connection has ended");
		return 0;
	default:
		return 0;
	}
}
