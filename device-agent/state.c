#include "device-agent/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/json/json.h"

#define STATE_VERSION 1

#define COPY(to, from) snprintf(to, sizeof(to), "%s", from)

static struct json *print_score(const struct score *s)
{
	struct json *j = json_new_obj();
	json_set_int(j, "n", s->n);
	json_set_int(j, "correct", s->correct);
	json_set_num(j, "loss", s->loss);
	return j;
}

static struct json *print_rounds(const struct rounds *r)
{
	struct json *j = json_new_obj();
	json_set_int(j, "epoch", r->epoch);
	json_set_int(j, "images_seen", r->images_seen);
	json_set_int(j, "rounds_done", r->rounds_done);
	json_set_int(j, "round_epoch", r->round_epoch);
	json_set_int(j, "round_wanted", r->round_wanted);
	json_set_int(j, "offer_epoch", r->offer_epoch);
	json_set_bool(j, "offer_ordered", r->offer_ordered);
	json_set(j, "best", print_score(&r->best));
	json_set_str(j, "best_snapshot", r->best_snapshot);
	json_set_int(j, "best_epoch", r->best_epoch);
	json_set_str(j, "train_snapshot", r->train_snapshot);
	json_set_int(j, "adopted_epoch", r->adopted_epoch);
	json_set(j, "top", print_score(&r->top));
	return j;
}

/* Messages are kept as the text that would be sent: their own decoders check them. */
static void set_text(struct json *j, const char *key, char *text)
{
	if (text)
		json_set_str(j, key, text);
	else
		json_set(j, key, NULL); /* remembered as a failure */
	free(text);
}

static struct json *print_fleet(const struct state *s)
{
	struct json *j = json_new_obj();
	json_set_int(j, "sequence", s->fleet.sequence);
	json_set_str(j, "id", s->fleet.id);
	if (s->fleet.offer.manifest.sequence)
		set_text(j, "offer", msg_fleet_print(&s->fleet.offer));
	if (*s->fleet.key)
		json_set_str(j, "key", s->fleet.key);
	return j;
}

static struct json *print_privacy(const struct state *s)
{
	struct json *j = json_new_obj();
	json_set_num(j, "spent", s->privacy.spent);
	json_set_int(j, "handovers", s->privacy.handovers);
	json_set_str(j, "counted", s->privacy.counted);
	json_set_str(j, "whole", s->privacy.whole);
	json_set_str(j, "noised", s->privacy.noised);
	return j;
}

static struct json *print_handover(const struct handover *h)
{
	struct json *j = json_new_obj(), *decided = json_new_arr();
	json_set_int(j, "phase", h->phase);
	json_set_str(j, "checkpoint", h->checkpoint);
	json_set_int(j, "fence", h->fence);
	json_set_str(j, "trainer", h->trainer);
	json_set_str(j, "granted", h->granted);
	json_set_int(j, "lease_ms", h->lease_ms);
	json_set_bool(j, "open", h->open);
	if (h->phase == HANDOVER_PULLING || h->phase == HANDOVER_JUDGING)
		set_text(j, "result", msg_result_print(&h->result));
	for (size_t i = 0; i < h->n_decided; i++) {
		struct json *d = json_new_obj();
		json_set_str(d, "trainer", h->decided[i].trainer);
		set_text(d, "ack", msg_ack_print(&h->decided[i].ack));
		json_push(decided, d);
	}
	json_set(j, "decided", decided);
	return j;
}

static struct json *print_judgement(const struct judgement *g)
{
	struct json *j = json_new_obj(), *candidates = json_new_arr();
	json_set_str(j, "result", g->result);
	for (size_t i = 0; i < g->n; i++) {
		const struct candidate_entry *e = &g->at[i];
		struct json *c = json_new_obj();
		json_set_str(c, "kind", candidate_kind_name(e->kind));
		json_set_int(c, "percent", e->percent);
		json_set_str(c, "checkpoint", e->checkpoint);
		json_set_bool(c, "out", e->out);
		json_set_bool(c, "early", e->early);
		json_push(candidates, c);
	}
	json_set(j, "candidates", candidates);
	return j;
}

