/* For tests of the database: one in a folder of its own, and rows to put into it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "edge-trainer/db.h"

#define C1 "1111111111111111111111111111111111111111111111111111111111111111"
#define C2 "2222222222222222222222222222222222222222222222222222222222222222"
#define W1 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define S1 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char dir[64], path[128];
static struct db *db;
static struct err err;

static inline void reopen(void)
{
	db_free(db);
	db = NULL;
	if (db_open(path, &db, &err) < 0)
		fail_msg("%s", err.text);
}

static inline int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/tasuki-db-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/trainer.db", dir);
	memset(&err, 0, sizeof(err));
	return db_open(path, &db, &err);
}

static inline int tear_down(void **state)
{
	(void)state;
	db_free(db);
	db = NULL;
	return file_remove(dir, NULL);
}

/* The first number that a query gives, from outside. */
static inline int64_t query(const char *sql)
{
	sqlite3 *h;
	sqlite3_stmt *s;
	int64_t v;

	assert_int_equal(sqlite3_open_v2(path, &h, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(h, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	v = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	sqlite3_close(h);
	return v;
}

static inline struct msg_report report(int64_t seq)
{
	struct msg_report r = {.seq = seq,
			       .checkpoint = C1,
			       .snapshot = S1,
			       .split = SPLIT_VALIDATION,
			       .score = {100, 43, 1.25},
			       .epoch = 3};
	return r;
}

static inline bool put(const char *device, int64_t seq)
{
	struct msg_report r = report(seq);
	bool is_new = false;

	if (db_report_put(db, device, &r, 1000, &is_new, &err) < 0)
		fail_msg("%s", err.text);
	return is_new;
}

static inline void make_job(struct job *j, const char *device, const char *checkpoint,
			    int64_t fence)
{
	static const struct job_conf conf = {120000, 10, NULL};
	struct manifest m = {
		.model = C2,
		.origin = ORIGIN_LOCAL,
		.epoch = 4,
		.images_seen = 5000,
		.classes = 10,
		.size = 200020,
		.block_size = 131072,
		.created_ms = 1700000000000,
		.encoding = ENCODING_RAW,
	};

	memcpy(m.id, checkpoint, HASH_SIZE);
	strcpy(m.device, device);
	job_init(j, &conf, device, &m, 1);
	j->fence = fence;
	j->state = JOB_PULLING;
}

static inline void save(struct job *j, int64_t now_ms)
{
	if (db_job_put(db, j, now_ms, &err) < 0 || db_commit(db, &err) < 0)
		fail_msg("%s", err.text);
}

static inline int take_device(void *user, const struct db_device *d)
{
	*(struct db_device *)user = *d;
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
