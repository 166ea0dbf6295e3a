#include "cli/online.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/trust/signed.h"

#define PORT_PLAIN	   1883
/* Silence after which nothing retained is expected any more: before any has come, while its end is
 * awaited (a broker may have dropped that), and after it (one that does not keep to the order). */
#define QUIET_NONE_MS	   250
#define QUIET_ASKED_MS	   2000
#define QUIET_PASSED_MS	   20

static bool set_broker(struct online *o, const char *value)
{
	const char *colon = strrchr(value, ':');
	size_t len = colon ? (size_t)(colon - value) : strlen(value);
	int64_t port = 0;
	if (!len || len >= sizeof(o->mqtt_conf.host)) {
		cli_usage(o->name, "--broker: found '%s', expected HOST or HOST:PORT", value);
		return false;
	}
	if (colon && !cli_int(o->name, "--broker", colon + 1, 1, 65535, &port))
		return false;
	memcpy(o->mqtt_conf.host, value, len);
	o->mqtt_conf.host[len] = 0;
	o->mqtt_conf.port = (int)port;
	return true;
}

static bool set_site(struct online *o, const char *value)
{
	if (!id_valid(value)) {
		cli_usage(o->name, "--site: found '%s', expected letters, digits, '.', '_', '-'", value);
		return false;
	}
	strcpy(o->site, value);
	return true;
}

/* `path` is of a field of o->identity. */
static bool set_path(struct online *o, const char *option, char path[FILE_PATH_MAX], const char *value)
{
	if (file_path(path, FILE_PATH_MAX, "%s", value) < 0) {
		cli_usage(o->name, "%s: found %zu bytes, expected at most %d", option, strlen(value),
			  FILE_PATH_MAX - 1);
		return false;
	}
	return true;
}

static const char *from_environment(const char *name, const char *fallback)
{
	const char *value = getenv(name);
	return value && *value ? value : fallback;
}

bool online_init(struct online *o, const char *name)
{
	*o = (struct online){.name = name, .timeout_s = ONLINE_TIMEOUT_S};
	o->mqtt_conf.clean_start = true;
	o->mqtt_conf.keepalive_s = 30;
	/* One person may run several tools at a time: each has a client id of its own. */
	snprintf(o->client, sizeof(o->client), "tasuki-%016llx", (unsigned long long)rng_entropy());
	strcpy(o->mqtt_conf.client_id, o->client);
	struct identity_paths *i = &o->identity;
	return set_broker(o, from_environment("TASUKI_BROKER", "127.0.0.1")) &&
	       set_site(o, from_environment("TASUKI_SITE", "home")) &&
	       set_path(o, "TASUKI_CERTIFICATE", i->certificate,
			from_environment("TASUKI_CERTIFICATE", "")) &&
	       set_path(o, "TASUKI_KEY", i->key, from_environment("TASUKI_KEY", "")) &&
	       set_path(o, "TASUKI_AUTHORITIES", i->authorities,
			from_environment("TASUKI_AUTHORITIES", ""));
}

int online_option(struct online *o, int option, const char *value)
{
	if (option == 'b')
		return set_broker(o, value) ? 1 : -1;
	if (option == 's')
		return set_site(o, value) ? 1 : -1;
	if (option == 'c')
		return set_path(o, "--certificate", o->identity.certificate, value) ? 1 : -1;
	if (option == 'k')
		return set_path(o, "--key", o->identity.key, value) ? 1 : -1;
	if (option == 'T')
		return cli_int(o->name, "--timeout", value, 1, 3600, &o->timeout_s) ? 1 : -1;
	if (option == 'a')
		return set_path(o, "--authorities", o->identity.authorities, value) ? 1 : -1;
	return 0;
}

