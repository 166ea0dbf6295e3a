/* Rows of jobs, their checkpoints and their runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/json/json.h"
#include "edge-trainer/db_priv.h"

int db_checkpoint_put(struct db *db, const char *device, const struct manifest *m, int64_t now_ms,
		      struct err *err)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	_cleanup_free_ char *text = NULL;
	sqlite3_stmt *s = db_write(db, DB_CHECKPOINT_PUT, err);

	if (!s)
		return -EIO;
	manifest_to_json(m, o);
	text = json_print(o);
	if (!text)
		return err_set(err, -ENOMEM, "%s: out of memory", db->path);
	db_bind_str(s, ":id", m->id);
	db_bind_text(s, ":device", device);
	db_bind_str(s, ":manifest", text);
	db_bind_str(s, ":origin", origin_name(m->origin));
	db_bind_int(s, ":epoch", m->epoch);
	db_bind_int(s, ":received", now_ms);
	return db_run(db, s, err);
}

static void bind_score(sqlite3_stmt *s, const char *name, bool has, const struct score *v)
{
	char key[40];

	if (!has)
		return;
	snprintf(key, sizeof(key), ":%s_n", name);
	db_bind_int(s, key, v->n);
	snprintf(key, sizeof(key), ":%s_correct", name);
	db_bind_int(s, key, v->correct);
	snprintf(key, sizeof(key), ":%s_loss", name);
	db_bind_num(s, key, v->loss);
}

static void bind_job(sqlite3_stmt *s, const struct job *j, int64_t now_ms)
{
	db_bind_int(s, ":fence", j->fence);
	db_bind_str(s, ":state", job_state_name(j->state));
	db_bind_int(s, ":pulled", j->pulled);
	db_bind_int(s, ":epochs", j->epochs);
	db_bind_int(s, ":epoch_done", j->epoch_done);
	db_bind_str(s, ":partial", j->partial);
	db_bind_str(s, ":result", job_is_complete(j) ? j->partial : NULL);
	db_bind_int(s, ":images_trained", j->images_trained);
	db_bind_int(s, ":worked_ms", j->worked_ms);
	bind_score(s, "before", j->has_before, &j->before);
	db_bind_str(s, ":before_snapshot", j->has_before ? j->snapshot_before : NULL);
	bind_score(s, "after", j->has_after, &j->after);
	db_bind_str(s, ":after_snapshot", j->has_after ? j->snapshot_after : NULL);
	db_bind_str(s, ":outcome", job_outcome_name(j->outcome));
	db_bind_str(s, ":reason", j->reason);
	bind_score(s, "validation", j->validation.n > 0, &j->validation);
	bind_score(s, "test", j->test.n > 0, &j->test);
	bind_score(s, "local_validation", j->local_validation.n > 0, &j->local_validation);
	bind_score(s, "local_test", j->local_test.n > 0, &j->local_test);
	bind_score(s, "reported", j->reported.n > 0, &j->reported);
	db_bind_int(s, ":window", j->window);
	db_bind_int(s, ":mixed", j->mixed);
	if (j->state != JOB_DONE) { /* then nobody needs them any more */
		db_bind_str(s, ":seal_secret", j->seal.secret);
		db_bind_str(s, ":seal_theirs", j->seal.theirs);
	}
	db_bind_int(s, ":now", now_ms);
}

int db_job_put(struct db *db, struct job *j, int64_t now_ms, struct err *err)
{
	sqlite3_stmt *s;
	int r;

	if (j->id == 0) {
		int64_t id;

		r = db_checkpoint_put(db, j->device, &j->manifest, now_ms, err);
		if (r < 0)
			return r;
		s = db_write(db, DB_JOB_INSERT, err);
		if (!s)
			return -EIO;
		bind_job(s, j, now_ms);
		db_bind_text(s, ":device", j->device);
		db_bind_str(s, ":checkpoint", j->manifest.id);
		r = db_row(db, s, err);
		if (r < 0)
			return r;
		id = sqlite3_column_int64(s, 0);
		r = db_run(db, s, err);
		if (r == 0)
			j->id = id;
		return r;
	}
	s = db_write(db, DB_JOB_UPDATE, err);
	if (!s)
		return -EIO;
	bind_job(s, j, now_ms);
	db_bind_int(s, ":id", j->id);
	return db_run(db, s, err);
}

static int read_manifest(struct db *db, sqlite3_stmt *s, int column, struct manifest *ret,
			 struct err *err)
{
	_cleanup_(json_freep) struct json *o = NULL;
	const char *text = (const char *)sqlite3_column_text(s, column);
	int r;

