/* A checkpoint for everyone, at the trainer: told, sent once, sent again to whoever lacks some, to
 * a share of the devices first. The devices are played by the test. */
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/unit/trainer_fixture.h"

#define N_BLOCKS ((unsigned)((f.model->file_bytes + BLOCK - 1) / BLOCK))

/* As `tasuki publish` does. */
#define CENSUS_MS 3000 /* fleet.c: what is published is looked at once devices have been heard */

static void put_file(char mark, char id[HASH_SIZE])
{
	char path[FILE_PATH_MAX];

	other_weights(mark);
	strcpy(id, f.id);
	snprintf(path, sizeof(path), "%s/publish", f.dir);
	assert_int_equal(file_mkdirs(path, NULL), 0);
	snprintf(path, sizeof(path), "%s/publish/%s.weights", f.dir, f.id);
	assert_int_equal(file_write(path, f.weights, f.model->file_bytes, NULL), 0);
}

static void publish(char mark, char id[HASH_SIZE])
{
	put_file(mark, id);
	tick(CENSUS_MS);
}

static bool last_offer(struct msg_fleet *ret)
{
	const struct sent *s, *last = NULL;

	f.read = 0;
	while ((s = next(TOPIC_FLEET_OFFER)))
		last = s;
	if (!last)
		return false;
	assert_true(last->retain);
	assert_int_equal(last->qos, 1);
	assert_int_equal(msg_fleet_parse(last->payload, last->len, ret, NULL), 0);
	return true;
}

static void forget_sent(void)
{
	while (f.n_sent)
		free(f.sent[--f.n_sent].payload);
	f.read = 0;
}

/* How many blocks went to everyone, and their bytes are those of the weights. */
static unsigned blocks_sent(const char *id)
{
	const struct sent *s;
	unsigned n = 0;

	f.read = 0;
	while ((s = next(TOPIC_FLEET_BLOCK))) {
		assert_string_equal(s->topic.checkpoint, id);
		assert_memory_equal(s->payload, f.weights + (size_t)s->topic.block * BLOCK, s->len);
		n++;
	}
	return n;
}

static unsigned again_sent(const char *device)
{
	const struct sent *s;
	unsigned n = 0;

	f.read = 0;
	while ((s = next(TOPIC_DEVICE_BLOCK)))
		n += strcmp(s->topic.device, device) == 0;
	return n;
}

static void want(const char *device, const char *id, uint32_t first, size_t n)
{
	struct msg_want w = {.n_blocks = n};

	strcpy(w.checkpoint, id);
	for (size_t i = 0; i < n; i++)
		w.blocks[i] = first + (uint32_t)i;
	say(TOPIC_TRAINER_WANT, device, msg_want_print(&w));
}

static void known(const char *device)
{
	say(TOPIC_DEVICE_PRESENCE, device,
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
}

static void report_of(const char *device, int64_t seq, const char *id, const char *source,
		      int correct, double against)
{
	struct msg_report r = {.seq = seq,
			       .origin = ORIGIN_FLEET,
			       .split = SPLIT_VALIDATION,
			       .score = {100, correct, 1},
			       .has_decision = true,
			       .activated = correct / 100.0 > against,
			       .has_against = true,
			       .against_accuracy = against,
			       .at_ms = 1};

	strcpy(r.checkpoint, id);
	strcpy(r.source, source);
	strcpy(r.snapshot, SNAPSHOT);
	strcpy(r.against, OTHER);
	say(TOPIC_DEVICE_REPORT, device, msg_report_print(&r));
}

static void report(const char *device, int64_t seq, const char *id, int correct, double against)
{
	report_of(device, seq, id, "", correct, against);
}

static int set_up_fleet(void **state)
{
	int r = set_up(state);

	if (r < 0)
		return r;
	f.conf.rollout = (struct rollout_conf){.share = 100, .reports = 1, .wait_ms = 3600000};
	f.conf.fleet_spread_ms = 5000;
	return 0;
}

static void test_sent_once(void **state)
{
	char id[HASH_SIZE], path[FILE_PATH_MAX];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	snprintf(path, sizeof(path), "%s/publish/%s.weights", f.dir, id);
	assert_false(file_exists(path));
	assert_true(last_offer(&o));
	assert_string_equal(o.manifest.id, id);
	assert_string_equal(o.manifest.trainer, "edge-1");
	assert_int_equal(o.manifest.size, f.model->file_bytes);
	assert_int_equal(o.share, 100);
	assert_int_equal(o.spread_ms, 5000);
	assert_true(o.starts_in_ms > 0);
	assert_int_equal(blocks_sent(id), 0); /* devices subscribe first */
	tick(o.starts_in_ms - 1);
	assert_int_equal(blocks_sent(id), 0);
	tick(1);
	assert_int_equal(blocks_sent(id), N_BLOCKS);
	/* Who hears of it from here on is not to wait for them. */
	assert_true(last_offer(&o));
	assert_int_equal(o.starts_in_ms, -1);
	tick(60000);
	assert_int_equal(blocks_sent(id), N_BLOCKS);
	/* The same again is no news. */
	forget_sent();
	publish(1, id);
	assert_false(last_offer(&o));
}

/* A trainer that has just come knows nobody: it waits until those who are there have been heard. */
static void test_census(void **state)
{
	char id[HASH_SIZE], name[16];
	struct msg_fleet o;

	(void)state;
	f.conf.rollout = (struct rollout_conf){10, 3, 3600000, 0.01};
	put_file(1, id);
	tick(1000);
	assert_false(last_offer(&o));
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		known(name);
	}
	trainer_connected(f.t, false);
	tick(60000);
	assert_false(last_offer(&o));
	trainer_connected(f.t, true);
	tick(CENSUS_MS - 1);
	assert_false(last_offer(&o));
	tick(1000);
	assert_true(last_offer(&o));
	assert_int_equal(o.share, 10);
}

