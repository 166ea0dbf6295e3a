/* The library's thread: one loop with both workers and the folder. Only this thread looks at lanes
 * and batches. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/checkpoint/model_file.h"
#include "libtasuki/impl.h"

#define EARLY_DEATHS_MAX 4 /* then tasuki_open() fails; later, calls wait for TASUKI_CALL_MS */

static void step(struct tasuki *t, enum lanes_event_kind kind, int lane, const char *checkpoint);

/* ---- what is told ---- */

static bool is_settled(struct tasuki *t)
{
	pthread_mutex_lock(&t->lock);
	bool settled = t->settled;
	pthread_mutex_unlock(&t->lock);
	return settled;
}

static void tell_trouble(struct tasuki *t, const struct err *err)
{
	if (strcmp(t->trouble.text, err->text) == 0)
		return;
	t->trouble = *err;
	struct tasuki_error e = {.code = err->code};
	snprintf(e.text, sizeof(e.text), "%s", err->text);
	if (t->on_trouble && is_settled(t)) /* else tasuki_open() says so */
		t->on_trouble(t->user, &e);
}

static void settle(struct tasuki *t)
{
	pthread_mutex_lock(&t->lock);
	t->settled = true;
	pthread_cond_broadcast(&t->settled_cond);
	pthread_mutex_unlock(&t->lock);
}

static void unusable(struct tasuki *t, const struct err *why)
{
	pthread_mutex_lock(&t->lock);
	t->unusable = *why;
	pthread_mutex_unlock(&t->lock);
	settle(t);
}

int serve_names(const struct tasuki *t, struct classes *ret, struct err *err)
{
	struct classes all = {0}, more = {0};
	int r = classes_load(t->worker.classes, &all, err);
	if (r == 0 && *t->private_classes)
		r = classes_load(t->private_classes, &more, err);
	if (r == 0 && more.n)
		r = classes_append(&all, &more, t->private_classes, err);
	classes_done(&more);
	if (r < 0) {
		classes_done(&all);
		return r;
	}
	*ret = all;
	return 0;
}

static void tell_swap(struct tasuki *t)
{
	const struct manifest *m = &t->io[t->lanes.serving].manifest;
	struct tasuki_checkpoint now = {.created_ms = m->created_ms};
	uint64_t one = 1;
	memcpy(now.id, m->id, sizeof(now.id));
	snprintf(now.origin, sizeof(now.origin), "%s", origin_name(m->origin));
	bool was_settled = is_settled(t);
	t->trouble = (struct err){0};
	pthread_mutex_lock(&t->lock);
	now.swaps = t->current.swaps + (*t->current.id && strcmp(t->current.id, now.id) != 0);
	bool same = strcmp(t->current.id, now.id) == 0;
	t->current = now;
	t->unusable = (struct err){0};
	if (!same && write(t->swap_fd, &one, sizeof(one)) < 0)
		errno = 0; /* it is readable already */
	pthread_mutex_unlock(&t->lock);
	settle(t);
	if (!same && was_settled && t->on_swap)
		t->on_swap(t->user, &now);
}

/* ---- the workers ---- */

static void on_ready(void *user, const struct worker_ready *r)
{
	struct lane_io *io = user;
	step(io->t, LANES_UP, io->index, NULL);
	if (!*io->t->lanes.wanted)
		settle(io->t);
}

static void on_loaded(struct lane_io *io, const struct json *result, const struct err *failed)
{
	struct tasuki *t = io->t;
	struct err err = {0};
	char id[HASH_SIZE] = "";
	io->load_id = 0;
	if (failed)
		err = *failed;
	else if (json_get_str(result, "checkpoint", id, sizeof(id), &err) == 0 &&
		 strcmp(id, io->manifest.id) != 0)
		err_set(&err, -EBADMSG,
			"%s/checkpoints/%s/weights: damaged: its sha256 is %.12s, expected %.12s",
			t->state, io->manifest.id, id, io->manifest.id);
	if (!err.code) {
		step(t, LANES_LOADED, io->index, NULL);
		return;
	}
	if (calls_worker_was_lost(&err))
		return; /* on_died() follows */
	step(t, LANES_REFUSED, io->index, NULL);
	tell_trouble(t, &err);
	if (lanes_stuck(&t->lanes))
		unusable(t, &err);
	calls_dispatch(t);
}

static void on_reply(void *user, uint64_t request, const struct json *result, const struct err *err)
{
	struct lane_io *io = user;
	if (request == io->load_id) {
		on_loaded(io, result, err);
		return;
	}
	for (int b = 0; b < TASUKI_BATCHES; b++)
		if (io->batches[b].id == request)
			calls_answered(io, &io->batches[b], b, err);
	calls_dispatch(io->t);
}

