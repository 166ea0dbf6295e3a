/* A connected layer: products of the whole batch with Darknet's own arrays, then bias and activation
 * on the rows of outputs (PLAIN, float32 in either precision).
 *
 * Such a layer can hold nearly all weights of a network (faces.cfg: 3.7 of 4.1 million), so it keeps
 * no copy of them: `weights` and, in training, `weight_updates`, to which the gradient is added as
 * Darknet adds it. Nothing is to be converted around a file either. */
#include <errno.h>
#include <string.h>

#include "common/engine/plan/op.h"

/* Outputs that a thread computes at a time where the result must not depend on the number of
 * threads: how a product is cut may change the order of its sums. */
#define OUTPUTS_PIECE 128
/* Inputs at a time of the products on the way back: bounds what oneDNN allocates for each (half a
 * megabyte), and costs no time. */
#define INPUTS_PIECE 1024

struct connected {
	float slope;
	bool darknet_activation;
	float *columns; /* outputs x batch: y before it is turned into rows */
};

static struct connected *connected_of(const struct op *o)
{
	return o->own;
}

/* What a thread has to do with its part of the outputs, or of the inputs. */
struct product {
	const struct op *o;
	const float *x, *dy;
	float *y, *dx;
	float keep; /* of what is in dx: 0 or 1 */
	size_t total, piece;
	void (*part)(const struct product *v, size_t from, size_t to);
};

static void product_part(void *arg, int thread, int threads)
{
	const struct product *v = arg;
	size_t i, last, pieces = (v->total + v->piece - 1) / v->piece;
	par_share(pieces, thread, threads, &i, &last);
	for (; i < last; i++) {
		size_t end = (i + 1) * v->piece;
		v->part(v, i * v->piece, end < v->total ? end : v->total);
	}
}

static void run(struct product *v, size_t total, size_t piece,
		void (*part)(const struct product *v, size_t from, size_t to))
{
	v->total = total;
	v->piece = piece;
	v->part = part;
	par_run(v->o->plan->conf.threads, product_part, v);
}

/* One piece a thread. */
static size_t even(const struct op *o, size_t total)
{
	size_t threads = (size_t)o->plan->conf.threads, unit = threads * KERNELS_BLOCK_MAX;
	return (total + unit - 1) / unit * KERNELS_BLOCK_MAX;
}

/* y = x * weights', by way of its transpose: oneDNN takes 2 to 4 times as long the other way round,
 * as it rearranges the second matrix. */
static void forward_part(const struct product *v, size_t from, size_t to)
{
	const layer *l = v->o->l;
	size_t batch = (size_t)l->batch, in = (size_t)l->inputs, out = (size_t)l->outputs;
	float *t = connected_of(v->o)->columns + from * batch;
	dnn_product(false, true, to - from, batch, in, l->weights + from * in, in, v->x, in, 0, t,
		    batch);
	for (size_t i = from; i < to; i++, t += batch)
		for (size_t b = 0; b < batch; b++)
			v->y[b * out + i] = t[b];
}

/* updates += dy' * x, of some inputs */
static void weights_part(const struct product *v, size_t from, size_t to)
{
	const layer *l = v->o->l;
	size_t batch = (size_t)l->batch, in = (size_t)l->inputs, out = (size_t)l->outputs;
	dnn_product(true, false, out, to - from, batch, v->dy, out, v->x + from, in, 1,
		    l->weight_updates + from, in);
}

/* dx (+)= dy * weights, of some inputs */
static void data_part(const struct product *v, size_t from, size_t to)
{
	const layer *l = v->o->l;
	size_t batch = (size_t)l->batch, in = (size_t)l->inputs, out = (size_t)l->outputs;
	dnn_product(false, false, batch, to - from, out, v->dy, out, l->weights + from, in, v->keep,
		    v->dx + from, in);
}

static void forward(struct op *o, bool train)
{
	struct connected *c = connected_of(o);
	struct plan *p = o->plan;
	const layer *l = o->l;
	float *y = blob_write(p, o->out, PLAIN);
	struct product v = {.o = o, .x = blob_read(p, o->in, PLAIN), .y = y};
	size_t out = (size_t)l->outputs;
	run(&v, out, p->conf.training ? even(o, out) : OUTPUTS_PIECE, forward_part);
	p->flat->bias(y, l->biases, (size_t)l->batch, (size_t)l->outputs, c->slope);
	if (c->darknet_activation)
		op_activate(p, y, o->out->plain_floats, l->activation);
}

static void backward(struct op *o)
{
	struct connected *c = connected_of(o);
	struct plan *p = o->plan;
	layer *l = o->l;
	size_t rows = (size_t)l->batch, k = (size_t)l->outputs;
	float *y = blob_read(p, o->out, PLAIN), *dy = blob_delta_read(p, o->out, PLAIN);
	if (c->darknet_activation)
		op_gradient(p, y, o->out->plain_floats, l->activation, dy);
	else if (c->slope != 1)
		p->flat->bias_back(y, dy, rows, k, c->slope);
	p->flat->columns(dy, l->bias_updates, rows, k, k);
	struct product v = {.o = o, .x = blob_read(p, o->in, PLAIN), .dy = dy};
	size_t in = (size_t)l->inputs, each = even(o, in);
	size_t piece = each < INPUTS_PIECE ? each : INPUTS_PIECE;
	run(&v, in, piece, weights_part);
	if (o->in->no_delta)
		return;
	bool add;
	v.dx = blob_delta(p, o->in, PLAIN, &add);
	v.keep = add ? 1 : 0;
	run(&v, in, piece, data_part);
}

static void update(struct op *o, const update_args *a)
{
	layer *l = o->l;
	op_step_small(l->biases, l->bias_updates, l->outputs, a, l->learning_rate_scale);
	op_step(o->plan, l->weights, l->weight_updates, (size_t)l->outputs * (size_t)l->inputs, a,
		l->learning_rate_scale);
}

static void weights_in(struct op *o)
{
	const layer *l = o->l;
	if (l->weight_updates)
		memset(l->weight_updates, 0,
		       (size_t)l->outputs * (size_t)l->inputs * sizeof(*l->weight_updates));
}

static void weights_out(struct op *o)
{
	layer *l = o->l;
	if (!l->weights)
		l->weights = dnn_alloc((size_t)l->outputs * (size_t)l->inputs *
				       sizeof(*l->weights));
}

static void rest(struct op *o)
{
	free(o->l->weights);
	o->l->weights = NULL;
}

static void connected_free(struct op *o)
{
	free(connected_of(o)->columns);
	free(o->own);
	o->own = NULL;
}

static const struct op_class class = {
	.forward = forward,
	.backward = backward,
	.update = update,
	.weights_in = weights_in,
	.weights_out = weights_out,
	.rest = rest,
	.free = connected_free,
};

int op_connected_init(struct op *o, struct err *err)
{
	layer *l = o->l;
	if (l->batch_normalize)
		return err_set(err, -EOPNOTSUPP, "batch normalization of a connected layer");
	if (!dnn_has_product())
		return err_set(err, -EOPNOTSUPP, "oneDNN has no fast product for this CPU");
	struct connected *c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(err, -ENOMEM, "connected layer");
	o->own = c;
	c->slope = op_slope(l->activation);
	c->darknet_activation = c->slope < 0;
	if (c->darknet_activation)
		c->slope = 1;
	c->columns = dnn_alloc((size_t)l->outputs * (size_t)l->batch * sizeof(float));
	if (!o->plan->conf.training) {
		free(l->weight_updates);
		l->weight_updates = NULL;
	}
	o->fast = true;
	o->class = &class;
	return 0;
}
