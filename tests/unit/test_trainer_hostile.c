/* Devices that promise and give nothing, that are invented, that talk without end, or that name
 * what they do not have: the trainer goes on for the others. */
#include "tests/unit/trainer_fixture.h"

#include <dirent.h>

#include "common/checkpoint/weights.h"
#include "edge-trainer/trainer_priv.h"

static unsigned entries_in(const char *name)
{
	char path[FILE_PATH_MAX];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", f.dir, name);
	d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/* Answers renewals; true: the trainer gave the grant back. */
static bool renew(const char *device, int64_t fence)
{
	const struct sent *s;
	bool back = false;

	while ((s = next(TOPIC_DEVICE_CLAIM))) {
		struct msg_claim c;

		assert_int_equal(msg_claim_parse(s->payload, s->len, &c, NULL), 0);
		if (c.busy) {
			assert_int_equal(c.fence, fence);
			assert_string_equal(c.reason, "no new block for a whole lease");
			back = true;
		} else {
			grant_claim(device, fence, c.claim, LEASE);
		}
	}
	return back;
}

/* Granted and renewed, and not a block in a whole lease: it ends, leaves nothing, and the device
 * has to wait, longer each time, until it brings something. */
static void test_no_blocks(void **state)
{
	int64_t was_ms = 0;

	(void)state;
	for (int round = 1; round <= 4; round++) {
		struct msg_claim c;

		offer("cam-1");
		assert_false(claimed("cam-1").busy);
		grant_claim("cam-1", round, f.claim, LEASE);
		assert_int_equal(entries_in("incoming/cam-1"), 0);
		bool back = false;
		for (int i = 0; i <= 61 && !back; i++) {
			tick(1000);
			back = renew("cam-1", round);
		}
		assert_true(back);
		assert_int_equal(query("SELECT count(*) FROM jobs WHERE state <> 'done'"), 0);
		assert_int_equal(entries_in("incoming"), 0);
		f.read = f.n_sent;
		offer("cam-1");
		c = claimed("cam-1");
		assert_true(c.busy);
		assert_in_range(c.retry_ms, was_ms * 3 / 2 + 1, BAR_CAP_MS);
		was_ms = c.retry_ms;
		offer("cam-2"); /* nobody else has to */
		assert_false(claimed("cam-2").busy);
		grant("cam-2", f.id, false, 0);
		tick(c.retry_ms);
		f.read = f.n_sent;
	}
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 5, f.claim, LEASE);
	give_blocks("cam-1", 1000);
	assert_int_equal(device_find(f.t, "cam-1")->strikes, 0);
}

/* With a block of it the job stays, lapsed, and goes on where it was. */
static void test_some_blocks(void **state)
{
	(void)state;
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 1, f.claim, LEASE);
	assert_int_equal(entries_in("incoming/cam-1"), 0);
	assert_int_equal(give_blocks("cam-1", 1), 1);
	assert_int_equal(entries_in("incoming/cam-1"), 2);
	for (int i = 0; i < 61; i++)
		tick(1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	kill_and_reopen();
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), 1);
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 2, f.claim, LEASE);
	assert_int_equal(give_blocks("cam-1", 1000), 2);
	asked("evaluate");
}

/* As many as there are places, all of them invented: a device that is known comes in all the same,
 * and claims that nobody answers keep nobody out for long. */
static void test_full_of_strangers(void **state)
{
	char id[32];
	struct msg_claim c;
	int taken = 0;

	(void)state;
	hand_over("cam-1", 1);
	f.conf.capacity = 4;
	kill_and_reopen();
	other_weights(9);
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof(id), "fake-%d", i);
		offer(id);
		c = claimed(id);
		if (!c.busy)
			grant_claim(id, 1, c.claim, LEASE);
		taken += !c.busy;
	}
	assert_int_equal(taken, 3);
	offer("cam-1");
	assert_false(claimed("cam-1").busy);
	offer("cam-2");
	assert_true(claimed("cam-2").busy);
}

