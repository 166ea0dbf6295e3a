/* The agent steps aside: the worker is paused at once and goes on where it was; who is told what;
 * what goes on all the same. */
#include "agent_rig.h"

#define STATUS_MS 1000 /* between two of them */

static const struct when_readings fine = {.power = WHEN_POWER_MAINS,
					  .battery_percent = 31,
					  .temperature_c = 40,
					  .disk_free_bytes = INT64_C(1) << 40};

static int begin_when(void **state)
{
	if (setup(state) < 0)
		return -1;
	machine = fine;
	conf.when = (struct when_conf){
		.mains = true, .interfaces = "wwan*", .metered = WHEN_METERED_HANDOVER};
	forget_asked();
	again();
	return 0;
}

static void look(void)
{
	now += WHEN_LOOK_MS;
	agent_tick(a);
}

static void unplug(void)
{
	machine.power = WHEN_POWER_BATTERY;
	look();
}

static void plug_in(void)
{
	machine.power = WHEN_POWER_MAINS;
	now += WHEN_HOLD_MS;
	look();
}

static void assert_status(const char *part)
{
	now += STATUS_MS;
	agent_tick(a);
	assert_said(DEVICE "status", part);
}

static void free_asked(struct asked q)
{
	json_free(q.args);
}

static void test_in_the_midst(void **state)
{
	char id[HASH_SIZE];
	assert_true(is_asked("train"));
	assert_in_range(wake, now, now + WHEN_LOOK_MS);
	look();
	assert_false(is_asked("pause"));
	unplug();
	free_asked(take("pause"));
	assert_status("\"phase\":\"waiting\",\"reason\":\"battery at 31 %, mains wanted\"");
	look();
	assert_false(is_asked("pause")); /* once */
	plug_in();
	free_asked(take("resume"));
	assert_status("\"phase\":\"training\",\"reason\":\"\"");
	trained(1, id); /* the same epoch: nothing was asked for anew */
}

/* Between two epochs nothing new begins; what was trained is scored. */
static void test_between_epochs(void **state)
{
	char id[HASH_SIZE];
	unplug();
	free_asked(take("pause"));
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, 10);
	while (is_asked("evaluate"))
		evaluated(id, SPLIT_TEST, 5);
	look();
	assert_false(is_asked("train"));
	assert_status("\"reason\":\"battery at 31 %, mains wanted\"");
	plug_in();
	free_asked(take("resume"));
	assert_true(is_asked("train"));
}

/* A person's pause and the machine's are two things: both must end. */
static void test_beside_pause(void **state)
{
	unplug();
	free_asked(take("pause"));
	say_text(DEVICE "in/cmd", strdup("{\"cmd\":\"pause\",\"id\":\"a\"}"));
	assert_status("\"phase\":\"paused\",\"reason\":\"\"");
	plug_in();
	assert_false(is_asked("resume"));
	unplug();
	say_text(DEVICE "in/cmd", strdup("{\"cmd\":\"resume\",\"id\":\"b\"}"));
	assert_false(is_asked("resume"));
	assert_status("\"phase\":\"waiting\"");
	plug_in();
	free_asked(take("resume"));
}

/* An order to train waits, too, and is not forgotten. */
static void test_order_waits(void **state)
{
	char id[HASH_SIZE];
	conf.live.rounds = 1;
	conf.live.round_epochs = 1;
	forget_asked();
	again();
	trained(1, id);
	evaluated(id, SPLIT_VALIDATION, 10);
	while (is_asked("evaluate"))
		evaluated(id, SPLIT_TEST, 5);
	assert_false(is_asked("train"));
	unplug();
	say_text(DEVICE "in/cmd", strdup("{\"cmd\":\"train\",\"id\":\"a\",\"epochs\":1}"));
	look();
	assert_false(is_asked("train"));
	plug_in();
	assert_true(is_asked("train"));
}

/* A worker that is replaced meanwhile is paused, too. */
static void test_new_worker(void **state)
{
	const struct err why = {.code = -ECONNRESET, .text = "gone"};
	unplug();
	free_asked(take("pause"));
	agent_worker_died(a, &why);
	forget_asked();
	data_read();
	free_asked(take("pause"));
	assert_false(is_asked("train"));
}

