/* What this trainer writes into its audit log (common/audit). */
#include <string.h>

#include "common/base/log.h"
#include "edge-trainer/trainer_priv.h"

void record_say(struct trainer *t, const struct audit_event *e)
{
	struct audit_event line = *e;
	const struct err *fault;

	if (!line.who)
		line.who = t->conf->id;
	if (!line.message) {
		line.signer = t->heard.signer;
		line.message = t->heard.message;
	}
	audit_say(t->audit, trainer_utc(t), &line);
	fault = audit_fault(t->audit);
	if (fault && !t->audit_failed)
		log_error("the audit log cannot be written, what it lacks is counted: %s",
			  fault->text);
	t->audit_failed = fault;
}

/* What the job came to, in words; NULL: nothing that counts. */
static const char *outcome_event(const struct job *j)
{
	switch (j->outcome) {
	case JOB_O_ACTIVATED:
	case JOB_O_KEPT:
	case JOB_O_REFUSED:
		return "decided";
	case JOB_O_SCREENED:
		return "refused";
	case JOB_O_MERGED:
		return "merged";
	default:
		return j->fence > 0 ? "dropped" : NULL; /* never granted: anybody can do that */
	}
}

/* NULL: that step is of no account. */
static const char *step_event(const struct job *j, enum job_event_kind ev, enum job_state was)
{
	if (ev == JOB_E_OFFER && j->state == JOB_CLAIMING && j->tries == 1)
		return "claimed";
	if (j->state == was)
		return NULL;
	if (was == JOB_PULLING && ev == JOB_E_PULLED)
		return "received";
	return j->state == JOB_OFFERING && !job_is_merged(j) ? "returned" :
	       j->state == JOB_LAPSED && j->fence > 0	      ? "lapsed" :
	       j->state == JOB_DONE			      ? outcome_event(j) :
								NULL;
}

void record_job(struct trainer *t, const struct entry *e, enum job_event_kind ev,
		enum job_state was, int64_t fence_was)
{
	const struct job *j = &e->job;
	bool made = j->state == JOB_OFFERING || j->outcome == JOB_O_ACTIVATED ||
		    j->outcome == JOB_O_KEPT || j->outcome == JOB_O_REFUSED ||
		    j->outcome == JOB_O_MERGED;
	struct audit_event line = {
		.peer = j->device,
		.checkpoint = made ? j->partial : j->manifest.id,
		.parent = made ? j->manifest.id : "",
		.fence = job_is_merged(j) ? 0 : j->fence,
		.number = job_is_merged(j) ? j->fence : j->window,
		.decision = j->state == JOB_DONE ? job_outcome_name(j->outcome) : "",
		.reason = j->reason,
	};

	if (!job_is_merged(j) && j->fence != fence_was) {
		record_say(t, &(struct audit_event){.event = "granted",
						    .peer = j->device,
						    .checkpoint = j->manifest.id,
						    .fence = j->fence});
	}
	if (j->state == JOB_OFFERING && was != JOB_OFFERING) {
		t->last_before = j->before;
		t->last_after = j->after;
	}
	line.event = step_event(j, ev, was);
	line.common = line.event && strcmp(line.event, "claimed") == 0;
	if (line.event)
		record_say(t, &line);
}

void record_head(struct trainer *t, struct device *d, int64_t seq, const char *hash)
{
	struct audit_head head = {.seq = seq};
	int64_t now_ms = trainer_now(t);

	/* What anybody may have said is no evidence, and must not keep what is out of the log. */
	if (t->trust && !*t->heard.signer)
		return;
	if (head.seq == 0 || head.seq == d->head_seq ||
	    (d->head_seq && now_ms - d->head_at_ms < HEAD_EVERY_MS))
		return;
	memcpy(head.hash, hash, sizeof(head.hash));
	d->head_seq = head.seq;
	d->head_at_ms = now_ms;
	record_say(t, &(struct audit_event){
			      .event = "head", .peer = d->id, .head = &head, .common = true});
}
