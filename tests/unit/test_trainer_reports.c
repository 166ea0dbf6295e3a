/* Reports and their gaps, what the trainer says of itself, and its end. */
#include "tests/unit/trainer_fixture.h"

static void report(const char *device, int64_t seq)
{
	struct msg_report r = {.seq = seq, .checkpoint = OTHER, .snapshot = SNAPSHOT,
			       .split = SPLIT_VALIDATION, .score = {10, 5, 1}, .epoch = 1};

	say(TOPIC_DEVICE_REPORT, device, msg_report_print(&r));
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
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
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

/* What the status says to exist is asked for as well, in portions, and given up in the end. */
static void test_reports_by_status(void **state)
{
	struct msg_status st = {.boot = 1, .agent = "1", .phase = PHASE_IDLE, .report_seq = 150,
				.progress = -1, .loss = NAN, .images_per_second = NAN,
				.at_ms = 1700000000000};
	int64_t from, to, last_to = 0;
	int asks = 0;

	(void)state;
	strcpy(st.model, f.model->id);
	say(TOPIC_DEVICE_PRESENCE, "cam-1",
	    msg_presence_print(&(struct msg_presence){.online = true, .boot = 1}));
	say(TOPIC_DEVICE_STATUS, "cam-1", msg_status_print(&st));
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
		TEST(test_reports_by_status),
		TEST(test_status_and_stop),
	};

	log_init("test_trainer_reports", LOG_P_ERROR);
	return cmocka_run_group_tests_name("test_trainer_reports", tests, NULL, NULL);
}
