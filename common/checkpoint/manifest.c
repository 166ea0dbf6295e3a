/* Between struct manifest and its JSON. Every text that a manifest carries is either an id, a
 * hash, a time or a name from a fixed list, so nothing in a checked one can surprise a path, a
 * topic or a log line. */
#include "common/checkpoint/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"

#define BYTES_MAX    ((int64_t)(WEIGHTS_HEADER_SIZE + 4 * MODEL_FLOATS_MAX))
#define CRITICAL_MAX 64

static const char *const origin_names[ORIGIN_N] = {"local", "edge", "blend", "tuned", "fleet"};

const char *const encoding_choices[] = {"raw", "zstd", "f16", "int8", "delta", "auto", NULL};

static const char *const fields[] = {
	"id",       "source",   "parents",     "model",    "origin", "device",
	"trainer",  "epoch",    "images_seen", "classes",  "size",   "block_size",
	"created",  "expires",  "encoding",    "payload",  "base",   "root",
	"sequence", "critical", "certificate", "signature"};

void manifest_add_parent(struct manifest *m, const char *id)
{
	bool known = strcmp(m->id, id) == 0 || m->n_parents == MANIFEST_PARENTS_MAX;
	for (size_t i = 0; i < m->n_parents; i++)
		known = known || strcmp(m->parents[i], id) == 0;
	if (!known)
		memcpy(m->parents[m->n_parents++], id, HASH_SIZE);
}

void manifest_name(struct manifest *m, const char *id)
{
	size_t n = 0;
	memcpy(m->id, id, HASH_SIZE);
	for (size_t i = 0; i < m->n_parents; i++)
		if (strcmp(m->parents[i], id) != 0)
			memmove(m->parents[n++], m->parents[i], HASH_SIZE);
	m->n_parents = n;
}

int manifest_coded(struct manifest *m, const char *encoding, const char *payload, const char *base,
		   struct err *err)
{
	struct stat st;
	if (encoding_parse(encoding, &m->encoding) < 0)
		return err_set(err, -EINVAL, "encoding: found '%s'", encoding);
	int r = hash_file(payload, m->payload, err);
	if (r == 0 && stat(payload, &st) < 0)
		r = err_errno(err, -errno, "%s", payload);
	if (r < 0)
		return r;
	m->size = (int64_t)st.st_size;
	m->root[0] = 0;
	snprintf(m->base, sizeof(m->base), "%s", m->encoding == ENCODING_DELTA ? base : "");
	return 0;
}

void manifest_decoded(struct manifest *m, uint64_t file_bytes)
{
	m->encoding = ENCODING_RAW;
	m->payload[0] = m->base[0] = m->root[0] = 0;
	m->size = (int64_t)file_bytes;
}

const char *encoding_name(enum encoding e)
{
	return e < ENCODING_N ? encoding_choices[e] : "unknown";
}

int encoding_parse(const char *name, enum encoding *ret)
{
	for (int i = 0; i < ENCODING_N; i++)
		if (strcmp(name, encoding_choices[i]) == 0) {
			*ret = (enum encoding)i;
			return 0;
		}
	return -EINVAL;
}

const char *origin_name(enum origin o)
{
	return o < ORIGIN_N ? origin_names[o] : "unknown";
}

int origin_parse(const char *s, enum origin *ret)
{
	for (int i = 0; i < ORIGIN_N; i++)
		if (strcmp(s, origin_names[i]) == 0) {
			*ret = (enum origin)i;
			return 0;
		}
	return -EINVAL;
}

void manifest_to_json(const struct manifest *m, struct json *obj)
{
	char at[CLOCK_TEXT_MAX];
	json_set_str(obj, "id", m->id);
	if (*m->source)
		json_set_str(obj, "source", m->source);
	struct json *parents = json_new_arr();
	for (size_t i = 0; i < m->n_parents; i++)
		json_push_str(parents, m->parents[i]);
	json_set(obj, "parents", parents);
	json_set_str(obj, "model", m->model);
	json_set_str(obj, "origin", origin_name(m->origin));
	json_set_str(obj, "device", m->device);
	if (*m->trainer)
		json_set_str(obj, "trainer", m->trainer);
	json_set_int(obj, "epoch", m->epoch);
	json_set_int(obj, "images_seen", m->images_seen);
	json_set_int(obj, "classes", m->classes);
	json_set_int(obj, "size", m->size);
	json_set_int(obj, "block_size", m->block_size);
	clock_format(m->created_ms, at);
	json_set_str(obj, "created", at);
	if (m->sequence)
		json_set_int(obj, "sequence", m->sequence);
	if (m->expires_ms) {
		clock_format(m->expires_ms, at);
		json_set_str(obj, "expires", at);
	}
	json_set_str(obj, "encoding", encoding_name(m->encoding));
	if (*m->payload)
		json_set_str(obj, "payload", m->payload);
	if (*m->base)
		json_set_str(obj, "base", m->base);
	if (*m->root)
		json_set_str(obj, "root", m->root);
}

