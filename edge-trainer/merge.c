/* Windows: whose checkpoints become one, and who gets what is made of it.
 *
 * Model: the state of the jobs says all. Who is GATHERED and of no window waits for the next one; a
 * window is the jobs that carry its number, and one more, of no device (merge_entry()), that merges
 * and trains for them. There is one at a time, for each begins from the last one's result, too: the
 * trainer's own lineage. merge_run() looks at all of them after whatever happened, and does what is
 * due: so a restart needs nothing of its own. A member that loses its lease stays a member, and the
 * work goes on while any has one, and waits for one when none has, until another window is to
 * close; who is granted again finds the window at work, or what came of it, or is gathered anew. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "edge-trainer/trainer_priv.h"

struct entry *merge_entry(const struct trainer *t)
{
	return t->own.jobs;
}

static bool is_member(const struct entry *e, const struct entry *merged)
{
	return !entry_is_merged(e) && merged && e->job.window == merged->job.fence;
}

/* It waits, or soon will, for a window that has not closed. */
static bool is_coming(const struct entry *e)
{
	const struct job *j = &e->job;

	return !entry_is_merged(e) && j->pulled && j->epoch_done < j->epochs &&
	       (j->state == JOB_QUEUED || j->state == JOB_BEFORE ||
		(j->state == JOB_GATHERED && j->window == 0));
}

static bool is_gathered(const struct entry *e)
{
	return is_coming(e) && e->job.state == JOB_GATHERED;
}

/* A window at work, all of whose members are gone. */
static bool is_orphan(const struct entry *merged)
{
	return merged && merged->job.state == JOB_LAPSED;
}

/* --- the lineage --- */

static void begin_lineage(struct trainer *t, const struct manifest *m)
{
	free(t->merge.usual);
	t->merge.usual = NULL;
	t->merge.lineage = (struct manifest){0};
	if (!m->id[0] || !store_has(t->store, m->id))
		return;
	t->merge.lineage = *m;
	t->merge.usual = screening_norms(t, m->id);
}

int merge_load(struct trainer *t, struct err *err)
{
	struct manifest m;
	int r;

	if (!trainer_merges(t->conf)) {
		/* Another strategy by now: each device's job goes on for itself. */
		if (merge_entry(t))
			entry_event(t, merge_entry(t),
				    &(struct job_event){.kind = JOB_E_DROP,
							.reason = "the strategy was changed"});
		return 0;
	}
	r = db_job_lineage(t->db, &m, err);
	if (r == 0)
		begin_lineage(t, &m);
	return r;
}

void merge_free(struct trainer *t)
{
	free(t->merge.usual);
}

/* --- a window's work --- */

/* The first, by age, for which is() holds; NULL. */
static struct entry *oldest(const struct trainer *t, bool (*is)(const struct entry *e))
{
	struct entry *found = NULL;

	for (struct entry *e = t->entries; e; e = e->next) /* newest first */
		if (is(e))
			found = e;
	return found;
}

/* In the store, as it came. */
static bool is_whole(const struct trainer *t, const char *id)
{
	char path[FILE_PATH_MAX], found[HASH_SIZE];
	struct err err = {0};

	return store_weights(t->store, id, path) == 0 &&
	       weights_check(t->model, path, NULL, found, &err) == 0 && strcmp(found, id) == 0;
}

/* Whether the window failed for what it begins from: the next one begins without. */
static bool lineage_is_lost(struct trainer *t)
{
	static const struct manifest none;
	const char *id = t->merge.lineage.id;

	if (!id[0] || is_whole(t, id))
		return false;
	log_warning("checkpoint=%.12s, of the last window, is damaged: the next begins without it",
		    id);
	begin_lineage(t, &none);
	return true;
}

/* Members hear that their window failed; if some of it is damaged, they alone, and the others wait
 * for the next one. */
static void tell_failed(struct trainer *t)
{
	struct job_event bad = {.kind = JOB_E_BAD, .reason = t->merge.reason};
	struct entry *member[WINDOW_MEMBERS_MAX], *damaged[WINDOW_MEMBERS_MAX];
	size_t n = 0, n_damaged = 0;

	if (t->merge.failed == 0)
		return;
	for (struct entry *e = t->entries; e && n < WINDOW_MEMBERS_MAX; e = e->next)
		if (e->job.state == JOB_GATHERED && e->job.window == t->merge.failed) {
			member[n++] = e;
			if (!is_whole(t, e->job.manifest.id))
				damaged[n_damaged++] = e;
		}
	t->merge.failed = 0;
	if (n_damaged == 0 && lineage_is_lost(t))
		return;
	for (size_t i = 0; i < (n_damaged ? n_damaged : n); i++)
		entry_event(t, n_damaged ? damaged[i] : member[i], &bad);
}

