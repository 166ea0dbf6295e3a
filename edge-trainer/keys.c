/* Keys of handovers' blocks: our own pair is made with the job and goes with it, the device's public
 * key comes with its grant. One payload travels at a time between the two. */
#include <errno.h>
#include <string.h>

#include "edge-trainer/trainer_priv.h"

int keys_begin(struct trainer *t, struct job *j, struct err *err)
{
	int r = t->seal && !*j->seal.secret ? sealed_begin(&j->seal) : 0;

	return r < 0 ? err_errno(err, r, "keys for device %s", j->device) : 0;
}

void keys_claim(const struct trainer *t, const struct entry *e, struct msg_claim *c)
{
	if (t->seal)
		sealed_public(&e->job.seal, c->seal);
}

int keys_grant(const struct trainer *t, const struct msg_grant *g, struct err *err)
{
	return t->seal && g->granted ? sealed_check(g->seal, err) : 0;
}

const uint8_t *keys_transfer(struct trainer *t, struct entry *e, const char *payload, bool to_device)
{
	const struct sealed_transfer transfer = {
		.site = t->conf->site, .device = e->job.device, .trainer = t->conf->id,
		.fence = e->job.fence, .payload = payload, .to_device = to_device,
	};

	return t->seal ? sealed_key(&e->seal_key, &e->job.seal, &transfer) : NULL;
}