/* What keeps messages from being played again. */
static struct json *print_fresh(const struct state *s)
{
	struct json *j = json_new_obj(), *taken = json_new_arr();
	json_set_int(j, "sequence", s->sequence);
	for (size_t i = 0; i < s->n_taken; i++) {
		const struct state_taken *t = &s->taken[i];
		struct json *e = json_new_obj();
		json_set_str(e, "trainer", t->trainer);
		json_set_int(e, "sequence", t->last.sequence);
		json_set_str(e, "id", t->last.id);
		json_set_bool(e, "over", t->last.over);
		json_push(taken, e);
	}
	json_set(j, "taken", taken);
	return j;
}

static struct json *print_scores(const struct state *s)
{
	struct json *a = json_new_arr();
	for (size_t i = 0; i < s->n_scores; i++) {
		const struct state_score *p = &s->scores[i];
		struct json *j = print_score(&p->score);
		json_set_str(j, "checkpoint", p->checkpoint);
		json_set_str(j, "split", split_name(p->split));
		json_set_str(j, "snapshot", p->snapshot);
		json_push(a, j);
	}
	return a;
}

static struct json *print_commands(const struct state *s)
{
	struct json *a = json_new_arr();
	for (size_t i = 0; i < s->n_commands; i++) {
		struct json *j = json_new_obj();
		json_set_str(j, "id", s->commands[i].id);
		json_set_str(j, "reply", s->commands[i].reply);
		json_push(a, j);
	}
	return a;
}

static struct json *print_spent(const struct state *s)
{
	struct json *a = json_new_arr();
	for (size_t i = 0; i < s->n_spent; i++) {
		struct json *j = json_new_obj();
		json_set_str(j, "id", s->spent[i].id);
		json_set_int(j, "until", s->spent[i].until_ms);
		json_push(a, j);
	}
	return a;
}

int state_save(const char *path, const struct state *s, struct err *err)
{
	struct json *j = json_new_obj(), *pending = json_new_obj();
	json_set_int(j, "version", STATE_VERSION);
	json_set_str(j, "model", s->model);
	json_set_str(j, "log", s->log);
	json_set_int(j, "boot", s->boot);
	json_set_int(j, "report_seq", s->report_seq);
	json_set_bool(j, "paused", s->paused);
	json_set_bool(j, "pinned", s->pinned);
	json_set_int(j, "private_classes", s->n_private);
	json_set_str(j, "base", s->bases[0]);
	json_set_str(j, "base_before", s->bases[1]);
	json_set_str(j, "first", s->first);
	json_set_str(j, "local", s->local);
	struct json *undecided = json_new_arr();
	for (size_t i = 0; i < s->n_undecided; i++)
		json_push_str(undecided, s->undecided[i]);
	json_set(j, "undecided", undecided);
	if (s->fleet.sequence)
		json_set(j, "fleet", print_fleet(s));
	if (s->sequence || s->n_taken)
		json_set(j, "fresh", print_fresh(s));
	if (*s->privacy.noised)
		json_set(j, "privacy", print_privacy(s));
	json_set(j, "rounds", print_rounds(&s->rounds));
	struct json *link = json_new_obj();
	json_set_int(link, "day", s->link.day);
	json_set_int(link, "bytes", s->link.bytes);
	json_set_int(link, "moved", s->moved_bytes);
	json_set(j, "link", link);
	json_set(j, "handover", print_handover(&s->handover));
	if (*s->seal.secret) {
		struct json *seal = json_new_obj();
		json_set_str(seal, "secret", s->seal.secret);
		json_set_str(seal, "theirs", s->seal.theirs);
		json_set(j, "seal", seal);
	}
	if (*s->judgement.result)
		json_set(j, "judgement", print_judgement(&s->judgement));
	json_set(j, "scores", print_scores(s));
	json_set(j, "commands", print_commands(s));
	if (s->n_spent)
		json_set(j, "spent", print_spent(s));
	json_set_str(pending, "activate", s->pending.activate);
	json_set_int(pending, "seq", s->pending.seq);
	json_set_str(pending, "report", s->pending.report);
	json_set(j, "pending", pending);
	_cleanup_free_ char *text = json_print(j);
	json_free(j);
	if (!text)
		return err_errno(err, -ENOMEM, "%s", path);
	bool secret = *s->seal.secret || *s->fleet.key;
	return (secret ? file_write_private : file_write)(path, text, strlen(text), err);
}

