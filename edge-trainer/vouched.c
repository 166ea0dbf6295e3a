/* Where messages are signed: who signed what comes in, and whether it is of now.
 *
 * Model: before a message is decoded its bytes are verified (100 us). Who forges in a device's name
 * spends a bucket of that device's, and one of all; when they are empty, honest messages are lost with
 * the forged ones, and are repeated. The last offer of each device that was accepted is in the
 * database with the job that it led to. What is refused here has no answer. */
#include <errno.h>
#include <string.h>

#include "common/base/log.h"
#include "edge-trainer/trainer_priv.h"

static const struct bucket_limit forged_rate = {2000, 500}; /* a second: 5 % of a processor */

uint64_t trainer_refused(const struct trainer *t, enum refusal why)
{
	return t->trust ? trust_refused(t->trust, why) : 0;
}

void vouched_watch(struct trainer *t)
{
	struct err err = {0};
	int r = t->trust ? trust_watch(t->trust, trainer_utc(t), &err) : 0;

	if (r < 0)
		log_write(r == -ETIME ? LOG_P_ERROR : LOG_P_WARNING, "%s", err.text);
}

bool vouched_open(struct trainer *t, const struct topic *topic, struct device *d,
		  const struct mqtt_message *m, char by[ID_SIZE])
{
	enum role role;
	struct err err = {0};

	by[0] = '\0';
	if (!t->trust || m->len == 0 || !trust_is_signed(topic->kind, &role))
		return true;
	if (!bucket_has(&t->forged, &forged_rate, 1, trainer_now(t), NULL) ||
	    (d && !device_heed(t, d, SAY_FORGED))) {
		t->n_refused++;
		return false;
	}
	if (trust_open(t->trust, role, role == ROLE_DEVICE ? topic->device : "", m->topic, m->payload,
		       m->len, trainer_utc(t), by, &err) == REFUSAL_NONE)
		return true;
	bucket_use(&t->forged, 1);
	if (d)
		device_said(d, SAY_FORGED);
	if (trust_has_news(t->trust))
		log_warning("topic=%s: %s", m->topic, err.text);
	device_not_understood(t, topic->device, "message", err.text);
	return false;
}

bool vouched_offer(struct trainer *t, struct device *d, struct manifest *m)
{
	struct freshness_last last;
	struct freshness here = {.device = d->id,
				 .model = t->model->id,
				 .last = &last,
				 .now_ms = trainer_utc(t),
				 .lifetime_ms = FRESHNESS_HANDOVER_MS};
	struct err err = {0};
	enum refusal r;

	if (!t->trust)
		return true;
	if (db_offer_get(t->db, d->id, &last, &err) < 0) {
		trainer_fault(t, &err);
		return false;
	}
	r = trust_refuse(t->trust, freshness_check(m, &here, &err), &err);
	m->expires_ms = 0; /* of the message, not of what it offers */
	/* A device of another model is told so, as ever. */
	if (r == REFUSAL_NONE || r == REFUSAL_MODEL)
		return true;
	device_complain(t, d, "offer", err.text);
	return false;
}

void vouched_accepted(struct trainer *t, struct device *d, const struct manifest *m)
{
	struct freshness_last last = {.sequence = m->sequence};
	struct err err = {0};

	if (!t->trust || !m->sequence)
		return;
	memcpy(last.id, m->id, sizeof(last.id));
	if (db_offer_put(t->db, d->id, &last, &err) < 0)
		trainer_fault(t, &err);
	device_touch(t, d); /* a commit is due */
}

/* Under whatever number it came last: a device that starts anew gives the same offer a later one. */
void vouched_over(struct trainer *t, struct device *d, const char *checkpoint)
{
	struct err err = {0};

	if (!t->trust)
		return;
	if (db_offer_over(t->db, d->id, checkpoint, &err) < 0)
		trainer_fault(t, &err);
	device_touch(t, d);
}

bool vouched_fleet(struct trainer *t, struct manifest *m, const char *by)
{
	struct err err = {0};
	enum refusal r;

	if (!t->trust)
		return true;
	if (strcmp(m->trainer, by) != 0) {
		err_set(&err, -EPERM, "trainer: found %s, expected %s, who signed it", m->trainer, by);
		r = REFUSAL_SIGNER;
	} else {
		r = freshness_expires(m->expires_ms, trainer_utc(t), FRESHNESS_FLEET_MS, &err);
		if (r == REFUSAL_NONE)
			r = freshness_sequence(m->sequence, FRESHNESS_FLEET_UNIT_MS, trainer_utc(t), &err);
	}
	m->expires_ms = 0;
	if (trust_refuse(t->trust, r, &err) == REFUSAL_NONE)
		return true;
	t->n_refused++;
	log_write(trust_has_news(t->trust) ? LOG_P_WARNING : LOG_P_DEBUG, "fleet offer refused: %s",
		  err.text);
	return false;
}

bool vouched_number(struct trainer *t, struct entry *e, struct manifest *m)
{
	struct err err = {0};

	if (!t->trust)
		return true;
	if (strcmp(e->numbered, m->id) != 0) {
		int r = db_sequence(t->db, trainer_utc(t), &e->sequence, &err);

		if (r < 0)
			trainer_fault(t, &err);
		if (r < 0 || !trainer_commit(t))
			return false;
		memcpy(e->numbered, m->id, sizeof(e->numbered));
	}
	m->sequence = e->sequence;
	m->expires_ms = trainer_utc(t) + FRESHNESS_HANDOVER_MS;
	return true;
}
