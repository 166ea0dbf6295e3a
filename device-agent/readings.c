#include "device-agent/readings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"

/* Thermal zones that say less or more are broken. */
#define TEMPERATURE_MIN_MC (-50 * 1000)
#define TEMPERATURE_MAX_MC (200 * 1000)
#define LOAD_MAX           1e6

/* The file's text, controls but newlines being an error. */
static int read_text(const char *path, char ret[READINGS_BYTES_MAX + 1])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t n = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	for (ssize_t got = 1; got > 0 && n < READINGS_BYTES_MAX; n += (size_t)got) {
		got = read(fd, ret + n, READINGS_BYTES_MAX - n);
		if (got < 0)
			return -errno;
	}
	ret[n] = 0;
	return strlen(ret) == n ? 0 : -EINVAL;
}

/* One line, without its end. */
static int read_word(const char *folder, const char *name, char ret[READINGS_BYTES_MAX + 1])
{
	char path[FILE_PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/%s", folder, name);
	if (r == 0)
		r = read_text(path, ret);
	if (r == 0)
		ret[strcspn(ret, "\n")] = 0;
	return r;
}

static int read_number(const char *folder, const char *name, long min, long max, long *ret)
{
	char text[READINGS_BYTES_MAX + 1], *end;
	int r = read_word(folder, name, text);
	if (r < 0)
		return r;
	errno = 0;
	long v = strtol(text, &end, 10);
	if (errno || end == text || *end || v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

/* Each entry of ROOT/sys/class/NAME that begins so; -ENOENT: there is no such class. */
static int each(const struct when_conf *c, const char *class, const char *prefix,
		void (*look)(const char *folder, void *user), void *user)
{
	char path[FILE_PATH_MAX], folder[FILE_PATH_MAX];
	int n = 0, r = file_path(path, sizeof(path), "%s/sys/class/%s", c->root, class);
	DIR *d = r == 0 ? opendir(path) : NULL;
	struct dirent *e;
	if (!d)
		return r < 0 ? r : -errno;
	while ((e = readdir(d)) && n < READINGS_DEVICES_MAX) {
		if (*e->d_name == '.' || strncmp(e->d_name, prefix, strlen(prefix)) != 0 ||
		    file_path(folder, sizeof(folder), "%s/%s", path, e->d_name) < 0)
			continue;
		look(folder, user);
		n++;
	}
	closedir(d);
	return 0;
}

/* ---- temperature ---- */

static void look_at_zone(const char *folder, void *user)
{
	struct when_readings *r = user;
	long mc;
	if (read_number(folder, "temp", TEMPERATURE_MIN_MC, TEMPERATURE_MAX_MC, &mc) == 0)
		r->temperature_c = fmax(r->temperature_c, (double)mc / 1000); /* not of NaN */
}

/* ---- power ---- */

struct supplies {
	bool on_mains, off_mains, discharging, charging;
	long n_batteries, n_percent, percent;
};

static void look_at_battery(const char *folder, struct supplies *s)
{
	char text[READINGS_BYTES_MAX + 1];
	long v;
	/* Of a mouse. */
	if (read_word(folder, "scope", text) == 0 && strcmp(text, "Device") == 0)
		return;
	if (read_number(folder, "present", 0, 1, &v) == 0 && !v)
		return;
	s->n_batteries++;
	if (read_number(folder, "capacity", 0, 100, &v) == 0) {
		s->n_percent++;
		s->percent += v;
	}
	if (read_word(folder, "status", text) < 0)
		return;
	s->discharging |= strcmp(text, "Discharging") == 0;
	s->charging |= strcmp(text, "Charging") == 0 || strcmp(text, "Full") == 0 ||
		       strcmp(text, "Not charging") == 0;
}

static void look_at_supply(const char *folder, void *user)
{
	struct supplies *s = user;
	char type[READINGS_BYTES_MAX + 1];
	long online;
	if (read_word(folder, "type", type) < 0)
		return;
	if (strcmp(type, "Battery") == 0 || strcmp(type, "UPS") == 0)
		look_at_battery(folder, s);
	else if (read_number(folder, "online", 0, 2, &online) == 0) { /* Mains, USB, Wireless */
		s->on_mains |= online > 0;
		s->off_mains |= online == 0;
	}
}

static void read_power(const struct when_conf *c, struct when_readings *r)
{
	struct supplies s = {0};
	if (each(c, "power_supply", "", look_at_supply, &s) < 0)
		return;
	if (s.n_percent)
		r->battery_percent = (int32_t)(s.percent / s.n_percent);
	if (s.on_mains || !s.n_batteries) /* an empty USB port says 0, too */
		r->power = WHEN_POWER_MAINS;
	else if (s.discharging || s.off_mains)
		r->power = WHEN_POWER_BATTERY;
	else if (s.charging)
		r->power = WHEN_POWER_MAINS;
}

/* ---- load, the way out ---- */

static void read_load(const struct when_conf *c, struct when_readings *r)
{
	char text[READINGS_BYTES_MAX + 1], *end;
	if (read_word(c->root, "proc/loadavg", text) < 0)
		return;
	double v = strtod(text, &end);
	if (end != text && *end == ' ' && v >= 0 && v <= LOAD_MAX)
		r->load = v / get_nprocs();
}

/* Over which the default route of the least metric leads (IPv4). */
static void read_route(const struct when_conf *c, struct when_readings *r)
{
	char path[FILE_PATH_MAX], text[READINGS_BYTES_MAX + 1], *rest = text,
								name[WHEN_INTERFACE_MAX];
	uint32_t to, mask, flags, metric, best = UINT32_MAX;
	if (file_path(path, sizeof(path), "%s/proc/net/route", c->root) < 0 ||
	    read_text(path, text) < 0)
		return;
	for (char *line; (line = strsep(&rest, "\n"));) {
		if (sscanf(line,
			   "%15s %8" SCNx32 " %*8x %8" SCNx32 " %*u %*u %10" SCNu32 " %8" SCNx32,
			   name, &to, &flags, &metric, &mask) != 5 ||
		    to || mask || !(flags & RTF_UP) || metric >= best)
			continue;
		best = metric;
		memcpy(r->interface, name, sizeof(name));
	}
}

static int32_t week_minute(int64_t utc_ms)
{
	time_t t = (time_t)(utc_ms / 1000);
	struct tm tm;
	tzset();
	if (!localtime_r(&t, &tm))
		return 0;
	return (tm.tm_wday + 6) % 7 * WHEN_DAY_MIN + tm.tm_hour * 60 + tm.tm_min;
}

void readings_read(const struct when_conf *c, const char *state, int64_t utc_ms,
		   struct when_readings *ret)
{
	struct when_readings r = {.week_min = week_minute(utc_ms),
				  .battery_percent = -1,
				  .temperature_c = NAN,
				  .load = NAN,
				  .own = ret->own,
				  .training = ret->training,
				  .disk_free_bytes = -1};
	uint64_t bytes;
	if (c->temperature_max_c > 0)
		each(c, "thermal", "thermal_zone", look_at_zone, &r);
	if (c->mains || c->battery_min_percent)
		read_power(c, &r);
	if (c->load_max > 0)
		read_load(c, &r);
	if (*c->interfaces)
		read_route(c, &r);
	if (c->disk_free_min_bytes && file_free_bytes(state, &bytes) == 0)
		r.disk_free_bytes = (int64_t)MIN_OF(bytes, (uint64_t)INT64_MAX);
	*ret = r;
}
