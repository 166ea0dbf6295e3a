/* The gateway: what a browser asks for over HTTP, and MQTT over WebSockets towards the broker.
 *
 *     browser --HTTP(S), WebSocket--> gateway --MQTT, TLS as a dashboard--> broker
 *                                        +----MQTT, TLS as an operator----> broker     commands
 *
 * One thread. libwebsockets (this folder is its only door) waits for all descriptors, among them
 * the one of our own loop (common/base/loop.h), which has signals, timers and the operator's
 * session. */
#pragma once

#include <libwebsockets.h>

#include "common/base/loop.h"
#include "dashboard/gateway/access.h"
#include "dashboard/gateway/conf.h"
#include "dashboard/gateway/filter.h"
#include "dashboard/gateway/operator.h"
#include "dashboard/gateway/page.h"
#include "dashboard/gateway/peers.h"

#define GATEWAY_HEADER_MAX     4096 /* bytes of a request's head */
#define GATEWAY_HEADER_S       10   /* ... which is there after so long */
#define GATEWAY_IDLE_S         30   /* a connection without a request ends */
#define GATEWAY_SEND_S         15 /* what is sent moves on within so long, or the browser is dropped */
#define GATEWAY_CONNECT_S      10    /* a WebSocket has said CONNECT, and the broker is there */
#define GATEWAY_BODY_MAX       4096  /* of a POST: a command's size */
#define GATEWAY_TO_BROKER_MAX  16384 /* bytes queued for the broker, of one browser */
#define GATEWAY_TO_BROWSER_MAX 65536 /* ... for one browser; then the broker has to wait */
#define GATEWAY_CHUNK          16384 /* written at a time */

struct pipe;
struct request;

/* A connection from a browser, from its first byte to its end. */
struct visitor {
	struct gateway *gateway;
	struct lws *wsi;
	char address[PEER_SIZE];
	struct request *request; /* NULL: none now */
	struct pipe *pipe;       /* NULL: it is no WebSocket */
};

struct gateway {
	const struct gateway_conf *conf;
	struct loop *loop;
	struct loop_source *sigterm, *sigint;
	struct lws_context *lws;
	struct lws_vhost *vhost;
	struct page *page;
	char *site_json;
	struct peers peers;
	struct access access;
	struct operator* operator; /* NULL: nobody commands from the page */
	bool stopping;
};

int gateway_start(struct gateway *g, const struct gateway_conf *conf, struct err *err);
/* Until SIGTERM or SIGINT. */
int gateway_run(struct gateway *g);
/* Also after a start that failed. */
void gateway_stop(struct gateway *g);

/* ---- http.c: requests ---- */

/* The request's head is there; negative ends the connection, as in all below. */
int http_request(struct visitor *v, const char *path);
int http_body(struct visitor *v, const void *data, size_t len);
int http_body_end(struct visitor *v);
int http_writeable(struct visitor *v);
/* The connection, or the request, is over. */
void http_done(struct visitor *v);
/* Whether Origin is the address that the request was sent to, and that is ours: no other site's
 * page is behind it. */
bool http_same_origin(const struct visitor *v);

/* ---- pipe.c: a WebSocket and its connection to the broker ---- */

int pipe_open(struct visitor *v);
int pipe_from_browser(struct visitor *v, const void *data, size_t len);
int pipe_browser_writeable(struct visitor *v);
void pipe_browser_closed(struct visitor *v);