static void test_claims_without_answer(void **state)
{
	struct msg_claim c;

	(void)state;
	offer("fake-1"); /* capacity is 2 */
	offer("fake-2");
	claimed("fake-1");
	c = claimed("fake-2");
	offer("cam-1");
	assert_true(claimed("cam-1").busy);
	for (int i = 0; i < 5; i++) {
		tick(1000);
		offer("fake-1"); /* to offer again makes it no younger */
	}
	f.read = f.n_sent;
	offer("cam-1");
	assert_false(claimed("cam-1").busy);
	grant_claim("cam-1", 1, f.claim, LEASE);
	offer("cam-3");
	claimed("cam-3");
	grant_claim("cam-3", 1, f.claim, LEASE);
	/* Now it wants its place after all: there is none, and it is told. */
	f.read = f.n_sent;
	grant_claim("fake-2", 77, c.claim, LEASE);
	c = claimed("fake-2");
	assert_true(c.busy);
	assert_int_equal(c.fence, 77);
	assert_null(entry_find(device_find(f.t, "fake-2"), f.id));
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state <> 'done'"), 2);
}

static void offer_with(const char *device, int64_t correct)
{
	struct msg_offer o = offer_of(device);

	o.validation = (struct score){100, correct, 1};
	say(TOPIC_DEVICE_OFFER, device, msg_offer_print(&o));
}

/* More than there is room for: each is told when to come back, and claimed when its turn is, by what
 * is expected of it, without another word of it. Who is in line can be forgotten. */
static void test_line(void **state)
{
	struct msg_claim c;

	(void)state;
	offer("cam-1"); /* capacity is 2 */
	offer("cam-2");
	for (int i = 1; i <= 2; i++) {
		char id[8];

		snprintf(id, sizeof(id), "cam-%d", i);
		claimed(id);
		grant_claim(id, 1, f.claim, LEASE);
	}
	f.read = f.n_sent;
	offer_with("good", 90);
	offer_with("bad", 10);
	c = claimed("good");
	assert_true(c.busy && c.retry_ms >= QUEUE_JOB_GUESS_MS);
	assert_true(claimed("bad").busy);
	assert_int_equal(f.t->queue.offers.n, 2);
	f.conf.capacity = f.t->queue.capacity = 3;
	tick(1000);
	assert_false(claimed("bad").busy);
	assert_int_equal(f.t->queue.offers.n, 1);
	grant_claim("bad", 1, f.claim, LEASE);
	f.t->queue.capacity = 0;
	tick(3600 * 1000); /* never made again */
	assert_int_equal(f.t->queue.offers.n, 0);
	assert_null(device_find(f.t, "good")->waiting);
}

/* A grant that was on its way for long is credited to the claim that it names. */
static void test_delayed_grant(void **state)
{
	int64_t first, later;

	(void)state;
	to_training("cam-1", 3);
	tick(20000);
	first = claimed("cam-1").claim;
	tick(5000);
	later = claimed("cam-1").claim;
	assert_true(first > 0 && later > first);
	tick(15000);
	grant_claim("cam-1", 3, first, LEASE); /* 20 s late */
	assert_int_equal(query("SELECT until_mono_ms - started_mono_ms FROM runs"),
			 20000 + LEASE - 3000);
}

static void test_claims_after_restart(void **state)
{
	int64_t old;

	(void)state;
	to_training("cam-1", 3);
	old = f.claim;
	kill_and_reopen();
	assert_true(claimed("cam-1").claim != old);
	grant_claim("cam-1", 3, old, LEASE); /* was on its way */
	assert_int_equal(f.n_work, 0);
	grant_claim("cam-1", 3, f.claim, LEASE);
	asked("train");
}

/* Noted for what was understood, and no more of them than the limit: who completed a handover
 * stays. */
