/* The database: what is written comes back, also after reopening and after kill -9 in the middle. */
#include "tests/unit/db_util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/mem.h"

static void test_boot(void **state)
{
	int64_t a, b;

	(void)state;
	assert_int_equal(db_next(db, "boot", &a, &err), 0);
	reopen();
	assert_int_equal(db_next(db, "boot", &b, &err), 0);
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
	strcpy(r.why, "takes-over");
	strcpy(r.test, "mcnemar-mid-p");
	r.contenders = 2;
	r.has_pair = true;
	r.won = 9;
	r.lost = 1;
	r.p = 0.0625;
	assert_int_equal(db_report_put(db, "cam-1", &r, 2000, &is_new, &err), 0);
	assert_int_equal(query("SELECT count(*) FROM reports"), 0); /* not committed */
	assert_int_equal(db_commit(db, &err), 0);
	assert_false(db_is_dirty(db));
	assert_int_equal(query("SELECT count(*) FROM reports"), 3);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE seq = 2 AND device = 'cam-1'"
			       " AND per_class = '[[0,60,40],[7,40,3]]' AND decision = 'activated'"
			       " AND against_accuracy = 0.5 AND split = 'validation'"
			       " AND correct = 43 AND loss = 1.25 AND received_ms = 2000"
			       " AND why = 'takes-over' AND test = 'mcnemar-mid-p'"
			       " AND contenders = 2 AND won = 9 AND lost = 1 AND p = 0.0625"
			       " AND reason IS NULL"),
			 1);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE seq = 1 AND decision IS NULL"
			       " AND why IS NULL AND test IS NULL AND contenders IS NULL"
			       " AND won IS NULL AND lost IS NULL AND p IS NULL"),
			 2);
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
	int64_t screened, n;

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
	assert_int_equal(db_job_finished(db, &n, &screened, &err), 0);
	assert_int_equal(n, 1);
	assert_int_equal(query("SELECT validation_correct FROM jobs WHERE id = 1"), 9);
	assert_int_equal(query("SELECT before_correct FROM jobs WHERE id = 1"), 22);
	assert_int_equal(query("SELECT created_ms FROM jobs WHERE id = 1"), 100);
	assert_int_equal(query("SELECT updated_ms FROM jobs WHERE id = 1"), 400);
}

static bool file_has(const char *name, const char *text)
{
	_cleanup_free_ char *data = NULL;
	size_t len = 0;

	return file_read(name, 1 << 24, &data, &len, NULL) == 0 &&
	       memmem(data, len, text, strlen(text));
}

/* As long as the job is open; then they are gone from the file, too. */
static void test_keys_of_jobs(void **state)
{
	static struct taken got;
	struct job a;

	(void)state;
	make_job(&a, "cam-1", C1, 1);
	strcpy(a.seal.secret, S1);
	save(&a, 100);
	strcpy(a.seal.theirs, W1);
	save(&a, 200);
	reopen();
	assert_true(file_has(path, S1));
	got.n = 0;
	assert_int_equal(db_job_each(db, take_job, &got, &err), 0);
	assert_memory_equal(&got.jobs[0].seal, &a.seal, sizeof(a.seal));
	a.state = JOB_DONE;
	save(&a, 300);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE seal_secret IS NULL AND"
			       " seal_theirs IS NULL"),
			 1);
	reopen();
	assert_false(file_has(path, S1));
	assert_false(file_has(path, W1));
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

/* What keeps messages from being played again survives a kill, and its device. */
static void test_offers(void **state)
{
	struct freshness_last last = {.sequence = 7, .id = C1}, found = {.sequence = 1};
	struct db_device d = {.id = "cam-1"};
	int64_t n, first;

	(void)state;
	assert_int_equal(db_offer_get(db, "cam-1", &found, NULL), 0);
	assert_int_equal(found.sequence, 0);
	assert_int_equal(db_device_put(db, &d, NULL), 0);
	assert_int_equal(db_offer_put(db, "cam-1", &last, NULL), 0);
	assert_int_equal(db_offer_get(db, "cam-1", &found, NULL), 0);
	assert_memory_equal(&found, &last, sizeof(last));
	last.sequence = 8;
	last.over = true;
	assert_int_equal(db_offer_put(db, "cam-1", &last, NULL), 0);
	assert_int_equal(db_device_forget(db, "cam-1", NULL), 0);
	assert_int_equal(db_sequence(db, 1000, &first, NULL), 0);
	assert_int_equal(first, 1000);
	assert_int_equal(db_sequence(db, 900, &n, NULL), 0);
	assert_int_equal(n, 1001);
	assert_int_equal(db_sequence(db, 5000, &n, NULL), 0);
	assert_int_equal(n, 5000);
	assert_int_equal(db_commit(db, NULL), 0);
	reopen();
	assert_int_equal(db_offer_get(db, "cam-1", &found, NULL), 0);
	assert_int_equal(found.sequence, 8);
	assert_string_equal(found.id, last.id);
	assert_true(found.over);
	assert_int_equal(db_sequence(db, 0, &n, NULL), 0);
	assert_int_equal(n, 5001);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_boot),
		TEST(test_reports),
		TEST(test_gaps),
		TEST(test_logs),
		TEST(test_devices),
		TEST(test_jobs),
		TEST(test_keys_of_jobs), TEST(test_same_fence_again),
		TEST(test_kept_and_served),
		TEST(test_sent_and_known),
		TEST(test_kept_newest_first),
		TEST(test_runs),
		TEST(test_runs_after_reboot),
		TEST(test_offers),
		TEST(test_newer_schema),
		TEST(test_not_a_database),
		TEST(test_full_disk),
		TEST(test_killed),
	};
	return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
