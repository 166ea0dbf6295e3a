/* How a Darknet network is computed with oneDNN: a list of operations made from the layers after
 * Darknet has parsed the cfg. Darknet keeps the model (cfg, weight file, biases, scales,
 * rolling statistics, learning rate); the plan keeps activations, gradients, weights of the
 * layers it computes and their momentum. A layer that the plan has no operation for runs
 * Darknet's own functions on Darknet's own arrays.
 *
 * One thread calls, for all plans; the work itself is shared among `threads`. Same weights, input and number of
 * threads: same result. An inference's result does not depend on the number of threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <darknet.h>

#include "common/base/err.h"

struct plan;

struct plan_conf {
	int threads;
	bool training; /* else inference only: batch-norm folded, no gradients */
	bool bf16;     /* activations, their gradients and weights of convolutions in bfloat16 */
	bool apart;    /* no two activations or gradients share memory: for tests that look at them */
};

/* Does this CPU compute in bfloat16 faster than in float32? */
bool plan_has_bf16(void);

/* -EOPNOTSUPP: oneDNN has nothing fast for any layer of this network on this CPU. `net` stays the
 * caller's and must outlive the plan. Arrays of Darknet that the plan replaces are freed. */
int plan_new(network *net, const struct plan_conf *conf, struct plan **ret, struct err *err);
void plan_free(struct plan *p); /* NULL allowed */

/* Around load_weights() and save_weights(): Darknet's weight arrays exist between the two.
 * plan_weights_out() fills them, plan_weights_in() takes them (and forgets the momentum's
 * past: nothing else changes it). `in` false: what is in them is dropped. */
void plan_weights_out(struct plan *p);
void plan_weights_in(struct plan *p, bool in);

/* Inference only: the weights are dropped; they are to be loaded before the next plan_predict(). */
void plan_rest(struct plan *p);

/* Are there layers with weights that Darknet computes? */
bool plan_multiplies_elsewhere(const struct plan *p);

/* The momentum of the weights of layer i, in Darknet's order, to `out` or from `in`. false: the plan
 * does not hold them, they are Darknet's weight_updates. */
bool plan_momentum(struct plan *p, int i, float *out, const float *in);

/* net->input forward. Outputs lie in the output layer's `output` (Darknet's). */
void plan_predict(struct plan *p);
/* One batch forward and backward, and an update when the step is complete: what
 * train_network_datum() does. Returns the batch's loss, summed over its images. */
float plan_train(struct plan *p);

/* Batch normalization's running statistics follow the batches of a training with a factor of .99
 * each, as Darknet's do, and so lag behind weights that move. plan_settle(0), (1), (2) ... with a
 * batch of images in net->input each make them the mean over those batches, for the weights as
 * they are; nothing else changes. */
bool plan_has_statistics(const struct plan *p);
void plan_settle(struct plan *p, unsigned batch);
