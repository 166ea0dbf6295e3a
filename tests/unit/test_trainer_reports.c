/* Reports and their gaps, what the trainer says of itself, and its end. */
#include "tests/unit/trainer_fixture.h"

#include "edge-trainer/trainer_priv.h"

static void report_of(const char *device, const char *log, int64_t seq)
{
	struct msg_report r = {.seq = seq, .checkpoint = OTHER, .snapshot = SNAPSHOT,
			       .split = SPLIT_VALIDATION, .score = {10, 5, 1}, .epoch = 1};

	strcpy(r.log, log);
	say(TOPIC_DEVICE_REPORT, device, msg_report_print(&r));
}

static void report(const char *device, int64_t seq)
{
	report_of(device, "", seq);
}

static void status(const char *log, int64_t seq, int64_t first)
{
	struct msg_status st = {.boot = 1, .agent = "1", .phase = PHASE_IDLE, .report_seq = seq,
				.report_first = first, .progress = -1, .loss = NAN,
				.images_per_second = NAN, .at_ms = 1700000000000};

	strcpy(st.log, log);
	strcpy(st.model, f.model->id);
	say(TOPIC_DEVICE_STATUS, "cam-1", msg_status_print(&st));
}

static void online(void)
{
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
}

static bool wants_reports(int64_t *from, int64_t *to)
{
	const struct sent *s = next(TOPIC_DEVICE_WANT);
	struct msg_want w;

	if (!s)
		return false;
	assert_int_equal(msg_want_parse(s->payload, s->len, &w, NULL), 0);
	*from = w.reports_from;
	*to = w.reports_to;
	return true;
}

static void test_reports(void **state)
{
	int64_t from, to;

	(void)state;
	report("cam-1", 1);
	report("cam-1", 1);
	report("cam-1", 4);
	tick(100);
	assert_int_equal(query("SELECT count(*) FROM reports"), 2);
	tick(5000);
	assert_false(wants_reports(&from, &to)); /* is it there at all? */
	online();
	tick(1000);
	assert_false(wants_reports(&from, &to)); /* may be on its way */
	tick(2000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 2);
	assert_int_equal(to, 3);
	report("cam-1", 2);
	tick(70000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 3);
	report("cam-1", 3);
	tick(70000);
	tick(70000);
	assert_false(wants_reports(&from, &to));
	assert_int_equal(query("SELECT report_have FROM devices"), 4);
}

/* Whoever is said to be away is asked now and then all the same: word of its return may be lost. It
 * may be away for as long as it likes: nothing is given up. */
static void test_reports_of_one_away(void **state)
{
	int64_t from, to;
	unsigned asks = 0;

	(void)state;
	report("cam-1", 3);
	for (int i = 0; i < GAP_AWAY_MS / 1000 - 2; i++)
		tick(1000);
	assert_false(wants_reports(&from, &to));
	for (int i = 0; i < 100 * GAP_AWAY_MS / 10000; i++) {
		tick(10000);
		while (wants_reports(&from, &to))
			asks++;
	}
	assert_in_range(asks, 90, 101);
	assert_int_equal(from, 1);
	assert_int_equal(query("SELECT report_have FROM devices"), 0);
}

/* A whole fleet lacks reports: it does not bring them all at once, and nobody is left out. */
static void test_reports_of_many(void **state)
{
	bool asked[50] = {false};
	const struct sent *sent;
	unsigned n_asked = 0;
	char id[16];

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "cam-%u", i);
		say(TOPIC_DEVICE_PRESENCE, id,
		    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
		report(id, 2);
	}
	for (int i = 0; i < 5; i++) {
		unsigned n = 0;

		tick(1000);
		while ((sent = next(TOPIC_DEVICE_WANT))) {
			n++;
			asked[atoi(sent->topic.device + 4)] = true;
		}
		assert_true(n <= GAP_ASKS_PER_TICK);
	}
	for (unsigned i = 0; i < 50; i++)
		n_asked += asked[i];
	assert_int_equal(n_asked, 50);
}

/* What the status says to exist is asked for as well, in portions, and given up in the end. */
static void test_reports_by_status(void **state)
{
	int64_t from, to, last_to = 0;
	int asks = 0;

	(void)state;
	online();
	status("", 150, 0);
	tick(3000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 1);
	assert_int_equal(to, 100);
	for (int i = 0; i < 4000; i++) {
		tick(1000);
		while (wants_reports(&from, &to)) {
			asks++;
			last_to = to;
		}
	}
	assert_int_equal(last_to, 150);
	assert_in_range(asks, 20, 26);
	assert_int_equal(query("SELECT report_have FROM devices"), 150);
}

/* A device whose state was lost counts from 1 again, under another name: both are kept, and gaps are
 * those of the present log. */
static void test_lost_state(void **state)
{
	int64_t from, to;

	(void)state;
	online();
	status("firstlog", 3, 1);
	for (int seq = 1; seq <= 3; seq++)
		report_of("cam-1", "firstlog", seq);
	tick(70000);
	assert_false(wants_reports(&from, &to));
	status("otherlog", 2, 1);
	report_of("cam-1", "otherlog", 2);
	report_of("cam-1", "firstlog", 9); /* was on its way: stored, but no gap */
	tick(3000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 1);
	assert_int_equal(to, 1);
	report_of("cam-1", "otherlog", 1);
	tick(70000);
	tick(70000);
	assert_false(wants_reports(&from, &to));
	assert_int_equal(query("SELECT count(*) FROM reports WHERE log = 'firstlog'"), 4);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE log = 'otherlog'"), 2);
	assert_int_equal(query("SELECT report_have FROM devices WHERE log = 'otherlog'"), 2);
	kill_and_reopen();
	online();
	status("otherlog", 3, 1);
	tick(3000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 3);
}

