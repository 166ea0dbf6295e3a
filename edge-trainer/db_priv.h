/* Shared by the files of the database; nobody else includes it. */
#pragma once

#include <sqlite3.h>

#include "edge-trainer/db.h"

enum db_stmt {
	DB_DEVICE_PUT,
	DB_DEVICE_EACH,
	DB_REPORT_PUT,
	DB_REPORT_ABOVE,
	DB_CHECKPOINT_PUT,
	DB_JOB_INSERT,
	DB_JOB_UPDATE,
	DB_JOB_EACH,
	DB_JOB_SERVED,
	DB_JOB_FINISHED,
	DB_CHECKPOINT_KEPT,
	DB_CHECKPOINT_FORGET,
	DB_RUN_OPEN,
	DB_RUN_EXTEND,
	DB_RUN_CLOSE,
	DB_RUN_RECOVER,
	DB_STMT_N
};

struct db {
	sqlite3 *h;
	sqlite3_stmt *stmts[DB_STMT_N];
	bool in_transaction;
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
/* Copies column i; too long or NULL: "". */
void db_column_str(sqlite3_stmt *s, int i, char *buf, size_t size);
