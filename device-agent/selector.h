/* Which checkpoint is to be active. Pure: numbers in, an index out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/protocol/message.h"

struct candidate {
	const char *checkpoint;
	const char *snapshot; /* of the validation images that `score` stands on */
	struct score score;   /* n 0: not scored */
};

/* Whether a got more of the very same images right than b. Scores on different images say nothing
 * about each other: then neither is better. */
bool selector_better(const struct candidate *a, const struct candidate *b);
/* Index of what is to be active. `active` is the index of what is now, -1: none. It stays unless
 * another one is strictly better; among equally good others the one of less loss, then the
 * first. -1: nothing is active and nothing is scored. */
int selector_best(const struct candidate *c, size_t n, int active);