/* What the device has no more is not asked for; what it still has is. */
static void test_no_longer_kept(void **state)
{
	int64_t from, to;

	(void)state;
	online();
	status("firstlog", 500, 401);
	tick(3000);
	tick(1000);
	assert_true(wants_reports(&from, &to));
	assert_int_equal(from, 401);
	assert_int_equal(to, 500);
	for (int seq = 401; seq <= 500; seq++)
		report_of("cam-1", "firstlog", seq);
	f.read = f.n_sent;
	tick(70000);
	tick(70000);
	assert_false(wants_reports(&from, &to));
	assert_int_equal(query("SELECT report_have FROM devices"), 500);
	kill_and_reopen();
	online();
	status("firstlog", 500, 401);
	tick(70000);
	assert_false(wants_reports(&from, &to));
}

/* A batch that could not be written: its reports are asked for again, its device's row is made. */
static void test_disk_full(void **state)
{
	(void)state;
	online();
	report("cam-1", 1);
	tick(100);
	assert_int_equal(query("SELECT report_have FROM devices"), 1);
	limit_files(1);
	report("cam-1", 2);
	report("cam-1", 3);
	say(TOPIC_DEVICE_PRESENCE, "cam-2",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	say(TOPIC_DEVICE_PRESENCE, "cam-3", /* says nothing more */
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	report("cam-2", 1); /* all that there is of this one */
	tick(100);
	tick(5000);
	limit_files(0);
	assert_int_equal(query("SELECT count(*) FROM reports"), 1);
	for (int i = 0; i < 70; i++) {
		const struct sent *s;

		tick(1000);
		while ((s = next(TOPIC_DEVICE_WANT))) {
			struct msg_want w;

			assert_int_equal(msg_want_parse(s->payload, s->len, &w, NULL), 0);
			for (int64_t seq = w.reports_from; seq <= w.reports_to; seq++)
				report(s->topic.device, seq);
		}
	}
	assert_int_equal(query("SELECT count(*) FROM reports"), 4);
	assert_int_equal(query("SELECT count(*) FROM reports WHERE device = 'cam-2'"), 1);
	assert_int_equal(query("SELECT count(*) FROM devices"), 3);
	tick(70000);
	assert_int_equal(query("SELECT report_have FROM devices WHERE id = 'cam-1'"), 3);
}

/* The same where SQLite takes the batch back by itself, long before the commit. */
static void test_disk_full_in_a_batch(void **state)
{
	int64_t from, to;

	(void)state;
	online();
	report("cam-1", 1);
	tick(100);
	limit_files(262144);
	for (int64_t seq = 2; seq < 9000; seq++) /* until the cache spills */
		report("cam-1", seq);
	limit_files(0);
	tick(100);
	assert_int_equal(query("SELECT count(*) FROM reports"), 1);
	for (int i = 0; i < 700 && !wants_reports(&from, &to); i++)
		tick(1000);
	assert_int_equal(from, 2);
	assert_int_equal(to, 101);
}

static void test_status_and_stop(void **state)
{
	struct msg_trainer_status st;
	const struct sent *s, *last = NULL;
	struct msg_presence p;

	(void)state;
	s = next(TOPIC_TRAINER_PRESENCE);
	assert_true(s && s->retain);
	to_training("cam-1", 1);
	f.read = 0;
	tick(1000);
	while ((s = next(TOPIC_TRAINER_STATUS)))
		last = s;
	assert_true(last && last->retain);
	assert_int_equal(msg_trainer_status_parse(last->payload, last->len, &st, NULL), 0);
	assert_int_equal(st.active, 1);
	assert_int_equal(st.queued, 0);
	assert_int_equal(st.devices, 1);
	assert_int_equal(st.capacity, 2);
	assert_true(st.load == 0.5);
	/* The same again is not said again. */
	tick(1000);
	assert_null(next(TOPIC_TRAINER_STATUS));
	trainer_stop(f.t);
	s = next(TOPIC_TRAINER_PRESENCE);
	assert_true(s && s->retain);
	assert_int_equal(msg_presence_parse(s->payload, s->len, &p, NULL), 0);
	assert_false(p.online);
	assert_int_equal(p.boot, 1);
	assert_int_equal(query("SELECT count(*) FROM runs WHERE why = 'shutdown'"), 1);
	offer("cam-2");
	assert_null(next(TOPIC_DEVICE_CLAIM));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reports),
		TEST(test_reports_of_one_away),
		TEST(test_reports_of_many),
		TEST(test_reports_by_status),
		TEST(test_lost_state),
		TEST(test_no_longer_kept),
		TEST(test_disk_full),
		TEST(test_disk_full_in_a_batch),
		TEST(test_status_and_stop),
	};

	log_init("test_trainer_reports", LOG_P_ERROR);
	return cmocka_run_group_tests_name("test_trainer_reports", tests, NULL, NULL);
}
