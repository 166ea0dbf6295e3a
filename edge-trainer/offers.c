/* Offers, grants and acks: checked against the topic they came on and our own model, then given
 * to the job they belong to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

static void send_busy(struct trainer *t, const struct device *d, const char *checkpoint,
		      int64_t retry_ms)
{
	struct msg_claim c = {.busy = true, .retry_ms = retry_ms};

	memcpy(c.trainer, t->conf->id, sizeof(c.trainer));
	memcpy(c.checkpoint, checkpoint, sizeof(c.checkpoint));
	log_debug("busy device=%s retry_ms=%lld", d->id, (long long)retry_ms);
	trainer_send(t, TOPIC_DEVICE_CLAIM, d->id, msg_claim_print(&c), false,
		     (uint32_t)MAX_OF(1, retry_ms / 1000));
}

static bool has_room(struct trainer *t, const struct device *d, int64_t *ret_retry_ms)
{
	unsigned in = 0;

	if (t->stopping || !slots_usable(t)) {
		*ret_retry_ms = BUSY_NO_WORKER_MS;
		return false;
	}
	for (const struct entry *e = t->entries; e; e = e->next)
		in += job_takes_room(&e->job, trainer_now(t));
	queue_set_in(&t->queue, in);
	return queue_room(&t->queue, d->id, trainer_now(t), ret_retry_ms) == 0;
}

/* A device offers one checkpoint at a time: claims for others that it never granted are moot. */
static void drop_claims(struct trainer *t, struct device *d)
{
	struct job_event drop = {.kind = JOB_E_DROP, .reason = "another checkpoint is offered"};

	for (struct entry *e = d->jobs, *next; e; e = next) {
		next = e->next_of_device;
		if (e->job.state == JOB_CLAIMING && e->job.fence == 0)
			entry_event(t, e, &drop);
	}
}

static int check_offer(const struct trainer *t, const struct device *d, const struct msg_offer *o,
		       struct err *err)
{
	if (strcmp(o->manifest.device, d->id) != 0)
		return err_set(err, -EINVAL, "offer: device: found %s, expected %s as in the topic",
			       o->manifest.device, d->id);
	if (d->bad_checkpoint[0] && strcmp(o->manifest.id, d->bad_checkpoint) == 0)
		return err_set(err, -EBADMSG,
			       "offer: %.12s was pulled before, and cannot be trained on",
			       o->manifest.id);
	return manifest_fits(&o->manifest, t->model, trainer_utc(t), err);
}

void offers_offer(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_get(t, topic->device);
	_cleanup_free_ struct msg_offer *o = malloc(sizeof(*o));
	struct err err = {0};
	struct entry *e;
	int64_t retry_ms;

	if (!d || !o)
		return;
	if (msg_offer_parse(m->payload, m->len, o, &err) < 0 || check_offer(t, d, o, &err) < 0) {
		device_complain(d, "offer", err.text);
		return;
	}
	device_touch(t, d);
	e = entry_find(d, o->manifest.id);
	if (!e || e->job.state == JOB_LAPSED) {
		if (!e)
			drop_claims(t, d);
		if (!has_room(t, d, &retry_ms)) {
			send_busy(t, d, o->manifest.id, retry_ms);
			return;
		}
	}
	if (!e) {
		e = entry_new(t, d);
		if (!e) {
			send_busy(t, d, o->manifest.id, QUEUE_RETRY_MAX_MS);
			return;
		}
		job_init(&e->job, &t->job_conf, d->id, &o->manifest, rng_u64(&t->rng));
	}
	entry_event_kind(t, e, JOB_E_OFFER);
}

void offers_grant(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_get(t, topic->device);
	struct err err = {0};
	struct msg_grant g;
	struct entry *e;

	if (!d)
		return;
	if (msg_grant_parse(m->payload, m->len, &g, &err) < 0) {
		device_complain(d, "grant", err.text);
		return;
	}
	e = entry_find(d, g.checkpoint);
	if (!e) {
		log_debug("grant for no job device=%s fence=%lld", d->id, (long long)g.fence);
		return;
	}
	entry_event(t, e,
		    &(struct job_event){.kind = JOB_E_GRANT, .granted = g.granted,
					.fence = g.fence, .lease_ms = g.lease_ms,
					.claim = g.claim, .reason = g.reason});
}

void offers_ack(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_get(t, topic->device);
	struct err err = {0};
	struct msg_ack a;

	if (!d)
		return;
	if (msg_ack_parse(m->payload, m->len, &a, &err) < 0) {
		device_complain(d, "ack", err.text);
		return;
	}
	for (struct entry *e = d->jobs; e; e = e->next_of_device)
		if (e->job.state == JOB_OFFERING && strcmp(e->job.partial, a.checkpoint) == 0) {
			entry_event(t, e, &(struct job_event){.kind = JOB_E_ACK, .ack = &a});
			return;
		}
	log_debug("ack for no result device=%s fence=%lld", d->id, (long long)a.fence);
}
