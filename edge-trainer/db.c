/* Opening and transactions. The schema's version is PRAGMA user_version; each migration is one
 * transaction with the new number. */
#include "edge-trainer/db.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/db_priv.h"

#define BUSY_TIMEOUT_MS 5000 /* somebody looks at it with the sqlite3 tool */

int db_fail(struct db *db, const char *what, struct err *err)
{
	int code = sqlite3_errcode(db->h) & 0xff;

	return err_set(err,
		       code == SQLITE_FULL				      ? -ENOSPC :
		       code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? -EUCLEAN :
		       code == SQLITE_NOMEM				      ? -ENOMEM :
		       code == SQLITE_BUSY				      ? -EBUSY :
									-EIO,
		       "%s: %s: %s", db->path, what, sqlite3_errmsg(db->h));
}

static int exec(struct db *db, const char *sql, struct err *err)
{
	if (sqlite3_exec(db->h, sql, NULL, NULL, NULL) != SQLITE_OK)
		return db_fail(db, sql, err);
	return 0;
}

int db_query_int(struct db *db, const char *sql, int64_t *ret, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int r = 0;

	if (sqlite3_prepare_v2(db->h, sql, -1, &s, NULL) != SQLITE_OK ||
	    sqlite3_step(s) != SQLITE_ROW)
		r = db_fail(db, sql, err);
	else
		*ret = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return r;
}

static int migrate(struct db *db, struct err *err)
{
	int64_t version;
	int r = db_query_int(db, "PRAGMA user_version", &version, err);

	if (r < 0)
		return r;
	if (version < 0 || version > DB_SCHEMA_VERSION)
		return err_set(err, -EPROTO,
			       "%s: found schema version %lld, expected at most %d: made by a newer "
			       "tasuki-trainer?",
			       db->path, (long long)version, DB_SCHEMA_VERSION);
	for (; version < DB_SCHEMA_VERSION; version++) {
		char sql[64];

		snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", (int)version + 1);
		r = exec(db, "BEGIN IMMEDIATE", err);
		if (r == 0)
			r = exec(db, db_migrations[version], err);
		if (r == 0)
			r = exec(db, sql, err);
		if (r == 0)
			r = exec(db, "COMMIT", err);
		if (r < 0) {
			sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
			return r;
		}
	}
	return 0;
}

static int set_up(struct db *db, struct err *err)
{
	int r;

	sqlite3_busy_timeout(db->h, BUSY_TIMEOUT_MS);
	r = exec(db, "PRAGMA journal_mode = WAL", err);
	if (r == 0)
		r = exec(db, "PRAGMA synchronous = FULL", err);
	if (r == 0)
		r = exec(db, "PRAGMA cache_size = -2000", err);
	if (r == 0) /* keys that are over are overwritten (as Debian's SQLite does anyway) */
		r = exec(db, "PRAGMA secure_delete = ON", err);
	if (r == 0)
		r = migrate(db, err);
	return r;
}

int db_open(const char *path, struct db **ret, struct err *err)
{
	_cleanup_(db_freep) struct db *db = calloc(1, sizeof(*db));
	int r;

	if (!db)
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	if (strlen(path) >= sizeof(db->path))
		return err_set(err, -ENAMETOOLONG, "%s: path of the database is too long", path);
	strcpy(db->path, path);
	if (sqlite3_open_v2(path, &db->h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
	    SQLITE_OK)
		return db->h ? db_fail(db, "open", err) :
			       err_set(err, -ENOMEM, "%s: out of memory", path);
	r = set_up(db, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(db);
	return 0;
}

void db_free(struct db *db)
{
	if (!db)
		return;
	if (db->in_transaction)
		db_commit(db, NULL);
	for (unsigned i = 0; i < DB_STMT_N; i++)
		sqlite3_finalize(db->stmts[i]);
	sqlite3_close(db->h);
	free(db);
}

bool db_is_dirty(const struct db *db)
{
	return db->in_transaction || db->lost.code < 0;
}

static int roll_back(struct db *db)
{
	if (db->in_transaction)
		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
	db->in_transaction = false;
	return db->lost.code;
}

int db_commit(struct db *db, struct err *err)
{
	int r;

	if (db->lost.code < 0) {
		r = roll_back(db);
		if (err)
			*err = db->lost;
		db->lost = (struct err){0};
		return r;
	}
	if (!db->in_transaction)
		return 0;
	r = exec(db, "COMMIT", err);
	if (r < 0)
		roll_back(db);
	db->in_transaction = false;
	return r;
}

/* The number that a statement which counts returns. */
static int counted(struct db *db, sqlite3_stmt *s, int64_t *ret, struct err *err)
{
	int64_t n;
	int r = db_row(db, s, err);

	if (r < 0)
		return r;
	n = sqlite3_column_int64(s, 0);
	r = db_run(db, s, err);
	if (r == 0)
		*ret = n;
	return r;
}

int db_next(struct db *db, const char *what, int64_t *ret, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_NEXT, err);

	if (!s)
		return -EIO;
	db_bind_str(s, ":key", what);
	return counted(db, s, ret, err);
}

int db_sequence(struct db *db, int64_t now_ms, int64_t *ret, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_SEQUENCE, err);

	if (!s)
		return -EIO;
	db_bind_int(s, ":now", now_ms);
	db_bind_int(s, ":ahead", FRESHNESS_AHEAD_MS);
	return counted(db, s, ret, err);
}

