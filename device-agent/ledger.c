/* What this device writes into its audit log (common/audit). */
#include <string.h>

#include "device-agent/agent_impl.h"

void ledger_say(struct agent *a, const struct audit_event *e)
{
	struct audit_event line = *e;
	if (!line.who)
		line.who = a->conf.id;
	if (!line.message) {
		line.signer = a->heard.signer;
		line.message = a->heard.message;
	}
	audit_say(a->audit, a->port.real_ms(a->port.user), &line);
	const struct err *fault = audit_fault(a->audit);
	if (fault && !a->audit_failed)
		log_error("device=%s the audit log cannot be written, what it lacks is counted: %s",
			  a->conf.id, fault->text);
	a->audit_failed = fault;
}

/* The last decision in words, where it is a new one. */
static void decided(struct agent *a, const struct handover *was, const struct handover *h)
{
	const struct handover_decided *d = h->n_decided ? &h->decided[h->n_decided - 1] : NULL;
	const struct handover_decided *before = was->n_decided ? &was->decided[was->n_decided - 1] : NULL;
	if (!d || (before && before->ack.fence == d->ack.fence &&
		   strcmp(before->ack.checkpoint, d->ack.checkpoint) == 0))
		return;
	ledger_say(a, &(struct audit_event){.event = "decided",
					    .peer = d->trainer,
					    .checkpoint = d->ack.checkpoint,
					    .fence = d->ack.fence,
					    .decision = decision_name(d->ack.decision),
					    .reason = d->ack.reason});
}

void ledger_handover(struct agent *a, const struct handover *was, const struct handover *h)
{
	struct audit_event e = {.peer = h->trainer, .checkpoint = h->granted, .fence = h->fence};
	if (h->fence != was->fence) {
		e.event = "granted";
		ledger_say(a, &e);
	}
	decided(a, was, h);
	if (h->phase == was->phase)
		return;
	e.event = h->phase == HANDOVER_PULLING	 ? "returned"
		  : h->phase == HANDOVER_JUDGING ? "received"
		  : h->phase == HANDOVER_OFFERING && was->phase != HANDOVER_IDLE &&
				    was->phase != HANDOVER_JUDGING
			  ? "lapsed"
			  : NULL;
	if (h->phase == HANDOVER_PULLING || h->phase == HANDOVER_JUDGING) {
		e.checkpoint = h->result.manifest.id;
		e.parent = h->granted;
	}
	if (e.event)
		ledger_say(a, &e);
}

/* What is told of it must not be lost with the power. */
void ledger_head(struct agent *a, struct msg_report *ret)
{
	struct audit_head head;
	audit_sync(a->audit);
	audit_head(a->audit, &head);
	ret->audit_seq = head.seq;
	COPY(ret->audit_head, head.seq ? head.hash : "");
}

void ledger_activating(struct agent *a, const char *checkpoint)
{
	if (strcmp(checkpoint, a->activating) == 0)
		return; /* tried once more */
	COPY(a->activating, checkpoint);
	ledger_say(a, &(struct audit_event){
			      .event = "activated", .checkpoint = checkpoint, .parent = a->active});
	audit_sync(a->audit);
}

void ledger_command(struct agent *a, const struct msg_cmd *c, const char *id, bool done)
{
	bool changes = c && done && !commands_reads_only(c->cmd);
	const struct audit_event e = {.event = "command",
				      .who = *a->heard.signer ? a->heard.signer : "unsigned",
				      .peer = a->conf.id,
				      .command = c ? cmd_name(c->cmd) : "",
				      .id = id,
				      .checkpoint = c ? c->checkpoint : "",
				      .key = changes ? c->key : "",
				      .value = changes ? c->value : "",
				      .decision = done ? "done" : "refused",
				      .common = !changes};
	ledger_say(a, &e);
}
