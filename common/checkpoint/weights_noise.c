/* The Gaussian mechanism on a checkpoint. The account of it is common/privacy/accountant.h's. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights_edit.h"
#include "common/privacy/gauss.h"

/* What is clipped stays that much below the limit: more than what rounding can add to the norm, of
 * a sum of 2^30 squares or of its parts. */
#define CLIP_MARGIN 0x1p-20

struct noising {
	struct gauss gauss;
	double scale; /* of the difference; 1: it is within the limit */
	double step;  /* of what is made into whole numbers; 0: no noise */
};

/* L2 of the difference, over all that travels. Reads to the end of both. */
static int measure(struct edit *e, double *ret, struct err *err)
{
	struct weights_piece p;
	double sum = 0;
	int r;
	do {
		r = stream_next(&e->in[0], err);
		if (r == 0)
			r = stream_next(&e->in[1], err);
		while (r == 0 && stream_piece(&e->in[0], &p)) {
			for (size_t i = p.from; i < p.from + edit_before_rows(e, &p); i++) {
				double d =
					edit_value(&e->in[0].buf[i]) - edit_value(&e->in[1].buf[i]);
				sum += d * d;
			}
		}
	} while (r == 0 && e->in[0].n);
	*ret = sqrt(sum);
	return r;
}

static int noise_piece(const struct edit *e, const struct weights_piece *p, struct err *err)
{
	struct noising *z = e->user;
	bool variance = e->m->tensors[p->tensor].kind == TENSOR_VARIANCE;
	size_t travel = edit_before_rows(e, p);
	memset(e->out + p->from, 0, 4 * p->n);
	for (size_t i = p->from; i < p->from + travel; i++) {
		double base = edit_value(&e->in[1].buf[i]);
		double part = z->scale * (edit_value(&e->in[0].buf[i]) - base), sum;
		if (z->step > 0) {
			int64_t noise;
			int r = gauss_next(&z->gauss, &noise);
			if (r < 0)
				return err_errno(err, r, "noise");
			sum = base + z->step * ((double)noise + trunc(part / z->step));
		} else {
			sum = z->scale < 1 ? base + part : edit_value(&e->in[0].buf[i]);
		}
		if (variance)
			sum = fmax(sum, GAUSS_STEPS * z->step);
		float f = (float)sum;
		memcpy(&e->out[i], &f, sizeof(f));
	}
	return 0;
}

static int check_conf(const struct weights_noise *c, struct err *err)
{
	if (!(c->clip >= WEIGHTS_CLIP_MIN && c->clip <= WEIGHTS_CLIP_MAX))
		return err_set(err, -EINVAL, "clip: found %g, expected %g to %g", c->clip,
			       WEIGHTS_CLIP_MIN, WEIGHTS_CLIP_MAX);
	if (c->noise != 0 && !(c->noise >= WEIGHTS_NOISE_MIN && c->noise <= WEIGHTS_NOISE_MAX))
		return err_set(err, -EINVAL, "noise: found %g, expected 0, or %g to %g", c->noise,
			       WEIGHTS_NOISE_MIN, WEIGHTS_NOISE_MAX);
	return 0;
}

int weights_noise(const struct model *m, const char *weights, const char *base,
		  const struct weights_noise *conf, const char *out, double *ret_norm,
		  struct err *err)
{
	const char *const paths[] = {weights, base};
	_cleanup_(edit_close) struct edit first = {.first_row = conf->first_row, .graft_layer = -1};
	struct noising z = {.scale = 1, .step = conf->noise * conf->clip / GAUSS_STEPS};
	double norm;
	int r = check_conf(conf, err);
	if (r == 0 && conf->first_row < m->outputs)
		r = first.graft_layer = model_output_layer(m, err);
	if (r < 0)
		return r;
	_cleanup_(edit_close) struct edit second = {
		.first_row = first.first_row, .graft_layer = first.graft_layer, .user = &z};
	if ((r = edit_open(&first, m, paths, 2, err)) < 0 ||
	    (r = measure(&first, &norm, err)) < 0 || (r = edit_open(&second, m, paths, 2, err)) < 0)
		return r;
	double limit = conf->clip * (1 - CLIP_MARGIN);
	if (norm > limit)
		z.scale = limit / norm;
	r = edit_run(&second, noise_piece, second.in[0].raw, out, err);
	gauss_done(&z.gauss);
	if (r == 0 && ret_norm)
		*ret_norm = norm;
	return r;
}