/* Their window is no more, as after a restart in its first moments: they wait for the next. */
static void take_back(struct trainer *t)
{
	const struct entry *merged = merge_entry(t);

	for (struct entry *e = t->entries, *next; e; e = next) {
		next = e->next;
		if (e->job.state == JOB_GATHERED && e->job.window != 0 && !is_member(e, merged))
			entry_event_kind(t, e, JOB_E_TAKEN);
	}
}

/* The last deadline of its members' leases; -1: none has any. */
static int64_t last_deadline(const struct trainer *t, const struct entry *merged)
{
	int64_t last_ms = -1;

	for (const struct entry *e = t->entries; e; e = e->next)
		if (is_member(e, merged) && job_is_working(&e->job))
			last_ms = MAX_OF(last_ms, e->job.deadline_ms);
	return last_ms;
}

static void keep_working(struct trainer *t)
{
	struct entry *merged = merge_entry(t);
	struct job_event ev = {.kind = JOB_E_MEMBER};

	if (!merged || merged->job.state == JOB_OFFERING)
		return;
	ev.deadline_ms = last_deadline(t, merged);
	if (ev.deadline_ms > trainer_now(t))
		entry_event(t, merged, &ev);
	else if (merged->job.manifest.id[0] == '\0') /* nothing is lost */
		entry_event(t, merged,
			    &(struct job_event){.kind = JOB_E_DROP, .reason = "no member left"});
	else
		entry_event_kind(t, merged, JOB_E_ORPHANED);
}

static void deliver(struct trainer *t)
{
	struct entry *merged = merge_entry(t);
	const struct job *j;
	struct job_event ev;

	if (!merged || merged->job.state != JOB_OFFERING)
		return;
	j = &merged->job;
	ev = (struct job_event){.kind = JOB_E_RETURNED,
				.hash = j->partial,
				.score = &j->after,
				.snapshot = j->snapshot_after,
				.epochs = j->epoch_done,
				.images = j->images_trained,
				.ms = j->worked_ms};
	for (struct entry *e = t->entries, *next; e; e = next) {
		next = e->next;
		if (is_member(e, merged))
			entry_event(t, e, &ev);
	}
	entry_event_kind(t, merged, JOB_E_DELIVERED);
}

void merge_done(struct trainer *t, const struct entry *e)
{
	struct manifest m;

	if (e->job.outcome == JOB_O_MERGED) {
		entry_result(t, e, &m);
		begin_lineage(t, &m);
		fleet_merged(t, &m, &e->job.after);
		return;
	}
	t->merge.failed = e->job.fence;
	memcpy(t->merge.reason, e->job.reason, sizeof(t->merge.reason));
}

/* --- closing a window --- */

struct gathering {
	struct entry *e[WINDOW_MEMBERS_MAX]; /* the oldest */
	size_t n;
	struct window_seen seen;
};

static void look(struct trainer *t, struct gathering *g)
{
	*g = (struct gathering){.seen.busy = merge_entry(t) && !is_orphan(merge_entry(t))};
	for (struct entry *e = oldest(t, is_coming); e; e = e->prev) {
		if (!is_coming(e))
			continue;
		g->seen.pulled++;
		if (!is_gathered(e))
			continue;
		if (!e->norms)
			e->norms = screening_norms(t, e->job.manifest.id);
		g->seen.scored++;
		if (g->n < WINDOW_MEMBERS_MAX)
			g->e[g->n++] = e;
	}
}

/* What the store has lost, or cannot read: it is to come again. */
static void drop_unread(struct trainer *t, struct gathering *g)
{
	struct job_event bad = {.kind = JOB_E_BAD, .reason = err_category_text(ERR_FILE)};
	size_t n = 0;

	for (size_t i = 0; i < g->n; i++) {
		if (g->e[i]->norms) {
			g->e[n++] = g->e[i];
			continue;
		}
		log_warning("left out of its window job=%lld device=%s: cannot be read",
			    (long long)g->e[i]->job.id, g->e[i]->job.device);
		entry_event(t, g->e[i], &bad);
	}
	g->n = n;
}

