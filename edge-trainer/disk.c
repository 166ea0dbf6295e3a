/* What is kept on disk, and what goes: checkpoints by quota.h and [queue] keep_days, rows of the
 * database by [queue] history_days and the limits of db.h.
 *
 * The store holds, of each job that is not over, what it came with and the last epoch's; of those
 * that are over, both, for keep_days or until there is need of their place; the last merged result,
 * with room for a window's own work; and perhaps checkpoints that the database does not know (it was
 * lost, or is another's): those go by their age alone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

#define DAY_MS ((int64_t)24 * 3600 * 1000)
#define DISK_SPARE_PART 64 /* of a full disk, one part in so many is freed at a time */

static int64_t files_max(const struct trainer *t)
{
	return t->conf->disk_max_bytes / (int64_t)t->model->file_bytes;
}

static int files_least(const struct trainer *t)
{
	return QUOTA_WORK + (trainer_merges(t->conf) ? QUOTA_WORK + QUOTA_LINEAGE : 0) +
	       (coding_codes(t) ? QUOTA_FIRST : 0);
}

bool disk_has_fleet_room(const struct trainer *t)
{
	return files_max(t) >= files_least(t) + QUOTA_FLEET;
}

int disk_check(const struct trainer *t, struct err *err)
{
	int files = files_least(t);
	int64_t least = (files * (int64_t)t->model->file_bytes + (1 << 20) - 1) >> 20;

	if (files_max(t) >= files)
		return 0;
	return err_set(
		err, -ERANGE,
		"[queue] disk_max_mb: found %lld, expected at least %lld for one handover of "
		"this model (%d checkpoints of %llu bytes)",
		(long long)t->conf->disk_max_bytes >> 20, (long long)least, files,
		(unsigned long long)t->model->file_bytes);
}

/* ---- jobs ---- */

static bool is_loose(const struct entry *e)
{
	return !device_is_proven(e->device);
}

static void count_jobs(const struct trainer *t, struct quota *q)
{
	*q = (struct quota){.max = files_max(t), .unknown = t->n_unknown, .history = t->n_history};
	if (trainer_merges(t->conf)) { /* set aside, whether there is a window at work or not */
		q->working = 1;
		q->max -= QUOTA_LINEAGE;
	}
	if (fleet_has_one(t))
		q->max -= QUOTA_FLEET;
	if (coding_codes(t))
		q->max -= QUOTA_FIRST;
	for (const struct entry *e = t->entries; e; e = e->next)
		if (entry_is_merged(e))
			continue;
		else if (e->job.state == JOB_OFFERING)
			q->offering++;
		else if (e->job.state == JOB_LAPSED)
			*(is_loose(e) ? &q->loose : &q->lapsed) += 1;
		else if (e->job.state != JOB_DONE)
			q->working++;
}

static void drop_lapsed(struct trainer *t, bool loose, int64_t n, const char *why)
{
	struct job_event drop = {.kind = JOB_E_DROP, .reason = why};

	for (; n > 0; n--) {
		struct entry *first = NULL;

		for (struct entry *e = t->entries; e; e = e->next)
			if (e->job.state == JOB_LAPSED && !entry_is_merged(e) &&
			    is_loose(e) == loose &&
			    (!first || e->job.idle_since_ms < first->job.idle_since_ms))
				first = e;
		if (!first)
			return;
		entry_event(t, first, &drop);
	}
}

/* ---- checkpoints ---- */

static bool is_open(const struct trainer *t, const char *id)
{
	for (const struct entry *e = t->entries; e; e = e->next)
		if (strcmp(e->job.manifest.id, id) == 0 || strcmp(e->job.partial, id) == 0)
			return true;
	return strcmp(t->merge.lineage.id, id) == 0 || strcmp(t->coding.first, id) == 0 ||
	       fleet_keeps(t, id);
}

/* Whether a checkpoint that no job needs any more may go. */
static int may_go(struct trainer *t, const char *id, int64_t since_ms, bool *ret, struct err *err)
{
	int64_t added_ms;
	int r = db_checkpoint_known(t->db, id, ret, err);

	if (r < 0 || *ret)
		return r;
	*ret = store_added_ms(t->store, id, &added_ms) == 0 && added_ms < since_ms;
	return 0;
}

/* Of `kept` (newest first) what is in the store and no open job's. Returns how many there are now,
 * and leaves the first `most` of them; the others are removed. */
static int trim_history(struct trainer *t, char (*kept)[HASH_SIZE], size_t n, int64_t most,
			struct err *err)
{
	int r = 0;

	t->n_history = 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		if (!store_has(t->store, kept[i]) || is_open(t, kept[i]))
			continue;
		if (t->n_history < most)
			t->n_history++;
		else
			r = store_remove(t->store, kept[i], err);
	}
	return r;
}

int disk_forget(struct trainer *t, const char *id, struct err *err)
{
	bool known = is_open(t, id) || !store_has(t->store, id);
	int r = known ? 0 : db_checkpoint_known(t->db, id, &known, err);

	return r < 0 || known ? r : store_remove(t->store, id, err);
}

