/* The weights of devices in a merge under `agnostic`: moved toward those that fare worst. Pure.
 *
 * Mohri, Sivek, Suresh, Agnostic Federated Learning, ICML 2019: the model is to be good for the
 * worst mixture of the devices' distributions, so the mixture takes gradient steps toward the
 * devices of the largest loss while the model takes its own. Here the step is the exponentiated one,
 * which stays on the simplex by normalization:
 *
 *	weight_d <- weight_d * exp(eta * (error_d - mean error)), then normalized
 *
 * once a window, with what each device said of the last merged result on its own validation images.
 * The mean is of those that have said something since, so who has not stays where it was. The error
 * rate stands for the loss: it is bounded, comparable between devices, and the most that a liar can
 * say is 1.
 *
 * A weight is in units of an equal share, so that it means the same in windows of different sizes.
 * None falls below the floor: who fares well is not forgotten. None has more than MIXTURE_SHARE_MAX
 * of the whole among three or more: who says that all fails him cannot have all. */
#pragma once

#include <stddef.h>

#define MIXTURE_SHARE_MAX 0.5

struct mixture_conf {
	double eta;
	double floor; /* 0..1, of an equal share */
};

struct mixture_member {
	double weight; /* 0: it is new, and gets an equal share */
	double error;  /* 0..1; < 0: not said since the last step */
};

/* Afterwards the weights sum to n, and each error is < 0. */
void mixture_step(const struct mixture_conf *conf, struct mixture_member *m, size_t n);
