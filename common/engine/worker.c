/* DOWN (waiting for the time of the next start) -> OPENING (`open` is sent) -> READY -> DOWN ...
 *
 * In DOWN there is no process, no socket and no request. One timer serves both sides: in DOWN it
 * is the next start, else the time at which a worker that shows no progress is taken for hung.
 * Progress is a reply, or a step that moved: that a worker writes lines proves only that one
 * thread of it lives. Whatever ends a process goes through fail(). */
#include "common/engine/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/engine/worker_process.h"
#include "common/engine/worker_wire.h"

#define START_TIMEOUT_MS 600000
#define BACKOFF_FIRST_MS 500
#define BACKOFF_CAP_MS   60000
#define READ_BYTES       65536

enum state { DOWN, OPENING, READY };
enum op { OP_OTHER, OP_TRAIN, OP_PAUSE, OP_RESUME };

struct request {
	uint64_t id;
	enum op op;
	int64_t step; /* last told */
};

struct buffer {
	char *data;
	size_t len, size;
};

struct worker {
	struct loop *loop;
	struct worker_conf conf;
	struct worker_handler handler;
	char program[1024];
	enum state state;
	struct worker_process process;
	struct loop_source *io, *timer;
	struct buffer in, out;
	struct request requests[WORKER_REQUESTS_MAX];
	size_t n_requests;
	uint64_t next_id, open_id;
	bool paused;
	int64_t moved_ms;  /* last progress, or when there was work again; clock_awake_ms() */
	unsigned failures; /* since the last request that succeeded */
	struct rng rng;
};