static void test_rate(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	f.conf.fleet_rate = 1024; /* a block a second */
	publish(1, id);
	assert_true(last_offer(&o));
	tick(o.starts_in_ms);
	assert_int_equal(blocks_sent(id), 1);
	tick(900);
	assert_int_equal(blocks_sent(id), 1);
	tick(100);
	assert_int_equal(blocks_sent(id), 2);
	known("cam-1");
	want("cam-1", id, 0, 2); /* both kinds take their turns at that rate */
	assert_int_equal(again_sent("cam-1"), 0);
	tick(1000);
	assert_int_equal(blocks_sent(id) + again_sent("cam-1"), 3);
	tick(1000);
	assert_int_equal(blocks_sent(id) + again_sent("cam-1"), 4);
}

static void test_connection_full(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	assert_true(last_offer(&o));
	tick(1000); /* the status with the log's new head */
	f.full_after = 1;
	tick(o.starts_in_ms - 1000);
	assert_int_equal(blocks_sent(id), 1);
	f.full_after = -1;
	trainer_writable(f.t);
	assert_int_equal(blocks_sent(id), N_BLOCKS);
}

static void test_sent_again(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	assert_true(last_offer(&o));
	want("cam-1", id, 0, 1); /* nobody has heard of it */
	known("cam-1");
	known("cam-2");
	want("cam-1", id, 0, 1); /* it is still to come for all */
	assert_int_equal(again_sent("cam-1"), 0);
	tick(o.starts_in_ms);
	want("cam-1", id, 0, 1);
	assert_int_equal(again_sent("cam-1"), 1);
	want("cam-2", id, 1, 1);
	assert_int_equal(again_sent("cam-2"), 1);
	want("cam-2", id, N_BLOCKS, 3);
	want("cam-2", OTHER, 0, 1);
	assert_int_equal(again_sent("cam-2"), 1);
}

/* More devices than are remembered: the others ask again, and one that asks much has its turn only.
 */
static void test_many_want(void **state)
{
	char id[HASH_SIZE], name[16];
	struct msg_fleet o;
	unsigned served = 0;

	(void)state;
	publish(1, id);
	assert_true(last_offer(&o));
	tick(o.starts_in_ms);
	forget_sent();
	f.full_after = 0;
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		known(name);
		want(name, id, 0, 2);
	}
	f.full_after = -1;
	trainer_writable(f.t);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		served += again_sent(name) == 2;
	}
	assert_int_equal(served, 256);
}

/* Somebody took it out of the store: there is nothing to offer any more. */
static void test_lost(void **state)
{
	char id[HASH_SIZE], path[FILE_PATH_MAX];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	assert_true(last_offer(&o));
	forget_sent();
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s", f.dir, id);
	assert_int_equal(file_remove(path, NULL), 0);
	kill_and_reopen();
	tick(60000);
	assert_false(last_offer(&o));
	publish(1, id);
	assert_true(last_offer(&o));
}

static void test_restart(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;
	int64_t sequence;

	(void)state;
	publish(1, id);
	assert_true(last_offer(&o));
	sequence = o.manifest.sequence;
	tick(1000);
	forget_sent();
	kill_and_reopen(); /* before anything was sent */
	assert_true(last_offer(&o));
	assert_int_equal(o.manifest.sequence, sequence);
	tick(o.starts_in_ms);
	assert_int_equal(blocks_sent(id), N_BLOCKS);
	forget_sent();
	kill_and_reopen(); /* after all was */
	assert_true(last_offer(&o));
	assert_int_equal(o.starts_in_ms, -1);
	tick(60000);
	assert_int_equal(blocks_sent(id), 0);
	known("cam-1");
	want("cam-1", id, 0, 1);
	assert_int_equal(again_sent("cam-1"), 1);
}

