/* tasuki rollout: how far a checkpoint for everyone is, and an operator's hand on it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/rollout_state.h"
#include "cli/table.h"
#include "cli/takeup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define ROWS 20 /* of devices, without --all */

enum { OPT_STATE = 256, OPT_ALL };

static const struct cli_option options[] = {
	{"state", "DIR",
	 "state folder of the trainer on this machine that offers it: its own count of reports; "
	 "needed for halt, next and resume",
	 OPT_STATE},
	{"all", NULL, "list every device, also those whose turn comes later", OPT_ALL},
	ONLINE_OPTIONS,
	CLI_JSON,
	{0},
};
const struct cli_spec spec_rollout = {
	"[--state DIR] [OPTION ...]\nhalt --state DIR [OPTION ...]\nnext --state DIR [OPTION "
	"...]\nresume --state DIR [OPTION ...]",
	"How far the checkpoint is that is offered to everyone: whom it is for by now, how many "
	"devices\n"
	"have taken it up, and what it scored there, against what they had.\n\n"
	"halt    nobody is to take it any more; devices that use it go on doing so\n"
	"next    offer it to all devices now, whatever the first ones have reported\n"
	"resume  offer what an operator halted again, to another first group\n",
	options,
	"tasuki rollout\ntasuki rollout halt --state /var/lib/tasuki-trainer",
};

struct seen {
	struct idx {
		char device[ID_SIZE];
		struct msg_history *history;
	} * at;
	size_t n, room;
};

struct options {
	const char *state;
	bool all, json;
};

static void on_history(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	struct seen *s = o->user;
	if (t->kind != TOPIC_DEVICE_HISTORY || !m->len)
		return;
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		void *more =
			room <= ONLINE_DEVICES_MAX ? realloc(s->at, room * sizeof(*s->at)) : NULL;
		if (!more)
			return;
		s->at = more;
		s->room = room;
	}
	/* Without the confusion matrix, which is the most of it. */
	struct msg_history *h = malloc(sizeof(*h));
	if (!h || msg_history_parse(m->payload, m->len, h, NULL) < 0) {
		free(h);
		return;
	}
	struct idx *new = &s->at[s->n++];
	void *less = realloc(h, offsetof(struct msg_history, confusion));
	new->history = less ? less : h;
	strcpy(new->device, t->device);
}

static int by_device(const void *one, const void *other)
{
	return strcmp(((const struct idx *)one)->device, ((const struct idx *)other)->device);
}

/* Sorted before; of two of one device either will do. */
static const struct msg_history *history_of(const struct seen *s, const char *device)
{
	struct idx key;
	snprintf(key.device, sizeof(key.device), "%s", device);
	const struct idx *found = s->n ? bsearch(&key, s->at, s->n, sizeof(key), by_device) : NULL;
	return found ? found->history : NULL;
}

struct picture {
	const struct online *o;
	const struct seen *seen;
	const struct rollout_state *state; /* NULL: not asked for */
	size_t counts[TAKEUP_N], compared;
	double gain; /* sum over those compared */
};

static void count(struct picture *p)
{
	for (size_t i = 0; i < p->o->n_devices; i++) {
		const struct online_device *d = p->o->devices[i];
		struct takeup t = takeup_of(&p->o->fleet, d, history_of(p->seen, d->id));
		p->counts[t.state]++;
		if (t.accuracy >= 0 && t.before >= 0) {
			p->compared++;
			p->gain += t.accuracy - t.before;
		}
	}
}

static const char *stage(const struct msg_fleet *f)
{
	return f->halted ? "halted" : f->share < 100 ? "first" : "rest";
}

static void cell(struct table *t, double accuracy)
{
	if (accuracy < 0)
		table_add(t, TERM_PLAIN, "-");
	else
		table_add(t, TERM_PLAIN, "%.1f %%", 100 * accuracy);
}

