/* When training may go on: hours, and readings with their margins. */
#include "ckpt_util.h"

#include <errno.h>
#include <math.h>

#include "device-agent/when.h"

#define MON           0
#define SAT           (5 * WHEN_DAY_MIN)
#define SUN           (6 * WHEN_DAY_MIN)
#define AT(day, h, m) ((day) + (h)*60 + (m))

static const struct when_readings fine = {.week_min = AT(MON, 12, 0),
					  .power = WHEN_POWER_MAINS,
					  .battery_percent = 100,
					  .temperature_c = 40,
					  .load = 0,
					  .disk_free_bytes = INT64_C(10) << 30,
					  .interface = "eth0"};

static bool waits_at(const char *hours, int32_t week_min)
{
	struct when_conf c = {0};
	struct when w = {0};
	struct err err = {0};
	struct when_readings r = fine;
	r.week_min = week_min;
	if (when_parse_hours(hours, &c.hours, &err) < 0)
		fail_msg("%s: %s", hours, err.text);
	when_step(&w, &c, &r, 0);
	assert_int_equal(*w.reason != 0, w.waits);
	return w.waits;
}

static void test_hours(void **state)
{
	static const struct {
		const char *hours;
		int32_t at;
		bool waits;
	} rows[] = {
		{"", AT(MON, 3, 0), false},
		{"22:00-06:00", AT(MON, 21, 59), true},
		{"22:00-06:00", AT(MON, 22, 0), false},
		{"22:00-06:00", AT(MON, 0, 0), false}, /* Sunday's, in the next week */
		{"22:00-06:00", AT(MON, 6, 0), true},
		{"mon-fri 22:00-06:00, sat,sun", AT(MON, 5, 59), true}, /* Sunday has no night */
		{"mon-fri 22:00-06:00, sat,sun", AT(SAT, 5, 59), false},
		{"mon-fri 22:00-06:00, sat,sun", AT(SAT, 12, 0), false},
		{"mon-fri 22:00-06:00, sat,sun", AT(SUN, 23, 59), false},
		{"mon-fri 22:00-06:00, sat,sun", AT(MON, 12, 0), true},
		{"mon-fri 22:00-06:00, sat,sun", AT(4 * WHEN_DAY_MIN, 22, 30), false},
		{"sat,sun 10:00-12:00", AT(SAT, 9, 0), true}, /* both days have that time */
		{"sat,sun 10:00-12:00", AT(SAT, 11, 0), false},
		{"sat,sun 10:00-12:00", AT(SUN, 11, 0), false},
		{"SAT-Mon 0:00-24:00", AT(SUN, 0, 0), false}, /* around the week's end */
		{"SAT-Mon 0:00-24:00", AT(MON, 23, 59), false},
		{"SAT-Mon 0:00-24:00", AT(WHEN_DAY_MIN, 0, 0), true},
		{" 8:00 - 9:00 , 10:00-11:00 ", AT(MON, 8, 30), false},
		{"8:00-9:00,10:00-11:00", AT(MON, 9, 30), true},
		{"sun 23:00-01:00", AT(MON, 0, 59), false},
		{"sun 23:00-01:00", AT(MON, 1, 0), true},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (waits_at(rows[i].hours, rows[i].at) != rows[i].waits)
			fail_msg("'%s' at minute %d", rows[i].hours, rows[i].at);
}

static void test_bad_hours(void **state)
{
	static const char *const bad[] = {
		"mo",
		"mon-",
		"mon-fry",
		"22:00",
		"22:00-",
		"22-6",
		"24:00-06:00",
		"22:00-24:01",
		"9:60-10:0",
		"9:00-09:00",
		"mon,,tue",
		"mon tue",
		",",
		"mon,",
		"-",
		"9:00-10:00 mon",
		"9:00-10:00-11:00",
		"mon 9:00-10:00 11:00-12:00",
		"999999999:00-10:00",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct when_conf c = {.hours.n = 0};
		struct err err = {0};
		assert_int_equal(when_parse_hours(bad[i], &c.hours, &err), -EINVAL);
		assert_non_null(strstr(err.text, "found '"));
		assert_int_equal(c.hours.n, 0);
	}
	char many[900] = "0:00-0:01";
	for (int i = 0; i < 9; i++)
		strcat(many, ",1:00-2:00");
	struct when_conf c = {0};
	assert_int_equal(when_parse_hours(many, &c.hours, NULL), -E2BIG);
}

static void test_says_when_again(void **state)
{
	struct when_conf c = {0};
	struct when w = {0};
	struct when_readings r = fine;
	assert_int_equal(when_parse_hours("tue 7:05-8:00", &c.hours, NULL), 0);
	when_step(&w, &c, &r, 0);
	assert_string_equal(w.reason, "outside its hours: again tue 07:05");
	w = (struct when){0};
	r.week_min = AT(SUN, 12, 0); /* in the next week */
	when_step(&w, &c, &r, 0);
	assert_string_equal(w.reason, "outside its hours: again tue 07:05");
}

/* One reading after the other, WHEN_HOLD_MS apart, against one limit. */
struct row {
	double value;
	bool waits;
};

static void assert_rows(const struct when_conf *c, const struct row *rows, size_t n,
			void (*put)(struct when_readings *r, double value), const char *reason)
{
	struct when w = {0};
	for (size_t i = 0; i < n; i++) {
		struct when_readings r = fine;
		put(&r, rows[i].value);
		when_step(&w, c, &r, (int64_t)i * WHEN_HOLD_MS);
		if (w.waits != rows[i].waits)
			fail_msg("%s: row %zu", reason, i);
		if (w.waits && !strstr(w.reason, reason))
			fail_msg("'%s' is not '%s'", w.reason, reason);
	}
}

static void put_battery(struct when_readings *r, double v)
{
	r->power = WHEN_POWER_BATTERY;
	r->battery_percent = (int32_t)v;
}

static void put_temperature(struct when_readings *r, double v)
{
	r->temperature_c = v;
}

static void put_load(struct when_readings *r, double v)
{
	r->load = v;
}

static void put_disk(struct when_readings *r, double v)
{
	r->disk_free_bytes = (int64_t)(v * (1 << 20));
}

static void test_margins(void **state)
{
	static const struct row battery[] = {{31, false}, {30, false}, {29, true},  {30, true},
					     {34, true},  {35, false}, {30, false}, {-1, false}};
	static const struct row warm[] = {{75, false}, {75.1, true}, {71, true},
					  {70, false}, {74, false},  {NAN, false}};
	static const struct row load[] = {{0.5, false}, {0.51, true}, {0.41, true},
					  {0.4, false}, {0.5, false}, {NAN, false}};
	static const struct row disk[] = {{1000, false}, {999, true},   {1050, true},
					  {1100, false}, {1000, false}, {-1, true}};
	struct when_conf c = {.battery_min_percent = 30};
	assert_rows(&c, battery, ARRAY_LEN(battery), put_battery, "on battery at ");
	c = (struct when_conf){.temperature_max_c = 75};
	assert_rows(&c, warm, ARRAY_LEN(warm), put_temperature, "at most 75 wanted");
	c = (struct when_conf){.load_max = 0.5};
	assert_rows(&c, load, ARRAY_LEN(load), put_load, "at most 0.50 wanted");
	c = (struct when_conf){.disk_free_min_bytes = 1000 << 20};
	assert_rows(&c, disk, ARRAY_LEN(disk) - 1, put_disk, "1000 MB wanted");
}

static void test_power(void **state)
{
	struct when_conf c = {.mains = true};
	struct when w = {0};
	struct when_readings r = fine;
	when_step(&w, &c, &r, 0);
	assert_false(w.waits);
	r.power = WHEN_POWER_BATTERY;
	r.battery_percent = 31;
	when_step(&w, &c, &r, 1000);
	assert_true(w.waits);
	assert_string_equal(w.reason, "battery at 31 %, mains wanted");
	/* A loose plug: it waits for a while at least. */
	r.power = WHEN_POWER_MAINS;
	when_step(&w, &c, &r, 1000 + WHEN_HOLD_MS - 1);
	assert_true(w.waits);
	when_step(&w, &c, &r, 1000 + WHEN_HOLD_MS);
	assert_false(w.waits);
	assert_string_equal(w.reason, "");
	r.power = WHEN_POWER_UNKNOWN;
	when_step(&w, &c, &r, 100000);
	assert_false(w.waits);
	/* The battery's limit is for a battery in use. */
	c = (struct when_conf){.battery_min_percent = 50};
	w = (struct when){0};
	r = fine;
	r.battery_percent = 10;
	when_step(&w, &c, &r, 0);
	assert_false(w.waits);
	r.power = WHEN_POWER_BATTERY;
	r.battery_percent = -1;
	when_step(&w, &c, &r, 1000);
	assert_false(w.waits);
}

/* Figures in a reason are renewed now and then, not with each look; another reason at once. */
static void test_reason_is_calm(void **state)
{
	struct when_conf c = {.temperature_max_c = 70, .mains = true};
	struct when w = {0};
	struct when_readings r = fine;
	r.temperature_c = 80;
	when_step(&w, &c, &r, 0);
	assert_string_equal(w.reason, "80 \u00b0C, at most 70 wanted");
	r.temperature_c = 90;
	when_step(&w, &c, &r, 1000);
	assert_string_equal(w.reason, "80 \u00b0C, at most 70 wanted");
	when_step(&w, &c, &r, WHEN_TELL_MS);
	assert_string_equal(w.reason, "90 \u00b0C, at most 70 wanted");
	r.power = WHEN_POWER_BATTERY;
	r.battery_percent = -1;
	when_step(&w, &c, &r, WHEN_TELL_MS + 1000);
	assert_string_equal(w.reason, "on battery, mains wanted");
}

/* Training fills all processors, and the kernel's average says so; only the rest counts. */
static void test_own_load(void **state)
{
	struct when_conf c = {.load_max = 0.3};
	struct when w = {0};
	double average = 0;
	int64_t now = 0;
	for (int i = 0; i < 600; i++, now += WHEN_LOOK_MS) {
		struct when_readings r = fine;
		r.own = 1;
		r.training = !w.waits;
		average = average * exp(-1.0 / 60) + r.training * (1 - exp(-1.0 / 60));
		r.load = average;
		when_step(&w, &c, &r, now);
		assert_false(w.waits);
	}
	/* Somebody else comes. */
	for (int i = 0; i < 300; i++, now += WHEN_LOOK_MS) {
		struct when_readings r = fine;
		r.own = 1;
		r.training = !w.waits;
		average = average * exp(-1.0 / 60) + (r.training + 0.5) * (1 - exp(-1.0 / 60));
		r.load = average;
		when_step(&w, &c, &r, now);
	}
	assert_true(w.waits);
	assert_non_null(strstr(w.reason, "other programs"));
	/* And goes. */
	for (int i = 0; i < 300; i++, now += WHEN_LOOK_MS) {
		struct when_readings r = fine;
		r.own = 1;
		r.training = !w.waits;
		average = average * exp(-1.0 / 60) + r.training * (1 - exp(-1.0 / 60));
		r.load = average;
		when_step(&w, &c, &r, now);
	}
	assert_false(w.waits);
}

static void test_metered(void **state)
{
	static const struct {
		const char *names, *interface;
		enum when_metered metered;
		bool waits, no_handover;
	} rows[] = {
		{"", "wwan0", WHEN_METERED_ALL, false, false},
		{"wwan*", "wwan0", WHEN_METERED_NONE, false, false},
		{"wwan*", "wwan0", WHEN_METERED_HANDOVER, false, true},
		{"ppp0 , wwan*", "wwan1", WHEN_METERED_ALL, true, true},
		{"ppp0", "ppp01", WHEN_METERED_ALL, false, false},
		{"ppp0", "", WHEN_METERED_ALL, false, false},
		{"usb?", "usb7", WHEN_METERED_HANDOVER, false, true},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct when_conf c = {.metered = rows[i].metered};
		struct when w = {0};
		struct when_readings r = fine;
		strcpy(c.interfaces, rows[i].names);
		strcpy(r.interface, rows[i].interface);
		when_step(&w, &c, &r, 0);
		assert_int_equal(w.waits, rows[i].waits);
		assert_int_equal(w.no_handover, rows[i].no_handover);
		if (w.waits)
			assert_string_equal(w.reason, "the way out, wwan1, is metered");
	}
}

static void test_off_and_unread(void **state)
{
	char text[WHEN_REASON_MAX];
	struct when_conf c = {0};
	struct when_readings r = {
		.battery_percent = -1, .temperature_c = NAN, .load = NAN, .disk_free_bytes = -1};
	struct when w = {0};
	assert_false(when_any(&c));
	when_step(&w, &c, &r, 0);
	assert_false(w.waits);
	when_unread(&c, &r, text);
	assert_string_equal(text, "");
	c = (struct when_conf){.mains = true,
			       .battery_min_percent = 10,
			       .temperature_max_c = 80,
			       .load_max = 1,
			       .disk_free_min_bytes = 1};
	assert_true(when_any(&c));
	when_step(&w, &c, &r, 0);
	assert_false(w.waits);
	when_unread(&c, &r, text);
	assert_string_equal(text, "power, temperature, load, disk");
	r = fine;
	when_unread(&c, &r, text);
	assert_string_equal(text, "");
	r.power = WHEN_POWER_BATTERY;
	r.battery_percent = -1;
	when_unread(&c, &r, text);
	assert_string_equal(text, "battery");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hours),           cmocka_unit_test(test_bad_hours),
		cmocka_unit_test(test_says_when_again), cmocka_unit_test(test_margins),
		cmocka_unit_test(test_power),           cmocka_unit_test(test_reason_is_calm),
		cmocka_unit_test(test_own_load),        cmocka_unit_test(test_metered),
		cmocka_unit_test(test_off_and_unread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
