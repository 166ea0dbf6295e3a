/* tasuki doctor: the options, the order of the checks, and how they are told. */
#include "cli/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/text.h"

enum { OPT_QUICK = 256 };
static const struct cli_option options[] = {
	{"quick", NULL, "without the worker, which reads all images", OPT_QUICK},
	ONLINE_OPTIONS,
	CLI_JSON,
	{0},
};
const struct cli_spec spec_doctor = {
	"[CONF] [OPTION ...]",
	"Looks for what is wrong with a device's or trainer's set-up, from its configuration\n"
	"(agent.conf, trainer.conf, which says where the broker is), or with the way to the "
	"broker\n"
	"alone. Each check is a line: ok, warning, FAULT or skipped, what was found, and after ->\n"
	"what to do. It changes nothing, and a daemon that runs goes on: run it as that daemon's\n"
	"user.\n"
	"Exit: 0 no fault, 1 faults, 2 bad usage.\n",
	options,
	"tasuki doctor agent.conf",
};

/* ---- telling ---- */

static const char *const words[DOCTOR_STATE_N] = {"ok", "skipped", "warning", "FAULT"};

static void print_line(enum doctor_state state, const char *what, const char *remedy, char *found)
{
	static const enum term_ink inks[DOCTOR_STATE_N] = {TERM_GREEN, TERM_DIM, TERM_YELLOW,
							   TERM_RED};
	bool colour = cli_colour();
	text_blank_controls(found);
	printf("%s%-7s%s %s: %s%s%s\n", colour ? term_inks[inks[state]] : "", words[state],
	       colour ? TERM_RESET : "", what, found, remedy ? " -> " : "", remedy ? remedy : "");
	fflush(stdout);
}

static void add_json(struct json *checks, enum doctor_state state, const char *what,
		     const char *remedy, const char *found)
{
	static const char *const names[DOCTOR_STATE_N] = {"ok", "skipped", "warning", "fault"};
	struct json *j = json_new_obj();
	json_set_str(j, "check", what);
	json_set_str(j, "state", names[state]);
	json_set_str(j, "found", found);
	if (remedy)
		json_set_str(j, "do", remedy);
	json_push(checks, j);
}

