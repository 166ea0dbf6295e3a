#include "cli/view.h"

#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define BAR_WIDTH    10
#define ROWS_MIN     3 /* of devices, however low the terminal is */
#define LINES_AROUND 3 /* titles, a blank line, summary */

static const char *presence_name(bool known, bool online)
{
	return !known ? "unknown" : online ? "online" : "offline";
}

const char *view_presence(const struct online_device *d)
{
	return presence_name(d->has_presence, d->online);
}

static const char *trainer_presence(const struct online_trainer *t)
{
	return presence_name(t->has_presence, t->presence.online);
}

static struct json *reparse(char *text)
{
	struct json *j = NULL;
	if (text && json_parse(text, strlen(text), MESSAGE_LARGE_MAX, &j, NULL) < 0)
		j = NULL;
	free(text);
	return j ? j : json_new_obj();
}

struct json *view_device_json(const struct online_device *d)
{
	struct json *j = json_new_obj();
	json_set_str(j, "id", d->id);
	json_set_str(j, "presence", view_presence(d));
	if (d->has_status)
		json_set(j, "status", reparse(msg_status_print(&d->status)));
	if (d->has_report)
		json_set(j, "report", reparse(msg_report_print(&d->report)));
	if (d->has_job) {
		struct json *job = reparse(msg_job_print(&d->job));
		json_set_str(job, "trainer", d->trainer);
		json_set(j, "job", job);
	}
	return j;
}

struct json *view_fleet_json(const struct online *o, const struct filter *f)
{
	struct json *j = json_new_obj(), *devices = json_new_arr(), *trainers = json_new_arr();
	size_t n = 0;
	_cleanup_free_ const struct online_device **found = filter_devices(f, o, &n);
	json_set_str(j, "site", o->site);
	for (size_t i = 0; i < n; i++)
		json_push(devices, view_device_json(found[i]));
	for (size_t i = 0; i < o->n_trainers; i++) {
		const struct online_trainer *t = o->trainers[i];
		struct json *one = json_new_obj();
		json_set_str(one, "id", t->id);
		json_set_str(one, "presence", trainer_presence(t));
		if (t->has_status)
			json_set(one, "status", reparse(msg_trainer_status_print(&t->status)));
		json_push(trainers, one);
	}
	json_set(j, "devices", devices);
	json_set(j, "trainers", trainers);
	if (o->fleet.manifest.sequence)
		json_set(j, "fleet", reparse(msg_fleet_print(&o->fleet)));
	return j;
}

