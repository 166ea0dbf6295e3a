#include "device-agent/candidates.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

const char *candidate_kind_name(enum candidate_kind k)
{
	static const char *const names[CANDIDATE_KIND_N] = {"local", "returned", "blend", "tuned",
							    "previous"};
	return names[k];
}

static void add(struct judgement *j, enum candidate_kind kind, int64_t percent,
		const char *checkpoint)
{
	struct candidate_entry *e = &j->at[j->n++];
	*e = (struct candidate_entry){.kind = kind, .percent = percent};
	COPY(e->checkpoint, checkpoint);
}

void candidates_begin(struct judgement *j, const struct select_conf *c, const char *result,
		      const char *local, const char *previous, bool graft)
{
	bool own = *local && !same(local, result);
	*j = (struct judgement){0};
	COPY(j->result, result);
	if (own)
		add(j, CANDIDATE_LOCAL, 0, local);
	add(j, CANDIDATE_RETURNED, 0, graft ? "" : result);
	for (size_t i = 0; own && i < c->n_blends; i++)
		add(j, CANDIDATE_BLEND, c->blends[i], "");
	if (c->previous && *previous && !same(previous, local) && !same(previous, result))
		add(j, CANDIDATE_PREVIOUS, 0, previous);
	if (c->tune_steps > 0)
		add(j, CANDIDATE_TUNED, 0, "");
}

struct candidate_entry *candidates_find(struct judgement *j, const char *checkpoint)
{
	for (size_t i = 0; *checkpoint && i < j->n; i++)
		if (same(j->at[i].checkpoint, checkpoint))
			return &j->at[i];
	return NULL;
}

const struct candidate_entry *candidates_kind(const struct judgement *j, enum candidate_kind k)
{
	for (size_t i = 0; i < j->n; i++)
		if (j->at[i].kind == k)
			return &j->at[i];
	return NULL;
}

bool candidate_descends(const struct candidate_entry *e)
{
	return e->kind == CANDIDATE_RETURNED || e->kind == CANDIDATE_BLEND ||
	       e->kind == CANDIDATE_TUNED;
}

static bool usable(const struct candidate_entry *e)
{
	return e && !e->out && *e->checkpoint;
}

static bool missing(const struct candidates_view *v, const char *checkpoint, enum split split,
		    struct candidates_step *ret)
{
	if (!*checkpoint || !v->has_split[split] || v->score(v->user, checkpoint, split))
		return false;
	*ret = (struct candidates_step){
		.todo = CANDIDATES_SCORE, .checkpoint = checkpoint, .split = split};
	return true;
}

static bool both_missing(const struct candidates_view *v, const struct candidate_entry *e,
			 struct candidates_step *ret)
{
	return usable(e) && (missing(v, e->checkpoint, SPLIT_TEST, ret) ||
			     missing(v, e->checkpoint, SPLIT_VALIDATION, ret));
}

/* What the decision cannot do without, and the trainer is told. */
static bool needed(const struct judgement *j, const struct candidates_view *v,
		   struct candidates_step *ret)
{
	const struct candidate_entry *returned = candidates_kind(j, CANDIDATE_RETURNED);
	if (returned && !returned->out && !*returned->checkpoint) {
		*ret = (struct candidates_step){.todo = CANDIDATES_GRAFT,
						.entry = (size_t)(returned - j->at),
						.checkpoint = j->result};
		return true;
	}
	return missing(v, v->active, SPLIT_VALIDATION, ret) ||
	       both_missing(v, candidates_kind(j, CANDIDATE_LOCAL), ret) ||
	       both_missing(v, returned, ret);
}

static bool blend_step(const struct judgement *j, const struct candidates_view *v, size_t i,
		       struct candidates_step *ret)
{
	if (*j->at[i].checkpoint)
		return missing(v, j->at[i].checkpoint, SPLIT_VALIDATION, ret);
	if (!usable(candidates_kind(j, CANDIDATE_LOCAL)) ||
	    !usable(candidates_kind(j, CANDIDATE_RETURNED)))
		return false;
	*ret = (struct candidates_step){.todo = CANDIDATES_BLEND, .entry = i};
	return true;
}

static bool tune_step(const struct judgement *j, const struct candidates_view *v, size_t i,
		      struct candidates_step *ret)
{
	const struct candidate_entry *returned = candidates_kind(j, CANDIDATE_RETURNED);
	if (*j->at[i].checkpoint)
		return missing(v, j->at[i].checkpoint, SPLIT_VALIDATION, ret);
	if (!v->can_train || !usable(returned))
		return false;
	*ret = (struct candidates_step){
		.todo = CANDIDATES_TUNE, .entry = i, .checkpoint = returned->checkpoint};
	return true;
}

typedef bool step_fn(const struct judgement *j, const struct candidates_view *v, size_t i,
		     struct candidates_step *ret);

static bool previous_step(const struct judgement *j, const struct candidates_view *v, size_t i,
			  struct candidates_step *ret)
{
	return missing(v, j->at[i].checkpoint, SPLIT_VALIDATION, ret);
}

/* Only where there is something to wait for, which is to be done after it. */
static bool early_step(const struct judgement *j, const struct candidates_view *v,
		       struct candidates_step *ret)
{
	const struct candidate_entry *e = candidates_kind(j, CANDIDATE_RETURNED);
	if (!usable(e) || e->early || same(e->checkpoint, v->active))
		return false;
	*ret = (struct candidates_step){.todo = CANDIDATES_EARLY,
					.entry = (size_t)(e - j->at),
					.checkpoint = e->checkpoint};
	return true;
}

struct candidates_step candidates_next(const struct judgement *j, const struct candidates_view *v)
{
	static step_fn *const steps[CANDIDATE_KIND_N] = {
		[CANDIDATE_BLEND] = blend_step,
		[CANDIDATE_TUNED] = tune_step,
		[CANDIDATE_PREVIOUS] = previous_step,
	};
	struct candidates_step s;
	if (needed(j, v, &s))
		return s;
	for (size_t i = 0; !v->over && v->has_split[SPLIT_VALIDATION] && i < j->n; i++) {
		const struct candidate_entry *e = &j->at[i];
		if (!e->out && steps[e->kind] && steps[e->kind](j, v, i, &s)) {
			early_step(j, v, &s);
			return s;
		}
	}
	return (struct candidates_step){.todo = CANDIDATES_DECIDE};
}

bool candidates_tuning(const struct judgement *j, const struct candidates_view *v)
{
	const struct candidate_entry *e = candidates_kind(j, CANDIDATE_TUNED);
	if (!e || e->out || v->over || !v->has_split[SPLIT_VALIDATION])
		return false;
	return *e->checkpoint ? !v->score(v->user, e->checkpoint, SPLIT_VALIDATION) : v->can_train;
}
