#include "device-agent/when.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

#define DAYS 7

static const char *const days[DAYS] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

bool when_any(const struct when_conf *c)
{
	return c->hours.n || c->mains || c->battery_min_percent || c->temperature_max_c > 0 ||
	       c->load_max > 0 || c->disk_free_min_bytes ||
	       (*c->interfaces && c->metered != WHEN_METERED_NONE);
}

/* ---- hours ---- */

static void skip(const char **at)
{
	while (**at == ' ' || **at == '\t')
		++*at;
}

static bool take(const char **at, char c)
{
	skip(at);
	if (**at != c)
		return false;
	++*at;
	return true;
}

/* 0..6, -1: none is there. */
static int take_day(const char **at)
{
	skip(at);
	for (int i = 0; i < DAYS; i++)
		if (strncasecmp(*at, days[i], 3) == 0 && !isalnum((unsigned char)(*at)[3])) {
			*at += 3;
			return i;
		}
	return -1;
}

static bool take_number(const char **at, int max, int32_t *ret)
{
	int n = 0, v = 0;
	for (; isdigit((unsigned char)**at) && n < 2; n++)
		v = v * 10 + *(*at)++ - '0';
	*ret = v;
	return n && v <= max && !isdigit((unsigned char)**at);
}

/* Minutes of the day, up to 24:00. */
static bool take_time(const char **at, int32_t *ret)
{
	int32_t hour, minute;
	skip(at);
	if (!take_number(at, 24, &hour) || *(*at)++ != ':' || !take_number(at, 59, &minute))
		return false;
	*ret = hour * 60 + minute;
	return *ret <= WHEN_DAY_MIN;
}

static int add(struct when_hours *h, int day, int32_t from, int32_t to)
{
	if (h->n == WHEN_WINDOWS_MAX)
		return -E2BIG;
	h->windows[h->n++] =
		(struct when_window){day * WHEN_DAY_MIN + from, day * WHEN_DAY_MIN + to};
	return 0;
}

static int add_days(struct when_hours *h, unsigned set, int32_t from, int32_t to)
{
	int r = 0;
	for (int i = 0; r == 0 && i < DAYS; i++)
		if (set & 1u << i)
			r = add(h, i, from, to);
	return r;
}

/* mon, or fri-mon; none at all is no error, and *set stays. */
static int take_days(const char **at, unsigned *set)
{
	int first = take_day(at), last = first;
	if (first < 0)
		return 0;
	if (take(at, '-')) {
		last = take_day(at);
		if (last < 0)
			return -EINVAL;
	}
	for (int i = first;; i = (i + 1) % DAYS) {
		*set |= 1u << i;
		if (i == last)
			return 1;
	}
}

/* Days, a time, or both. *set: days that wait for their time. */
static int take_item(const char **at, unsigned *set, struct when_hours *h)
{
	int32_t from, to;
	int r = take_days(at, set);
	skip(at);
	if (r < 0 || (r > 0 && !isdigit((unsigned char)**at)))
		return MIN_OF(r, 0);
	if (!take_time(at, &from) || from == WHEN_DAY_MIN || !take(at, '-') ||
	    !take_time(at, &to) || from == to)
		return -EINVAL;
	r = add_days(h, *set ? *set : (1u << DAYS) - 1, from, to > from ? to : to + WHEN_DAY_MIN);
	*set = 0;
	return r;
}

int when_parse_hours(const char *text, struct when_hours *ret, struct err *err)
{
	struct when_hours h = {.n = 0};
	const char *at = text;
	unsigned set = 0;
	int r = 0;
	skip(&at);
	while (r == 0 && *at) {
		r = take_item(&at, &set, &h);
		skip(&at);
		if (r == 0 && *at && (!take(&at, ',') || (skip(&at), !*at)))
			r = -EINVAL;
	}
	if (r == 0)
		r = add_days(&h, set, 0, WHEN_DAY_MIN);
	if (r == -E2BIG)
		return err_set(err, r, "found more than %d windows", WHEN_WINDOWS_MAX);
	if (r < 0)
		return err_set(err, r,
			       "found '%.100s', expected hours such as "
			       "mon-fri 22:00-06:00, sat,sun",
			       text);
	*ret = h;
	return 0;
}

/* Minutes of the week from one to the other. */
static int32_t ahead(int32_t from, int32_t to)
{
	return ((to - from) % WHEN_WEEK_MIN + WHEN_WEEK_MIN) % WHEN_WEEK_MIN;
}

static bool in_hours(const struct when_hours *h, int32_t now)
{
	for (size_t i = 0; i < h->n; i++)
		if (ahead(h->windows[i].from_min, now) <
		    h->windows[i].to_min - h->windows[i].from_min)
			return true;
	return h->n == 0;
}

static int32_t next_begin(const struct when_hours *h, int32_t now)
{
	int32_t best = h->windows[0].from_min;
	for (size_t i = 1; i < h->n; i++)
		if (ahead(now, h->windows[i].from_min) < ahead(now, best))
			best = h->windows[i].from_min;
	return best;
}

/* ---- the other conditions ---- */

static double others(const struct when *w, const struct when_readings *r)
{
	return fmax(r->load - w->own, 0);
}

static bool is_metered(const struct when_conf *c, const char *interface)
{
	char names[WHEN_NAMES_MAX], *rest = names;
	snprintf(names, sizeof(names), "%s", c->interfaces);
	for (char *name; *interface && (name = strsep(&rest, ", "));)
		if (*name && fnmatch(name, interface, 0) == 0)
			return true;
	return false;
}

