/* The queue of evaluations, classifications, blends and what else is asked for: one after the
 * other, first come, first served. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/args.h"
#include "common/engine/session.h"
#include "common/engine/worker.h"

#define SHEET_CELLS_MAX 100 /* in a row or column */

void job_free(struct job *j)
{
	feed_free(j->feed);
	dnet_free(j->net);
	json_free(j->args);
	json_free(j->results);
	free(j->counts);
	free(j->outcomes);
	encode_free(j->encode);
	free(j);
}

int job_queue(struct session *s, uint64_t id, enum job_kind kind, struct json *args,
	      struct err *err)
{
	struct job *j = s->n_jobs < WORKER_REQUESTS_MAX ? calloc(1, sizeof(*j)) : NULL;
	if (!j) {
		json_free(args);
		return err_set(err, -EBUSY, "%u requests are waiting", s->n_jobs);
	}
	*j = (struct job){.id = id, .kind = kind, .args = args};
	struct job **end = &s->jobs;
	while (*end)
		end = &(*end)->next;
	*end = j;
	s->n_jobs++;
	return 0;
}

static void remove_job(struct session *s, struct job *j)
{
	if (j == s->jobs) {
		s->job_begun = false;
		dnet_rest(s->eval_net); /* the next one loads weights of its own */
		s->frames_loaded = false;
	}
	struct job **at = &s->jobs;
	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
	s->n_jobs--;
	job_free(j);
}

bool job_stop(struct session *s, uint64_t id)
{
	for (struct job *j = s->jobs; j; j = j->next) {
		if (j->id != id)
			continue;
		struct err err = {0};
		err_set(&err, -ECANCELED, "stopped on request");
		channel_fail(s->channel, id, &err);
		remove_job(s, j);
		return true;
	}
	return false;
}

static int sheet(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	char out[FILE_PATH_MAX], name[16];
	enum split split = SPLIT_TRAIN;
	int64_t columns, rows;
	int r = json_get_str(j->args, "out", out, sizeof(out), err);
	if (r < 0 || (r = arg_str(j->args, "split", name, sizeof(name), err)) < 0 ||
	    (r = arg_int(j->args, "columns", 1, SHEET_CELLS_MAX, 10, &columns, err)) < 0 ||
	    (r = arg_int(j->args, "rows", 1, SHEET_CELLS_MAX, 10, &rows, err)) < 0)
		return r;
	if (*name && split_parse(name, &split) < 0)
		return err_set(err, -EINVAL,
			       "split: found '%s', expected train, validation or test", name);
	if (!s->data)
		return err_set(err, -ENODATA, "sheet: opened without data");
	r = dataset_sheet(s->data, split, (uint32_t)columns, (uint32_t)rows, out, err);
	if (r < 0)
		return r;
	*ret_result = json_new_obj();
	json_set_str(*ret_result, "out", out);
	return 0;
}

static int rescan(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	bool changed = false;
	s->reading_id = j->id;
	s->images_read = 0;
	const char *replaced = confine_replaced(s);
	if (replaced) { /* the next worker is let in there */
		fprintf(stderr, "tasuki-worker: %s was replaced by another\n", replaced);
		_exit(0);
	}
	if (s->data) {
		train_drop_feed(s);
		int r = dataset_rescan(s->data, &changed, err);
		if (r < 0) {
			err_categorize(err, ERR_DATA);
			return r;
		}
	}
	if (changed)
		train_data_changed(s);
	*ret_result = session_ready(s);
	json_set_bool(*ret_result, "changed", changed);
	return 0;
}

/* begin NULL: nothing to be done once. */
static const struct {
	int (*begin)(struct session *s, struct job *j, struct err *err);
	int (*step)(struct session *s, struct job *j, struct json **ret_result, struct err *err);
} kinds[] = {
	[JOB_EVALUATE] = {evaluate_begin, evaluate_step},
	[JOB_CLASSIFY] = {classify_begin, classify_step},
	[JOB_BLEND] = {blend_begin, combine_step},
	[JOB_MERGE] = {merge_begin, combine_step},
	[JOB_SHEET] = {NULL, sheet},
	[JOB_RESCAN] = {NULL, rescan},
	[JOB_ENCODE] = {encode_begin, encode_step},
	[JOB_DECODE] = {NULL, decode_step},
	[JOB_FIRST] = {NULL, first_step},
	[JOB_NOISE] = {NULL, noise_step},
};

void job_step(struct session *s)
{
	struct job *j = s->jobs;
	struct json *result = NULL;
	struct err err = {0};
	int r = 0;
	if (!s->job_begun && kinds[j->kind].begin)
		r = kinds[j->kind].begin(s, j, &err);
	s->job_begun = true;
	if (r == 0)
		r = kinds[j->kind].step(s, j, &result, &err);
	if (r > 0)
		return;
	if (r < 0)
		channel_fail(s->channel, j->id, &err);
	else
		channel_reply(s->channel, j->id, result);
	remove_job(s, j);
}
