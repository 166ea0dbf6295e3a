/* Checkpoints on disk.
 *
 *   DIR/checkpoints/<id>/weights, manifest.json     complete, verified, fsynced, never changed
 *   DIR/checkpoints/<id>/payload                    the form in which it travels, if the manifest
 *                                                   has another encoding than raw
 *   DIR/active   -> checkpoints/<id>                one rename switches weights and manifest
 *   DIR/active.weights -> active/weights, DIR/active.json -> active/manifest.json
 *   DIR/previous -> checkpoints/<id>
 *   DIR/previous.next                               only while store_activate() is at work
 *   DIR/.store-tmp/                                 emptied at open; what is in it is the store's,
 *                                                   as a file in it says
 *   DIR/.store-tmp/out/                             for store_tmp(); others may write there, too
 *   DIR/damaged/<id>                                put aside, the last STORE_DAMAGED_MAX
 *
 * A folder appears under checkpoints/ by rename only, once all in it is synced. The links come
 * with the first store_activate(): trainers use the same store without them. One process at a
 * time, one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/checkpoint/manifest.h"

struct store;

#define STORE_CHECKPOINTS "checkpoints"
#define STORE_OUT         ".store-tmp/out"
#define STORE_DAMAGED_MAX 2

/* Opens or makes it; repairs what a crash left: empties .store-tmp (-EEXIST where that is somebody
 * else's), ends or takes back a half-done store_activate(). A link to a checkpoint that is not
 * there (somebody deleted it, or a file of it) is removed; if that was the active one (see
 * store_lost), the previous one takes its place. What is left of such a checkpoint is put aside.
 * The state folder's lock is the caller's. */
int store_open(const char *dir, struct store **ret, struct err *err);
void store_free(struct store *s);
static inline void store_freep(struct store **s)
{
	store_free(*s);
}

/* A name in .store-tmp/out/ for the caller to write to. */
int store_tmp(struct store *s, const char *name, char path[FILE_PATH_MAX], struct err *err);
/* Takes `weights_path` (moved in; left alone on failure) under m->id, which the caller has
 * verified with weights_check. What comes in is a copy that is hashed as it is made: whoever wrote
 * the file, and may have it open still, has no way to what is in the store. -EBADMSG: it is not
 * what m says. Already there: success, the file is removed, the manifest stays the one that is
 * there. */
int store_add(struct store *s, const char *weights_path, const struct manifest *m, struct err *err);
/* The same of a file that only this program has had open for writing, as one that it received: by a
 * second name. Its bytes are verified to be m->id. */
int store_add_own(struct store *s, const char *weights_path, const struct manifest *m,
		  struct err *err);
/* The same with the form in which it travels, as m says (its encoding, payload, base and size):
 * moved in, too. Where the checkpoint is already there, that and m take the place of what it had;
 * but one that stays goes on to. */
int store_add_coded(struct store *s, const char *weights_path, const char *payload_path,
		    const struct manifest *m, struct err *err);
/* The file that travels: the weights, or what store_add_coded() was given. */
int store_payload(const struct store *s, const char *id, char path[FILE_PATH_MAX], struct err *err);
bool store_has(const struct store *s, const char *id);
int store_weights(const struct store *s, const char *id, char path[FILE_PATH_MAX]);
int store_manifest(const struct store *s, const char *id, struct manifest *ret, struct err *err);

/* Points `active` at id (which must be there, or -ENOENT); what was active becomes `previous`. No
 * change and success if id is active already. */
int store_activate(struct store *s, const char *id, struct err *err);
/* "" when there is none. */
void store_active(const struct store *s, char id[HASH_SIZE]);
void store_previous(const struct store *s, char id[HASH_SIZE]);

/* The checkpoint that was active by its link, but not there, when the store was opened; "" none. */
void store_lost(const struct store *s, char id[HASH_SIZE]);
/* Moves what there is of a damaged checkpoint to DIR/damaged. If it was the active one, `instead`
 * is active after that ("": none), and there is no previous one if that was either of the two.
 * -ENOENT: nothing is there of it, and no link names it any more. A crash leaves it done, or
 * `active` whole. */
int store_set_aside(struct store *s, const char *id, const char *instead, struct err *err);

/* The ids that are there, in no order; the caller frees the array. */
int store_list(const struct store *s, char (**ret)[HASH_SIZE], size_t *ret_n, struct err *err);

/* Removes every checkpoint but the active and the previous one and those in keep. */
int store_collect(struct store *s, const char (*keep)[HASH_SIZE], size_t n, struct err *err);
/* Removes one. -ENOENT; -EBUSY: it is the active or the previous one. */
int store_remove(struct store *s, const char *id, struct err *err);
/* When it came (wall clock, by its files), or -ENOENT. */
int store_added_ms(const struct store *s, const char *id, int64_t *ret);
