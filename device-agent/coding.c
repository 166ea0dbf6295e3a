/* The forms in which checkpoints travel (common/encoding), as the worker makes and reads them.
 *
 * What goes out is coded before it is offered: what the trainer will have is then a checkpoint of
 * its own, in the store beside the whole one, which it names as its `source`, and it is that one
 * that is scored, offered and served. A difference is made to what the trainer has from before: the
 * last result and what it was made from (state.bases), or the first weights that every training
 * from the same seed begins with. A trainer that lacks it says so, and gets another form. What was
 * rounded off is not lost: the next difference is to what the trainer has, not to what it should
 * have had.
 *
 * What comes in is decoded before it is verified: an id is of the weights, not of the form.
 *
 * A form is never a reason not to hand over: where none can be made, the weights go as they are. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* ---- bases ---- */

bool coding_has_base(const struct agent *a, const struct manifest *m)
{
	return m->encoding != ENCODING_DELTA || store_has(a->store, m->base);
}

static bool makes_differences(const struct agent *a)
{
	return a->conf.encoding == ENCODING_AUTO || a->conf.encoding == ENCODING_DELTA;
}

/* What a handover leaves at both ends. */
void coding_handed_over(struct agent *a, struct state *next, const char *result,
			const char *granted)
{
	memset(next->bases, 0, sizeof(next->bases));
	a->coding.n_lacked = 0;
	if (!makes_differences(a) && !privacy_on(a))
		return;
	COPY(next->bases[0], result);
	if (!same(result, granted))
		COPY(next->bases[1], granted);
}

static bool is_lacked(const struct agent *a, const char *id)
{
	for (size_t i = 0; i < a->coding.n_lacked; i++)
		if (same(a->coding.lacked[i], id))
			return true;
	return false;
}

static bool may_be_base(const struct agent *a, const char *id)
{
	return *id && !is_lacked(a, id) && store_has(a->store, id) && !lineage_stays(a, id);
}

bool coding_lacked(struct agent *a, const struct msg_claim *c)
{
	struct manifest m;
	const struct handover *h = &a->state->handover;
	if (!c->busy || !*c->lacks || h->phase != HANDOVER_OFFERING ||
	    !same(c->checkpoint, h->checkpoint) ||
	    store_manifest(a->store, h->checkpoint, &m, NULL) < 0 || !same(m.base, c->lacks))
		return false;
	if (is_lacked(a, c->lacks) || a->coding.id || a->coding.n_lacked == CODING_LACKED_MAX)
		return false; /* known, and being seen to */
	COPY(a->coding.lacked[a->coding.n_lacked++], c->lacks);
	log_info("device=%s trainer=%s checkpoint=%.12s base=%.12s is not there: another form",
		 a->conf.id, c->trainer, h->checkpoint, c->lacks);
	COPY(a->candidate, *m.source ? m.source : m.id);
	a->coding.whole[0] = 0;
	a->state->rounds.offer_ordered = true; /* without waiting for the back-off */
	return true;
}

/* ---- out ---- */

static void as_it_is(struct agent *a, const struct err *why)
{
	if (why)
		log_warning("device=%s checkpoint=%.12s goes as it is: %s", a->conf.id,
			    a->coding.whole, why->text);
	COPY(a->coding.coded, a->coding.whole);
}

static int out_paths(struct agent *a, struct err *err)
{
	int r = store_tmp(a->store, "payload", a->coding.out, err);
	return r < 0 ? r : store_tmp(a->store, "decoded.weights", a->coding.decoded, err);
}

int coding_request_first(struct agent *a, const char *out, uint64_t *ret_id, struct err *err)
{
	struct json *args = json_new_obj();
	json_set_int(args, "seed", a->conf.seed);
	json_set_str(args, "out", out);
	return work_request(a, "first", args, ret_id, err);
}

static int ask_form(struct agent *a, const char *path, struct err *err)
{
	const struct state *s = a->state;
	const char *const ids[] = {s->bases[0], s->bases[1], s->first};
	struct json *args = json_new_obj(), *bases = json_new_arr();
	char base[FILE_PATH_MAX];
	a->coding.n_bases = 0;
	for (size_t i = 0; i < ARRAY_LEN(ids) && makes_differences(a); i++) {
		if (!may_be_base(a, ids[i]) || store_weights(a->store, ids[i], base) < 0)
			continue;
		json_push_str(bases, base);
		COPY(a->coding.bases[a->coding.n_bases++], ids[i]);
	}
	json_set_str(args, "weights", path);
	json_set_str(args, "out", a->coding.out);
	json_set_str(args, "decoded", a->coding.decoded);
	json_set_str(args, "encoding", encoding_choices[a->conf.encoding]);
	json_set(args, "bases", bases);
	json_set_str(args, "split", split_name(SPLIT_VALIDATION));
	json_set_num(args, "tolerance", a->conf.tolerance_points / 100);
	return work_request(a, "encode", args, &a->coding.id, err);
}

int coding_offered(struct agent *a, const char *whole, char ret[HASH_SIZE])
{
	struct err err = {0};
	char path[FILE_PATH_MAX];
	if (a->conf.encoding == (int)ENCODING_RAW) {
		memmove(ret, whole, HASH_SIZE);
		return 0;
	}
	if (a->coding.id)
		return -EAGAIN;
	if (!same(a->coding.whole, whole)) {
		COPY(a->coding.whole, whole);
		a->coding.coded[0] = 0;
	}
	if (*a->coding.coded && store_has(a->store, a->coding.coded)) {
		memcpy(ret, a->coding.coded, HASH_SIZE);
		return 0;
	}
	if (!a->worker_ready)
		return -EAGAIN;
	int r = out_paths(a, &err);
	if (r == 0)
		r = store_weights(a->store, whole, path);
	a->coding.first = makes_differences(a) && !store_has(a->store, a->state->first);
	if (r == 0 && a->coding.first)
		r = coding_request_first(a, a->coding.decoded, &a->coding.id, &err);
	else if (r == 0)
		r = ask_form(a, path, &err);
	if (r < 0 && !work_worker_lost(r))
		as_it_is(a, &err);
	if (!*a->coding.coded)
		return -EAGAIN;
	memcpy(ret, a->coding.coded, HASH_SIZE);
	return 0;
}

