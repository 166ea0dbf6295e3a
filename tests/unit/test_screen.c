/* Which checkpoints are left out, as tables: norms of a small network, scores at both ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "edge-trainer/screen.h"

/* bias, scale, mean, variance, weight of a convolution of 8 filters; bias and weight of 10 outputs
 */
static struct tensor tensors[] = {
	{0, TENSOR_BIAS, 0, 8, 8},         {0, TENSOR_SCALE, 8, 8, 8},
	{0, TENSOR_MEAN, 16, 8, 8},        {0, TENSOR_VARIANCE, 24, 8, 8},
	{0, TENSOR_WEIGHT, 32, 72, 8},     {1, TENSOR_BIAS, 104, 10, 10},
	{1, TENSOR_WEIGHT, 114, 5120, 10},
};
static const struct model model = {
	.outputs = 12, .n_classes = 10, .tensors = tensors, .n_tensors = ARRAY_LEN(tensors)};

#define N ARRAY_LEN(tensors)
/* As measured on drawn digits after one and forty epochs, ten times that, and such. */
static const double one[N] = {0.27, 2.83, 0.72, 0.37, 4.08, 0.06, 4.63},
		    forty[N] = {0.83, 2.76, 0.63, 0.28, 3.36, 0.13, 6.84},
		    ten[N] = {8.3, 27.6, 6.3, 2.8, 33.6, 1.3, 68.4},
		    tenth[N] = {0.083, 0.276, 0.063, 0.028, 0.336, 0.013, 0.684},
		    layer[N] = {0.83, 2.76, 0.63, 0.28, 3.36, 0.13, 68.4}, /* one tensor alone */
	shifted[N] = {0.83, 2.76, 40, 25, 3.36, 0.13, 6.84},
		    flat[N] = {0.83, 2.76, 0.63, 1e-4, 3.36, 0.13, 6.84},
		    noised[N] = {1.2, 3.9, 0.9, 0.5, 4.8, 0.3, 9.7},
	means[N] = {0.83, 2.76, 1e20, 0.28, 3.36, 0.13, 6.84}, zeros[N] = {0},
		    most[N] = {1e42, 1e42, 1e42, 1e42, 1e42, 1e42, 1e42};

#define FINE SCREEN_FINE
#define NORM SCREEN_OUT_OF_LINE
#define FELL SCREEN_COLLAPSED
#define LIES SCREEN_AT_CHANCE

struct who {
	const double *norms;
	int edge, reported; /* of 200 and 100; -1: no score */
	enum screen_verdict verdict;
};

