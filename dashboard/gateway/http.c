/* Requests and answers. What there is to GET is in memory. An answer is written when the connection
 * can be written to: its head, then its content in chunks. */
#include "dashboard/gateway/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/json/json.h"

#define HEADERS_MAX 2048 /* bytes of an answer's head */

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
	uint8_t *at, *end;
	bool full;
};

static void head_add(struct head *h, struct lws *wsi, const char *name, const char *value)
{
	h->full |= lws_add_http_header_by_name(wsi, (const uint8_t *)name, (const uint8_t *)value,
					       (int)strlen(value), &h->at, h->end) != 0;
}

static int write_head(struct visitor *v)
{
	struct request *q = v->request;
	struct head h = {.at = h.buf + LWS_PRE, .end = h.buf + sizeof(h.buf) - 1};
	h.full = lws_add_http_header_status(v->wsi, q->status | LWSAHH_FLAG_NO_SERVER_NAME, &h.at,
					    h.end) != 0;
	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		head_add(&h, v->wsi, always[i].name, always[i].value);
	if (q->type)
		head_add(&h, v->wsi, "content-type:", q->type);
	if (q->tag)
		head_add(&h, v->wsi, "etag:", q->tag);
	/* Kept, but asked each time whether it is still so; or not kept. */
	head_add(&h, v->wsi, "cache-control:", q->tag ? "no-cache" : "no-store");
	if (*q->cookie)
		head_add(&h, v->wsi, "set-cookie:", q->cookie);
	if (q->last)
		head_add(&h, v->wsi, "connection:", "close");
	if (q->status != 204 && q->status != 304)
		h.full |= lws_add_http_header_content_length(v->wsi, q->left, &h.at, h.end) != 0;
	if (h.full || lws_finalize_write_http_header(v->wsi, h.buf + LWS_PRE, &h.at, h.end))
		return -1;
	q->headed = true;
	return 0;
}

int http_answer(struct visitor *v, unsigned status, const char *type, const char *data, size_t len)
{
	struct request *q = v->request;
	q->answered = true;
	q->status = status;
	q->type = type;
	q->data = data;
	q->left = len;
	lws_set_timeout(v->wsi, PENDING_TIMEOUT_HTTP_CONTENT, GATEWAY_SEND_S);
	lws_callback_on_writable(v->wsi);
	return 0;
}

int http_answer_text(struct visitor *v, unsigned status, const char *text)
{
	return http_answer(v, status, "text/plain; charset=utf-8", text, strlen(text));
}

int http_answer_error(struct visitor *v, unsigned status, const char *text)
{
	struct json *j = json_new_obj();
	json_set_str(j, "error", text);
	v->request->own = json_print(j);
	json_free(j);
	return v->request->own ? http_answer(v, status, "application/json", v->request->own,
					     strlen(v->request->own))
			       : -1;
}

