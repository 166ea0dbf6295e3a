/* Keys of the handover's blocks: made with a grant, kept in the state beside the fence, forgotten
 * when the handover is over. That is no part of the handover machine, which is pure. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

int sealing_start(struct agent *a, struct err *err)
{
	int r = *a->conf.identity.certificate ? seal_new(&a->seal) : 0;
	return r < 0 ? err_errno(err, r, "sealing") : 0;
}

void sealing_stop(struct agent *a)
{
	seal_free(a->seal);
	sealed_forget(&a->seal_key);
	if (a->state)
		sealed_wipe(&a->state->seal);
	if (a->draft)
		sealed_wipe(&a->draft->seal);
}

bool sealing_claim(struct agent *a, const struct msg_claim *c, struct err *err)
{
	return !a->seal || c->busy ||
	       trust_refuse(a->trust, sealed_check(c->seal, err), err) == REFUSAL_NONE;
}

bool sealing_agreed(const struct agent *a, const struct msg_claim *c)
{
	const struct sealed *s = &a->state->seal;
	return !a->seal || (*s->secret && strcmp(s->theirs, c->seal) == 0);
}

int sealing_step(const struct agent *a, struct state *next, const struct msg_claim *claim,
		 int64_t fence_was)
{
	struct sealed *s = &next->seal;
	if (!a->seal || !next->handover.open) {
		sealed_wipe(s);
		return 0;
	}
	if (!claim)
		return 0;
	int r = next->handover.fence != fence_was || !*s->secret ? sealed_begin(s) : 0;
	COPY(s->theirs, claim->seal); /* another one than before: the trainer has lost its own */
	return r;
}

void sealing_over(struct agent *a)
{
	if (*a->state->seal.secret)
		return;
	sealed_wipe(&a->draft->seal);
	sealed_forget(&a->seal_key);
}

void sealing_grant(const struct agent *a, struct msg_grant *g)
{
	if (a->seal && g->granted)
		sealed_public(&a->state->seal, g->seal);
}

const uint8_t *sealing_key(struct agent *a, const char *payload, bool to_device)
{
	const struct handover *h = &a->state->handover;
	const struct sealed_transfer t = {.site = a->conf.site,
					  .device = a->conf.id,
					  .trainer = h->trainer,
					  .fence = h->fence,
					  .payload = payload,
					  .to_device = to_device,
					  .own_device = true};
	return a->seal ? sealed_key(&a->seal_key, &a->state->seal, &t) : NULL;
}
