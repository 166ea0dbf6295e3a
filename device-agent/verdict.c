#include "device-agent/verdict.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"

/* ---- outcomes ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static int parse_image(const char *digits, uint16_t *ret)
{
	unsigned v = 0;
	for (int i = 0; i < WORKER_OUTCOME_DIGITS; i++) {
		int d = hex_digit(digits[i]);
		if (d < 0)
			return -EINVAL;
		v = v << 4 | (unsigned)d;
	}
	*ret = (uint16_t)v;
	return 0;
}

int outcomes_parse(const char *name, const char *text, struct outcomes *ret, struct err *err)
{
	size_t most = (size_t)WORKER_OUTCOMES_MAX * WORKER_OUTCOME_DIGITS,
	       length = strnlen(text, most + 1);
	if (length > most)
		return err_set(err, -EFBIG, "%s: outcomes of more than %d images", name,
			       WORKER_OUTCOMES_MAX);
	if (length % WORKER_OUTCOME_DIGITS)
		return err_set(err, -EINVAL,
			       "%s: outcomes of %zu characters, expected %d for each image", name,
			       length, WORKER_OUTCOME_DIGITS);
	struct outcomes o = {.n = length / WORKER_OUTCOME_DIGITS};
	o.image = malloc((o.n ? o.n : 1) * sizeof(*o.image));
	if (!o.image)
		return err_set(err, -ENOMEM, "%s: no memory for outcomes", name);
	for (size_t i = 0; i < o.n; i++) {
		if (parse_image(text + i * WORKER_OUTCOME_DIGITS, &o.image[i]) < 0) {
			outcomes_done(&o);
			return err_set(err, -EINVAL,
				       "%s: outcome of image %zu is not %d lower-case hex digits",
				       name, i, WORKER_OUTCOME_DIGITS);
		}
	}
	*ret = o;
	return 0;
}

void outcomes_done(struct outcomes *o)
{
	free(o->image);
	*o = (struct outcomes){0};
}

static bool right(const struct outcomes *o, size_t i)
{
	return o->image[i] & WORKER_OUTCOME_CORRECT;
}

size_t outcomes_correct(const struct outcomes *o)
{
	size_t correct = 0;
	for (size_t i = 0; i < o->n; i++)
		correct += right(o, i);
	return correct;
}

static uint64_t total_loss(const struct outcomes *o)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < o->n; i++)
		sum += o->image[i] & WORKER_OUTCOME_LOSS_STEPS;
	return sum;
}

/* ---- the test ---- */

/* McNemar's test (1947), one-sided, for won > lost: of B, binomial of won + lost fair coins, P(B >
 * won) and half of P(B = won): the mid-p value (Lancaster 1961), which makes good what the steps of
 * the exact one waste of the level. That it keeps the level all the same is so because the number
 * of discordant images is itself random (Fagerland, Lydersen, Laake 2013), to less than a hundredth
 * of the level as long as they are no more than half (test_verdict.c enumerates it): beyond that,
 * all of P(B = won), the exact test. */
static double mcnemar(size_t n, size_t won, size_t lost)
{
	double m = (double)(won + lost), k = (double)won, beyond = 0;
	double here = exp(lgamma(m + 1) - lgamma(k + 1) - lgamma(m - k + 1) - m * M_LN2);
	for (double term = here * (m - k) / (k + 1); term > beyond * 1e-17;) {
		beyond += term;
		k++;
		term *= (m - k) / (k + 1);
	}
	return beyond + here * (2 * (won + lost) <= n ? 0.5 : 1);
}

static void compare(const struct outcomes *active, const struct outcomes *c,
		    struct verdict_pair *ret)
{
	*ret = (struct verdict_pair){.p = 1, .p_adjusted = 1};
	for (size_t i = 0; i < active->n; i++) {
		ret->won += right(c, i) && !right(active, i);
		ret->lost += right(active, i) && !right(c, i);
	}
	if (ret->won > ret->lost)
		ret->p = mcnemar(active->n, ret->won, ret->lost);
}

/* Holm: the smallest p is multiplied by the number of challengers, the next by one less, ... */
static void adjust(struct verdict_pair *pair, size_t n)
{
	bool done[VERDICT_CONTENDERS_MAX] = {false};
	double so_far = 0;
	for (size_t left = n; left > 0; left--) {
		size_t next = n;
		for (size_t i = 0; i < n; i++) {
			if (!done[i] && (next == n || pair[i].p < pair[next].p))
				next = i;
		}
		done[next] = true;
		so_far = fmax(so_far, fmin(1, pair[next].p * (double)left));
		pair[next].p_adjusted = so_far;
	}
}

/* ---- the floor ---- */

/* What is not to lose: each protected class, then all private ones as one. */
static size_t watched(const struct verdict_conf *conf)
{
	return conf->n_protect + (conf->private_from > 0);
}

static int32_t watched_class(const struct verdict_conf *conf, size_t k)
{
	return k < conf->n_protect ? conf->protect[k] : conf->private_from;
}

