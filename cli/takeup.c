#include "cli/takeup.h"

#include <string.h>

static const char *const names[TAKEUP_N] = {"later", "waits", "offline", "kept its own", "in use"};

const char *takeup_name(enum takeup_state s)
{
	return (unsigned)s < TAKEUP_N ? names[s] : "?";
}

static bool is_of(const struct msg_fleet *f, const struct history_point *p)
{
	return p->origin == ORIGIN_FLEET &&
	       (!strncmp(p->checkpoint, f->manifest.id, HISTORY_DIGITS) ||
		p->at_s * 1000 >= f->manifest.created_ms);
}

/* The last point that is of it; `before` is of the swap before that point. */
static bool look(const struct msg_fleet *f, const struct msg_history *h, struct takeup *t)
{
	double in_use = -1;
	bool found = false;
	for (size_t i = 0; h && i < h->n_points; i++) {
		const struct history_point *p = &h->points[i];
		double accuracy = (double)p->correct / (double)p->n;
		if (is_of(f, p)) {
			found = true;
			t->accuracy = accuracy;
			t->before = in_use;
			t->state = p->swap ? TAKEUP_IN_USE : TAKEUP_KEPT;
		}
		if (p->swap)
			in_use = accuracy;
	}
	return found;
}

struct takeup takeup_of(const struct msg_fleet *f, const struct online_device *d,
			const struct msg_history *h)
{
	struct takeup t = {.accuracy = -1, .before = -1};
	const struct msg_status *s = &d->status;
	if (look(f, h, &t))
		return t;
	if (d->has_status && s->has_active && !strcmp(s->active.checkpoint, f->manifest.id)) {
		t.state = TAKEUP_IN_USE;
		t.accuracy = s->active.accuracy;
	} else if (f->halted || !fleet_has(d->id, f->manifest.sequence, f->share)) {
		t.state = TAKEUP_LATER;
	} else {
		t.state = d->has_presence && !d->online ? TAKEUP_OFFLINE : TAKEUP_WAITS;
	}
	return t;
}
