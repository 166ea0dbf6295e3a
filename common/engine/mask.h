/* Outputs that are left out of a network, as Li and Zhan leave out the classes that a client has no
 * images of (FedRS, 2021): their logits are set so low before the softmax that their probability
 * is 0, and so is what would be learned of them. Their rows of the last weights keep moving
 * (decay, momentum) without any effect; mask_rows_back() makes them what they were.
 *
 * Of Darknet's layers it takes the place of the softmax layer's functions; so it serves whoever
 * computes the others. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <darknet.h>

#include "common/base/err.h"

struct mask;

/* `rows`: index of the layer that has a row of weights for each output (model_output_layer()).
 * Nothing is left out yet. `net` must outlive the mask. -EOPNOTSUPP: more than one softmax, or one
 * in groups. */
int mask_new(network *net, int rows, struct mask **ret, struct err *err);
/* Before free_network(). NULL allowed. */
void mask_free(struct mask *m);

/* One for each output. */
const bool *mask_outputs(const struct mask *m);
void mask_set(struct mask *m, const bool *outputs);

/* While Darknet's arrays of weights are there (plan_weights_out()): the rows of the outputs that
 * are left out, copied; and put back. -ENOMEM: none is left out then. */
int mask_keep_rows(struct mask *m, struct err *err);
void mask_rows_back(struct mask *m);
