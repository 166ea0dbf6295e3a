/* What tasuki doctor looks at between this machine and its site: certificates, the broker, who else
 * is there, and their clocks. */
#include "cli/doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/mqtt/probe.h"
#include "common/trust/trust.h"

#define PROBE_MS 4000
#define ECHO_MS  2000
#define DAY_MS   (86400LL * 1000)
/* Clocks: what crosses the broker takes less than that; and statuses are repeated so often. */
#define CLOCK_AHEAD_MS 60000
#define STATUS_OLD_MS  (20 * 60000)
#define MANY_CLOCKS    3 /* of so many most are right */

/* ---- certificates ---- */

static bool is_loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
	       strcmp(host, "::1") == 0;
}

static void look_at_plain(struct doctor *d)
{
	d->trusted = true;
	if (is_loopback(d->online.mqtt_conf.host))
		doctor_ok(d, "certificate", "none, and the broker is on this machine");
	else
		doctor_say(d, DOCTOR_WARNING, "certificate",
			   "a section [identity] (docs/operations.md, \"A secured site\")",
			   "none: everybody on the way to %s reads and alters everything",
			   d->online.mqtt_conf.host);
}

static const char *remedy_of(int code, const char *text)
{
	switch (code) {
	case -EKEYEXPIRED:
		return strstr(text, "not yet")
			       ? "set the clock of this machine"
			       : "deploy/pki renew, and put the new file in its place";
	case -EKEYREVOKED:
		return "deploy/pki request and issue: a new key, for whoever has the old one may "
		       "be "
		       "somebody else";
	case -EKEYREJECTED:
		return strstr(text, "list of revoked")
			       ? "deploy/pki crl, and copy the folder authorities anew"
			       : "the certificate that this site's deploy/pki has issued for this "
				 "role, and its folder authorities";
	default:
		return "copy it anew from where deploy/pki has made it";
	}
}

static bool look_at_files(struct doctor *d, const struct identity_paths *p)
{
	const char *key, *remedy = "copy it from where deploy/pki has made it, or correct the path";
	char chmod[FILE_PATH_MAX + 16];
	struct err err = {0};
	int r = identity_check(p, &key, &err);
	if (r == 0)
		return true;
	if (strcmp(key, "key") == 0 && file_exists(p->key)) {
		snprintf(chmod, sizeof(chmod), "chmod 600 %s", p->key);
		remedy = chmod;
	}
	doctor_say(d, DOCTOR_FAULT, "certificate", remedy, "%s: %s", key, err.text);
	return false;
}

static bool look_at_name(struct doctor *d, const struct identity_paths *p)
{
	char name[ID_SIZE];
	struct err err = {0};
	if (!d->path)
		return true;
	if (identity_name(p, name, &err) < 0)
		doctor_say(d, DOCTOR_FAULT, "certificate", remedy_of(0, ""), "%s", err.text);
	else if (strcmp(name, d->id) != 0)
		doctor_say(d, DOCTOR_FAULT, "certificate",
			   "the certificate for this id, or the id that is in it",
			   "%s is that of '%s', and this is %s '%s'", p->certificate, name,
			   role_name(d->role), d->id);
	else
		return true;
	return false;
}

/* One of the authorities, for what others sign: its own certificate, and its list. */
static void look_at_authority(struct doctor *d, const struct identity_paths *p, enum role role)
{
	char crt[FILE_PATH_MAX], crl[FILE_PATH_MAX], at[CLOCK_TEXT_MAX];
	struct certifier *c;
	if (identity_authority(p, role, "crt", crt) < 0 ||
	    identity_authority(p, role, "crl", crl) < 0 || certifier_read(crt, crl, &c, NULL) < 0)
		return; /* trust_new() has said so */
	int64_t until_ms = certifier_until_ms(c), now_ms = clock_real_ms();
	certifier_free(c);
	if (until_ms >= now_ms + TRUST_WARN_MS)
		return;
	clock_format(until_ms, at);
	doctor_say(d, until_ms < now_ms ? DOCTOR_FAULT : DOCTOR_WARNING, "authorities",
		   "deploy/pki crl (or renew, for the authority itself), and copy the folder "
		   "authorities anew",
		   "%s or its list of revoked certificates, %s, %s at %s: nobody of that role is "
		   "believed then",
		   crt, crl, until_ms < now_ms ? "ended" : "ends", at);
}

