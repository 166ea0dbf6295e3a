/* The trainer's life, the routing of what comes in, and what is published about it. */
#include "edge-trainer/trainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

#define HOUR_MS (3600 * 1000)

static const struct bucket_limit fleet_offer_rate = {16, 1}; /* as devices take them */

/* Numbers of claims fit JSON_INT_MAX: 32 bits of count below the boot's. */
#define CLAIM_BOOTS ((int64_t)1 << 20)

int trainer_send(struct trainer *t, enum topic_kind kind, const char *device, char *text,
		 bool retain, uint32_t expiry_s)
{
	_cleanup_free_ char *payload = text;
	struct topic to = {.kind = kind};
	char topic[TOPIC_SIZE];
	struct mqtt_publish p = {.topic = topic, .qos = 1, .retain = retain, .expiry_s = expiry_s};
	int r;

	if (!payload)
		return -ENOMEM;
	memcpy(to.trainer, t->conf->id, sizeof(to.trainer));
	if (device)
		memcpy(to.device, device, strlen(device));
	r = topic_format(topic, t->conf->site, &to);
	if (r < 0)
		return r;
	payload = trust_sign(t->trust, &to, topic, payload);
	if (!payload)
		return -ENOMEM;
	p.payload = payload;
	p.len = strlen(payload);
	r = t->ports.publish(t->ports.user, &p);
	if (r < 0)
		log_debug("not sent topic=%s: %s", topic, strerror(-r));
	return r;
}

void trainer_fault(struct trainer *t, const struct err *err)
{
	t->reason = err_category_text(err->category);
	if (strcmp(t->fault, err->text) == 0)
		return;
	log_error("%s", err->text);
	memcpy(t->fault, err->text, sizeof(t->fault));
}

bool trainer_commit(struct trainer *t)
{
	struct err err = {0};

	if (!db_is_dirty(t->db))
		return true;
	if (db_commit(t->db, &err) == 0) {
		t->reason = NULL;
		t->fault[0] = '\0';
		t->batch++;
		return true;
	}
	trainer_fault(t, &err);
	reports_undone(t);
	t->batch++;
	return false;
}

/* --- start --- */

static int load_job(void *user, const struct job *j)
{
	struct trainer *t = user;
	struct device *d = job_is_merged(j) ? &t->own : device_get(t, j->device);
	struct entry *e = d ? entry_new(t, d) : NULL;
	char id[13], whose[JOB_WHOSE_SIZE];

	if (!e)
		return -ENOMEM;
	e->job = *j;
	if (!job_is_merged(j) && keys_begin(t, &e->job, NULL) < 0)
		return -EIO;
	log_info("job restored job=%lld %s checkpoint=%s state=%s epoch=%lld/%lld",
		 (long long)j->id, job_whose(j, whose), hash_short(j->manifest.id, id),
		 job_state_name(j->state), (long long)j->epoch_done, (long long)j->epochs);
	e->job.held = j->pulled || pull_there(t, e);
	job_restore(&e->job, &t->job_conf, trainer_now(t), rng_u64(&t->rng));
	return 0;
}

static int load_served(void *user, const char *device, int64_t n)
{
	struct trainer *t = user;

	for (int64_t i = 0; i < n && i < t->conf->device_per_hour; i++)
		queue_serve(&t->queue, device, trainer_now(t));
	return 0;
}

static int load(struct trainer *t, struct err *err)
{
	int r = reports_load(t, err);

	if (r == 0)
		r = db_run_recover(t->db, trainer_utc(t), trainer_now(t), err);
	if (r == 0)
		r = db_job_each(t->db, load_job, t, err);
	if (r == 0)
		r = db_job_served(t->db, trainer_utc(t) - HOUR_MS, load_served, t, err);
	if (r == 0)
		r = db_job_finished(t->db, &t->handovers, &t->screened, err);
	if (r == 0)
		r = fleet_load(t, err);
	if (r == 0)
		r = merge_load(t, err);
	if (r == 0)
		r = screening_load(t, err);
	if (r == 0)
		r = db_next(t->db, "boot", &t->boot, err);
	if (r == 0)
		r = db_commit(t->db, err);
	/* No number twice: a grant of before a restart must not pass for one of now, and, but for
	 * chance, neither where the database was lost. */
	t->last_claim = t->boot % CLAIM_BOOTS << 32 | (int64_t)rng_below(&t->rng, 1u << 31);
	return r;
}

