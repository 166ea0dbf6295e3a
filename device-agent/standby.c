/* When training steps aside: carries out what when.h says, by the pause that a person has, too.
 * What is evaluated and decided goes on: it is short, and a trainer waits for it. */
#include "device-agent/agent_impl.h"

#include <string.h>
#include <sys/sysinfo.h>

/* Also where nothing is asked any more, until that has come into force. */
static bool looks(const struct agent *a)
{
	const struct when *w = &a->standby.when;
	return a->port.readings && (when_any(&a->conf.when) || w->waits || w->no_handover);
}

/* Once for what is missing, whatever the next look says. */
static void warn_of_unread(struct agent *a, const struct when_readings *r)
{
	char text[WHEN_REASON_MAX];
	when_unread(&a->conf.when, r, text);
	if (!*text || strcmp(text, a->standby.unread) == 0)
		return;
	COPY(a->standby.unread, text);
	log_warning("device=%s [when] cannot be read on this machine, and holds nothing back: %s",
		    a->conf.id, text);
}

void standby_look(struct agent *a)
{
	struct when *w = &a->standby.when;
	const struct when before = *w;
	if (!looks(a) || a->now_ms < a->standby.at_ms)
		return;
	struct when_readings r = {
		.own = MIN_OF((double)a->data.threads / get_nprocs(), 1.0),
		.training = a->train_id && a->worker_ready && !a->worker_paused,
	};
	a->port.readings(a->port.user, &a->conf.when, a->conf.state, &r);
	warn_of_unread(a, &r);
	when_step(w, &a->conf.when, &r, a->now_ms);
	a->standby.at_ms = a->now_ms + WHEN_LOOK_MS;
	if (w->waits && (!before.waits || w->told != before.told))
		log_info("device=%s training waits: %s", a->conf.id, w->reason);
	else if (before.waits && !w->waits)
		log_info("device=%s training may go on", a->conf.id);
	if (w->no_handover != before.no_handover) {
		log_info("device=%s handovers %s: the way out is %s", a->conf.id,
			 w->no_handover ? "wait" : "go on",
			 w->no_handover ? "a metered link" : "not metered");
		fleet_way_out(a);
	}
	if (strcmp(w->reason, before.reason) != 0 || w->no_handover != before.no_handover)
		a->status_dirty = true;
}

void standby_reload(struct agent *a, const struct when_conf *conf)
{
	if (memcmp(&a->conf.when, conf, sizeof(*conf)) == 0)
		return;
	a->conf.when = *conf;
	when_again(&a->standby.when);
	a->standby.at_ms = 0;
}

bool standby_trains(const struct agent *a)
{
	return !a->state->paused && !a->standby.when.waits;
}

int64_t standby_deadline_ms(const struct agent *a)
{
	return looks(a) ? a->standby.at_ms : -1;
}
