/* tasuki devices, watch: the fleet as its retained messages tell it, once or as it goes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/view.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define REDRAW_MS 500

enum { OPT_WATCH = 256, OPT_SECONDS, OPT_RELEASE, OPT_STATE };

#define SECONDS_OPTION                                                     \
	{                                                                  \
		"seconds", "N", "stop watching after so long", OPT_SECONDS \
	}

static const struct cli_option devices_options[] = {
	FILTER_OPTIONS,
	{"watch", NULL,
	 "go on: a live table on a terminal, which Ctrl-C ends; elsewhere a line a change",
	 OPT_WATCH},
	SECONDS_OPTION,
	{"release", "DEVICE",
	 "ends its quarantine at the trainer on this machine whose state folder is --state, within "
	 "a second",
	 OPT_RELEASE},
	{"state", "DIR", "of that trainer", OPT_STATE},
	ONLINE_OPTIONS,
	CLI_JSON,
	{0},
};
const struct cli_spec spec_devices = {
	"[PATTERN ...] [OPTION ...]\n--release DEVICE --state DIR",
	"The devices and trainers of the site, from what they last said. A PATTERN is as in a "
	"shell,\n"
	"on ids. Of a device that is offline phase and progress are not shown: they are long "
	"past.\n",
	devices_options,
	"tasuki devices --phase training --below 90 'cam-*'\ntasuki devices --watch --sort "
	"accuracy",
};

static const struct cli_option watch_options[] = {
	FILTER_OPTIONS, SECONDS_OPTION, ONLINE_OPTIONS, CLI_JSON, {0}};
const struct cli_spec spec_watch = {
	"[PATTERN ...] [OPTION ...]",
	"The same as tasuki devices --watch: the fleet as a live table; Ctrl-C ends it. In a pipe, "
	"or\n"
	"with --json, one JSON object a line, of each device that has changed.\n",
	watch_options,
	"tasuki watch --handover",
};

struct options {
	bool json, watch;
	int64_t seconds;
	const char *release, *state;
	struct filter filter;
};

static bool take(struct online *o, struct options *opt, int c)
{
	switch (c) {
	case CLI_OPT_JSON:
		return opt->json = true;
	case OPT_WATCH:
		return opt->watch = true;
	case OPT_RELEASE:
		opt->release = optarg;
		return true;
	case OPT_STATE:
		opt->state = optarg;
		return true;
	case OPT_SECONDS:
		return cli_int(o->name, "--seconds", optarg, 1, 1000000, &opt->seconds);
	default:
		return false;
	}
}

static int parse(struct online *o, struct options *opt, const struct cli_spec *spec, int argc,
		 char **argv)
{
	int c;
	optind = 1;
	if (!online_init(o, argv[0]))
		return CLI_USAGE;
	while ((c = cli_next(spec, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG)
			return CLI_USAGE;
		int r = online_option(o, c, optarg);
		if (r == 0)
			r = filter_option(&opt->filter, o->name, c, optarg);
		if (r < 0 || (r == 0 && !take(o, opt, c)))
			return CLI_USAGE;
	}
	opt->filter.patterns = argv + optind;
	opt->filter.n_patterns = argc - optind;
	return CLI_OK;
}

/* The trainer takes the file away when it has done so. */
static int release(const struct options *opt)
{
	char path[FILE_PATH_MAX];
	struct err err = {0};
	if (!opt->release || !id_valid(opt->release) || !opt->state)
		return cli_usage("devices", "--release with the id of a device, and --state");
	int r = file_path(path, sizeof(path), "%s/release", opt->state);
	if (r == 0 && !file_exists(path))
		r = err_set(&err, -ENOENT,
			    "--state: found no %s, expected the state folder of a trainer", path);
	if (r == 0)
		r = file_path(path, sizeof(path), "%s/release/%s", opt->state, opt->release);
	if (r == 0)
		r = file_write(path, "", 0, &err);
	if (r < 0 && !err.code)
		err_errno(&err, r, "%s", opt->state);
	return r < 0 ? cli_fail("devices", &err) : CLI_OK;
}

/* In a pipe: a line for each device that has changed. */
static void changes(struct online *o, const struct filter *f)
{
	for (size_t i = 0; i < o->n_devices; i++) {
		struct online_device *d = o->devices[i];
		if (!d->changed || !filter_takes(f, d))
			continue;
		d->changed = false;
		struct json *j = view_device_json(d);
		_cleanup_free_ char *text = json_print(j);
		json_free(j);
		if (text)
			puts(text);
	}
	fflush(stdout);
}

static void draw(const struct online *o, const struct filter *f)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return;
	fprintf(out, "tasuki watch, site %s%s\n\n", o->site,
		o->up ? "" : "   (connection to the broker lost; trying again)");
	view_tables(o, f, out, term_width(), term_height() - 2, cli_colour());
	if (fclose(out) == 0)
		term_live_draw(text);
}

static int watch_loop(struct online *o, const struct options *opt)
{
	bool live = !opt->json && isatty(STDOUT_FILENO);
	int64_t end = opt->seconds ? clock_mono_ms() + opt->seconds * 1000 : INT64_MAX;
	int r = 0;
	if (live)
		term_live_begin();
	while (r == 0 && !term_interrupted() && clock_mono_ms() < end) {
		if (live)
			draw(o, &opt->filter);
		else
			changes(o, &opt->filter);
		r = online_listen(o, MIN_OF(clock_mono_ms() + REDRAW_MS, end), 0);
	}
	if (live)
		term_live_end();
	else
		changes(o, &opt->filter);
	return r;
}

static int devices(struct online *o, struct options *opt)
{
	struct err err = {0};
	int r = CLI_OK;
	if (opt->watch)
		term_catch_interrupt();
	if (online_open(o, ONLINE_ALL, &err) < 0 || (opt->watch && watch_loop(o, opt) < 0))
		r = cli_fail(o->name, &err);
	else if (!opt->watch && opt->json)
		r = cli_print_json(view_fleet_json(o, &opt->filter));
	else if (!opt->watch)
		view_tables(o, &opt->filter, stdout, term_width(), 0, cli_colour());
	online_done(o);
	return fflush(stdout) == 0 ? r : CLI_FAIL;
}

int cmd_devices(int argc, char **argv)
{
	struct online o;
	struct options opt = {.filter = FILTER_NONE};
	int r = parse(&o, &opt, &spec_devices, argc, argv);
	if (r != CLI_OK)
		return r;
	if (opt.seconds && !opt.watch)
		return cli_usage("devices", "--seconds goes with --watch");
	return opt.release || opt.state ? release(&opt) : devices(&o, &opt);
}

int cmd_watch(int argc, char **argv)
{
	struct online o;
	struct options opt = {.watch = true, .filter = FILTER_NONE};
	int r = parse(&o, &opt, &spec_watch, argc, argv);
	return r == CLI_OK ? devices(&o, &opt) : r;
}
