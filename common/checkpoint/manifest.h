/* What is said about a checkpoint: beside it on disk (manifest.json) and in offers.
 * Field by field in docs/protocol.md. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/checkpoint/model.h"
#include "common/json/json.h"

#define MANIFEST_BYTES_MAX     65536
#define MANIFEST_PARENTS_MAX   8
#define MANIFEST_BLOCK_MIN     1024
#define MANIFEST_BLOCK_MAX     (128 * 1024)
#define MANIFEST_BLOCKS_MAX    (1024 * 1024)
#define MANIFEST_EPOCH_MAX     ((int64_t)1 << 31)

/* The form in which a checkpoint travels: common/encoding/encoding.h. */
enum encoding {
	ENCODING_RAW,
	ENCODING_ZSTD,
	ENCODING_F16,
	ENCODING_INT8,
	ENCODING_DELTA,
	ENCODING_N,
};
/* In a configuration, and to the worker: whichever is smallest and as good. No checkpoint's own. */
#define ENCODING_AUTO ENCODING_N
extern const char *const encoding_choices[];              /* their names, that of AUTO, NULL */
const char *encoding_name(enum encoding e);               /* "int8" */
int encoding_parse(const char *name, enum encoding *ret); /* -EINVAL */

enum origin { ORIGIN_LOCAL, ORIGIN_EDGE, ORIGIN_BLEND, ORIGIN_TUNED, ORIGIN_FLEET, ORIGIN_N };

struct manifest {
	char id[HASH_SIZE]; /* sha256 of the decoded weights as the receiver reconstructs them */
	char source[HASH_SIZE]; /* the sender's own id where a lossy encoding made them differ; ""
				 */
	char parents[MANIFEST_PARENTS_MAX][HASH_SIZE];
	size_t n_parents;
	char model[HASH_SIZE];
	enum origin origin;
	char device[ID_SIZE];  /* whose lineage this is */
	char trainer[ID_SIZE]; /* who made it, when a trainer did; "" */
	int64_t epoch;         /* epochs in its lineage */
	int64_t images_seen;
	int64_t classes; /* entries of the public class list */
	int64_t size;    /* bytes as transferred */
	int64_t block_size;
	int64_t created_ms;
	/* Of the message that it is in, not of the checkpoint (common/trust/freshness.h): which one of
	 * its signer's it is (0: not said), and until when it is valid (UTC; 0: for ever). */
	int64_t sequence, expires_ms;
	enum encoding encoding;
	char payload[HASH_SIZE]; /* sha256 of the bytes as transferred; "" with RAW: they are `id`
				  */
	char base[HASH_SIZE];    /* that a DELTA is the difference to; else "" */
	char root[HASH_SIZE];    /* of the Merkle tree over the payload's blocks; "": none */
	/* In the store's manifest.json only; messages neither say nor hear it: */
	bool stays;             /* must not leave this machine */
	char noised[HASH_SIZE]; /* the checkpoint with noise that this is, or is a form of; "": none */
	double noise_rho;       /* that handing it over costs (common/privacy/accountant.h) */
};

/* What is made of others may have the bytes of one of them, and two of these may be the same; no
 * manifest names itself, or one parent twice. add_parent does nothing then, nor when it is full;
 * name sets m->id, and takes it from the parents. id: HASH_SIZE bytes. */
void manifest_add_parent(struct manifest *m, const char *id);
void manifest_name(struct manifest *m, const char *id);
/* The name of what is transferred: in topics, wants and part files. */
static inline const char *manifest_payload(const struct manifest *m)
{
	return *m->payload ? m->payload : m->id;
}
/* It travels as the file at `payload`, in the encoding of that name; base: "" but with a DELTA. */
int manifest_coded(struct manifest *m, const char *encoding, const char *payload, const char *base,
		   struct err *err);
/* How it came is forgotten: from here on it is a weights file of so many bytes. */
void manifest_decoded(struct manifest *m, uint64_t file_bytes);
const char *origin_name(enum origin o);
int origin_parse(const char *s, enum origin *ret);

/* Members of m into obj. */
void manifest_to_json(const struct manifest *m, struct json *obj);
/* Checks every field: presence, type, length, range, agreement (block count, ids); refuses an
 * encoding other than those known, and any name in `critical` that it does not know itself or
 * find in `also_known` (NULL-terminated, may be NULL): the caller's own fields beside ours.
 * -ENOENT missing, -EINVAL, -ERANGE, -E2BIG, -EOPNOTSUPP (encoding, critical). */
int manifest_from_json(const struct json *obj, const char *const *also_known, struct manifest *ret,
		       struct err *err);
/* That it fits our model: model id, classes, size (raw: model->file_bytes, else less) or -EINVAL;
 * not expired or -ETIME. The text names no path: it goes to whoever sent the manifest. */
int manifest_fits(const struct manifest *m, const struct model *model, int64_t now_real_ms,
		  struct err *err);
