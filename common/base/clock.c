#include "common/base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_mono_ms(void)
{
	return read_ms(CLOCK_BOOTTIME);
}

int64_t clock_awake_ms(void)
{
	return read_ms(CLOCK_MONOTONIC);
}

int64_t clock_real_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}

void clock_format(int64_t real_ms, char text[CLOCK_TEXT_MAX])
{
	int64_t s = real_ms / 1000, ms = real_ms % 1000;
	if (ms < 0) {
		ms += 1000;
		s--;
	}
	time_t t = (time_t)s;
	struct tm tm;
	if (!gmtime_r(&t, &tm) || tm.tm_year > 8099 || tm.tm_year < -900) {
		snprintf(text, CLOCK_TEXT_MAX, "1970-01-01T00:00:00.000Z");
		return;
	}
	size_t n = strftime(text, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, CLOCK_TEXT_MAX - n, ".%03dZ", (int)ms);
}

static int two(const char *p, int *ret)
{
	if (!isdigit((unsigned char)p[0]) || !isdigit((unsigned char)p[1]))
		return -EINVAL;
	*ret = (p[0] - '0') * 10 + (p[1] - '0');
	return 0;
}

/* Parses what follows the seconds: fraction, then Z or an offset in minutes. */
static int parse_tail(const char *p, int *ret_ms, int *ret_offset_min)
{
	int ms = 0, scale = 100, hh = 0, mm = 0;
	if (*p == '.') {
		if (!isdigit((unsigned char)*++p))
			return -EINVAL;
		for (; isdigit((unsigned char)*p); p++, scale /= 10)
			ms += (*p - '0') * scale;
	}
	*ret_ms = ms;
	*ret_offset_min = 0;
	if ((*p == 'Z' || *p == 'z') && !p[1])
		return 0;
	if ((*p != '+' && *p != '-') || strlen(p) != 6 || p[3] != ':' || two(p + 1, &hh) ||
	    two(p + 4, &mm) || hh > 23 || mm > 59)
		return -EINVAL;
	*ret_offset_min = (hh * 60 + mm) * (*p == '-' ? -1 : 1);
	return 0;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return days[month - 1] + (month == 2 && leap);
}

int clock_parse(const char *text, int64_t *ret_real_ms)
{
	struct tm tm = {0};
	int y1, y2, ms, offset_min;
	if (strlen(text) < 20 || strlen(text) > 40 || text[4] != '-' || text[7] != '-' ||
	    (text[10] != 'T' && text[10] != 't') || text[13] != ':' || text[16] != ':')
		return -EINVAL;
	if (two(text, &y1) || two(text + 2, &y2) || two(text + 5, &tm.tm_mon) ||
	    two(text + 8, &tm.tm_mday) || two(text + 11, &tm.tm_hour) ||
	    two(text + 14, &tm.tm_min) || two(text + 17, &tm.tm_sec))
		return -EINVAL;
	int year = y1 * 100 + y2;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
	    tm.tm_mday > days_in_month(year, tm.tm_mon) || tm.tm_hour > 23 || tm.tm_min > 59 ||
	    tm.tm_sec > 60)
		return -EINVAL;
	if (parse_tail(text + 19, &ms, &offset_min))
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon--;
	*ret_real_ms = ((int64_t)timegm(&tm) - offset_min * 60) * 1000 + ms;
	return 0;
}