void view_bytes(char buf[VIEW_BYTES_MAX], int64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double v = (double)bytes;
	size_t u = 0;
	for (; v >= 999.5 && u + 1 < ARRAY_LEN(units); u++)
		v /= 1000;
	if (bytes < 0)
		snprintf(buf, VIEW_BYTES_MAX, "-");
	else
		snprintf(buf, VIEW_BYTES_MAX, u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static const struct table_column device_columns[] = {
	{"DEVICE", false, 0},  {"PRESENCE", false, 0}, {"PHASE", false, 0},
	{"EPOCH", true, 3},    {"PROGRESS", false, 4}, {"ACTIVE", false, 2},
	{"ACCURACY", true, 1}, {"MOVED", true, 6},     {"HANDOVER", false, 5},
};

static void add_handover(struct table *t, const struct online_device *d)
{
	char edge[BAR_WIDTH + 1] = "";
	const struct msg_status *s = &d->status;
	if (d->has_job && d->has_status && s->handover[0])
		term_bar(edge, sizeof(edge), BAR_WIDTH, d->job.progress);
	table_add(t, TERM_PLAIN, "%s%s%s%s%s", s->handover, s->trainer[0] ? " " : "", s->trainer,
		  *edge ? " " : "", edge);
}

static enum term_ink phase_colour(const struct msg_status *s)
{
	return s->phase == PHASE_PAUSED || s->phase == PHASE_WAITING ? TERM_YELLOW : TERM_PLAIN;
}

static void add_device(struct table *t, const struct online_device *d)
{
	char progress[BAR_WIDTH + 1] = "", moved[VIEW_BYTES_MAX];
	const struct msg_status *s = &d->status;
	bool now = filter_is_now(d), active = d->has_status && s->has_active;
	table_add(t, TERM_PLAIN, "%s", d->id);
	table_add(t,
		  !d->has_presence ? TERM_PLAIN
		  : d->online      ? TERM_GREEN
				   : TERM_RED,
		  "%s", view_presence(d));
	table_add(t, now ? phase_colour(s) : TERM_PLAIN, "%s", now ? phase_name(s->phase) : "-");
	if (d->has_status)
		table_add(t, TERM_PLAIN, "%lld", (long long)s->epoch);
	else
		table_add(t, TERM_PLAIN, "-");
	if (now)
		term_bar(progress, sizeof(progress), BAR_WIDTH, s->progress);
	table_add(t, TERM_PLAIN, "%s", *progress ? progress : "-");
	table_add(t, TERM_PLAIN, "%s%s", active ? origin_name(s->active.origin) : "-",
		  active && s->active.pinned ? " pinned" : "");
	if (active && s->active.accuracy >= 0)
		table_add(t, TERM_PLAIN, "%.1f %%", 100 * s->active.accuracy);
	else
		table_add(t, TERM_PLAIN, "-");
	view_bytes(moved, d->has_status ? s->moved_bytes : -1);
	table_add(t, TERM_PLAIN, "%s", moved);
	add_handover(t, d);
}

/* "6 devices: 5 online, 2 training, 1 with a handover in flight; 3 match" */
static void summary(const struct online *o, size_t shown, FILE *out)
{
	size_t online = 0, handovers = 0, phases[PHASE_N] = {0};
	for (size_t i = 0; i < o->n_devices; i++) {
		const struct online_device *d = o->devices[i];
		online += d->online;
		handovers += d->has_status && d->status.handover[0];
		if (filter_is_now(d))
			phases[d->status.phase]++;
	}
	fprintf(out, "%zu device%s: %zu online", o->n_devices, o->n_devices == 1 ? "" : "s",
		online);
	for (int p = 0; p < PHASE_N; p++)
		if (phases[p])
			fprintf(out, ", %zu %s", phases[p], phase_name((enum phase)p));
	if (handovers)
		fprintf(out, ", %zu in a handover", handovers);
	if (shown != o->n_devices)
		fprintf(out, "; %zu match", shown);
	fputc('\n', out);
}

static void devices_table(const struct online *o, const struct filter *f, FILE *out, int width,
			  int height, bool colour)
{
	size_t n = 0, max = height ? (size_t)height : SIZE_MAX;
	_cleanup_free_ const struct online_device **found = filter_devices(f, o, &n);
	_cleanup_(table_freep) struct table *t =
		table_new(device_columns, ARRAY_LEN(device_columns));
	if (!t || !found)
		return;
	if (n > max)
		max--; /* for the line that says so */
	for (size_t i = 0; i < MIN_OF(n, max); i++)
		add_device(t, found[i]);
	table_print(t, out, width, colour, max);
	if (n > max)
		fprintf(out, "... and %zu more (--phase, --below, --sort and patterns choose)\n",
			n - max);
	if (!o->n_devices)
		fprintf(out,
			"(no device has said anything at site %s: is that the name? --site, "
			"TASUKI_SITE)\n",
			o->site);
	else if (!n)
		fprintf(out, "(none of %zu devices is so)\n", o->n_devices);
	fputc('\n', out);
	summary(o, n, out);
}

static const struct table_column trainer_columns[] = {
	{"TRAINER", false, 0}, {"PRESENCE", false, 0}, {"ACTIVE", true, 1},    {"QUEUED", true, 2},
	{"CAPACITY", true, 4}, {"HANDOVERS", true, 3}, {"STRATEGY", false, 7}, {"REFUSED", true, 5},
	{"BAD-MSGS", true, 6}, {"WINDOW", false, 8},
};

static void add_window(struct table *t, const struct msg_trainer_status *s)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return;
	for (size_t i = 0; i < s->n_window; i++)
		fprintf(f, "%s%s", i ? " " : "", s->window[i]);
	if ((size_t)s->members > s->n_window)
		fprintf(f, " and %lld more", (long long)s->members - (long long)s->n_window);
	fclose(f);
	table_add(t, TERM_PLAIN, "%s", text ? text : "");
}

static void trainers_table(const struct online *o, FILE *out, int width, bool colour)
{
	_cleanup_(table_freep) struct table *t =
		table_new(trainer_columns, ARRAY_LEN(trainer_columns));
	for (size_t i = 0; t && i < o->n_trainers; i++) {
		const struct online_trainer *r = o->trainers[i];
		const struct msg_trainer_status *s = &r->status;
		const int64_t numbers[] = {s->active, s->queued, s->capacity, s->handovers};
		table_add(t, TERM_PLAIN, "%s", r->id);
		table_add(t,
			  !r->has_presence     ? TERM_PLAIN
			  : r->presence.online ? TERM_GREEN
					       : TERM_RED,
			  "%s", trainer_presence(r));
		for (size_t k = 0; k < ARRAY_LEN(numbers); k++)
			table_add(t, TERM_PLAIN, "%lld", (long long)numbers[k]);
		table_add(t, TERM_PLAIN, "%s", s->strategy);
		table_add(t, TERM_PLAIN, "%lld", (long long)s->refused);
		table_add(t, TERM_PLAIN, "%lld", (long long)s->refused_messages);
		add_window(t, s);
	}
	if (t)
		table_print(t, out, width, colour, SIZE_MAX);
}

static void fleet_row(const struct msg_fleet *f, FILE *out)
{
	if (!f->manifest.sequence)
		return;
	fprintf(out, "\nFOR EVERYONE: checkpoint %.12s of %s", f->manifest.id, f->manifest.trainer);
	if (f->halted)
		fprintf(out, ", halted: %s\n", f->reason);
	else
		fprintf(out, ", to %s%lld %% of the devices\n", f->share < 100 ? "the first " : "",
			(long long)f->share);
}

static void quarantine_rows(const struct online_trainer *t, FILE *out)
{
	const struct msg_trainer_status *s = &t->status;
	char since[CLOCK_TEXT_MAX], until[CLOCK_TEXT_MAX];
	if (s->quarantined)
		fprintf(out, "\nIN QUARANTINE at %s: %lld\n", t->id, (long long)s->quarantined);
	for (size_t i = 0; i < s->n_quarantine; i++) {
		clock_format(s->quarantine[i].since_ms, since);
		clock_format(s->quarantine[i].until_ms, until);
		fprintf(out, "%-20s until %s, since %s: %s\n", s->quarantine[i].device, until,
			since, s->quarantine[i].why);
	}
}

void view_tables(const struct online *o, const struct filter *f, FILE *out, int width, int height,
		 bool colour)
{
	_cleanup_free_ char *rest = NULL;
	size_t len;
	FILE *below = open_memstream(&rest, &len);
	if (!below)
		return;
	fputc('\n', below);
	trainers_table(o, below, width, colour);
	for (size_t i = 0; i < o->n_trainers; i++)
		quarantine_rows(o->trainers[i], below);
	fleet_row(&o->fleet, below);
	fclose(below);
	int lines = LINES_AROUND;
	for (const char *s = rest; s && *s; s++)
		lines += *s == '\n';
	devices_table(o, f, out, width, height ? MAX_OF(height - lines, ROWS_MIN) : 0, colour);
	fputs(rest ? rest : "", out);
}