/* Reading: the first failure stays in `code`, and what follows it is left out. */
struct reader {
	int code;
	struct err *err;
};

static void read_int(struct reader *r, const struct json *j, const char *key, int64_t max,
		     int64_t *ret)
{
	if (r->code >= 0)
		r->code = json_get_int(j, key, 0, max, ret, r->err);
}

static void read_bool(struct reader *r, const struct json *j, const char *key, bool *ret)
{
	if (r->code >= 0)
		r->code = json_get_bool(j, key, ret, r->err);
}

static void read_str(struct reader *r, const struct json *j, const char *key, char *buf,
		     size_t size)
{
	if (r->code >= 0)
		r->code = json_get_str(j, key, buf, size, r->err);
}

/* A hash, or "". */
static void read_hash(struct reader *r, const struct json *j, const char *key, char buf[HASH_SIZE])
{
	read_str(r, j, key, buf, HASH_SIZE);
	if (r->code >= 0 && *buf && !hash_valid(buf))
		r->code = err_set(r->err, -EINVAL, "%s: found '%s', expected 64 hex digits", key,
				  buf);
}

/* An id, or "". */
static void read_id(struct reader *r, const struct json *j, const char *key, char buf[ID_SIZE])
{
	read_str(r, j, key, buf, ID_SIZE);
	if (r->code >= 0 && *buf && !id_valid(buf))
		r->code = err_set(r->err, -EINVAL, "%s: found '%s', expected an id", key, buf);
}

static void read_log(struct reader *r, const struct json *j, char buf[LOGID_SIZE])
{
	read_str(r, j, "log", buf, LOGID_SIZE);
	if (r->code >= 0 && *buf && !logid_valid(buf))
		r->code = err_set(r->err, -EINVAL,
				  "log: found '%s', expected %d to %d letters and digits", buf,
				  LOGID_MIN, LOGID_MAX);
}

static const struct json *read_obj(struct reader *r, const struct json *j, const char *key)
{
	const struct json *ret = NULL;
	if (r->code >= 0)
		r->code = json_get_obj(j, key, &ret, r->err);
	return ret;
}

/* Calls fn for each element, which must be an object. */
static void read_each(struct reader *r, const struct json *j, const char *key, size_t max,
		      void (*fn)(struct reader *r, const struct json *at, void *user), void *user)
{
	const struct json *arr = NULL;
	if (r->code >= 0)
		r->code = json_get_arr(j, key, max, &arr, r->err);
	const struct json *e = json_first(arr);
	for (size_t i = 0; r->code >= 0 && e; i++, e = json_next(e)) {
		if (!json_is_obj(e))
			r->code = err_set(r->err, -EINVAL, "%s[%zu]: expected an object", key, i);
		else
			fn(r, e, user);
		if (r->code < 0)
			err_prefix(r->err, "%s[%zu]", key, i);
	}
}

static void read_score(struct reader *r, const struct json *j, struct score *ret)
{
	read_int(r, j, "n", JSON_INT_MAX, &ret->n);
	read_int(r, j, "correct", JSON_INT_MAX, &ret->correct);
	if (r->code >= 0 && json_get_num(j, "loss", -1e300, 1e300, &ret->loss, NULL) < 0)
		ret->loss = 0; /* null: it was not finite */
}

