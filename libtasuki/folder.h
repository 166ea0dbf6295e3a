/* What a state folder says, as somebody reads it who does not own it: the store of the agent
 * (common/checkpoint/store.h) may change it at any moment, by renames. Nothing is written. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/model.h"

/* Where the link `active` points. -ENOENT: nothing is active, or the folder is gone; -EINVAL: the
 * link is none of the store's. */
int folder_active(const char *state, char id[HASH_SIZE], struct err *err);
/* Path of a checkpoint's weights, and what is said of it, which has to fit the model: its id, and
 * the size of the file. What is in the file is whoever's who reads it: its sha256 is the id. */
int folder_checkpoint(const char *state, const char *id, const struct model *m,
		      char weights[FILE_PATH_MAX], struct manifest *ret, struct err *err);
/* Which folder of checkpoints is there now, to tell it from another of the same name; 0: none. */
uint64_t folder_number(const char *state);

/* An inotify descriptor that tells of changes of the links in `state` (*watch < 0: it does not yet,
 * or not any more: tried again). */
int folder_watch(int inotify_fd, const char *state, int *watch);
/* Reads what has come; true: the links may have changed. Where the folder is gone, *watch is -1. */
bool folder_changed(int inotify_fd, int *watch);