const char *coding_to_score(const struct agent *a)
{
	bool made = *a->candidate && !same(a->coding.coded, a->coding.whole);
	return made ? a->coding.coded : "";
}

int coding_keep_first(struct agent *a, const char *path, struct err *err)
{
	struct manifest m = {.origin = ORIGIN_LOCAL};
	struct weights_header h;
	char id[HASH_SIZE];
	int r = weights_check(a->model, path, &h, id, err);
	if (r < 0)
		return r;
	manifest_name(&m, id);
	m.images_seen = (int64_t)h.seen;
	r = lineage_manifest(a, &m, err);
	if (r == 0)
		r = store_add(a->store, path, &m, err);
	if (r < 0)
		return r;
	struct state *next = agent_draft(a);
	COPY(next->first, id);
	r = agent_commit(a);
	return r < 0 ? err_set(err, r, "cannot be saved") : 0;
}

/* What is said of the coded one: what is said of the whole one, and the form. */
static int coded_manifest(struct agent *a, const struct json *result, struct manifest *m,
			  struct err *err)
{
	struct manifest whole;
	char name[17], id[HASH_SIZE];
	int64_t base = -1;
	int r = store_manifest(a->store, a->coding.whole, &whole, err);
	if (r == 0)
		r = json_get_str(result, "encoding", name, sizeof(name), err);
	if (r == 0)
		r = weights_check(a->model, a->coding.decoded, NULL, id, err);
	if (r < 0)
		return r;
	lineage_copy(&whole, id, m);
	if (!same(id, whole.id))
		r = lineage_manifest(a, m, err);
	if (r == 0 && json_has(result, "base"))
		r = json_get_int(result, "base", 0, (int64_t)a->coding.n_bases - 1, &base, err);
	if (r == 0 && base < 0 && same(name, encoding_name(ENCODING_DELTA)))
		r = err_set(err, -ENOENT, "base: missing");
	return r < 0 ? r
		     : manifest_coded(m, name, a->coding.out, base < 0 ? "" : a->coding.bases[base],
				      err);
}

/* Scored already, on the images of that moment. */
static void keep_score(struct agent *a, const struct json *result, const char *id)
{
	struct state_score s;
	if (!json_has(result, "correct") || work_read_score(result, &s, NULL) < 0)
		return;
	s.split = SPLIT_VALIDATION;
	COPY(s.checkpoint, id);
	state_score_put(a->state, &s);
}

static int keep_coded(struct agent *a, const struct json *result, struct err *err)
{
	struct manifest m = {0};
	char name[17];
	int r = json_get_str(result, "encoding", name, sizeof(name), err);
	if (r < 0)
		return r;
	if (same(name, encoding_name(ENCODING_RAW))) {
		as_it_is(a, NULL);
		return 0;
	}
	r = coded_manifest(a, result, &m, err);
	if (r == 0)
		r = store_add_coded(a->store, a->coding.decoded, a->coding.out, &m, err);
	if (r < 0)
		return r;
	keep_score(a, result, m.id);
	COPY(a->coding.coded, m.id);
	log_info("device=%s checkpoint=%.12s coded source=%.12s encoding=%s base=%.12s bytes=%lld "
		 "of %llu",
		 a->conf.id, m.id, m.source, name, m.base, (long long)m.size,
		 (unsigned long long)a->model->file_bytes);
	return 0;
}

void coding_made(struct agent *a, const struct json *result, const struct err *failed)
{
	struct err err = {0};
	a->coding.id = 0;
	if (failed && work_worker_lost(failed->code) && ++a->coding.n_lost < CODING_LOST_MAX)
		return; /* once more, with the next worker */
	a->coding.n_lost = 0;
	if (!failed && (a->coding.first ? coding_keep_first(a, a->coding.decoded, &err)
					: keep_coded(a, result, &err)) < 0)
		failed = &err;
	if (failed)
		as_it_is(a, failed);
}

/* ---- in ---- */

bool coding_decodes(const struct agent *a)
{
	return a->decoding.id != 0;
}

int coding_decode(struct agent *a, const struct manifest *m, const char *payload, struct err *err)
{
	char base[FILE_PATH_MAX];
	if (!a->worker_ready)
		return err_set(err, -EAGAIN, "the worker is not there");
	int r = store_tmp(a->store, "received.weights", a->decoding.out, err);
	if (r < 0)
		return r;
	if (m->encoding == ENCODING_DELTA && store_weights(a->store, m->base, base) < 0)
		return err_set(err, -EBADMSG, "base: checkpoint %.12s is not there", m->base);
	struct json *args = json_new_obj();
	json_set_str(args, "payload", payload);
	json_set_str(args, "encoding", encoding_name(m->encoding));
	json_set_str(args, "out", a->decoding.out);
	if (m->encoding == ENCODING_DELTA)
		json_set_str(args, "base", base);
	COPY(a->decoding.checkpoint, m->id);
	return work_request(a, "decode", args, &a->decoding.id, err);
}