/* Finds or makes the row of `id` among pointers to rows, sorted by the id that each row begins with. */
static void *row_of(void ***rows, size_t *n, size_t size, size_t max, const char *id)
{
	size_t lo = 0, hi = *n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp((*rows)[mid], id);
		if (c == 0)
			return (*rows)[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* Grown when n is a power of two. */
	void **grown = *rows;
	if (*n < max && (*n & (*n - 1)) == 0)
		grown = realloc(grown, (*n ? 2 * *n : 1) * sizeof(*grown));
	char *row = *n < max && grown ? calloc(1, size) : NULL;
	if (grown)
		*rows = grown;
	if (!row)
		return NULL;
	strcpy(row, id);
	memmove(grown + lo + 1, grown + lo, (*n - lo) * sizeof(*grown));
	grown[lo] = row;
	(*n)++;
	return row;
}

static void on_device(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	struct online_device *d = row_of((void ***)&o->devices, &o->n_devices, sizeof(*d),
					 ONLINE_DEVICES_MAX, t->device);
	struct msg_report report;
	if (!d)
		return;
	if (t->kind == TOPIC_DEVICE_PRESENCE) {
		struct msg_presence p;
		/* A Will of an older boot comes late: it says nothing about this one. */
		if (msg_presence_parse(m->payload, m->len, &p, NULL) == 0 &&
		    (!d->has_presence || p.boot >= d->presence.boot)) {
			d->presence = p;
			d->has_presence = true;
		}
	} else if (t->kind == TOPIC_DEVICE_STATUS) {
		if (msg_status_parse(m->payload, m->len, &d->status, NULL) == 0)
			d->has_status = true;
	} else if (msg_report_parse(m->payload, m->len, &report, NULL) == 0) {
		if (d->has_report)
			msg_report_done(&d->report);
		d->report = report;
		d->has_report = true;
	}
	d->online = d->has_presence && d->presence.online;
	d->changed = true;
}

static void on_trainer(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	if (t->kind == TOPIC_TRAINER_JOB) {
		struct online_device *d = row_of((void ***)&o->devices, &o->n_devices, sizeof(*d),
						 ONLINE_DEVICES_MAX, t->device);
		if (d && msg_job_parse(m->payload, m->len, &d->job, NULL) == 0) {
			d->has_job = d->changed = true;
			strcpy(d->trainer, t->trainer);
		}
		return;
	}
	struct online_trainer *r = row_of((void ***)&o->trainers, &o->n_trainers, sizeof(*r),
					  ONLINE_TRAINERS_MAX, t->trainer);
	if (!r)
		return;
	if (t->kind == TOPIC_TRAINER_PRESENCE &&
	    msg_presence_parse(m->payload, m->len, &r->presence, NULL) == 0)
		r->has_presence = true;
	if (t->kind == TOPIC_TRAINER_STATUS &&
	    msg_trainer_status_parse(m->payload, m->len, &r->status, NULL) == 0)
		r->has_status = true;
}

static void on_fleet(struct online *o, const struct mqtt_message *m)
{
	struct msg_fleet f;
	if (m->len == 0)
		o->fleet.manifest.sequence = 0; /* somebody took it back */
	else if (msg_fleet_parse(m->payload, m->len, &f, NULL) == 0)
		o->fleet = f;
}

/* True: it has been handled before. */
static bool is_fence(struct online *o, const char *topic)
{
	struct online_fence *f = &o->fence;
	o->retained_ms = o->last_message_ms;
	if (f->phase == FENCE_NONE) {
		snprintf(f->topic, sizeof(f->topic), "%s", topic);
		f->phase = FENCE_SEEN;
	} else if (f->phase == FENCE_ASKED && strcmp(f->topic, topic) == 0) {
		f->phase = FENCE_PASSED;
		return true;
	}
	return false;
}

static void on_message(void *user, const struct mqtt_message *m)
{
	struct online *o = user;
	struct topic t;
	o->last_message_ms = clock_mono_ms();
	if (m->retained && is_fence(o, m->topic))
		return;
	if (topic_parse(m->topic, o->site, &t) < 0)
		return;
	if (o->on_message)
		o->on_message(o, &t, m);
	switch (t.kind) {
	case TOPIC_DEVICE_PRESENCE:
	case TOPIC_DEVICE_STATUS:
	case TOPIC_DEVICE_REPORT:
		on_device(o, &t, m);
		break;
	case TOPIC_TRAINER_PRESENCE:
	case TOPIC_TRAINER_STATUS:
	case TOPIC_TRAINER_JOB:
		on_trainer(o, &t, m);
		break;
	case TOPIC_FLEET_OFFER:
		on_fleet(o, m);
		break;
	case TOPIC_REPLY:
		if (o->on_reply)
			o->on_reply(o, m);
		break;
	default:
		break;
	}
}

static void on_state(void *user, enum mqtt_state state, const char *why)
{
	struct online *o = user;
	o->up = state == MQTT_UP;
	if (o->up)
		return;
	o->fence.phase = FENCE_NONE; /* all that is kept will come again */
	snprintf(o->why_down, sizeof(o->why_down), "%s", why);
}

static int subscribe(struct online *o, const char *device)
{
	static const enum topic_kind kinds[] = {
		TOPIC_DEVICE_PRESENCE,	TOPIC_DEVICE_STATUS,  TOPIC_DEVICE_REPORT,
		TOPIC_TRAINER_PRESENCE, TOPIC_TRAINER_STATUS, TOPIC_TRAINER_JOB,
		TOPIC_FLEET_OFFER,
	};
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct topic t = {.kind = kinds[i]};
		snprintf(t.device, sizeof(t.device), "%s", device);
		int r = online_subscribe(o, &t);
		if (r < 0)
			return r;
	}
	return 0;
}