static int buffer_add(struct buffer *b, const void *data, size_t len)
{
	if (b->len + len > b->size) {
		char *p = realloc(b->data, b->len + len);
		if (!p)
			return -ENOMEM;
		b->data = p;
		b->size = b->len + len;
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

static void buffer_drop(struct buffer *b, size_t n)
{
	b->len -= n;
	memmove(b->data, b->data + n, b->len);
	if (!b->len && b->size > READ_BYTES) {
		free(b->data); /* a long line must not cost memory for ever */
		*b = (struct buffer){0};
	}
}

/* A training that stands still on request is no work, and cannot hang. */
static bool has_work(const struct worker *w)
{
	for (size_t i = 0; i < w->n_requests; i++)
		if (w->requests[i].op != OP_TRAIN || !w->paused)
			return true;
	return false;
}

/* Until it is taken for hung. A worker sleeps when the machine does: that is no time it had. */
static int64_t patience_ms(const struct worker *w)
{
	int64_t all_ms = w->state == OPENING ? w->conf.start_timeout_ms : w->conf.stall_ms;
	return w->moved_ms + all_ms - clock_awake_ms();
}

static void arm(struct worker *w)
{
	if (w->state == OPENING || (w->state == READY && has_work(w)))
		loop_timer_at(w->timer, clock_mono_ms() + MAX_OF(patience_ms(w), 0));
	else if (w->state == READY)
		loop_timer_at(w->timer, -1);
}

/* Ends the process, answers what is outstanding, and sets the time of the next start. Where the
 * worker ended by itself (-ECONNRESET), how it ended follows. */
static void fail(struct worker *w, const struct err *what, bool failed_open)
{
	struct err how = {0}, why = *what;
	struct request lost[WORKER_REQUESTS_MAX];
	size_t n = w->n_requests;
	memcpy(lost, w->requests, n * sizeof(*lost));
	loop_source_free(TAKE_PTR(w->io));
	worker_process_end(&w->process, &how);
	if (why.code == -ECONNRESET && how.code) {
		err_prefix(&how, "%s", what->text);
		why = how;
	}
	w->state = DOWN;
	w->n_requests = 0;
	w->paused = false;
	w->in.len = w->out.len = 0;
	int64_t wait_ms = rng_backoff_ms(&w->rng, w->failures++, w->conf.backoff_first_ms,
					 w->conf.backoff_cap_ms);
	loop_timer_at(w->timer, clock_mono_ms() + wait_ms);
	for (size_t i = 0; i < n; i++)
		if (w->handler.reply && lost[i].id != w->open_id)
			w->handler.reply(w->handler.user, lost[i].id, NULL, &why);
	if (w->handler.died)
		w->handler.died(w->handler.user, &why, failed_open, wait_ms);
}

static void fail_with(struct worker *w, int code, enum err_category category, const char *text)
{
	struct err err = {0};
	err_set(&err, code, "%s", text);
	err_categorize(&err, category);
	fail(w, &err, false);
}

static void flush(struct worker *w)
{
	while (w->out.len) {
		ssize_t n = send(w->process.fd, w->out.data, w->out.len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* full: later; broken: the end of the stream is read next */
		buffer_drop(&w->out, (size_t)n);
	}
	loop_fd_events(w->io, EPOLLIN | (w->out.len ? EPOLLOUT : 0));
}

static enum op op_of(const char *op)
{
	return strcmp(op, "train") == 0    ? OP_TRAIN
	       : strcmp(op, "pause") == 0  ? OP_PAUSE
	       : strcmp(op, "resume") == 0 ? OP_RESUME
					   : OP_OTHER;
}

static int send_request(struct worker *w, const char *op, struct json *taken, uint64_t *ret_id)
{
	_cleanup_(json_freep) struct json *args = taken ? taken : json_new_obj();
	if (w->n_requests == WORKER_REQUESTS_MAX)
		return -EBUSY;
	json_set_int(args, "id", (int64_t)w->next_id);
	json_set_str(args, "op", op);
	_cleanup_free_ char *line = json_print(args);
	if (!line)
		return -ENOMEM;
	size_t len = strlen(line);
	if (len >= WORKER_LINE_MAX)
		return -E2BIG;
	line[len] = '\n'; /* in place of the NUL */
	int r = buffer_add(&w->out, line, len + 1);
	if (r < 0)
		return r;
	if (!has_work(w))
		w->moved_ms = clock_awake_ms();
	*ret_id = w->next_id++;
	w->requests[w->n_requests++] = (struct request){*ret_id, op_of(op), -1};
	flush(w);
	arm(w);
	return 0;
}

static void on_open_answer(struct worker *w, const struct worker_line *l)
{
	struct worker_ready ready;
	struct err err = {0};
	if (l->kind == WORKER_LINE_FAILED) {
		fail(w, &l->err, true);
		return;
	}
	if (worker_ready_parse(l->result, &ready, &err) < 0) {
		err_prefix(&err, "tasuki-worker sent garbage: open");
		fail_with(w, -EPROTO, ERR_WORKER, err.text);
		return;
	}
	w->state = READY;
	if (w->handler.ready)
		w->handler.ready(w->handler.user, &ready);
}

static void on_answer(struct worker *w, const struct worker_line *l, size_t i)
{
	struct request r = w->requests[i];
	w->requests[i] = w->requests[--w->n_requests];
	w->moved_ms = clock_awake_ms();
	if (w->state == OPENING) {
		on_open_answer(w, l);
		return;
	}
	bool ok = l->kind == WORKER_LINE_OK;
	if (ok)
		w->failures = 0;
	if (ok && (r.op == OP_PAUSE || r.op == OP_RESUME))
		w->paused = r.op == OP_PAUSE;
	if (w->handler.reply)
		w->handler.reply(w->handler.user, r.id, ok ? l->result : NULL, ok ? NULL : &l->err);
}

static void on_line(struct worker *w, const char *text, size_t len)
{
	_cleanup_(json_freep) struct json *json = NULL;
	struct worker_line l = {0};
	struct err err = {0};
	size_t i = 0;
	int r = json_parse(text, len, WORKER_LINE_MAX, &json, &err);
	if (r == 0)
		r = worker_wire_line(json, &l, &err);
	while (r == 0 && i < w->n_requests && w->requests[i].id != l.id)
		i++;
	if (r == 0 && i == w->n_requests)
		r = err_set(&err, -EINVAL, "id: found %llu, which is not outstanding",
			    (unsigned long long)l.id);
	if (r < 0) {
		err_prefix(&err, "tasuki-worker sent garbage");
		fail_with(w, -EPROTO, ERR_WORKER, err.text);
		return;
	}
	if (l.kind != WORKER_LINE_PROGRESS) {
		on_answer(w, &l, i);
		return;
	}
	if (l.progress.step != w->requests[i].step)
		w->moved_ms = clock_awake_ms();
	w->requests[i].step = l.progress.step;
	if (w->state == READY && w->handler.progress)
		w->handler.progress(w->handler.user, l.id, &l.progress);
}

/* Whole lines in `in`. */
static void on_input(struct worker *w, size_t seen)
{
	size_t begin = 0;
	char *end;
	while (w->state != DOWN && (end = memchr(w->in.data + seen, '\n', w->in.len - seen))) {
		size_t len = (size_t)(end - w->in.data) - begin;
		on_line(w, w->in.data + begin, len);
		begin += len + 1;
		seen = begin;
	}
	if (w->state == DOWN)
		return;
	buffer_drop(&w->in, begin);
	if (w->in.len > WORKER_LINE_MAX)
		fail_with(w, -EPROTO, ERR_WORKER,
			  "tasuki-worker sent garbage: a line that is too long");
	arm(w);
}

static int on_io(void *user, int fd, uint32_t events)
{
	struct worker *w = user;
	char chunk[READ_BYTES];
	if (events & EPOLLOUT)
		flush(w);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	size_t seen = w->in.len;
	if (n <= 0)
		fail_with(w, -ECONNRESET, ERR_WORKER,
			  w->state == OPENING ? "tasuki-worker died before it had opened its data"
					      : "tasuki-worker died");
	else if (buffer_add(&w->in, chunk, (size_t)n) < 0)
		fail_with(w, -ENOMEM, ERR_MEMORY, "out of memory for the answer of tasuki-worker");
	else
		on_input(w, seen);
	return 0;
}

static void start(struct worker *w)
{
	struct err err = {0};
	int r = worker_process_start(&w->process, w->program, &w->conf, &err);
	if (r == 0) {
		r = loop_add_fd(w->loop, w->process.fd, EPOLLIN, on_io, w, &w->io);
		if (r < 0)
			err_errno(&err, r, "tasuki-worker: epoll");
	}
	if (r == 0) {
		w->state = OPENING;
		w->moved_ms = clock_awake_ms();
		r = send_request(w, "open", worker_wire_open(&w->conf), &w->open_id);
		if (r < 0)
			err_errno(&err, r, "tasuki-worker: open");
	}
	if (r < 0)
		fail(w, &err, false);
}

static int on_timer(void *user)
{
	struct worker *w = user;
	char text[128];
	if (w->state == DOWN) {
		start(w);
		return 0;
	}
	if (patience_ms(w) > 0) {
		arm(w);
		return 0;
	}
	int64_t patience = w->state == OPENING ? w->conf.start_timeout_ms : w->conf.stall_ms;
	snprintf(text, sizeof(text), "tasuki-worker hung: %s within %.1f s, killed",
		 w->state == OPENING ? "it had not opened its data" : "no step finished",
		 (double)patience / 1000);
	fail_with(w, -ETIMEDOUT, ERR_HUNG, text);
	return 0;
}

int worker_new(struct loop *loop, const struct worker_conf *conf,
	       const struct worker_handler *handler, struct worker **ret, struct err *err)
{
	int r = worker_wire_check(conf, err);
	if (r < 0)
		return r;
	struct worker *w = calloc(1, sizeof(*w));
	if (!w)
		return err_errno(err, -ENOMEM, "worker");
	w->loop = loop;
	w->conf = *conf;
	w->handler = *handler;
	w->process = (struct worker_process){.fd = -1, .log_fd = -1};
	w->next_id = 1;
	rng_init(&w->rng, rng_entropy());
	if (w->conf.start_timeout_ms <= 0)
		w->conf.start_timeout_ms = START_TIMEOUT_MS;
	if (w->conf.stall_ms <= 0)
		w->conf.stall_ms = WORKER_STALL_MS;
	if (w->conf.backoff_first_ms <= 0)
		w->conf.backoff_first_ms = BACKOFF_FIRST_MS;
	if (w->conf.backoff_cap_ms <= 0)
		w->conf.backoff_cap_ms = BACKOFF_CAP_MS;
	r = worker_process_find(&w->conf, w->program, err);
	if (r == 0) {
		r = loop_add_timer(loop, on_timer, w, &w->timer);
		if (r < 0)
			err_errno(err, r, "worker");
	}
	if (r < 0) {
		free(w);
		return r;
	}
	loop_timer_at(w->timer, 0); /* the handler is not called before the loop runs */
	*ret = w;
	return 0;
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	loop_source_free(w->io);
	loop_source_free(w->timer);
	worker_process_end(&w->process, NULL);
	free(w->in.data);
	free(w->out.data);
	free(w);
}

bool worker_is_ready(const struct worker *w)
{
	return w->state == READY;
}

int worker_pid(const struct worker *w)
{
	return w->process.pid;
}

int worker_request(struct worker *w, const char *op, struct json *args, uint64_t *ret_id)
{
	if (w->state != READY) {
		json_free(args);
		return -ENOTCONN;
	}
	return send_request(w, op, args, ret_id);
}
