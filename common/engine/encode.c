/* Coded checkpoints (common/encoding). An encoding is chosen by what it costs and what it does to
 * the score: forms are tried from the smallest one on, each is decoded as its receiver will decode
 * it and scored on the same images as the whole weights, and the first one that is as good, within
 * a tolerance, is it. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/encoding/encoding.h"
#include "common/engine/args.h"
#include "common/engine/session.h"
#include "common/engine/worker_protocol.h"

/* Smallest first, as measured (docs/performance.md). */
static const struct encoding_conf forms[] = {
	{ENCODING_DELTA, 1.5}, {ENCODING_DELTA, 1}, {ENCODING_DELTA, 0.5},
	{ENCODING_INT8, 0},    {ENCODING_F16, 0},   {ENCODING_ZSTD, 0},
};
#define N_FORMS ARRAY_LEN(forms)
/* Without images to measure on: what is too little to be measured. */
#define FIRST_UNMEASURED ENCODING_F16

struct encode {
	char weights[FILE_PATH_MAX], decoded[FILE_PATH_MAX];
	const char *base; /* the nearest one, within the job's args; NULL: none */
	int64_t base_index;
	bool any; /* all forms; else those of `only` */
	enum encoding only;
	bool measures;
	char split[16];
	double tolerance;
	size_t form;        /* that is tried, or taken; N_FORMS: none */
	struct job *scored; /* an evaluation under way; NULL: none */
	bool whole_scored;
	int64_t whole_correct;
	struct json *score; /* of what is taken, or of the whole weights where nothing is yet */
	char checkpoint[HASH_SIZE];
};

void encode_free(struct encode *e)
{
	if (!e)
		return;
	if (e->scored)
		job_free(e->scored);
	json_free(e->score);
	free(e);
}

/* ---- what is asked for ---- */

static int read_encoding(struct encode *e, const struct json *args, struct err *err)
{
	char name[16];
	int r = json_get_str(args, "encoding", name, sizeof(name), err);
	if (r < 0)
		return r;
	e->any = strcmp(name, "auto") == 0;
	if (!e->any && (encoding_parse(name, &e->only) < 0 || e->only == ENCODING_RAW))
		return err_set(err, -EINVAL,
			       "encoding: found '%s', expected auto, zstd, f16, int8 or delta",
			       name);
	return 0;
}

static int read_bases(const struct session *s, struct encode *e, const struct json *args,
		      struct err *err)
{
	const char *bases[WORKER_BASES_MAX];
	const struct json *list;
	size_t n = 0, nearest = 0;
	if (!json_has(args, "bases"))
		return 0;
	int r = json_get_arr(args, "bases", WORKER_BASES_MAX, &list, err);
	for (const struct json *b = r == 0 ? json_first(list) : NULL; b; b = json_next(b)) {
		bases[n] = json_str(b);
		if (!bases[n++])
			return err_set(err, -EINVAL, "bases: found no string at %zu", n - 1);
	}
	if (r < 0 || n == 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++)
		r = weights_check(s->model, bases[i], NULL, NULL, err);
	if (r == 0 && n > 1)
		r = encoding_nearest(s->model, e->weights, bases, n, &nearest, err);
	e->base = bases[nearest];
	e->base_index = (int64_t)nearest;
	return r;
}

/* Whether form k may be taken. */
static bool may_be(const struct encode *e, size_t k)
{
	enum encoding form = forms[k].encoding;
	if (form == ENCODING_DELTA && !e->base)
		return false;
	if (e->any)
		return e->measures || form == FIRST_UNMEASURED || form == ENCODING_ZSTD;
	/* A difference to nothing. */
	if (e->only == ENCODING_DELTA && !e->base)
		return form == ENCODING_INT8;
	return form == e->only;
}

static void next_form(struct encode *e, size_t from)
{
	for (e->form = from; e->form < N_FORMS && !may_be(e, e->form); e->form++)
		;
}

static int begin_score(struct session *s, struct job *j, const char *weights, struct err *err)
{
	struct encode *e = j->encode;
	struct job *score = calloc(1, sizeof(*score));
	if (!score)
		return err_errno(err, -ENOMEM, "encode");
	*score = (struct job){.id = j->id, .kind = JOB_EVALUATE, .args = json_new_obj()};
	e->scored = score;
	json_set_str(score->args, "weights", weights);
	json_set_str(score->args, "split", e->split);
	return evaluate_begin(s, score, err);
}

int encode_begin(struct session *s, struct job *j, struct err *err)
{
	struct encode *e = j->encode = calloc(1, sizeof(*j->encode));
	enum split split = SPLIT_N;
	if (!e)
		return err_errno(err, -ENOMEM, "encode");
	int r = arg_path(j->args, "weights", e->weights, err);
	if (r == 0)
		r = arg_path(j->args, "out", j->out, err);
	if (r == 0)
		r = arg_path(j->args, "decoded", e->decoded, err);
	if (r == 0)
		r = read_encoding(e, j->args, err);
	if (r == 0)
		r = arg_str(j->args, "split", e->split, sizeof(e->split), err);
	if (r == 0)
		r = arg_num(j->args, "tolerance", 0, 1, 0, &e->tolerance, err);
	if (r == 0 && *e->split && split_parse(e->split, &split) < 0)
		r = err_set(err, -EINVAL, "split: found '%s', expected train, validation or test",
			    e->split);
	if (r == 0)
		r = weights_check(s->model, e->weights, NULL, e->checkpoint, err);
	if (r == 0)
		r = read_bases(s, e, j->args, err);
	if (r < 0)
		return r;
	e->measures = *e->split && s->data && dataset_count(s->data, split) > 0;
	next_form(e, 0);
	return e->measures ? begin_score(s, j, e->weights, err) : 0;
}

