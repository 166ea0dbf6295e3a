/* tasuki cmd: one command to a device or the whole fleet, and the answers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/follow.h"
#include "cli/online.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/base/mem.h"
#include "common/trust/freshness.h"

#define LATER_S		86400 /* how long a device's session waits for it */
#define REFUSAL_MS	200   /* enough for the broker's answer to a publish */

enum { OPT_LATER = 256, OPT_FOLLOW };

static const struct cli_option options[] = {
	{"later", NULL, "do not wait; the device carries it out when it is there, within a day. A device that has never said anything has no session that would keep it: an error, and nothing is sent", OPT_LATER},
	{"follow", NULL, "after handover: show how far it is, until the device has decided", OPT_FOLLOW},
	ONLINE_OPTIONS,
	CLI_JSON,
	{0},
};
const struct cli_spec spec_cmd = {
	"DEVICE|fleet COMMAND [MEMBER=VALUE ...] [OPTION ...]",
	"  ping | status | train [epochs=N] | handover | pause | resume\n"
	"  pin checkpoint=HASH | unpin | rollback | evaluate [checkpoint=HASH] [split=NAME]\n"
	"  set key=NAME value=TEXT\n\n"
	"Prints \"DEVICE: ok\", and further members of the answer as \"DEVICE: {...}\". An answer that\n"
	"does not come within --timeout lets the command expire; a fleet's answers are collected for\n"
	"all of it.\n",
	options,
	"tasuki cmd cam-1 handover --follow\ntasuki cmd fleet ping --timeout 3",
};

struct wait {
	const char *target;
	char id[ID_SIZE];
	bool fleet, json, later;
	int answers, refusals;
	struct json *all; /* with --json */
};

/* "cam-1: ok", and what else the answer holds as "cam-1: {...}". */
static void print_answer(const struct json *j, const char *device)
{
	struct json *rest = json_new_obj();
	for (const struct json *e = json_first(j); e; e = json_next(e)) {
		const char *key = json_name(e);
		if (strcmp(key, "id") != 0 && strcmp(key, "ok") != 0 && strcmp(key, "device") != 0)
			json_set(rest, key, json_dup(e));
	}
	printf("%s: ok\n", device);
	_cleanup_free_ char *text = json_first(rest) ? cli_json_text(rest) : NULL;
	if (text)
		printf("%s: %s\n", device, text);
	fflush(stdout);
	json_free(rest);
}

static void on_reply(struct online *o, const struct mqtt_message *m)
{
	struct wait *w = o->user;
	struct json *j = command_answer(m, w->id);
	char device[ID_SIZE] = "";
	const char *error = "";
	bool ok = false;
	if (!j)
		return;
	json_get_bool(j, "ok", &ok, NULL);
	if (json_get_str(j, "device", device, sizeof(device), NULL) < 0)
		snprintf(device, sizeof(device), "%s", w->target);
	text_blank_controls(device);
	json_get_text(j, "error", MESSAGE_LARGE_MAX, &error, NULL);
	w->answers++;
	w->refusals += !ok;
	if (w->json) {
		json_push(w->all, j);
		return;
	}
	if (ok)
		print_answer(j, device);
	else
		cli_warn("%s: error: %s", device, error);
	json_free(j);
}

/* MEMBER=VALUE; whole numbers go out as numbers where the protocol has one. */
static bool set_member(struct json *j, const char *cmd, const char *arg)
{
	const char *eq = strchr(arg, '=');
	char key[32];
	int64_t number;
	struct err err = {0};
	if (!eq || eq == arg || (size_t)(eq - arg) >= sizeof(key)) {
		cli_usage("cmd", "found '%s', expected MEMBER=VALUE", arg);
		return false;
	}
	memcpy(key, arg, (size_t)(eq - arg));
	key[eq - arg] = 0;
	if (command_check_member(cmd, key, &err) < 0) {
		cli_usage("cmd", "%s", err.text);
		return false;
	}
	if (json_has(j, key)) {
		cli_usage("cmd", "found '%s=' twice, expected it once", key);
		return false;
	}
	if (strcmp(key, "epochs") != 0) {
		json_set_str(j, key, eq + 1);
		return true;
	}
	if (!cli_int("cmd", "epochs", eq + 1, 1, 1000000, &number))
		return false;
	json_set_int(j, key, number);
	return true;
}

/* The message, checked by the decoder that the device uses: a typing error costs no round trip.
 * expires_ms 0: never. */
static char *compose(int argc, char **argv, const char *id, int64_t expires_ms)
{
	struct json *j = command_new(argv[0], id, expires_ms);
	char got[ID_SIZE];
	bool ok = true;
	for (int i = 1; ok && i < argc; i++)
		ok = set_member(j, argv[0], argv[i]);
	char *text = ok ? json_print(j) : NULL;
	json_free(j);
	struct msg_cmd parsed;
	struct err err = {0};
	if (text && msg_cmd_parse(text, strlen(text), &parsed, got, &err) < 0) {
		const char *names[CMD_N];
		for (int i = 0; i < CMD_N; i++)
			names[i] = cmd_name((enum cmd)i);
		const char *near = cli_nearest(argv[0], names, CMD_N);
		bool exact = near && !strcmp(near, argv[0]);
		cli_usage("cmd", "%s%s", err.text, cli_did_you_mean(exact ? NULL : near));
		free(text);
		return NULL;
	}
	return text;
}

static int never_heard(struct online *o, const struct wait *w, struct err *err)
{
	return err_set(err, -ENOENT,
		       "%s: no device of that name has ever said anything at site %s: nobody gets the "
		       "command (tasuki devices)%s",
		       w->target, o->site, cli_did_you_mean(online_near(o, w->target)));
}