static void on_died(void *user, const struct err *why, bool failed_open, int64_t retry_in_ms)
{
	struct lane_io *io = user;
	struct tasuki *t = io->t;
	step(t, LANES_GONE, io->index, NULL);
	tell_trouble(t, why);
	bool early = !is_settled(t) && ++t->early_deaths >= EARLY_DEATHS_MAX;
	if (t->lanes.serving < 0 && (failed_open || early))
		unusable(t, why);
	calls_dispatch(t);
}

static uint64_t number_of(const struct tasuki *t)
{
	struct stat st;
	uint64_t n = folder_number(t->state);
	if (*t->private_classes && stat(t->private_classes, &st) == 0)
		n ^= (uint64_t)st.st_ino << 32 ^ (uint64_t)st.st_mtim.tv_nsec;
	return n;
}

static int start_worker(struct lane_io *io, struct err *err)
{
	const struct worker_handler h = {
		.ready = on_ready, .reply = on_reply, .died = on_died, .user = io};
	struct worker_conf conf = io->t->worker;
	conf.frames = TASUKI_BATCHES * TASUKI_BATCH;
	conf.frames_fd = io->fd;
	io->number = number_of(io->t);
	memcpy(conf.private_classes, io->t->private_classes, sizeof(conf.private_classes));
	return worker_new(io->t->loop, &conf, &h, &io->worker, err);
}

/* What it may read, or what it knows, is not there any more: another one is. It serves nothing. */
static int renew_worker(struct lane_io *io, struct err *err)
{
	struct tasuki *t = io->t;
	struct classes names;
	worker_free(TAKE_PTR(io->worker));
	io->load_id = 0;
	if (serve_names(t, &names, err) == 0) {
		pthread_mutex_lock(&t->lock);
		struct classes old = t->names;
		t->names = names;
		pthread_mutex_unlock(&t->lock);
		classes_done(&old);
	}
	return start_worker(io, err);
}

/* Private classes may have come with a restart of the agent. */
static void look_at_names(struct tasuki *t)
{
	struct model_file m;
	if (model_file_read(t->state, &m, NULL) == 0)
		memcpy(t->private_classes, m.private_classes, sizeof(t->private_classes));
}

static void load(struct tasuki *t, int lane)
{
	struct lane_io *io = &t->io[lane];
	char weights[FILE_PATH_MAX];
	struct err err = {0};
	look_at_names(t);
	int r = folder_checkpoint(t->state, t->lanes.wanted, t->model, weights, &io->manifest,
				  &err);
	if (r == 0 && io->number != number_of(t)) {
		bool busy = io->batches[0].id || io->batches[1].id;
		if (!busy && renew_worker(io, &err) == 0)
			step(t, LANES_GONE, lane, NULL);
		else
			step(t, LANES_REFUSED, lane, NULL);
		return;
	}
	if (r == 0) {
		struct json *args = json_new_obj();
		json_set_str(args, "weights", weights);
		r = worker_request(io->worker, "load", args, &io->load_id);
		if (r < 0)
			err_errno(&err, r, "tasuki-worker: load");
	}
	if (r == 0)
		return;
	char id[HASH_SIZE];
	step(t, LANES_REFUSED, lane, NULL);
	if (folder_active(t->state, id, NULL) == 0 && strcmp(id, t->lanes.wanted) != 0) {
		step(t, LANES_WANT, -1, id); /* it had been removed, as another had become active */
		return;
	}
	tell_trouble(t, &err);
	if (lanes_stuck(&t->lanes))
		unusable(t, &err);
}

static void step(struct tasuki *t, enum lanes_event_kind kind, int lane, const char *checkpoint)
{
	const struct lanes_event ev = {kind, lane, checkpoint};
	struct lanes_actions a;
	lanes_step(&t->lanes, &ev, clock_mono_ms(), &a);
	if (a.swapped)
		tell_swap(t);
	if (a.load >= 0)
		load(t, a.load);
	loop_timer_at(t->lanes_timer, lanes_deadline_ms(&t->lanes, clock_mono_ms()));
	if (a.swapped)
		calls_dispatch(t);
}

/* ---- the folder ---- */

static void look(struct tasuki *t)
{
	char id[HASH_SIZE];
	struct err err = {0};
	if (t->watch < 0)
		folder_watch(t->inotify_fd, t->state, &t->watch);
	int r = folder_active(t->state, id, &err);
	if (r == 0 && strcmp(id, t->lanes.wanted) != 0)
		step(t, LANES_WANT, -1, id);
	else if (r < 0 && (r != -ENOENT || *t->lanes.wanted))
		tell_trouble(t, &err);
}

static int on_inotify(void *user, int fd, uint32_t events)
{
	struct tasuki *t = user;
	if (folder_changed(fd, &t->watch))
		look(t);
	return 0;
}

static int on_look(void *user)
{
	struct tasuki *t = user;
	look(t);
	calls_fail_late(t);
	calls_dispatch(t);
	return loop_timer_at(t->look_timer, clock_mono_ms() + TASUKI_LOOK_MS);
}

static int on_lanes_timer(void *user)
{
	step(user, LANES_TIMER, -1, NULL);
	return 0;
}

