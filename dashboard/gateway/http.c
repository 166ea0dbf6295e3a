/* Requests and answers. What there is to GET is in memory; a POST is small, JSON, and of our own
 * page. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "dashboard/gateway/gateway.h"

#define HEADERS_MAX 2048 /* bytes of an answer's head */

struct request {
	const char *data; /* of the answer; what has not gone yet */
	size_t left;
	bool last; /* the connection ends with it */
};

/* What every answer says: nothing from elsewhere, nothing guessed, nothing told to others. */
static const struct {
	const char *name, *value;
} always[] = {
	{"content-security-policy:", "default-src 'self'; base-uri 'none'; form-action 'self'; "
				     "frame-ancestors 'none'; object-src 'none'"},
	{"x-content-type-options:", "nosniff"},
	{"x-frame-options:", "DENY"},
	{"referrer-policy:", "no-referrer"},
	{"cross-origin-opener-policy:", "same-origin"},
	{"cross-origin-resource-policy:", "same-origin"},
	{"permissions-policy:", "camera=(), geolocation=(), microphone=()"},
};

struct head {
	uint8_t buf[LWS_PRE + HEADERS_MAX];
	uint8_t *at;
	bool full;
};

static uint8_t *head_end(struct head *h)
{
	return h->buf + sizeof(h->buf) - 1;
}

static void head_add(struct head *h, struct lws *wsi, const char *name, const char *value)
{
	h->full |= lws_add_http_header_by_name(wsi, (const uint8_t *)name, (const uint8_t *)value,
					       (int)strlen(value), &h->at, head_end(h)) != 0;
}

static void head_begin(struct head *h, struct lws *wsi, unsigned status)
{
	h->at = h->buf + LWS_PRE;
	h->full = lws_add_http_header_status(wsi, status | LWSAHH_FLAG_NO_SERVER_NAME, &h->at,
					     head_end(h)) != 0;
	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		head_add(h, wsi, always[i].name, always[i].value);
}

/* Sends the head and begins the body, which must live as long as the request. */
static int send_head(struct visitor *v, struct lws *wsi, struct head *h, const char *data,
		     size_t len)
{
	struct request *q = v->request;
	h->full |= lws_add_http_header_content_length(wsi, len, &h->at, head_end(h)) != 0;
	if (h->full || lws_finalize_write_http_header(wsi, h->buf + LWS_PRE, &h->at, head_end(h)))
		return -1;
	q->data = data;
	q->left = len;
	lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, GATEWAY_SEND_S);
	lws_callback_on_writable(wsi);
	return 0;
}

static int answer_text(struct visitor *v, struct lws *wsi, unsigned status, const char *text)
{
	struct head h;
	head_begin(&h, wsi, status);
	head_add(&h, wsi, "content-type:", "text/plain; charset=utf-8");
	head_add(&h, wsi, "cache-control:", "no-store");
	return send_head(v, wsi, &h, text, strlen(text));
}

int http_writeable(struct visitor *v, struct lws *wsi)
{
	struct request *q = v->request;
	uint8_t buf[LWS_PRE + GATEWAY_CHUNK];
	if (!q)
		return 0;
	size_t n = MIN_OF(q->left, GATEWAY_CHUNK);
	bool last = n == q->left;
	memcpy(buf + LWS_PRE, q->data, n);
	if (lws_write(wsi, buf + LWS_PRE, n, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
		return -1;
	q->data += n;
	q->left -= n;
	lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, GATEWAY_SEND_S);
	if (!last) {
		lws_callback_on_writable(wsi);
		return 0;
	}
	bool ends = q->last;
	http_done(v);
	return ends || lws_http_transaction_completed(wsi) ? -1 : 0;
}

/* ---- GET ---- */

static int get_file(struct visitor *v, struct lws *wsi, const struct page_file *f)
{
	struct head h;
	char known[HASH_SIZE + 8];
	bool same = lws_hdr_copy(wsi, known, sizeof(known), WSI_TOKEN_HTTP_IF_NONE_MATCH) > 0 &&
		    strcmp(known, f->tag) == 0;
	head_begin(&h, wsi, same ? 304 : 200);
	head_add(&h, wsi, "content-type:", f->type);
	head_add(&h, wsi, "etag:", f->tag);
	head_add(&h, wsi,
		 "cache-control:", "no-cache"); /* kept, and asked for whether it is still so */
	return send_head(v, wsi, &h, same ? "" : f->data, same ? 0 : f->len);
}

static int get_site(struct visitor *v, struct lws *wsi)
{
	struct head h;
	head_begin(&h, wsi, 200);
	head_add(&h, wsi, "content-type:", "application/json");
	head_add(&h, wsi, "cache-control:", "no-store");
	return send_head(v, wsi, &h, v->gateway->site_json, strlen(v->gateway->site_json));
}

static int get(struct visitor *v, struct lws *wsi, const char *path)
{
	const struct page_file *f = page_find(v->gateway->page, path);
	if (strcmp(path, "/site.json") == 0)
		return get_site(v, wsi);
	return f ? get_file(v, wsi, f) : answer_text(v, wsi, 404, "There is no such page.\n");
}

/* ---- requests ---- */

int http_request(struct visitor *v, struct lws *wsi, const char *path)
{
	http_done(v);
	v->request = calloc(1, sizeof(*v->request));
	if (!v->request)
		return -1;
	if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0)
		return get(v, wsi, path);
	v->request->last = true; /* there may be a body, which nobody reads */
	return answer_text(v, wsi, 405, "Only GET.\n");
}

int http_body(struct visitor *v, struct lws *wsi, const void *data, size_t len)
{
	return -1;
}

int http_body_end(struct visitor *v, struct lws *wsi)
{
	return -1;
}

void http_done(struct visitor *v)
{
	free(v->request);
	v->request = NULL;
}

bool http_same_origin(const struct gateway *g, struct lws *wsi)
{
	char origin[300], host[280], expected[300];
	if (lws_hdr_copy(wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN) <= 0 ||
	    lws_hdr_copy(wsi, host, sizeof(host), WSI_TOKEN_HOST) <= 0)
		return false;
	snprintf(expected, sizeof(expected), "%s://%s", *g->conf->certificate ? "https" : "http",
		 host);
	return strcasecmp(origin, expected) == 0;
}
