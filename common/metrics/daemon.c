#include "common/metrics/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"

/* ---- the process: names are those of Prometheus's own client libraries ---- */

static double start_s(void)
{
	static double s;
	struct timespec boot;
	_cleanup_file_ FILE *f = s > 0 ? NULL : fopen("/proc/self/stat", "re");
	unsigned long long ticks;
	char text[1024];
	/* The 22nd field; the second one, in brackets, may have blanks. */
	if (!f || !fgets(text, sizeof(text), f) || !strrchr(text, ')') ||
	    sscanf(strrchr(text, ')') + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%llu",
		   &ticks) != 1)
		return s;
	clock_gettime(CLOCK_BOOTTIME, &boot);
	s = (double)clock_real_ms() / 1000 - (double)boot.tv_sec - (double)boot.tv_nsec / 1e9 +
	    (double)ticks / (double)sysconf(_SC_CLK_TCK);
	return s;
}

static double resident_bytes(void)
{
	_cleanup_file_ FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;
	return f && fscanf(f, "%*u %lu", &pages) == 1
		       ? (double)pages * (double)sysconf(_SC_PAGESIZE)
		       : 0;
}

static double open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	double n = -3; /* ".", "..", and the one that this takes */
	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static double cpu_s(void)
{
	struct rusage u = {0};
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

void metrics_program(struct metrics *m, const char *site, const char *id, const char *model)
{
	struct metrics process = {.to = m->to, .prefix = "process"};
	char short_model[13];
	snprintf(short_model, sizeof(short_model), "%.12s", model);
	metrics_family(m, "build_info", METRIC_GAUGE,
		       "Always 1; the program's version, and who it is.");
	metrics_sample(m, 1, "version", TASUKI_VERSION, "site", site, "id", id, "model",
		       short_model, NULL);
	metrics_gauge(&process, "start_time_seconds", start_s(),
		      "When it was started, since 1970.");
	metrics_counter(&process, "cpu_seconds_total", cpu_s(),
			"Processor time, without its workers.");
	metrics_gauge(&process, "resident_memory_bytes", resident_bytes(),
		      "Resident memory, without its workers.");
	metrics_gauge(&process, "open_fds", open_fds(), "Open file descriptors.");
}

/* ---- the broker ---- */

void metrics_broker(struct metrics *m, const struct mqtt *mqtt)
{
	struct mqtt_stats s = {0};
	mqtt_get_stats(mqtt, &s);
	metrics_gauge(m, "broker_connected", mqtt_is_up(mqtt),
		      "Whether there is a connection to the broker.");
	metrics_counter(m, "broker_connects_total", (double)s.connects,
			"Connections made to the broker.");
	metrics_family(m, "broker_messages_total", METRIC_COUNTER, "Messages by direction.");
	metrics_sample(m, (double)s.in_messages, "direction", "in", NULL);
	metrics_sample(m, (double)s.out_messages, "direction", "out", NULL);
	metrics_family(m, "broker_bytes_total", METRIC_COUNTER, "Bytes of messages by direction.");
	metrics_sample(m, (double)s.in_bytes, "direction", "in", NULL);
	metrics_sample(m, (double)s.out_bytes, "direction", "out", NULL);
	metrics_counter(m, "broker_dropped_messages_total", (double)s.in_dropped,
			"Messages that came in and found no room.");
	metrics_counter(m, "broker_refused_publishes_total", (double)s.out_refused,
			"Publishes that the broker answered with an error.");
}

/* ---- trust, disk ---- */

void metrics_refused(struct metrics *m, const struct trust *t, uint64_t not_understood)
{
	uint64_t named = 0;
	metrics_family(m, "refused_messages_total", METRIC_COUNTER,
		       "Messages that were not believed, by the name of the attack; other: not "
		       "understood, or not "
		       "for it.");
	for (enum refusal r = REFUSAL_NONE + 1; r < REFUSAL_N; r++) {
		uint64_t n = t ? trust_refused(t, r) : 0;
		metrics_sample(m, (double)n, "reason", refusal_name(r), NULL);
		named += n;
	}
	/* Most of those are counted there, too. */
	metrics_sample(m, not_understood > named ? (double)(not_understood - named) : 0, "reason",
		       "other", NULL);
}

void metrics_certificate(struct metrics *m, const struct trust *t)
{
	if (t)
		metrics_gauge(m, "certificate_expiry_timestamp_seconds",
			      (double)trust_until_ms(t) / 1000,
			      "When its own certificate ends, since 1970.");
}

void metrics_disk(struct metrics *m, const char *state)
{
	uint64_t bytes;
	if (file_free_bytes(state, &bytes) == 0)
		metrics_gauge(m, "disk_free_bytes", (double)bytes,
			      "Free where the state folder is.");
}
