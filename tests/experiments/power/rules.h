/* Rules to decide by, beside the agent's own. All of them, as the agent must, swap only for a
 * challenger that is right on more images. */
#pragma once

#include "device-agent/verdict.h"

#define LEVEL 0.05

enum rule {
	RULE_BEST,    /* right on more images: selector = best */
	RULE_EXACT,   /* McNemar's exact test */
	RULE_VERDICT, /* device-agent/verdict.c */
	RULE_BROKEN,  /* the exact test, its steps broken by the losses where both agree */
	RULE_P_TRUE,  /* paired t test of the true class's probability */
	RULE_LOSS,    /* paired t test of the loss */
	RULE_RANK,    /* Wilcoxon's signed ranks of the loss */
	RULE_N
};

/* What each rule says of one pair. */
void rules_apply(const struct outcomes *active, const struct outcomes *challenger,
		 bool ret_swaps[RULE_N]);

/* Enumerated, no losses. Of the agent's rule, and the most powerful unbiased test of equal
 * accuracy, which is McNemar's with the last step drawn by lot (Lehmann, Romano 2005, 4.5). */
struct enumerated {
	double verdict, bound;
};
struct enumerated rules_enumerate(size_t n, double disagree, double better);

/* One challenger's p from the agent's rule. */
double verdict_p(const struct outcomes *active, const struct outcomes *challenger);