static void list(const struct picture *p, bool all)
{
	static const struct table_column columns[] = {
		{"DEVICE", false, 0}, {"STATE", false, 0}, {"ACCURACY", true, 0},
		{"BEFORE", true, 1},  {"POINTS", true, 2},
	};
	_cleanup_(table_freep) struct table *t = table_new(columns, ARRAY_LEN(columns));
	for (size_t i = 0; t && i < p->o->n_devices; i++) {
		const struct online_device *d = p->o->devices[i];
		struct takeup u = takeup_of(&p->o->fleet, d, history_of(p->seen, d->id));
		if (!all && (u.state == TAKEUP_LATER || table_rows(t) == ROWS))
			continue;
		table_add(t, TERM_PLAIN, "%s", d->id);
		table_add(t,
			  u.state == TAKEUP_IN_USE    ? TERM_GREEN
			  : u.state == TAKEUP_OFFLINE ? TERM_RED
						      : TERM_PLAIN,
			  "%s", takeup_name(u.state));
		cell(t, u.accuracy);
		cell(t, u.before);
		if (u.accuracy >= 0 && u.before >= 0)
			table_add(t, TERM_PLAIN, "%+.1f", 100 * (u.accuracy - u.before));
		else
			table_add(t, TERM_PLAIN, "-");
	}
	if (!t || !table_rows(t))
		return;
	putchar('\n');
	table_print(t, stdout, term_width(), cli_colour(), SIZE_MAX);
	if (!all && table_rows(t) == ROWS)
		printf("(the first %d of those it is for; --all lists every device)\n", ROWS);
}

static void show_text(const struct picture *p, bool all)
{
	const struct msg_fleet *f = &p->o->fleet;
	char since[CLOCK_TEXT_MAX];
	if (!f->manifest.sequence) {
		printf("nothing is offered to everyone at site %s\n", p->o->site);
		return;
	}
	clock_format(f->manifest.created_ms, since);
	printf("checkpoint  %s\noffered     by %s, since %s\n", f->manifest.id, f->manifest.trainer,
	       since);
	if (f->halted)
		printf("stage       halted: %s\n", f->reason);
	else if (f->share < 100)
		printf("stage       with the first %lld %% of the devices\n", (long long)f->share);
	else
		printf("stage       for all devices\n");
	if (f->test.n)
		printf("tested      %.2f %% (%lld of %lld) on the trainer's images\n",
		       100 * score_accuracy(&f->test), (long long)f->test.correct,
		       (long long)f->test.n);
	if (p->state)
		printf("counted     %lld reports of the first group, %lld took it into use; %+.2f "
		       "points in the mean\n",
		       (long long)p->state->reports, (long long)p->state->activated,
		       p->state->reports ? 100 * p->state->gain / (double)p->state->reports : 0.0);
	printf("devices     %zu:", p->o->n_devices);
	for (int s = TAKEUP_N - 1; s >= 0; s--)
		if (p->counts[s])
			printf(" %zu %s%s", p->counts[s], takeup_name((enum takeup_state)s),
			       s ? ";" : "");
	putchar('\n');
	if (p->compared)
		printf("scores      %+.2f points in the mean of %zu devices\n",
		       100 * p->gain / (double)p->compared, p->compared);
	list(p, all);
}

static struct json *device_json(const struct picture *p, const struct online_device *d)
{
	struct takeup t = takeup_of(&p->o->fleet, d, history_of(p->seen, d->id));
	struct json *j = json_new_obj();
	json_set_str(j, "id", d->id);
	json_set_str(j, "state", takeup_name(t.state));
	if (t.accuracy >= 0)
		json_set_num(j, "accuracy", t.accuracy);
	if (t.before >= 0)
		json_set_num(j, "before", t.before);
	return j;
}

