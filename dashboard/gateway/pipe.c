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
#include "dashboard/gateway/upstream.h"

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
	struct visitor *visitor;
	struct lws *browser;
	struct upstream *broker; /* NULL: none, not yet or no more */
	struct filter filter;
	struct queue to_broker, to_browser;
	bool asked;    /* for a connection to the broker */
	bool answered; /* the broker has said something */
	bool closing;  /* the browser's end, once its queue is empty */
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

static void queue_drop(struct queue *q, size_t n)
{
	q->len -= n;
	memmove(q->data + LWS_PRE, q->data + LWS_PRE + n, q->len);
}

/* Whether who fills it is to stop (1), to go on (0), or to go on as he does (-1); there is always
 * room for `room` bytes more. */
static int queue_hold(struct queue *q, size_t room)
{
	bool hold = q->held ? q->len > q->max / 2 : q->len + room > q->max;
	if (hold == q->held)
		return -1;
	q->held = hold;
	return hold;
}

/* ---- ends ---- */

static void pipe_free(struct pipe *p)
{
	if (!p)
		return;
	upstream_free(p->broker);
	free(p->to_broker.data);
	free(p->to_browser.data);
	free(p);
}

/* The browser's WebSocket ends, with that code, when what is queued for it has gone. */
static void close_browser(struct pipe *p, uint16_t code)
{
	if (p->closing)
		return;
	p->closing = true;
	p->close_code = code;
	lws_set_timeout(p->browser, PENDING_TIMEOUT_CLOSE_SEND, GATEWAY_CONNECT_S);
	lws_callback_on_writable(p->browser);
}

/* ---- the broker's end ---- */

static void to_broker(struct pipe *p)
{
	if (!p->broker)
		return;
	queue_drop(&p->to_broker,
		   upstream_write(p->broker, p->to_broker.data + LWS_PRE, p->to_broker.len));
	int hold = queue_hold(&p->to_broker, 2 * FILTER_PACKET_MAX);
	if (hold >= 0)
		lws_rx_flow_control(p->browser, !hold);
}

static void on_connected(void *user)
{
	struct pipe *p = user;
	if (!p->closing)
		lws_set_timeout(p->browser, NO_PENDING_TIMEOUT, 0);
	to_broker(p);
}

static void on_writable(void *user)
{
	to_broker(user);
}

static void on_data(void *user, const void *data, size_t len)
{
	struct pipe *p = user;
	if (p->closing || !queue_put(&p->to_browser, data, len))
		return; /* there is room as long as it is not held */
	p->answered = true;
	lws_callback_on_writable(p->browser);
	if (queue_hold(&p->to_browser, GATEWAY_CHUNK) == 1)
		upstream_hold(p->broker, true);
}

static void on_closed(void *user, const char *why)
{
	struct pipe *p = user;
	const struct gateway_conf *c = p->visitor->gateway->conf;
	if (!p->closing)
		log_warning("browser=%s broker %s:%lld: %s", p->visitor->address, c->host,
			    (long long)c->port, why);
	upstream_free(TAKE_PTR(p->broker)); /* and `why` with it */
	if (p->closing)
		return;
	if (!p->answered)
		queue_put(&p->to_browser, connack_away, sizeof(connack_away));
	close_browser(p, CLOSE_AWAY);
}

static int connect_broker(struct pipe *p, struct err *err)
{
	const struct gateway *g = p->visitor->gateway;
	const struct upstream_handler h = {on_connected, on_data, on_writable, on_closed, p};
	p->asked = true;
	/* Its own time-out runs now. */
	lws_set_timeout(p->browser, PENDING_TIMEOUT_AWAITING_PROXY_RESPONSE,
			2 * UPSTREAM_CONNECT_S);
	return upstream_open(g->loop, g->conf, &h, &p->broker, err);
}

/* ---- the browser's end ---- */

int pipe_open(struct visitor *v)
{
	char client[ID_SIZE];
	struct pipe *p = calloc(1, sizeof(*p));
	if (!p || queue_init(&p->to_broker, GATEWAY_TO_BROKER_MAX) < 0 ||
	    queue_init(&p->to_browser, GATEWAY_TO_BROWSER_MAX) < 0) {
		pipe_free(p);
		return -1;
	}
	snprintf(client, sizeof(client), "dashboard-%016llx", (unsigned long long)rng_entropy());
	filter_init(&p->filter, v->gateway->conf->site, client);
	p->visitor = v;
	p->browser = v->wsi;
	v->pipe = p;
	lws_set_timeout(v->wsi, PENDING_TIMEOUT_AWAITING_PROXY_RESPONSE, GATEWAY_CONNECT_S);
	log_info("browser=%s looks on as client=%s", v->address, client);
	return 0;
}

int pipe_from_browser(struct visitor *v, const void *data, size_t len)
{
	struct pipe *p = v->pipe;
	const uint8_t *in = data;
	struct err err = {0};
	while (len && !p->closing) {
		uint8_t out[FILTER_PACKET_MAX];
		size_t used = 0;
		int n = filter_step(&p->filter, in, len, clock_mono_ms(), &used, out, &err);
		if (n >= 0 && !queue_put(&p->to_broker, out, (size_t)n))
			n = err_set(&err, -ENOBUFS, "found more than %d bytes at once",
				    GATEWAY_TO_BROKER_MAX);
		if (n > 0 && !p->asked)
			n = connect_broker(p, &err) < 0 ? err.code : n;
		if (n < 0) {
			log_warning("browser=%s refused: %s", v->address, err.text);
			close_browser(p, CLOSE_REFUSED);
		}
		in += used;
		len -= used;
	}
	to_broker(p);
	return 0;
}

int pipe_browser_writeable(struct visitor *v)
{
	struct pipe *p = v->pipe;
	struct queue *q = &p->to_browser;
	size_t n = MIN_OF(q->len, GATEWAY_CHUNK);
	if (p->answered && !p->closing) { /* before, and after it, another time-out runs */
		p->sending_ms = n ? clock_mono_ms() : 0;
		/* NO_PENDING_TIMEOUT with seconds would be one, too. */
		lws_set_timeout(p->browser, n ? PENDING_TIMEOUT_HTTP_CONTENT : NO_PENDING_TIMEOUT,
				n ? GATEWAY_SEND_S : 0);
	}
	if (n) {
		/* libwebsockets keeps what the socket does not take, and comes back when it has. */
		if (lws_write(p->browser, q->data + LWS_PRE, n, LWS_WRITE_BINARY) < (int)n)
			return -1;
		queue_drop(q, n);
		if (queue_hold(q, GATEWAY_CHUNK) == 0 && p->broker)
			upstream_hold(p->broker, false);
		lws_callback_on_writable(p->browser);
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
	to_broker(p); /* a DISCONNECT */
	v->pipe = NULL;
	pipe_free(p);
}