	if (!text)
		return err_set(err, -EPROTO, "%s: job %lld: found no manifest of its checkpoint",
			       db->path, (long long)sqlite3_column_int64(s, 0));
	r = json_parse(text, strlen(text), MANIFEST_BYTES_MAX, &o, err);
	if (r == 0)
		r = manifest_from_json(o, NULL, ret, err);
	if (r < 0)
		err_prefix(err, "%s: job %lld", db->path,
			   (long long)sqlite3_column_int64(s, 0));
	return r < 0 ? -EPROTO : 0;
}

static void read_score(sqlite3_stmt *s, int i, struct score *ret)
{
	ret->n = sqlite3_column_int64(s, i);
	ret->correct = sqlite3_column_int64(s, i + 1);
	ret->loss = sqlite3_column_double(s, i + 2);
}

static bool column_score(sqlite3_stmt *s, int i, struct score *ret, char snapshot[HASH_SIZE])
{
	if (sqlite3_column_type(s, i) == SQLITE_NULL)
		return false;
	read_score(s, i, ret);
	db_column_str(s, i + 3, snapshot, HASH_SIZE);
	return true;
}

static int read_job(struct db *db, sqlite3_stmt *s, struct job *j, struct err *err)
{
	char state[16];
	int i;

	memset(j, 0, sizeof(*j));
	j->id = sqlite3_column_int64(s, 0);
	db_column_str(s, 1, j->device, sizeof(j->device));
	j->fence = sqlite3_column_int64(s, 2);
	db_column_str(s, 3, state, sizeof(state));
	for (i = 0; i < JOB_STATE_N && strcmp(state, job_state_name(i)) != 0; i++)
		;
	if (i == JOB_STATE_N)
		return err_set(err, -EPROTO, "%s: job %lld: found state '%s', expected a known one",
			       db->path, (long long)j->id, state);
	j->state = i;
	j->pulled = sqlite3_column_int(s, 4);
	j->epochs = sqlite3_column_int64(s, 5);
	j->epoch_done = sqlite3_column_int64(s, 6);
	db_column_str(s, 7, j->partial, sizeof(j->partial));
	j->images_trained = sqlite3_column_int64(s, 8);
	j->worked_ms = sqlite3_column_int64(s, 9);
	j->has_before = column_score(s, 10, &j->before, j->snapshot_before);
	j->has_after = column_score(s, 14, &j->after, j->snapshot_after);
	db_column_str(s, 18, j->reason, sizeof(j->reason));
	j->window = sqlite3_column_int64(s, 20);
	j->mixed = sqlite3_column_int(s, 21);
	if (sqlite3_column_type(s, 22) != SQLITE_NULL)
		read_score(s, 22, &j->reported);
	db_column_str(s, 25, j->seal.secret, sizeof(j->seal.secret));
	db_column_str(s, 26, j->seal.theirs, sizeof(j->seal.theirs));
	return read_manifest(db, s, 19, &j->manifest, err);
}

int db_job_each(struct db *db, int (*each)(void *user, const struct job *j), void *user,
		struct err *err)
{
	_cleanup_free_ struct job *j = malloc(sizeof(*j));
	sqlite3_stmt *s = db_get(db, DB_JOB_EACH, err);
	int r;

	if (!s || !j)
		return s ? err_set(err, -ENOMEM, "%s: out of memory", db->path) : -EIO;
	while ((r = db_row(db, s, err)) == 1) {
		r = read_job(db, s, j, err);
		if (r == 0)
			r = each(user, j);
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

int db_job_served(struct db *db, int64_t since_ms,
		  int (*each)(void *user, const char *device, int64_t n), void *user,
		  struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_JOB_SERVED, err);
	int r;

	if (!s)
		return -EIO;
	db_bind_int(s, ":since", since_ms);
	while ((r = db_row(db, s, err)) == 1) {
		char device[ID_SIZE];

		db_column_str(s, 0, device, sizeof(device));
		r = each(user, device, sqlite3_column_int64(s, 1));
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

int db_job_lineage(struct db *db, struct manifest *ret, struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_JOB_LINEAGE, err);
	int r = s ? db_row(db, s, err) : -EIO;

	*ret = (struct manifest){0};
	if (r == 1) {
		r = read_manifest(db, s, 1, ret, err);
		sqlite3_reset(s);
	}
	return r;
}

int db_job_finished(struct db *db, int64_t *ret, int64_t *ret_screened, struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_JOB_FINISHED, err);
	int r = s ? db_row(db, s, err) : -EIO;

	if (r == 1) {
		*ret = sqlite3_column_int64(s, 0);
		*ret_screened = sqlite3_column_int64(s, 1);
	}
	if (s)
		sqlite3_reset(s);
	return r < 0 ? r : 0;
}

/* Whether the statement, with its parameters bound, gives any row. */
static int any_row(struct db *db, sqlite3_stmt *s, bool *ret, struct err *err)
{
	int r = db_row(db, s, err);

	sqlite3_reset(s);
	if (r < 0)
		return r;
	*ret = r == 1;
	return 0;
}

int db_job_sent(struct db *db, const char *device, const char *checkpoint, bool *ret,
		struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_JOB_SENT, err);