/* ---- reading ---- */

/* What was found, if a log line can bear it. */
static const char *shown(const char *s)
{
	for (const char *p = s; *p; p++)
		if (*p < 0x20 || *p >= 0x7f)
			return "(unprintable)";
	return s;
}

static int get_hash(const struct json *obj, const char *key, char out[HASH_SIZE], struct err *err)
{
	int r = json_get_str(obj, key, out, HASH_SIZE, err);
	if (r < 0)
		return r;
	if (!hash_valid(out))
		return err_set(err, -EINVAL, "%s: found '%s', expected 64 lower-case hex digits",
			       key, shown(out));
	return 0;
}

static int get_id(const struct json *obj, const char *key, char out[ID_SIZE], struct err *err)
{
	int r = json_get_str(obj, key, out, ID_SIZE, err);
	if (r < 0)
		return r;
	if (!id_valid(out))
		return err_set(err, -EINVAL,
			       "%s: found '%s', expected 1 to %d of letters, digits, '.', '_', '-'",
			       key, shown(out), ID_MAX);
	return 0;
}

static int get_time(const struct json *obj, const char *key, int64_t *ret, struct err *err)
{
	char text[CLOCK_TEXT_MAX + 8];
	int r = json_get_str(obj, key, text, sizeof(text), err);
	if (r == 0 && clock_parse(text, ret) < 0)
		r = err_set(err, -EINVAL, "%s: found '%s', expected a time as 2026-11-23T05:58:00Z",
			    key, shown(text));
	if (r == 0 && *ret < 0)
		r = err_set(err, -ERANGE, "%s: found '%s', expected 1970 or later", key,
			    shown(text));
	return r;
}

static int get_names(const struct json *obj, struct manifest *m, struct err *err)
{
	char origin[16];
	int r = get_hash(obj, "id", m->id, err);
	if (r == 0 && json_has(obj, "source"))
		r = get_hash(obj, "source", m->source, err);
	if (r == 0)
		r = get_hash(obj, "model", m->model, err);
	if (r == 0)
		r = json_get_str(obj, "origin", origin, sizeof(origin), err);
	if (r == 0 && origin_parse(origin, &m->origin) < 0)
		r = err_set(err, -EINVAL,
			    "origin: found '%s', expected local, edge, blend, tuned or fleet",
			    shown(origin));
	if (r == 0)
		r = get_id(obj, "device", m->device, err);
	if (r == 0 && json_has(obj, "trainer"))
		r = get_id(obj, "trainer", m->trainer, err);
	if (r == 0 && strcmp(m->source, m->id) == 0)
		m->source[0] = 0; /* says nothing */
	return r;
}

static int get_numbers(const struct json *obj, struct manifest *m, struct err *err)
{
	int r = json_get_int(obj, "epoch", 0, MANIFEST_EPOCH_MAX, &m->epoch, err);
	if (r == 0)
		r = json_get_int(obj, "images_seen", 0, (int64_t)WEIGHTS_SEEN_MAX, &m->images_seen,
				 err);
	if (r == 0)
		r = json_get_int(obj, "classes", 0, MODEL_CLASSES_MAX, &m->classes, err);
	if (r == 0)
		r = json_get_int(obj, "size", WEIGHTS_HEADER_SIZE, BYTES_MAX, &m->size, err);
	if (r == 0)
		r = json_get_int(obj, "block_size", MANIFEST_BLOCK_MIN, MANIFEST_BLOCK_MAX,
				 &m->block_size, err);
	int64_t blocks = r == 0 ? (m->size + m->block_size - 1) / m->block_size : 0;
	if (blocks > MANIFEST_BLOCKS_MAX)
		r = err_set(err, -ERANGE, "block_size: found %lld blocks, expected at most %d",
			    (long long)blocks, MANIFEST_BLOCKS_MAX);
	if (r == 0)
		r = get_time(obj, "created", &m->created_ms, err);
	if (r == 0 && json_has(obj, "sequence"))
		r = json_get_int(obj, "sequence", 1, JSON_INT_MAX, &m->sequence, err);
	if (r == 0 && json_has(obj, "expires"))
		r = get_time(obj, "expires", &m->expires_ms, err);
	if (r == 0 && json_has(obj, "expires") && m->expires_ms <= m->created_ms)
		r = err_set(err, -EINVAL, "expires: expected a time after created");
	return r;
}

