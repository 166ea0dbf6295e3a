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

void plan_rest(struct plan *p)
{
}

bool plan_multiplies_elsewhere(const struct plan *p)
{
	return true;
}

bool plan_momentum(struct plan *p, int i, float *out, const float *in)
{
	return false;
}

bool plan_has_statistics(const struct plan *p)
{
	return false;
}

void plan_settle(struct plan *p, unsigned batch)
{
}

void plan_predict(struct plan *p)
{
}

float plan_train(struct plan *p)
{
	return 0;
}
