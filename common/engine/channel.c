#include "common/engine/channel.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/worker.h"
#include "common/engine/worker_protocol.h"

#define READ_BYTES 65536

struct slot {
	uint64_t id; /* 0: nothing runs */
	int64_t step, steps;
	double loss, images_per_second;
};

struct channel {
	int fd;
	bool started;
	char *in;
	size_t in_len, in_size;
	size_t used;          /* bytes of `in` that are the line given out last */
	pthread_mutex_t lock; /* of what follows, and of writing */
	pthread_cond_t wake;  /* a slot was taken */
	struct slot slots[CHANNEL_SLOTS];
};

static void write_line(struct channel *c, const char *line, size_t len)
{
	if (file_write_all(c->fd, line, len) < 0)
		_exit(0);
}

static void write_progress(struct channel *c, const struct slot *s)
{
	char loss[32] = "null", line[256];
	if (isfinite(s->loss))
		snprintf(loss, sizeof(loss), "%.6g", s->loss);
	int n = snprintf(line, sizeof(line),
			 "{\"id\":%llu,\"event\":\"progress\",\"step\":%lld,\"steps\":%lld,"
			 "\"loss\":%s,\"images_per_second\":%.1f}\n",
			 (unsigned long long)s->id, (long long)s->step, (long long)s->steps, loss,
			 isfinite(s->images_per_second) ? s->images_per_second : 0.0);
	write_line(c, line, (size_t)n);
}

static void *progress_thread(void *user)
{
	struct channel *c = user;
	const struct timespec interval = {.tv_nsec = WORKER_PROGRESS_MS * 1000000L};
	for (;;) {
		nanosleep(&interval, NULL);
		pthread_mutex_lock(&c->lock);
		while (!c->slots[CHANNEL_TRAIN].id && !c->slots[CHANNEL_JOB].id)
			pthread_cond_wait(&c->wake, &c->lock);
		for (int i = 0; i < CHANNEL_SLOTS; i++)
			if (c->slots[i].id)
				write_progress(c, &c->slots[i]);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

int channel_new(int fd, struct channel **ret)
{
	struct channel *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = fd;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	*ret = c;
	return 0;
}

int channel_start(struct channel *c, struct err *err)
{
	if (c->started)
		return 0;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024); /* counts against the memory limit */
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_t thread;
	int r = pthread_create(&thread, &attr, progress_thread, c);
	pthread_attr_destroy(&attr);
	c->started = !r;
	return r ? err_errno(err, -r, "thread") : 0;
}

/* More of the stream into `in`; false: nothing is there. */
static bool fill(struct channel *c, int64_t wait_ms)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	if (wait_ms > 0 && poll(&p, 1, (int)MIN_OF(wait_ms, INT_MAX)) <= 0)
		return false;
	if (c->in_len + READ_BYTES > c->in_size) {
		char *in = realloc(c->in, c->in_len + READ_BYTES);
		if (!in)
			_exit(1);
		c->in = in;
		c->in_size = c->in_len + READ_BYTES;
	}
	for (;;) {
		ssize_t n =
			recv(c->fd, c->in + c->in_len, READ_BYTES, wait_ms < 0 ? 0 : MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return false;
		if (n <= 0)
			_exit(0);
		c->in_len += (size_t)n;
		return true;
	}
}

char *channel_line(struct channel *c, int64_t wait_ms, size_t *ret_len)
{
	if (c->used) {
		c->in_len -= c->used;
		memmove(c->in, c->in + c->used, c->in_len);
		c->used = 0;
	}
	size_t seen = 0;
	for (;;) {
		char *end = seen < c->in_len ? memchr(c->in + seen, '\n', c->in_len - seen) : NULL;
		if (end) {
			*ret_len = (size_t)(end - c->in);
			*end = 0;
			c->used = *ret_len + 1;
			return c->in;
		}
		seen = c->in_len;
		if (seen > WORKER_LINE_MAX) {
			fprintf(stderr, "tasuki-worker: a request of more than %d bytes\n",
				WORKER_LINE_MAX);
			_exit(2);
		}
		if (!fill(c, wait_ms))
			return NULL;
	}
}

static void write_reply(struct channel *c, uint64_t id, struct json *line)
{
	_cleanup_free_ char *text = json_print(line);
	json_free(line);
	size_t len = text ? strlen(text) : 0;
	char fallback[160];
	if (!text || len >= WORKER_LINE_MAX) {
		len = (size_t)snprintf(fallback, sizeof(fallback),
				       "{\"id\":%llu,\"ok\":false,\"code\":%d,\"category\":\"%s\","
				       "\"error\":\"%s\"}",
				       (unsigned long long)id, text ? -E2BIG : -ENOMEM,
				       err_category_name(text ? ERR_OTHER : ERR_MEMORY),
				       text ? "the answer is too long for one line: ask for less"
					    : "out of memory");
		free(text);
		text = strdup(fallback);
		if (!text)
			_exit(1);
	}
	text[len] = '\n'; /* in place of the NUL */
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < CHANNEL_SLOTS; i++)
		if (c->slots[i].id == id)
			c->slots[i].id = 0;
	write_line(c, text, len + 1);
	pthread_mutex_unlock(&c->lock);
}

void channel_reply(struct channel *c, uint64_t id, struct json *result)
{
	struct json *line = json_new_obj();
	json_set_int(line, "id", (int64_t)id);
	json_set_bool(line, "ok", true);
	json_set(line, "result", result ? result : json_new_obj());
	write_reply(c, id, line);
}

void channel_fail(struct channel *c, uint64_t id, const struct err *err)
{
	struct json *line = json_new_obj();
	json_set_int(line, "id", (int64_t)id);
	json_set_bool(line, "ok", false);
	json_set_int(line, "code", err->code);
	json_set_str(line, "category", err_category_name(err->category));
	json_set_str(line, "error", err->text);
	write_reply(c, id, line);
}

void channel_progress(struct channel *c, enum channel_slot slot, uint64_t id, int64_t step,
		      int64_t steps, double loss, double images_per_second)
{
	pthread_mutex_lock(&c->lock);
	if (!c->slots[slot].id)
		pthread_cond_signal(&c->wake);
	c->slots[slot] = (struct slot){id, step, steps, loss, images_per_second};
	pthread_mutex_unlock(&c->lock);
}