static void read_rounds(struct reader *r, const struct json *j, struct rounds *ret)
{
	read_int(r, j, "epoch", JSON_INT_MAX, &ret->epoch);
	read_int(r, j, "images_seen", JSON_INT_MAX, &ret->images_seen);
	read_int(r, j, "rounds_done", JSON_INT_MAX, &ret->rounds_done);
	read_int(r, j, "round_epoch", JSON_INT_MAX, &ret->round_epoch);
	read_int(r, j, "round_wanted", JSON_INT_MAX, &ret->round_wanted);
	read_int(r, j, "offer_epoch", JSON_INT_MAX, &ret->offer_epoch);
	read_bool(r, j, "offer_ordered", &ret->offer_ordered);
	const struct json *best = read_obj(r, j, "best");
	if (best)
		read_score(r, best, &ret->best);
	read_hash(r, j, "best_snapshot", ret->best_snapshot);
	read_int(r, j, "best_epoch", JSON_INT_MAX, &ret->best_epoch);
	read_hash(r, j, "train_snapshot", ret->train_snapshot);
	if (!json_has(j, "top")) /* older ones have none: as far as they know */
		ret->top = ret->best;
	else if ((best = read_obj(r, j, "top")))
		read_score(r, best, &ret->top);
	if (json_has(j, "adopted_epoch"))
		read_int(r, j, "adopted_epoch", JSON_INT_MAX, &ret->adopted_epoch);
}

static void read_privacy(struct reader *r, const struct json *j, struct state *s)
{
	if (r->code >= 0)
		r->code = json_get_num(j, "spent", 0, 1e300, &s->privacy.spent, r->err);
	read_int(r, j, "handovers", JSON_INT_MAX, &s->privacy.handovers);
	read_hash(r, j, "counted", s->privacy.counted);
	read_hash(r, j, "whole", s->privacy.whole);
	read_hash(r, j, "noised", s->privacy.noised);
}

static void read_candidate(struct reader *r, const struct json *j, void *user)
{
	struct judgement *g = user;
	struct candidate_entry *e = &g->at[g->n++];
	char kind[16] = "";
	read_str(r, j, "kind", kind, sizeof(kind));
	read_int(r, j, "percent", 100, &e->percent);
	read_hash(r, j, "checkpoint", e->checkpoint);
	read_bool(r, j, "out", &e->out);
	if (json_has(j, "early"))
		read_bool(r, j, "early", &e->early);
	while (e->kind < CANDIDATE_KIND_N && strcmp(candidate_kind_name(e->kind), kind) != 0)
		e->kind++;
	if (r->code >= 0 && e->kind == CANDIDATE_KIND_N)
		r->code = err_set(r->err, -EINVAL, "kind: found '%s'", kind);
}

static void read_judgement(struct reader *r, const struct json *j, struct judgement *ret)
{
	read_hash(r, j, "result", ret->result);
	read_each(r, j, "candidates", CANDIDATES_MAX, read_candidate, ret);
	if (r->code >= 0 && !candidates_kind(ret, CANDIDATE_RETURNED))
		r->code = err_set(r->err, -EINVAL, "candidates: found none that was returned");
}

static void read_decided(struct reader *r, const struct json *j, void *user)
{
	struct handover *h = user;
	struct handover_decided *d = &h->decided[h->n_decided++];
	const char *text;
	read_id(r, j, "trainer", d->trainer);
	if (r->code >= 0)
		r->code = json_get_text(j, "ack", MESSAGE_SMALL_MAX, &text, r->err);
	if (r->code >= 0)
		r->code = msg_ack_parse(text, strlen(text), &d->ack, r->err);
}

