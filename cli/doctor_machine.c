/* What tasuki doctor looks at on this machine: state folder, clock, network, disk, worker, images,
 * and whether training would wait now. */
#include "cli/doctor.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/engine/memory.h"
#include "device-agent/readings.h"
#include "device-agent/state.h"

#define AHEAD_MS  60000 /* that a file may be younger than the clock says */
#define MB(bytes) ((unsigned long long)((bytes) >> 20))
/* Checkpoints in an agent's state folder: the active one, the one before, the local one, what comes
 * back and what is made of it, the bases of differences; and of these, without which nothing goes.
 */
#define AGENT_FILES  12
#define AGENT_LEAST  3
#define MEMINFO_LINE 128
#define FOLDERS_OPEN 16

static const char *program(const struct doctor *d)
{
	return d->agent ? "tasuki-agent" : "tasuki-trainer";
}

/* ---- the state folder ---- */

/* The folder, or the one above it that it will be made in. */
static void nearest(const char *path, char ret[FILE_PATH_MAX])
{
	snprintf(ret, FILE_PATH_MAX, "%s", path);
	while (!file_exists(ret)) {
		char *slash = strrchr(ret, '/');
		if (!slash) /* relative: in the current folder */
			strcpy(ret, ".");
		else
			*(slash == ret ? slash + 1 : slash) = 0;
	}
}

static void look_at_kept(struct doctor *d)
{
	char path[FILE_PATH_MAX];
	struct err err = {0};
	struct state *s = calloc(1, sizeof(*s));
	if (s && file_path(path, sizeof(path), "%s/state.json", d->state) == 0 &&
	    file_exists(path)) {
		int r = state_load(path, s, &err);
		if (r == 0 && d->model)
			r = state_check_model(s, d->state, d->model, &err);
		d->has_boot = r == 0;
		d->boot = s->boot;
		if (r < 0)
			doctor_say(d, DOCTOR_FAULT, "state folder",
				   "put back a backup, the network that it is of, or name a new "
				   "folder",
				   "%s", err.text);
	}
	free(s);
}

static void look_at_owner(struct doctor *d, const struct stat *st)
{
	if (st->st_uid != geteuid())
		doctor_say(d, DOCTOR_WARNING, "state folder",
			   "run tasuki doctor as the user that owns it, for what this one may says "
			   "little of the other",
			   "%s is user %lu's, this is user %lu", d->state,
			   (unsigned long)st->st_uid, (unsigned long)geteuid());
	else if (access(d->state, R_OK | W_OK | X_OK) < 0)
		doctor_say(d, DOCTOR_FAULT, "state folder", "chmod u+rwx, or name another folder",
			   "%s: %s", d->state, strerror(errno));
	else
		doctor_ok(d, "state folder", "%s, %s", d->state,
			  d->runs ? "in use by a daemon that runs now" : "no daemon runs on it");
}

void doctor_folder(struct doctor *d)
{
	char path[FILE_PATH_MAX];
	struct stat st;
	if (file_path(path, sizeof(path), "%s/lock", d->state) == 0)
		file_lock_held(path, &d->runs);
	if (stat(d->state, &st) < 0 && errno != ENOENT) {
		doctor_say(d, DOCTOR_FAULT, "state folder",
			   "name a folder that this user can write", "%s: %s", d->state,
			   strerror(errno));
		return;
	}
	if (!file_exists(d->state)) {
		nearest(d->state, path);
		if (access(path, W_OK | X_OK) < 0)
			doctor_say(d, DOCTOR_FAULT, "state folder",
				   "make it, for the user that runs the program",
				   "%s is not there, and cannot be made in %s: %s", d->state, path,
				   strerror(errno));
		else
			doctor_ok(d, "state folder", "%s: made at the first start", d->state);
		return;
	}
	look_at_owner(d, &st);
}

/* ---- the clock ---- */

/* A clock that was set back, or never set, shows in files that are younger than now. */
void doctor_clock(struct doctor *d)
{
	const char *const names[] = {d->path, d->worker.cfg, d->state, "/proc/self/exe"};
	int64_t now_ms = clock_real_ms();
	char at[CLOCK_TEXT_MAX], young[CLOCK_TEXT_MAX];
	struct stat st;
	clock_format(now_ms, at);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (stat(names[i], &st) < 0 || (int64_t)st.st_mtime * 1000 <= now_ms + AHEAD_MS)
			continue;
		clock_format((int64_t)st.st_mtime * 1000, young);
		doctor_say(d, DOCTOR_FAULT, "clock",
			   "set it, and have it set at each start (systemd-timesyncd or chrony)",
			   "it is %s here, but %s is of %s", at, names[i], young);
		return;
	}
	doctor_ok(d, "clock", "%s, and no file is younger", at);
}

/* ---- network and classes ---- */

