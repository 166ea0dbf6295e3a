/* Opening, schema and transactions. The schema's version is PRAGMA user_version; migrations[i]
 * leads from version i to i+1, each in one transaction with the new number. */
#include "edge-trainer/db.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/db_priv.h"

#define BUSY_TIMEOUT_MS 5000 /* somebody looks at it with the sqlite3 tool */

static const char *const migrations[DB_SCHEMA_VERSION] = {
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE devices("
	"  id TEXT PRIMARY KEY, status TEXT, boot INTEGER NOT NULL, online INTEGER NOT NULL,"
	"  report_seq INTEGER NOT NULL, report_have INTEGER NOT NULL, seen_ms INTEGER NOT NULL"
	") WITHOUT ROWID;"
	"CREATE TABLE reports("
	"  device TEXT NOT NULL, seq INTEGER NOT NULL, checkpoint TEXT NOT NULL,"
	"  origin TEXT NOT NULL, snapshot TEXT NOT NULL, split TEXT NOT NULL,"
	"  n INTEGER NOT NULL, correct INTEGER NOT NULL, loss REAL, per_class TEXT,"
	"  decision TEXT, against TEXT, against_accuracy REAL, epoch INTEGER NOT NULL,"
	"  at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
	"  PRIMARY KEY(device, seq)) WITHOUT ROWID;"
	/* One row a device: two devices may hand over the same weights. */
	"CREATE TABLE checkpoints("
	"  id TEXT NOT NULL, device TEXT NOT NULL, manifest TEXT NOT NULL, origin TEXT NOT NULL,"
	"  epoch INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
	"  PRIMARY KEY(id, device)) WITHOUT ROWID;"
	"CREATE TABLE jobs("
	"  id INTEGER PRIMARY KEY, device TEXT NOT NULL, checkpoint TEXT NOT NULL,"
	"  fence INTEGER NOT NULL, state TEXT NOT NULL, pulled INTEGER NOT NULL,"
	"  epochs INTEGER NOT NULL, epoch_done INTEGER NOT NULL, partial TEXT, result TEXT,"
	"  images_trained INTEGER NOT NULL, worked_ms INTEGER NOT NULL,"
	"  before_n INTEGER, before_correct INTEGER, before_loss REAL, before_snapshot TEXT,"
	"  after_n INTEGER, after_correct INTEGER, after_loss REAL, after_snapshot TEXT,"
	"  outcome TEXT NOT NULL, reason TEXT,"
	"  validation_n INTEGER, validation_correct INTEGER, validation_loss REAL,"
	"  test_n INTEGER, test_correct INTEGER, test_loss REAL,"
	"  local_validation_n INTEGER, local_validation_correct INTEGER, local_validation_loss REAL,"
	"  local_test_n INTEGER, local_test_correct INTEGER, local_test_loss REAL,"
	"  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
	"  UNIQUE(device, checkpoint, fence));"
	"CREATE INDEX jobs_open ON jobs(id) WHERE state <> 'done';"
	"CREATE INDEX jobs_created ON jobs(created_ms);"
	"CREATE TABLE runs("
	"  id INTEGER PRIMARY KEY, job INTEGER NOT NULL, device TEXT NOT NULL,"
	"  checkpoint TEXT NOT NULL, fence INTEGER NOT NULL,"
	"  started_ms INTEGER NOT NULL, started_mono_ms INTEGER NOT NULL,"
	"  until_mono_ms INTEGER NOT NULL, ended_ms INTEGER, ended_mono_ms INTEGER, why TEXT);"
	"CREATE INDEX runs_open ON runs(id) WHERE ended_ms IS NULL;",
};

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

/* The first column of the first row. */
static int query_int(struct db *db, const char *sql, int64_t *ret, struct err *err)
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
	int r = query_int(db, "PRAGMA user_version", &version, err);

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
			r = exec(db, migrations[version], err);
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
	return db->in_transaction;
}

int db_commit(struct db *db, struct err *err)
{
	int r;

	if (!db->in_transaction)
		return 0;
	r = exec(db, "COMMIT", err);
	if (r < 0)
		sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL);
	db->in_transaction = false;
	return r;
}