static const struct row {
	const char *what;
	const double *usual;
	struct who m[6];
} rows[] = {
	{"alone, first of all", NULL, {{one, 40, 30, FINE}}},
	{"alone, ten times too large", NULL, {{ten, 40, 30, NORM}}},
	{"alone, zeros", NULL, {{zeros, 20, 10, NORM}}},
	{"alone, against the last result", forty, {{one, 40, 30, FINE}}},
	{"a fleet with weights of its own size", ten, {{ten, 40, 30, FINE}}},
	{"alone, and too small for such a fleet", ten, {{one, 40, 30, NORM}}},
	{"two: which is out of line the first weights tell",
	 NULL,
	 {{forty, 120, 60, FINE}, {ten, 110, 60, NORM}}},
	{"three: their median tells",
	 NULL,
	 {{forty, 120, 60, FINE}, {ten, 120, 60, NORM}, {one, 110, 60, FINE}}},
	{"three of another size: the median, not the past",
	 forty,
	 {{ten, 120, 60, FINE}, {ten, 120, 60, FINE}, {one, 110, 60, NORM}}},
	{"one tensor alone; one far too small",
	 NULL,
	 {{one, 120, 60, FINE},
	  {layer, 120, 60, NORM},
	  {forty, 110, 60, FINE},
	  {tenth, 100, 50, NORM}}},
	{"statistics that would drown the others'",
	 NULL,
	 {{one, 120, 60, FINE}, {means, 120, 60, NORM}, {forty, 110, 60, FINE}}},
	{"all that a float can hold",
	 NULL,
	 {{one, 120, 60, FINE}, {most, 120, 60, NORM}, {forty, 110, 60, FINE}}},
	/* Accuracy. */
	{"labels flipped, reported as good",
	 NULL,
	 {{one, 160, 80, FINE}, {one, 170, 80, FINE}, {one, 4, 90, FELL}, {one, 150, 80, FINE}}},
	{"labels flipped, reported as bad: the others tell",
	 NULL,
	 {{one, 160, 80, FINE}, {one, 170, 80, FINE}, {one, 4, 3, FELL}, {one, 150, 80, FINE}}},
	{"random weights among good ones",
	 NULL,
	 {{one, 160, 80, FINE}, {one, 170, 80, FINE}, {one, 21, -1, FELL}}},
	{"three of ten classes each, and one flipped",
	 NULL,
	 {{one, 55, 80, FINE}, {one, 60, 80, FINE}, {one, 48, 80, FINE}, {one, 20, 85, FELL}}},
	{"a device of three classes among those of all",
	 NULL,
	 {{one, 190, 97, FINE}, {one, 180, 97, FINE}, {one, 60, 98, FINE}}},
	{"all at the beginning: nobody has fallen",
	 NULL,
	 {{one, 30, 15, FINE}, {one, 25, 15, FINE}, {one, 18, 10, FINE}}},
	{"all at the beginning, and one that says much better",
	 NULL,
	 {{one, 30, 15, FINE}, {one, 25, 15, FINE}, {one, 18, 80, LIES}}},
	{"two: at chance against its report", NULL, {{one, 160, 80, FINE}, {one, 20, 70, LIES}}},
	{"two: flipped, and reported as bad: cannot be told",
	 NULL,
	 {{one, 160, 80, FINE}, {one, 4, 5, FINE}}},
	{"two: a beginner that says so", NULL, {{one, 160, 80, FINE}, {one, 22, 12, FINE}}},
	{"alone, flipped", forty, {{one, 10, 90, LIES}}},
	{"no test images", NULL, {{one, -1, 80, FINE}, {one, -1, 5, FINE}, {one, -1, 90, FINE}}},
	{"one without a score among those that have one",
	 NULL,
	 {{one, 160, 80, FINE}, {one, -1, 80, FINE}, {one, 4, 80, FELL}, {one, 150, 80, FINE}}},
	{"what is out of line is not in the median",
	 NULL,
	 {{one, 30, 15, FINE},
	  {ten, 190, 99, NORM},
	  {ten, 190, 99, NORM},
	  {one, 25, 12, FINE},
	  {one, 28, 12, FINE}}},
	{"a majority that acts together: cannot be told",
	 NULL,
	 {{one, 160, 80, NORM}, {ten, 150, 90, FINE}, {ten, 150, 90, FINE}}},
};

static void test_judge(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct screen_member m[6] = {0};
		size_t n = 0;

		for (; n < 6 && rows[i].m[n].norms; n++) {
			const struct who *w = &rows[i].m[n];

			m[n].norms = w->norms;
			if (w->edge >= 0)
				m[n].edge = (struct score){200, w->edge, 1};
			if (w->reported >= 0)
				m[n].reported = (struct score){100, w->reported, 1};
			m[n].verdict = SCREEN_VERDICTS;
		}
		screen_judge(&model, m, n, rows[i].usual);
		for (size_t k = 0; k < n; k++)
			if (m[k].verdict != rows[i].m[k].verdict)
				fail_msg("%s: member %zu: found '%s', expected '%s'", rows[i].what,
					 k, screen_verdict_name(m[k].verdict),
					 screen_verdict_name(rows[i].m[k].verdict));
	}
}

static void test_few_images(void **state)
{
	struct screen_member m[3] = {{.norms = one, .edge = {40, 36, 1}, .reported = {9, 9, 1}},
				     {.norms = one, .edge = {40, 36, 1}, .reported = {9, 9, 1}},
				     {.norms = one, .edge = {40, 1, 1}, .reported = {9, 9, 1}}};

	(void)state;
	screen_judge(&model, m, 3, NULL);
	for (size_t k = 0; k < 3; k++)
		assert_int_equal(m[k].verdict, SCREEN_FINE);
	/* Enough here, but the report is of too few. */
	for (size_t k = 0; k < 3; k++)
		m[k].edge = (struct score){200, 20, 1};
	screen_judge(&model, m, 3, NULL);
	assert_int_equal(m[2].verdict, SCREEN_FINE);
	m[2].reported = (struct score){10, 10, 1};
	screen_judge(&model, m, 3, NULL);
	assert_int_equal(m[2].verdict, SCREEN_AT_CHANCE);
}