static void say_waiting(struct online *o, const struct wait *w)
{
	const struct online_device *d = w->fleet ? NULL : online_find(o, w->target);
	if (w->fleet)
		online_waits(o, "the fleet's answers, %lld s in all", (long long)o->timeout_s);
	else
		online_waits(o, "the answer of %s%s", w->target,
			     !d				    ? ", of which nothing has been heard"
			     : d->has_presence && !d->online ? ", which is offline"
							     : "");
}

static int no_answer(struct online *o, const struct wait *w, int64_t timeout_s, struct err *err)
{
	struct mqtt_stats stats;
	mqtt_get_stats(o->mqtt, &stats);
	if (stats.out_refused)
		return err_set(err, -EACCES, "%s: the broker refused the command", w->target);
	if (w->fleet)
		return err_set(err, -ETIMEDOUT, "no device of the fleet answered within %lld s",
			       (long long)timeout_s);
	const struct online_device *d = online_find(o, w->target);
	if (!d)
		return never_heard(o, w, err);
	return err_set(err, -ETIMEDOUT, "%s: no answer within %lld s%s; the command has expired", w->target,
		       (long long)timeout_s, d->has_presence && !d->online ? " (it is offline)" : "");
}

/* Takes `unsigned_text`. */
static int send_and_wait(struct online *o, struct wait *w, char *unsigned_text, struct err *err)
{
	int64_t timeout_s = o->timeout_s;
	char topic[TOPIC_SIZE], reply[TOPIC_SIZE];
	int r = online_identify(o, err);
	command_topics(o->site, w->target, o->client, topic, reply);
	_cleanup_free_ char *text = r < 0 ? unsigned_text : command_sign(&o->identity, topic, unsigned_text, err);
	if (r < 0 || !text)
		return r < 0 ? r : err->code;
	r = online_connect(o, w->fleet ? NULL : w->target, err);
	if (r == 0 && w->later && !w->fleet) {
		r = online_hear(o);
		if (r == 0 && !online_find(o, w->target))
			r = never_heard(o, w, err);
	}
	if (r < 0)
		return r;
	struct mqtt_publish p = {.topic = topic, .payload = text, .len = strlen(text), .qos = 1};
	p.response_topic = reply;
	p.expiry_s = w->later ? LATER_S : (uint32_t)timeout_s;
	r = mqtt_publish(o->mqtt, &p);
	if (r < 0)
		return err_errno(err, r, "%s", topic);
	/* A fleet's answers are collected for as long as was said; one device's, until the command has
	 * surely expired. */
	int64_t end = clock_mono_ms() + (w->later   ? REFUSAL_MS
					 : w->fleet ? timeout_s * 1000
						    : timeout_s * 1000 + COMMAND_GRAIN_MS);
	o->waiting_ms = clock_mono_ms();
	while (r == 0 && clock_mono_ms() < end && (w->fleet || !w->answers)) {
		say_waiting(o, w);
		r = online_listen(o, MIN_OF(clock_mono_ms() + 50, end), 0);
	}
	struct mqtt_stats stats;
	mqtt_get_stats(o->mqtt, &stats);
	if (r == 0 && !w->answers && (!w->later || stats.out_refused))
		r = no_answer(o, w, timeout_s, err);
	return r;
}

static int print_result(struct wait *w)
{
	struct json *j = json_new_obj();
	if (!w->json) {
		json_free(j);
		if (w->later && !w->answers)
			printf("queued for %s\n", w->target);
		return w->refusals ? CLI_FAIL : CLI_OK;
	}
	json_set_str(j, "id", w->id);
	json_set(j, "answers", TAKE_PTR(w->all));
	int r = cli_print_json(j);
	return w->refusals ? CLI_FAIL : r;
}

int cmd_cmd(int argc, char **argv)
{
	struct online o;
	struct wait w = {0};
	struct err err = {0};
	bool follow = false;
	int c;
	optind = 1;
	if (!online_init(&o, "cmd"))
		return CLI_USAGE;
	while ((c = cli_next(&spec_cmd, argc, argv)) != CLI_END) {
		if (c == CLI_WRONG || online_option(&o, c, optarg) < 0)
			return CLI_USAGE;
		w.json |= c == CLI_OPT_JSON;
		follow |= c == OPT_FOLLOW;
		w.later |= c == OPT_LATER;
	}
	if (argc - optind < 2)
		return cli_usage("cmd", "a device (or fleet) and a command are expected");
	w.target = argv[optind];
	if (!id_valid(w.target))
		return cli_usage("cmd", "found device '%s', expected letters, digits, '.', '_', '-'", w.target);
	w.fleet = !strcmp(w.target, COMMAND_FLEET);
	if (follow && (w.fleet || w.later || strcmp(argv[optind + 1], cmd_name(CMD_HANDOVER)) != 0))
		return cli_usage("cmd", "--follow goes with handover to one device, without --later");
	command_new_id(w.id);
	/* A signed one says how long it is valid. */
	int64_t valid_ms = w.later ? FRESHNESS_COMMAND_MS : command_valid_ms(o.timeout_s);
	char *text = compose(argc - optind - 1, argv + optind + 1, w.id,
			     *o.identity.certificate ? clock_real_ms() + valid_ms : 0);
	if (!text)
		return CLI_USAGE;
	w.all = json_new_arr();
	o.on_reply = on_reply;
	o.user = &w;
	if (follow)
		follow_prepare(&o, w.target);
	int r = send_and_wait(&o, &w, text, &err);
	if (r == 0 && follow && !w.refusals)
		r = follow_handover(&o, w.json ? w.all : NULL, &err);
	online_done(&o);
	r = r < 0 ? cli_fail("cmd", &err) : print_result(&w);
	json_free(w.all);
	return r;
}
