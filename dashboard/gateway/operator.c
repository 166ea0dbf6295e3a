#include "dashboard/gateway/operator.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/protocol/message.h"

#define GOODBYE_MS 500

struct pending {
	uint64_t number; /* 0: free */
	char id[ID_SIZE], target[ID_SIZE];
	bool fleet;
	int64_t until_ms;
	uint64_t refused; /* publishes that the broker had refused before */
	struct json *answers;
	uint32_t n;
	size_t bytes;          /* of those that came */
	operator_done_cb done; /* NULL: nobody waits any more */
	void *user;
};

struct operator
{
	const struct gateway_conf *conf;
	char client[ID_SIZE]; /* in topics of answers */
	struct mqtt *mqtt;
	struct loop_source *timer;
	struct pending pending[OPERATOR_PENDING_MAX];
	uint64_t numbers;
};

/* ---- ends ---- */

static void finish(struct operator* o, struct pending *p, const char *error)
{
	struct json *j = json_new_obj();
	json_set(j, "answers", p->answers);
	if (error)
		json_set_str(j, "error", error);
	operator_done_cb done = p->done;
	void *user = p->user;
	log_info("command=%s device=%s answers=%u%s%s", p->id, p->target, p->n, error ? " " : "",
		 error ? error : "");
	*p = (struct pending){0};
	if (done)
		done(user, j);
	else
		json_free(j);
}

static void give_up(struct operator* o, struct pending *p)
{
	char text[ID_MAX + 128] = "";
	struct mqtt_stats stats;
	mqtt_get_stats(o->mqtt, &stats);
	if (stats.out_refused > p->refused)
		snprintf(text, sizeof(text), "%s: the broker refused the command", p->target);
	else if (!p->n)
		snprintf(text, sizeof(text), "%s: no answer within %d s; the command has expired",
			 p->target, OPERATOR_WAIT_S);
	finish(o, p, *text ? text : NULL);
}

static int on_timer(void *user)
{
	struct operator* o = user;
	int64_t now_ms = clock_mono_ms(), next_ms = -1;
	for (size_t i = 0; i < OPERATOR_PENDING_MAX; i++) {
		struct pending *p = &o->pending[i];
		if (p->number && p->until_ms <= now_ms)
			give_up(o, p);
		if (p->number && (next_ms < 0 || p->until_ms < next_ms))
			next_ms = p->until_ms;
	}
	return loop_timer_at(o->timer, next_ms);
}

/* ---- the broker ---- */

static void on_message(void *user, const struct mqtt_message *m)
{
	struct operator* o = user;
	for (size_t i = 0; i < OPERATOR_PENDING_MAX; i++) {
		struct pending *p = &o->pending[i];
		struct json *j = p->number ? command_answer(m, p->id) : NULL;
		if (!j)
			continue;
		if (!json_has(j, "device"))
			json_set_str(j, "device", p->target);
		p->bytes += m->len;
		if (p->n++ < OPERATOR_ANSWERS_MAX && p->bytes <= OPERATOR_BYTES_MAX)
			json_push(p->answers, j);
		else
			json_free(j);
		if (!p->fleet)
			finish(o, p, NULL);
		return;
	}
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	if (state == MQTT_UP)
		log_info("operator: %s", why);
	else
		log_warning("operator: %s", why);
}

int operator_new(struct loop *l, const struct gateway_conf *c, struct operator** ret,
		 struct err *err)
{
	struct mqtt_conf conf = {.port = (int)c->operator_port, .clean_start = true};
	char topic[TOPIC_SIZE], reply[TOPIC_SIZE];
	struct operator* o = calloc(1, sizeof(*o));
	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	struct mqtt_handler h = {.message = on_message, .state = on_state, .user = o};
	o->conf = c;
	command_new_id(o->client);
	snprintf(conf.host, sizeof(conf.host), "%s", c->host);
	snprintf(conf.client_id, sizeof(conf.client_id), "dashboard-operator-%s", o->client);
	int r = *c->operator.certificate ? identity_name(&c->operator, o->client, err) : 0;
	if (r == 0)
		r = identity_tls(&c->operator, & conf.tls, err);
	if (r == 0)
		r = mqtt_new(l, &conf, &h, &o->mqtt, err);
	if (r == 0) {
		r = loop_add_timer(l, on_timer, o, &o->timer);
		if (r == 0)
			r = command_topics(c->site, COMMAND_FLEET, o->client, topic, reply);
		if (r == 0)
			r = mqtt_subscribe(o->mqtt, reply, 1, false);
		if (r < 0)
			err_errno(err, r, "[operator]");
	}
	if (r == 0)
		r = mqtt_start(o->mqtt, err);
	if (r < 0)
		operator_free(o);
	else
		*ret = o;
	return r;
}

