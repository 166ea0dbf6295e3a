/* Which checkpoints of a window are left out of it, lest they harm the others. Pure logic. What is
 * not finite never comes so far: weights_check() refuses it.
 *
 * By their norms: each tensor's, against the window's median, where three or more give one; else
 * against those of the last merged result; else against what Darknet's first weights would have.
 * Weights and scales are out of line beyond SCREEN_NORM times that or below its inverse (trained
 * for one epoch or forty, digits stay within 0.5 and 1.5 times the first weights), biases and
 * statistics, which begin at nothing and follow the images, only far above it.
 *
 * By their accuracy on the trainer's test images:
 * - collapsed: of three or more, one whose lead over chance is less than a fifth of the median's;
 * - it is near chance while the device reports much better on its own images: labels that are not
 * ours.
 *
 * What this cannot tell. With two members there is no majority, and only the second of these rules
 * is left, which believes the device's report: a device of one class alone falls to it, and who
 * flips labels and reports badly does not. A majority of the window that acts together is the norm.
 * Weights whose hidden channels are in another order, or of the other sign, compute what theirs do
 * and have their norms, but not what a mean of them and others does: merge_scored() says so in the
 * log, and a device takes no result that is worse on its own images.
 * Labels flipped for a few classes look like images of another kind; so do small changes of
 * weights: these are bounded by the share that one member has, not found. Without SCREEN_TEST_MIN
 * test images accuracy says nothing. */
#pragma once

#include <stddef.h>

#include "common/checkpoint/model.h"
#include "common/protocol/message.h"

#define SCREEN_NORM        4.0
#define SCREEN_NORM_LOOSE  100.0 /* biases and statistics */
#define SCREEN_RMS_LEAST   0.1   /* of these, if the others' are smaller */
#define SCREEN_MAJORITY    3     /* members that have a median */
#define SCREEN_TEST_MIN    50    /* images */
#define SCREEN_LEAD_LEAST  0.1   /* of the median over chance, before anybody can fall behind */
#define SCREEN_LEAD        0.2   /* of the median's lead */
#define SCREEN_NEAR_CHANCE 1.5   /* times chance */
#define SCREEN_REPORT      0.3   /* more accuracy than here */
#define SCREEN_REPORT_MIN  10    /* images that the report is of */

enum screen_verdict {
	SCREEN_FINE,
	SCREEN_OUT_OF_LINE,
	SCREEN_COLLAPSED,
	SCREEN_AT_CHANCE,
	SCREEN_N
};
const char *screen_verdict_name(enum screen_verdict v); /* for our own log only */

struct screen_member {
	const double *norms; /* of each tensor of the model: L2 */
	struct score edge, reported;
	enum screen_verdict verdict; /* set by screen_judge() */
};

/* usual: norms of the last merged result; NULL: none yet. */
void screen_judge(const struct model *model, struct screen_member *m, size_t n,
		  const double *usual);