/* Devices that are among the first, by their ids. */
static unsigned first_group(int64_t sequence, int64_t share, char names[][16], unsigned most)
{
	unsigned n = 0;

	for (int i = 0; i < 1000 && n < most; i++) {
		snprintf(names[n], 16, "cam-%d", i);
		n += fleet_has(names[n], sequence, share);
	}
	return n;
}

static void rollout(bool good, bool killed)
{
	char id[HASH_SIZE], names[4][16], last[16];
	struct msg_fleet o;

	f.conf.rollout = (struct rollout_conf){10, 3, 3600000, 0.01};
	for (int i = 0; i < 200; i++) {
		snprintf(last, sizeof(last), "cam-%d", i);
		known(last);
	}
	publish(1, id);
	assert_true(last_offer(&o));
	assert_in_range(o.share, 10, 30);
	tick(o.starts_in_ms);
	assert_int_equal(first_group(o.manifest.sequence, o.share, names, 4), 4);
	for (int i = 0; i < 200; i++) {
		snprintf(last, sizeof(last), "cam-%d", i);
		if (!fleet_has(last, o.manifest.sequence, o.share))
			break;
	}
	forget_sent();
	report(last, 1, id, 99, 0.5); /* not one of the first */
	report(names[0], 1, id, good ? 60 : 40, 0.5);
	report(names[0], 1, id, 99, 0.5); /* the same once more */
	report(names[0], 2, id, 99, 0.5); /* one device counts once */
	report(names[1], 1, OTHER, 99, 0.5);
	if (killed) {
		tick(1000);
		forget_sent();
		kill_and_reopen();
	}
	report_of(names[1], 2, OTHER, id, 50, 0.5); /* with private rows in it */
	assert_true(!last_offer(&o) || (!o.halted && o.share < 100));
	report(names[2], 1, id, 50, 0.5);
	assert_true(last_offer(&o));
	assert_string_equal(o.manifest.id, id);
	if (!good) {
		assert_true(o.halted);
		assert_non_null(strstr(o.reason, "3.33 points worse"));
		return;
	}
	assert_false(o.halted);
	assert_int_equal(o.share, 100);
	tick(o.starts_in_ms);
	assert_int_equal(blocks_sent(id), N_BLOCKS);
}

static void test_widens(void **state)
{
	(void)state;
	rollout(true, false);
}

static void test_widens_after_a_restart(void **state)
{
	(void)state;
	rollout(true, true);
}

static void test_halts(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	rollout(false, false);
	strcpy(id, f.id);
	forget_sent();
	want("cam-1", id, 0, 1);
	assert_int_equal(again_sent("cam-1"), 0);
	kill_and_reopen();
	assert_true(last_offer(&o));
	assert_true(o.halted);
	assert_non_null(strstr(o.reason, "points worse"));
	forget_sent();
	/* An operator may insist: it begins anew. */
	publish(1, id);
	assert_true(last_offer(&o));
	assert_false(o.halted);
}

/* As `tasuki rollout` does. */
static bool order(const char *word, int64_t sequence)
{
	char path[FILE_PATH_MAX];

	snprintf(path, sizeof(path), "%s/rollout/%s.%lld", f.dir, word, (long long)sequence);
	assert_int_equal(file_write(path, "", 0, NULL), 0);
	forget_sent();
	tick(1000);
	return !file_exists(path);
}

static void test_orders(void **state)
{
	char id[HASH_SIZE], name[16];
	struct msg_fleet o, next_o;

	(void)state;
	f.conf.rollout = (struct rollout_conf){10, 3, 3600000, 0.01};
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		known(name);
	}
	publish(1, id);
	assert_true(last_offer(&o));
	assert_true(o.share < 100);
	/* What is of another offer, or no order, is taken away and does nothing. */
	assert_true(order("halt", o.manifest.sequence - 1));
	assert_true(order("resume", o.manifest.sequence));
	assert_false(last_offer(&next_o));
	assert_true(order("next", o.manifest.sequence));
	assert_true(last_offer(&next_o));
	assert_int_equal(next_o.share, 100);
	assert_false(next_o.halted);
	assert_true(order("halt", o.manifest.sequence));
	assert_true(last_offer(&next_o));
	assert_true(next_o.halted);
	assert_string_equal(next_o.reason, "by an operator");
	forget_sent();
	kill_and_reopen(); /* it stays so */
	assert_true(last_offer(&next_o));
	assert_true(next_o.halted);
	assert_true(order("next", o.manifest.sequence));
	assert_true(!last_offer(&next_o) || next_o.halted);
}