/* ---- trials ---- */

static struct json *answer(struct job *j, struct err *err)
{
	struct encode *e = j->encode;
	struct json *ret = e->score ? TAKE_PTR(e->score) : json_new_obj();
	bool coded = e->form < N_FORMS;
	char payload[HASH_SIZE];
	json_set_str(ret, "checkpoint", e->checkpoint);
	json_set_str(ret, "encoding",
		     encoding_name(coded ? forms[e->form].encoding : ENCODING_RAW));
	if (e->measures)
		json_set_int(ret, "whole_correct", e->whole_correct);
	if (!coded)
		return ret;
	if (hash_file(j->out, payload, err) < 0) {
		json_free(ret);
		return NULL;
	}
	json_set_str(ret, "out", j->out);
	json_set_str(ret, "decoded", e->decoded);
	json_set_str(ret, "payload", payload);
	if (forms[e->form].encoding == ENCODING_DELTA) {
		json_set_int(ret, "base", e->base_index);
		json_set_num(ret, "step", forms[e->form].step);
	}
	return ret;
}

/* A form that cannot be, or is no smaller, is none. */
static int try_form(struct session *s, struct job *j, struct err *err)
{
	struct encode *e = j->encode;
	const struct encoding_conf *form = &forms[e->form];
	int r = encoding_encode(s->model, form, e->weights, e->base, j->out, e->decoded,
				e->checkpoint, err);
	if (r == -EFBIG || r == -ERANGE) {
		next_form(e, e->form + 1);
		return 1;
	}
	/* What is the same has the same score. */
	if (r < 0 || !e->measures || form->encoding == ENCODING_ZSTD)
		return r;
	r = begin_score(s, j, e->decoded, err);
	return r < 0 ? r : 1;
}

static bool last_form(const struct encode *e)
{
	struct encode after = *e;
	next_form(&after, e->form + 1);
	return !e->any && after.form == N_FORMS;
}

/* Images of n. Where the tolerance is less than one, a single one lost says nothing: some lie so
 * near the border between two classes that any rounding turns them, either way. */
static double may_lose(const struct encode *e, int64_t n)
{
	return e->tolerance > 0 ? fmax(1, e->tolerance * (double)n) : 0;
}

/* Of the whole weights, or of a form: 1: go on, 0: that one is it. */
static int scored(struct session *s, struct job *j, struct json *result, struct err *err)
{
	struct encode *e = j->encode;
	int64_t n, correct;
	int r = json_get_int(result, "n", 1, JSON_INT_MAX, &n, err);
	if (r == 0)
		r = json_get_int(result, "correct", 0, n, &correct, err);
	if (r < 0) {
		json_free(result);
		return r;
	}
	job_free(TAKE_PTR(e->scored));
	if (!e->whole_scored) {
		e->whole_scored = true;
		e->whole_correct = correct;
		e->score = result;
		return 1;
	}
	if ((double)(e->whole_correct - correct) <= may_lose(e, n) || last_form(e)) {
		json_free(e->score);
		e->score = result;
		return 0;
	}
	json_free(result);
	next_form(e, e->form + 1);
	return 1;
}

int encode_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	struct encode *e = j->encode;
	struct json *result = NULL;
	int r;
	if (e->scored) {
		r = evaluate_step(s, e->scored, &result, err);
		if (r == 0)
			r = scored(s, j, result, err);
	} else if (e->form < N_FORMS) {
		r = try_form(s, j, err);
	} else { /* nothing is smaller, and as good */
		r = weights_check(s->model, e->weights, NULL, e->checkpoint, err);
	}
	if (r != 0)
		return r;
	*ret_result = answer(j, err);
	return *ret_result ? 0 : err->code;
}

/* ---- the other way ---- */

int decode_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	char payload[FILE_PATH_MAX], base[FILE_PATH_MAX], name[16];
	enum encoding encoding;
	int r = arg_path(j->args, "payload", payload, err);
	if (r == 0)
		r = arg_path(j->args, "out", j->out, err);
	if (r == 0)
		r = json_get_str(j->args, "encoding", name, sizeof(name), err);
	if (r < 0)
		return r;
	if (encoding_parse(name, &encoding) < 0 || encoding == ENCODING_RAW)
		return err_set(err, -EINVAL,
			       "encoding: found '%s', expected zstd, f16, int8 or delta", name);
	if (encoding == ENCODING_DELTA)
		r = arg_path(j->args, "base", base, err);
	if (r == 0)
		r = encoding_decode(s->model, encoding, payload, base, j->out, j->checkpoint, err);
	if (r < 0)
		return r;
	*ret_result = json_new_obj();
	json_set_str(*ret_result, "out", j->out);
	json_set_str(*ret_result, "checkpoint", j->checkpoint);
	return 0;
}