int online_identify(struct online *o, struct err *err)
{
	const struct identity_paths *i = &o->identity;
	const char *key = !*i->certificate ? "certificate" : !*i->key ? "key" : "authorities";
	struct err why = {0};
	int r = 0;
	bool secure = *i->certificate || *i->key || *i->authorities;
	if (!o->mqtt_conf.port)
		o->mqtt_conf.port = secure ? ROLE_PORT(ROLE_OPERATOR) : PORT_PLAIN;
	if (!secure)
		return 0;
	if (!*i->certificate || !*i->key || !*i->authorities)
		return err_set(err, -ENOENT,
			       "--%s: found none, expected certificate, key and authorities together",
			       key);
	r = identity_check(i, &key, &why);
	if (r < 0)
		return err_set(err, r, "--%s: %s", key, why.text);
	/* That they belong together: TLS would only say that there is no connection. */
	struct signer *own;
	r = signer_read(i, &own, err);
	if (r < 0)
		return r;
	signer_free(own);
	/* Answers come where this person may read, to all of the person's tools: each knows its own by
	 * the command's id. */
	r = identity_name(i, o->client, err);
	return r < 0 ? r : identity_tls(i, &o->mqtt_conf.tls, err);
}

int online_connect(struct online *o, const char *device, struct err *err)
{
	struct mqtt_handler h = {.message = on_message, .state = on_state, .user = o};
	int r = loop_new(&o->loop);
	if (r < 0)
		return err_errno(err, r, "epoll");
	r = mqtt_new(o->loop, &o->mqtt_conf, &h, &o->mqtt, err);
	if (r < 0)
		return r;
	char mine[TOPIC_SIZE];
	struct topic t = {.kind = TOPIC_REPLY};
	strcpy(t.client, o->client);
	r = topic_format(mine, o->site, &t);
	if (r == 0)
		r = mqtt_subscribe(o->mqtt, mine, 1, false);
	if (r == 0 && device)
		r = subscribe(o, device);
	if (r < 0)
		return err_errno(err, r, "subscriptions of site %s", o->site);
	snprintf(o->why_down, sizeof(o->why_down), "broker %s:%d: no answer yet", o->mqtt_conf.host,
		 o->mqtt_conf.port);
	r = mqtt_start(o->mqtt, err);
	int64_t start = o->waiting_ms = clock_mono_ms();
	while (r == 0 && !o->up) {
		if (clock_mono_ms() - start > o->timeout_s * 1000)
			return err_set(err, -ETIMEDOUT,
				       "no connection to the %s (tasuki doctor says what to do)",
				       o->why_down);
		online_waits(o, "the %s", o->why_down);
		r = loop_once(o->loop, 50);
	}
	return r;
}

int online_open(struct online *o, const char *device, struct err *err)
{
	int r = online_identify(o, err);
	if (r == 0)
		r = online_connect(o, device, err);
	return r == 0 ? online_hear(o) : r;
}

void online_waits(struct online *o, const char *fmt, ...)
{
	char text[512];
	if (!o->waiting_ms || clock_mono_ms() - o->waiting_ms < ONLINE_SAY_MS)
		return;
	o->waiting_ms = 0;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cli_warn("waiting for %s", text);
}

