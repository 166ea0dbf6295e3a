#include "cli/classify_client.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/classify_request.h"
#include "common/base/mem.h"
#include "common/json/json.h"

struct conversation {
	struct classify_client *c;
	char in[CLASSIFY_LINE_MAX];
	size_t len;
	bool watching;
};

static bool say(struct conversation *v, struct json *taken)
{
	_cleanup_(json_freep) struct json *j = taken;
	_cleanup_free_ char *text = json_print(j);
	if (!text)
		return false;
	size_t len = strlen(text), at = 0;
	text[len++] = '\n'; /* in place of the NUL */
	while (at < len) {
		ssize_t n = send(v->c->fd, text + at, len - at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

static struct json *new_answer(const struct classify_request *r)
{
	struct json *j = json_new_obj();
	if (r->has_id)
		json_set_int(j, "id", r->id);
	return j;
}

static bool say_error(struct conversation *v, const struct classify_request *r, int code,
		      const char *text)
{
	struct json *j = new_answer(r);
	const char *name = strerrorname_np(-code);
	json_set_str(j, "error", text);
	json_set_str(j, "code", name ? name : "EIO");
	return say(v, j);
}

static void set_current(struct conversation *v, struct json *j)
{
	struct tasuki_checkpoint now;
	tasuki_current(v->c->t, &now);
	json_set_str(j, "checkpoint", now.id);
	json_set_str(j, "origin", now.origin);
	json_set_int(j, "swaps", (int64_t)now.swaps);
}

static bool say_swap(struct conversation *v)
{
	uint64_t n;
	if (read(v->c->swap_fd, &n, sizeof(n)) < 0 || !v->watching)
		return true;
	struct json *j = json_new_obj();
	json_set_str(j, "event", "swap");
	set_current(v, j);
	return say(v, j);
}

/* ---- what comes in ---- */

/* More of the stream; swaps are told meanwhile. */
static bool receive(struct conversation *v)
{
	struct pollfd fds[] = {{.fd = v->c->fd, .events = POLLIN},
			       {.fd = v->c->swap_fd, .events = POLLIN}};
	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[1].revents && !say_swap(v))
			return false;
		if (!fds[0].revents)
			continue;
		ssize_t n = recv(v->c->fd, v->in + v->len, sizeof(v->in) - v->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		v->len += n > 0 ? (size_t)n : 0;
		return n > 0;
	}
	return false;
}

static void drop(struct conversation *v, size_t n)
{
	v->len -= n;
	memmove(v->in, v->in + n, v->len);
}

/* The frame behind a request; out NULL: it is thrown away. */
static bool receive_frame(struct conversation *v, uint8_t *out, size_t bytes)
{
	char waste[4096];
	size_t at = MIN_OF(v->len, bytes);
	if (out)
		memcpy(out, v->in, at);
	drop(v, at);
	while (at < bytes) {
		size_t most = out ? bytes - at : MIN_OF(bytes - at, sizeof(waste));
		ssize_t n = recv(v->c->fd, out ? (char *)out + at : waste, most, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* ---- what goes out ---- */

static int classify(struct conversation *v, const struct classify_request *r, const uint8_t *frame,
		    struct tasuki_result *ret, float *p, size_t n, struct tasuki_error *e)
{
	if (*r->path)
		return tasuki_classify_file(v->c->t, r->path, ret, p, n, e);
	if (r->floats)
		return tasuki_classify_input(v->c->t, (const float *)(const void *)frame,
					     (size_t)r->bytes / sizeof(float), ret, p, n, e);
	return tasuki_classify_pixels(v->c->t, frame, (uint32_t)r->width, (uint32_t)r->height,
				      (uint32_t)r->channels, 0, ret, p, n, e);
}

static bool answer(struct conversation *v, const struct classify_request *r, const uint8_t *frame)
{
	struct tasuki_result got;
	struct tasuki_error e;
	uint32_t w, h, c, n;
	tasuki_shape(v->c->t, &w, &h, &c, &n);
	_cleanup_free_ float *p = malloc(n * sizeof(*p));
	if (!p)
		return say_error(v, r, -ENOMEM, "out of memory");
	int code = classify(v, r, frame, &got, p, n, &e);
	if (code < 0)
		return say_error(v, r, code, e.text);
	struct json *j = new_answer(r), *all = json_new_arr();
	json_set_int(j, "class", got.class_index);
	json_set_str(j, "name", got.name);
	json_set_num(j, "score", (double)got.score);
	json_set_str(j, "checkpoint", got.checkpoint);
	for (uint32_t i = 0; r->probabilities && i < n; i++)
		json_push_num(all, (double)p[i]);
	if (r->probabilities)
		json_set(j, "probabilities", all);
	else
		json_free(all);
	return say(v, j);
}

/* A request with what follows it; false: the conversation is over. */
static bool serve(struct conversation *v, size_t len)
{
	_cleanup_free_ uint8_t *frame = NULL;
	struct classify_request r = {0};
	struct err err = {0};
	int code = classify_request_parse(v->in, len, &r, &err);
	drop(v, len + 1);
	if (r.lost) {
		say_error(v, &r, code, err.text); /* how much follows is not known */
		return false;
	}
	if (code == 0 && r.has_watch)
		v->watching = r.watch;
	if (code == 0 && r.bytes && !(frame = malloc((size_t)r.bytes)))
		code = err_errno(&err, -ENOMEM, "a frame of %lld bytes", (long long)r.bytes);
	if (r.bytes && !receive_frame(v, frame, (size_t)r.bytes))
		return false;
	if (code < 0)
		return say_error(v, &r, code, err.text);
	if (r.bytes || *r.path)
		return answer(v, &r, frame);
	struct json *now = new_answer(&r);
	set_current(v, now);
	return say(v, now);
}

static void converse(struct conversation *v)
{
	for (;;) {
		char *end = memchr(v->in, '\n', v->len);
		if (end) {
			if (!serve(v, (size_t)(end - v->in)))
				return;
		} else if (v->len == sizeof(v->in)) {
			say_error(v, &(struct classify_request){0}, -E2BIG,
				  "a request of more than 8192 bytes");
			return;
		} else if (!receive(v)) {
			return;
		}
	}
}

void *classify_client_run(void *user)
{
	struct classify_client *c = user;
	struct conversation *v = calloc(1, sizeof(*v));
	const struct timeval patience = {.tv_sec = CLASSIFY_PATIENCE_S};
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (v) {
		v->c = c;
		converse(v);
	}
	free(v);
	shutdown(c->fd, SHUT_RDWR);
	c->done = true;
	return NULL;
}