int db_offer_get(struct db *db, const char *device, struct freshness_last *ret, struct err *err)
{
	sqlite3_stmt *s = db_get(db, DB_OFFER_GET, err);
	int r;

	if (!s)
		return -EIO;
	db_bind_text(s, ":device", device);
	r = db_row(db, s, err);
	if (r < 0)
		return r;
	*ret = (struct freshness_last){0};
	if (r > 0) {
		ret->sequence = sqlite3_column_int64(s, 0);
		db_column_str(s, 1, ret->id, sizeof(ret->id));
		ret->over = sqlite3_column_int(s, 2);
	}
	sqlite3_reset(s);
	return 0;
}

int db_offer_put(struct db *db, const char *device, const struct freshness_last *last,
		 struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_OFFER_PUT, err);

	if (!s)
		return -EIO;
	db_bind_text(s, ":device", device);
	db_bind_int(s, ":sequence", last->sequence);
	db_bind_text(s, ":checkpoint", last->id);
	db_bind_int(s, ":over", last->over);
	return db_run(db, s, err);
}

int db_offer_over(struct db *db, const char *device, const char *checkpoint, struct err *err)
{
	sqlite3_stmt *s = db_write(db, DB_OFFER_OVER, err);

	if (!s)
		return -EIO;
	db_bind_text(s, ":device", device);
	db_bind_text(s, ":checkpoint", checkpoint);
	return db_run(db, s, err);
}

/* --- statements --- */

sqlite3_stmt *db_get(struct db *db, enum db_stmt which, struct err *err)
{
	sqlite3_stmt **s = &db->stmts[which];

	if (!*s && sqlite3_prepare_v3(db->h, db_sql[which], -1, SQLITE_PREPARE_PERSISTENT, s,
				      NULL) != SQLITE_OK) {
		db_fail(db, db_sql[which], err);
		return NULL;
	}
	sqlite3_reset(*s);
	sqlite3_clear_bindings(*s);
	return *s;
}

sqlite3_stmt *db_write(struct db *db, enum db_stmt which, struct err *err)
{
	if (!db->in_transaction) {
		if (exec(db, "BEGIN IMMEDIATE", err) < 0)
			return NULL;
		db->in_transaction = true;
	}
	return db_get(db, which, err);
}

int db_row(struct db *db, sqlite3_stmt *s, struct err *err)
{
	int r = sqlite3_step(s);

	if (r == SQLITE_ROW)
		return 1;
	if (r == SQLITE_DONE) {
		sqlite3_reset(s);
		return 0;
	}
	struct err why = {0};

	r = db_fail(db, "write or read", &why);
	if (err)
		*err = why;
	sqlite3_reset(s);
	/* SQLite rolls back by itself on some errors, as on a full disk: with what failed goes all
	 * that was written before it. */
	if (db->in_transaction && sqlite3_get_autocommit(db->h)) {
		db->in_transaction = false;
		db->lost = why;
	}
	return r;
}

int db_run(struct db *db, sqlite3_stmt *s, struct err *err)
{
	int r;

	do
		r = db_row(db, s, err);
	while (r == 1);
	return r;
}

static int index_of(sqlite3_stmt *s, const char *name)
{
	int i = sqlite3_bind_parameter_index(s, name);

	assert(i > 0);
	return i;
}

void db_bind_int(sqlite3_stmt *s, const char *name, int64_t v)
{
	sqlite3_bind_int64(s, index_of(s, name), v);
}

void db_bind_num(sqlite3_stmt *s, const char *name, double v)
{
	sqlite3_bind_double(s, index_of(s, name), v);
}

void db_bind_str(sqlite3_stmt *s, const char *name, const char *v)
{
	if (v && v[0])
		sqlite3_bind_text(s, index_of(s, name), v, -1, SQLITE_STATIC);
}

void db_bind_text(sqlite3_stmt *s, const char *name, const char *v)
{
	sqlite3_bind_text(s, index_of(s, name), v, -1, SQLITE_STATIC);
}

void db_column_str(sqlite3_stmt *s, int i, char *buf, size_t size)
{
	const char *v = (const char *)sqlite3_column_text(s, i);
	size_t n = v ? strlen(v) : 0;

	if (n >= size)
		n = 0;
	memcpy(buf, v ? v : "", n);
	buf[n] = '\0';
}
