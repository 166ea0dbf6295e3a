#include "common/privacy/accountant.h"

#include <math.h>

#define GRID_FROM       -600 /* of k: orders from 1 + 10^-6 to 1 + 10^6 */
#define GRID_TO         600
#define GRID_PER_DECADE 100.0

double accountant_gaussian(double z)
{
	return 1 / (2 * z * z);
}

double accountant_handover(double noise)
{
	return accountant_gaussian(noise / ACCOUNTANT_SENSITIVITY);
}

static double of_order(double rho, double delta, double above_1)
{
	double order = 1 + above_1;
	return order * rho + log(above_1) - log1p(above_1) -
	       (log(delta) + log1p(above_1)) / above_1;
}

double accountant_epsilon(double rho, double delta)
{
	double least = INFINITY;
	if (rho <= 0)
		return 0;
	for (int k = GRID_FROM; k <= GRID_TO; k++)
		least = fmin(least, of_order(rho, delta, pow(10, k / GRID_PER_DECADE)));
	return fmax(least, 0);
}