void doctor_model(struct doctor *d)
{
	struct err err = {0};
	int r = d->agent ? agent_model_load(d->agent, &d->classes, &d->model, &d->names, &err)
			 : trainer_model_load(d->trainer, &d->classes, &d->model, &err);
	if (r < 0) {
		model_free(d->model);
		d->model = NULL;
		doctor_say(d, DOCTOR_FAULT, "network",
			   "correct cfg, class list or [model]; every device and trainer of a site "
			   "has the same two files",
			   "%s", err.text);
		return;
	}
	doctor_ok(d, "network", "%s: model %.12s, %u outputs for %zu classes and %zu private ones",
		  d->worker.cfg, d->model->id, d->model->outputs, d->classes.n, d->names.n);
	if (d->agent)
		look_at_kept(d);
}

/* ---- disk ---- */

static _Thread_local uint64_t counted; /* nftw() passes nothing on */

static int count(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_F)
		counted += (uint64_t)st->st_blocks * 512;
	return 0;
}

static uint64_t folder_bytes(const char *path)
{
	counted = 0;
	nftw(path, count, FOLDERS_OPEN, FTW_PHYS);
	return counted;
}

void doctor_disk(struct doctor *d)
{
	char path[FILE_PATH_MAX];
	uint64_t free_bytes, used = folder_bytes(d->state), wanted, least;
	if (!d->model) {
		doctor_say(d, DOCTOR_SKIPPED, "disk", NULL, "needs the network, for its size");
		return;
	}
	nearest(d->state, path);
	int r = file_free_bytes(path, &free_bytes);
	if (r < 0) {
		doctor_say(d, DOCTOR_FAULT, "disk", "name another state folder", "%s: %s", path,
			   strerror(-r));
		return;
	}
	least = AGENT_LEAST * d->model->file_bytes;
	wanted = d->trainer ? (uint64_t)d->trainer->disk_max_bytes
			    : AGENT_FILES * d->model->file_bytes;
	wanted -= MIN_OF(wanted, used);
	if (free_bytes < least)
		doctor_say(d, DOCTOR_FAULT, "disk", "make room, or put the state folder elsewhere",
			   "%s: %llu MB free, and three checkpoints of this network are %llu MB",
			   path, MB(free_bytes), MB(least));
	else if (free_bytes < wanted)
		doctor_say(d, DOCTOR_WARNING, "disk",
			   d->trainer ? "lower [queue] disk_max_mb, or make room"
				      : "make room, or put the state folder elsewhere",
			   "%s: %llu MB free, and this %s may take %llu MB more", path,
			   MB(free_bytes), program(d), MB(wanted));
	else
		doctor_ok(d, "disk", "%s: %llu MB free, %llu MB in use", path, MB(free_bytes),
			  MB(used));
}

/* ---- memory ---- */

/* Of /proc/meminfo, bytes; 0: not known. */
static uint64_t meminfo(const char *key)
{
	char line[MEMINFO_LINE];
	unsigned long long kib;
	_cleanup_file_ FILE *f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0 &&
		    sscanf(line + strlen(key), ": %llu kB", &kib) == 1)
			return kib << 10;
	return 0;
}

/* Where [train] memory_max_mb is set the worker itself looks, and needs no other machine for it. */
static void look_at_memory(struct doctor *d)
{
	uint64_t all = meminfo("MemTotal"), left = meminfo("MemAvailable");
	uint64_t need =
		network_bytes(d->model, DNET_AUTO, d->model->batch / d->model->subdivisions, true);
	if (all && need > all)
		doctor_say(d, DOCTOR_FAULT, "memory",
			   "a smaller batch or more subdivisions in the cfg",
			   "this network takes %llu MB to train, and the machine has %llu MB",
			   MB(need), MB(all));
	else if (left && need > left && !d->runs)
		doctor_say(d, DOCTOR_WARNING, "memory",
			   "end other programs, or a smaller batch or more subdivisions in the cfg",
			   "this network takes %llu MB to train, and %llu of %llu MB are free",
			   MB(need), MB(left), MB(all));
	else
		doctor_ok(d, "memory", "%llu MB to train, %llu MB free", MB(need), MB(left));
}

/* ---- worker and images ---- */

/* As the agent gives them to it, with those that have no output yet; a file of our own, for the
 * agent's may not be written. */
static int write_names(const struct private_names *p, char path[FILE_PATH_MAX], struct err *err)
{
	strcpy(path, "/tmp/tasuki-doctor-XXXXXX");
	int fd = mkstemp(path);
	_cleanup_file_ FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	for (size_t i = p->n_public; f && i < p->all.n; i++)
		fprintf(f, "%s\n", p->all.names[i]);
	return f && fflush(f) == 0 ? 0 : err_errno(err, -errno, "%s", path);
}