int online_listen(struct online *o, int64_t until_ms, int quiet_ms)
{
	int64_t begun = clock_mono_ms();
	for (;;) {
		int64_t now = clock_mono_ms();
		int64_t heard = MAX_OF(begun, o->last_message_ms);
		if (now >= until_ms || (quiet_ms && now - heard >= quiet_ms))
			return 0;
		int r = loop_once(o->loop, (int)MIN_OF(until_ms - now, 50));
		if (r < 0)
			return r;
	}
}

static int64_t quiet_ms(const struct online *o)
{
	switch (o->fence.phase) {
	case FENCE_ASKED:
		return QUIET_ASKED_MS;
	case FENCE_PASSED:
		return QUIET_PASSED_MS;
	default:
		return QUIET_NONE_MS;
	}
}

/* True: its topic is not one that is subscribed to otherwise. */
static bool ask_for_fence(struct online *o)
{
	bool added = !mqtt_has_filter(o->mqtt, o->fence.topic);
	o->fence.phase = FENCE_ASKED;
	mqtt_subscribe(o->mqtt, o->fence.topic, 1, true);
	return added;
}

int online_hear(struct online *o)
{
	int64_t now, start = o->waiting_ms = clock_mono_ms(), answered = start;
	bool added = false;
	int r = 0;
	o->fence.phase = FENCE_NONE;
	for (;;) {
		now = clock_mono_ms();
		if (!mqtt_is_subscribed(o->mqtt))
			answered = now; /* a slow broker's silence before it looks means nothing */
		else if (o->fence.phase == FENCE_SEEN)
			added = ask_for_fence(o);
		if (r < 0 || now - MAX_OF(answered, o->retained_ms) >= quiet_ms(o) ||
		    now - MAX_OF(start, o->retained_ms) >= o->timeout_s * 1000)
			break;
		online_waits(o, "the rest of what the broker keeps (%zu devices so far)", o->n_devices);
		r = loop_once(o->loop, QUIET_PASSED_MS);
	}
	if (o->fence.phase == FENCE_SEEN || o->fence.phase == FENCE_ASKED)
		cli_warn("the broker fell silent before it had sent all that it keeps: some may be missing");
	if (added)
		mqtt_unsubscribe(o->mqtt, o->fence.topic);
	return r;
}

int online_subscribe(struct online *o, const struct topic *t)
{
	char filter[TOPIC_SIZE];
	int r = topic_filter(filter, o->site, t, NULL);
	return r < 0 ? r : mqtt_subscribe(o->mqtt, filter, 1, true);
}

const char *online_near(struct online *o, const char *id)
{
	if (online_subscribe(o, &(struct topic){.kind = TOPIC_DEVICE_PRESENCE}) < 0 || online_hear(o) < 0)
		return NULL;
	_cleanup_free_ const char **ids = calloc(o->n_devices + 1, sizeof(*ids));
	for (size_t i = 0; ids && i < o->n_devices; i++)
		ids[i] = o->devices[i]->id;
	return ids ? cli_nearest(id, ids, o->n_devices) : NULL;
}

const struct online_device *online_find(const struct online *o, const char *id)
{
	for (size_t i = 0; i < o->n_devices; i++)
		if (!strcmp(o->devices[i]->id, id) &&
		    (o->devices[i]->has_presence || o->devices[i]->has_status || o->devices[i]->has_report))
			return o->devices[i];
	return NULL;
}

int online_get(struct online *o, const char *id, const struct online_device **ret, struct err *err)
{
	const struct online_device *d = online_find(o, id);
	if (!d)
		return err_set(err, -ENOENT, "no device '%s' has said anything at site %s%s", id, o->site,
			       cli_did_you_mean(online_near(o, id)));
	*ret = d;
	return 0;
}

void online_done(struct online *o)
{
	mqtt_free(o->mqtt, 500, false);
	loop_free(o->loop);
	for (size_t i = 0; i < o->n_devices; i++) {
		if (o->devices[i]->has_report)
			msg_report_done(&o->devices[i]->report);
		free(o->devices[i]);
	}
	for (size_t i = 0; i < o->n_trainers; i++)
		free(o->trainers[i]);
	free(o->devices);
	free(o->trainers);
}