int http_writeable(struct visitor *v)
{
	struct request *q = v->request;
	uint8_t buf[LWS_PRE + GATEWAY_CHUNK];
	if (!q || !q->answered)
		return 0;
	if (!q->headed && write_head(v) < 0)
		return -1;
	size_t n = MIN_OF(q->left, GATEWAY_CHUNK);
	bool last = n == q->left, ends = q->last;
	if (n) {
		memcpy(buf + LWS_PRE, q->data, n);
		if (lws_write(v->wsi, buf + LWS_PRE, n,
			      last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
			return -1;
	}
	q->data += n;
	q->left -= n;
	lws_set_timeout(v->wsi, PENDING_TIMEOUT_HTTP_CONTENT, GATEWAY_SEND_S);
	if (!last) {
		lws_callback_on_writable(v->wsi);
		return 0;
	}
	http_done(v);
	return ends || lws_http_transaction_completed(v->wsi) ? -1 : 0;
}

/* ---- GET ---- */

static int get(struct visitor *v, const char *path)
{
	const char *site = v->gateway->site_json;
	const struct page_file *f = page_find(v->gateway->page, path);
	char known[HASH_SIZE + 8];
	if (strcmp(path, "/site.json") == 0)
		return http_answer(v, 200, "application/json", site, strlen(site));
	if (!f)
		return http_answer_text(v, 404, "There is no such page.\n");
	v->request->tag = f->tag;
	if (lws_hdr_copy(v->wsi, known, sizeof(known), WSI_TOKEN_HTTP_IF_NONE_MATCH) > 0 &&
	    strcmp(known, f->tag) == 0)
		return http_answer(v, 304, NULL, NULL, 0);
	return http_answer(v, 200, f->type, f->data, f->len);
}

/* ---- whose page asks ---- */

/* A name that leads here by a trick in the DNS would make another site's page one of ours; where
 * the listener is on the loopback and no certificate proves the name, only these are ours. */
static bool host_known(const struct gateway_conf *c, const char *host)
{
	struct in_addr v4;
	char name[GATEWAY_HOST_SIZE];
	size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	if (*c->certificate || (c->insecure && !*c->host_name))
		return true;
	if (n >= sizeof(name))
		return false;
	memcpy(name, host, n);
	name[n] = 0;
	return strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
	       (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET) ||
	       (*c->host_name && strcasecmp(name, c->host_name) == 0);
}

bool http_same_origin(const struct visitor *v)
{
	char origin[GATEWAY_HOST_SIZE + 16], host[GATEWAY_HOST_SIZE + 8];
	const struct gateway_conf *c = v->gateway->conf;
	if (lws_hdr_copy(v->wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN) <= 0 ||
	    lws_hdr_copy(v->wsi, host, sizeof(host), WSI_TOKEN_HOST) <= 0)
		return false;
	const char *after = strstr(origin, "://");
	bool tls = strncasecmp(origin, "https:", 6) == 0;
	/* A proxy before us may have TLS that we have not. */
	return after && (tls || (!*c->certificate && strncasecmp(origin, "http:", 5) == 0)) &&
	       strcasecmp(after + 3, host) == 0 && host_known(c, host);
}

/* ---- requests ---- */

int http_request(struct visitor *v, const char *path)
{
	char host[GATEWAY_HOST_SIZE + 8];
	http_done(v);
	v->request = calloc(1, sizeof(*v->request));
	if (!v->request)
		return -1;
	v->request->begun_ms = clock_mono_ms();
	bool is_get = lws_hdr_total_length(v->wsi, WSI_TOKEN_GET_URI) > 0;
	bool is_post = lws_hdr_total_length(v->wsi, WSI_TOKEN_POST_URI) > 0;
	v->request->last =
		!is_get; /* until its body is read, the connection is good for nothing else */
	if (lws_hdr_copy(v->wsi, host, sizeof(host), WSI_TOKEN_HOST) <= 0 ||
	    !host_known(v->gateway->conf, host))
		return http_answer_text(v, 421, "This is not the name of this server.\n");
	if (is_get)
		return get(v, path);
	if (!is_post)
		return http_answer_text(v, 405, "Only GET and POST.\n");
	if (!http_same_origin(v)) {
		log_warning("browser=%s refused: a POST from another origin", v->address);
		return http_answer_error(v, 403, "found a request from a page of another origin");
	}
	return post_begin(v, path);
}

int http_body(struct visitor *v, const void *data, size_t len)
{
	struct request *q = v->request;
	if (!q || q->ended || clock_mono_ms() - q->begun_ms > GATEWAY_HEADER_S * 1000)
		return -1;
	return q->answered ? 0 : post_body(v, data, len);
}

/* Of a body that has ended libwebsockets (4.1) says so again, without end, when more has come
 * before the answer has gone. No browser sends a request behind one that waits. */
int http_body_end(struct visitor *v)
{
	struct request *q = v->request;
	if (!q || q->ended)
		return -1;
	q->ended = true;
	return q->answered ? 0 : post_end(v);
}

void http_done(struct visitor *v)
{
	if (!v->request)
		return;
	post_done(v);
	free(v->request->own);
	free(v->request->body);
	free(v->request);
	v->request = NULL;
}