static int on_wake(void *user, int fd, uint32_t events)
{
	struct tasuki *t = user;
	uint64_t n;
	if (read(fd, &n, sizeof(n)) < 0)
		return 0;
	pthread_mutex_lock(&t->lock);
	bool closing = t->closing;
	pthread_mutex_unlock(&t->lock);
	if (closing)
		loop_exit(t->loop, 0);
	else
		calls_dispatch(t);
	return 0;
}

/* ---- start and end ---- */

/* Sealed: a worker that made the file shorter would end this process with SIGBUS. */
static int share_memory(struct lane_io *io, struct err *err)
{
	struct tasuki *t = io->t;
	size_t bytes =
		(size_t)TASUKI_BATCHES * TASUKI_BATCH * (t->inputs + t->outputs) * sizeof(float);
	io->fd = memfd_create("tasuki-frames", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (io->fd < 0 || ftruncate(io->fd, (off_t)bytes) < 0 ||
	    fcntl(io->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_errno(err, -errno, "shared memory of %zu bytes", bytes);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, io->fd, 0);
	if (p == MAP_FAILED)
		return err_errno(err, -errno, "shared memory of %zu bytes", bytes);
	io->memory = p;
	return 0;
}

static int start_loop(struct tasuki *t, struct err *err)
{
	int r = loop_new_guest(&t->loop);
	if (r == 0)
		r = loop_add_fd(t->loop, t->wake_fd, EPOLLIN, on_wake, t, &t->wake);
	if (r == 0)
		r = loop_add_fd(t->loop, t->inotify_fd, EPOLLIN, on_inotify, t, &t->inotify);
	if (r == 0)
		r = loop_add_timer(t->loop, on_look, t, &t->look_timer);
	if (r == 0)
		r = loop_add_timer(t->loop, on_lanes_timer, t, &t->lanes_timer);
	if (r == 0)
		r = loop_timer_at(t->look_timer, 0);
	return r < 0 ? err_errno(err, r, "event loop") : 0;
}

static _Thread_local bool own_thread;

bool serve_is_own_thread(void)
{
	return own_thread;
}

static void *run(void *user)
{
	own_thread = true;
	loop_run(((struct tasuki *)user)->loop);
	return NULL;
}

/* The kernel ends a worker with the thread that started it, so that must be this one; the
 * application's signals are for the application's threads. */
static int start_thread(struct tasuki *t, struct err *err)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&t->thread, NULL, run, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r) {
		t->thread = 0;
		return err_errno(err, -r, "thread");
	}
	return 0;
}

int serve_start(struct tasuki *t, struct err *err)
{
	int r = 0;
	t->watch = -1;
	t->last = &t->first;
	lanes_init(&t->lanes);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->swap_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (t->wake_fd < 0 || t->swap_fd < 0 || t->inotify_fd < 0)
		return err_errno(err, -errno, "eventfd, inotify");
	for (int i = 0; i < LANES_N; i++)
		t->io[i] = (struct lane_io){.t = t, .index = i, .fd = -1};
	for (int i = 0; r == 0 && i < LANES_N; i++)
		r = share_memory(&t->io[i], err);
	if (r == 0)
		r = start_loop(t, err);
	for (int i = 0; r == 0 && i < LANES_N; i++)
		r = start_worker(&t->io[i], err);
	return r < 0 ? r : start_thread(t, err);
}

void serve_stop(struct tasuki *t)
{
	uint64_t one = 1;
	pthread_mutex_lock(&t->lock);
	t->closing = true;
	pthread_mutex_unlock(&t->lock);
	if (t->thread && write(t->wake_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(t->thread, NULL);
	size_t bytes =
		(size_t)TASUKI_BATCHES * TASUKI_BATCH * (t->inputs + t->outputs) * sizeof(float);
	for (int i = 0; i < LANES_N; i++) {
		worker_free(t->io[i].worker);
		if (t->io[i].memory)
			munmap(t->io[i].memory, bytes);
		if (t->io[i].fd >= 0)
			close(t->io[i].fd);
	}
	loop_source_free(t->wake);
	loop_source_free(t->inotify);
	loop_source_free(t->look_timer);
	loop_source_free(t->lanes_timer);
	loop_free(t->loop);
	int fds[] = {t->wake_fd, t->swap_fd, t->inotify_fd};
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int serve_settle(struct tasuki *t, struct err *err)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += TASUKI_START_MS / 1000;
	int r = 0;
	pthread_mutex_lock(&t->lock);
	while (!t->settled && r == 0)
		r = -pthread_cond_timedwait(&t->settled_cond, &t->lock, &until);
	struct err why = t->unusable;
	pthread_mutex_unlock(&t->lock);
	if (why.code) {
		if (err)
			*err = why;
		return why.code;
	}
	return r < 0 ? err_set(err, r, "tasuki-worker: not there within %d s",
			       TASUKI_START_MS / 1000)
		     : 0;
}