static void read_handover(struct reader *r, const struct json *j, struct handover *ret)
{
	int64_t phase = 0;
	const char *text;
	read_int(r, j, "phase", HANDOVER_PHASE_N - 1, &phase);
	ret->phase = (enum handover_phase)phase;
	read_hash(r, j, "checkpoint", ret->checkpoint);
	read_int(r, j, "fence", JSON_INT_MAX - 1, &ret->fence);
	read_id(r, j, "trainer", ret->trainer);
	read_hash(r, j, "granted", ret->granted);
	if (json_has(j, "lease_ms")) /* older ones have none */
		read_int(r, j, "lease_ms", JSON_INT_MAX, &ret->lease_ms);
	read_bool(r, j, "open", &ret->open);
	if (ret->phase == HANDOVER_PULLING || ret->phase == HANDOVER_JUDGING) {
		if (r->code >= 0)
			r->code = json_get_text(j, "result", MESSAGE_LARGE_MAX, &text, r->err);
		if (r->code >= 0)
			r->code = msg_result_parse(text, strlen(text), &ret->result, r->err);
	}
	read_each(r, j, "decided", HANDOVER_DECIDED_MAX, read_decided, ret);
}

static void read_fleet(struct reader *r, const struct json *j, struct state *s)
{
	const char *text;
	read_int(r, j, "sequence", JSON_INT_MAX, &s->fleet.sequence);
	if (json_has(j, "id")) /* older ones have none */
		read_hash(r, j, "id", s->fleet.id);
	if (r->code < 0 || !json_has(j, "offer"))
		return;
	r->code = json_get_text(j, "offer", MESSAGE_LARGE_MAX, &text, r->err);
	if (r->code >= 0)
		r->code = msg_fleet_parse(text, strlen(text), &s->fleet.offer, r->err);
	if (json_has(j, "key"))
		read_hash(r, j, "key", s->fleet.key);
}

static void read_taken(struct reader *r, const struct json *j, void *user)
{
	struct state *s = user;
	struct state_taken *t = &s->taken[s->n_taken++];
	read_id(r, j, "trainer", t->trainer);
	read_int(r, j, "sequence", JSON_INT_MAX, &t->last.sequence);
	read_hash(r, j, "id", t->last.id);
	read_bool(r, j, "over", &t->last.over);
}

static void read_state_score(struct reader *r, const struct json *j, void *user)
{
	struct state *s = user;
	struct state_score *p = &s->scores[s->n_scores++];
	char split[16] = "";
	read_hash(r, j, "checkpoint", p->checkpoint);
	read_hash(r, j, "snapshot", p->snapshot);
	read_str(r, j, "split", split, sizeof(split));
	read_score(r, j, &p->score);
	if (r->code >= 0 && split_parse(split, &p->split) < 0)
		r->code = err_set(r->err, -EINVAL, "split: found '%s'", split);
}

static void read_command(struct reader *r, const struct json *j, void *user)
{
	struct state *s = user;
	struct state_command *c = &s->commands[s->n_commands++];
	read_id(r, j, "id", c->id);
	read_str(r, j, "reply", c->reply, sizeof(c->reply));
}

static void read_spent(struct reader *r, const struct json *j, void *user)
{
	struct state *s = user;
	struct state_spent *p = &s->spent[s->n_spent++];
	read_id(r, j, "id", p->id);
	read_int(r, j, "until", JSON_INT_MAX, &p->until_ms);
}

static void read_undecided(struct reader *r, const struct json *j, struct state *s)
{
	const struct json *arr = NULL;
	if (r->code >= 0)
		r->code = json_get_arr(j, "undecided", STATE_UNDECIDED_MAX, &arr, r->err);
	const struct json *e = json_first(arr);
	for (size_t i = 0; r->code >= 0 && e; i++, e = json_next(e)) {
		const char *text = json_str(e);
		if (text && hash_valid(text))
			COPY(s->undecided[s->n_undecided++], text);
		else
			r->code = err_set(r->err, -EINVAL, "undecided[%zu]: expected 64 hex digits",
					  i);
	}
}