	if (!s)
		return -EIO;
	db_bind_str(s, ":device", device);
	db_bind_str(s, ":checkpoint", checkpoint);
	return any_row(db, s, ret, err);
}

int db_job_shared(struct db *db, const char *device, const char *checkpoint, bool *ret,
		  struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_JOB_SHARED, err);

	if (!s)
		return -EIO;
	db_bind_str(s, ":device", device);
	db_bind_str(s, ":checkpoint", checkpoint);
	return any_row(db, s, ret, err);
}

int db_checkpoint_known(struct db *db, const char *id, bool *ret, struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_CHECKPOINT_KNOWN, err);

	if (!s)
		return -EIO;
	db_bind_str(s, ":id", id);
	return any_row(db, s, ret, err);
}

int db_checkpoint_kept(struct db *db, int64_t since_ms, char (**ret)[HASH_SIZE], size_t *ret_n,
		       struct err *err)
{
	_cleanup_free_ char(*ids)[HASH_SIZE] = NULL;
	sqlite3_stmt *s = db_get(db, DB_CHECKPOINT_KEPT, err);
	size_t n = 0, room = 0;
	int r;

	if (!s)
		return -EIO;
	db_bind_int(s, ":since", since_ms);
	while ((r = db_row(db, s, err)) == 1) {
		if (n == room) {
			void *more = realloc(ids, (room * 2 + 16) * sizeof(*ids));

			if (!more) {
				sqlite3_reset(s);
				return err_set(err, -ENOMEM, "%s: out of memory", db->path);
			}
			ids = more;
			room = room * 2 + 16;
		}
		db_column_str(s, 0, ids[n++], HASH_SIZE);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(ids);
	*ret_n = n;
	return 0;
}

int db_checkpoint_forget(struct db *db, int64_t since_ms, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_CHECKPOINT_FORGET, err);

	if (!s)
		return -EIO;
	db_bind_int(s, ":since", since_ms);
	return db_run(db, s, err);
}

int db_run_open(struct db *db, const struct job *j, int64_t now_ms, int64_t mono_ms,
		int64_t until_mono_ms, int64_t *ret_run, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_RUN_OPEN, err);
	int r;

	if (!s)
		return -EIO;
	db_bind_int(s, ":job", j->id);
	db_bind_text(s, ":device", j->device);
	db_bind_str(s, ":checkpoint", j->manifest.id);
	db_bind_int(s, ":fence", j->fence);
	db_bind_int(s, ":now", now_ms);
	db_bind_int(s, ":mono", mono_ms);
	db_bind_int(s, ":until", until_mono_ms);
	r = db_run(db, s, err);
	if (r == 0)
		*ret_run = sqlite3_last_insert_rowid(db->h);
	return r;
}

int db_run_extend(struct db *db, int64_t run, int64_t until_mono_ms, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_RUN_EXTEND, err);

	if (!s)
		return -EIO;
	db_bind_int(s, ":id", run);
	db_bind_int(s, ":until", until_mono_ms);
	return db_run(db, s, err);
}

int db_run_close(struct db *db, int64_t run, int64_t now_ms, int64_t mono_ms, const char *why,
		 struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_RUN_CLOSE, err);

	if (!s)
		return -EIO;
	db_bind_int(s, ":id", run);
	db_bind_int(s, ":now", now_ms);
	db_bind_int(s, ":mono", mono_ms);
	db_bind_str(s, ":why", why);
	return db_run(db, s, err);
}

int db_run_recover(struct db *db, int64_t now_ms, int64_t mono_ms, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_RUN_RECOVER, err);

	if (!s)
		return -EIO;
	db_bind_int(s, ":now", now_ms);
	db_bind_int(s, ":mono", mono_ms);
	return db_run(db, s, err);
}
