#include "tests/experiments/power/rules.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "tests/experiments/power/draw.h"

static double log_binomial(size_t n, size_t k, double p)
{
	if (p >= 1)
		return k == n ? 0 : -INFINITY;
	return lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) +
	       (k ? (double)k * log(p) : 0) + (double)(n - k) * log1p(-p);
}

static double binomial(size_t n, size_t k, double p)
{
	return exp(log_binomial(n, k, p));
}

/* P(B >= k) */
static double binomial_tail(size_t n, size_t k, double p)
{
	double sum = 0;
	for (size_t i = k; i <= n; i++)
		sum += binomial(n, i, p);
	return sum;
}

static double normal_tail(double z)
{
	return erfc(z / M_SQRT2) / 2;
}

/* ---- one sample of differences, the challenger's advantage positive ---- */

struct differences {
	double x[WORKER_OUTCOMES_MAX];
	size_t n;
};

/* One-sided quantile of Student's t at LEVEL (Cornish, Fisher). */
static double t_quantile(double freedom)
{
	const double z = 1.6448536;
	return z + (pow(z, 3) + z) / (4 * freedom) +
	       (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * freedom * freedom);
}

static bool t_test(const struct differences *d)
{
	double n = (double)d->n, sum = 0, squares = 0;
	for (size_t i = 0; i < d->n; i++)
		sum += d->x[i];
	for (size_t i = 0; i < d->n; i++)
		squares += (d->x[i] - sum / n) * (d->x[i] - sum / n);
	return sum / n > t_quantile(n - 1) * sqrt(squares / (n - 1) / n);
}

static int by_size(const void *a, const void *b)
{
	double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
	return (x > y) - (x < y);
}

/* Sorts d. Equal sizes are too rare to matter: the losses have 32,768 steps. */
static bool signed_ranks(struct differences *d)
{
	double sum = 0, variance = 0;
	qsort(d->x, d->n, sizeof(*d->x), by_size);
	for (size_t i = 0; i < d->n; i++) {
		double rank = (double)i + 1;
		if (d->x[i] == 0)
			continue;
		sum += d->x[i] > 0 ? rank : -rank;
		variance += rank * rank;
	}
	return variance > 0 && normal_tail(sum / sqrt(variance)) <= LEVEL;
}

/* ---- the rules ---- */

static size_t only_right(const struct outcomes *a, const struct outcomes *b)
{
	size_t n = 0;
	for (size_t i = 0; i < a->n; i++)
		n += (a->image[i] & ~b->image[i] & WORKER_OUTCOME_CORRECT) != 0;
	return n;
}

static double p_true(uint16_t image)
{
	return exp(-outcome_loss(image));
}

/* How likely signs of the differences in p, where both are right or both wrong, would favour the
 * challenger as much: the place of the result within its step of the exact test. */
static double within_step(const struct outcomes *active, const struct outcomes *challenger)
{
	double sum = 0, squares = 0;
	for (size_t i = 0; i < active->n; i++) {
		if ((active->image[i] ^ challenger->image[i]) & WORKER_OUTCOME_CORRECT)
			continue;
		double x = p_true(challenger->image[i]) - p_true(active->image[i]);
		sum += x;
		squares += x * x;
	}
	return squares > 0 ? normal_tail(sum / sqrt(squares)) : 1;
}

double verdict_p(const struct outcomes *active, const struct outcomes *challenger)
{
	const struct verdict_conf conf = {.confidence = 1 - LEVEL};
	const struct contender a = {.outcomes = *active}, c = {.outcomes = *challenger};
	struct verdict v;
	if (verdict_choose(&conf, &a, &c, 1, &v, NULL) < 0)
		abort();
	return v.pair[0].p;
}

void rules_apply(const struct outcomes *active, const struct outcomes *challenger,
		 bool ret_swaps[RULE_N])
{
	static struct differences p, loss;
	size_t won = only_right(challenger, active), lost = only_right(active, challenger);
	double beyond = binomial_tail(won + lost, won + 1, 0.5);
	double here = binomial(won + lost, won, 0.5);
	p.n = loss.n = active->n;
	for (size_t i = 0; i < active->n; i++) {
		p.x[i] = p_true(challenger->image[i]) - p_true(active->image[i]);
		loss.x[i] = outcome_loss(active->image[i]) - outcome_loss(challenger->image[i]);
	}
	ret_swaps[RULE_BEST] = true;
	ret_swaps[RULE_EXACT] = beyond + here <= LEVEL;
	ret_swaps[RULE_VERDICT] = verdict_p(active, challenger) <= LEVEL;
	ret_swaps[RULE_BROKEN] = beyond + here * within_step(active, challenger) <= LEVEL;
	ret_swaps[RULE_P_TRUE] = t_test(&p);
	ret_swaps[RULE_LOSS] = t_test(&loss);
	ret_swaps[RULE_RANK] = signed_ranks(&loss);
	for (int r = 0; r < RULE_N; r++)
		ret_swaps[r] &= won > lost;
}

/* ---- enumeration ---- */

/* Whether the agent's rule swaps at `won` of m discordant images among n. */
static bool verdict_takes(size_t n, size_t m, size_t won)
{
	static uint16_t a[WORKER_OUTCOMES_MAX], c[WORKER_OUTCOMES_MAX];
	for (size_t i = 0; i < n; i++) {
		a[i] = i < won ? 0 : WORKER_OUTCOME_CORRECT;
		c[i] = i >= won && i < m ? 0 : WORKER_OUTCOME_CORRECT;
	}
	return verdict_p(&(struct outcomes){a, n}, &(struct outcomes){c, n}) <= LEVEL;
}

struct enumerated rules_enumerate(size_t n, double disagree, double better)
{
	struct enumerated sum = {0};
	double win = (disagree + better) / (2 * disagree);
	for (size_t m = 0; m <= n; m++) {
		double weight = binomial(n, m, disagree), tail = 0, power = 0;
		size_t won = m + 1; /* the exact test swaps from so many on */
		if (weight < 1e-12)
			continue;
		while (won > 0 && tail + binomial(m, won - 1, 0.5) <= LEVEL)
			tail += binomial(m, --won, 0.5);
		power = binomial_tail(m, won, win);
		if (won > 0)
			sum.bound += weight * (LEVEL - tail) / binomial(m, won - 1, 0.5) *
				     binomial(m, won - 1, win);
		sum.bound += weight * power;
		size_t takes = won; /* the agent's, no later */
		while (takes > 0 && 2 * (takes - 1) > m && verdict_takes(n, m, takes - 1))
			takes--;
		sum.verdict += weight * binomial_tail(m, takes, win);
	}
	return sum;
}