static void read_state(struct reader *r, const struct json *j, struct state *s)
{
	int64_t version = 0;
	read_int(r, j, "version", 1000, &version);
	if (r->code >= 0 && version != STATE_VERSION)
		r->code = err_set(r->err, -EINVAL, "version: found %lld, expected %d",
				  (long long)version, STATE_VERSION);
	read_hash(r, j, "model", s->model);
	if (json_has(j, "log")) /* older ones have none */
		read_log(r, j, s->log);
	read_int(r, j, "boot", JSON_INT_MAX - 1, &s->boot);
	read_int(r, j, "report_seq", JSON_INT_MAX - 1, &s->report_seq);
	read_bool(r, j, "paused", &s->paused);
	read_bool(r, j, "pinned", &s->pinned);
	if (json_has(j, "private_classes")) /* older ones have none */
		read_int(r, j, "private_classes", MODEL_CLASSES_MAX, &s->n_private);
	if (json_has(j, "first")) { /* older ones have none */
		read_hash(r, j, "base", s->bases[0]);
		read_hash(r, j, "base_before", s->bases[1]);
		read_hash(r, j, "first", s->first);
	}
	read_hash(r, j, "local", s->local);
	read_undecided(r, j, s);
	const struct json *fleet = json_has(j, "fleet") ? read_obj(r, j, "fleet") : NULL;
	if (fleet)
		read_fleet(r, fleet, s);
	const struct json *fresh = json_has(j, "fresh") ? read_obj(r, j, "fresh") : NULL;
	if (fresh) {
		read_int(r, fresh, "sequence", JSON_INT_MAX - 1, &s->sequence);
		read_each(r, fresh, "taken", STATE_TAKEN_MAX, read_taken, s);
	}
	const struct json *privacy = json_has(j, "privacy") ? read_obj(r, j, "privacy") : NULL;
	if (privacy)
		read_privacy(r, privacy, s);
	const struct json *rounds = read_obj(r, j, "rounds"), *pending;
	if (rounds)
		read_rounds(r, rounds, &s->rounds);
	const struct json *link = json_has(j, "link") ? read_obj(r, j, "link") : NULL;
	if (link) {
		read_int(r, link, "day", JSON_INT_MAX, &s->link.day);
		read_int(r, link, "bytes", JSON_INT_MAX, &s->link.bytes);
		if (json_has(link, "moved"))
			read_int(r, link, "moved", JSON_INT_MAX, &s->moved_bytes);
	}
	const struct json *handover = read_obj(r, j, "handover");
	if (handover)
		read_handover(r, handover, &s->handover);
	const struct json *seal = json_has(j, "seal") ? read_obj(r, j, "seal") : NULL;
	if (seal) {
		read_hash(r, seal, "secret", s->seal.secret);
		read_hash(r, seal, "theirs", s->seal.theirs);
	}
	const struct json *judgement =
		json_has(j, "judgement") ? read_obj(r, j, "judgement") : NULL;
	if (judgement)
		read_judgement(r, judgement, &s->judgement);
	read_each(r, j, "scores", STATE_SCORES_MAX, read_state_score, s);
	read_each(r, j, "commands", STATE_COMMANDS_MAX, read_command, s);
	if (json_has(j, "spent"))
		read_each(r, j, "spent", STATE_SPENT_MAX, read_spent, s);
	pending = read_obj(r, j, "pending");
	if (!pending)
		return;
	read_hash(r, pending, "activate", s->pending.activate);
	read_int(r, pending, "seq", JSON_INT_MAX, &s->pending.seq);
	read_str(r, pending, "report", s->pending.report, sizeof(s->pending.report));
}

int state_load(const char *path, struct state *ret, struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct err why = {0};
	int r = json_parse_file(path, STATE_BYTES_MAX, &j, &why);
	if (r == -ENOENT) {
		memset(ret, 0, sizeof(*ret));
		return 0;
	}
	if (r < 0)
		return err_set(err, r, "%s", why.text);
	_cleanup_free_ struct state *s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(err, -ENOMEM, "%s", path);
	struct reader rd = {.err = err};
	read_state(&rd, j, s);
	if (rd.code < 0) {
		err_prefix(err, "%s", path);
		return rd.code;
	}
	*ret = *s;
	return 0;
}

