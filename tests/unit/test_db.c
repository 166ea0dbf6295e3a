/* The database: what is written comes back, also after reopening and after kill -9 in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "edge-trainer/db.h"

#define C1 "1111111111111111111111111111111111111111111111111111111111111111"
#define C2 "2222222222222222222222222222222222222222222222222222222222222222"
#define W1 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define S1 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char dir[64], path[128];
static struct db *db;
static struct err err;

static void reopen(void)
{
	db_free(db);
	db = NULL;
	if (db_open(path, &db, &err) < 0)
		fail_msg("%s", err.text);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/tasuki-db-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/trainer.db", dir);
	memset(&err, 0, sizeof(err));
	return db_open(path, &db, &err);
}

static int tear_down(void **state)
{
	(void)state;
	db_free(db);
	db = NULL;
	return file_remove(dir, NULL);
}

/* The first number that a query gives, from outside. */
static int64_t query(const char *sql)
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

static struct msg_report report(int64_t seq)
{
	struct msg_report r = {.seq = seq, .checkpoint = C1, .snapshot = S1,
			       .split = SPLIT_VALIDATION, .score = {100, 43, 1.25}, .epoch = 3};
	return r;
}

static bool put(const char *device, int64_t seq)
{
	struct msg_report r = report(seq);
	bool is_new = false;

	if (db_report_put(db, device, &r, 1000, &is_new, &err) < 0)
		fail_msg("%s", err.text);
	return is_new;
}

static void make_job(struct job *j, const char *device, const char *checkpoint, int64_t fence)
{
	static const struct job_conf conf = {120000, 10, NULL};
	struct manifest m = {
		.model = C2, .origin = ORIGIN_LOCAL, .epoch = 4, .images_seen = 5000,
		.classes = 10, .size = 200020, .block_size = 131072,
		.created_ms = 1700000000000, .encoding = "raw",
	};

	memcpy(m.id, checkpoint, HASH_SIZE);
	strcpy(m.device, device);
	job_init(j, &conf, device, &m, 1);
	j->fence = fence;
	j->state = JOB_PULLING;
}