static void test_invented_devices(void **state)
{
	char id[32];

	(void)state;
	hand_over("cam-1", 1);
	f.t->devices_max = 4;
	say_raw(TOPIC_DEVICE_STATUS, "garbage", NULL, 0, "{}", 2, false);
	say_raw(TOPIC_DEVICE_REPORT, "garbage", NULL, 0, "{}", 2, false);
	say_raw(TOPIC_DEVICE_OFFER, "garbage", NULL, 0, "{}", 2, false);
	say_raw(TOPIC_DEVICE_PRESENCE, "garbage", NULL, 0, "{}", 2, false);
	say_raw(TOPIC_TRAINER_GRANT, "garbage", NULL, 0, "{}", 2, false);
	say_raw(TOPIC_TRAINER_BLOCK, "garbage", f.id, 0, "x", 1, false);
	grant("garbage", f.id, true, 1);
	ack("garbage", f.id, 1, DECISION_KEPT);
	assert_int_equal(f.t->devices.n, 1);
	other_weights(9);
	offer("busy"); /* has a job */
	claimed("busy");
	grant_claim("busy", 1, f.claim, LEASE);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof(id), "fake-%d", i);
		say(TOPIC_DEVICE_PRESENCE, id,
		    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
		if (i % 10 == 0)
			tick(100); /* some are written, others are not yet */
		if (i % 25 == 0) { /* and some have gaps in their reports */
			struct msg_report r = {.seq = 9,
					       .checkpoint = OTHER,
					       .snapshot = SNAPSHOT,
					       .split = SPLIT_TEST,
					       .score = {10, 5, 1}};

			say(TOPIC_DEVICE_REPORT, id, msg_report_print(&r));
		}
	}
	assert_int_equal(f.t->devices.n, 4);
	assert_non_null(device_find(f.t, "cam-1"));
	assert_non_null(device_find(f.t, "busy"));
	assert_non_null(device_find(f.t, "fake-98"));
	assert_non_null(device_find(f.t, "fake-99"));
	/* The one that was heard last stays, whoever came first. */
	say(TOPIC_DEVICE_PRESENCE, "fake-98",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	say(TOPIC_DEVICE_PRESENCE, "new",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	assert_null(device_find(f.t, "fake-99"));
	assert_non_null(device_find(f.t, "fake-98"));
	tick(1000);
	tick(5000);
	assert_int_equal(query("SELECT count(*) FROM devices"), 4);
	kill_and_reopen();
	assert_int_equal(f.t->devices.n, 4);
	assert_true(device_is_proven(device_find(f.t, "cam-1")));
}

/* Offers and reports beyond what a device may bring are not looked at. */
static void test_floods(void **state)
{
	struct msg_report r = {.checkpoint = OTHER,
			       .snapshot = SNAPSHOT,
			       .split = SPLIT_TEST,
			       .score = {10, 5, 1}};
	unsigned claims = 0;

	(void)state;
	for (int i = 0; i < 200; i++)
		offer("cam-1");
	while (next(TOPIC_DEVICE_CLAIM))
		claims++;
	assert_in_range(claims, 18, 22);
	offer("cam-2");
	assert_false(claimed("cam-2").busy);
	for (int i = 0; i < 12000; i++) {
		r.seq = i + 1;
		say(TOPIC_DEVICE_REPORT, "cam-1", msg_report_print(&r));
	}
	tick(100);
	assert_in_range(query("SELECT count(*) FROM reports"), 10990, 11010);
	assert_true(device_find(f.t, "cam-1")->n_refused > 1000);
	tick(60000);
	r.seq = 12001;
	say(TOPIC_DEVICE_REPORT, "cam-1", msg_report_print(&r));
	tick(100);
	assert_int_equal(query("SELECT max(seq) FROM reports"), 12001);
}

/* The same, each of another checkpoint. */
static void test_many_checkpoints(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		other_weights((char)(i % 100 + 1));
		offer("cam-1");
	}
	assert_true(f.t->n_entries + f.t->queue.offers.n <= 1);
	assert_true(device_find(f.t, "cam-1")->n_refused > 900);
	f.read = f.n_sent;
	offer("cam-2");
	assert_false(claimed("cam-2").busy);
}

/* A clock that is a year off makes times that are a year off, and nothing else; what it says to have
 * expired is refused by that name. */
