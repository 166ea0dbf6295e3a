/* The database grows older and larger: what is no longer kept, what a full disk takes back, and
 * schemas of before. */
#include "tests/unit/db_util.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

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

/* Jobs with their runs, and reports: what is older, and the oldest of what is too much. What is
 * open stays, and a handover that was is counted also when its row is gone. */
static void test_prune(void **state)
{
	struct job a;
	int64_t run, n, screened;

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
			a.outcome = i % 2 ? JOB_O_KEPT : i == 4 ? JOB_O_SCREENED : JOB_O_DROPPED;
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
	assert_int_equal(query("SELECT count(*) FROM runs WHERE job NOT IN (SELECT id FROM jobs)"),
			 0);
	assert_int_equal(query("SELECT count(*) FROM runs"), 8);
	assert_int_equal(prune(0, 3, INT64_MAX), 4);
	assert_int_equal(query("SELECT min(updated_ms) FROM jobs WHERE state = 'done'"), 8000);
	assert_int_equal(db_job_finished(db, &n, &screened, &err), 0);
	assert_int_equal(n, 5);
	assert_int_equal(screened, 1); /* its row is gone */
	reopen();
	assert_int_equal(db_job_finished(db, &n, &screened, &err), 0);
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
	assert_int_equal(query("PRAGMA user_version"), DB_SCHEMA_VERSION);
}

/* A database of the first schema, as its program left it. */
static void test_migration(void **state)
{
	static const char old[] =
		"PRAGMA user_version = 1;"
		"CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
		"INSERT INTO meta VALUES('boot', 7);"
		"CREATE TABLE devices(id TEXT PRIMARY KEY, status TEXT, boot INTEGER NOT NULL,"
		" online INTEGER NOT NULL, report_seq INTEGER NOT NULL, report_have INTEGER NOT "
		"NULL,"
		" seen_ms INTEGER NOT NULL) WITHOUT ROWID;"
		"INSERT INTO devices VALUES('cam-1', '{}', 3, 1, 9, 8, 1000), ('cam-2', NULL, 1, "
		"0, 0, 0, 1);"
		"CREATE TABLE reports(device TEXT NOT NULL, seq INTEGER NOT NULL, checkpoint TEXT "
		"NOT NULL,"
		" origin TEXT NOT NULL, snapshot TEXT NOT NULL, split TEXT NOT NULL, n INTEGER NOT "
		"NULL,"
		" correct INTEGER NOT NULL, loss REAL, per_class TEXT, decision TEXT, against TEXT,"
		" against_accuracy REAL, epoch INTEGER NOT NULL, at_ms INTEGER NOT NULL,"
		" received_ms INTEGER NOT NULL, PRIMARY KEY(device, seq)) WITHOUT ROWID;"
		"INSERT INTO reports VALUES('cam-1', 8, 'c', 'local', 's', 'test', 10, 6, 0.5, "
		"'[[0,10,6]]',"
		" 'kept', 'd', 0.7, 2, 11, 12);"
		"CREATE TABLE checkpoints(id TEXT NOT NULL, device TEXT NOT NULL, manifest TEXT "
		"NOT NULL,"
		" origin TEXT NOT NULL, epoch INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
		" PRIMARY KEY(id, device)) WITHOUT ROWID;"
		"CREATE TABLE jobs(id INTEGER PRIMARY KEY, device TEXT NOT NULL, checkpoint TEXT "
		"NOT NULL,"
		" fence INTEGER NOT NULL, state TEXT NOT NULL, pulled INTEGER NOT NULL,"
		" epochs INTEGER NOT NULL, epoch_done INTEGER NOT NULL, partial TEXT, result TEXT,"
		" images_trained INTEGER NOT NULL, worked_ms INTEGER NOT NULL,"
		" before_n INTEGER, before_correct INTEGER, before_loss REAL, before_snapshot TEXT,"
		" after_n INTEGER, after_correct INTEGER, after_loss REAL, after_snapshot TEXT,"
		" outcome TEXT NOT NULL, reason TEXT,"
		" validation_n INTEGER, validation_correct INTEGER, validation_loss REAL,"
		" test_n INTEGER, test_correct INTEGER, test_loss REAL,"
		" local_validation_n INTEGER, local_validation_correct INTEGER, "
		"local_validation_loss REAL,"
		" local_test_n INTEGER, local_test_correct INTEGER, local_test_loss REAL,"
		" created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, UNIQUE(device, "
		"checkpoint, fence));"
		"CREATE INDEX jobs_open ON jobs(id) WHERE state <> 'done';"
		"CREATE INDEX jobs_created ON jobs(created_ms);"
		"INSERT INTO jobs(device, checkpoint, fence, state, pulled, epochs, epoch_done, "
		"partial,"
		" images_trained, worked_ms, outcome, created_ms, updated_ms) VALUES"
		" ('cam-1', 'c', 1, 'done', 1, 2, 2, 'w', 5, 5, 'kept', 100, 200),"
		" ('cam-1', 'd', 2, 'done', 1, 2, 2, 'x', 5, 5, 'dropped', 100, 200);"
		"CREATE TABLE runs(id INTEGER PRIMARY KEY, job INTEGER NOT NULL, device TEXT NOT "
		"NULL,"
		" checkpoint TEXT NOT NULL, fence INTEGER NOT NULL, started_ms INTEGER NOT NULL,"
		" started_mono_ms INTEGER NOT NULL, until_mono_ms INTEGER NOT NULL, ended_ms "
		"INTEGER,"
		" ended_mono_ms INTEGER, why TEXT);"
		"CREATE INDEX runs_open ON runs(id) WHERE ended_ms IS NULL;";
	struct db_device got = {0};
	int64_t n, screened;
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
	assert_int_equal(
		query("SELECT count(*) FROM reports WHERE device = 'cam-1' AND log = '' AND"
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
	assert_true(got.weight == 0);
	assert_true(got.error < 0);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE window = 0 AND mixed = 0 AND"
			       " reported_n IS NULL"),
			 query("SELECT count(*) FROM jobs"));
	assert_int_equal(db_job_finished(db, &n, &screened, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(db_next(db, "boot", &n, &err), 0);
	assert_int_equal(n, 8);
	/* What it had made was not in `checkpoints` then, and is known all the same. */
	assert_int_equal(db_checkpoint_known(db, "w", &yes, &err), 0);
	assert_true(yes);
	db_commit(db, &err);
	reopen(); /* a second time, nothing is left to do */
	assert_int_equal(query("SELECT count(*) FROM reports"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_prune),
		TEST(test_prune_bytes),
		TEST(test_lost_batch),
		TEST(test_migration),
	};
	return cmocka_run_group_tests_name("db_limits", tests, NULL, NULL);
}
