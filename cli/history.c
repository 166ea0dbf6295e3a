/* tasuki history: what a device's checkpoints scored, by origin, as its retained history tells. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chart.h"
#include "cli/online.h"
#include "cli/table.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define CHART_HEIGHT 14
#define CHART_WIDTH  78 /* where there is no terminal */
#define LAST         20

enum { OPT_PNG = 256, OPT_SVG, OPT_LAST, OPT_CONFUSION };

static const struct cli_option options[] = {
	{"png", "FILE", "draw it into a picture", OPT_PNG},
	{"svg", "FILE", "the same without pixels", OPT_SVG},
	{"last", "N", "list so many of the newest checkpoints (20)", OPT_LAST},
	{"confusion", NULL,
	 "also which classes the active checkpoint takes for which: by number, as names never "
	 "leave",
	 OPT_CONFUSION},
	ONLINE_OPTIONS,
	CLI_JSON,
	{0},
};
const struct cli_spec spec_history = {
	"DEVICE [--png FILE] [--svg FILE] [OPTION ...]",
	"Accuracy of a device's checkpoints on its validation images, by time (UTC) and origin: l "
	"local,\n"
	"e edge, b blend, t tuned, f fleet; a capital, and a star in the list, where the "
	"checkpoint became\n"
	"active. The line is what was in use. Of many, the device keeps the swaps and some "
	"between.\n",
	options,
	"tasuki history cam-1 --png cam-1.png",
};

struct history {
	const char *device;
	bool there;
	struct msg_history m;
	struct err err;
};

struct options {
	const char *png, *svg;
	int64_t last;
	bool confusion, json;
};

static void on_history(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	struct history *h = o->user;
	if (t->kind == TOPIC_DEVICE_HISTORY && m->len &&
	    msg_history_parse(m->payload, m->len, &h->m, &h->err) == 0)
		h->there = true;
}

static void time_text(char buf[CLOCK_TEXT_MAX], int64_t at_s)
{
	char whole[CLOCK_TEXT_MAX];
	clock_format(at_s * 1000, whole);
	snprintf(buf, CLOCK_TEXT_MAX, "%.10s %.8s", whole, whole + 11);
}

static void list(const struct msg_history *m, size_t last)
{
	static const struct table_column columns[] = {
		{"TIME (UTC)", false, 0}, {"EPOCH", true, 2},    {"ORIGIN", false, 0},
		{"CORRECT", true, 3},     {"ACCURACY", true, 0}, {"", false, 0},
		{"CHECKPOINT", false, 1},
	};
	_cleanup_(table_freep) struct table *t = table_new(columns, ARRAY_LEN(columns));
	char at[CLOCK_TEXT_MAX];
	for (size_t i = m->n_points > last ? m->n_points - last : 0; t && i < m->n_points; i++) {
		const struct history_point *p = &m->points[i];
		time_text(at, p->at_s);
		table_add(t, TERM_PLAIN, "%s", at);
		table_add(t, TERM_PLAIN, "%lld", (long long)p->epoch);
		table_add(t, TERM_PLAIN, "%s", origin_name(p->origin));
		table_add(t, TERM_PLAIN, "%lld of %lld", (long long)p->correct, (long long)p->n);
		table_add(t, TERM_PLAIN, "%.2f %%", 100 * chart_accuracy(p));
		table_add(t, TERM_GREEN, "%s", p->swap ? "*" : "");
		table_add(t, TERM_DIM, "%s", p->checkpoint);
	}
	if (t)
		table_print(t, stdout, term_width(), cli_colour(), SIZE_MAX);
}

static void confusion(const struct msg_history *m)
{
	int64_t k = m->confusion.classes;
	if (!k) {
		printf("\nno confusion matrix: none was told\n");
		return;
	}
	printf("\nCONFUSION of %.12s: a row for each true class, a column for each answer\n%5s",
	       m->confusion.checkpoint, "");
	for (int64_t c = 0; c < k; c++)
		printf(" %5lld", (long long)c);
	for (int64_t r = 0; r < k; r++) {
		printf("\n%5lld", (long long)r);
		for (int64_t c = 0; c < k; c++)
			printf(" %5lld", (long long)m->confusion.counts[r * k + c]);
	}
	putchar('\n');
}