/* Whether it is beyond the limit; `was`: it has been, so the margin counts. */
static bool is_over(const struct when *w, const struct when_conf *c, const struct when_readings *r,
		    enum when_kind kind, bool was)
{
	double free_bytes = (double)r->disk_free_bytes, least = (double)c->disk_free_min_bytes;
	switch (kind) {
	case WHEN_HOURS:
		return !in_hours(&c->hours, r->week_min);
	case WHEN_POWER:
		return c->mains && r->power == WHEN_POWER_BATTERY;
	case WHEN_BATTERY:
		return c->battery_min_percent && r->power == WHEN_POWER_BATTERY &&
		       r->battery_percent >= 0 &&
		       r->battery_percent <
			       MIN_OF(c->battery_min_percent + (was ? WHEN_BATTERY_BACK : 0), 100);
	case WHEN_TEMPERATURE:
		return c->temperature_max_c > 0 &&
		       r->temperature_c > c->temperature_max_c - (was ? WHEN_TEMPERATURE_BACK : 0);
	case WHEN_LOAD:
		return c->load_max > 0 && others(w, r) > c->load_max * (was ? WHEN_LOAD_BACK : 1);
	case WHEN_DISK:
		return least > 0 && free_bytes >= 0 &&
		       free_bytes < least * (was ? WHEN_DISK_BACK : 1);
	case WHEN_METERED:
		return c->metered == WHEN_METERED_ALL && is_metered(c, r->interface);
	case WHEN_KIND_N:
		break;
	}
	return false;
}

static void tell(const struct when *w, const struct when_conf *c, const struct when_readings *r,
		 enum when_kind kind, char ret[WHEN_REASON_MAX])
{
	const size_t n = WHEN_REASON_MAX;
	int32_t next;
	switch (kind) {
	case WHEN_HOURS:
		next = next_begin(&c->hours, r->week_min) % WHEN_WEEK_MIN;
		snprintf(ret, n, "outside its hours: again %s %02d:%02d", days[next / WHEN_DAY_MIN],
			 next % WHEN_DAY_MIN / 60, next % 60);
		break;
	case WHEN_POWER:
		if (r->battery_percent >= 0)
			snprintf(ret, n, "battery at %d %%, mains wanted", r->battery_percent);
		else
			snprintf(ret, n, "on battery, mains wanted");
		break;
	case WHEN_BATTERY:
		snprintf(ret, n, "on battery at %d %%, %lld %% wanted", r->battery_percent,
			 (long long)c->battery_min_percent);
		break;
	case WHEN_TEMPERATURE:
		snprintf(ret, n, "%.0f \u00b0C, at most %.0f wanted", r->temperature_c,
			 c->temperature_max_c);
		break;
	case WHEN_LOAD:
		snprintf(ret, n, "load of other programs %.2f a processor, at most %.2f wanted",
			 others(w, r), c->load_max);
		break;
	case WHEN_DISK:
		snprintf(ret, n, "%lld MB free on the disk, %lld MB wanted",
			 (long long)r->disk_free_bytes >> 20,
			 (long long)c->disk_free_min_bytes >> 20);
		break;
	case WHEN_METERED:
		snprintf(ret, n, "the way out, %s, is metered", r->interface);
		break;
	case WHEN_KIND_N:
		*ret = 0;
		break;
	}
}

/* As the kernel counts its average. */
static void count_own(struct when *w, const struct when_readings *r, int64_t now_ms)
{
	double passed_ms = w->looked_ms ? (double)(now_ms - w->looked_ms) : 0;
	double kept = exp(-fmax(passed_ms, 0) / WHEN_LOAD_AVERAGE_MS);
	w->own = w->own * kept + (r->training ? r->own : 0) * (1 - kept);
	w->looked_ms = now_ms;
}

void when_step(struct when *w, const struct when_conf *c, const struct when_readings *r,
	       int64_t now_ms)
{
	enum when_kind first = WHEN_KIND_N;
	count_own(w, r, now_ms);
	w->no_handover = c->metered != WHEN_METERED_NONE && is_metered(c, r->interface);
	for (enum when_kind k = WHEN_KIND_N; k-- > 0;) {
		w->over[k] = is_over(w, c, r, k, w->over[k]);
		if (w->over[k])
			first = k;
	}
	if (first == WHEN_KIND_N) {
		if (!w->waits || now_ms < w->since_ms + WHEN_HOLD_MS)
			return;
		w->waits = false;
		*w->reason = 0;
		return;
	}
	if (w->waits && w->told == first && now_ms < w->told_ms + WHEN_TELL_MS)
		return;
	tell(w, c, r, first, w->reason);
	if (!w->waits)
		w->since_ms = now_ms;
	w->waits = true;
	w->told = first;
	w->told_ms = now_ms;
}

void when_again(struct when *w)
{
	memset(w->over, 0, sizeof(w->over));
	w->told = WHEN_KIND_N;
	w->since_ms = -WHEN_HOLD_MS;
}

void when_unread(const struct when_conf *c, const struct when_readings *r,
		 char ret[WHEN_REASON_MAX])
{
	const struct {
		bool missing;
		const char *what;
	} all[] = {
		{(c->mains || c->battery_min_percent) && r->power == WHEN_POWER_UNKNOWN, "power"},
		{c->battery_min_percent && r->power == WHEN_POWER_BATTERY && r->battery_percent < 0,
		 "battery"},
		{c->temperature_max_c > 0 && isnan(r->temperature_c), "temperature"},
		{c->load_max > 0 && isnan(r->load), "load"},
		{c->disk_free_min_bytes && r->disk_free_bytes < 0, "disk"},
	};
	size_t n = 0;
	*ret = 0;
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i].missing)
			n += (size_t)snprintf(ret + n, WHEN_REASON_MAX - n, "%s%s", n ? ", " : "",
					      all[i].what);
}