static void save(struct job *j, int64_t now_ms)
{
	if (db_job_put(db, j, now_ms, &err) < 0 || db_commit(db, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_boot(void **state)
{
	int64_t a, b;

	(void)state;
	assert_int_equal(db_next_boot(db, &a, &err), 0);
	reopen();
	assert_int_equal(db_next_boot(db, &b, &err), 0);
	assert_int_equal(a, 1);
	assert_int_equal(b, 2);
}

static void test_reports(void **state)
{
	struct class_score classes[] = {{0, 60, 40}, {7, 40, 3}};
	struct msg_report r = report(2);
	bool is_new;

	(void)state;
	assert_true(put("cam-1", 1));
	assert_false(put("cam-1", 1));
	assert_true(put("cam-2", 1)); /* another device's numbers are its own */
	r.per_class = classes;
	r.n_per_class = 2;
	r.has_decision = r.activated = r.has_against = true;
	strcpy(r.against, C2);
	r.against_accuracy = 0.5;
	assert_int_equal(db_report_put(db, "cam-1", &r, 2000, &is_new, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM reports"), 0); /* not committed */
	assert_int_equal(db_commit(db, &err), 0);
	assert_false(db_is_dirty(db));
	assert_int_equal(query("SELECT count(*) FROM reports"), 3);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE seq = 2 AND device = 'cam-1'"
			       " AND per_class = '[[0,60,40],[7,40,3]]' AND decision = 'activated'"
			       " AND against_accuracy = 0.5 AND split = 'validation'"
			       " AND correct = 43 AND loss = 1.25 AND received_ms = 2000"),
			 1);
	/* A second one changes nothing, also when it says something else. */
	r.score.correct = 99;
	assert_int_equal(db_report_put(db, "cam-1", &r, 3000, &is_new, &err), 0);
	assert_false(is_new);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT correct FROM reports WHERE seq = 2"), 43);
}

static void test_gaps(void **state)
{
	static const int64_t there[] = {1, 2, 5, 6, 9};
	int64_t have, from, to;

	(void)state;
	for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++)
		put("cam-1", there[i]);
	assert_int_equal(db_report_gap(db, "cam-1", "", 0, 10, 100, &have, &from, &to, &err), 0);
	assert_int_equal(have, 2);
	assert_int_equal(from, 3);
	assert_int_equal(to, 4);
	assert_int_equal(db_report_gap(db, "cam-1", "", 4, 10, 100, &have, &from, &to, &err), 0);
	assert_int_equal(have, 6);
	assert_int_equal(from, 7);
	assert_int_equal(to, 8);
	assert_int_equal(db_report_gap(db, "cam-1", "", 8, 300, 100, &have, &from, &to, &err), 0);
	assert_int_equal(have, 9);
	assert_int_equal(from, 10);
	assert_int_equal(to, 109);
	assert_int_equal(db_report_gap(db, "cam-1", "", 8, 9, 100, &have, &from, &to, &err), 0);
	assert_int_equal(have, 9);
	assert_int_equal(from, 0);
	assert_int_equal(to, 0);
	assert_int_equal(db_report_gap(db, "cam-9", "", 0, 5, 2, &have, &from, &to, &err), 0);
	assert_int_equal(from, 1);
	assert_int_equal(to, 2);
}

/* A device that lost its state counts from 1 again, under another name of its log. */
static void test_logs(void **state)
{
	struct msg_report r = report(1);
	int64_t have, from, to;
	bool is_new;

	(void)state;
	put("cam-1", 1);
	put("cam-1", 2);
	strcpy(r.log, "abcdefgh");
	r.score.correct = 99;
	assert_int_equal(db_report_put(db, "cam-1", &r, 0, &is_new, &err), 0);
	assert_true(is_new);
	assert_int_equal(db_report_put(db, "cam-1", &r, 0, &is_new, &err), 0);
	assert_false(is_new);
	strcpy(r.log, "ABCDEFGH");
	r.seq = 3;
	assert_int_equal(db_report_put(db, "cam-1", &r, 0, &is_new, &err), 0);
	assert_true(is_new);
	assert_int_equal(db_report_gap(db, "cam-1", "abcdefgh", 0, 3, 9, &have, &from, &to, &err), 0);
	assert_int_equal(have, 1);
	assert_int_equal(from, 2);
	assert_int_equal(to, 3);
	assert_int_equal(db_report_gap(db, "cam-1", "", 0, 3, 9, &have, &from, &to, &err), 0);
	assert_int_equal(have, 2);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM reports"), 4);
	assert_int_equal(query("SELECT correct FROM reports WHERE seq = 1 AND log = ''"), 43);
	assert_int_equal(query("SELECT correct FROM reports WHERE seq = 1 AND log = 'abcdefgh'"), 99);
}

static int take_device(void *user, const struct db_device *d)
{
	*(struct db_device *)user = *d;
	return 0;
}

static void test_devices(void **state)
{
	struct db_device d = {.id = "cam-1", .status = "{\"phase\":\"idle\"}", .boot = 3,
			      .online = true, .report_seq = 9, .report_have = 7, .seen_ms = 11,
			      .log = "abcdefgh", .handovers = 4};
	struct db_device got = {0};

	(void)state;
	assert_int_equal(db_device_put(db, &d, &err), 0);
	d.status = NULL; /* stays */
	d.report_have = 8;
	assert_int_equal(db_device_put(db, &d, &err), 0);
	reopen();
	assert_int_equal(db_device_each(db, take_device, &got, &err), 0);
	assert_string_equal(got.id, "cam-1");
	assert_int_equal(got.boot, 3);
	assert_true(got.online);
	assert_int_equal(got.report_seq, 9);
	assert_int_equal(got.report_have, 8);
	assert_string_equal(got.log, "abcdefgh");
	assert_int_equal(got.handovers, 4);
	assert_int_equal(query("SELECT count(*) FROM devices WHERE status LIKE '%idle%'"), 1);
	/* The one that was heard last comes last. */
	d.seen_ms = 5;
	strcpy(d.id, "cam-0");
	assert_int_equal(db_device_put(db, &d, &err), 0);
	assert_int_equal(db_device_each(db, take_device, &got, &err), 0);
	assert_string_equal(got.id, "cam-1");
	assert_int_equal(db_device_forget(db, "cam-1", &err), 0);
	assert_int_equal(db_device_each(db, take_device, &got, &err), 0);
	assert_string_equal(got.id, "cam-0");
}

struct taken {
	struct job jobs[8];
	unsigned n;
};

static int take_job(void *user, const struct job *j)
{
	struct taken *t = user;

	t->jobs[t->n++] = *j;
	return 0;
}

static void test_jobs(void **state)
{
	static struct taken got;
	struct job a, b;
	int64_t n;

	(void)state;
	make_job(&a, "cam-1", C1, 5);
	save(&a, 100);
	assert_int_equal(a.id, 1);
	a.state = JOB_TRAINING;
	a.pulled = a.has_before = true;
	a.before = (struct score){50, 22, 1.5};
	strcpy(a.snapshot_before, S1);
	a.epoch_done = 3;
	strcpy(a.partial, W1);
	a.images_trained = 999;
	a.worked_ms = 1234;
	a.fence = 6;
	save(&a, 200);
	make_job(&b, "cam-2", C1, 1);
	save(&b, 300);
	reopen();
	got.n = 0;
	assert_int_equal(db_job_each(db, take_job, &got, &err), 0);
	assert_int_equal(got.n, 2);
	assert_int_equal(got.jobs[0].id, a.id);
	assert_string_equal(got.jobs[0].device, "cam-1");
	assert_int_equal(got.jobs[0].state, JOB_TRAINING);
	assert_int_equal(got.jobs[0].fence, 6);
	assert_true(got.jobs[0].pulled && got.jobs[0].has_before && !got.jobs[0].has_after);
	assert_int_equal(got.jobs[0].before.correct, 22);
	assert_true(got.jobs[0].before.loss == 1.5);
	assert_string_equal(got.jobs[0].snapshot_before, S1);
	assert_string_equal(got.jobs[0].partial, W1);
	assert_int_equal(got.jobs[0].epoch_done, 3);
	assert_int_equal(got.jobs[0].epochs, 10);
	assert_int_equal(got.jobs[0].images_trained, 999);
	assert_int_equal(got.jobs[0].worked_ms, 1234);
	assert_string_equal(got.jobs[0].manifest.id, C1);
	assert_int_equal(got.jobs[0].manifest.images_seen, 5000);
	assert_string_equal(got.jobs[1].manifest.device, "cam-2");
	a.state = JOB_DONE;
	a.outcome = JOB_O_ACTIVATED;
	a.validation = (struct score){10, 9, 0.1};
	save(&a, 400);
	got.n = 0;
	assert_int_equal(db_job_each(db, take_job, &got, &err), 0);
	assert_int_equal(got.n, 1);
	assert_int_equal(db_job_finished(db, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(query("SELECT validation_correct FROM jobs WHERE id = 1"), 9);
	assert_int_equal(query("SELECT before_correct FROM jobs WHERE id = 1"), 22);
	assert_int_equal(query("SELECT created_ms FROM jobs WHERE id = 1"), 100);
	assert_int_equal(query("SELECT updated_ms FROM jobs WHERE id = 1"), 400);
}

/* A device that lost its state gives the same fence to the same checkpoint again. */
static void test_same_fence_again(void **state)
{
	struct job a, b;

	(void)state;
	make_job(&a, "cam-1", C1, 1);
	a.state = JOB_DONE;
	save(&a, 100);
	make_job(&b, "cam-1", C1, 1);
	save(&b, 200);
	assert_int_equal(b.id, a.id);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'pulling'"), 1);
	/* and an open job that comes to a fence which an old one had */
	make_job(&a, "cam-1", C1, 2);
	save(&a, 300);
	a.fence = 1;
	save(&a, 400);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 1);
}

static int count_served(void *user, const char *device, int64_t n)
{
	if (strcmp(device, "cam-1") == 0)
		*(int64_t *)user = n;
	return 0;
}

static void test_kept_and_served(void **state)
{
	char(*ids)[HASH_SIZE] = NULL;
	struct job a, b;
	int64_t n = 0;
	size_t len;

	(void)state;
	make_job(&a, "cam-1", C1, 1);
	a.state = JOB_DONE;
	strcpy(a.partial, W1);
	save(&a, 1000);
	make_job(&b, "cam-1", C2, 2);
	save(&b, 1000);
	assert_int_equal(db_job_served(db, 500, count_served, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_int_equal(db_checkpoint_kept(db, 500, &ids, &len, &err), 0);
	assert_int_equal(len, 3);
	free(ids);
	/* later: only what the open job needs */
	assert_int_equal(db_checkpoint_kept(db, 2000, &ids, &len, &err), 0);
	assert_int_equal(len, 1);
	assert_string_equal(ids[0], C2);
	free(ids);
	assert_int_equal(db_checkpoint_forget(db, 2000, &err), 0);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM checkpoints"), 1);
}

/* Which checkpoints a device gave all blocks of, and which ids are known at all. */
static void test_sent_and_known(void **state)
{
	struct job a;
	struct manifest m;
	bool yes;

	(void)state;
	make_job(&a, "cam-1", C1, 1);
	save(&a, 100);
	assert_int_equal(db_checkpoint_known(db, C1, &yes, &err), 0);
	assert_true(yes);
	assert_int_equal(db_checkpoint_known(db, W1, &yes, &err), 0);
	assert_false(yes);
	assert_int_equal(db_job_sent(db, "cam-1", C1, &yes, &err), 0);
	assert_false(yes); /* named it, no more */
	a.pulled = true;
	save(&a, 200);
	assert_int_equal(db_job_sent(db, "cam-1", C1, &yes, &err), 0);
	assert_true(yes);
	assert_int_equal(db_job_sent(db, "cam-2", C1, &yes, &err), 0);
	assert_false(yes);
	m = a.manifest;
	strcpy(m.id, W1);
	assert_int_equal(db_checkpoint_put(db, "cam-1", &m, 300, &err), 0);
	assert_int_equal(db_checkpoint_known(db, W1, &yes, &err), 0);
	assert_true(yes);
	/* An epoch's, in the middle of the job: forgotten once the job is at another. */
	strcpy(a.partial, W1);
	save(&a, 300);
	assert_int_equal(db_checkpoint_forget(db, 0, &err), 0);
	assert_int_equal(db_checkpoint_known(db, W1, &yes, &err), 0);
	assert_true(yes);
	strcpy(a.partial, C2);
	save(&a, 300);
	assert_int_equal(db_checkpoint_forget(db, 0, &err), 0);
	assert_int_equal(db_checkpoint_known(db, W1, &yes, &err), 0);
	assert_false(yes);
	assert_int_equal(db_checkpoint_known(db, C1, &yes, &err), 0);
	assert_true(yes);
}

/* The newest are first: who has room for fewer keeps those. */
static void test_kept_newest_first(void **state)
{
	char(*ids)[HASH_SIZE] = NULL;
	struct job a;
	size_t n;

	(void)state;
	for (int i = 1; i <= 4; i++) {
		char id[HASH_SIZE];

		memset(id, '0' + i, HASH_HEX);
		id[HASH_HEX] = '\0';
		make_job(&a, "cam-1", id, i);
		a.state = i == 2 ? JOB_LAPSED : JOB_DONE;
		save(&a, 1000 * i);
	}
	assert_int_equal(db_checkpoint_kept(db, 0, &ids, &n, &err), 0);
	assert_int_equal(n, 4);
	assert_int_equal(ids[0][0], '2'); /* not over */
	assert_int_equal(ids[1][0], '4');
	assert_int_equal(ids[2][0], '3');
	assert_int_equal(ids[3][0], '1');
	free(ids);
}

static int64_t prune(int64_t before_ms, int64_t jobs_max, int64_t bytes_max)
{
	struct db_limits limits = {before_ms, jobs_max, bytes_max};
	int64_t n = 0, all = 0;

	do {
		if (db_prune(db, &limits, &n, &err) < 0 || db_commit(db, &err) < 0)
			fail_msg("%s", err.text);
		assert_true(n <= 2 * DB_PRUNE_ROWS);
		all += n;
	} while (n > 0);
	return all;
}

/* Jobs with their runs, and reports: what is older, and the oldest of what is too much. What is open
 * stays, and a handover that was is counted also when its row is gone. */
static void test_prune(void **state)
{
	struct job a;
	int64_t run, n;

	(void)state;
	for (int i = 1; i <= 10; i++) {
		char id[HASH_SIZE];
		struct msg_report r = report(i);
		bool is_new;

		memset(id, "0123456789a"[i], HASH_HEX);
		id[HASH_HEX] = '\0';
		make_job(&a, "cam-1", id, i);
		save(&a, 1000 * i);
		assert_int_equal(db_run_open(db, &a, 1000 * i, 0, 0, &run, &err), 0);
		if (i != 2) {
			a.state = JOB_DONE;
			a.outcome = i % 2 ? JOB_O_KEPT : JOB_O_DROPPED;
			save(&a, 1000 * i);
		}
		assert_int_equal(db_report_put(db, "cam-1", &r, 1000 * i, &is_new, &err), 0);
	}
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(prune(0, 100, INT64_MAX), 0);
	assert_int_equal(prune(4000, 100, INT64_MAX), 2 + 3);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 8);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE updated_ms = 2000"), 1);
	assert_int_equal(query("SELECT min(received_ms) FROM reports"), 4000);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE job NOT IN (SELECT id FROM jobs)"), 0);
	assert_int_equal(query("SELECT count(*) FROM runs"), 8);
	assert_int_equal(prune(0, 3, INT64_MAX), 4);
	assert_int_equal(query("SELECT min(updated_ms) FROM jobs WHERE state = 'done'"), 8000);
	assert_int_equal(db_job_finished(db, &n, &err), 0);
	assert_int_equal(n, 5);
	reopen();
	assert_int_equal(db_job_finished(db, &n, &err), 0);
	assert_int_equal(n, 5);
}

/* Too many bytes: the oldest reports go, those of devices that never completed a handover first. */
static void test_prune_bytes(void **state)
{
	struct db_device proven = {.id = "cam-1", .handovers = 1};
	int64_t before;

	(void)state;
	assert_int_equal(db_device_put(db, &proven, &err), 0);
	for (int64_t seq = 1; seq <= 3000; seq++) {
		put("cam-1", seq);
		put("cam-2", seq);
	}
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(db_bytes(db, &before, &err), 0);
	assert_true(before > 1000000);
	assert_true(prune(0, 100, before * 3 / 4) >= 1000);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE device = 'cam-1'"), 3000);
	assert_in_range(query("SELECT count(*) FROM reports WHERE device = 'cam-2'"), 500, 2000);
	assert_true(prune(0, 100, before / 4) >= 1000);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE device = 'cam-2'"), 0);
	assert_in_range(query("SELECT count(*) FROM reports WHERE device = 'cam-1'"), 500, 2000);
}

/* SQLite takes back the whole transaction by itself on a full disk: the commit must not pass for
 * one that kept what was written before it. */
static void test_lost_batch(void **state)
{
	struct rlimit full = {262144, 262144}, was;
	int64_t seq = 0;
	int r = 0;

	(void)state;
	put("cam-1", 100000);
	assert_int_equal(db_commit(db, &err), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	full.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_FSIZE, &full);
	while (r == 0 && seq < 50000) { /* until the cache spills */
		struct msg_report m = report(++seq);
		bool is_new;

		r = db_report_put(db, "cam-1", &m, 0, &is_new, &err);
	}
	setrlimit(RLIMIT_FSIZE, &was);
	assert_true(r < 0);
	assert_true(db_is_dirty(db));
	put("cam-1", 60000); /* goes the same way: it is of the same batch */
	assert_true(db_commit(db, &err) < 0);
	assert_non_null(strstr(err.text, path));
	assert_false(db_is_dirty(db));
	assert_int_equal(query("SELECT count(*) FROM reports"), 1);
	assert_true(put("cam-1", 60000));
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM reports"), 2);
}

/* A database of the first schema, as its program left it. */
static void test_migration(void **state)
{
	static const char old[] =
		"PRAGMA user_version = 1;"
		"CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
		"INSERT INTO meta VALUES('boot', 7);"
		"CREATE TABLE devices(id TEXT PRIMARY KEY, status TEXT, boot INTEGER NOT NULL,"
		" online INTEGER NOT NULL, report_seq INTEGER NOT NULL, report_have INTEGER NOT NULL,"
		" seen_ms INTEGER NOT NULL) WITHOUT ROWID;"
		"INSERT INTO devices VALUES('cam-1', '{}', 3, 1, 9, 8, 1000), ('cam-2', NULL, 1, 0, 0, 0, 1);"
		"CREATE TABLE reports(device TEXT NOT NULL, seq INTEGER NOT NULL, checkpoint TEXT NOT NULL,"
		" origin TEXT NOT NULL, snapshot TEXT NOT NULL, split TEXT NOT NULL, n INTEGER NOT NULL,"
		" correct INTEGER NOT NULL, loss REAL, per_class TEXT, decision TEXT, against TEXT,"
		" against_accuracy REAL, epoch INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
		" received_ms INTEGER NOT NULL, PRIMARY KEY(device, seq)) WITHOUT ROWID;"
		"INSERT INTO reports VALUES('cam-1', 8, 'c', 'local', 's', 'test', 10, 6, 0.5, '[[0,10,6]]',"
		" 'kept', 'd', 0.7, 2, 11, 12);"
		"CREATE TABLE checkpoints(id TEXT NOT NULL, device TEXT NOT NULL, manifest TEXT NOT NULL,"
		" origin TEXT NOT NULL, epoch INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
		" PRIMARY KEY(id, device)) WITHOUT ROWID;"
		"CREATE TABLE jobs(id INTEGER PRIMARY KEY, device TEXT NOT NULL, checkpoint TEXT NOT NULL,"
		" fence INTEGER NOT NULL, state TEXT NOT NULL, pulled INTEGER NOT NULL,"
		" epochs INTEGER NOT NULL, epoch_done INTEGER NOT NULL, partial TEXT, result TEXT,"
		" images_trained INTEGER NOT NULL, worked_ms INTEGER NOT NULL,"
		" before_n INTEGER, before_correct INTEGER, before_loss REAL, before_snapshot TEXT,"
		" after_n INTEGER, after_correct INTEGER, after_loss REAL, after_snapshot TEXT,"
		" outcome TEXT NOT NULL, reason TEXT,"
		" validation_n INTEGER, validation_correct INTEGER, validation_loss REAL,"
		" test_n INTEGER, test_correct INTEGER, test_loss REAL,"
		" local_validation_n INTEGER, local_validation_correct INTEGER, local_validation_loss REAL,"
		" local_test_n INTEGER, local_test_correct INTEGER, local_test_loss REAL,"
		" created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, UNIQUE(device, checkpoint, fence));"
		"CREATE INDEX jobs_open ON jobs(id) WHERE state <> 'done';"
		"CREATE INDEX jobs_created ON jobs(created_ms);"
		"INSERT INTO jobs(device, checkpoint, fence, state, pulled, epochs, epoch_done, partial,"
		" images_trained, worked_ms, outcome, created_ms, updated_ms) VALUES"
		" ('cam-1', 'c', 1, 'done', 1, 2, 2, 'w', 5, 5, 'kept', 100, 200),"
		" ('cam-1', 'd', 2, 'done', 1, 2, 2, 'x', 5, 5, 'dropped', 100, 200);"
		"CREATE TABLE runs(id INTEGER PRIMARY KEY, job INTEGER NOT NULL, device TEXT NOT NULL,"
		" checkpoint TEXT NOT NULL, fence INTEGER NOT NULL, started_ms INTEGER NOT NULL,"
		" started_mono_ms INTEGER NOT NULL, until_mono_ms INTEGER NOT NULL, ended_ms INTEGER,"
		" ended_mono_ms INTEGER, why TEXT);"
		"CREATE INDEX runs_open ON runs(id) WHERE ended_ms IS NULL;";
	struct db_device got = {0};
	int64_t n;
	sqlite3 *h;
	bool yes;

	(void)state;
	db_free(db);
	db = NULL;
	assert_int_equal(file_remove(path, NULL), 0);
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, old, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(h);
	reopen();
	assert_int_equal(query("PRAGMA user_version"), DB_SCHEMA_VERSION);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE device = 'cam-1' AND log = '' AND"
			       " seq = 8 AND correct = 6 AND per_class = '[[0,10,6]]' AND"
			       " against_accuracy = 0.7 AND at_ms = 11 AND received_ms = 12"),
			 1);
	assert_false(put("cam-1", 8));
	assert_true(put("cam-1", 9));
	assert_int_equal(db_device_each(db, take_device, &got, &err), 0);
	assert_string_equal(got.id, "cam-1");
	assert_string_equal(got.log, "");
	assert_int_equal(got.report_have, 8);
	assert_int_equal(got.handovers, 1);
	assert_int_equal(db_job_finished(db, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(db_next_boot(db, &n, &err), 0);
	assert_int_equal(n, 8);
	/* What it had made was not in `checkpoints` then, and is known all the same. */
	assert_int_equal(db_checkpoint_known(db, "w", &yes, &err), 0);
	assert_true(yes);
	db_commit(db, &err);
	reopen(); /* a second time, nothing is left to do */
	assert_int_equal(query("SELECT count(*) FROM reports"), 2);
}

static void test_runs(void **state)
{
	struct job a;
	int64_t run1, run2, run3;

	(void)state;
	make_job(&a, "cam-1", C1, 5);
	save(&a, 100);
	assert_int_equal(db_run_open(db, &a, 100000, 1000, 61000, &run1, &err), 0);
	assert_int_equal(db_run_extend(db, run1, 81000, &err), 0);
	assert_int_equal(db_run_close(db, run1, 105000, 6000, "finished", &err), 0);
	assert_int_equal(db_run_close(db, run1, 999999, 9999, "again", &err), 0); /* nothing */
	assert_int_equal(db_run_open(db, &a, 110000, 11000, 71000, &run2, &err), 0);
	assert_int_equal(db_run_open(db, &a, 120000, 21000, 31000, &run3, &err), 0);
	reopen();
	/* Killed, and back at 40000: the one may have trained until now, the other until its
	 * deadline. */
	assert_int_equal(db_run_recover(db, 139000, 40000, &err), 0);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE ended_ms IS NULL"), 0);
	assert_int_equal(query("SELECT ended_mono_ms FROM runs WHERE id = 1"), 6000);
	assert_int_equal(query("SELECT until_mono_ms FROM runs WHERE id = 1"), 81000);
	assert_int_equal(query("SELECT ended_mono_ms FROM runs WHERE id = 2"), 40000);
	assert_int_equal(query("SELECT ended_ms FROM runs WHERE id = 2"), 139000);
	assert_int_equal(query("SELECT ended_mono_ms FROM runs WHERE id = 3"), 31000);
	assert_int_equal(query("SELECT ended_ms FROM runs WHERE id = 3"), 130000);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'killed'"), 2);
}

/* After a reboot the monotonic clock is lower than any row's. */
static void test_runs_after_reboot(void **state)
{
	struct job a;
	int64_t run;

	(void)state;
	make_job(&a, "cam-1", C1, 5);
	save(&a, 100);
	assert_int_equal(db_run_open(db, &a, 100000, 50000, 80000, &run, &err), 0);
	assert_int_equal(db_run_recover(db, 200000, 300, &err), 0);
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT ended_mono_ms FROM runs"), 80000);
	assert_int_equal(query("SELECT ended_ms FROM runs"), 130000);
}

static void test_newer_schema(void **state)
{
	sqlite3 *h;

	(void)state;
	db_free(db);
	db = NULL;
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(h);
	assert_int_equal(db_open(path, &db, &err), -EPROTO);
	assert_non_null(strstr(err.text, "99"));
	assert_non_null(strstr(err.text, path));
}

static void test_not_a_database(void **state)
{
	char garbage[4096];

	(void)state;
	db_free(db);
	db = NULL;
	memset(garbage, 'x', sizeof(garbage));
	assert_int_equal(file_write(path, garbage, sizeof(garbage), &err), 0);
	assert_int_equal(db_open(path, &db, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, path));
	snprintf(garbage, sizeof(garbage), "%s/no/such/folder.db", dir);
	assert_true(db_open(garbage, &db, &err) < 0);
}

/* Where the disk takes no more: an error, nothing half-written, and it goes on once there is room. */
static void test_full_disk(void **state)
{
	struct rlimit full = {65536, 65536}, was;
	int r = 0;

	(void)state;
	put("cam-1", 1);
	assert_int_equal(db_commit(db, &err), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	full.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_FSIZE, &full);
	for (int seq = 2; seq < 2000 && r == 0; seq++) {
		struct msg_report m = report(seq);
		bool is_new;

		r = db_report_put(db, "cam-1", &m, 0, &is_new, &err);
		if (r == 0)
			r = db_commit(db, &err);
	}
	setrlimit(RLIMIT_FSIZE, &was);
	assert_true(r < 0);
	assert_non_null(strstr(err.text, path));
	assert_true(put("cam-1", 5000));
	assert_int_equal(db_commit(db, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE seq = 5000"), 1);
	assert_int_equal(query("SELECT count(*) FROM pragma_integrity_check"
			       " WHERE integrity_check <> 'ok'"),
			 0);
}

/* The child says each number after its commit returned; then it is killed. All that it said must be
 * there, once, and of the rest only whole transactions (pairs). */
static void write_until_killed(int out)
{
	struct db *mine = NULL;

	if (db_open(path, &mine, NULL) < 0)
		_exit(1);
	for (int64_t seq = 1;; seq += 2) {
		struct msg_report a = report(seq), b = report(seq + 1);
		bool is_new;

		if (db_report_put(mine, "cam-1", &a, 0, &is_new, NULL) < 0 ||
		    db_report_put(mine, "cam-1", &b, 0, &is_new, NULL) < 0 ||
		    db_commit(mine, NULL) < 0)
			_exit(1);
		if (write(out, &b.seq, sizeof(b.seq)) != sizeof(b.seq))
			_exit(1);
	}
}

static void test_killed(void **state)
{
	(void)state;
	db_free(db);
	db = NULL;
	for (int round = 0; round < 5; round++) {
		int64_t said = 0, v, n;
		int fds[2], status;
		pid_t pid;

		unlink(path);
		assert_int_equal(pipe(fds), 0);
		pid = fork();
		if (pid == 0) {
			close(fds[0]);
			write_until_killed(fds[1]);
		}
		close(fds[1]);
		for (int i = 0; i < 5 + round * 7; i++)
			assert_int_equal(read(fds[0], &v, sizeof(v)), sizeof(v));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		said = v;
		while (read(fds[0], &v, sizeof(v)) == sizeof(v))
			said = v;
		close(fds[0]);
		reopen();
		n = query("SELECT count(*) FROM reports");
		assert_true(n >= said && n <= said + 2 && n % 2 == 0);
		assert_int_equal(query("SELECT max(seq) FROM reports"), n);
		assert_int_equal(query("SELECT count(*) FROM pragma_integrity_check"
				       " WHERE integrity_check <> 'ok'"),
				 0);
		assert_true(put("cam-1", n + 1));
		assert_false(put("cam-1", n));
		db_free(db);
		db = NULL;
		assert_int_equal(file_remove(path, NULL), 0);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_boot),
		TEST(test_reports),
		TEST(test_gaps),
		TEST(test_logs),
		TEST(test_devices),
		TEST(test_jobs),
		TEST(test_same_fence_again),
		TEST(test_kept_and_served),
		TEST(test_sent_and_known),
		TEST(test_kept_newest_first),
		TEST(test_prune),
		TEST(test_prune_bytes),
		TEST(test_lost_batch),
		TEST(test_migration),
		TEST(test_runs),
		TEST(test_runs_after_reboot),
		TEST(test_newer_schema),
		TEST(test_not_a_database),
		TEST(test_full_disk),
		TEST(test_killed),
	};
	return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
