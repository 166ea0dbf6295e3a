/* The key that the blocks of a checkpoint for everyone are sealed with: asked for once the offer
 * has been saved, of the trainer that made it, and kept in the state until the checkpoint is whole.
 *
 * Model: while a checkpoint is taken and its key is not here, `asks_at_ms` is when it is asked for,
 * at a random moment of the time before the blocks come, so that a fleet does not ask at once, and
 * then with back-off until it is here. One pair serves all these wishes: any answer to any of them
 * opens. A restart asks with another one. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/trust/sitekey.h"

/* Asked for so long before the blocks come, if there is so much time. */
#define KEY_MARGIN_MS 3000
/* Between two wishes: doubling. */
#define KEY_FIRST_MS 5000
#define KEY_CAP_MS   60000

static const struct msg_fleet *taken(const struct agent *a)
{
	return &a->state->fleet.offer;
}

bool fleet_key_missing(const struct agent *a)
{
	return a->seal && taken(a)->manifest.sequence > 0 && !*a->state->fleet.key;
}

const uint8_t *fleet_key(struct agent *a)
{
	if (!*a->state->fleet.key || hex_parse(a->state->fleet.key, a->fleet.key, SEAL_KEY) < 0)
		return NULL;
	return a->fleet.key;
}

void fleet_key_forget(struct agent *a)
{
	seal_wipe(a->fleet.key, sizeof(a->fleet.key));
	seal_wipe(&a->fleet.pair, sizeof(a->fleet.pair));
	a->fleet.has_pair = false;
	a->fleet.n_asked = 0;
}

void fleet_key_plan(struct agent *a, int64_t within_ms)
{
	within_ms = MAX_OF(within_ms - KEY_MARGIN_MS, 0);
	a->fleet.asks_at_ms = a->now_ms + rng_below(&a->rng, (uint32_t)within_ms + 1);
	a->fleet.n_asked = 0;
}

void fleet_key_ask(struct agent *a)
{
	struct topic t = {.kind = TOPIC_TRAINER_KEY};
	struct msg_key m = {.sequence = taken(a)->manifest.sequence};
	if (a->now_ms < a->fleet.asks_at_ms)
		return;
	a->fleet.asks_at_ms =
		a->now_ms + rng_backoff_ms(&a->rng, a->fleet.n_asked++, KEY_FIRST_MS, KEY_CAP_MS);
	if (!a->fleet.has_pair && seal_pair_new(&a->fleet.pair) < 0)
		return;
	a->fleet.has_pair = true;
	COPY(t.device, a->conf.id);
	COPY(t.trainer, taken(a)->manifest.trainer);
	COPY(m.trainer, taken(a)->manifest.trainer);
	hex_print(a->fleet.pair.public, SEAL_KEY, m.seal);
	announce_publish(a, &t, msg_key_print(&m), false);
}

/* Whose it is, what it is for, and that it is the answer to our wish. */
static int check(const struct agent *a, const struct msg_key *m, uint8_t key[SEAL_KEY],
		 struct err *err)
{
	const struct msg_fleet *f = taken(a);
	const struct sitekey_way way = {a->conf.site, a->conf.id, m->trainer, m->sequence};
	if (strcmp(m->trainer, f->manifest.trainer) != 0)
		return err_set(err, -EINVAL, "trainer: found %s, expected %s", m->trainer,
			       f->manifest.trainer);
	if (m->sequence != f->manifest.sequence)
		return err_set(err, -ESTALE, "sequence: found %lld, expected %lld",
			       (long long)m->sequence, (long long)f->manifest.sequence);
	if (!a->fleet.has_pair || sitekey_unwrap(&way, &a->fleet.pair, m->seal, m->key, key) < 0)
		return err_set(err, -EBADMSG, "key: not sealed for what this device asked with");
	return 0;
}

void fleet_key_heard(struct agent *a, const struct msg_key *m, struct err *err)
{
	uint8_t key[SEAL_KEY];
	/* A second answer, or a late one. */
	if (m->sequence == a->state->fleet.sequence && !fleet_key_missing(a))
		return;
	if (!fleet_key_missing(a)) {
		err_set(err, -ENOENT, "found a key of sequence %lld, expected none",
			(long long)m->sequence);
		return;
	}
	if (check(a, m, key, err) < 0)
		return;
	struct state *next = agent_draft(a);
	hex_print(key, SEAL_KEY, next->fleet.key);
	seal_wipe(key, sizeof(key));
	if (agent_commit(a) < 0)
		return; /* it is asked for again */
	fleet_key_forget(a);
	log_debug("device=%s fleet sequence=%lld has its key", a->conf.id, (long long)m->sequence);
	fleet_subscribe(a);
}
