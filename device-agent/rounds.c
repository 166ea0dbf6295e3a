#include "device-agent/rounds.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"

void rounds_restart(struct rounds *r, int64_t now_ms)
{
	r->pause_until_ms = now_ms;
	r->rescanned_ms = now_ms;
	r->fresh = true;
}

/* Whether a round may begin by itself. */
static bool more_rounds(const struct rounds *r, const struct agent_live *c)
{
	return c->rounds == 0 || r->rounds_done < c->rounds;
}

static int64_t rescan_due_ms(const struct rounds *r, const struct agent_live *c)
{
	return c->rescan_s ? r->rescanned_ms + c->rescan_s * 1000 : -1;
}

/* Nothing to train now: images are looked for at intervals. */
static enum rounds_todo rest(const struct rounds *r, const struct agent_live *c,
			     enum rounds_todo todo, int64_t until_ms, int64_t now_ms,
			     int64_t *ret_wake_ms)
{
	int64_t scan_ms = rescan_due_ms(r, c);
	if (scan_ms >= 0 && now_ms >= scan_ms)
		return ROUNDS_RESCAN;
	*ret_wake_ms = until_ms < 0 ? scan_ms : scan_ms < 0 ? until_ms : MIN_OF(until_ms, scan_ms);
	return todo;
}

enum rounds_todo rounds_next(struct rounds *r, const struct agent_live *c,
			     const struct rounds_view *v, int64_t now_ms, int64_t *ret_wake_ms)
{
	*ret_wake_ms = -1;
	if (v->paused)
		return ROUNDS_PAUSED;
	if (v->n_train == 0)
		return rest(r, c, ROUNDS_IDLE, -1, now_ms, ret_wake_ms);
	if (r->round_wanted == 0) {
		if (!more_rounds(r, c))
			return rest(r, c, ROUNDS_IDLE, -1, now_ms, ret_wake_ms);
		if (now_ms < r->pause_until_ms)
			return rest(r, c, ROUNDS_WAIT, r->pause_until_ms, now_ms, ret_wake_ms);
		r->round_wanted = c->round_epochs;
		r->round_epoch = 0;
	}
	if (c->rescan_s && !r->fresh)
		return ROUNDS_RESCAN;
	return ROUNDS_TRAIN;
}

void rounds_scanned(struct rounds *r, const struct agent_live *c, const char *train_snapshot,
		    int64_t now_ms)
{
	r->rescanned_ms = now_ms;
	r->fresh = true;
	bool grown = *r->train_snapshot && strcmp(r->train_snapshot, train_snapshot) != 0;
	if (grown && r->round_wanted == 0 && !more_rounds(r, c)) {
		r->round_wanted = c->round_epochs;
		r->round_epoch = 0;
	}
}

void rounds_trained(struct rounds *r, const struct agent_live *c, int64_t images,
		    const char *train_snapshot, int64_t now_ms)
{
	r->epoch++;
	r->images_seen = MIN_OF(r->images_seen + images, (int64_t)WEIGHTS_SEEN_MAX);
	r->fresh = false;
	snprintf(r->train_snapshot, sizeof(r->train_snapshot), "%s", train_snapshot);
	if (++r->round_epoch < r->round_wanted)
		return;
	r->rounds_done++;
	r->round_wanted = r->round_epoch = 0;
	r->pause_until_ms = now_ms + c->round_pause_s * 1000;
}

void rounds_scored(struct rounds *r, const struct score *s, const char *snapshot)
{
	if (r->top.n == 0 || score_accuracy(s) > score_accuracy(&r->top))
		r->top = *s;
	bool same = r->best.n == s->n && strcmp(r->best_snapshot, snapshot) == 0;
	if (same && s->correct <= r->best.correct)
		return;
	r->best = *s;
	snprintf(r->best_snapshot, sizeof(r->best_snapshot), "%s", snapshot);
	r->best_epoch = r->epoch;
}

void rounds_adopted(struct rounds *r, const struct score *s, const char *snapshot)
{
	r->adopted_epoch = r->epoch;
	rounds_scored(r, s, snapshot);
}

int64_t rounds_order(struct rounds *r, const struct agent_live *c, int64_t epochs)
{
	r->round_wanted = epochs > 0 ? epochs : c->round_epochs;
	r->round_epoch = 0;
	return r->round_wanted;
}

bool rounds_offer_due(const struct rounds *r, const struct agent_live *c)
{
	if (r->epoch == 0)
		return false;
	if (r->offer_ordered)
		return true;
	if (r->epoch < c->min_epochs || r->epoch <= MAX_OF(r->offer_epoch, r->adopted_epoch))
		return false;
	if (c->min_accuracy_percent &&
	    (r->top.n == 0 ||
	     100.0 * (double)r->top.correct < (double)c->min_accuracy_percent * (double)r->top.n))
		return false;
	if (c->every_epochs && r->epoch - r->offer_epoch >= c->every_epochs)
		return true;
	return c->plateau_epochs &&
	       r->epoch - MAX_OF(r->best_epoch, r->offer_epoch) >= c->plateau_epochs;
}

void rounds_offered(struct rounds *r, int64_t epoch)
{
	r->offer_epoch = epoch;
	r->offer_ordered = false;
}
