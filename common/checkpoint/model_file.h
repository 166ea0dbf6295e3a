/* STATE/model.json: what an application beside the agent has to know of a state folder, besides the
 * weights in it. The agent writes it when it starts. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/id.h"

#define MODEL_FILE           "model.json"
#define MODEL_FILE_BYTES_MAX 65536
#define MODEL_FILE_CROP_MAX  16384 /* px */

struct model_file {
	char model[HASH_SIZE]; /* model id, of cfg and class list */
	char site[ID_SIZE], device[ID_SIZE];
	char cfg[FILE_PATH_MAX], classes[FILE_PATH_MAX]; /* absolute */
	char private_classes[FILE_PATH_MAX];             /* of the outputs after theirs; "": none */
	char absent[8];       /* as [model] absent_classes: "train" or "mask" */
	uint32_t center_crop; /* px of an image, square, around its middle; 0: the whole */
};

/* Atomically; nothing where it is that already. Paths are made absolute. */
int model_file_write(const char *state, const struct model_file *m, struct err *err);
/* -ENOENT: no agent has run there. -EINVAL ...: with file and member. */
int model_file_read(const char *state, struct model_file *ret, struct err *err);