const struct state_score *state_score_find(const struct state *s, const char *checkpoint,
					   enum split split, const char *snapshot)
{
	for (size_t i = s->n_scores; i-- > 0;) {
		const struct state_score *p = &s->scores[i];
		if (p->split == split && strcmp(p->checkpoint, checkpoint) == 0 &&
		    (!snapshot || strcmp(p->snapshot, snapshot) == 0))
			return p;
	}
	return NULL;
}

static void score_remove(struct state *s, size_t i)
{
	s->n_scores--;
	memmove(&s->scores[i], &s->scores[i + 1], sizeof(s->scores[0]) * (s->n_scores - i));
}

void state_score_drop(struct state *s, const char *checkpoint, enum split split,
		      const char *snapshot)
{
	const struct state_score *p = state_score_find(s, checkpoint, split, snapshot);
	if (p)
		score_remove(s, (size_t)(p - s->scores));
}

void state_score_put(struct state *s, const struct state_score *score)
{
	state_score_drop(s, score->checkpoint, score->split, score->snapshot);
	if (s->n_scores == STATE_SCORES_MAX)
		score_remove(s, 0);
	s->scores[s->n_scores++] = *score;
}

struct state_taken *state_taken_find(struct state *s, const char *trainer)
{
	for (size_t i = 0; i < s->n_taken; i++)
		if (strcmp(s->taken[i].trainer, trainer) == 0)
			return &s->taken[i];
	return NULL;
}

void state_taken_put(struct state *s, const char *trainer, int64_t sequence, const char *id)
{
	struct state_taken *t = state_taken_find(s, trainer);
	size_t i = t ? (size_t)(t - s->taken) : 0;
	if (t || s->n_taken == STATE_TAKEN_MAX) {
		s->n_taken--;
		memmove(&s->taken[i], &s->taken[i + 1], sizeof(s->taken[0]) * (s->n_taken - i));
	}
	t = &s->taken[s->n_taken++];
	memset(t, 0, sizeof(*t));
	COPY(t->trainer, trainer);
	t->last.sequence = sequence;
	COPY(t->last.id, id);
}

void state_undecided_drop(struct state *s, const char *checkpoint)
{
	for (size_t i = 0; i < s->n_undecided; i++) {
		if (strcmp(s->undecided[i], checkpoint) != 0)
			continue;
		s->n_undecided--;
		memmove(s->undecided[i], s->undecided[i + 1], HASH_SIZE * (s->n_undecided - i));
		return;
	}
}

void state_undecided_push(struct state *s, const char *checkpoint)
{
	state_undecided_drop(s, checkpoint);
	if (s->n_undecided == STATE_UNDECIDED_MAX)
		state_undecided_drop(s, s->undecided[0]);
	COPY(s->undecided[s->n_undecided++], checkpoint);
}

const char *state_command_find(const struct state *s, const char *id)
{
	for (size_t i = s->n_commands; i-- > 0;)
		if (strcmp(s->commands[i].id, id) == 0)
			return s->commands[i].reply;
	return NULL;
}

void state_command_put(struct state *s, const char *id, const char *reply)
{
	if (strlen(reply) > MESSAGE_SMALL_MAX)
		return;
	if (s->n_commands == STATE_COMMANDS_MAX) {
		s->n_commands--;
		memmove(&s->commands[0], &s->commands[1], sizeof(s->commands[0]) * s->n_commands);
	}
	struct state_command *c = &s->commands[s->n_commands++];
	COPY(c->id, id);
	COPY(c->reply, reply);
}

bool state_is_spent(const struct state *s, const char *id)
{
	for (size_t i = 0; i < s->n_spent; i++)
		if (strcmp(s->spent[i].id, id) == 0)
			return true;
	return false;
}

void state_spent_put(struct state *s, const char *id, int64_t until_ms)
{
	struct state_spent *p = &s->spent[0];
	if (s->n_spent < STATE_SPENT_MAX)
		p = &s->spent[s->n_spent++];
	else
		for (size_t i = 1; i < s->n_spent; i++)
			if (s->spent[i].until_ms < p->until_ms)
				p = &s->spent[i];
	COPY(p->id, id);
	p->until_ms = until_ms;
}