static int by_id(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The same in an order in which they are found: there may be tens of thousands. NULL: no memory. */
static void *sorted(char (*ids)[HASH_SIZE], size_t n)
{
	void *copy = malloc(MAX_OF(n, (size_t)1) * HASH_SIZE);

	if (copy && n > 0) {
		memcpy(copy, ids, n * HASH_SIZE);
		qsort(copy, n, HASH_SIZE, by_id);
	}
	return copy;
}

/* What is neither an open job's nor kept: removed, or, where the database does not know it,
 * counted. */
static int remove_rest(struct trainer *t, char (*kept)[HASH_SIZE], size_t n, int64_t since_ms,
		       struct err *err)
{
	_cleanup_free_ char(*ids)[HASH_SIZE] = NULL;
	_cleanup_free_ void *known = sorted(kept, n);
	int64_t unknown = 0;
	size_t n_ids = 0;
	int r = known ? store_list(t->store, &ids, &n_ids, err) :
			err_set(err, -ENOMEM, "out of memory");

	for (size_t i = 0; i < n_ids && r == 0; i++) {
		bool goes;

		if (is_open(t, ids[i]) || bsearch(ids[i], known, n, HASH_SIZE, by_id))
			continue;
		r = may_go(t, ids[i], since_ms, &goes, err);
		if (r == 0 && goes)
			r = store_remove(t->store, ids[i], err);
		else if (r == 0)
			unknown++;
	}
	if (r == 0 && unknown > t->n_unknown)
		log_warning("%lld checkpoints in the store that the database does not know: they "
			    "stay until they are keep_days old",
			    (long long)unknown);
	if (r == 0)
		t->n_unknown = unknown;
	return r;
}

static int collect_checkpoints(struct trainer *t, int64_t more, struct err *err)
{
	_cleanup_free_ char(*kept)[HASH_SIZE] = NULL;
	int64_t since_ms = trainer_utc(t) - t->conf->keep_days * DAY_MS, too_many;
	struct quota_cut cut;
	struct quota q;
	size_t n = 0;
	int r = db_checkpoint_kept(t->db, since_ms, &kept, &n, err);

	if (r == 0)
		r = remove_rest(t, kept, n, since_ms, err);
	if (r == 0)
		r = trim_history(t, kept, n, INT64_MAX, err); /* counts */
	if (r < 0)
		return r;
	count_jobs(t, &q);
	quota_plan(&q, more, &cut);
	too_many = q.loose + q.lapsed - LAPSED_MAX;
	drop_lapsed(t, true, MAX_OF(cut.loose, too_many), "its place on disk was needed");
	if (more > 0 && cut.history > 0) /* some for those that come next: all are looked at each time */
		cut.history = MIN_OF(t->n_history, cut.history + q.max / DISK_SPARE_PART);
	r = trim_history(t, kept, n, t->n_history - cut.history, err);
	drop_lapsed(t, false, MAX_OF(cut.lapsed, too_many - q.loose),
		    "its place on disk was needed");
	return r < 0 ? r : db_checkpoint_forget(t->db, since_ms, err);
}

bool disk_admit(struct trainer *t)
{
	bool was_full = t->disk_full;
	char why[MESSAGE_TEXT_MAX];
	struct quota_cut cut;
	struct err err = {0};
	struct quota q;

	count_jobs(t, &q);
	t->disk_full = quota_plan(&q, 1, &cut) < 0;
	if (!t->disk_full && cut.loose + cut.history + cut.lapsed > 0) {
		if (collect_checkpoints(t, 1, &err) < 0)
			trainer_fault(t, &err);
		trainer_commit(t);
		count_jobs(t, &q);
		t->disk_full =
			quota_plan(&q, 1, &cut) < 0 || cut.loose + cut.history + cut.lapsed > 0;
	}
	disk_describe(t, why, sizeof(why));
	if (t->disk_full && !was_full)
		log_warning("%s", why);
	return !t->disk_full;
}

void disk_describe(const struct trainer *t, char *buf, size_t size)
{
	buf[0] = '\0';
	if (t->disk_full)
		snprintf(buf, size,
			 "no room for another handover: disk_max_mb = %lld, %lld unknown "
			 "checkpoints",
			 (long long)t->conf->disk_max_bytes >> 20, (long long)t->n_unknown);
}

/* ---- all of it ---- */

void disk_collect(struct trainer *t, int64_t now_ms)
{
	struct db_limits limits = {trainer_utc(t) - t->conf->history_days * DAY_MS, DB_JOBS_MAX,
				   DB_BYTES_MAX};
	struct quota_cut cut;
	struct err err = {0};
	struct quota q;
	int64_t pruned = 0;
	int r = collect_checkpoints(t, 0, &err);

	if (r == 0)
		r = db_prune(t->db, &limits, &pruned, &err);
	if (r < 0)
		trainer_fault(t, &err);
	trainer_commit(t);
	count_jobs(t, &q);
	if (t->disk_full && quota_plan(&q, 1, &cut) == 0)
		t->disk_full = false;
	t->collect_at_ms = now_ms + (pruned > 0 ? TICK_MS : COLLECT_MS);
}
