/* How many checkpoints the trainer may hold on disk, and what gives way to a new job. Pure logic.
 * All checkpoints have the model's size, so they are counted, not weighed; a part file counts as
 * one from its first block.
 *
 * What a job may come to need is set aside for it when it is admitted; so nothing that is admitted
 * fails for want of room here. In this order give way: lapsed jobs of devices that never completed
 * a handover, checkpoints of jobs that are over, other lapsed jobs; of each the oldest first. So
 * whoever invents devices loses his own first. Checkpoints that the database does not know never
 * do: they are somebody's, until they are too old to be kept. */
#pragma once

#include <stdint.h>

#define QUOTA_WORK   3 /* as it came, the last epoch's, the one being written */
#define QUOTA_OFFER  2 /* as it came, the result */
#define QUOTA_LINEAGE 1 /* the last merged result */
#define QUOTA_FLEET  1 /* on offer to everyone */
#define QUOTA_FIRST   1 /* the first weights */
#define QUOTA_LAPSED 2 /* as it came or its part, the last epoch's */

struct quota {
	int64_t max;               /* checkpoints in all */
	int64_t working, offering; /* jobs */
	int64_t loose, lapsed;     /* lapsed jobs: of unproven devices, and the others */
	int64_t unknown;           /* checkpoints that the database does not know */
	int64_t history;           /* checkpoints of jobs that are over */
};

/* How many of each go. */
struct quota_cut {
	int64_t loose, history, lapsed;
};

/* What has to go so that `more` jobs can come in. -ENOSPC: all that may go is not enough; *ret is
 * then what should go all the same for what is there already. */
int quota_plan(const struct quota *q, int64_t more, struct quota_cut *ret);
