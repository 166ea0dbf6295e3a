/* Whether a challenger takes the place of what is active, from what both made of the very same
 * validation images: the decision of selector = confidence. Pure and deterministic.
 *
 * A challenger takes over only if it is right on more images, if that is more than chance would
 * give two equally good ones (a paired one-sided test, below), and if no protected class loses
 * recall by more than the floor allows. Everything else leaves what is active where it is.
 *
 * The level, 1 - confidence, is that of one decision, however many challengers are in it (Holm
 * 1979). docs/experiments.md, "Decisions", has the measured error rates and power, and why the
 * losses take no part in the test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/engine/worker_protocol.h"
#include "common/protocol/message.h"

#define VERDICT_CONTENDERS_MAX 16
#define VERDICT_CONFIDENCE_MIN 0.5
#define VERDICT_CONFIDENCE_MAX 0.9999

/* What one checkpoint made of each image of a split, in the split's order, as the worker tells it
 * (worker_protocol.h): WORKER_OUTCOME_CORRECT, and the loss in the bits below. */
struct outcomes {
	uint16_t *image;
	size_t n;
};

/* `name` is what errors call the text. -EINVAL: not what the worker sends; -EFBIG: too many images;
 * -ENOMEM. "" is no image. *ret is to be released with outcomes_done(). */
int outcomes_parse(const char *name, const char *text, struct outcomes *ret, struct err *err);
void outcomes_done(struct outcomes *o); /* also of a zeroed one */
size_t outcomes_correct(const struct outcomes *o);

struct verdict_conf {
	double confidence;      /* that two equally good ones are not swapped */
	double floor_points;    /* of recall, 0 .. 100, that a protected class may lose */
	const int32_t *protect; /* output numbers of protected classes; borrowed */
	size_t n_protect;
	/* Outputs from this one on are protected together, as if they were one class, by default,
	 * and may have few images: the loss must also be one that chance would seldom make. 0:
	 * none. */
	int32_t private_from;
};

/* Borrowed, all of it. */
struct contender {
	struct outcomes outcomes;
	const struct class_score *per_class; /* needed for protected and private classes only */
	size_t n_per_class;
};

enum verdict_why {
	VERDICT_TAKES_OVER,
	VERDICT_FIRST,     /* takes over: nothing is active, so the most correct one does */
	VERDICT_NOT_MORE,  /* not right on more images */
	VERDICT_UNSURE,    /* more, but no more than chance may give */
	VERDICT_FLOOR,     /* a protected class would lose too much */
	VERDICT_OUTSCORED, /* could have, but another one was right on more images, or lost less */
	VERDICT_WHY_N
};
/* "unsure": for reports and logs */
const char *verdict_why_name(enum verdict_why w);

/* One challenger against what is active. */
struct verdict_pair {
	enum verdict_why why;
	size_t won, lost; /* discordant images: only the challenger is right; only the active one */
	double p; /* of the test by itself; 1 where won <= lost, and where nothing is active */
	double p_adjusted;   /* for the number of challengers: takes over up to 1 - confidence */
	int32_t floor_class; /* VERDICT_FLOOR: the first that would lose too much; private_from
				for the private ones */
};

struct verdict {
	int winner;       /* index of the challenger that takes over, -1: what is active stays */
	size_t n;         /* images that it stands on */
	size_t unwatched; /* protected classes (private ones count as one) without an image: they
			     forbid nothing */
	struct verdict_pair pair[VERDICT_CONTENDERS_MAX];
};

#define VERDICT_TEST "mcnemar-mid-p" /* the test's name in reports */

/* active NULL: nothing is active yet. All must have been judged on the same snapshot, which is the
 * caller's to see to; -EINVAL, with nothing in *ret, where numbers of images differ (also those of
 * a protected class), the configuration is out of range, or there are too many challengers. */
int verdict_choose(const struct verdict_conf *conf, const struct contender *active,
		   const struct contender *c, size_t n, struct verdict *ret, struct err *err);
