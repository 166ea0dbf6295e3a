/* tasuki cmd: one command to a device or the whole fleet, and the answers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/online.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rng.h"

#define COMMAND_LIFE_MS 60000

static const char help[] =
	"usage: tasuki cmd DEVICE|fleet COMMAND [MEMBER=VALUE ...] [OPTION ...]\n\n"
	"  ping | status | train [epochs=N] | handover | pause | resume\n"
	"  pin checkpoint=HASH | unpin | rollback | evaluate [checkpoint=HASH] [split=NAME]\n"
	"  set key=NAME value=TEXT\n\n"
	"  --timeout S           wait so long for the answer (5; fleet: always that long)\n"
	"  --later               do not wait; the device carries it out when it is there, within a day\n" ONLINE_HELP
	"  --json\n";

enum { OPT_JSON = 256, OPT_HELP, OPT_TIMEOUT, OPT_LATER };
static const struct option long_options[] = {
	ONLINE_OPTIONS,
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"later", no_argument, NULL, OPT_LATER},
	{0},
};

struct wait {
	char id[ID_SIZE];
	bool fleet, json;
	int answers, refusals;
	struct json *all; /* with --json */
};

static void on_reply(struct online *o, const struct mqtt_message *m)
{
	struct wait *w = o->user;
	struct json *j = NULL;
	char id[ID_SIZE] = "", device[ID_SIZE] = "";
	const char *error = "";
	bool ok = false;
	if (json_parse(m->payload, m->len, MESSAGE_LARGE_MAX, &j, NULL) < 0)
		return;
	json_get_str(j, "id", id, sizeof(id), NULL);
	if (strcmp(id, w->id) != 0) {
		json_free(j);
		return;
	}
	json_get_bool(j, "ok", &ok, NULL);
	json_get_str(j, "device", device, sizeof(device), NULL);
	json_get_text(j, "error", MESSAGE_LARGE_MAX, &error, NULL);
	w->answers++;
	w->refusals += !ok;
	if (w->json) {
		json_push(w->all, j);
		return;
	}
	if (!ok)
		fprintf(stderr, "tasuki cmd: %s%s%s\n", device, device[0] ? ": " : "", error);
	else {
		_cleanup_free_ char *text = json_print(j);
		puts(text ? text : "");
	}
	json_free(j);
}

/* MEMBER=VALUE; whole numbers go out as numbers where the protocol has one. */
static bool set_member(struct json *j, const char *arg)
{
	const char *eq = strchr(arg, '=');
	char key[32];
	int64_t number;
	if (!eq || eq == arg || (size_t)(eq - arg) >= sizeof(key)) {
		cli_usage("cmd", "found '%s', expected MEMBER=VALUE", arg);
		return false;
	}
	memcpy(key, arg, (size_t)(eq - arg));
	key[eq - arg] = 0;
	if (strcmp(key, "epochs") != 0) {
		json_set_str(j, key, eq + 1);
		return true;
	}
	if (!cli_int("cmd", "epochs", eq + 1, 1, 1000000, &number))
		return false;
	json_set_int(j, key, number);
	return true;
}

/* The message, checked by the decoder that the device uses: a typing error costs no round trip. */
static char *compose(int argc, char **argv, const char *id)
{
	struct json *j = json_new_obj();
	char got[ID_SIZE];
	json_set_str(j, "cmd", argv[0]);
	json_set_str(j, "id", id);
	bool ok = true;
	for (int i = 1; ok && i < argc; i++)
		ok = set_member(j, argv[i]);
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
		cli_usage("cmd", "%s%s%s%s", err.text, near && !exact ? "; did you mean '" : "",
			  near && !exact ? near : "", near && !exact ? "'?" : "");
		free(text);
		return NULL;
	}
	return text;
}

static int send_and_wait(struct online *o, struct wait *w, const char *target, const char *text,
			 int64_t timeout_ms, bool later, struct err *err)
{
	char topic[TOPIC_SIZE], reply[TOPIC_SIZE];
	struct topic t = {.kind = w->fleet ? TOPIC_FLEET_CMD : TOPIC_DEVICE_CMD}, rt = {.kind = TOPIC_REPLY};
	if (!w->fleet)
		strcpy(t.device, target);
	strcpy(rt.client, o->client);
	topic_format(topic, o->site, &t);
	topic_format(reply, o->site, &rt);
	int r = online_connect(o, false, err);
	if (r < 0)
		return r;
	struct mqtt_publish p = {.topic = topic, .payload = text, .len = strlen(text), .qos = 1};
	p.response_topic = reply;
	if (!later)
		p.expiry_s = COMMAND_LIFE_MS / 1000;
	r = mqtt_publish(o->mqtt, &p);
	if (r < 0)
		return err_errno(err, r, "%s", topic);
	int64_t end = clock_mono_ms() + (later ? 0 : timeout_ms);
	while (r == 0 && clock_mono_ms() < end && (w->fleet || !w->answers))
		r = online_listen(o, MIN_OF(clock_mono_ms() + 50, end), 0);
	if (r == 0 && !later && !w->answers)
		r = err_set(err, -ETIMEDOUT, "%s: no answer within %lld s; is it online? (tasuki devices)",
			    target, (long long)timeout_ms / 1000);
	return r;
}

int cmd_cmd(int argc, char **argv)
{
	struct online o;
	struct wait w = {0};
	struct err err = {0};
	int64_t timeout_s = 5;
	bool later = false;
	int c;
	optind = 1;
	if (!online_init(&o, "cmd"))
		return CLI_USAGE;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		int r = online_option(&o, c, optarg);
		if (r < 0 || c == '?')
			return CLI_USAGE;
		if (c == OPT_HELP)
			return fputs(help, stdout) < 0 ? CLI_FAIL : CLI_OK;
		if (c == OPT_TIMEOUT && !cli_int("cmd", "--timeout", optarg, 1, 3600, &timeout_s))
			return CLI_USAGE;
		w.json |= c == OPT_JSON;
		later |= c == OPT_LATER;
	}
	if (argc - optind < 2)
		return cli_usage("cmd", "a device (or fleet) and a command are expected");
	const char *target = argv[optind];
	if (!id_valid(target))
		return cli_usage("cmd", "found device '%s', expected letters, digits, '.', '_', '-'", target);
	w.fleet = !strcmp(target, "fleet");
	snprintf(w.id, sizeof(w.id), "%016llx", (unsigned long long)rng_entropy());
	_cleanup_free_ char *text = compose(argc - optind - 1, argv + optind + 1, w.id);
	if (!text)
		return CLI_USAGE;
	w.all = json_new_arr();
	o.on_reply = on_reply;
	o.user = &w;
	int r = send_and_wait(&o, &w, target, text, timeout_s * 1000, later, &err);
	online_done(&o);
	if (r < 0) {
		json_free(w.all);
		return cli_fail("cmd", &err);
	}
	if (!w.json) {
		json_free(w.all);
		return w.refusals ? CLI_FAIL : CLI_OK;
	}
	struct json *j = json_new_obj();
	json_set_str(j, "id", w.id);
	json_set(j, "answers", w.all);
	r = cli_print_json(j);
	return w.refusals ? CLI_FAIL : r;
}
