/* What the trainer keeps on disk: within its limit, of what it knows, and not more. */
#include "tests/unit/trainer_fixture.h"

#include <sys/stat.h>
#include <utime.h>

#include "edge-trainer/trainer_priv.h"

static bool stored(const char *id)
{
	return store_has(f.t->store, id);
}

static unsigned n_stored(void)
{
	char(*ids)[HASH_SIZE] = NULL;
	size_t n;

	assert_int_equal(store_list(f.t->store, &ids, &n, NULL), 0);
	free(ids);
	return (unsigned)n;
}

/* The limit in checkpoints of the test's model. */
static void limit(unsigned files)
{
	f.conf.disk_max_bytes = (int64_t)files * (int64_t)f.model->file_bytes;
}

/* History gives way to a new job, the oldest first; what is in hand does not. */
static void test_history_gives_way(void **state)
{
	char second[HASH_SIZE];
	struct msg_claim c;
	const struct sent *s;
	struct msg_trainer_status st;

	(void)state;
	limit(6);
	hand_over("cam-1", 1);
	tick(61000);
	assert_int_equal(n_stored(), 2);
	other_weights(20);
	memcpy(second, f.id, HASH_SIZE);
	hand_over("cam-1", 2);
	tick(61000);
	assert_true(n_stored() <= 6);
	other_weights(30);
	offer("cam-1");
	assert_false(claimed("cam-1").busy);
	grant_claim("cam-1", 3, f.claim, LEASE);
	assert_int_equal(n_stored(), 3); /* the rest is set aside for the job */
	assert_true(stored(second));
	give_blocks("cam-1", 1000);
	/* A second job finds no room; who looks at the trainer sees why. */
	other_weights(40);
	offer("cam-2");
	assert_false(claimed("cam-2").busy);
	assert_int_equal(n_stored(), 1);
	other_weights(50);
	f.conf.capacity = 10;
	kill_and_reopen();
	f.read = f.n_sent;
	for (int i = 0; i < 2; i++) {
		char id[16];

		snprintf(id, sizeof(id), "new-%d", i);
		offer(id);
		c = claimed(id);
		assert_int_equal(c.busy, i == 1);
	}
	assert_in_range(c.retry_ms, BUSY_NO_DISK_MS, BUSY_NO_DISK_MS * 3 / 2);
	tick(2000);
	s = next(TOPIC_TRAINER_STATUS);
	assert_non_null(s);
	assert_int_equal(msg_trainer_status_parse(s->payload, s->len, &st, NULL), 0);
	assert_non_null(strstr(st.reason, "disk_max_mb"));
}

/* Lapsed jobs give way after that, those of strangers first. */
static void test_lapsed_give_way(void **state)
{
	(void)state;
	hand_over("cam-1", 1);
	other_weights(20);
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 2, f.claim, LEASE);
	give_blocks("cam-1", 1);
	tick(1000);
	offer("fake");
	claimed("fake");
	grant_claim("fake", 1, f.claim, LEASE);
	give_blocks("fake", 1);
	for (int i = 0; i < 61; i++)
		tick(1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 2);
	limit(6);
	other_weights(30);
	f.read = f.n_sent;
	offer("cam-2");
	assert_false(claimed("cam-2").busy);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	assert_int_equal(
		query("SELECT count(*) FROM jobs WHERE state = 'lapsed' AND device = 'cam-1'"), 1);
}

static void test_limit_too_low(void **state)
{
	struct trainer_ports ports = f.t->ports;
	struct trainer *t = NULL;
	struct err err = {0};

	(void)state;
	trainer_free(f.t);
	f.t = NULL;
	limit(2);
	assert_int_equal(trainer_new(&f.conf, f.model, &ports, &t, &err), -ERANGE);
	assert_non_null(strstr(err.text, "disk_max_mb"));
}

static void age(const char *id, int64_t days)
{
	char path[FILE_PATH_MAX];
	/* The fixture's clock, not this machine's. */
	time_t at = (time_t)((trainer_utc(f.t) / 1000) - days * 86400);

	snprintf(path, sizeof(path), "%s/store/checkpoints/%s/manifest.json", f.dir, id);
	assert_int_equal(utime(path, &(struct utimbuf){at, at}), 0);
}

/* The database was lost, or never belonged to this store: what it does not know stays, until it is
 * too old. */
static void test_empty_database(void **state)
{
	char id[HASH_SIZE], path[FILE_PATH_MAX];

	(void)state;
	to_offering("cam-1", 1, id);
	tick(2000);
	assert_int_equal(n_stored(), 2);
	age(id, 0);
	age(f.id, 0);
	trainer_free(f.t);
	f.t = NULL;
	static const char *const ends[] = {"", "-wal", "-shm"};
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		snprintf(path, sizeof(path), "%s/trainer.db%s", f.dir, ends[i]);
		assert_int_equal(file_remove(path, NULL), 0);
	}
	kill_and_reopen();
	for (int i = 0; i < 5; i++)
		tick(61000);
	assert_int_equal(n_stored(), 2);
	assert_int_equal(f.t->n_unknown, 2);
	age(id, 2); /* keep_days is 1 */
	tick(61000);
	assert_false(stored(id));
	assert_true(stored(f.id));
	/* It has to be brought again, is then known, and goes like any other. */
	hand_over("cam-1", 1);
	assert_true(stored(f.id));
	assert_int_equal(f.t->n_unknown, 0);
}

/* Epochs in between go at once, also after a restart. */
static void test_epochs_in_between(void **state)
{
	char first[HASH_SIZE], second[HASH_SIZE];

	(void)state;
	f.conf.epochs = 4;
	kill_and_reopen();
	to_training("cam-1", 1);
	trained(asked("train"), 2, first);
	assert_true(stored(first));
	trained(asked("train"), 3, second);
	kill_and_reopen();
	tick(2000);
	assert_false(stored(first));
	assert_true(stored(second));
	assert_true(stored(f.id));
}

/* Rows are kept for history_days. */
static void test_history_days(void **state)
{
	(void)state;
	hand_over("cam-1", 1);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 1);
	f.now_ms += (int64_t)29 * 86400 * 1000;
	tick(61000);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 1);
	f.now_ms += (int64_t)2 * 86400 * 1000;
	tick(61000);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 0);
	assert_int_equal(query("SELECT count(*) FROM runs"), 0);
	kill_and_reopen();
	assert_int_equal(f.t->handovers, 1);
}

/* A grant whose row could not be written: the job goes on, and its row is made when there is room,
 * not taken from another's number. */
static void test_row_not_written(void **state)
{
	(void)state;
	offer("cam-1");
	claimed("cam-1");
	limit_files(1);
	grant_claim("cam-1", 1, f.claim, LEASE);
	limit_files(0);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 0);
	assert_non_null(strstr(f.t->fault, "trainer.db"));
	assert_null(strchr(f.t->reason, '/')); /* what others hear */
	offer("cam-2");
	claimed("cam-2");
	grant_claim("cam-2", 9, f.claim, LEASE);
	f.read = 0;
	give_blocks("cam-1", 1000);
	assert_int_equal(query("SELECT count(*) FROM jobs"), 2);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-1' AND pulled"), 1);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'cam-2' AND NOT pulled"),
			 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_history_gives_way), TEST(test_lapsed_give_way),
		TEST(test_limit_too_low),     TEST(test_empty_database),
		TEST(test_epochs_in_between), TEST(test_history_days),
		TEST(test_row_not_written),
	};

	log_init("test_trainer_disk", LOG_P_ERROR);
	return cmocka_run_group_tests_name("test_trainer_disk", tests, NULL, NULL);
}
