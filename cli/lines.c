#include "cli/lines.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 512

static void say(lines_emit *emit, void *user, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void say(lines_emit *emit, void *user, const char *what, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	emit(user, what, text);
}

void lines_presence(const struct msg_presence *before, const struct msg_presence *m,
		    lines_emit *emit, void *user)
{
	if (before && before->online == m->online && before->boot == m->boot)
		return;
	if (m->online)
		say(emit, user, "presence", "online, boot %lld", (long long)m->boot);
	else
		say(emit, user, "presence", "offline");
}

void lines_status(const struct msg_status *before, const struct msg_status *m, lines_emit *emit,
		  void *user)
{
	bool reason = *m->reason && (!before || strcmp(before->reason, m->reason) != 0);
	if (!before || before->phase != m->phase || reason)
		say(emit, user, "phase", "%s, epoch %lld%s%s", phase_name(m->phase),
		    (long long)m->epoch, *m->reason ? ": " : "", m->reason);
	if (strcmp(before ? before->handover : "", m->handover) != 0 ||
	    strcmp(before ? before->trainer : "", m->trainer) != 0)
		say(emit, user, "handover", "handover %s%s%s", *m->handover ? m->handover : "over",
		    *m->trainer ? " at " : "", m->trainer);
	if (!m->has_active || (before && before->has_active &&
			       !strcmp(before->active.checkpoint, m->active.checkpoint) &&
			       before->active.pinned == m->active.pinned))
		return;
	char accuracy[24] = "";
	if (m->active.accuracy >= 0)
		snprintf(accuracy, sizeof(accuracy), ", %.2f %%", 100 * m->active.accuracy);
	say(emit, user, "active", "active %.12s (%s%s)%s", m->active.checkpoint,
	    origin_name(m->active.origin), m->active.pinned ? ", pinned" : "", accuracy);
}

void lines_report(const struct msg_report *m, lines_emit *emit, void *user)
{
	char decision[160] = "";
	if (m->has_decision && m->has_against)
		snprintf(decision, sizeof(decision), "; %s against %.12s, %.2f %%%s%s",
			 m->activated ? "activated" : "kept", m->against, 100 * m->against_accuracy,
			 *m->why ? ": " : "", m->why);
	else if (m->has_decision)
		snprintf(decision, sizeof(decision), "; %s", m->activated ? "activated" : "kept");
	say(emit, user, "report", "report %lld: %.12s (%s) %.2f %%, %lld of %lld %s images%s",
	    (long long)m->seq, m->checkpoint, origin_name(m->origin),
	    100 * score_accuracy(&m->score), (long long)m->score.correct, (long long)m->score.n,
	    split_name(m->split), decision);
}

void lines_trainer(const struct msg_trainer_status *before, const struct msg_trainer_status *m,
		   lines_emit *emit, void *user)
{
	if (!before || before->active != m->active || before->queued != m->queued ||
	    before->members != m->members)
		say(emit, user, "load", "%lld active, %lld queued of %lld; %lld handovers done",
		    (long long)m->active, (long long)m->queued, (long long)m->capacity,
		    (long long)m->handovers);
	if (*m->reason && (!before || strcmp(before->reason, m->reason) != 0))
		say(emit, user, "reason", "%s", m->reason);
	if (before && m->refused > before->refused)
		say(emit, user, "refused", "%lld checkpoints screened out, in all",
		    (long long)m->refused);
	if (before && m->quarantined != before->quarantined)
		say(emit, user, "quarantine", "%lld devices in quarantine",
		    (long long)m->quarantined);
}

static void score_text(char buf[24], const struct score *s)
{
	if (s->n)
		snprintf(buf, 24, "%.2f %%", 100 * score_accuracy(s));
	else
		snprintf(buf, 24, "not scored");
}

void lines_job(const struct msg_job *before, const struct msg_job *m, lines_emit *emit, void *user)
{
	char from[24], to[24];
	if (before && before->fence == m->fence && !strcmp(before->phase, m->phase) &&
	    !strcmp(before->checkpoint, m->checkpoint) && before->epoch == m->epoch)
		return;
	score_text(from, &m->before);
	score_text(to, &m->after);
	if (m->after.n)
		say(emit, user, "job", "job of %s: %s, %.12s, from %s to %s", m->device, m->phase,
		    m->checkpoint, from, to);
	else if (m->epochs)
		say(emit, user, "job", "job of %s: %s, epoch %lld of %lld%s%s", m->device, m->phase,
		    (long long)m->epoch, (long long)m->epochs, m->before.n ? ", came with " : "",
		    m->before.n ? from : "");
	else
		say(emit, user, "job", "job of %s: %s", m->device, m->phase);
}

void lines_fleet(const struct msg_fleet *m, lines_emit *emit, void *user)
{
	if (m->halted)
		say(emit, user, "rollout", "for everyone: %.12s halted: %s", m->manifest.id,
		    m->reason);
	else
		say(emit, user, "rollout", "for everyone: %.12s, to %s%lld %% of the devices",
		    m->manifest.id, m->share < 100 ? "the first " : "", (long long)m->share);
}