static struct class_score watched_score(const struct verdict_conf *conf, size_t k,
					const struct contender *c)
{
	struct class_score sum = {.class_index = watched_class(conf, k)};
	for (size_t i = 0; i < c->n_per_class; i++) {
		const struct class_score *s = &c->per_class[i];
		if (k < conf->n_protect ? s->class_index != sum.class_index
					: s->class_index < sum.class_index)
			continue;
		sum.n += s->n;
		sum.correct += s->correct;
	}
	return sum;
}

static bool floor_holds(const struct verdict_conf *conf, const struct contender *active,
			const struct contender *c, int32_t *ret_class)
{
	for (size_t k = 0; k < watched(conf); k++) {
		struct class_score had = watched_score(conf, k, active);
		int64_t lost = had.correct - watched_score(conf, k, c).correct;
		bool private = k == conf->n_protect;
		if ((double)lost * 100 > conf->floor_points * (double)had.n &&
		    (!private || mcnemar((size_t)had.n, (size_t)lost, 0) <= 1 - conf->confidence)) {
			*ret_class = had.class_index;
			return false;
		}
	}
	return true;
}

/* ---- the decision ---- */

static int check(const struct verdict_conf *conf, const struct contender *reference,
		 const struct contender *c, size_t n, struct err *err)
{
	if (!(conf->confidence >= VERDICT_CONFIDENCE_MIN &&
	      conf->confidence <= VERDICT_CONFIDENCE_MAX))
		return err_set(err, -EINVAL, "confidence %g, expected %g to %g", conf->confidence,
			       VERDICT_CONFIDENCE_MIN, VERDICT_CONFIDENCE_MAX);
	if (!(conf->floor_points >= 0 && conf->floor_points <= 100))
		return err_set(err, -EINVAL, "floor of %g points, expected 0 to 100",
			       conf->floor_points);
	if (n > VERDICT_CONTENDERS_MAX)
		return err_set(err, -EINVAL, "%zu challengers, expected at most %d", n,
			       VERDICT_CONTENDERS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (c[i].outcomes.n != reference->outcomes.n)
			return err_set(err, -EINVAL, "challenger %zu judged on %zu images, not %zu",
				       i, c[i].outcomes.n, reference->outcomes.n);
		for (size_t k = 0; k < watched(conf); k++) {
			int64_t expected = watched_score(conf, k, reference).n;
			int64_t found = watched_score(conf, k, &c[i]).n;
			if (found != expected)
				return err_set(err, -EINVAL,
					       "challenger %zu judged on %lld images of class %d, "
					       "not %lld",
					       i, (long long)found, watched_class(conf, k),
					       (long long)expected);
		}
	}
	return 0;
}

static void judge_pair(const struct verdict_conf *conf, const struct contender *active,
		       const struct contender *c, struct verdict_pair *pair)
{
	if (pair->won <= pair->lost)
		pair->why = VERDICT_NOT_MORE;
	else if (pair->p_adjusted > 1 - conf->confidence)
		pair->why = VERDICT_UNSURE;
	else if (!floor_holds(conf, active, c, &pair->floor_class))
		pair->why = VERDICT_FLOOR;
	else
		pair->why = VERDICT_TAKES_OVER;
}

/* Whether a is to be preferred to b: more correct; or as many, at less loss. */
static bool preferred(const struct outcomes *a, const struct outcomes *b)
{
	size_t a_correct = outcomes_correct(a), b_correct = outcomes_correct(b);
	return a_correct != b_correct ? a_correct > b_correct : total_loss(a) < total_loss(b);
}

/* Leaves one of those that may take over. */
static void pick(const struct contender *c, size_t n, struct verdict *v)
{
	for (size_t i = 0; i < n; i++) {
		if (v->pair[i].why > VERDICT_FIRST)
			continue;
		if (v->winner < 0) {
			v->winner = (int)i;
			continue;
		}
		bool other = preferred(&c[i].outcomes, &c[v->winner].outcomes);
		v->pair[other ? v->winner : (int)i].why = VERDICT_OUTSCORED;
		if (other)
			v->winner = (int)i;
	}
}

int verdict_choose(const struct verdict_conf *conf, const struct contender *active,
		   const struct contender *c, size_t n, struct verdict *ret, struct err *err)
{
	struct verdict v = {.winner = -1};
	int r = n || active ? check(conf, active ? active : c, c, n, err) : 0;
	if (r < 0)
		return r;
	if (active || n)
		v.n = (active ? active : c)->outcomes.n;
	for (size_t i = 0; i < n; i++) {
		if (active)
			compare(&active->outcomes, &c[i].outcomes, &v.pair[i]);
		else
			v.pair[i] =
				(struct verdict_pair){.why = v.n ? VERDICT_FIRST : VERDICT_NOT_MORE,
						      .p = 1,
						      .p_adjusted = 1};
	}
	if (active) {
		adjust(v.pair, n);
		for (size_t i = 0; i < n; i++)
			judge_pair(conf, active, &c[i], &v.pair[i]);
		for (size_t k = 0; k < watched(conf); k++)
			v.unwatched += watched_score(conf, k, active).n == 0;
	}
	pick(c, n, &v);
	*ret = v;
	return 0;
}

const char *verdict_why_name(enum verdict_why w)
{
	static const char *const names[VERDICT_WHY_N] = {"takes-over", "first", "not-more",
							 "unsure",     "floor", "outscored"};
	return names[w];
}