static void screen(struct trainer *t, struct gathering *g)
{
	struct screen_member m[WINDOW_MEMBERS_MAX];
	size_t n = 0;

	drop_unread(t, g);
	for (size_t i = 0; i < g->n; i++)
		m[i] = (struct screen_member){.norms = g->e[i]->norms,
					      .edge = g->e[i]->job.before,
					      .reported = g->e[i]->job.reported};
	screen_judge(t->model, m, g->n, t->merge.usual);
	for (size_t i = 0; i < g->n; i++)
		if (m[i].verdict == SCREEN_FINE)
			g->e[n++] = g->e[i];
		else
			screening_out(t, g->e[i], m[i].verdict, NULL);
	g->n = n;
}

static void share_out(struct trainer *t, struct gathering *g)
{
	struct window_count counts[WINDOW_MEMBERS_MAX];
	struct mixture_member m[WINDOW_MEMBERS_MAX];
	double shares[WINDOW_MEMBERS_MAX];
	bool agnostic = t->conf->strategy == STRATEGY_AGNOSTIC;

	for (size_t i = 0; i < g->n; i++) {
		const struct manifest *k = &g->e[i]->job.manifest;

		counts[i] = (struct window_count){k->images_seen, k->epoch};
		m[i] = (struct mixture_member){g->e[i]->device->weight, g->e[i]->device->error};
	}
	window_shares(counts, g->n, shares);
	if (agnostic)
		mixture_step(&t->conf->mixture, m, g->n);
	for (size_t i = 0; i < g->n; i++) {
		struct device *d = g->e[i]->device;

		g->e[i]->share = agnostic ? m[i].weight / (double)g->n : shares[i];
		if (!agnostic)
			continue;
		d->weight = m[i].weight;
		d->error = m[i].error;
		device_touch(t, d);
	}
}

/* What the merged checkpoint will be, but for its id: the lineage counts what this trainer did, for
 * what devices say of theirs is their word. */
static void describe_merged(const struct trainer *t, const struct gathering *g, struct manifest *m)
{
	*m = (struct manifest){
		.origin = ORIGIN_EDGE,
		.epoch = t->merge.lineage.epoch,
		.images_seen = t->merge.lineage.images_seen,
		.classes = (int64_t)t->model->n_classes,
		.size = (int64_t)t->model->file_bytes,
		.block_size = t->conf->block_size,
		.created_ms = trainer_utc(t),
		.encoding = ENCODING_RAW,
	};
	memcpy(m->model, t->model->id, sizeof(m->model));
	memcpy(m->device, t->conf->id, sizeof(m->device));
	memcpy(m->trainer, t->conf->id, sizeof(m->trainer));
	for (size_t i = 0; i < g->n; i++)
		manifest_add_parent(m, g->e[i]->job.manifest.id);
}

static void close_window(struct trainer *t)
{
	struct gathering g;
	struct manifest m;
	struct err err = {0};
	struct entry *merged;
	int64_t number;

	look(t, &g);
	if (!window_step(&t->merge.window, &t->conf->window, &g.seen, trainer_now(t)))
		return;
	screen(t, &g);
	if (g.n == 0)
		return;
	/* Whoever left a window behind does not hold up the others. */
	if (is_orphan(merge_entry(t))) {
		entry_event(t, merge_entry(t),
			    &(struct job_event){.kind = JOB_E_DROP, .reason = "no member left"});
		t->merge.failed = 0; /* nobody is to blame: they are taken back */
	}
	merged = entry_new(t, &t->own);
	if (!merged)
		return; /* too many jobs: it opens again */
	if (db_next(t->db, "window", &number, &err) < 0) {
		trainer_fault(t, &err);
		entry_free(t, merged);
		return;
	}
	share_out(t, &g);
	describe_merged(t, &g, &m);
	job_init_merged(&merged->job, &t->job_conf, number, &m, rng_u64(&t->rng));
	for (size_t i = 0; i < g.n; i++) {
		log_info("window=%lld device=%s checkpoint=%.12s share=%.4f edge=%lld/%lld",
			 (long long)number, g.e[i]->device->id, g.e[i]->job.manifest.id,
			 g.e[i]->share, (long long)g.e[i]->job.before.correct,
			 (long long)g.e[i]->job.before.n);
		entry_event(t, g.e[i], &(struct job_event){.kind = JOB_E_TAKEN, .window = number});
	}
	keep_working(t);
}

