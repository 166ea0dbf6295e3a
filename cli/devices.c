/* tasuki devices, show, watch: the fleet as its retained messages tell it. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/online.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define REDRAW_MS	  500

static const char devices_help[] = "usage: tasuki devices [--broker HOST[:PORT]] [--site ID] [--json]\n\n"
				   "The devices and trainers of the site, from what they last said.\n" ONLINE_HELP
				   "  --json\n";
static const char show_help[] = "usage: tasuki show DEVICE [--broker HOST[:PORT]] [--site ID] [--json]\n\n"
				"One device in full.\n" ONLINE_HELP "  --json\n";
static const char watch_help[] =
	"usage: tasuki watch [--seconds N] [--broker HOST[:PORT]] [--site ID] [--json]\n\n"
	"The fleet as a live table; Ctrl-C ends it. In a pipe, or with --json, one line a change.\n" ONLINE_HELP
	"  --seconds N           stop after so long\n"
	"  --json\n";

enum { OPT_JSON = 256, OPT_HELP, OPT_SECONDS };
static const struct option long_options[] = {
	ONLINE_OPTIONS,
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{0},
};

struct options {
	bool json, help;
	int64_t seconds;
};

static int parse(struct online *o, struct options *opt, int argc, char **argv)
{
	int c;
	optind = 1;
	*opt = (struct options){0};
	if (!online_init(o, argv[0]))
		return CLI_USAGE;
	while ((c = cli_getopt(argc, argv, long_options)) != -1) {
		int r = online_option(o, c, optarg);
		if (r < 0 || c == '?')
			return CLI_USAGE;
		if (r > 0)
			continue;
		if (c == OPT_JSON)
			opt->json = true;
		if (c == OPT_HELP)
			opt->help = true;
		if (c == OPT_SECONDS &&
		    !cli_int(o->name, "--seconds", optarg, 1, 1000000, &opt->seconds))
			return CLI_USAGE;
	}
	return CLI_OK;
}

static const char *presence_name(bool known, bool online)
{
	return !known ? "unknown" : online ? "online" : "offline";
}

static const char *state_of(const struct online_device *d)
{
	return presence_name(d->has_presence, d->online);
}

static const char *trainer_state(const struct online_trainer *t)
{
	return presence_name(t->has_presence, t->presence.online);
}

/* Built from the message's own text, so that a field is named in one place only. */
static struct json *reparse(char *text)
{
	struct json *j = NULL;
	if (text && json_parse(text, strlen(text), MESSAGE_LARGE_MAX, &j, NULL) < 0)
		j = NULL;
	free(text);
	return j ? j : json_new_obj();
}

