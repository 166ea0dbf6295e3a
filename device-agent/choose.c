/* Which checkpoint takes the place of what is active: `selector = best` compares counts, `selector
 * = confidence` asks whether the very same images say more than chance would. Both take only what
 * is right on more images than what is active, so that ties keep it. */
#include "device-agent/agent_impl.h"

#include <stdio.h>
#include <string.h>

#include "device-agent/selector.h"

#define TEST_BEST "best"

/* Whether a decision looks at single images. */
static bool paired(const struct agent *a)
{
	return choose_wants_outcomes(a) && *a->active;
}

bool choose_wants_outcomes(const struct agent *a)
{
	return a->conf.select.selector == SELECTOR_CONFIDENCE &&
	       a->data.n[SPLIT_VALIDATION] <= WORKER_OUTCOMES_MAX;
}

static const struct detail *detail_of(const struct agent *a, const char *checkpoint)
{
	return details_find(a->details, checkpoint, SPLIT_VALIDATION,
			    a->data.snapshot[SPLIT_VALIDATION]);
}

const struct score *choose_score(const struct agent *a, const char *checkpoint)
{
	const struct score *s = learn_score(a, checkpoint, SPLIT_VALIDATION);
	if (!s || !paired(a))
		return s;
	const struct detail *d = detail_of(a, checkpoint);
	return d && d->outcomes.n == (size_t)s->n ? s : NULL;
}

static struct candidate candidate_of(const struct agent *a, const char *checkpoint)
{
	const struct score *s = learn_score(a, checkpoint, SPLIT_VALIDATION);
	return (struct candidate){.checkpoint = checkpoint,
				  .snapshot = a->data.snapshot[SPLIT_VALIDATION],
				  .score = s ? *s : (struct score){0}};
}

/* The paper's way. */
static void choose_best(const struct agent *a, const char *const *ids, size_t n,
			struct verdict *ret)
{
	struct candidate c[VERDICT_CONTENDERS_MAX + 1];
	bool has_active = *a->active;
	size_t first = has_active;
	if (has_active)
		c[0] = candidate_of(a, a->active);
	for (size_t i = 0; i < n; i++) {
		c[first + i] = candidate_of(a, ids[i]);
		ret->pair[i] = (struct verdict_pair){.why = VERDICT_NOT_MORE};
		if (!has_active || selector_better(&c[first + i], &c[0]))
			ret->pair[i].why = VERDICT_OUTSCORED;
	}
	int best = selector_best(c, first + n, has_active ? 0 : -1);
	ret->winner = best < 0 ? -1 : best - (int)first;
	if (ret->winner >= 0)
		ret->pair[ret->winner].why = has_active ? VERDICT_TAKES_OVER : VERDICT_FIRST;
}

static struct contender contender_of(const struct agent *a, const char *checkpoint)
{
	const struct detail *d = detail_of(a, checkpoint);
	if (!d)
		return (struct contender){0};
	return (struct contender){d->outcomes, d->per_class, d->n_per_class};
}

static int choose_paired(const struct agent *a, const char *const *ids, size_t n,
			 struct verdict *ret)
{
	const struct select_conf *s = &a->conf.select;
	const struct verdict_conf conf = {
		.confidence = s->confidence,
		.floor_points = s->protect_points,
		.protect = s->protect,
		.n_protect = s->n_protect,
		.private_from = a->state->n_private ? (int32_t)a->model->n_classes : 0};
	struct contender active = contender_of(a, a->active), c[VERDICT_CONTENDERS_MAX];
	struct err err = {0};
	for (size_t i = 0; i < n; i++)
		c[i] = contender_of(a, ids[i]);
	int r = verdict_choose(&conf, &active, c, n, ret, &err);
	if (r < 0)
		log_error("device=%s nothing is decided: %s", a->conf.id, err.text);
	return r;
}

void choose(struct agent *a, const char *const *ids, size_t n, struct choice *ret)
{
	*ret = (struct choice){.verdict.winner = -1, .paired = paired(a)};
	if (!ret->paired)
		choose_best(a, ids, n, &ret->verdict);
	else if (choose_paired(a, ids, n, &ret->verdict) < 0)
		ret->verdict = (struct verdict){.winner = -1};
	ret->n = n;
	if (ret->verdict.unwatched && !a->warned_unwatched) {
		log_warning(
			"device=%s %zu of the protected classes (private ones count as one) have "
			"no validation image: nothing is known of them",
			a->conf.id, ret->verdict.unwatched);
		a->warned_unwatched = true;
	}
}

void choose_report(const struct agent *a, const struct choice *c, size_t i, struct msg_report *d)
{
	const struct verdict_pair *p = &c->verdict.pair[i];
	COPY(d->why, verdict_why_name(p->why));
	if (!*a->active)
		return;
	learn_against(a, a->active, d);
	d->contenders = (int64_t)c->n;
	COPY(d->test, c->paired ? VERDICT_TEST : TEST_BEST);
	if (!c->paired)
		return;
	d->has_pair = true;
	d->won = (int64_t)p->won;
	d->lost = (int64_t)p->lost;
	d->p = p->p_adjusted;
}

const char *choose_why(const struct agent *a, const struct choice *c, size_t i,
		       char ret[CHOOSE_WHY_SIZE])
{
	const struct verdict_pair *p = &c->verdict.pair[i];
	char class[32] = "", stands[80] = "";
	if (p->why == VERDICT_FLOOR && (uint32_t)p->floor_class >= a->model->n_classes)
		snprintf(class, sizeof(class), " class=private");
	else if (p->why == VERDICT_FLOOR)
		snprintf(class, sizeof(class), " class=%d", p->floor_class);
	if (c->paired)
		snprintf(stands, sizeof(stands), " images=%zu won=%zu lost=%zu p=%.4f",
			 c->verdict.n, p->won, p->lost, p->p_adjusted);
	snprintf(ret, CHOOSE_WHY_SIZE, "why=%s%s%s", verdict_why_name(p->why), class, stands);
	return ret;
}