static int open_state(struct trainer *t, struct err *err)
{
	char path[FILE_PATH_MAX];
	const char *dir = t->conf->state;
	int r = file_path(path, sizeof(path), "%s/trainer.db", dir);

	if (r == 0)
		r = file_path(t->incoming, sizeof(t->incoming), "%s/incoming", dir);
	if (r < 0)
		return err_set(err, r, "%s: path of the state folder is too long", dir);
	r = t->seal ? keys_protect(path, err) : 0;
	if (r == 0)
		r = db_open(path, &t->db, err);
	if (r == 0)
		r = audit_open(dir, trainer_utc(t), &t->audit, err);
	if (r < 0)
		return r;
	file_path(path, sizeof(path), "%s/" TRAINER_STORE, dir);
	r = store_open(path, &t->store, err);
	if (r == 0)
		r = file_mkdirs(t->incoming, err);
	if (r == 0)
		r = file_path(path, sizeof(path), "%s/" WORKER_KEEPS, dir);
	if (r == 0)
		r = file_mkdirs(path, err);
	if (r == 0)
		r = load(t, err);
	if (r < 0)
		return r;
	pull_clean(t);
	record_say(t, &(struct audit_event){
			      .event = "started", .number = t->boot, .reason = TASUKI_VERSION});
	return 0;
}

