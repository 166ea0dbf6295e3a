/* What the machine says of itself: real files in a folder that stands for /, right and wrong. */
#include "ckpt_util.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "device-agent/readings.h"

static char root[FILE_PATH_MAX];
static struct when_conf all;

static int setup(void **state)
{
	if (util_dir(state))
		return -1;
	snprintf(root, sizeof(root), "%s", (char *)*state);
	all = (struct when_conf){.mains = true,
				 .battery_min_percent = 20,
				 .temperature_max_c = 70,
				 .load_max = 1,
				 .disk_free_min_bytes = 1,
				 .interfaces = "wwan*"};
	strcpy(all.root, root);
	return 0;
}

static void put(const char *name, const char *text)
{
	char path[FILE_PATH_MAX * 2], folder[FILE_PATH_MAX * 2];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	snprintf(folder, sizeof(folder), "%s", path);
	*strrchr(folder, '/') = 0;
	assert_int_equal(file_mkdirs(folder, NULL), 0);
	assert_int_equal(file_write(path, text, strlen(text), NULL), 0);
}

static struct when_readings look(void)
{
	struct when_readings r = {.own = 0.5, .training = true};
	readings_read(&all, root, 0, &r);
	assert_true(r.training && r.own == 0.5);
	return r;
}

static void supply(const char *name, const char *type, const char *file, const char *text)
{
	char path[200];
	snprintf(path, sizeof(path), "sys/class/power_supply/%s/type", name);
	put(path, type);
	snprintf(path, sizeof(path), "sys/class/power_supply/%s/%s", name, file);
	put(path, text);
}

static void test_nothing_there(void **state)
{
	struct when_readings r = look();
	assert_int_equal(r.power, WHEN_POWER_UNKNOWN);
	assert_int_equal(r.battery_percent, -1);
	assert_true(isnan(r.temperature_c) && isnan(r.load));
	assert_string_equal(r.interface, "");
	assert_true(r.disk_free_bytes > 0);
}

static void test_not_asked_for(void **state)
{
	struct when_readings r = {0};
	put("sys/class/thermal/thermal_zone0/temp", "50000\n");
	all = (struct when_conf){.mains = false};
	strcpy(all.root, root);
	readings_read(&all, root, 0, &r);
	assert_true(isnan(r.temperature_c));
	assert_int_equal(r.disk_free_bytes, -1);
}

static void test_temperature(void **state)
{
	put("sys/class/thermal/thermal_zone0/temp", "41500\n");
	put("sys/class/thermal/thermal_zone1/temp", "63000\n");
	put("sys/class/thermal/cooling_device0/temp", "99000\n");
	assert_true(look().temperature_c == 63);
	/* Broken ones are left out. */
	static const char *const bad[] = {
		"", "hot", "63000 C", "999999", "-999999", "1e5", "99999999999999999999"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put("sys/class/thermal/thermal_zone1/temp", bad[i]);
		assert_true(look().temperature_c == 41.5);
	}
	char path[FILE_PATH_MAX * 2];
	snprintf(path, sizeof(path), "%s/sys/class/thermal/thermal_zone2", root);
	assert_int_equal(mkdir(path, 0755), 0);
	strcat(path, "/temp");
	assert_int_equal(mkfifo(path, 0644), 0); /* nobody waits for a writer */
	assert_true(look().temperature_c == 41.5);
	int fd = open(path, O_RDWR | O_NONBLOCK);
	assert_int_equal(write(fd, "99000", 5), 5);
	assert_true(look().temperature_c == 41.5);
	close(fd);
}

