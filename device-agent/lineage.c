/* What a checkpoint descends from, and what of it may leave this device.
 *
 * Two things do not. Weights that a folder marked `share = never` has trained, and all that is made
 * of such weights: their manifest says `stays`, every checkpoint inherits it from each of its
 * parents, and one that stays is neither offered nor served. And the rows of private outputs
 * (private_rows = keep): a copy without them is offered, which names the whole one as its `source`,
 * and that one's rows are put back into what returns. Both are checked where an offer is made,
 * before the first block goes out under a fence, and at the start, where the configuration may have
 * changed meanwhile. */
#include "device-agent/agent_impl.h"

#include <errno.h>
#include <string.h>

#include "common/checkpoint/weights.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool lineage_takes_rows(const struct agent *a)
{
	return a->state->n_private && a->conf.private_rows == PRIVATE_ROWS_KEEP;
}

int lineage_manifest(const struct agent *a, struct manifest *m, struct err *err)
{
	m->stays |= a->conf.share_never;
	for (size_t i = 0; i < m->n_parents; i++) {
		struct manifest parent;
		/* Not known to be free to leave: then nothing is made of it. */
		int r = store_manifest(a->store, m->parents[i], &parent, err);
		if (r < 0)
			return r;
		m->stays |= parent.stays;
	}
	COPY(m->model, a->model->id);
	COPY(m->device, a->conf.id);
	m->classes = a->model->n_classes;
	m->size = (int64_t)a->model->file_bytes;
	m->block_size = a->conf.block_size;
	m->created_ms = a->port.real_ms(a->port.user);
	m->encoding = ENCODING_RAW;
	log_debug("device=%s checkpoint=%.12s made origin=%s parents=%.12s,%.12s%s", a->conf.id,
		  m->id, origin_name(m->origin), m->parents[0], m->parents[1],
		  m->stays ? " stays" : "");
	return 0;
}

bool lineage_stays(const struct agent *a, const char *id)
{
	struct manifest m;
	return a->conf.share_never || store_manifest(a->store, id, &m, NULL) < 0 || m.stays;
}

/* What was made in the store's temporary folder goes into the store. ret: its id. */
static int keep(const struct agent *a, const char *out, struct manifest *m, char ret[HASH_SIZE],
		struct err *err)
{
	/* There already, as where the rows were the same: its own manifest stays. */
	int r = store_has(a->store, m->id) ? 0 : lineage_manifest(a, m, err);
	if (r == 0)
		r = store_add(a->store, out, m, err);
	if (r == 0)
		memcpy(ret, m->id, HASH_SIZE);
	return r;
}

void lineage_copy(const struct manifest *whole, const char *id, struct manifest *ret)
{
	*ret = *whole;
	if (same(id, whole->id))
		return;
	COPY(ret->id, id);
	/* Not of the one without private rows, which nobody here uses: of the whole one. */
	COPY(ret->source, *whole->source ? whole->source : whole->id);
	COPY(ret->parents[0], ret->source);
	ret->n_parents = 1;
}

/* ---- what leaves ---- */

/* A copy of it without private rows, in the store's temporary folder. */
static int strip(const struct agent *a, const char *id, char out[FILE_PATH_MAX],
		 char ret_id[HASH_SIZE], struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = store_weights(a->store, id, path);
	if (r < 0)
		return err_set(err, r, "checkpoint %.12s: not there", id);
	r = store_tmp(a->store, "stripped.weights", out, err);
	if (r == 0)
		r = weights_graft(a->model, path, NULL, a->model->n_classes, out, err);
	return r < 0 ? r : weights_check(a->model, out, NULL, ret_id, err);
}

int lineage_offered(struct agent *a, const char *id, char ret[HASH_SIZE], struct err *err)
{
	char out[FILE_PATH_MAX];
	struct manifest own, m = {.origin = ORIGIN_LOCAL, .n_parents = 1};
	memcpy(ret, id, HASH_SIZE);
	if (!lineage_takes_rows(a))
		return 0;
	int r = store_manifest(a->store, id, &own, err);
	if (r == 0)
		r = strip(a, id, out, m.id, err);
	if (r < 0)
		return r;
	if (same(m.id, id)) /* its rows are 0 already */
		return file_remove(out, err);
	COPY(m.parents[0], id);
	COPY(m.source, id);
	m.epoch = own.epoch;
	m.images_seen = own.images_seen;
	return keep(a, out, &m, ret, err);
}

