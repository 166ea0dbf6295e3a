/* What both daemons tell of themselves: the program, its broker, what it did not believe. */
#pragma once

#include "common/metrics/text.h"
#include "common/mqtt/mqtt.h"
#include "common/trust/trust.h"

/* build_info, and the process: since when, processor time, memory, descriptors. */
void metrics_program(struct metrics *m, const char *site, const char *id, const char *model);
void metrics_broker(struct metrics *m, const struct mqtt *mqtt);
/* By the refusal's name; not_understood: what was none of them. NULL: plain, all are 0. */
void metrics_refused(struct metrics *m, const struct trust *t, uint64_t not_understood);
/* The end of its own certificate; nothing without one. */
void metrics_certificate(struct metrics *m, const struct trust *t);
void metrics_disk(struct metrics *m, const char *state);