static void test_clock_a_year_off(void **state)
{
	const int64_t year = (int64_t)365 * 86400 * 1000;
	struct msg_report r = {.seq = 1,
			       .checkpoint = OTHER,
			       .snapshot = SNAPSHOT,
			       .split = SPLIT_TEST,
			       .score = {10, 5, 1}};
	struct msg_offer o;
	struct msg_claim c;

	(void)state;
	for (int sign = -1; sign <= 1; sign += 2) {
		const char *id = sign < 0 ? "slow" : "fast";

		r.at_ms = 1700000000000 + sign * year;
		say(TOPIC_DEVICE_REPORT, id, msg_report_print(&r));
		o = offer_of(id);
		o.manifest.created_ms += sign * year;
		say(TOPIC_DEVICE_OFFER, id, msg_offer_print(&o));
		assert_false(claimed(id).busy);
		grant(id, f.id, false, 0);
	}
	tick(100);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE received_ms > 1700000000000"), 2);
	o = offer_of("slow");
	o.manifest.created_ms -= year;
	o.manifest.expires_ms = o.manifest.created_ms + 3600 * 1000;
	say(TOPIC_DEVICE_OFFER, "slow", msg_offer_print(&o));
	c = claimed("slow");
	assert_true(c.busy);
	assert_string_equal(c.reason, "the checkpoint has expired");
	assert_int_equal(device_find(f.t, "slow")->n_refused, 1);
	offer("cam-2");
	assert_false(claimed("cam-2").busy);
}

/* More jobs than fit into memory: what is offered then is told to come back. */
static void test_jobs_in_memory(void **state)
{
	struct msg_claim c;

	(void)state;
	f.t->n_entries = TRAINER_JOBS_MAX;
	offer("cam-1");
	c = claimed("cam-1");
	assert_true(c.busy && c.retry_ms == QUEUE_RETRY_MAX_MS);
	f.t->n_entries = 0;
	offer("cam-1");
	assert_false(claimed("cam-1").busy);
}

/* Jobs without a lease are kept for a while, but no more than so many. */
static void test_lapsed_jobs(void **state)
{
	char id[16];

	(void)state;
	f.conf.capacity = TRAINER_CAPACITY_MAX;
	kill_and_reopen();
	for (int i = 0; i < LAPSED_MAX + 10; i++) {
		snprintf(id, sizeof(id), "cam-%d", i);
		offer(id);
		claimed(id);
		grant_claim(id, 1, f.claim, LEASE);
		assert_int_equal(give_blocks(id, 1), 1);
	}
	tick(LEASE);
	tick(COLLECT_MS);
	tick(COLLECT_MS);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE state = 'lapsed'"), LAPSED_MAX);
}

/* Somebody who heard of a checkpoint names it as his: he has to bring it. */
static void test_possession(void **state)
{
	(void)state;
	hand_over("cam-1", 1);
	offer("thief");
	claimed("thief");
	grant_claim("thief", 1, f.claim, LEASE);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'thief' AND pulled"), 0);
	assert_int_equal(give_blocks("thief", 2), 2);
	for (int i = 0; i < 61; i++)
		tick(1000);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE device = 'thief' AND pulled"), 0);
	/* Who has brought it once need not again. */
	f.read = f.n_sent;
	f.n_work = f.worked = 0;
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 2, f.claim, LEASE);
	assert_int_equal(give_blocks("cam-1", 1000), 0);
	asked("evaluate");
}

/* The trainer's status, as a tool reads it. */
static int64_t refused_messages(void)
{
	struct msg_trainer_status m = {0};
	const struct sent *s = NULL;

	tick(1000);
	for (unsigned i = 0; i < f.n_sent; i++)
		if (f.sent[i].topic.kind == TOPIC_TRAINER_STATUS)
			s = &f.sent[i];
	assert_non_null(s);
	struct err err = {0};
	if (msg_trainer_status_parse(s->payload, s->len, &m, &err) < 0)
		fail_msg("%s", err.text);
	return m.refused_messages;
}

