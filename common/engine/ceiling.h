/* The memory limit of a worker, in bytes resident. What is known in advance, the networks, is
 * judged in advance; images get what is left; and what comes on top fails as malloc() does. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"
#include "common/engine/session.h"

/* Before the networks and the data: whether they fit, the networks in full. *ret_left (for images;
 * 0: no limit) is what they leave. -ENOMEM: the cfg, and what it needs. */
int ceiling_check(const struct session *s, uint32_t eval_batch, bool training, uint64_t *ret_left,
		  struct err *err);
/* From now on no more is given than fits beneath the limit. */
int ceiling_set(const struct session *s, struct err *err);
/* Beside what is in memory now: whether there is room for one more network to train, with its
 * images. -ENOMEM: what it needs. */
int ceiling_room(const struct session *s, struct err *err);
