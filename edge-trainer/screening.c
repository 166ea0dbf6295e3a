/* What comes in is looked at before anything is done with it (screen.h), and what a device that
 * sends bad ones can expect (standing.h). */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/screen.h"
#include "edge-trainer/trainer_priv.h"
#include "edge-trainer/window.h"

double *screening_norms(const struct trainer *t, const char *id)
{
	size_t n = t->model->n_tensors;
	_cleanup_free_ struct weights_stat *stats = calloc(n, sizeof(*stats));
	_cleanup_free_ double *norms = calloc(n, sizeof(*norms));
	char path[FILE_PATH_MAX];
	struct err err = {0};

	if (!stats || !norms || store_weights(t->store, id, path) < 0 ||
	    weights_stats(t->model, path, stats, &err) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++)
		norms[i] = stats[i].l2;
	return TAKE_PTR(norms);
}

/* --- how a device stands --- */

static void keep_standing(struct trainer *t, struct device *d)
{
	struct err err = {0};

	if (db_standing_put(t->db, d->id, &d->standing, &err) < 0)
		trainer_fault(t, &err);
	trainer_commit(t);
}

void screening_refused(struct trainer *t, struct device *d, const char *why)
{
	const struct standing *s = &d->standing;
	char until[CLOCK_TEXT_MAX];
	bool begun = standing_refused(&d->standing, why, trainer_utc(t));

	keep_standing(t, d);
	if (!begun)
		return;
	clock_format(s->until_ms, until);
	log_warning("device=%s is in quarantine until %s: %d refusals, the last one: %s", d->id,
		    until, STANDING_REFUSALS, why);
	record_say(t, &(struct audit_event){.event = "quarantined",
					    .peer = d->id,
					    .reason = why,
					    .number = s->times,
					    .until_ms = s->until_ms});
}

int64_t screening_left_ms(const struct trainer *t, const struct device *d, char *buf, size_t size)
{
	int64_t left_ms = standing_left_ms(&d->standing, trainer_utc(t));
	char until[CLOCK_TEXT_MAX];

	clock_format(d->standing.until_ms, until);
	snprintf(buf, size, "in quarantine until %s: %d refusals, the last one: %s", until,
		 STANDING_REFUSALS, d->standing.why);
	return left_ms;
}

/* --- an operator's hand: tasuki devices --release lays a file of the device's name there --- */

static int folder_name(const struct trainer *t, char dir[FILE_PATH_MAX])
{
	return file_path(dir, FILE_PATH_MAX, "%s/release", t->conf->state);
}

static void release(struct trainer *t, const char *id)
{
	struct device *d = id_valid(id) ? device_get(t, id) : NULL;

	if (!d || !standing_release(&d->standing, trainer_utc(t))) {
		log_warning("device=%s is not in quarantine: nothing to release",
			    id_valid(id) ? id : "?");
		return;
	}
	keep_standing(t, d);
	log_info("device=%s is released from quarantine", d->id);
	record_say(t, &(struct audit_event){
			      .event = "released", .who = "operator of this machine", .peer = d->id});
}

void screening_second(struct trainer *t)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
	struct dirent *f;
	DIR *folder = folder_name(t, dir) == 0 ? opendir(dir) : NULL;

	while (folder && (f = readdir(folder))) {
		if (f->d_name[0] == '.' ||
		    file_path(path, sizeof(path), "%s/%s", dir, f->d_name) < 0)
			continue;
		if (file_remove(path, NULL) == 0)
			release(t, f->d_name);
	}
	if (folder)
		closedir(folder);
}

struct census {
	const struct trainer *t;
	struct msg_trainer_status *m;
};

static int count_one(void *user, struct idmap_node *node)
{
	struct census *c = user;
	const struct device *d = idmap_entry(node, struct device, node);
	const struct standing *s = &d->standing;
	struct msg_quarantine *q;

	if (s->until_ms == 0 || standing_left_ms(s, trainer_utc(c->t)) == 0)
		return 0;
	c->m->quarantined++;
	if (c->m->n_quarantine == MESSAGE_QUARANTINE_MAX)
		return 0;
	q = &c->m->quarantine[c->m->n_quarantine++];
	memcpy(q->device, d->id, sizeof(q->device));
	q->since_ms = s->since_ms;
	q->until_ms = s->until_ms;
	memcpy(q->why, s->why, sizeof(q->why));
	return 0;
}

void screening_describe(struct trainer *t, struct msg_trainer_status *m)
{
	struct census c = {t, m};

	idmap_each(&t->devices, count_one, &c);
}

/* --- one checkpoint --- */

void screening_note(struct trainer *t, struct entry *e, enum screen_verdict why,
		    const struct score *score, char reason[MESSAGE_TEXT_MAX])
{
	const struct job *j = &e->job;
	const struct score *edge = score ? score : &j->before;

	log_warning("screened out job=%lld device=%s: %s delta=%.2f edge=%lld/%lld reported=%lld/%lld",
		    (long long)j->id, j->device, screen_verdict_name(why), e->delta,
		    (long long)edge->correct, (long long)edge->n, (long long)j->reported.correct,
		    (long long)j->reported.n);
	memcpy(e->device->bad_checkpoint, j->manifest.id, sizeof(e->device->bad_checkpoint));
	t->screened++;
	snprintf(reason, MESSAGE_TEXT_MAX, "screened out: %s", screen_verdict_name(why));
	if (screen_is_grave(why))
		screening_refused(t, e->device, screen_verdict_name(why));
}

