/* Rows about how devices stand. */
#include <errno.h>
#include <string.h>

#include "edge-trainer/db_priv.h"

int db_standing_get(struct db *db, const char *device, struct standing *ret, struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_STANDING_GET, err);
	int r;

	*ret = (struct standing){.delta = -1};
	if (!s)
		return -EIO;
	db_bind_text(s, ":device", device);
	r = db_row(db, s, err);
	if (r <= 0)
		return r;
	ret->delta = sqlite3_column_double(s, 0);
	ret->refusals = sqlite3_column_int64(s, 1);
	ret->first_ms = sqlite3_column_int64(s, 2);
	ret->times = sqlite3_column_int64(s, 3);
	ret->since_ms = sqlite3_column_int64(s, 4);
	ret->until_ms = sqlite3_column_int64(s, 5);
	db_column_str(s, 6, ret->why, sizeof(ret->why));
	return db_run(db, s, err);
}

int db_standing_put(struct db *db, const char *device, const struct standing *v, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_STANDING_PUT, err);

	if (!s)
		return -EIO;
	db_bind_text(s, ":device", device);
	db_bind_num(s, ":delta", v->delta);
	db_bind_int(s, ":refusals", v->refusals);
	db_bind_int(s, ":first", v->first_ms);
	db_bind_int(s, ":times", v->times);
	db_bind_int(s, ":since", v->since_ms);
	db_bind_int(s, ":until", v->until_ms);
	db_bind_text(s, ":why", v->why);
	return db_run(db, s, err);
}

int db_standing_prune(struct db *db, int64_t before_ms, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_STANDING_PRUNE, err);

	if (!s)
		return -EIO;
	db_bind_int(s, ":before", before_ms);
	return db_run(db, s, err);
}

int db_job_last(struct db *db, const char *device, char ret_checkpoint[HASH_SIZE],
		char ret_result[HASH_SIZE], struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_JOB_LAST, err);
	int r;

	ret_checkpoint[0] = ret_result[0] = '\0';
	if (!s)
		return -EIO;
	db_bind_text(s, ":device", device);
	r = db_row(db, s, err);
	if (r <= 0)
		return r;
	db_column_str(s, 0, ret_checkpoint, HASH_SIZE);
	db_column_str(s, 1, ret_result, HASH_SIZE);
	return db_run(db, s, err);
}