static void test_no_reports(void **state)
{
	char id[HASH_SIZE], name[16];
	struct msg_fleet o;

	(void)state;
	f.conf.rollout = (struct rollout_conf){10, 3, 3600000, 0.01};
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "cam-%d", i);
		known(name);
	}
	publish(1, id);
	tick(3599000);
	assert_true(last_offer(&o));
	assert_false(o.halted);
	tick(2000);
	assert_true(last_offer(&o));
	assert_true(o.halted);
	assert_string_equal(o.reason, "0 reports in time, expected 3");
}

/* Another trainer's newer one stands; an older one does not, and neither does rubbish. */
static void test_gives_way(void **state)
{
	_cleanup_free_ char *text = NULL;
	char id[HASH_SIZE], path[FILE_PATH_MAX];
	struct msg_fleet o, other;

	(void)state;
	publish(1, id);
	assert_true(last_offer(&o));
	other = o;
	strcpy(other.manifest.trainer, "edge-2");
	strcpy(other.manifest.id, OTHER);
	other.manifest.sequence--;
	say(TOPIC_FLEET_OFFER, "", msg_fleet_print(&other));
	say(TOPIC_FLEET_OFFER, "", strdup("{}"));
	say(TOPIC_FLEET_OFFER, "", msg_fleet_print(&o)); /* its own */
	tick(500);
	forget_sent();
	other.manifest.sequence += 1000;
	text = msg_fleet_print(&other);
	say_raw(TOPIC_FLEET_OFFER, "", "", 0, text, 0, true); /* somebody clears it */
	say_raw(TOPIC_FLEET_OFFER, "", "", 0, text, strlen(text), true);
	tick(60000);
	assert_int_equal(blocks_sent(id), 0);
	assert_false(last_offer(&o));
	kill_and_reopen();
	assert_false(last_offer(&o));
	/* The next of this one is newer than that. */
	publish(2, id);
	assert_true(last_offer(&o));
	assert_true(o.manifest.sequence > other.manifest.sequence);
	snprintf(path, sizeof(path), "%s/store/checkpoints/%s", f.dir, id);
	assert_true(file_exists(path));
	/* Nothing could be newer than that: it is nobody's. */
	other.manifest.sequence = JSON_INT_MAX;
	say(TOPIC_FLEET_OFFER, "", msg_fleet_print(&other));
	publish(3, id); /* what is offered no more has no place here */
	assert_false(file_exists(path));
	assert_true(last_offer(&o));
	assert_string_equal(o.manifest.id, id);
}

static void test_bad_file(void **state)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	snprintf(path, sizeof(path), "%s/publish", f.dir);
	assert_int_equal(file_mkdirs(path, NULL), 0);
	snprintf(path, sizeof(path), "%s/publish/x.weights", f.dir);
	assert_int_equal(file_write(path, f.weights, f.model->file_bytes - 4, NULL), 0);
	tick(CENSUS_MS);
	assert_false(file_exists(path));
	strcat(path, ".refused");
	assert_true(file_exists(path));
	assert_false(last_offer(&o));
	publish(1, id);
	assert_true(last_offer(&o));
}

/* Nothing is told before it is kept; then it is. */
static void test_full_disk(void **state)
{
	char id[HASH_SIZE];
	struct msg_fleet o;

	(void)state;
	publish(1, id);
	forget_sent();
	put_file(2, id);
	limit_files(100);
	tick(1000);
	assert_false(last_offer(&o));
	limit_files(0);
	tick(1000);
	assert_true(last_offer(&o));
	assert_string_equal(o.manifest.id, id);
}

#define FLEET_TEST(x) cmocka_unit_test_setup_teardown(x, set_up_fleet, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FLEET_TEST(test_sent_once),  FLEET_TEST(test_census),
		FLEET_TEST(test_rate),       FLEET_TEST(test_connection_full),
		FLEET_TEST(test_sent_again), FLEET_TEST(test_many_want),
		FLEET_TEST(test_restart),    FLEET_TEST(test_lost),
		FLEET_TEST(test_widens),     FLEET_TEST(test_widens_after_a_restart),
		FLEET_TEST(test_halts),      FLEET_TEST(test_no_reports),
		FLEET_TEST(test_gives_way),  FLEET_TEST(test_bad_file),
		FLEET_TEST(test_full_disk),   FLEET_TEST(test_orders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