int db_next_boot(struct db *db, int64_t *ret, struct err *err)
{
	int64_t boot;
	int r = exec(db,
		     "INSERT INTO meta(key, value) VALUES('boot', 1)"
		     " ON CONFLICT(key) DO UPDATE SET value = value + 1",
		     err);

	if (r == 0)
		r = query_int(db, "SELECT value FROM meta WHERE key = 'boot'", &boot, err);
	if (r == 0)
		*ret = boot;
	return r;
}

/* --- statements --- */

#define SCORE_SET(x) #x "_n = :" #x "_n, " #x "_correct = :" #x "_correct, " #x "_loss = :" #x "_loss"
#define SCORE_COLUMNS(x) #x "_n, " #x "_correct, " #x "_loss"
#define SCORE_VALUES(x)	 ":" #x "_n, :" #x "_correct, :" #x "_loss"

static const char *const sql_of[DB_STMT_N] = {
	[DB_DEVICE_PUT] =
		"INSERT INTO devices(id, status, boot, online, report_seq, report_have, seen_ms)"
		" VALUES(:id, :status, :boot, :online, :report_seq, :report_have, :seen)"
		" ON CONFLICT(id) DO UPDATE SET status = coalesce(excluded.status, status),"
		" boot = excluded.boot, online = excluded.online, report_seq = excluded.report_seq,"
		" report_have = excluded.report_have, seen_ms = excluded.seen_ms",
	[DB_DEVICE_EACH] =
		"SELECT id, status, boot, online, report_seq, report_have, seen_ms FROM devices",
	[DB_REPORT_PUT] =
		"INSERT OR IGNORE INTO reports(device, seq, checkpoint, origin, snapshot, split, n,"
		" correct, loss, per_class, decision, against, against_accuracy, epoch, at_ms,"
		" received_ms) VALUES(:device, :seq, :checkpoint, :origin, :snapshot, :split, :n,"
		" :correct, :loss, :per_class, :decision, :against, :against_accuracy, :epoch, :at,"
		" :received)",
	[DB_REPORT_ABOVE] = "SELECT seq FROM reports WHERE device = :device AND seq > :have"
			    " AND seq <= :upto ORDER BY seq",
	[DB_CHECKPOINT_PUT] =
		"INSERT INTO checkpoints(id, device, manifest, origin, epoch, received_ms)"
		" VALUES(:id, :device, :manifest, :origin, :epoch, :received)"
		" ON CONFLICT(id, device) DO UPDATE SET manifest = excluded.manifest,"
		" origin = excluded.origin, epoch = excluded.epoch",
	[DB_JOB_INSERT] =
		"INSERT INTO jobs(device, checkpoint, fence, state, pulled, epochs, epoch_done,"
		" partial, result, images_trained, worked_ms, "
		SCORE_COLUMNS(before) ", before_snapshot, " SCORE_COLUMNS(after)
		", after_snapshot, outcome, reason, " SCORE_COLUMNS(validation) ", "
		SCORE_COLUMNS(test) ", " SCORE_COLUMNS(local_validation) ", "
		SCORE_COLUMNS(local_test) ", created_ms, updated_ms) VALUES(:device, :checkpoint,"
		" :fence, :state, :pulled, :epochs, :epoch_done, :partial, :result,"
		" :images_trained, :worked_ms, "
		SCORE_VALUES(before) ", :before_snapshot, " SCORE_VALUES(after)
		", :after_snapshot, :outcome, :reason, " SCORE_VALUES(validation) ", "
		SCORE_VALUES(test) ", " SCORE_VALUES(local_validation) ", "
		SCORE_VALUES(local_test) ", :now, :now)"
		/* The same checkpoint under the same fence again: a device that lost its state. */
		" ON CONFLICT(device, checkpoint, fence) DO UPDATE SET state = excluded.state,"
		" pulled = excluded.pulled, epochs = excluded.epochs,"
		" epoch_done = excluded.epoch_done, partial = excluded.partial,"
		" result = excluded.result, images_trained = excluded.images_trained,"
		" worked_ms = excluded.worked_ms, before_n = NULL, after_n = NULL,"
		" outcome = excluded.outcome, reason = excluded.reason, validation_n = NULL,"
		" test_n = NULL, local_validation_n = NULL, local_test_n = NULL,"
		" created_ms = excluded.created_ms, updated_ms = excluded.updated_ms"
		" RETURNING id",
	[DB_JOB_UPDATE] =
		"UPDATE OR REPLACE jobs SET fence = :fence, state = :state, pulled = :pulled,"
		" epochs = :epochs, epoch_done = :epoch_done, partial = :partial, result = :result,"
		" images_trained = :images_trained, worked_ms = :worked_ms, "
		SCORE_SET(before) ", before_snapshot = :before_snapshot, " SCORE_SET(after)
		", after_snapshot = :after_snapshot, outcome = :outcome, reason = :reason, "
		SCORE_SET(validation) ", " SCORE_SET(test) ", " SCORE_SET(local_validation) ", "
		SCORE_SET(local_test) ", updated_ms = :now WHERE id = :id",
	[DB_JOB_EACH] =
		"SELECT j.id, j.device, j.fence, j.state, j.pulled, j.epochs, j.epoch_done,"
		" j.partial, j.images_trained, j.worked_ms, j.before_n, j.before_correct,"
		" j.before_loss, j.before_snapshot, j.after_n, j.after_correct, j.after_loss,"
		" j.after_snapshot, j.reason, c.manifest, j.checkpoint"
		" FROM jobs j LEFT JOIN checkpoints c ON c.id = j.checkpoint AND c.device = j.device"
		" WHERE j.state <> 'done' ORDER BY j.id",
	[DB_JOB_SERVED] = "SELECT device, count(*) FROM jobs WHERE created_ms > :since"
			  " GROUP BY device",
	[DB_JOB_FINISHED] =
		"SELECT count(*) FROM jobs WHERE outcome IN ('activated', 'kept')",
	[DB_CHECKPOINT_KEPT] =
		"SELECT checkpoint FROM jobs WHERE state <> 'done' OR updated_ms > :since"
		" UNION SELECT partial FROM jobs WHERE partial IS NOT NULL"
		" AND (state <> 'done' OR updated_ms > :since)",
	[DB_CHECKPOINT_FORGET] =
		"DELETE FROM checkpoints WHERE NOT EXISTS (SELECT 1 FROM jobs j"
		" WHERE j.checkpoint = checkpoints.id AND j.device = checkpoints.device"
		" AND (j.state <> 'done' OR j.updated_ms > :since))",
	[DB_RUN_OPEN] =
		"INSERT INTO runs(job, device, checkpoint, fence, started_ms, started_mono_ms,"
		" until_mono_ms) VALUES(:job, :device, :checkpoint, :fence, :now, :mono, :until)",
	[DB_RUN_EXTEND] = "UPDATE runs SET until_mono_ms = :until WHERE id = :id",
	[DB_RUN_CLOSE] = "UPDATE runs SET ended_ms = :now, ended_mono_ms = :mono, why = :why"
			 " WHERE id = :id AND ended_ms IS NULL",
	/* After a reboot the monotonic clock began anew: then the row's own numbers stand. */
	[DB_RUN_RECOVER] =
		"UPDATE runs SET why = 'killed', ended_mono_ms = CASE WHEN :mono < started_mono_ms"
		" THEN until_mono_ms ELSE min(until_mono_ms, :mono) END,"
		" ended_ms = min(:now, started_ms + CASE WHEN :mono < started_mono_ms"
		" THEN until_mono_ms ELSE min(until_mono_ms, :mono) END - started_mono_ms)"
		" WHERE ended_ms IS NULL",
};

sqlite3_stmt *db_get(struct db *db, enum db_stmt which, struct err *err)
{
	sqlite3_stmt **s = &db->stmts[which];

	if (!*s && sqlite3_prepare_v3(db->h, sql_of[which], -1, SQLITE_PREPARE_PERSISTENT, s,
				      NULL) != SQLITE_OK) {
		db_fail(db, sql_of[which], err);
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
	r = db_fail(db, "write or read", err);
	sqlite3_reset(s);
	/* SQLite rolls back by itself on some errors, as on a full disk. */
	db->in_transaction = sqlite3_get_autocommit(db->h) == 0;
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

void db_column_str(sqlite3_stmt *s, int i, char *buf, size_t size)
{
	const char *v = (const char *)sqlite3_column_text(s, i);
	size_t n = v ? strlen(v) : 0;

	if (n >= size)
		n = 0;
	memcpy(buf, v ? v : "", n);
	buf[n] = '\0';
}