static void block(uint32_t n, const char *checkpoint, size_t len)
{
	say_raw(TOPIC_TRAINER_BLOCK, "cam-1", checkpoint, n, f.weights, len, false);
}

/* Of another checkpoint than announced, of a wrong length, out of range, unasked: each is counted where
 * an operator sees it, and the transfer goes on as if it had not come. */
static void test_bad_blocks(void **state)
{
	struct device *d;
	const struct sent *s;

	(void)state;
	offer("cam-1");
	claimed("cam-1");
	block(0, f.id, BLOCK); /* not granted yet */
	assert_int_equal(refused_messages(), 1);
	grant_claim("cam-1", 1, f.claim, LEASE);
	d = device_find(f.t, "cam-1");
	block(0, OTHER, BLOCK);
	assert_int_equal(refused_messages(), 2);
	block(0, f.id, BLOCK - 1);
	block(0, f.id, 0);
	block(0, f.id, BLOCK + 1);
	assert_int_equal(refused_messages(), 5);
	block(1000, f.id, BLOCK);
	block(XFER_BLOCKS_MAX - 1, f.id, BLOCK);
	assert_int_equal(refused_messages(), 7);
	say_raw(TOPIC_TRAINER_BLOCK, "nobody", f.id, 0, f.weights, BLOCK, false);
	assert_int_equal(refused_messages(), 8);
	assert_int_equal(d->n_refused, 7);
	assert_int_equal(d->jobs->part.xfer.n_held, 0);
	/* What came twice is the link's doing. */
	s = next(TOPIC_DEVICE_WANT);
	assert_non_null(s);
	block(0, f.id, BLOCK);
	block(0, f.id, BLOCK);
	assert_int_equal(refused_messages(), 8);
	assert_int_equal(d->jobs->part.xfer.n_held, 1);
}

/* Its bytes are not those that the id names: refused by name, and not asked for again. */
static void test_other_bytes(void **state)
{
	char was[HASH_SIZE];

	(void)state;
	memcpy(was, f.id, sizeof(was));
	offer("cam-1");
	claimed("cam-1");
	grant_claim("cam-1", 1, f.claim, LEASE);
	f.weights[WEIGHTS_HEADER_SIZE] ^= 1;
	assert_int_equal(give_blocks("cam-1", 1000), 3);
	assert_int_equal(refused_messages(), 1);
	assert_int_equal(f.n_work, 0);
	assert_int_equal(query("SELECT count(*) FROM jobs WHERE pulled"), 0);
	assert_string_equal(was, f.id);
}

/* Made of a checkpoint whose device counts to the limits: it can be told and read again. */
static void test_counts_at_their_limits(void **state)
{
	struct entry e = {.job = {.epoch_done = 2, .images_trained = 1200}};
	struct json *j = json_new_obj();
	struct manifest m;
	struct err err = {0};

	(void)state;
	e.job.manifest = offer_of("cam-1").manifest;
	e.job.manifest.epoch = MANIFEST_EPOCH_MAX;
	e.job.manifest.images_seen = (int64_t)WEIGHTS_SEEN_MAX;
	memcpy(e.job.partial, OTHER, sizeof(e.job.partial));
	entry_result(f.t, &e, &m);
	manifest_to_json(&m, j);
	if (manifest_from_json(j, NULL, &m, &err) < 0)
		fail_msg("%s", err.text);
	json_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_blocks),         TEST(test_some_blocks),
		TEST(test_full_of_strangers), TEST(test_claims_without_answer),
		TEST(test_line),              TEST(test_delayed_grant),     TEST(test_claims_after_restart),
		TEST(test_invented_devices),  TEST(test_floods),
		TEST(test_possession),        TEST(test_bad_blocks),
		TEST(test_other_bytes),       TEST(test_many_checkpoints),
		TEST(test_clock_a_year_off),  TEST(test_jobs_in_memory),
		TEST(test_lapsed_jobs),       TEST(test_counts_at_their_limits),
	};

	log_init("test_trainer_hostile", LOG_P_ERROR);
	return cmocka_run_group_tests_name("test_trainer_hostile", tests, NULL, NULL);
}