static void tell_end(struct doctor *d, struct trust *t, const struct identity_paths *p)
{
	char at[CLOCK_TEXT_MAX] = "?", name[ID_SIZE] = "";
	unsigned char der[CERTIFICATE_MAX];
	struct certificate c;
	struct err err = {0};
	size_t len;
	if (trust_watch(t, clock_real_ms(), &err) < 0) {
		doctor_say(d, DOCTOR_WARNING, "certificate", remedy_of(-EKEYEXPIRED, ""), "%s",
			   err.text);
		return;
	}
	if (certificate_read(p->certificate, der, &len, NULL) == 0 &&
	    certificate_parse(der, len, &c, NULL) == 0) {
		clock_format(c.until_ms, at);
		memcpy(name, c.name, ID_SIZE);
	}
	doctor_ok(d, "certificate", "of %s %s, with its key, until %s", role_name(d->role), name,
		  at);
}

void doctor_certificates(struct doctor *d)
{
	const struct identity_paths *p = &d->online.identity;
	struct trust *t = NULL;
	struct err err = {0}, other = {0};
	if (!*p->certificate && !*p->key && !*p->authorities) {
		look_at_plain(d);
		return;
	}
	if (!look_at_files(d, p) || !look_at_name(d, p))
		return;
	int r = trust_new(p, d->role, clock_real_ms(), &t, &err);
	/* A person's may be for looking only. */
	if (r < 0 && !d->path && trust_new(p, ROLE_DASHBOARD, clock_real_ms(), &t, &other) == 0) {
		d->role = ROLE_DASHBOARD;
		r = 0;
	}
	if (r < 0) {
		doctor_say(d, DOCTOR_FAULT, "certificate", remedy_of(r, err.text), "%s", err.text);
		return;
	}
	d->trusted = true;
	tell_end(d, t, p);
	trust_free(t);
	for (int i = 0; i < ROLE_N; i++)
		look_at_authority(d, p, (enum role)i);
}

/* ---- the way to the broker ---- */

static const char *remedy_at(const struct doctor *d, enum probe_step step, char *text, size_t size)
{
	bool secure = *d->online.identity.certificate;
	switch (step) {
	case PROBE_RESOLVE:
		return "correct [broker] host, or the machine's name service (/etc/hosts, DNS)";
	case PROBE_CONNECT:
		snprintf(text, size,
			 "start the broker, open the firewall, or correct [broker] host and port "
			 "(%d "
			 "for %ss %s a certificate)",
			 secure ? ROLE_PORT(d->role) : 1883, role_name(d->role),
			 secure ? "with" : "without");
		return text;
	case PROBE_TLS:
		snprintf(text, size,
			 "the port of the broker's TLS listener for %ss, %d unless it was changed",
			 role_name(d->role), ROLE_PORT(d->role));
		return text;
	case PROBE_BROKER:
		return "authorities/broker.crt of this site; or a new certificate for the broker "
		       "(deploy/pki renew); or the clock";
	case PROBE_HOST:
		return "as [broker] host the name that is in the broker's certificate, or "
		       "deploy/pki "
		       "issue ... --also NAME for it";
	case PROBE_ADMITTED:
		snprintf(text, size,
			 "the port of the listener for %ss (%d unless it was changed); or the "
			 "broker "
			 "has old authorities or lists: its log says why",
			 role_name(d->role), ROLE_PORT(d->role));
		return text;
	case PROBE_DONE:
		break;
	}
	return "";
}

static void tell_way(struct doctor *d, const struct probe *p, bool tls)
{
	const struct mqtt_conf *m = &d->online.mqtt_conf;
	int64_t left_ms = p->until_ms - clock_real_ms();
	if (!tls)
		doctor_ok(d, "broker", "%s (%s), port %d: somebody listens", m->host, p->address,
			  m->port);
	else if (p->until_ms && left_ms < TRUST_WARN_MS)
		doctor_say(d, DOCTOR_WARNING, "broker",
			   "deploy/pki renew pki broker ..., and restart the broker",
			   "%s (%s), port %d: TLS; its certificate ends in %lld days", m->host,
			   p->address, m->port, (long long)(left_ms / DAY_MS));
	else
		doctor_ok(d, "broker",
			  "%s (%s), port %d: TLS, its certificate is for this name, and it takes "
			  "ours",
			  m->host, p->address, m->port);
}

