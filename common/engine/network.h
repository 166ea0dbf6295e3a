/* One Darknet network; network.c (with mask.c and plan/) is the only door to
 * Darknet. Not thread-safe, and Darknet's
 * random numbers are the process's rand(): one thread for all networks.
 *
 * Darknet ends the process on what it does not like. What is handed to it has therefore been
 * judged before: the cfg by model_parse(), weights by weights_check(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/checkpoint/model.h"

struct dnet;

/* What computes: oneDNN's kernels in Darknet's network (plan/plan.h), or Darknet's own functions.
 * Auto: oneDNN where it has fast code for this CPU and network. */
enum dnet_engine { DNET_AUTO, DNET_ONEDNN, DNET_DARKNET };
/* Of oneDNN's kernels; weights are kept in float32 either way. */
enum dnet_precision { DNET_PRECISION_AUTO, DNET_F32, DNET_BF16 };

struct dnet_conf {
	enum dnet_engine engine;
	enum dnet_precision precision;
	int threads;    /* >= 1 */
	bool training;  /* else only dnet_predict() */
	uint32_t batch; /* images a call; 0: the cfg's */
	uint64_t seed;
};

/* Whether this CPU computes in bfloat16 faster than in float32. */
bool dnet_has_bf16(void);

/* What the first dnet_new() opens, before: where nothing can be opened any more. */
int dnet_prepare(struct err *err);
/* Builds the network of a cfg (text) with new weights from `seed`: the same in every process.
 * -EOPNOTSUPP: the engine or precision asked for is not to be had here. */
int dnet_new(const struct model *m, const char *cfg, size_t len, const struct dnet_conf *conf,
	     struct dnet **ret, struct err *err);
/* Does it compute matrix products through gemm.h? */
bool dnet_uses_gemm(const struct dnet *d);
/* What it came to: "onednn" or "darknet"; "f32" or "bf16". */
const char *dnet_engine_name(const struct dnet *d);
const char *dnet_precision_name(const struct dnet *d);
void dnet_free(struct dnet *d); /* NULL allowed */

/* Images of one call of dnet_train() or dnet_predict(), and of one training step (an update of
 * the weights: batch x subdivisions of the cfg). */
uint32_t dnet_batch(const struct dnet *d);
uint32_t dnet_step_images(const struct dnet *d);

/* Checks the file and loads it; on failure the network is as it was. ret_seen: the header's
 * count of images; id: sha256 of the file. Momentum is not touched. */
int dnet_load(struct dnet *d, const char *path, uint64_t *ret_seen, char id[HASH_SIZE],
	      struct err *err);
/* Not for training: gives the weights' memory back until the next dnet_load(), which has to come
 * before the next dnet_predict(). */
void dnet_rest(struct dnet *d);
/* Writes `path` atomically and durably, with `seen` in its header, and checks what was written.
 * -ENOSPC, -EFBIG ...: no file is left; -EDOM: the weights are not finite. */
int dnet_save(struct dnet *d, const char *path, uint64_t seen, char id[HASH_SIZE], struct err *err);

/* Where image `slot` (< dnet_batch) of the next call goes: width x height x channels floats,
 * CHW, 0..1. */
float *dnet_input(struct dnet *d, uint32_t slot);
/* Or a whole batch of them that lies elsewhere: until the next of these two the network reads it
 * there, and may write to it. */
void dnet_input_at(struct dnet *d, float *pixels);
void dnet_label(struct dnet *d, uint32_t slot, uint32_t label);

/* From now on these outputs (one bool each) are left out: their probability is 0 (mask.h). In a
 * network for training, after dnet_load(): they learn nothing, and their rows in the last weights
 * are saved as they are now, to the bit; such that are not left out any more go on from there.
 * -EOPNOTSUPP: not in this network. -ENOMEM. */
int dnet_leave_out(struct dnet *d, const bool *outputs, struct err *err);

/* Images that the learning rate's schedule starts from, rounded down to whole steps. */
void dnet_schedule(struct dnet *d, uint64_t seen);
void dnet_rate_scale(struct dnet *d, double scale);
/* Seeds dropout. */
void dnet_seed(uint64_t seed);
/* From one to the other, random numbers are others, of `seed`: then the process's go on as if
 * nothing had been. Not nested. */
struct dnet_random {
	char state[128];
	char *before;
};
void dnet_random_begin(struct dnet_random *r, uint64_t seed);
void dnet_random_end(struct dnet_random *r);

/* The momentum of the optimizer: so many floats, in the order of Darknet's layers. Set after
 * dnet_load(), training goes on as if it had not stopped. */
size_t dnet_momentum_floats(const struct dnet *d);
void dnet_momentum_get(struct dnet *d, float *out);
void dnet_momentum_set(struct dnet *d, const float *in);

/* In a network for training, dnet_settle(0), (1) ... with a batch of training images each measure
 * batch normalization's statistics for the weights as they are (plan/plan.h). It draws random
 * numbers where there is dropout. */
void dnet_settle(struct dnet *d, unsigned batch);
/* Whether that belongs to the end of each training: Darknet's own functions know no such thing. */
bool dnet_settles(const struct dnet *d);

/* One batch forward and backward; each step_images/batch-th call updates the weights, which is
 * what it returns. *ret_loss: per image. */
bool dnet_train(struct dnet *d, double *ret_loss);
/* One batch forward. Outputs of image s at [s * outputs]; they sum to 1. */
const float *dnet_predict(struct dnet *d);