/* refused: it runs, and will have nothing of what it is asked to open. */
static void tell_worker_fault(struct doctor *d, bool refused, const struct err *err)
{
	if (err->category == ERR_DATA) {
		doctor_ok(d, "worker", "it runs");
		doctor_say(d, DOCTOR_FAULT, "data set",
			   "each folder of images is named as a class of [model] classes (or "
			   "private_classes); see [data] in deploy/examples",
			   "%s", err->text);
		return;
	}
	doctor_say(d, DOCTOR_FAULT, "worker",
		   strstr(err->text, "sandbox")
			   ? "a kernel with Landlock and seccomp, or [worker] sandbox = on"
		   : refused ? "correct [train], the cfg or [worker] as it says"
			     : "install tasuki-worker beside this program, or name it as [worker] "
			       "program",
		   "%s", err->text);
	doctor_say(d, DOCTOR_SKIPPED, "data set", NULL, "needs the worker");
}

static void tell_data(struct doctor *d)
{
	const struct worker_ready *r = &d->ready;
	const uint32_t *n = r->n;
	if (n[SPLIT_TRAIN] + r->n_stay == 0)
		doctor_say(d, DOCTOR_FAULT, "data set", "put images into [data] path",
			   "%s: no training images", d->worker.data.path);
	else if (d->agent && n[SPLIT_VALIDATION] == 0)
		doctor_say(d, DOCTOR_FAULT, "data set", "[data] validation_share or validation",
			   "no validation images: nothing can ever become active");
	else if (d->agent && n[SPLIT_VALIDATION] < VALIDATION_FEW)
		doctor_say(
			d, DOCTOR_WARNING, "data set",
			"more images, or a larger [data] validation_share",
			"%u validation images: which checkpoint is best is mostly chance below %d",
			n[SPLIT_VALIDATION], VALIDATION_FEW);
	else
		doctor_ok(d, "data set", "%s: %u images to train, %u to validate, %u to test",
			  d->worker.data.path, n[SPLIT_TRAIN], n[SPLIT_VALIDATION], n[SPLIT_TEST]);
	if (r->skipped)
		doctor_say(d, DOCTOR_WARNING, "images", "replace or remove them",
			   "%u cannot be read and are left out, the first: %s", r->skipped,
			   r->skipped_first);
}

static void tell_worker(struct doctor *d)
{
	const struct worker_ready *r = &d->ready;
	if (*r->cage_missing)
		doctor_say(d, DOCTOR_WARNING, "worker",
			   strcmp(d->worker.sandbox, "off") == 0
				   ? "[worker] sandbox = on"
				   : "a kernel with it, or a container that lets it pass "
				     "(docs/operations.md, \"The worker's cage\")",
			   "it runs (%s, %s), but is not confined by: %s", r->engine, r->precision,
			   r->cage_missing);
	else
		doctor_ok(d, "worker", "it runs (%s, %s), confined by %s", r->engine, r->precision,
			  r->cage);
}

/* A worker of our own, which reads what the daemon's reads and writes nothing. */
void doctor_worker(struct doctor *d)
{
	struct worker_conf w = d->worker;
	struct err err = {0};
	int r = 0;
	if (!d->model) {
		doctor_say(d, DOCTOR_SKIPPED, "worker", NULL, "needs the network");
		doctor_say(d, DOCTOR_SKIPPED, "data set", NULL, "needs the network");
		return;
	}
	look_at_memory(d);
	if (d->quick) {
		doctor_say(d, DOCTOR_SKIPPED, "worker", NULL, "--quick");
		doctor_say(d, DOCTOR_SKIPPED, "data set", NULL, "--quick");
		return;
	}
	*w.log_path = 0;
	w.nice = 19;
	if (d->names.n)
		r = write_names(&d->names, w.private_classes, &err);
	if (r == 0)
		r = worker_call(&w, "rescan", NULL, NULL, NULL, &d->ready, NULL, &err);
	if (d->names.n)
		unlink(w.private_classes);
	if (r < 0) {
		tell_worker_fault(d, r == -EINVAL, &err);
		return;
	}
	tell_worker(d);
	tell_data(d);
}

/* ---- when to train ---- */

void doctor_when(struct doctor *d)
{
	const struct when_conf *c = &d->agent->when;
	struct when_readings r = {.own = 0};
	struct when w = {.waits = false};
	char unread[WHEN_REASON_MAX];
	if (!when_any(c))
		return;
	readings_read(c, d->state, clock_real_ms(), &r);
	when_unread(c, &r, unread);
	/* What a worker takes already is not known here. */
	if (d->runs)
		r.load = NAN;
	when_step(&w, c, &r, clock_mono_ms());
	if (*unread)
		doctor_say(d, DOCTOR_WARNING, "when", "leave out these keys, or see [when] root",
			   "cannot be read on this machine, and hold nothing back: %s", unread);
	if (w.waits)
		doctor_say(d, DOCTOR_WARNING, "when", "nothing, or change [when]",
			   "training waits now: %s", w.reason);
	else
		doctor_ok(d, "when", "training need not wait now%s",
			  w.no_handover ? "; handovers do, the way out is a metered link" : "");
}