static void show_text(const struct history *h, const struct options *opt)
{
	const struct msg_history *m = &h->m;
	int width = term_width() ? term_width() : CHART_WIDTH;
	size_t swaps = 0;
	for (size_t i = 0; i < m->n_points; i++)
		swaps += m->points[i].swap;
	_cleanup_free_ char *chart =
		m->n_points ? chart_text(m, width, CHART_HEIGHT, cli_colour()) : NULL;
	printf("%s: %zu checkpoints scored, %zu became active\n\n%s%s", h->device, m->n_points,
	       swaps, chart ? chart : "", chart ? "\n" : "");
	list(m, (size_t)opt->last);
	if (opt->confusion)
		confusion(m);
}

static int show_json(const struct history *h)
{
	struct json *j = NULL;
	_cleanup_free_ char *text = msg_history_print(&h->m);
	if (!text || json_parse(text, strlen(text), MESSAGE_LARGE_MAX, &j, NULL) < 0)
		return CLI_FAIL;
	json_set_str(j, "device", h->device);
	return cli_print_json(j);
}

static int draw(const struct history *h, const char *path, enum chart_form form, struct err *err)
{
	char title[ID_SIZE + 64];
	snprintf(title, sizeof(title), "%s: checkpoints by origin", h->device);
	if (!path)
		return 0;
	if (!h->m.n_points)
		return err_set(err, -ENODATA,
			       "%s: nothing to draw: %s has scored no checkpoint yet", path,
			       h->device);
	int r = chart_file(&h->m, title, form, path, err);
	if (r == 0)
		cli_share_modes(path);
	return r;
}

/* Hears of the device as well, to tell one that is not there from one that says no history. */
static int hear(struct online *o, struct history *h, struct err *err)
{
	const struct online_device *d;
	o->on_message = on_history;
	o->user = h;
	int r = online_identify(o, err);
	if (r == 0)
		r = online_connect(o, h->device, err);
	struct topic t = {.kind = TOPIC_DEVICE_HISTORY};
	strcpy(t.device, h->device);
	if (r == 0 && (r = online_subscribe(o, &t)) < 0)
		err_errno(err, r, "history of %s", h->device);
	if (r == 0)
		r = online_hear(o);
	if (r == 0 && !h->there && h->err.code)
		r = err_set(err, h->err.code, "%s: %s", h->device, h->err.text);
	if (r == 0 && !h->there && (r = online_get(o, h->device, &d, err)) == 0)
		r = err_set(err, -ENODATA,
			    "%s has told no history: it has scored no checkpoint yet, or its agent "
			    "is older",
			    h->device);
	return r;
}

static bool take(struct options *opt, int c)
{
	switch (c) {
	case OPT_PNG:
		opt->png = optarg;
		return true;
	case OPT_SVG:
		opt->svg = optarg;
		return true;
	case OPT_LAST:
		return cli_int("history", "--last", optarg, 1, HISTORY_POINTS_MAX, &opt->last);
	case OPT_CONFUSION:
		return opt->confusion = true;
	case CLI_OPT_JSON:
		return opt->json = true;
	default:
		return false;
	}
}

int cmd_history(int argc, char **argv)
{
	struct online o;
	struct options opt = {.last = LAST};
	struct err err = {0};
	int c, r = CLI_OK;
	optind = 1;
	if (!online_init(&o, argv[0]))
		return CLI_USAGE;
	while ((c = cli_next(&spec_history, argc, argv)) != CLI_END) {
		int known = c == CLI_WRONG ? -1 : online_option(&o, c, optarg);
		if (known < 0 || (known == 0 && !take(&opt, c)))
			return CLI_USAGE;
	}
	if (argc - optind != 1 || !id_valid(argv[optind]))
		return cli_usage("history", "the id of one device is expected");
	_cleanup_free_ struct history *h = calloc(1, sizeof(*h));
	if (!h)
		return CLI_FAIL;
	h->device = argv[optind];
	if (hear(&o, h, &err) < 0 || draw(h, opt.png, CHART_PNG, &err) < 0 ||
	    draw(h, opt.svg, CHART_SVG, &err) < 0)
		r = cli_fail("history", &err);
	else if (opt.json)
		r = show_json(h);
	else
		show_text(h, &opt);
	online_done(&o);
	return r;
}
