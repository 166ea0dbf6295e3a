/* Shared by the files of the database; nobody else includes it. */
#pragma once

#include <sqlite3.h>

#include "edge-trainer/db.h"

enum db_stmt {
	DB_NEXT,
	DB_SEQUENCE,
	DB_OFFER_GET,
	DB_OFFER_PUT,
	DB_OFFER_OVER,
	DB_DEVICE_PUT,
	DB_DEVICE_EACH,
	DB_DEVICE_FORGET,
	DB_STANDING_GET,
	DB_STANDING_PUT,
	DB_STANDING_PRUNE,
	DB_REPORT_PUT,
	DB_REPORT_ABOVE,
	DB_CHECKPOINT_PUT,
	DB_JOB_INSERT,
	DB_JOB_UPDATE,
	DB_JOB_EACH,
	DB_JOB_SERVED,
	DB_JOB_FINISHED,
	DB_JOB_LAST,
	DB_JOB_SENT,
	DB_JOB_SHARED,
	DB_JOB_LINEAGE,
	DB_CHECKPOINT_KNOWN,
	DB_CHECKPOINT_KEPT,
	DB_CHECKPOINT_FORGET,
	DB_RUN_OPEN,
	DB_RUN_EXTEND,
	DB_RUN_CLOSE,
	DB_RUN_RECOVER,
	DB_PRUNE_BEFORE,
	DB_PRUNE_RUNS,
	DB_PRUNE_COUNT,
	DB_PRUNE_JOBS,
	DB_PRUNE_OLD_REPORTS,
	DB_PRUNE_UNPROVEN,
	DB_PRUNE_REPORTS,
	DB_STMT_N
};

/* migrations[i] leads from schema version i to i + 1. */
extern const char *const db_migrations[DB_SCHEMA_VERSION];
extern const char *const db_sql[DB_STMT_N];

struct db {
	sqlite3 *h;
	sqlite3_stmt *stmts[DB_STMT_N];
	bool in_transaction;
	struct err lost; /* code < 0: SQLite took back what was written since the last commit */
	char path[1024];
};

/* The prepared statement, reset and without bindings; NULL with err set. */
sqlite3_stmt *db_get(struct db *db, enum db_stmt which, struct err *err);
/* The same for one that writes: opens the transaction first. */
sqlite3_stmt *db_write(struct db *db, enum db_stmt which, struct err *err);
/* Runs a statement to its end and resets it. */
int db_run(struct db *db, sqlite3_stmt *s, struct err *err);
/* SQLITE_ROW: 1, SQLITE_DONE: 0, else a negative errno. */
int db_row(struct db *db, sqlite3_stmt *s, struct err *err);
int db_fail(struct db *db, const char *what, struct err *err);

/* The parameter's index is found by name (":device"); a wrong name is a bug and asserts. */
void db_bind_int(sqlite3_stmt *s, const char *name, int64_t v);
void db_bind_num(sqlite3_stmt *s, const char *name, double v);
/* Borrowed until the statement is run; NULL or "" becomes NULL. */
void db_bind_str(sqlite3_stmt *s, const char *name, const char *v);
/* The same for a column that knows no NULL: "" is "". */
void db_bind_text(sqlite3_stmt *s, const char *name, const char *v);
/* The first column of the first row of a query without parameters. */
int db_query_int(struct db *db, const char *sql, int64_t *ret, struct err *err);
/* Copies column i; too long or NULL: "". */
void db_column_str(sqlite3_stmt *s, int i, char *buf, size_t size);