static bool look_at_way(struct doctor *d)
{
	struct mqtt_conf *m = &d->online.mqtt_conf;
	struct mqtt_tls tls = {.authority = ""};
	struct probe p = {.step = PROBE_TLS};
	struct err err = {0};
	char text[200];
	int r = d->trusted ? identity_tls(&d->online.identity, &tls, &err) : 0;
	if (!m->port)
		m->port = *d->online.identity.certificate ? ROLE_PORT(d->role) : 1883;
	if (r == 0)
		r = probe_broker(m->host, m->port, &tls, PROBE_MS, &p, &err);
	if (r < 0) {
		doctor_say(d, DOCTOR_FAULT, "broker", remedy_at(d, p.step, text, sizeof(text)),
			   "%s, port %d: %s", m->host, m->port, err.text);
		return false;
	}
	tell_way(d, &p, *tls.authority);
	return true;
}

/* ---- at the broker ---- */

static void on_reply(struct online *o, const struct mqtt_message *m)
{
	*(bool *)o->user = true;
}

/* What a program of this role may write comes back, or is acknowledged: an answer that nobody waits
 * for. */
static void look_at_writing(struct doctor *d)
{
	struct online *o = &d->online;
	struct topic t = {.kind = TOPIC_REPLY};
	struct mqtt_stats stats;
	char topic[TOPIC_SIZE];
	bool back = false, plain = !*o->identity.certificate;
	if (!plain && d->role != ROLE_TRAINER)
		return; /* others may not */
	strcpy(t.client, o->client);
	o->on_reply = on_reply;
	o->user = &back;
	if (topic_format(topic, o->site, &t) < 0)
		return;
	const struct mqtt_publish p = {.topic = topic, .payload = "{}", .len = 2, .qos = 1};
	int r = mqtt_publish(o->mqtt, &p);
	/* A broker answers in order: when it has answered this, it has answered the other one. */
	if (r == 0)
		r = mqtt_subscribe(o->mqtt, topic, 1, false);
	for (int64_t until = clock_mono_ms() + ECHO_MS;
	     r == 0 && !(plain ? back : mqtt_is_subscribed(o->mqtt)) && clock_mono_ms() < until;) {
		online_listen(o, clock_mono_ms() + 20, 0);
		mqtt_get_stats(o->mqtt, &stats);
		if (stats.out_refused)
			break;
	}
	mqtt_get_stats(o->mqtt, &stats);
	if (r < 0 || stats.out_refused || (plain && !back))
		doctor_say(
			d, DOCTOR_FAULT, "access",
			"the ACL of this listener, and the site's name in it (broker-config/*.acl)",
			"the broker does not let us write %s%s", topic,
			plain ? ", or read it" : "");
	else
		doctor_ok(d, "access", "what is written to %s is %s", topic,
			  plain ? "delivered" : "taken");
}

static void look_at_id(struct doctor *d)
{
	const struct online *o = &d->online;
	const struct online_device *device = online_find(o, d->id);
	const struct msg_presence *p = NULL;
	if (d->role == ROLE_DEVICE && device && device->has_presence)
		p = &device->presence;
	for (size_t i = 0; d->role == ROLE_TRAINER && i < o->n_trainers; i++)
		if (strcmp(o->trainers[i]->id, d->id) == 0 && o->trainers[i]->has_presence)
			p = &o->trainers[i]->presence;
	bool there = p && p->online;
	if (there && !d->runs)
		doctor_say(d, d->has_boot && p->boot == d->boot ? DOCTOR_WARNING : DOCTOR_FAULT,
			   "id", "end the other one, or give this one an id of its own",
			   "%s %s is at the broker, and no program runs on this state folder: two "
			   "have "
			   "the same id, or it was cut off a moment ago",
			   role_name(d->role), d->id);
	else if (d->runs && !there)
		doctor_say(d, DOCTOR_WARNING, "id", "look into its log, or wait",
			   "a program runs on this state folder, and is not at the broker");
	else
		doctor_ok(d, "id", "%s %s is %s", role_name(d->role), d->id,
			  there ? "at the broker" : "nobody else's at the broker");
}