void merge_run(struct trainer *t)
{
	if (!trainer_merges(t->conf) || t->stopping)
		return;
	tell_failed(t);
	take_back(t);
	keep_working(t);
	deliver(t);
	close_window(t);
}

int64_t merge_next_ms(const struct trainer *t)
{
	int64_t at_ms = trainer_merges(t->conf) && (!merge_entry(t) || is_orphan(merge_entry(t)))
				? window_next_ms(&t->merge.window, &t->conf->window)
				: -1;

	/* Past that it waits for something else to happen: that somebody is scored. */
	return at_ms > trainer_now(t) ? at_ms : -1;
}

/* --- what the worker is asked --- */

static_assert(WINDOW_MEMBERS_MAX + 1 <= WEIGHTS_INPUTS_MAX, "a window fits into one merge");

static int add_input(const struct trainer *t, struct json *inputs, const char *id, double share)
{
	char path[FILE_PATH_MAX];
	struct json *one;

	if (share <= 0 || store_weights(t->store, id, path) < 0)
		return 0;
	one = json_new_obj();
	json_set_str(one, "weights", path);
	json_set_num(one, "share", share);
	json_push(inputs, one);
	return 1;
}

int merge_inputs(struct trainer *t, const struct entry *e, struct json *args, char id[HASH_SIZE])
{
	struct json *inputs = json_new_arr();
	double lineage = t->merge.lineage.id[0] ? t->conf->lineage_share : 0;
	int n = 0;

	json_set(args, "inputs", inputs);
	if (e->job.state == JOB_MIXING) {
		json_set_bool(args, "settle", true);
		memcpy(id, e->job.partial, HASH_SIZE);
		n += add_input(t, inputs, e->job.partial, 1 - t->conf->final_share);
		return n + add_input(t, inputs, e->job.manifest.id, t->conf->final_share);
	}
	/* What a member handed over is in, also where its lease ended since. */
	for (const struct entry *o = t->entries; o; o = o->next)
		if (is_member(o, e) &&
		    add_input(t, inputs, o->job.manifest.id, o->share * (1 - lineage)) > 0) {
			memcpy(id, o->job.manifest.id, HASH_SIZE);
			n++;
		}
	return n > 0 ? n + add_input(t, inputs, t->merge.lineage.id, lineage) : 0;
}

/* --- what is said --- */

void merge_scored(const struct trainer *t, const struct entry *merged, const struct score *score)
{
	int64_t least = score->n;

	for (const struct entry *e = t->entries; e; e = e->next)
		if (is_member(e, merged) && e->job.before.n == score->n)
			least = MIN_OF(least, e->job.before.correct);
	if (score->correct < least)
		log_warning("window=%lld scores %lld/%lld merged, each of its members at least "
			    "%lld: did "
			    "the devices begin from different weights?",
			    (long long)merged->job.fence, (long long)score->correct,
			    (long long)score->n, (long long)least);
}

/* What the device says of the result on its own validation images moves its weight at the next
 * merge. */
void merge_acknowledged(struct trainer *t, const struct entry *e)
{
	const struct score *s = &e->job.validation;

	if (t->conf->strategy != STRATEGY_AGNOSTIC || !e->job.window || s->n <= 0)
		return;
	e->device->error = 1 - score_accuracy(s);
	device_touch(t, e->device);
}

void merge_report(struct trainer *t)
{
	for (struct entry *e = t->entries; e; e = e->next)
		if (e->job.state == JOB_GATHERED && is_member(e, merge_entry(t)))
			entry_report(t, e);
}

void merge_describe(const struct trainer *t, struct msg_trainer_status *m)
{
	const struct entry *merged = merge_entry(t);

	snprintf(m->strategy, sizeof(m->strategy), "%s", strategy_name(t->conf->strategy));
	for (const struct entry *e = t->entries; e; e = e->next)
		if (merged ? is_member(e, merged) : is_gathered(e)) {
			m->members++;
			if (m->n_window < MESSAGE_WINDOW_MAX)
				memcpy(m->window[m->n_window++], e->job.device, ID_SIZE);
		}
}
