/* What handovers with noise give away: an account in Renyi differential privacy (Mironov 2017).
 *
 * The Gaussian mechanism, noise of standard deviation z times the L2 sensitivity, has
 * (a, a rho)-RDP for every order a > 1, with rho = 1 / (2 z^2) (Mironov 2017, Proposition 7); so
 * has the discrete one (Canonne, Kamath, Steinke 2020, Theorem 14). RDP composes by adding, also
 * where what is released later is chosen by what was released before (Mironov 2017, Proposition 1):
 * the whole account is one number, the sum of the rhos, and its curve is a straight line over the
 * orders (rho-zCDP: Bun, Steinke 2016). An order gives
 *
 *   epsilon = a rho + log((a - 1) / a) - (log delta + log a) / (a - 1)
 *
 * (Canonne, Kamath, Steinke 2020, Proposition 12; Balle et al. 2020, Theorem 21). Each order's is a
 * bound, so the least over a grid is one: a = 1 + 10^(k / 100), k = -600 .. 600.
 *
 * There is no sampling in it: a checkpoint depends on all the images that it was ever trained on.
 */
#pragma once

/* A handover gives away a difference of norm at most C (`clip`) with noise of deviation noise x C.
 * Two sets of images, any two, have differences that are at most 2 C apart: one each way. */
#define ACCOUNTANT_SENSITIVITY 2.0 /* in clips */

/* What is taken for a delta. */
#define ACCOUNTANT_DELTA_MIN 1e-15
#define ACCOUNTANT_DELTA_MAX 0.1

/* rho of one release with noise of z sensitivities; z > 0. */
double accountant_gaussian(double z);
/* rho of one handover with that noise, in clips. */
double accountant_handover(double noise);
/* epsilon of a sum of rhos (from 0) at that delta (0 < delta < 1); 0 for 0. */
double accountant_epsilon(double rho, double delta);
