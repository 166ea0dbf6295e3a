/* tasuki logs: what devices and trainers say over the broker, as lines, as it happens. A machine's
 * own log has paths and names of classes, and stays there. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/lines.h"
#include "cli/online.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/text.h"

#define LISTEN_MS 200

enum { OPT_SECONDS = 256 };

static const struct cli_option options[] = {
	{"seconds", "N", "stop after so long", OPT_SECONDS},
	ONLINE_OPTIONS,
	{"json", NULL, "one JSON object a line, for programs", CLI_OPT_JSON},
	{0},
};
const struct cli_spec spec_logs = {
	"[PATTERN ...] [OPTION ...]",
	"A line for each thing that devices and trainers say from now on: presence, phases, "
	"handovers,\n"
	"jobs, reports and decisions, checkpoints for everyone, answers to you; Ctrl-C ends it. A "
	"PATTERN\n"
	"is as in a shell, on ids of devices and trainers. What a machine's own log says (paths, "
	"names of\n"
	"classes) never leaves it: journalctl -u tasuki-agent there. Times are UTC, of this "
	"machine.\n",
	options,
	"tasuki logs 'cam-*'",
};

struct logs {
	char *const *patterns;
	int n_patterns;
	bool json;
	int64_t seconds;
	const char *who; /* of the message in hand */
};

static bool wanted(const struct logs *l, const char *id)
{
	for (int i = 0; i < l->n_patterns; i++)
		if (*id && fnmatch(l->patterns[i], id, 0) == 0)
			return true;
	return l->n_patterns == 0;
}

static void print_json(const struct logs *l, const char *at, const char *what, const char *text)
{
	struct json *j = json_new_obj();
	json_set_str(j, "at", at);
	json_set_str(j, "who", l->who);
	json_set_str(j, "what", what);
	json_set_str(j, "text", text);
	_cleanup_free_ char *line = json_print(j);
	json_free(j);
	if (line)
		puts(line);
}

static void print(void *user, const char *what, const char *text)
{
	const struct logs *l = user;
	char at[CLOCK_TEXT_MAX];
	clock_format(clock_real_ms(), at);
	if (l->json)
		print_json(l, at, what, text);
	else
		printf("%s%.19s%s %-16s %s\n", cli_colour() ? term_inks[TERM_DIM] : "", at,
		       cli_colour() ? TERM_RESET : "", l->who, text);
	fflush(stdout);
}

static void device_said(struct online *o, const struct online_device *d, const struct topic *t,
			const struct mqtt_message *m)
{
	struct msg_presence p;
	struct msg_status s;
	struct msg_report r;
	if (t->kind == TOPIC_DEVICE_PRESENCE &&
	    msg_presence_parse(m->payload, m->len, &p, NULL) == 0)
		lines_presence(d && d->has_presence ? &d->presence : NULL, &p, print, o->user);
	if (t->kind == TOPIC_DEVICE_STATUS && msg_status_parse(m->payload, m->len, &s, NULL) == 0)
		lines_status(d && d->has_status ? &d->status : NULL, &s, print, o->user);
	if (t->kind == TOPIC_DEVICE_REPORT && msg_report_parse(m->payload, m->len, &r, NULL) == 0) {
		lines_report(&r, print, o->user);
		msg_report_done(&r);
	}
}

static void trainer_said(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	const struct online_trainer *known = NULL;
	struct msg_presence p;
	struct msg_trainer_status s;
	for (size_t i = 0; i < o->n_trainers; i++)
		if (!strcmp(o->trainers[i]->id, t->trainer))
			known = o->trainers[i];
	if (t->kind == TOPIC_TRAINER_PRESENCE &&
	    msg_presence_parse(m->payload, m->len, &p, NULL) == 0)
		lines_presence(known && known->has_presence ? &known->presence : NULL, &p, print,
			       o->user);
	if (t->kind == TOPIC_TRAINER_STATUS &&
	    msg_trainer_status_parse(m->payload, m->len, &s, NULL) == 0)
		lines_trainer(known && known->has_status ? &known->status : NULL, &s, print,
			      o->user);
}

/* What is retained tells what was: only what comes after is of now. */
static void on_message(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	struct logs *l = o->user;
	struct msg_job job;
	struct msg_fleet f;
	const struct online_device *d = online_find(o, t->device);
	l->who = *t->trainer ? t->trainer : *t->device ? t->device : o->site;
	if (m->retained || (!wanted(l, t->device) && !wanted(l, t->trainer)))
		return;
	if (t->kind == TOPIC_TRAINER_JOB && msg_job_parse(m->payload, m->len, &job, NULL) == 0)
		lines_job(d && d->has_job && !strcmp(d->trainer, t->trainer) ? &d->job : NULL, &job,
			  print, l);
	else if (t->kind == TOPIC_FLEET_OFFER && msg_fleet_parse(m->payload, m->len, &f, NULL) == 0)
		lines_fleet(&f, print, l);
	else if (*t->trainer)
		trainer_said(o, t, m);
	else if (*t->device)
		device_said(o, d, t, m);
}

static void on_reply(struct online *o, const struct mqtt_message *m)
{
	struct logs *l = o->user;
	struct json *j = NULL;
	char id[ID_SIZE] = "", device[ID_SIZE] = "", text[512];
	const char *error = "";
	bool ok = false;
	if (json_parse(m->payload, m->len, MESSAGE_LARGE_MAX, &j, NULL) < 0)
		return;
	json_get_str(j, "id", id, sizeof(id), NULL);
	json_get_str(j, "device", device, sizeof(device), NULL);
	json_get_bool(j, "ok", &ok, NULL);
	json_get_text(j, "error", MESSAGE_LARGE_MAX, &error, NULL);
	snprintf(text, sizeof(text), "answer to %s: %s%s", id,
		 ok ? "ok" : "error: ", ok ? "" : error);
	text_blank_controls(text);
	text_blank_controls(device);
	l->who = device;
	if (wanted(l, device))
		print(l, "answer", text);
	json_free(j);
}

static int follow(struct online *o, const struct logs *l)
{
	int64_t end = l->seconds ? clock_mono_ms() + l->seconds * 1000 : INT64_MAX;
	bool up = o->up;
	int r = 0;
	while (r == 0 && !term_interrupted() && clock_mono_ms() < end) {
		r = online_listen(o, MIN_OF(clock_mono_ms() + LISTEN_MS, end), 0);
		if (up != o->up)
			cli_warn(o->up ? "connected again"
				       : "connection to the broker lost; trying again");
		up = o->up;
	}
	return r;
}

int cmd_logs(int argc, char **argv)
{
	struct online o;
	struct logs l = {0};
	struct err err = {0};
	int c, r = CLI_OK;
	optind = 1;
	if (!online_init(&o, argv[0]))
		return CLI_USAGE;
	while ((c = cli_next(&spec_logs, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG || online_option(&o, c, optarg) < 0 ||
		    (c == OPT_SECONDS &&
		     !cli_int("logs", "--seconds", optarg, 1, 1000000, &l.seconds)))
			return CLI_USAGE;
		l.json |= c == CLI_OPT_JSON;
	}
	l.patterns = argv + optind;
	l.n_patterns = argc - optind;
	o.on_message = on_message;
	o.on_reply = on_reply;
	o.user = &l;
	term_catch_interrupt();
	if (online_open(&o, ONLINE_ALL, &err) < 0 || follow(&o, &l) < 0)
		r = cli_fail("logs", &err);
	online_done(&o);
	return r;
}