void doctor_say(struct doctor *d, enum doctor_state state, const char *what, const char *remedy,
		const char *fmt, ...)
{
	char found[DOCTOR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(found, sizeof(found), fmt, ap);
	va_end(ap);
	d->n[state]++;
	if (d->checks)
		add_json(d->checks, state, what, remedy, found);
	else
		print_line(state, what, remedy, found);
}

/* ---- the configuration ---- */

/* Both daemons' have these, by the same names. */
#define USE(d, its_role, c)                                    \
	do {                                                   \
		(d)->role = (its_role);                        \
		strcpy((d)->id, (c)->id);                      \
		strcpy((d)->state, (c)->state);                \
		(d)->worker = (c)->worker;                     \
		(d)->online.identity = (c)->identity;          \
		strcpy((d)->online.site, (c)->site);           \
		strcpy((d)->online.mqtt_conf.host, (c)->host); \
		(d)->online.mqtt_conf.port = (int)(c)->port;   \
	} while (0)

static int is_trainers(const char *path, bool *ret, struct err *err)
{
	struct conf *c;
	int r = conf_load(path, &c, err);
	if (r < 0)
		return r;
	r = cli_is_trainers(c, path, ret, err);
	conf_free(c);
	return r;
}

/* 1: all is well; 0: its keys are, so what it names can be looked at one by one. */
static int load(struct doctor *d, struct err *err)
{
	bool trainer = false;
	struct err again = {0};
	int r = is_trainers(d->path, &trainer, err);
	if (r < 0)
		return r;
	if (trainer)
		d->trainer = calloc(1, sizeof(*d->trainer));
	else
		d->agent = calloc(1, sizeof(*d->agent));
	if (!d->trainer && !d->agent)
		return err_errno(err, -ENOMEM, "%s", d->path);
	r = trainer ? trainer_conf_load(d->path, d->trainer, err)
		    : agent_conf_load(d->path, d->agent, err);
	int read = r == 0    ? 0
		   : trainer ? trainer_conf_read(d->path, d->trainer, &again)
			     : agent_conf_read(d->path, d->agent, &again);
	if (read < 0)
		return r;
	if (trainer)
		USE(d, ROLE_TRAINER, d->trainer);
	else
		USE(d, ROLE_DEVICE, d->agent);
	return r == 0;
}

static bool look_at_conf(struct doctor *d)
{
	static const char *const rest[] = {"certificate", "broker", "clock",  "state folder",
					   "network",     "disk",   "worker", "data set"};
	struct err err = {0};
	int r = load(d, &err);
	if (r == 1) {
		doctor_ok(d, "configuration", "%s: %s %s of site %s", d->path, role_name(d->role),
			  d->id, d->online.site);
		return true;
	}
	doctor_say(d, DOCTOR_FAULT, "configuration",
		   r == 0 ? "put there what is missing, or change the key"
			  : "correct the file; deploy/examples has every key and what it takes",
		   "%s", err.text);
	for (size_t i = 0; r < 0 && i < ARRAY_LEN(rest); i++)
		doctor_say(d, DOCTOR_SKIPPED, rest[i], NULL, "needs the configuration");
	return r == 0;
}

static void look_at_machine(struct doctor *d)
{
	doctor_folder(d);
	doctor_clock(d);
	doctor_model(d);
	doctor_disk(d);
	doctor_worker(d);
	if (d->agent)
		doctor_when(d);
}

static int finish(struct doctor *d)
{
	int code = d->n[DOCTOR_FAULT] ? CLI_FAIL : CLI_OK;
	if (d->checks) {
		struct json *j = json_new_obj();
		json_set_bool(j, "ok", code == CLI_OK);
		json_set_int(j, "faults", d->n[DOCTOR_FAULT]);
		json_set_int(j, "warnings", d->n[DOCTOR_WARNING]);
		json_set(j, "checks", TAKE_PTR(d->checks));
		return cli_print_json(j) == CLI_OK ? code : CLI_FAIL;
	}
	printf("%u fault%s, %u warning%s\n", d->n[DOCTOR_FAULT], d->n[DOCTOR_FAULT] == 1 ? "" : "s",
	       d->n[DOCTOR_WARNING], d->n[DOCTOR_WARNING] == 1 ? "" : "s");
	return code;
}

static void done(struct doctor *d)
{
	json_free(d->checks);
	model_free(d->model);
	classes_done(&d->classes);
	private_names_done(&d->names);
	online_done(&d->online);
	free(d->agent);
	free(d->trainer);
	free(d);
}

/* CLI_OK, or what to exit with. */
static int read_options(struct doctor *d, int argc, char **argv)
{
	bool given = false;
	int c, r;
	optind = 1;
	while ((c = cli_next(&spec_doctor, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG)
			return CLI_USAGE;
		if (c == OPT_QUICK)
			d->quick = true;
		else if (c == CLI_OPT_JSON)
			d->checks = d->checks ? d->checks : json_new_arr();
		else if ((r = online_option(&d->online, c, optarg)) <= 0)
			return CLI_USAGE;
		else
			given = true;
	}
	if (argc - optind > 1)
		return cli_usage("doctor", "found %d arguments, expected one configuration at most",
				 argc - optind);
	d->path = argv[optind];
	if (d->path && given)
		return cli_usage("doctor",
				 "%s says where the broker is: no options for that beside it",
				 d->path);
	return CLI_OK;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor *d = calloc(1, sizeof(*d));
	if (!d)
		return CLI_FAIL;
	d->role = ROLE_OPERATOR;
	int code = online_init(&d->online, "doctor") ? read_options(d, argc, argv) : CLI_USAGE;
	if (code == CLI_OK && (!d->path || look_at_conf(d))) {
		if (d->path)
			look_at_machine(d);
		doctor_certificates(d);
		doctor_broker(d);
	}
	if (code == CLI_OK)
		code = finish(d);
	done(d);
	return code;
}