/* After a restart it looks before it begins. */
static void test_restart(void **state)
{
	forget_asked();
	machine.power = WHEN_POWER_BATTERY;
	restart();
	assert_false(is_asked("train"));
	free_asked(take("pause"));
}

/* Nothing is offered over a metered link, and training goes on. */
static void test_metered(void **state)
{
	char id[HASH_SIZE];
	snprintf(machine.interface, sizeof(machine.interface), "wwan0");
	look();
	for (uint64_t i = 1; i <= 3; i++) {
		trained(i, id);
		evaluated(id, SPLIT_VALIDATION, 10);
		while (is_asked("evaluate"))
			evaluated(id, SPLIT_TEST, 5);
	}
	look();
	assert_true(is_asked("train"));
	assert_null(last(DEVICE "offer"));
	assert_status("\"reason\":\"the way out is a metered link: handovers wait\"");
	snprintf(machine.interface, sizeof(machine.interface), "eth0");
	look();
	look();
	assert_non_null(last(DEVICE "offer"));
}

/* Nor does what is sent to all come over it. */
static void test_metered_fleet(void **state)
{
	char path[FILE_PATH_MAX];
	snprintf(machine.interface, sizeof(machine.interface), "wwan0");
	look();
	struct msg_fleet f = fleet_offer_of(50, 9, path);
	say_text("tasuki/v1/home/fleet/offer", msg_fleet_print(&f));
	assert_string_equal(subscribed, "");
	snprintf(machine.interface, sizeof(machine.interface), "eth0");
	look();
	assert_non_null(strstr(subscribed, f.manifest.id));
	snprintf(machine.interface, sizeof(machine.interface), "wwan0");
	look();
	assert_string_equal(subscribed, "");
}

/* What is on its way stands still, and nobody is taken for stalled. */
static void test_metered_midway(void **state)
{
	char offered[HASH_SIZE], path[FILE_PATH_MAX];
	conf.live.hold_max_s = 86400;
	forget_asked();
	again();
	until_offered(offered);
	claim(0, offered);
	struct msg_result r = result_of(offered, 77, 1, path);
	snprintf(machine.interface, sizeof(machine.interface), "wwan0");
	look();
	forget_sent();
	say_text(DEVICE "in/offer", msg_result_print(&r));
	for (int i = 0; i < 3600; i++)
		look();
	assert_null(last(TRAINER "want"));
	assert_status("handovers wait");
	snprintf(machine.interface, sizeof(machine.interface), "eth0");
	look();
	look();
	assert_non_null(last(TRAINER "want"));
}

static void test_off(void **state)
{
	conf.when = (struct when_conf){.mains = false};
	forget_asked();
	again();
	machine.power = WHEN_POWER_BATTERY;
	look();
	look();
	assert_false(is_asked("pause"));
}

/* Other conditions while it runs: they hold at once, in either direction. */
static void test_reload(void **state)
{
	struct agent_conf next = conf;
	unplug();
	free_asked(take("pause"));
	next.when = (struct when_conf){.mains = false};
	agent_reload(a, &next);
	free_asked(take("resume"));
	assert_status("\"reason\":\"\"");
	next.when.temperature_max_c = 30;
	agent_reload(a, &next);
	free_asked(take("pause"));
	assert_status("40 \u00b0C, at most 30 wanted");
	next.when.temperature_max_c = 41; /* with the old limit's margin it would wait until 36 */
	agent_reload(a, &next);
	free_asked(take("resume"));
	look();
	assert_false(is_asked("pause"));
}

/* What cannot be read holds nothing back. */
static void test_unread(void **state)
{
	machine.power = WHEN_POWER_UNKNOWN;
	look();
	assert_false(is_asked("pause"));
	assert_true(is_asked("train"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in_the_midst, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_between_epochs, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_beside_pause, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_order_waits, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_new_worker, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_restart, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_metered, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_metered_fleet, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_metered_midway, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_off, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_unread, begin_when, teardown),
		cmocka_unit_test_setup_teardown(test_reload, begin_when, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
