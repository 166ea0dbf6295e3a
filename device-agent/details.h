/* What evaluations told beyond the scores: image by image, class by class. In memory only, the
 * DETAILS_MAX used last; a decision that needs more than is here has it evaluated again. */
#pragma once

#include "common/base/id.h"
#include "common/protocol/message.h"
#include "device-agent/verdict.h"

#define DETAILS_MAX 24 /* more than one decision needs */

struct detail {
	char checkpoint[HASH_SIZE], snapshot[HASH_SIZE];
	enum split split;
	struct class_score *per_class;
	size_t n_per_class;
	struct outcomes outcomes; /* n 0: none */
	int32_t *confusion; /* n_outputs squared: true class, answer; NULL: none */
	int32_t n_outputs;
};

struct details {
	struct detail at[DETAILS_MAX]; /* used last: at the end */
	size_t n;
};

/* NULL: not known, or not any more. Good until the next call. */
const struct detail *details_find(struct details *d, const char *checkpoint, enum split split,
				  const char *snapshot);
/* What *add points to is taken; it takes the place of what was known of the same. */
void details_put(struct details *d, struct detail *add);
void details_done(struct details *d);
