/* The accountant against published values, and the noise against its distribution. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/privacy/accountant.h"
#include "common/privacy/gauss.h"

static void near(double found, double expected, double relative)
{
	if (!(fabs(found - expected) <= relative * fabs(expected)))
		fail_msg("found %.10g, expected %.10g to %g", found, expected, relative);
}

/* Without sampling, as the product has none. */
static void published(void **state)
{
	static const struct {
		const char *where;
		double rho, delta, epsilon;
		double relative; /* as precise as it is given there, at most 1 % */
	} rows[] = {
		/* "noise multiplier is chosen to obtain exactly (1,1e-6)-DP":
		 * google/differential-privacy,
		 * python/dp_accounting/rdp/rdp_privacy_accountant_test.py,
		 * test_compute_epsilon_delta_gaussian (which TensorFlow Privacy uses). */
		{"dp-accounting, noise 4.530877117", 1 / (2 * 4.530877117 * 4.530877117), 1e-6, 1,
		 1e-4},
		/* A Gaussian of scale 4 at sensitivity 1: OpenDP 0.14,
		 * rust/src/combinators/measure_cast/zCDP_to_approxDP/test.rs. */
		{"OpenDP, scale 4", 1.0 / 32, 1e-3, 0.6880024554878085, 1e-4},
		/* The first launch of a private model in Gboard (Spanish): "rho = 0.81
		 * zero-Concentrated -Differential-Privacy" (McMahan, Thakurta 2022, "Federated
		 * Learning with Formal Differential Privacy Guarantees"), "epsilon = 8.9" at delta
		 * = 10^-10 (Xu, Zhang 2024, "Advances in private training for production on-device
		 * language models"). */
		{"Gboard, Spanish", 0.81, 1e-10, 8.9, 0.01},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		print_message("%s: %.6g\n", rows[i].where,
			      accountant_epsilon(rows[i].rho, rows[i].delta));
		near(accountant_epsilon(rows[i].rho, rows[i].delta), rows[i].epsilon,
		     rows[i].relative);
	}
}

/* RDP of the Gaussian, and its composition: Mironov 2017, Table II and Proposition 1; as in
 * dp-accounting's test_compute_rdp_multi_gaussian and
 * test_effective_gaussian_noise_multiplier_composed. */
static void adds_up(void **state)
{
	near(3.14159 * accountant_gaussian(2.71828), 3.14159 / (2 * 2.71828 * 2.71828), 1e-12);
	double both = accountant_gaussian(2.71828) + accountant_gaussian(6.28319);
	double z = pow(pow(2.71828, -2) + pow(6.28319, -2), -0.5);
	near(both, accountant_gaussian(z), 1e-12);
	/* So many as if each had so much more noise. */
	near(accountant_epsilon(100 * accountant_handover(20), 1e-5),
	     accountant_epsilon(accountant_handover(2), 1e-5), 1e-9);
	/* Two clips apart. */
	near(accountant_handover(2), accountant_gaussian(1), 1e-12);
}

/* delta of the Gaussian, exactly: Balle, Wang 2018, Theorem 8. What the account says must never be
 * less, and is not much more. */
static double exact_delta(double z, double epsilon)
{
	double a = 1 / (2 * z) - epsilon * z, b = -1 / (2 * z) - epsilon * z;
	return erfc(-a / sqrt(2)) / 2 - exp(epsilon) * erfc(-b / sqrt(2)) / 2;
}

static double exact_epsilon(double z, double delta)
{
	double low = 0, high = 400;
	for (int i = 0; i < 100; i++) {
		double mid = (low + high) / 2;
		if (exact_delta(z, mid) > delta)
			low = mid;
		else
			high = mid;
	}
	return high;
}

static void never_less_than_it_is(void **state)
{
	static const double deltas[] = {1e-3, 1e-5, 1e-8};
	for (double z = 0.1; z < 200; z *= 1.5)
		for (size_t i = 0; i < ARRAY_LEN(deltas); i++) {
			double exact = exact_epsilon(z, deltas[i]);
			double found = accountant_epsilon(accountant_gaussian(z), deltas[i]);
			if (found < exact || found > 1.25 * exact + 0.01)
				fail_msg("noise %g, delta %g: found %g, exactly %g", z, deltas[i],
					 found, exact);
		}
}

static void at_the_ends(void **state)
{
	assert_true(accountant_epsilon(0, 1e-5) == 0);
	assert_true(accountant_epsilon(1e-9, 1e-5) >= 0);
	/* As good as nothing hidden: rho and little more (rho + 2 sqrt(rho log(1 / delta)) is the
	 * limit of Bun, Steinke 2016, Proposition 1.3). */
	double much = accountant_epsilon(1e12, 1e-5);
	assert_true(much > 1e12 && much <= (1e12 + 2 * sqrt(1e12 * log(1e5))) * (1 + 1e-6));
	for (double rho = 1e-6; rho < 1e6; rho *= 2)
		assert_true(accountant_epsilon(rho, 1e-5) < accountant_epsilon(2 * rho, 1e-5));
}

/* ---- the noise ---- */

#define DRAWS 400000

/* The distribution function of the discrete Gaussian at GAUSS_STEPS differs from the normal one's
 * by less than the tests can tell. */
static double normal(double x)
{
	return erfc(-x / sqrt(2)) / 2;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void noise_is_gaussian(void **state)
{
	struct gauss g = {0};
	int64_t *x = malloc(DRAWS * sizeof(*x));
	double mean = 0, square = 0, fourth = 0, distance = 0, together = 0;
	assert_non_null(x);
	for (size_t i = 0; i < DRAWS; i++) {
		assert_int_equal(gauss_next(&g, &x[i]), 0);
		double v = (double)x[i] / GAUSS_STEPS;
		mean += v / DRAWS;
		square += v * v / DRAWS;
		fourth += v * v * v * v / DRAWS;
		if (i)
			together += v * (double)x[i - 1] / GAUSS_STEPS / DRAWS;
	}
	/* Six standard errors of each. */
	assert_true(fabs(mean) < 6 / sqrt(DRAWS));
	assert_true(fabs(square - 1) < 6 * sqrt(2.0 / DRAWS));
	assert_true(fabs(fourth - 3) < 6 * sqrt(96.0 / DRAWS));
	assert_true(fabs(together) < 6 / sqrt(DRAWS));
	/* Kolmogorov and Smirnov: 3 / sqrt(n) is passed once in 10^7. */
	qsort(x, DRAWS, sizeof(*x), by_value);
	for (size_t i = 0; i < DRAWS; i++)
		if (i + 1 == DRAWS || x[i + 1] != x[i])
			distance = fmax(distance, fabs((double)(i + 1) / DRAWS -
						       normal(((double)x[i] + 0.5) / GAUSS_STEPS)));
	assert_true(distance < 3 / sqrt(DRAWS));
	free(x);
	gauss_done(&g);
	assert_int_equal(g.n, 0);
	assert_int_equal(g.words[GAUSS_WORDS - 1], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published),
		cmocka_unit_test(adds_up),
		cmocka_unit_test(never_less_than_it_is),
		cmocka_unit_test(at_the_ends),
		cmocka_unit_test(noise_is_gaussian),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