static int get_parents(const struct json *obj, struct manifest *m, struct err *err)
{
	const struct json *arr;
	if (!json_has(obj, "parents"))
		return 0;
	int r = json_get_arr(obj, "parents", MANIFEST_PARENTS_MAX, &arr, err);
	if (r < 0)
		return r;
	const struct json *e = json_first(arr);
	for (size_t i = 0; e; i++, e = json_next(e)) {
		const char *s = json_str(e);
		if (!s || !hash_valid(s))
			return err_set(err, -EINVAL,
				       "parents: entry %zu: expected 64 lower-case hex digits", i);
		if (strcmp(s, m->id) == 0)
			return err_set(err, -EINVAL, "parents: entry %zu is the checkpoint itself",
				       i);
		for (size_t k = 0; k < i; k++)
			if (strcmp(s, m->parents[k]) == 0)
				return err_set(err, -EINVAL, "parents: entry %zu is there twice",
					       i);
		memcpy(m->parents[m->n_parents++], s, HASH_SIZE);
	}
	return 0;
}

/* A hash that has to be there with some encodings, and must not be with the others. */
static int get_coded(const struct json *obj, const char *key, enum encoding e, bool belongs,
		     char out[HASH_SIZE], struct err *err)
{
	if (belongs)
		return get_hash(obj, key, out, err);
	return json_has(obj, key) ? err_set(err, -EINVAL, "%s: expected none with encoding %s", key,
					    encoding_name(e))
				  : 0;
}

static int get_encoding(const struct json *obj, struct manifest *m, struct err *err)
{
	char name[17];
	int r = json_get_str(obj, "encoding", name, sizeof(name), err);
	if (r == 0 && encoding_parse(name, &m->encoding) < 0)
		r = err_set(err, -EOPNOTSUPP,
			    "encoding: found '%s', expected raw, zstd, f16, int8 or delta",
			    shown(name));
	if (r == 0)
		r = get_coded(obj, "payload", m->encoding, m->encoding != ENCODING_RAW, m->payload,
			      err);
	if (r == 0)
		r = get_coded(obj, "base", m->encoding, m->encoding == ENCODING_DELTA, m->base,
			      err);
	if (r == 0 && json_has(obj, "root"))
		r = get_hash(obj, "root", m->root, err);
	return r;
}

static bool known(const char *name, const char *const *also_known)
{
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strcmp(name, fields[i]) == 0)
			return true;
	for (; also_known && *also_known; also_known++)
		if (strcmp(name, *also_known) == 0)
			return true;
	return false;
}

static int check_critical(const struct json *obj, const char *const *also_known, struct err *err)
{
	const struct json *arr;
	if (!json_has(obj, "critical"))
		return 0;
	int r = json_get_arr(obj, "critical", CRITICAL_MAX, &arr, err);
	if (r < 0)
		return r;
	const struct json *e = json_first(arr);
	for (size_t i = 0; e; i++, e = json_next(e)) {
		const char *s = json_str(e);
		if (!s)
			return err_set(err, -EINVAL, "critical: entry %zu: expected a string", i);
		if (!known(s, also_known))
			return err_set(err, -EOPNOTSUPP,
				       "critical: found '%.40s', which is not known here",
				       shown(s));
	}
	return 0;
}

int manifest_from_json(const struct json *obj, const char *const *also_known, struct manifest *ret,
		       struct err *err)
{
	if (!json_is_obj(obj))
		return err_set(err, -EINVAL, "manifest: expected an object");
	struct manifest m = {0};
	/* First, so that a newer sender's demand is what the error speaks of. */
	int r = check_critical(obj, also_known, err);
	if (r == 0)
		r = get_names(obj, &m, err);
	if (r == 0)
		r = get_numbers(obj, &m, err);
	if (r == 0)
		r = get_parents(obj, &m, err);
	if (r == 0)
		r = get_encoding(obj, &m, err);
	if (r < 0) {
		err_prefix(err, "manifest");
		return r;
	}
	*ret = m;
	return 0;
}

int manifest_fits(const struct manifest *m, const struct model *model, int64_t now_real_ms,
		  struct err *err)
{
	char theirs[13], ours[13], at[CLOCK_TEXT_MAX];
	if (strcmp(m->model, model->id))
		return err_set(err, -EINVAL,
			       "manifest: of another model: found %s, expected %s (topology and "
			       "class list)",
			       hash_short(m->model, theirs), hash_short(model->id, ours));
	if (m->classes != model->n_classes)
		return err_set(err, -EINVAL, "manifest: classes: found %lld, expected %u",
			       (long long)m->classes, model->n_classes);
	bool raw = m->encoding == ENCODING_RAW;
	if (raw ? (uint64_t)m->size != model->file_bytes : (uint64_t)m->size >= model->file_bytes)
		return err_set(err, -EINVAL, "manifest: size: found %lld, expected %s%llu",
			       (long long)m->size, raw ? "" : "less than ",
			       (unsigned long long)model->file_bytes);
	if (m->expires_ms && now_real_ms >= m->expires_ms) {
		clock_format(m->expires_ms, at);
		return err_set(err, -ETIME, "manifest: expires: found %s, which is past", at);
	}
	return 0;
}
