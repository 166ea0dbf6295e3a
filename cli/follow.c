#include "cli/follow.h"

#include <errno.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define POLL_MS 200

/* One handover is followed in a program's life. */
static struct {
	const char *device;
	bool begun, over;
	struct msg_report
		decision; /* the last one that told what came of it; its arrays are not kept */
	bool decided;
} follow;

static void on_status(const struct mqtt_message *m)
{
	struct msg_status s;
	if (m->retained || msg_status_parse(m->payload, m->len, &s, NULL) < 0)
		return;
	follow.begun |= s.handover[0] != 0;
	follow.over = follow.begun && !s.handover[0];
}

static void on_report(const struct mqtt_message *m)
{
	struct msg_report r;
	if (msg_report_parse(m->payload, m->len, &r, NULL) < 0)
		return;
	if (r.has_decision && r.split == SPLIT_VALIDATION &&
	    (r.origin == ORIGIN_EDGE || r.origin == ORIGIN_BLEND || r.origin == ORIGIN_TUNED) &&
	    (r.activated || !follow.decided || !follow.decision.activated)) {
		follow.decision = r;
		follow.decision.per_class = NULL;
		/* Statuses come once a second at most: a short handover may be in none of them. */
		follow.decided = follow.begun = true;
	}
	msg_report_done(&r);
}

static void on_message(struct online *o, const struct topic *t, const struct mqtt_message *m)
{
	if (strcmp(t->device, follow.device) != 0)
		return;
	if (t->kind == TOPIC_DEVICE_STATUS)
		on_status(m);
	else if (t->kind == TOPIC_DEVICE_REPORT)
		on_report(m);
}

void follow_prepare(struct online *o, const char *device)
{
	follow.device = device;
	o->on_message = on_message;
}

static void show(const struct online *o)
{
	const struct online_device *d = online_find(o, follow.device);
	char what[ID_SIZE + 32], detail[ID_SIZE + 64] = "";
	double share = 0;
	if (!d || !d->has_status)
		return;
	const struct msg_status *s = &d->status;
	snprintf(what, sizeof(what), "%.32s %s", d->id,
		 d->has_presence && !d->online ? "offline"
		 : *s->handover                ? s->handover
					       : "waits");
	if (d->has_job && *s->handover && !strcmp(d->trainer, s->trainer)) {
		share = d->job.progress;
		snprintf(detail, sizeof(detail), "%s at %s, epoch %lld of %lld", d->job.phase,
			 d->trainer, (long long)d->job.epoch, (long long)d->job.epochs);
	} else if (*s->trainer) {
		snprintf(detail, sizeof(detail), "at %s", s->trainer);
	}
	cli_progress(what, share, detail);
}

static void tell(struct json *answers)
{
	const struct msg_report *r = &follow.decision;
	const char *decision = !follow.decided ? "none" : r->activated ? "activated" : "kept";
	if (answers) {
		struct json *j = json_new_obj();
		json_set_str(j, "device", follow.device);
		json_set_str(j, "decision", decision);
		if (follow.decided)
			json_set_str(j, "checkpoint", r->checkpoint);
		json_push(answers, j);
	} else if (!follow.decided) {
		printf("%s: the handover is over without a decision (tasuki show %s)\n",
		       follow.device, follow.device);
	} else if (r->activated) {
		printf("%s: activated %.12s (%s), %.2f %%\n", follow.device, r->checkpoint,
		       origin_name(r->origin), 100 * score_accuracy(&r->score));
	} else {
		printf("%s: kept its own, %.2f %%; %.12s (%s) has %.2f %%\n", follow.device,
		       100 * r->against_accuracy, r->checkpoint, origin_name(r->origin),
		       100 * score_accuracy(&r->score));
	}
}

int follow_handover(struct online *o, struct json *answers, struct err *err)
{
	int r = 0;
	term_catch_interrupt();
	while (r == 0 && !follow.over && !term_interrupted()) {
		show(o);
		r = online_listen(o, clock_mono_ms() + POLL_MS, 0);
	}
	cli_progress_end();
	if (r < 0)
		return err_errno(err, r, "%s", follow.device);
	if (!follow.over)
		return err_set(err, -EINTR, "%s: no longer followed; the handover goes on",
			       follow.device);
	tell(answers);
	return 0;
}