static void test_weights(void **state)
{
	static const struct {
		const char *what;
		const double *norms, *usual;
		double delta, usual_delta;
		enum screen_verdict verdict;
	} alone[] = {
		{"a fresh device", one, NULL, -1, -1, FINE},
		{"a fresh device that trained for long", forty, NULL, -1, -1, FINE},
		{"times ten", ten, NULL, -1, -1, NORM},
		{"zeros", zeros, NULL, -1, -1, NORM},
		{"all that a float can hold", most, NULL, -1, -1, NORM},
		{"as large as it was", ten, ten, 0.4, -1, FINE},
		{"ten times what it was", ten, one, 9, -1, NORM},
		{"a tenth", tenth, one, 0.9, -1, NORM},
		{"other data: what the images make of statistics", shifted, forty, 0.5, 0.3, FINE},
		{"no variance, by which activations are divided", flat, forty, 0.5, 0.3, NORM},
		{"the same, of first weights", flat, NULL, -1, -1, FINE},
		{"new private classes, in a fleet that hardly moves", forty, one, 0.9, 0.02, FINE},
		{"new weights of another seed", forty, one, 1.41, 0.1, FINE},
		{"the weights with the other sign", forty, forty, 2.0, 0.1, FINE},
		{"an update times ten", forty, forty, 3.0, 0.3, SCREEN_TOO_FAR},
		{"in a fleet that moves as far", forty, forty, 3.0, 1.0, FINE},
		{"further than that", forty, forty, 4.1, 1.0, SCREEN_TOO_FAR},
		{"noise as large as the weights", noised, forty, 1.0, 0.3, FINE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(alone); i++) {
		struct screen_one o = {alone[i].norms, alone[i].usual, alone[i].delta,
				       alone[i].usual_delta};
		enum screen_verdict v = screen_weights(&model, &o);

		if (v != alone[i].verdict)
			fail_msg("%s: found '%s', expected '%s'", alone[i].what,
				 screen_verdict_name(v), screen_verdict_name(alone[i].verdict));
	}
}

/* Ten classes of 100 images each, but where n says something else. */
struct answers {
	const char *what;
	int64_t right, turned, all_to_0; /* of each class */
	int64_t n;
	enum screen_verdict verdict;
};

static void test_answers(void **state)
{
	static const struct answers rows_of[] = {
		{"labels exchanged", 1, 99, 0, 100, SCREEN_TURNED},
		{"the same, on few images", 0, 30, 0, 30, SCREEN_TURNED},
		{"the same, on too few", 0, 9, 0, 9, FINE},
		{"well trained", 97, 3, 0, 100, FINE},
		{"hardly trained", 15, 10, 75, 100, FINE},
		{"one class alone: all are taken for it", 0, 0, 100, 100, FINE},
		{"first weights: none is right but by chance", 0, 0, 100, 100, FINE},
		{"half of the labels", 50, 50, 0, 100, FINE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows_of); i++) {
		const struct answers *a = &rows_of[i];
		struct screen_class c[10];

		for (int k = 0; k < 10; k++)
			c[k] = (struct screen_class){a->n, a->right, a->turned};
		c[0].correct += a->all_to_0;
		c[0].taken += 9 * a->all_to_0;
		if (screen_answers(c, 10) != a->verdict)
			fail_msg("%s", a->what);
	}
	/* Images of classes that are not ours, taken for whatever: by chance, in any proportion. */
	for (uint32_t seed = 1; seed < 2000; seed++) {
		struct screen_class c[5] = {0};
		struct rng rng;

		rng_init(&rng, seed);
		uint32_t share = rng_below(&rng, 16);

		for (int k = 0; k < 5; k++)
			for (int n = 0; n < 40; n++) {
				uint32_t answer = rng_below(&rng, share + 5) % 5;

				c[k].n++;
				c[k].correct += answer == (uint32_t)k;
				c[answer].taken += answer != (uint32_t)k;
			}
		assert_int_equal(screen_answers(c, 5), SCREEN_FINE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_few_images),
	};

	return cmocka_run_group_tests_name("test_screen", tests, NULL, NULL);
}