int lineage_may_leave(const struct agent *a, const struct manifest *m, struct err *err)
{
	if (m->stays || a->conf.share_never)
		return err_set(err, -EPERM,
			       "checkpoint %.12s stays here: it descends from training on images "
			       "marked share = never",
			       m->id);
	return 0;
}

int lineage_check_leaving(const struct agent *a, const char *id, struct err *err)
{
	char out[FILE_PATH_MAX] = "", stripped[HASH_SIZE];
	struct manifest m;
	int r = store_manifest(a->store, id, &m, err);
	if (r == 0)
		r = privacy_may_leave(a, &m, err);
	if (r < 0 || !lineage_takes_rows(a))
		return r;
	r = strip(a, id, out, stripped, err);
	if (r == 0 && !same(stripped, id))
		r = err_set(err, -EPERM,
			    "checkpoint %.12s stays here: it has rows of private outputs", id);
	if (*out)
		file_remove(out, NULL);
	return r;
}

/* ---- what comes back ---- */

void lineage_source(const struct agent *a, const char *id, char ret[HASH_SIZE])
{
	struct manifest m;
	ret[0] = 0;
	if (*id && store_manifest(a->store, id, &m, NULL) == 0)
		memcpy(ret, m.source, HASH_SIZE);
}

void lineage_rows(const struct agent *a, char ret[HASH_SIZE])
{
	const struct state *s = a->state;
	const char *granted = s->handover.granted;
	char out[FILE_PATH_MAX] = "", stripped[HASH_SIZE];
	ret[0] = 0;
	if (!s->n_private)
		return;
	int r = strip(a, granted, out, stripped, NULL);
	if (*out)
		file_remove(out, NULL);
	if (r < 0 ? !lineage_takes_rows(a) : !same(stripped, granted))
		return; /* it went out with them */
	lineage_source(a, granted, ret);
	if (!*ret)
		memcpy(ret, granted, HASH_SIZE);
	if (!store_has(a->store, ret))
		memcpy(ret, s->local, HASH_SIZE);
}

int lineage_graft(struct agent *a, const char *result, const char *rows, char ret[HASH_SIZE],
		  struct err *err)
{
	char base_path[FILE_PATH_MAX], rows_path[FILE_PATH_MAX], out[FILE_PATH_MAX];
	struct manifest back, m = {.n_parents = 2};
	int r = store_manifest(a->store, result, &back, err);
	if (r == 0 && (store_weights(a->store, result, base_path) < 0 ||
		       store_weights(a->store, rows, rows_path) < 0))
		r = err_set(err, -ENOENT, "checkpoint %.12s or %.12s: not there", result, rows);
	if (r == 0)
		r = store_tmp(a->store, "grafted.weights", out, err);
	if (r == 0)
		r = weights_graft(a->model, base_path, rows_path, a->model->n_classes, out, err);
	if (r == 0)
		r = weights_check(a->model, out, NULL, m.id, err);
	if (r < 0)
		return r;
	COPY(m.parents[0], result);
	COPY(m.parents[1], rows);
	m.origin = back.origin == ORIGIN_FLEET ? ORIGIN_FLEET : ORIGIN_EDGE;
	COPY(m.trainer, back.trainer);
	m.epoch = back.epoch;
	m.images_seen = back.images_seen;
	return keep(a, out, &m, ret, err);
}

/* ---- when the newest checkpoint of the local lineage is lost ---- */

void lineage_instead(const struct agent *a, char ret[HASH_SIZE])
{
	char previous[HASH_SIZE];
	store_previous(a->store, previous);
	const char *const ids[] = {a->active, previous};
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct manifest m;
		if (*ids[i] && store_manifest(a->store, ids[i], &m, NULL) == 0 &&
		    (!m.stays || a->conf.share_never)) {
			memmove(ret, ids[i], HASH_SIZE);
			return;
		}
	}
	ret[0] = 0;
}