void screening_out(struct trainer *t, struct entry *e, enum screen_verdict why,
		   const struct score *score)
{
	char reason[MESSAGE_TEXT_MAX];

	screening_note(t, e, why, score, reason);
	entry_event(t, e,
		    &(struct job_event){.kind = JOB_E_SCREENED, .reason = reason, .score = score});
}

/* What the device handed over or was given last, whichever is nearer: *ret_delta, in its norm, and
 * its own id; "": neither is here. */
static void nearest_last(const struct trainer *t, const struct entry *e, char ret[HASH_SIZE],
			 double *ret_delta)
{
	char last[2][HASH_SIZE], path[FILE_PATH_MAX], from[FILE_PATH_MAX];
	struct err err = {0};

	ret[0] = '\0';
	*ret_delta = -1;
	if (db_job_last(t->db, e->job.device, last[0], last[1], &err) < 0 ||
	    store_weights(t->store, e->job.manifest.id, path) < 0)
		return;
	for (int i = 0; i < 2; i++) {
		_cleanup_free_ double *norms = *last[i] ? screening_norms(t, last[i]) : NULL;
		double distance, squares = 0;

		if (!norms || store_weights(t->store, last[i], from) < 0 ||
		    weights_distance(t->model, path, from, &distance, &err) < 0)
			continue;
		for (size_t k = 0; k < t->model->n_tensors; k++)
			if (t->model->tensors[k].kind == TENSOR_WEIGHT ||
			    t->model->tensors[k].kind == TENSOR_SCALE)
				squares += norms[k] * norms[k];
		if (squares > 0 && (*ret_delta < 0 || distance / sqrt(squares) < *ret_delta)) {
			*ret_delta = distance / sqrt(squares);
			memcpy(ret, last[i], HASH_SIZE);
		}
	}
}

/* The median of those that other devices came with last; -1: too few to say. */
static double usual_delta(const struct trainer *t, const struct device *but)
{
	double v[WINDOW_MEMBERS_MAX];
	size_t n = 0;

	for (const struct device *d = t->by_age[true].newest; d && n < WINDOW_MEMBERS_MAX;
	     d = d->older)
		if (d != but && d->standing.delta >= 0)
			v[n++] = d->standing.delta;
	return n >= SCREEN_MAJORITY ? window_median(v, n) : -1;
}

enum screen_verdict screening_weights(struct trainer *t, struct entry *e)
{
	_cleanup_free_ double *norms = screening_norms(t, e->job.manifest.id), *base = NULL;
	char last[HASH_SIZE];
	struct screen_one one = {.usual_delta = usual_delta(t, e->device)};

	if (!norms)
		return SCREEN_FINE; /* whoever reads it next finds that out */
	nearest_last(t, e, last, &e->delta);
	base = *last ? screening_norms(t, last) : NULL;
	one.norms = norms;
	one.usual = base ? base : t->merge.usual;
	one.delta = e->delta;
	return screen_weights(t->model, &one);
}

bool screening_wants_answers(const struct trainer *t, const struct entry *e)
{
	return !entry_is_merged(e) && e->job.state == JOB_BEFORE &&
	       t->model->outputs <= SCREEN_CLASSES_MAX;
}

/* Rows of the confusion matrix: a row each class with a name, of as many numbers as outputs. */
enum screen_verdict screening_answers(const struct trainer *t, const struct json *result)
{
	struct screen_class c[SCREEN_CLASSES_MAX] = {0};
	const struct json *rows;
	size_t i = 0, n = t->model->outputs;

	if (json_get_arr(result, "confusion", n, &rows, NULL) < 0)
		return SCREEN_FINE;
	for (const struct json *row = json_first(rows); row; row = json_next(row), i++) {
		size_t k = 0;

		for (const struct json *e = json_first(row); e && k < n; e = json_next(e), k++) {
			int64_t count;

			if (json_int(e, 0, DATASET_IMAGES_MAX, &count) < 0)
				return SCREEN_FINE;
			c[i].n += count;
			if (k == i)
				c[i].correct = count;
			else
				c[k].taken += count;
		}
	}
	return screen_answers(c, n);
}

void screening_completed(struct trainer *t, struct entry *e)
{
	struct err err = {0};

	if (e->delta < 0)
		return;
	e->device->standing.delta = e->delta;
	if (db_standing_put(t->db, e->device->id, &e->device->standing, &err) < 0)
		trainer_fault(t, &err);
}

int screening_load(struct trainer *t, struct err *err)
{
	char dir[FILE_PATH_MAX];
	int r = folder_name(t, dir);

	if (r < 0)
		return err_set(err, r, "%s: path of the state folder is too long", t->conf->state);
	r = file_mkdirs(dir, err);
	return r < 0 ? r : db_standing_prune(t->db, trainer_utc(t) - STANDING_FORGET_MS, err);
}