static void test_power(void **state)
{
	/* A machine without a battery is on mains, whatever its empty ports say. */
	supply("ucsi", "USB\n", "online", "0\n");
	assert_int_equal(look().power, WHEN_POWER_MAINS);
	/* A mouse's battery is none of ours. */
	supply("hid", "Battery\n", "scope", "Device\n");
	supply("hid", "Battery\n", "capacity", "3\n");
	assert_int_equal(look().power, WHEN_POWER_MAINS);
	assert_int_equal(look().battery_percent, -1);
	supply("BAT0", "Battery\n", "status", "Discharging\n");
	supply("BAT0", "Battery\n", "capacity", "31\n");
	supply("AC", "Mains\n", "online", "0\n");
	assert_int_equal(look().power, WHEN_POWER_BATTERY);
	assert_int_equal(look().battery_percent, 31);
	supply("BAT0", "Battery\n", "capacity", "131\n");
	assert_int_equal(look().battery_percent, -1);
	supply("BAT0", "Battery\n", "capacity", "31\n");
	supply("AC", "Mains\n", "online", "1\n");
	assert_int_equal(look().power, WHEN_POWER_MAINS);
	supply("AC", "Mains\n", "online", "yes\n"); /* says nothing; so does the port */
	supply("ucsi", "USB\n", "online", "?\n");
	assert_int_equal(look().power, WHEN_POWER_BATTERY);
	supply("BAT0", "Battery\n", "status", "Charging\n");
	assert_int_equal(look().power, WHEN_POWER_MAINS);
	supply("BAT0", "Battery\n", "status", "Unknown\n");
	assert_int_equal(look().power, WHEN_POWER_UNKNOWN);
	supply("BAT1", "Battery\n", "capacity", "61\n");
	assert_int_equal(look().battery_percent, 46);
}

static void test_load(void **state)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	put("proc/loadavg", "3.00 0.70 0.65 2/512 4242\n");
	assert_true(fabs(look().load - 3.0 / (double)n) < 1e-9);
	static const char *const bad[] = {"", "x 1 2", "nan 1 2", "-1 1 2", "1e9 1 2", "3.00"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put("proc/loadavg", bad[i]);
		assert_true(isnan(look().load));
	}
}

#define HEAD "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
#define ROUTE(name, to, flags, metric, mask) \
	name "\t" to "\t0102A8C0\t" flags "\t0\t0\t" metric "\t" mask "\t0\t0\t0\n"

static void test_way_out(void **state)
{
	put("proc/net/route", HEAD ROUTE("eth0", "0002A8C0", "0001", "0", "00FFFFFF"));
	assert_string_equal(look().interface, "");
	put("proc/net/route", HEAD ROUTE("eth0", "00000000", "0003", "600", "00000000")
				      ROUTE("wwan0", "00000000", "0003", "700", "00000000"));
	assert_string_equal(look().interface, "eth0");
	put("proc/net/route", HEAD ROUTE("eth0", "00000000", "0002", "600", "00000000")
				      ROUTE("wwan0", "00000000", "0003", "700", "00000000"));
	assert_string_equal(look().interface, "wwan0");
	put("proc/net/route", "eth0 0 0\nwwan0\n\n\n%s%n 00000000 z\n");
	assert_string_equal(look().interface, "");
}

static int32_t minute_at(const char *zone, int64_t utc_s)
{
	struct when_readings r = {0};
	setenv("TZ", zone, 1);
	readings_read(&all, root, utc_s * 1000, &r);
	return r.week_min;
}

/* 1970-01-01 was a Thursday; the hours are those of the place. */
static void test_local_time(void **state)
{
	assert_int_equal(minute_at("UTC", 0), 3 * WHEN_DAY_MIN);
	assert_int_equal(minute_at("XXX-2", 0), 3 * WHEN_DAY_MIN + 120);
	assert_int_equal(minute_at("XXX+2", 0), 2 * WHEN_DAY_MIN + 22 * 60);
	unsetenv("TZ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_there, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(test_not_asked_for, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(test_temperature, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(test_power, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(test_load, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(test_way_out, setup, util_dir_done),
		cmocka_unit_test_setup_teardown(test_local_time, setup, util_dir_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