static int show_json(const struct picture *p)
{
	const struct msg_fleet *f = &p->o->fleet;
	struct json *j = json_new_obj();
	json_set_str(j, "site", p->o->site);
	json_set_str(j, "stage", f->manifest.sequence ? stage(f) : "none");
	if (!f->manifest.sequence)
		return cli_print_json(j);
	struct json *devices = json_new_arr(), *counts = json_new_obj();
	json_set_str(j, "checkpoint", f->manifest.id);
	json_set_str(j, "trainer", f->manifest.trainer);
	json_set_int(j, "sequence", f->manifest.sequence);
	json_set_int(j, "share", f->share);
	if (f->halted)
		json_set_str(j, "reason", f->reason);
	for (int s = 0; s < TAKEUP_N; s++)
		json_set_int(counts, takeup_name((enum takeup_state)s), (int64_t)p->counts[s]);
	json_set(j, "counts", counts);
	if (p->compared)
		json_set_num(j, "points", 100 * p->gain / (double)p->compared);
	if (p->state) {
		json_set_int(j, "reports", p->state->reports);
		json_set_int(j, "activated", p->state->activated);
		json_set_num(j, "gain", p->state->gain);
	}
	for (size_t i = 0; i < p->o->n_devices; i++)
		json_push(devices, device_json(p, p->o->devices[i]));
	json_set(j, "devices", devices);
	return cli_print_json(j);
}

static int show(struct online *o, const struct options *opt)
{
	struct rollout_state state;
	struct seen seen = {0};
	struct err err = {0};
	o->on_message = on_history;
	o->user = &seen;
	int r = opt->state ? rollout_state_read(opt->state, &state, &err) : 0;
	if (r == 0)
		r = online_identify(o, &err);
	if (r == 0)
		r = online_connect(o, ONLINE_ALL, &err);
	if (r == 0 && (r = online_subscribe(o, &(struct topic){.kind = TOPIC_DEVICE_HISTORY})) < 0)
		err_errno(&err, r, "histories of site %s", o->site);
	if (r == 0)
		r = online_hear(o);
	if (seen.n)
		qsort(seen.at, seen.n, sizeof(*seen.at), by_device);
	struct picture p = {.o = o, .seen = &seen, .state = opt->state ? &state : NULL};
	if (r == 0)
		count(&p);
	if (r < 0)
		r = cli_fail("rollout", &err);
	else if (opt->json)
		r = show_json(&p);
	else
		show_text(&p, opt->all);
	for (size_t i = 0; i < seen.n; i++)
		free(seen.at[i].history);
	free(seen.at);
	online_done(o);
	return r;
}

static int order(const char *word, const struct options *opt, int64_t timeout_s)
{
	struct err err = {0};
	char id[HASH_SIZE] = "";
	bool taken = false, resume = !strcmp(word, "resume");
	int r = resume ? rollout_resume(opt->state, id, &err)
		       : rollout_order(opt->state, word, timeout_s, &taken, &err);
	if (r < 0)
		return cli_fail("rollout", &err);
	if (opt->json) {
		struct json *j = json_new_obj();
		json_set_str(j, "order", word);
		json_set_bool(j, "taken", taken);
		return cli_print_json(j);
	}
	if (resume)
		printf("checkpoint %.12s: the trainer offers it again, to another first group\n",
		       id);
	else
		printf("%s: %s\n", word,
		       taken ? "done" : "the trainer is away; it takes it when it is back");
	return CLI_OK;
}

int cmd_rollout(int argc, char **argv)
{
	static const char *const words[] = {"halt", "next", "resume"};
	struct online o;
	struct options opt = {0};
	int c;
	optind = 1;
	if (!online_init(&o, argv[0]))
		return CLI_USAGE;
	while ((c = cli_next(&spec_rollout, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG || online_option(&o, c, optarg) < 0)
			return CLI_USAGE;
		if (c == OPT_STATE)
			opt.state = optarg;
		opt.all |= c == OPT_ALL;
		opt.json |= c == CLI_OPT_JSON;
	}
	if (argc - optind > 1)
		return cli_usage("rollout", "found '%s', no further argument expected",
				 argv[optind + 1]);
	if (optind == argc)
		return show(&o, &opt);
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(argv[optind], words[i]) != 0)
			continue;
		return opt.state ? order(words[i], &opt, o.timeout_s)
				 : cli_usage("rollout",
					     "%s: --state is required: it is done on the trainer's "
					     "machine",
					     words[i]);
	}
	return cli_usage("rollout", "found '%s', expected halt, next or resume%s", argv[optind],
			 cli_did_you_mean(cli_nearest(argv[optind], words, ARRAY_LEN(words))));
}
