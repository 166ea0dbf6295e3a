/* Offers, grants and acks: checked against the topic they came on and our own model, then given
 * to the job they belong to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "edge-trainer/trainer_priv.h"

void offers_busy(struct trainer *t, const struct device *d, const char *checkpoint, int64_t fence,
		 int64_t retry_ms, const char *reason)
{
	struct msg_claim c = {.busy = true, .fence = fence, .retry_ms = retry_ms};

	memcpy(c.trainer, t->conf->id, sizeof(c.trainer));
	memcpy(c.checkpoint, checkpoint, sizeof(c.checkpoint));
	snprintf(c.reason, sizeof(c.reason), "%s", reason);
	log_debug("busy device=%s fence=%lld retry_ms=%lld%s%s", d->id, (long long)fence,
		  (long long)retry_ms, *reason ? " reason=" : "", reason);
	trainer_send(t, TOPIC_DEVICE_CLAIM, d->id, msg_claim_print(&c), false,
		     (uint32_t)MAX_OF(1, retry_ms / 1000));
	t->n_busy++;
}

void offers_lacks(struct trainer *t, const struct device *d, const struct manifest *m, int64_t fence)
{
	struct msg_claim c = {.busy = true, .fence = fence, .retry_ms = QUEUE_RETRY_MIN_MS};

	memcpy(c.trainer, t->conf->id, sizeof(c.trainer));
	memcpy(c.checkpoint, m->id, sizeof(c.checkpoint));
	memcpy(c.lacks, m->base, sizeof(c.lacks));
	log_debug("base %.12s is not here device=%s", m->base, d->id);
	trainer_send(t, TOPIC_DEVICE_CLAIM, d->id, msg_claim_print(&c), false, 1);
}

static void count_in(struct trainer *t)
{
	int64_t now_ms = trainer_now(t);
	unsigned in = 0, in_unproven = 0;

	for (const struct entry *e = t->entries; e; e = e->next) {
		bool takes = !entry_is_merged(e) && job_takes_room(&e->job, now_ms);

		in += takes;
		in_unproven += takes && !device_is_proven(e->device);
	}
	queue_set_in(&t->queue, in, in_unproven);
}

static bool has_room(struct trainer *t, const struct device *d)
{
	int64_t ignored;

	count_in(t);
	return !t->stopping && slots_usable(t) &&
	       queue_room(&t->queue, d->id, device_is_proven(d), trainer_now(t), &ignored) == 0;
}

/* Why nothing of this device is taken now, whether or not there is room: how long that lasts; 0. */
static int64_t held_off_ms(struct trainer *t, const struct device *d)
{
	int64_t barred_ms = d->barred_until_ms - trainer_now(t), retry_ms;

	if (barred_ms > 0)
		return barred_ms;
	if (t->stopping || !slots_usable(t))
		return queue_spread_ms(&t->queue, BUSY_NO_WORKER_MS, rng_unit(&t->rng));
	if (queue_room(&t->queue, d->id, device_is_proven(d), trainer_now(t), &retry_ms) == -EDQUOT)
		return retry_ms;
	return 0;
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

/* Why this checkpoint is never taken here, in words that may leave this machine; "": it is. */
static void unfit(const struct trainer *t, const struct device *d, const struct manifest *m,
		  char *buf, size_t size)
{
	char theirs[13], ours[13];
	struct err err = {0};

	buf[0] = '\0';
	if (*d->bad_checkpoint && strcmp(m->id, d->bad_checkpoint) == 0)
		snprintf(buf, size, "checkpoint %s came before, and cannot be trained on",
			 hash_short(m->id, theirs));
	else if (strcmp(m->model, t->model->id) != 0)
		snprintf(buf, size, "another model: found %s, expected %s",
			 hash_short(m->model, theirs), hash_short(t->model->id, ours));
	else if (t->seal && !*m->root)
		snprintf(buf, size, "root: found none, expected that of the payload's blocks");
	else if (manifest_fits(m, t->model, trainer_utc(t), &err) < 0)
		snprintf(buf, size, "%s", err.code == -ETIME ? "the checkpoint has expired" :
							       "size or classes do not fit the model");
}

/* The device hears why, and later each time: nothing will change soon. */
static void refuse(struct trainer *t, struct device *d, const char *checkpoint, const char *why)
{
	device_complain(t, d, "offer", why);
	offers_busy(t, d, checkpoint, 0,
		    rng_backoff_ms(&t->rng, d->n_unfit++, UNFIT_FIRST_MS, UNFIT_CAP_MS), why);
}

/* --- those that wait for room --- */

void offers_forget(struct trainer *t, struct device *d)
{
	if (!d->waiting)
		return;
	queue_offer_cancel(&t->queue, d);
	free(d->waiting);
	d->waiting = NULL;
}

/* Since when it waits: repetitions and newer checkpoints keep their place. */
static void note_waiting(struct trainer *t, struct device *d)
{
	int64_t now_ms = trainer_now(t);

	if (!d->waits || now_ms - d->waits_told_ms > WAITS_MAX_MS)
		d->waits_since_ms = now_ms;
	d->waits = true;
	d->waits_told_ms = now_ms;
}

/* 1: the line is full of those whose turn comes before. */
static int wait_in_line(struct trainer *t, struct device *d, const struct msg_offer *o)
{
	int64_t now_ms = trainer_now(t);
	double accuracy = o->validation.n > 0 ? score_accuracy(&o->validation) : -1;
	struct device *out;

	if (!d->waiting)
		d->waiting = malloc(sizeof(*d->waiting));
	if (!d->waiting)
		return -ENOMEM;
	*d->waiting = (struct waiting_offer){o->manifest, o->validation};
	note_waiting(t, d);
	out = queue_offer(&t->queue, d, device_is_proven(d),
			  queue_gain(&t->queue, d->id, accuracy, now_ms), d->waits_since_ms,
			  now_ms + WAITS_GRACE_MS);
	if (out)
		offers_forget(t, out);
	return out == d;
}

/* What it is a difference to is here, or need not be; else the device is told. */
static bool may_decode(struct trainer *t, const struct device *d, const struct manifest *m)
{
	if (coding_base_here(t, d, m) || pull_has_proven(t, d, m->id))
		return true;
	offers_lacks(t, d, m, 0);
	return false;
}

/* What a job's checkpoint is to come in, as its device offers it now: what there is of another form
 * is of no use. */
static void take_form(struct trainer *t, struct entry *e, const struct manifest *m)
{
	if (e->job.pulled ||
	    strcmp(manifest_payload(&e->job.manifest), manifest_payload(m)) == 0)
		return;
	coding_forget(t, e);
	pull_forget(t, e);
	e->job.manifest = *m;
	if (e->job.state == JOB_PULLING)
		pull_begin(t, e);
}

/* Comes in, now that there is room. */
static void admit(struct trainer *t, struct device *d)
{
	struct waiting_offer w = *d->waiting;
	struct err err = {0};
	struct entry *e;

	offers_forget(t, d);
	if (!may_decode(t, d, &w.manifest))
		return;
	if (!disk_admit(t)) {
		offers_busy(t, d, w.manifest.id, 0,
			    queue_spread_ms(&t->queue, BUSY_NO_DISK_MS, rng_unit(&t->rng)), "");
		return;
	}
	vouched_accepted(t, d, &w.manifest);
	e = entry_find(d, w.manifest.id); /* lapsed; it may have given way */
	if (e) {
		take_form(t, e, &w.manifest);
		e->job.manifest.sequence = w.manifest.sequence;
	} else {
		e = entry_new(t, d);
		if (!e) {
			offers_busy(t, d, w.manifest.id, 0, QUEUE_RETRY_MAX_MS, "");
			return;
		}
		job_init(&e->job, &t->job_conf, d->id, &w.manifest, rng_u64(&t->rng));
		if (keys_begin(t, &e->job, &err) < 0) {
			trainer_fault(t, &err);
			entry_free(t, e);
			return; /* it is offered again */
		}
	}
	entry_event(t, e, &(struct job_event){.kind = JOB_E_OFFER, .score = &w.validation});
}

void offers_next(struct trainer *t)
{
	struct device *d;

	while ((d = queue_offer_stale(&t->queue, trainer_now(t))))
		offers_forget(t, d);
	if (t->stopping || !slots_usable(t))
		return;
	count_in(t);
	while ((d = queue_offer_next(&t->queue))) {
		admit(t, d);
		count_in(t);
	}
}

/* Told when to come back: what is in line must be made again by then. */
static void send_away(struct trainer *t, struct device *d, const struct msg_offer *o)
{
	int64_t now_ms = trainer_now(t), retry_ms;
	const struct score *s = &o->validation;

	queue_sent_away(&t->queue, &d->sent_away, now_ms);
	retry_ms = queue_retry_ms(&t->queue, d, rng_unit(&t->rng));
	if (d->waiting)
		queue_offer(&t->queue, d, device_is_proven(d),
			    queue_gain(&t->queue, d->id, s->n > 0 ? score_accuracy(s) : -1, now_ms),
			    d->waits_since_ms, now_ms + retry_ms + WAITS_GRACE_MS);
	offers_busy(t, d, o->manifest.id, 0, retry_ms, "");
}

/* One that has no job yet, or a lapsed one: comes in when its turn is, perhaps at once. */
static void take_or_send_away(struct trainer *t, struct device *d, const struct msg_offer *o)
{
	int64_t held_ms = held_off_ms(t, d);
	int r;

	if (!entry_find(d, o->manifest.id))
		drop_claims(t, d);
	if (held_ms > 0) {
		offers_forget(t, d);
		queue_sent_away(&t->queue, &d->sent_away, trainer_now(t));
		offers_busy(t, d, o->manifest.id, 0, held_ms, "");
		return;
	}
	r = wait_in_line(t, d, o);
	if (r < 0)
		return; /* it is repeated */
	offers_next(t);
	if (r > 0 || d->waiting)
		send_away(t, d, o);
}

void offers_offer(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	_cleanup_free_ struct msg_offer *o = malloc(sizeof(*o));
	char why[MESSAGE_TEXT_MAX];
	struct err err = {0};
	struct device *d;
	struct entry *e;
	int64_t left_ms;

	if (!o)
		return;
	if (msg_offer_parse(m->payload, m->len, o, &err) < 0) {
		device_not_understood(t, topic->device, "offer", err.text);
		return;
	}
	if (strcmp(o->manifest.device, topic->device) != 0) {
		device_not_understood(t, topic->device, "offer", "it speaks of another device");
		return;
	}
	d = device_get(t, topic->device);
	if (!d)
		return;
	if (!vouched_offer(t, d, &o->manifest))
		return;
	device_seen(t, d);
	unfit(t, d, &o->manifest, why, sizeof(why));
	if (*why) {
		refuse(t, d, o->manifest.id, why);
		return;
	}
	d->n_unfit = 0;
	left_ms = screening_left_ms(t, d, why, sizeof(why));
	if (left_ms > 0) {
		offers_forget(t, d);
		offers_busy(t, d, o->manifest.id, 0, MIN_OF(left_ms, (int64_t)QUEUE_RETRY_MAX_MS), why);
		return;
	}
	coding_note_bases(t, d, o);
	if (!may_decode(t, d, &o->manifest))
		return;
	e = entry_find(d, o->manifest.id);
	if (!e || e->job.state == JOB_LAPSED) {
		take_or_send_away(t, d, o);
		return;
	}
	vouched_accepted(t, d, &o->manifest);
	take_form(t, e, &o->manifest);
	e->job.manifest.sequence = o->manifest.sequence; /* what a claim answers */
	entry_event(t, e, &(struct job_event){.kind = JOB_E_OFFER, .score = &o->validation});
}

void offers_grant(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_find(t, topic->device);
	struct job_event ev = {.kind = JOB_E_GRANT};
	struct err err = {0};
	struct msg_grant g;
	struct entry *e;

	if (!d)
		return;
	if (msg_grant_parse(m->payload, m->len, &g, &err) < 0 || !keys_grant(t, &g, &err)) {
		device_complain(t, d, "grant", err.text);
		return;
	}
	e = entry_find(d, g.checkpoint);
	if (!e) {
		log_debug("grant for no job device=%s fence=%lld", d->id, (long long)g.fence);
		return;
	}
	if (t->trust && g.sequence > e->job.manifest.sequence)
		e->job.manifest.sequence = g.sequence;
	ev.granted = g.granted;
	ev.fence = g.fence;
	ev.lease_ms = g.lease_ms;
	ev.claim = g.claim;
	ev.reason = g.reason;
	ev.seal = t->seal ? g.seal : NULL;
	/* The place that was kept for it is another's by now. */
	if (g.granted && e->job.state == JOB_CLAIMING && !job_takes_room(&e->job, trainer_now(t)) &&
	    !has_room(t, d)) {
		offers_busy(t, d, g.checkpoint, g.fence,
			    queue_retry_ms(&t->queue, d, rng_unit(&t->rng)), "");
		ev = (struct job_event){.kind = JOB_E_GRANT, .claim = g.claim,
					.reason = "granted too late: there is no room any more"};
	}
	entry_event(t, e, &ev);
}

void offers_ack(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct device *d = device_find(t, topic->device);
	struct err err = {0};
	struct msg_ack a;

	if (!d)
		return;
	if (msg_ack_parse(m->payload, m->len, &a, &err) < 0) {
		device_complain(t, d, "ack", err.text);
		return;
	}
	for (struct entry *e = d->jobs; e; e = e->next_of_device)
		if (e->job.state == JOB_OFFERING && strcmp(e->job.partial, a.checkpoint) == 0) {
			char offered[HASH_SIZE];

			memcpy(offered, e->job.manifest.id, sizeof(offered));
			if (!entry_event(t, e, &(struct job_event){.kind = JOB_E_ACK, .ack = &a}))
				vouched_over(t, d, offered);
			return;
		}
	log_debug("ack for no result device=%s fence=%lld", d->id, (long long)a.fence);
}
