/* Taking away what is no longer kept. */
#include <errno.h>

#include "common/base/mem.h"
#include "edge-trainer/db_priv.h"

int db_bytes(struct db *db, int64_t *ret, struct err *err)
{
	int64_t pages, unused, size;
	int r = db_query_int(db, "PRAGMA page_count", &pages, err);

	if (r == 0)
		r = db_query_int(db, "PRAGMA freelist_count", &unused, err);
	if (r == 0)
		r = db_query_int(db, "PRAGMA page_size", &size, err);
	if (r == 0)
		*ret = (pages - unused) * size;
	return r;
}

/* Jobs touched before this go: by age, or because there are too many. */
static int jobs_before(struct db *db, const struct db_limits *limits, int64_t *ret, struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_PRUNE_BEFORE, err);
	int r;

	if (!s)
		return -EIO;
	*ret = limits->before_ms;
	db_bind_int(s, ":max", limits->jobs_max);
	r = db_row(db, s, err);
	if (r == 1)
		*ret = MAX_OF(*ret, sqlite3_column_int64(s, 0) + 1);
	sqlite3_reset(s);
	return r < 0 ? r : 0;
}

/* One statement with its limits; adds the rows that it took. before_ms < 0: it knows none. */
static int take(struct db *db, enum db_stmt which, int64_t before_ms, int64_t *n, struct err *err)
{
	sqlite3_stmt *s = db_write(db, which, err);
	int r;

	if (!s)
		return -EIO;
	if (before_ms >= 0)
		db_bind_int(s, ":before", before_ms);
	db_bind_int(s, ":most", DB_PRUNE_ROWS);
	r = db_run(db, s, err);
	if (r == 0)
		*n += sqlite3_changes(db->h);
	return r;
}

static int take_jobs(struct db *db, int64_t before_ms, int64_t *n, struct err *err)
{
	int64_t with_them = 0;
	int r = take(db, DB_PRUNE_RUNS, before_ms, &with_them, err);

	if (r == 0)
		r = take(db, DB_PRUNE_COUNT, before_ms, &with_them, err);
	return r < 0 ? r : take(db, DB_PRUNE_JOBS, before_ms, n, err);
}

static int take_reports(struct db *db, const struct db_limits *limits, int64_t *n, struct err *err)
{
	int64_t bytes, taken = 0;
	int r = take(db, DB_PRUNE_OLD_REPORTS, MAX_OF(limits->before_ms, 0), &taken, err);

	if (r == 0 && taken == 0)
		r = db_bytes(db, &bytes, err);
	if (r == 0 && taken == 0 && bytes > limits->bytes_max) {
		r = take(db, DB_PRUNE_UNPROVEN, -1, &taken, err);
		if (r == 0 && taken == 0)
			r = take(db, DB_PRUNE_REPORTS, -1, &taken, err);
	}
	*n += taken;
	return r;
}

int db_prune(struct db *db, const struct db_limits *limits, int64_t *ret_n, struct err *err)
{
	int64_t before_ms, n = 0;
	int r = jobs_before(db, limits, &before_ms, err);

	if (r == 0)
		r = take_jobs(db, MAX_OF(before_ms, 0), &n, err);
	if (r == 0)
		r = take_reports(db, limits, &n, err);
	if (r == 0)
		*ret_n = n;
	return r;
}