/* ---- clocks ---- */

struct clocks {
	int64_t now_ms, least_ms; /* that the nearest of the wrong ones is off */
	size_t n, n_ahead, n_old;
};

static void add_clock(struct clocks *c, int64_t at_ms)
{
	int64_t ahead = at_ms - c->now_ms;
	bool wrong = ahead > CLOCK_AHEAD_MS || ahead < -STATUS_OLD_MS;
	c->n++;
	c->n_ahead += ahead > CLOCK_AHEAD_MS;
	c->n_old += ahead < -STATUS_OLD_MS;
	if (wrong && (!c->least_ms || llabs(ahead) < c->least_ms))
		c->least_ms = llabs(ahead);
}

/* MQTT has no clock: but everybody who is there has said when its status was. */
static void look_at_clocks(struct doctor *d)
{
	const struct online *o = &d->online;
	struct clocks c = {.now_ms = clock_real_ms()};
	for (size_t i = 0; i < o->n_devices; i++)
		if (o->devices[i]->online && o->devices[i]->has_status &&
		    (d->role != ROLE_DEVICE || strcmp(o->devices[i]->id, d->id) != 0))
			add_clock(&c, o->devices[i]->status.at_ms);
	for (size_t i = 0; i < o->n_trainers; i++)
		if (o->trainers[i]->has_presence && o->trainers[i]->presence.online &&
		    o->trainers[i]->has_status &&
		    (d->role != ROLE_TRAINER || strcmp(o->trainers[i]->id, d->id) != 0))
			add_clock(&c, o->trainers[i]->status.at_ms);
	size_t n_wrong = MAX_OF(c.n_ahead, c.n_old);
	if (c.n == 0)
		doctor_ok(d, "clocks", "nobody else is there to compare with");
	else if (2 * n_wrong > c.n)
		doctor_say(d, c.n >= MANY_CLOCKS ? DOCTOR_FAULT : DOCTOR_WARNING, "clocks",
			   "set it, and have it set at each start (systemd-timesyncd or chrony)",
			   "this machine's is %s those of %zu of %zu others by %lld s at least",
			   c.n_ahead ? "behind" : "ahead of", n_wrong, c.n,
			   (long long)c.least_ms / 1000);
	else
		doctor_ok(d, "clocks", "as those of %zu of %zu others", c.n - n_wrong, c.n);
}

static void ask(struct doctor *d)
{
	struct online *o = &d->online;
	struct err err = {0};
	int r = online_identify(o, &err);
	if (r == 0)
		r = online_connect(o, ONLINE_ALL, &err);
	if (r == -ETIMEDOUT) /* what sends others here is of no use here */
		err_set(&err, r, "no connection to the %s", o->why_down);
	if (r < 0) {
		doctor_say(d, DOCTOR_FAULT, "session",
			   *o->identity.certificate
				   ? "the broker's log says why"
				   : "without [identity] the broker has a plain listener "
				     "(broker-config/development.conf); the broker's log says why",
			   "%s", err.text);
		return;
	}
	doctor_ok(d, "session", "the broker takes it");
	online_hear(o);
	look_at_writing(d);
	if (d->path)
		look_at_id(d);
	look_at_clocks(d);
}

void doctor_broker(struct doctor *d)
{
	bool secure = *d->online.identity.certificate;
	if (!look_at_way(d))
		doctor_say(d, DOCTOR_SKIPPED, "session", NULL, "needs the broker");
	else if (!d->trusted)
		doctor_say(d, DOCTOR_SKIPPED, "session", NULL, "needs the certificate");
	else if (secure && d->role == ROLE_DEVICE)
		doctor_say(d, DOCTOR_SKIPPED, "session", NULL,
			   "at a devices' listener a session is its certificate's: one of our own "
			   "would "
			   "end the agent's");
	else
		ask(d);
}
