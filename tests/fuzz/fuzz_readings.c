/* Files of /proc and /sys, whatever is in them: what is known of them afterwards is within its
 * limits, the rest is not known, and [when] makes something of it either way. */
#include <ctype.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "device-agent/readings.h"
#include "tests/fuzz/fuzz.h"

static const char *const files[] = {
	"proc/loadavg",
	"proc/net/route",
	"sys/class/thermal/thermal_zone0/temp",
	"sys/class/power_supply/AC/online",
	"sys/class/power_supply/BAT0/capacity",
	"sys/class/power_supply/BAT0/status",
};

static void put(const char *name, const void *data, size_t size)
{
	char path[FILE_PATH_MAX], folder[FILE_PATH_MAX];
	fuzz_path(name, path);
	snprintf(folder, sizeof(folder), "%s", path);
	*strrchr(folder, '/') = 0;
	FUZZ_CHECK(file_mkdirs(folder, NULL) == 0);
	fuzz_put(path, data, size);
}

static void check_step(const struct when_conf *c, const struct when_readings *r)
{
	struct when w = {0};
	char unread[WHEN_REASON_MAX];
	when_step(&w, c, r, 0);
	FUZZ_CHECK(w.waits == (*w.reason != 0));
	when_unread(c, r, unread);
	FUZZ_CHECK(strlen(unread) < sizeof(unread));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct when_conf c = {.mains = true,
				     .battery_min_percent = 30,
				     .temperature_max_c = 70,
				     .load_max = 1,
				     .interfaces = "w*",
				     .metered = WHEN_METERED_ALL};
	struct when_readings r = {.own = 0.5};
	if (!*c.root) {
		fuzz_path("", c.root);
		put("sys/class/power_supply/AC/type", "Mains", 5);
		put("sys/class/power_supply/BAT0/type", "Battery", 7);
	}
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		put(files[i], data, size);
	readings_read(&c, c.root, 0, &r);
	FUZZ_CHECK(r.battery_percent >= -1 && r.battery_percent <= 100);
	FUZZ_CHECK(isnan(r.temperature_c) || fabs(r.temperature_c) <= 200);
	FUZZ_CHECK(isnan(r.load) || (r.load >= 0 && isfinite(r.load)));
	FUZZ_CHECK(strlen(r.interface) < sizeof(r.interface));
	fuzz_taken +=
		r.battery_percent >= 0 || !isnan(r.temperature_c) || !isnan(r.load) || *r.interface;
	check_step(&c, &r);
	return 0;
}