int trainer_new(const struct trainer_conf *conf, const struct model *model,
		const struct trainer_ports *ports, struct trainer **ret, struct err *err)
{
	struct trainer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	t->conf = conf;
	t->model = model;
	t->ports = *ports;
	t->job_conf = (struct job_conf){conf->lease_ms, conf->epochs, &t->last_claim,
					trainer_merges(conf), conf->final_share > 0};
	t->merge.window.opened_ms = -1;
	t->devices_max = TRAINER_DEVICES_MAX;
	t->batch = 1;
	t->flush_at_ms = -1;
	t->second_at_ms = t->collect_at_ms = trainer_now(t);
	rng_init(&t->rng, rng_entropy());
	r = trust_new(&conf->identity, ROLE_TRAINER, trainer_utc(t), &t->trust, err);
	if (r == 0)
		r = disk_check(t, err);
	if (r < 0) {
		trainer_free(t);
		return r;
	}
	r = *conf->identity.certificate ? seal_new(&t->seal) : 0;
	if (r == 0)
		r = idmap_init(&t->devices);
	if (r == 0)
		r = queue_init(&t->queue, conf->capacity, conf->device_per_hour, conf->slots);
	if (r < 0)
		err_set(err, r, "out of memory");
	else
		r = open_state(t, err);
	if (r < 0) {
		trainer_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void trainer_free(struct trainer *t)
{
	if (!t)
		return;
	while (t->entries)
		entry_free(t, t->entries);
	merge_free(t);
	fleet_done(t);
	devices_free(t);
	queue_done(&t->queue);
	store_free(t->store);
	db_free(t->db);
	audit_free(t->audit);
	seal_free(t->seal);
	trust_free(t->trust);
	free(t);
}

/* --- the wire --- */

unsigned trainer_subscriptions(const struct trainer *t, char filters[][MQTT_TOPIC_MAX], int *qos,
			       bool *retained)
{
	static const struct {
		enum topic_kind kind;
		int qos;
		bool retained, shared;
	} subs[] = {
		{TOPIC_TRAINER_GRANT, 1, false, false}, {TOPIC_TRAINER_WANT, 1, false, false},
		{TOPIC_TRAINER_ACK, 1, false, false},	{TOPIC_TRAINER_BLOCK, 0, false, false},
		{TOPIC_DEVICE_PRESENCE, 1, true, false}, {TOPIC_DEVICE_STATUS, 1, true, false},
		{TOPIC_DEVICE_REPORT, 1, false, false}, {TOPIC_DEVICE_OFFER, 1, false, true},
		{TOPIC_FLEET_OFFER, 1, true, false},	{TOPIC_TRAINER_KEY, 1, false, false},
	};
	unsigned n = 0;

	_Static_assert(ARRAY_LEN(subs) == TRAINER_SUBS_MAX, "the caller has room for these");
	for (unsigned i = 0; i < ARRAY_LEN(subs); i++) {
		struct topic topic = {.kind = subs[i].kind};

		if (topic.kind == TOPIC_TRAINER_KEY && !t->seal)
			continue; /* nobody has one */
		if (topic.kind >= TOPIC_TRAINER_GRANT && topic.kind <= TOPIC_TRAINER_ACK)
			memcpy(topic.trainer, t->conf->id, sizeof(topic.trainer));
		if (topic_filter(filters[n], t->conf->site, &topic,
				 subs[i].shared ? "trainers" : NULL) < 0)
			continue;
		qos[n] = subs[i].qos;
		retained[n++] = subs[i].retained;
	}
	return n;
}

static char *presence_text(const struct trainer *t, bool online)
{
	return msg_presence_print(&(struct msg_presence){.online = online, .boot = t->boot});
}

int trainer_will(const struct trainer *t, char *topic, size_t topic_size, char *payload,
		 size_t payload_size)
{
	_cleanup_free_ char *text = presence_text(t, false);
	struct topic to = {.kind = TOPIC_TRAINER_PRESENCE};
	char buf[TOPIC_SIZE];
	int r;

	memcpy(to.trainer, t->conf->id, sizeof(to.trainer));
	r = topic_format(buf, t->conf->site, &to);
	if (r < 0)
		return r;
	if (!text || strlen(buf) >= topic_size || strlen(text) >= payload_size)
		return -ENOMEM;
	strcpy(topic, buf);
	strcpy(payload, text);
	return 0;
}

void trainer_describe(struct trainer *t, struct msg_trainer_status *m)
{
	*m = (struct msg_trainer_status){
		.boot = t->boot,
		.version = TASUKI_VERSION,
		.capacity = t->conf->capacity,
		.devices = (int64_t)t->devices.n,
		.handovers = t->handovers,
		.refused = t->screened,
		.refused_messages = (int64_t)t->n_refused,
	};
	merge_describe(t, m);
	screening_describe(t, m);
	memcpy(m->model, t->model->id, sizeof(m->model));
	for (const struct entry *e = t->entries; e; e = e->next)
		if (e->slot >= 0)
			m->active++;
		else if (!entry_is_merged(e) && job_takes_room(&e->job, trainer_now(t)))
			m->queued++;
	m->load = (double)(m->queued + m->active) / (double)m->capacity;
	struct audit_head head;
	audit_head(t->audit, &head);
	m->audit_seq = head.seq;
	if (head.seq)
		memcpy(m->audit_head, head.hash, sizeof(m->audit_head));
	const char *reason = t->reason;
	if (!reason && t->audit_failed)
		reason = "the audit log cannot be written";
	char full[MESSAGE_TEXT_MAX];
	disk_describe(t, full, sizeof(full));
	if (!reason && *full)
		reason = full;
	for (unsigned i = 0; i < t->conf->slots && !reason; i++)
		reason = t->slots[i].failed_open ? t->slots[i].why : NULL;
	snprintf(m->reason, sizeof(m->reason), "%s", reason ? reason : "");
}

/* On change; called once a second. */
static void publish_status(struct trainer *t, bool always)
{
	struct msg_trainer_status m;

	trainer_describe(t, &m);
	m.at_ms = t->published.at_ms;
	if (!t->up || (!always && memcmp(&m, &t->published, sizeof(m)) == 0))
		return;
	audit_sync(t->audit); /* what is told of it must not be lost with the power */
	m.at_ms = trainer_utc(t);
	if (trainer_send(t, TOPIC_TRAINER_STATUS, NULL, msg_trainer_status_print(&m), true, 0) == 0)
		t->published = m;
}

void trainer_connected(struct trainer *t, bool up)
{
	enum job_event_kind kind = t->was_up ? JOB_E_CONNECTED : JOB_E_RESTORED;

	t->up = up;
	if (!up)
		return;
	t->was_up = true;
	trainer_send(t, TOPIC_TRAINER_PRESENCE, NULL, presence_text(t, true), true, 0);
	publish_status(t, true);
	fleet_connected(t);
	for (struct entry *e = t->entries, *next; e; e = next) {
		next = e->next;
		pull_restart(t, e);
		entry_event_kind(t, e, kind);
	}
}

/* Whether the device keeps to its rate, and it was the device. Only what it signed counts in its rate,
 * but beyond that nothing is verified. Where messages are signed it is known from its first one, be it
 * good or not: it alone may write there, and else what it says that is rubbish would be charged to all.
 * Offers to the fleet, which any trainer writes, have a rate of their own for the same reason. */
static bool heeded(struct trainer *t, const struct topic *topic, const struct mqtt_message *m,
		   char by[ID_SIZE])
{
	struct device *d = device_find(t, topic->device);
	enum say say = topic->kind == TOPIC_DEVICE_REPORT ? SAY_REPORT :
		       topic->kind == TOPIC_DEVICE_OFFER  ? SAY_OFFER :
							     SAY_OTHER;
	bool counts = topic->kind != TOPIC_TRAINER_BLOCK && topic->kind != TOPIC_TRAINER_WANT;
	enum role role;

	if (topic->kind == TOPIC_FLEET_OFFER &&
	    !bucket_take(&t->fleet_offers, &fleet_offer_rate, trainer_now(t), NULL)) {
		t->n_refused++;
		return false;
	}
	if (!d && t->trust && *topic->device && trust_is_signed(topic->kind, &role))
		d = device_get(t, topic->device);
	if ((counts && d && !device_heed(t, d, say)) || !vouched_open(t, topic, d, m, by))
		return false;
	if (counts && d)
		device_said(d, say);
	return true;
}

void trainer_message(struct trainer *t, const struct mqtt_message *m)
{
	struct topic topic;
	char by[ID_SIZE];

	if (t->stopping)
		return;
	if (topic_parse(m->topic, t->conf->site, &topic) < 0) {
		t->n_refused++;
		log_debug("topic not understood topic=%s dropped=%llu", m->topic,
			  (unsigned long long)t->n_refused);
		return;
	}
	/* Only presence, status and the fleet's offer are ever retained: all else is somebody's leftover. */
	if (m->retained && topic.kind != TOPIC_DEVICE_PRESENCE &&
	    topic.kind != TOPIC_DEVICE_STATUS && topic.kind != TOPIC_FLEET_OFFER)
		return;
	if (!heeded(t, &topic, m, by))
		return;
	audit_heard(&t->heard, by, m->payload, m->len);
	switch (topic.kind) {
	case TOPIC_DEVICE_PRESENCE:
		reports_presence(t, &topic, m);
		break;
	case TOPIC_DEVICE_STATUS:
		reports_status(t, &topic, m);
		break;
	case TOPIC_DEVICE_REPORT:
		reports_report(t, &topic, m);
		break;
	case TOPIC_DEVICE_OFFER:
		offers_offer(t, &topic, m);
		break;
	case TOPIC_TRAINER_GRANT:
		offers_grant(t, &topic, m);
		break;
	case TOPIC_TRAINER_WANT:
		pull_want(t, &topic, m);
		break;
	case TOPIC_TRAINER_BLOCK:
		pull_block(t, &topic, m);
		break;
	case TOPIC_TRAINER_ACK:
		offers_ack(t, &topic, m);
		break;
	case TOPIC_TRAINER_KEY:
		site_key_wanted(t, &topic, m);
		break;
	case TOPIC_FLEET_OFFER:
		fleet_heard(t, m, by);
		break;
	default:
		break;
	}
	audit_heard(&t->heard, "", NULL, 0);
	merge_run(t);
	slots_assign(t);
}

void trainer_writable(struct trainer *t)
{
	if (t->blocks_stalled)
		pull_serve(t);
	fleet_writable(t);
}

/* --- the tick --- */

static void each_second(struct trainer *t, int64_t now_ms)
{
	t->second_at_ms = now_ms + TICK_MS;
	audit_sync(t->audit);
	for (struct entry *e = t->entries, *next; e; e = next) {
		next = e->next;
		if (e->pulling || e->slot >= 0)
			entry_report(t, e);
	}
	screening_second(t);
	offers_next(t);
	slots_rescan(t, now_ms);
	reports_ask(t, now_ms);
	publish_status(t, false);
	fleet_second(t);
	vouched_watch(t);
	if (now_ms >= t->collect_at_ms)
		disk_collect(t, now_ms);
}

int64_t trainer_tick(struct trainer *t)
{
	int64_t now_ms = trainer_now(t), next_ms;

	for (struct entry *e = t->entries, *next; e; e = next) {
		int64_t at_ms = job_next_ms(&e->job);

		next = e->next;
		pull_tick(t, e, now_ms);
		if (at_ms >= 0 && now_ms >= at_ms)
			entry_event_kind(t, e, JOB_E_TIMER);
	}
	if (t->flush_at_ms >= 0 && now_ms >= t->flush_at_ms)
		reports_flush(t);
	if (now_ms >= t->second_at_ms)
		each_second(t, now_ms);
	merge_run(t);
	slots_assign(t);
	fleet_serve(t);

	next_ms = t->second_at_ms;
	if (fleet_next_ms(t) >= 0)
		next_ms = MIN_OF(next_ms, fleet_next_ms(t));
	if (t->flush_at_ms >= 0)
		next_ms = MIN_OF(next_ms, t->flush_at_ms);
	if (merge_next_ms(t) >= 0)
		next_ms = MIN_OF(next_ms, merge_next_ms(t));
	for (const struct entry *e = t->entries; e; e = e->next) {
		int64_t at_ms = job_next_ms(&e->job);

		if (at_ms >= 0)
			next_ms = MIN_OF(next_ms, at_ms);
	}
	return next_ms;
}

void trainer_stop(struct trainer *t)
{
	t->stopping = true;
	for (struct entry *e = t->entries; e; e = e->next) {
		struct job_actions actions;

		job_step(&e->job, &(struct job_event){.kind = JOB_E_SHUTDOWN}, trainer_now(t),
			 &actions);
		entry_perform(t, e, &actions);
	}
	reports_flush(t);
	trainer_commit(t);
	if (t->up)
		trainer_send(t, TOPIC_TRAINER_PRESENCE, NULL, presence_text(t, false), true, 0);
}