void operator_free(struct operator* o)
{
	if (!o)
		return;
	mqtt_free(o->mqtt, GOODBYE_MS, false);
	loop_source_free(o->timer);
	for (size_t i = 0; i < OPERATOR_PENDING_MAX; i++)
		json_free(o->pending[i].answers);
	free(o);
}

/* ---- commands ---- */

/* The message, checked by the decoder that the device uses. */
static int compose(const struct json *wish, const char *cmd, const char *id, int64_t expires_ms,
		   char **ret, struct err *err)
{
	struct json *j = command_new(cmd, id, expires_ms);
	struct msg_cmd parsed;
	char got[ID_SIZE];
	int r = 0;
	for (const struct json *e = json_first(wish); r == 0 && e; e = json_next(e)) {
		const char *key = json_name(e);
		if (strcmp(key, "device") == 0 || strcmp(key, "cmd") == 0)
			continue;
		r = json_has(j, key) ? err_set(err, -EINVAL,
					       "found '%.64s', which is not the page's to say", key)
				     : command_check_member(cmd, key, err);
		json_set(j, key, json_dup(e));
	}
	_cleanup_free_ char *text = json_print(j);
	json_free(j);
	if (r == 0 && !text)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0 && msg_cmd_parse(text, strlen(text), &parsed, got, err) < 0)
		r = -EINVAL;
	if (r == 0)
		*ret = TAKE_PTR(text);
	return r;
}

static int send(struct operator* o, const char *target, char *text, struct err *err)
{
	char topic[TOPIC_SIZE], reply[TOPIC_SIZE];
	int r = command_topics(o->conf->site, target, o->client, topic, reply);
	_cleanup_free_ char *out = command_sign(&o->conf->operator, topic, text, err);
	if (r < 0)
		return err_errno(err, r, "%s", target);
	if (!out)
		return err->code;
	r = mqtt_publish(o->mqtt, &(struct mqtt_publish){.topic = topic,
							 .payload = out,
							 .len = strlen(out),
							 .qos = 1,
							 .expiry_s = OPERATOR_WAIT_S,
							 .response_topic = reply});
	return r < 0 ? err_errno(err, r, "%s", topic) : 0;
}

/* Whom it is for, and what: *fleet is "*". */
static int read_wish(const struct json *wish, char target[ID_SIZE], char cmd[ID_SIZE],
		     struct err *err)
{
	int r = json_is_obj(wish) ? 0 : err_set(err, -EINVAL, "found no object, expected one");
	if (r == 0)
		r = json_get_str(wish, "device", target, ID_SIZE, err);
	if (r == 0)
		r = json_get_str(wish, "cmd", cmd, ID_SIZE, err);
	if (r < 0)
		return -EINVAL;
	if (strcmp(target, "*") == 0)
		strcpy(target, COMMAND_FLEET);
	else if (!id_valid(target) || strcmp(target, COMMAND_FLEET) == 0)
		return err_set(err, -EINVAL, "device: found '%.64s', expected a device's id, or *",
			       target);
	return 0;
}

int operator_command(struct operator* o, const struct json *wish, operator_done_cb done, void *user,
		     uint64_t *ret_number, struct err *err)
{
	struct pending *p = o->pending;
	struct pending new = {.done = done, .user = user};
	char cmd[ID_SIZE], *text = NULL;
	int r = read_wish(wish, new.target, cmd, err);
	if (r < 0)
		return r;
	while (p < o->pending + OPERATOR_PENDING_MAX && p->number)
		p++;
	if (p == o->pending + OPERATOR_PENDING_MAX)
		return err_set(err, -EBUSY, "%d commands wait for answers already",
			       OPERATOR_PENDING_MAX);
	if (!mqtt_is_up(o->mqtt))
		return err_set(err, -ENOTCONN, "no connection to the broker");
	struct mqtt_stats stats;
	mqtt_get_stats(o->mqtt, &stats);
	new.refused = stats.out_refused;
	new.fleet = strcmp(new.target, COMMAND_FLEET) == 0;
	command_new_id(new.id);
	bool secure = *o->conf->operator.certificate;
	r = compose(wish, cmd, new.id,
		    secure ? clock_real_ms() + command_valid_ms(OPERATOR_WAIT_S) : 0, &text, err);
	if (r == 0)
		r = send(o, new.target, text, err);
	if (r < 0)
		return r;
	new.number = *ret_number = ++o->numbers;
	new.until_ms =
		clock_mono_ms() + OPERATOR_WAIT_S * 1000 + (new.fleet ? 0 : COMMAND_GRAIN_MS);
	new.answers = json_new_arr();
	*p = new;
	on_timer(o);
	return 0;
}

void operator_forget(struct operator* o, uint64_t number)
{
	for (size_t i = 0; i < OPERATOR_PENDING_MAX; i++)
		if (o->pending[i].number == number)
			o->pending[i].done = NULL;
}
