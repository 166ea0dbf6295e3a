/* The site key of what is offered to everyone: made with each sequence, kept with the fleet's file,
 * sealed for every device that asks (common/trust/sitekey.h), gone with the offer.
 *
 * Who a wish is from has been verified by its signature before it comes here; so a device whose
 * certificate was revoked gets nothing. An answer costs two multiplications on the curve and a
 * signature: KEYS_PER_S of them are given, and whoever is left out asks again. */
#include <errno.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/trust/sitekey.h"
#include "edge-trainer/fleet_priv.h"

/* About a fifth of a processor. Devices are given twice the time that this many need. */
#define KEYS_PER_S 400

static const struct bucket_limit key_limit = {KEYS_PER_S, KEYS_PER_S};

int site_key_make(struct trainer *t, struct manifest *m, struct err *err)
{
	struct fleet *f = t->fleet;
	uint8_t key[SEAL_KEY];
	char path[FILE_PATH_MAX];
	int r;

	if (!t->seal)
		return 0;
	r = store_weights(t->store, m->id, path);
	if (r < 0)
		return err_errno(err, r, "checkpoint %.12s", m->id);
	r = proof_root(&f->proof, path, m, err);
	if (r == 0 && seal_random(key, sizeof(key)) < 0)
		r = err_set(err, -EIO, "a site key cannot be made");
	if (r < 0)
		return r;
	memcpy(f->key, key, sizeof(key));
	seal_wipe(key, sizeof(key));
	f->has_key = true;
	return 0;
}

void site_key_forget(struct fleet *f)
{
	seal_wipe(f->key, sizeof(f->key));
	f->has_key = false;
}

int64_t site_key_ms(const struct trainer *t)
{
	return t->fleet->has_key ? (int64_t)t->devices.n * 1000 * 2 / KEYS_PER_S : 0;
}

/* Whether it is about what is offered; one that is not may be late, and is nobody's fault. */
static bool is_about_ours(const struct trainer *t, const struct msg_key *w)
{
	return t->fleet->has_key && w->sequence == t->fleet->offer.manifest.sequence &&
	       strcmp(w->trainer, t->conf->id) == 0 && !*w->key;
}

void site_key_wanted(struct trainer *t, const struct topic *topic, const struct mqtt_message *m)
{
	struct fleet *f = t->fleet;
	struct err err = {0};
	struct msg_key w, answer = {0};
	struct sitekey_way way = {t->conf->site, topic->device, t->conf->id, f->offer.manifest.sequence};
	int r;

	if (msg_key_parse(m->payload, m->len, &w, &err) < 0) {
		device_not_understood(t, topic->device, "key", err.text);
		return;
	}
	if (!is_about_ours(t, &w)) {
		log_debug("device=%s asks for a key of sequence=%lld: not on offer", topic->device,
			  (long long)w.sequence);
		return;
	}
	if (!bucket_take(&f->keys, &key_limit, trainer_now(t), NULL)) {
		f->n_keys_left_out++;
		return;
	}
	r = sitekey_wrap(&way, w.seal, f->key, answer.seal, answer.key);
	if (r < 0) {
		device_not_understood(t, topic->device, "key",
				      r == -EBADMSG ? "seal: a point of small order"
						    : "it cannot be sealed");
		return;
	}
	answer.sequence = f->offer.manifest.sequence;
	memcpy(answer.trainer, t->conf->id, sizeof(answer.trainer));
	f->n_keys += trainer_send(t, TOPIC_DEVICE_KEY, topic->device, msg_key_print(&answer), false,
				  MESSAGE_EXPIRY_S) == 0;
}
