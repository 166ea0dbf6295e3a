#include "edge-trainer/screen.h"

#include <math.h>

#include "common/base/mem.h"
#include "edge-trainer/window.h"

const char *screen_verdict_name(enum screen_verdict v)
{
	static const char *const names[SCREEN_VERDICTS] = {
		"fine",
		"norm out of line",
		"accuracy collapsed",
		"at chance against its report",
		"too far from what it began from",
		"labels exchanged"};
	return (unsigned)v < SCREEN_VERDICTS ? names[v] : "?";
}

bool screen_is_grave(enum screen_verdict v)
{
	return v == SCREEN_OUT_OF_LINE || v == SCREEN_TOO_FAR || v == SCREEN_TURNED;
}

/* Darknet draws weights with a variance of 2 / fan-in (a third of it where they are drawn evenly),
 * so that a tensor's norm follows from its rows alone; scales are 1, all else is 0. */
static double first_norm(const struct tensor *t)
{
	return t->kind == TENSOR_WEIGHT  ? sqrt(2.0 * t->rows)
	       : t->kind == TENSOR_SCALE ? sqrt((double)t->count)
					 : 0;
}

static double usual_norm(const struct tensor *t, size_t k, const struct screen_member *m, size_t n,
			 const double *usual)
{
	double v[WINDOW_MEMBERS_MAX];

	if (n < SCREEN_MAJORITY)
		return usual ? usual[k] : first_norm(t);
	for (size_t i = 0; i < n; i++)
		v[i] = m[i].norms[k];
	return window_median(v, n);
}

static bool in_line(const struct tensor *t, double norm, double usual)
{
	if (t->kind == TENSOR_WEIGHT || t->kind == TENSOR_SCALE)
		return norm <= SCREEN_NORM * usual && norm >= usual / SCREEN_NORM;
	if (t->kind == TENSOR_VARIANCE && norm < usual / SCREEN_NORM_LOOSE)
		return false;
	return norm <= SCREEN_NORM_LOOSE * fmax(usual, SCREEN_RMS_LEAST * sqrt((double)t->count));
}

enum screen_verdict screen_weights(const struct model *model, const struct screen_one *one)
{
	for (size_t k = 0; k < model->n_tensors; k++) {
		const struct tensor *t = &model->tensors[k];

		if (!in_line(t, one->norms[k], one->usual ? one->usual[k] : first_norm(t)))
			return SCREEN_OUT_OF_LINE;
	}
	return one->delta > fmax(SCREEN_DELTA_LEAST, SCREEN_DELTA * one->usual_delta) ?
		       SCREEN_TOO_FAR :
		       SCREEN_FINE;
}

enum screen_verdict screen_answers(const struct screen_class *c, size_t n)
{
	double sum = 0, variance = 0;
	int64_t images = 0;
	size_t classes = 0;

	for (size_t i = 0; i < n; i++)
		images += c[i].n;
	for (size_t i = 0; i < n; i++) {
		double by_chance;

		if (c[i].n < SCREEN_CLASS_MIN || images == c[i].n)
			continue;
		by_chance = (double)c[i].taken / (double)(images - c[i].n);
		sum += (double)c[i].correct / (double)c[i].n - by_chance;
		variance += by_chance * (1 - by_chance) *
			    (1 / (double)c[i].n + 1 / (double)(images - c[i].n));
		classes++;
	}
	if (images < SCREEN_TEST_MIN || classes < 2)
		return SCREEN_FINE;
	return sum / (double)classes <= -SCREEN_J / (double)(classes - 1) &&
			       sum <= -SCREEN_SIGMAS * sqrt(variance) ?
		       SCREEN_TURNED :
		       SCREEN_FINE;
}

static void judge_norms(const struct model *model, struct screen_member *m, size_t n,
			const double *usual)
{
	for (size_t k = 0; k < model->n_tensors; k++) {
		const struct tensor *t = &model->tensors[k];
		double expected = usual_norm(t, k, m, n, usual);

		for (size_t i = 0; i < n; i++)
			if (!in_line(t, m[i].norms[k], expected))
				m[i].verdict = SCREEN_OUT_OF_LINE;
	}
}

/* The median's lead over chance among those that are in line; 0: there is none to go by. */
static double usual_lead(const struct screen_member *m, size_t n, double chance)
{
	double v[WINDOW_MEMBERS_MAX], lead;
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		if (m[i].verdict == SCREEN_FINE && m[i].edge.n >= SCREEN_TEST_MIN)
			v[count++] = score_accuracy(&m[i].edge) - chance;
	if (count < SCREEN_MAJORITY)
		return 0;
	lead = window_median(v, count);
	return lead >= SCREEN_LEAD_LEAST ? lead : 0;
}

static void judge_accuracy(struct screen_member *m, double chance, double lead)
{
	const struct score *e = &m->edge, *r = &m->reported;

	if (m->verdict != SCREEN_FINE || e->n < SCREEN_TEST_MIN)
		return;
	if (lead > 0 && score_accuracy(e) - chance < SCREEN_LEAD * lead)
		m->verdict = SCREEN_COLLAPSED;
	else if (score_accuracy(e) <= SCREEN_NEAR_CHANCE * chance && r->n >= SCREEN_REPORT_MIN &&
		 score_accuracy(r) >= score_accuracy(e) + SCREEN_REPORT)
		m->verdict = SCREEN_AT_CHANCE;
}

void screen_judge(const struct model *model, struct screen_member *m, size_t n, const double *usual)
{
	double chance = 1.0 / MAX_OF(model->n_classes, 1u), lead;

	for (size_t i = 0; i < n; i++)
		m[i].verdict = SCREEN_FINE;
	judge_norms(model, m, n, usual);
	lead = usual_lead(m, n, chance);
	for (size_t i = 0; i < n; i++)
		judge_accuracy(&m[i], chance, lead);
}
