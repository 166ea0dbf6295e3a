/* See plan.h: a build without oneDNN computes with Darknet's own functions. */
#include <errno.h>

#include "common/engine/plan/plan.h"

bool plan_has_bf16(void)
{
	return false;
}

int plan_new(network *net, const struct plan_conf *conf, struct plan **ret, struct err *err)
{
	return err_set(err, -EOPNOTSUPP, "this build has no oneDNN");
}

void plan_free(struct plan *p)
{
}

void plan_weights_out(struct plan *p)
{
}

void plan_weights_in(struct plan *p, bool in)
{
}

size_t plan_momentum_floats(const struct plan *p)
{
	return 0;
}

void plan_momentum_get(struct plan *p, float *out)
{
}

void plan_momentum_set(struct plan *p, const float *in)
{
}

void plan_predict(struct plan *p)
{
}

float plan_train(struct plan *p)
{
	return 0;
}

void plan_batches(struct plan *p, uint64_t batches)
{
}