static struct json *device_json(const struct online_device *d)
{
	struct json *j = json_new_obj();
	json_set_str(j, "id", d->id);
	json_set_str(j, "presence", state_of(d));
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

static struct json *fleet_json(const struct online *o)
{
	struct json *j = json_new_obj(), *devices = json_new_arr(), *trainers = json_new_arr();
	json_set_str(j, "site", o->site);
	for (size_t i = 0; i < o->n_devices; i++)
		json_push(devices, device_json(&o->devices[i]));
	for (size_t i = 0; i < o->n_trainers; i++) {
		const struct online_trainer *t = &o->trainers[i];
		struct json *one = json_new_obj();
		json_set_str(one, "id", t->id);
		json_set_str(one, "presence", trainer_state(t));
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

static void bar(char *out, size_t size, double share)
{
	const int width = 10;
	if (size < (size_t)width + 1 || !(share >= 0)) {
		snprintf(out, size, "%s", "");
		return;
	}
	int full = (int)lround(fmin(share, 1) * width);
	for (int i = 0; i < width; i++)
		out[i] = i < full ? '#' : '.';
	out[width] = 0;
}

static void device_row(const struct online_device *d, bool colour)
{
	char accuracy[16] = "-", epoch[24] = "-", progress[16] = "-", handover[48] = "", edge[16] = "";
	const char *phase = "-", *origin = "-", *pinned = "", *on = "", *off = "";
	if (colour) {
		on = !d->has_presence ? "" : d->online ? "\033[32m" : "\033[31m";
		off = d->has_presence ? "\033[0m" : "";
	}
	if (d->has_status) {
		const struct msg_status *s = &d->status;
		if (!d->has_presence || d->online) { /* else it is long past */
			phase = phase_name(s->phase);
			bar(progress, sizeof(progress), s->progress);
		}
		snprintf(epoch, sizeof(epoch), "%lld", (long long)s->epoch);
		snprintf(handover, sizeof(handover), "%s%s%.24s", s->handover, s->trainer[0] ? " " : "",
			 s->trainer);
		if (s->has_active) {
			origin = origin_name(s->active.origin);
			pinned = s->active.pinned ? " pinned" : "";
			if (s->active.accuracy >= 0)
				snprintf(accuracy, sizeof(accuracy), "%.1f %%", 100 * s->active.accuracy);
		}
	}
	if (d->has_job && d->has_status && d->status.handover[0])
		bar(edge, sizeof(edge), d->job.progress);
	printf("%-20s %s%-8s%s %-12s %6s %-10s  %-6s%-7s %8s  %s %s\n", d->id, on, state_of(d), off,
	       phase, epoch, progress, origin, pinned, accuracy, handover, edge);
}

static void window_row(const struct msg_trainer_status *s)
{
	for (size_t i = 0; i < s->n_window; i++)
		printf(" %s", s->window[i]);
	if ((size_t)s->members > s->n_window)
		printf(" and %lld more", (long long)s->members - (long long)s->n_window);
	putchar('\n');
}

static void fleet_row(const struct msg_fleet *f)
{
	if (!f->manifest.sequence)
		return;
	printf("\nFOR EVERYONE: checkpoint %.12s of %s", f->manifest.id, f->manifest.trainer);
	if (f->halted)
		printf(", halted: %s\n", f->reason);
	else
		printf(", to %s%lld %% of the devices\n", f->share < 100 ? "the first " : "",
		       (long long)f->share);
}

static void table(const struct online *o, bool colour)
{
	printf("%-20s %-8s %-12s %6s %-10s  %-13s %8s  %s\n", "DEVICE", "PRESENCE", "PHASE", "EPOCH",
	       "PROGRESS", "ACTIVE", "ACCURACY", "HANDOVER");
	for (size_t i = 0; i < o->n_devices; i++)
		device_row(&o->devices[i], colour);
	if (!o->n_devices)
		printf("(no device has said anything at site %s)\n", o->site);
	printf("\n%-20s %-8s %6s %6s %8s %9s %-8s %7s %8s  %s\n", "TRAINER", "PRESENCE", "ACTIVE",
	       "QUEUED", "CAPACITY", "HANDOVERS", "STRATEGY", "REFUSED", "BAD-MSGS", "WINDOW");
	for (size_t i = 0; i < o->n_trainers; i++) {
		const struct online_trainer *t = &o->trainers[i];
		printf("%-20s %-8s %6lld %6lld %8lld %9lld %-8s %7lld %8lld ", t->id, trainer_state(t),
		       (long long)t->status.active, (long long)t->status.queued,
		       (long long)t->status.capacity, (long long)t->status.handovers,
		       t->status.strategy, (long long)t->status.refused,
		       (long long)t->status.refused_messages);
		window_row(&t->status);
	}
	fleet_row(&o->fleet);
	fflush(stdout);
}

/* Connects and hears what is retained. */
static int hear(struct online *o, const char *device, struct err *err)
{
	int r = online_identify(o, err);
	if (r == 0)
		r = online_connect(o, device, err);
	return r == 0 ? online_hear(o) : r;
}

int cmd_devices(int argc, char **argv)
{
	struct online o;
	struct options opt;
	struct err err = {0};
	int r = parse(&o, &opt, argc, argv);
	if (r != CLI_OK)
		return r;
	if (opt.help)
		return fputs(devices_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	if (optind < argc)
		return cli_usage("devices", "found '%s', no argument expected", argv[optind]);
	if (hear(&o, ONLINE_ALL, &err) < 0)
		r = cli_fail("devices", &err);
	else if (opt.json)
		r = cli_print_json(fleet_json(&o));
	else
		table(&o, cli_colour());
	online_done(&o);
	return r;
}

static void show_text(const struct online_device *d)
{
	const struct msg_status *s = &d->status;
	char at[CLOCK_TEXT_MAX], accuracy[16] = "not known";
	bool away = d->has_presence && !d->online;
	clock_format(s->at_ms, at);
	printf("device     %s (%s)\n", d->id, state_of(d));
	if (!d->has_status)
		return;
	/* A Will has no time: the last status is the last that is known of it. */
	if (away)
		printf("offline    since %s, its last word, or later; what follows was so then\n", at);
	printf("agent      %s, boot %lld\nmodel      %s\n", s->agent, (long long)s->boot, s->model);
	printf("phase      %s%s%s%s, epoch %lld\n", away ? "offline, was " : "", phase_name(s->phase),
	       s->reason[0] ? ": " : "", s->reason, (long long)s->epoch);
	if (s->has_active && s->active.accuracy >= 0)
		snprintf(accuracy, sizeof(accuracy), "%.2f %%", 100 * s->active.accuracy);
	if (s->has_active)
		printf("active     %s (%s%s), accuracy %s\n", s->active.checkpoint,
		       origin_name(s->active.origin), s->active.pinned ? ", pinned" : "", accuracy);
	else
		printf("active     none yet\n");
	if (s->handover[0])
		printf("handover   %s %s\n", s->handover, s->trainer);
	if (d->has_job)
		printf("job        %s at %s, %.0f %%, epoch %lld of %lld%s\n", d->job.phase, d->trainer,
		       100 * d->job.progress, (long long)d->job.epoch, (long long)d->job.epochs,
		       d->job.window ? ", merged with others" : "");
	printf("reports    %lld\nsaid at    %s\n", (long long)s->report_seq, at);
}

int cmd_show(int argc, char **argv)
{
	struct online o;
	struct options opt;
	struct err err = {0};
	int r = parse(&o, &opt, argc, argv);
	if (r != CLI_OK)
		return r;
	if (opt.help)
		return fputs(show_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	if (argc - optind != 1 || !id_valid(argv[optind]))
		return cli_usage("show", "the id of one device is expected");
	const struct online_device *d = NULL;
	if (hear(&o, argv[optind], &err) < 0) {
		r = cli_fail("show", &err);
	} else if (!(d = online_find(&o, argv[optind]))) {
		err_set(&err, -ENOENT, "no device '%s' has said anything at site %s", argv[optind], o.site);
		r = cli_fail("show", &err);
	} else if (opt.json) {
		r = cli_print_json(device_json(d));
	} else {
		show_text(d);
	}
	online_done(&o);
	return r;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
	interrupted = 1;
}

/* In a pipe: a line for each device whose row changed. */
static void changes(const struct online *o, char **last, size_t *n_last)
{
	if (o->n_devices > *n_last) {
		/* Rows moved: everything is printed anew once. */
		for (size_t i = 0; i < *n_last; i++)
			free(last[i]);
		memset(last, 0, sizeof(*last) * (size_t)ONLINE_DEVICES_MAX);
		*n_last = o->n_devices;
	}
	for (size_t i = 0; i < o->n_devices; i++) {
		struct json *j = device_json(&o->devices[i]);
		char *text = json_print(j);
		json_free(j);
		if (text && (!last[i] || strcmp(last[i], text) != 0)) {
			puts(text);
			free(last[i]);
			last[i] = text;
		} else {
			free(text);
		}
	}
	fflush(stdout);
}

static int watch_loop(struct online *o, const struct options *opt)
{
	bool live = !opt->json && isatty(STDOUT_FILENO);
	int64_t end = opt->seconds ? clock_mono_ms() + opt->seconds * 1000 : INT64_MAX;
	_cleanup_free_ char **last = calloc(ONLINE_DEVICES_MAX, sizeof(*last));
	size_t n_last = 0;
	int r = last ? 0 : -ENOMEM;
	while (r == 0 && !interrupted && clock_mono_ms() < end) {
		r = online_listen(o, MIN_OF(clock_mono_ms() + REDRAW_MS, end), 0);
		if (live) {
			printf("\033[H\033[2J%s%s%s\n\n", "tasuki watch, site ", o->site,
			       o->up ? "" : "   (connection to the broker lost; trying again)");
			table(o, cli_colour());
		} else {
			changes(o, last, &n_last);
		}
	}
	for (size_t i = 0; last && i < n_last; i++)
		free(last[i]);
	return r;
}

int cmd_watch(int argc, char **argv)
{
	struct online o;
	struct options opt;
	struct err err = {0};
	int r = parse(&o, &opt, argc, argv);
	if (r != CLI_OK)
		return r;
	if (opt.help)
		return fputs(watch_help, stdout) < 0 ? CLI_FAIL : CLI_OK;
	struct sigaction sa = {.sa_handler = on_interrupt};
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (hear(&o, ONLINE_ALL, &err) < 0 || watch_loop(&o, &opt) < 0)
		r = cli_fail("watch", &err);
	online_done(&o);
	return r;
}
