/* Which checkpoints are neither trained on nor merged, lest they harm others, or waste what is
 * spent on them. Pure logic. What is not finite never comes so far: weights_check() refuses it.
 *
 * Each by itself, under every strategy, before anything is done with it (screen_weights(),
 * screen_answers()):
 * - by its norms against those of what its device handed over, or was given, last; else of the last
 *   merged result; else of what Darknet's first weights would have. The rule is that of windows,
 *   below; and a tensor of variances is out of line, too, below a hundredth of what it was, as
 *   activations are divided by it;
 * - by its distance from what its device handed over or was given last, whichever is nearer, in
 *   units of that one's norm: SCREEN_DELTA times the median of what other devices' are, and at
 *   least SCREEN_DELTA_LEAST. First handovers of faces were 0.78 to 0.94 away from first
 *   weights, what the trainer made of them 0.22 to 0.44 from that; new weights of another seed are 1.4 away, minus the
 *   weights 2. An update that is scaled up to outweigh others' (Bagdasaryan et al. 2020, How To
 *   Backdoor Federated Learning) is far beyond;
 * - by its answers: right ones come less often than wrong ones would by chance. For each class the
 *   share of its own images that are answered with it, less the share of other classes' images that
 *   are (Youden's J): 0 in the mean for whatever does not know our classes (first weights, images of
 *   another kind, one class alone, noise), more for what knows any, and -1 / (classes - 1) for
 *   labels that were exchanged. Out beyond half of that and five standard deviations of chance.
 *
 * Then in a window (screen_judge()). By their norms: each tensor's, against the window's median, where three or more give one; else
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
 * Labels exchanged for a few classes look like images of another kind; so do small changes of
 * weights: these are bounded by the share that one member has, not found. Without SCREEN_TEST_MIN
 * test images accuracy says nothing. A backdoor is seen by none of this: its answers are right on
 * images without the trigger. Noise on what is handed over ([privacy] of the device) that is larger
 * than SCREEN_DELTA_LEAST times the weights is out of line: nothing could be learned from it. */
#pragma once

#include <stdbool.h>
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
#define SCREEN_DELTA	   4.0   /* times the other devices' median */
#define SCREEN_DELTA_LEAST 2.0   /* of the norm of what it is compared with */
#define SCREEN_CLASS_MIN   5     /* images of a class */
#define SCREEN_J	   0.5   /* of what exchanged labels give */
#define SCREEN_SIGMAS	   5.0
#define SCREEN_CLASSES_MAX 128   /* of a model; more: answers are not looked at one by one */

enum screen_verdict {
	SCREEN_FINE,
	SCREEN_OUT_OF_LINE,
	SCREEN_COLLAPSED,
	SCREEN_AT_CHANCE,
	SCREEN_TOO_FAR,
	SCREEN_TURNED,
	SCREEN_VERDICTS
};
const char *screen_verdict_name(enum screen_verdict v);
/* Whether it speaks against the device: accuracy alone does not, as honest ones may have one class
 * only, or images of another kind. */
bool screen_is_grave(enum screen_verdict v);

struct screen_one {
	const double *norms; /* of each tensor of the model: L2 */
	const double *usual; /* of what it is compared with; NULL: the first weights' */
	double delta;	     /* from what its device had last, in its norm; < 0: there is none */
	double usual_delta;  /* other devices' median; < 0: not known */
};
enum screen_verdict screen_weights(const struct model *model, const struct screen_one *one);

struct screen_class {
	int64_t n, correct;
	int64_t taken; /* images of other classes that were answered with it */
};
/* Of the trainer's test images. */
enum screen_verdict screen_answers(const struct screen_class *c, size_t n);

struct screen_member {
	const double *norms; /* of each tensor of the model: L2 */
	struct score edge, reported;
	enum screen_verdict verdict; /* set by screen_judge() */
};

/* usual: norms of the last merged result; NULL: none yet. */
void screen_judge(const struct model *model, struct screen_member *m, size_t n,
		  const double *usual);
