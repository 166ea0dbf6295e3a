/* Between http.c and post.c: the answer to a request. */
#pragma once

#include "dashboard/gateway/gateway.h"

enum post { POST_NONE, POST_LOGIN, POST_LOGOUT, POST_COMMAND };

struct request {
	/* What came. */
	enum post post;
	uint8_t token[ACCESS_TOKEN]; /* of its cookie; else zeros, which are no session's */
	char *body;
	size_t body_len;
	int64_t begun_ms;
	bool ended; /* its body has */
	uint64_t command; /* whose answer it waits for; 0: none */
	/* The answer, once it is there: its head is written first. */
	bool answered, headed;
	bool last; /* the connection ends with it */
	unsigned status;
	const char *type; /* of its content */
	const char *tag;  /* NULL: it is not to be kept */
	char cookie[160]; /* "": none */
	char *own;        /* the content, if it is ours to free */
	const char *data;
	size_t left;
};

/* The answer is there; `data` must live as long as the request does. Returns what a callback may
 * return. */
int http_answer(struct visitor *v, unsigned status, const char *type, const char *data, size_t len);
int http_answer_text(struct visitor *v, unsigned status, const char *text);
/* {"error": text} */
int http_answer_error(struct visitor *v, unsigned status, const char *text);

/* The head of a POST is there, of our own page; its body, up to GATEWAY_BODY_MAX; all of it. */
int post_begin(struct visitor *v, const char *path);
int post_body(struct visitor *v, const void *data, size_t len);
int post_end(struct visitor *v);
/* Nobody waits for its answer any more. */
void post_done(struct visitor *v);
