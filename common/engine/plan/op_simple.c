/* Layers without weights: pooling and shortcuts on blocked blobs, slice by slice; and the step for
 * Darknet's small arrays and activations that the kernels do not know. */
#include <errno.h>
#include <string.h>

#include "common/engine/plan/op.h"

/* ---- helpers of all operations ---- */

float op_slope(ACTIVATION a)
{
	return a == LINEAR ? 1.f : a == RELU ? 0.f : a == LEAKY ? .1f : -1.f;
}

void op_step_small(float *x, float *updates, int n, const update_args *a, float rate_scale)
{
	float rate = a->learning_rate * rate_scale / (float)a->batch;
	for (int i = 0; i < n; i++) {
		x[i] += rate * updates[i];
		updates[i] *= a->momentum;
	}
}

struct step {
	float *weights, *momentum;
	size_t n;
	const struct kernels_flat *flat;
	struct sgd sgd;
};

static void step_part(void *arg, int thread, int threads)
{
	const struct step *s = arg;
	size_t from, to, unit = KERNELS_BLOCK_MAX;
	par_share((s->n + unit - 1) / unit, thread, threads, &from, &to);
	from *= unit;
	to = to * unit < s->n ? to * unit : s->n;
	if (from < to)
		s->flat->sgd(s->weights + from, s->momentum + from, to - from, &s->sgd);
}

void op_step(struct plan *p, float *weights, float *momentum, size_t n, const update_args *a,
	     float rate_scale)
{
	struct step s = {weights, momentum, n, p->flat,
			 {.decay = a->decay * (float)a->batch,
			  .rate = a->learning_rate * rate_scale / (float)a->batch,
			  .momentum = a->momentum}};
	par_run(p->conf.threads, step_part, &s);
}

struct activation {
	float *x;
	const float *y;
	size_t n;
	ACTIVATION a;
};

static void activation_part(void *arg, int thread, int threads)
{
	const struct activation *v = arg;
	size_t from, to;
	par_share(v->n, thread, threads, &from, &to);
	if (v->y)
		gradient_array(v->y + from, (int)(to - from), v->a, v->x + from);
	else
		activate_array(v->x + from, (int)(to - from), v->a);
}

void op_activate(struct plan *p, float *x, size_t n, ACTIVATION a)
{
	struct activation v = {x, NULL, n, a};
	par_run(p->conf.threads, activation_part, &v);
}

void op_gradient(struct plan *p, const float *x, size_t n, ACTIVATION a, float *delta)
{
	struct activation v = {delta, x, n, a};
	par_run(p->conf.threads, activation_part, &v);
}

/* ---- pooling ---- */

struct pool {
	struct window window;
	struct op *op;
	char *x, *y; /* of blobs, or of their gradients */
	const char *read;
	bool add;
	void (*slice)(const struct pool *v, size_t i);
};

static void pool_part(void *arg, int thread, int threads)
{
	const struct pool *v = arg;
	size_t i, to;
	par_share(v->op->in->n * blob_blocks(v->op->plan, v->op->in), thread, threads, &i, &to);
	for (; i < to; i++)
		v->slice(v, i);
}

static void run_pool(struct pool *v, void (*slice)(const struct pool *, size_t))
{
	v->slice = slice;
	par_run(v->op->plan->conf.threads, pool_part, v);
}

static void max_slice(const struct pool *v, size_t i)
{
	const struct plan *p = v->op->plan;
	p->k->maxpool(v->x + i * blob_slice_bytes(p, v->op->in),
		      v->y + i * blob_slice_bytes(p, v->op->out), &v->window);
}

static void max_back_slice(const struct pool *v, size_t i)
{
	const struct plan *p = v->op->plan;
	size_t in = i * blob_slice_bytes(p, v->op->in);
	p->k->maxpool_back(v->read + in, v->y + i * blob_slice_bytes(p, v->op->out), v->x + in,
			   &v->window);
}

static struct window window_of(const layer *l)
{
	return (struct window){.size = (size_t)l->size,
			       .stride = (size_t)l->stride,
			       .pad = (size_t)l->pad / 2,
			       .h = (size_t)l->h,
			       .w = (size_t)l->w,
			       .out_h = (size_t)l->out_h,
			       .out_w = (size_t)l->out_w};
}

static void max_forward(struct op *o, bool train)
{
	struct pool v = {.window = window_of(o->l), .op = o};
	v.x = blob_read(o->plan, o->in, BLOCKED);
	v.y = blob_write(o->plan, o->out, BLOCKED);
	run_pool(&v, max_slice);
}

static void max_backward(struct op *o)
{
	struct pool v = {.window = window_of(o->l), .op = o};
	v.read = blob_read(o->plan, o->in, BLOCKED);
	v.y = blob_delta_read(o->plan, o->out, BLOCKED);
	v.x = blob_delta_add(o->plan, o->in, BLOCKED);
	run_pool(&v, max_back_slice);
}

static const struct op_class maxpool_class = {.forward = max_forward, .backward = max_backward};

int op_maxpool_init(struct op *o, struct err *err)
{
	if (o->in->no_delta)
		return err_set(err, -EOPNOTSUPP, "pooling of the input");
	blob_blocked(o->in);
	blob_blocked(o->out);
	o->class = &maxpool_class;
	return 0;
}

/* y: n x c floats, one a slice's channel. */
static void mean_slice(const struct pool *v, size_t i)
{
	const struct plan *p = v->op->plan;
	const struct blob *in = v->op->in;
	size_t b = p->k->block, blocks = blob_blocks(p, in), from = i % blocks * b;
	float mean[KERNELS_BLOCK_MAX];
	p->k->mean(v->x + i * blob_slice_bytes(p, in), in->h * in->w, mean);
	memcpy((float *)(void *)v->y + i / blocks * in->c + from, mean,
	       (in->c - from < b ? in->c - from : b) * sizeof(float));
}

static void mean_back_slice(const struct pool *v, size_t i)
{
	const struct plan *p = v->op->plan;
	const struct blob *in = v->op->in;
	size_t b = p->k->block, blocks = blob_blocks(p, in), from = i % blocks * b;
	float dy[KERNELS_BLOCK_MAX] = {0};
	memcpy(dy, (float *)(void *)v->y + i / blocks * in->c + from,
	       (in->c - from < b ? in->c - from : b) * sizeof(float));
	p->k->mean_back(dy, v->x + i * blob_slice_bytes(p, in), in->h * in->w, v->add);
}

static void avg_forward(struct op *o, bool train)
{
	struct pool v = {.op = o};
	v.x = blob_read(o->plan, o->in, BLOCKED);
	v.y = blob_write(o->plan, o->out, PLAIN);
	run_pool(&v, mean_slice);
}

static void avg_backward(struct op *o)
{
	struct pool v = {.op = o};
	v.y = blob_delta_read(o->plan, o->out, PLAIN);
	v.x = blob_delta(o->plan, o->in, BLOCKED, &v.add);
	run_pool(&v, mean_back_slice);
}

static const struct op_class avgpool_class = {.forward = avg_forward, .backward = avg_backward};

int op_avgpool_init(struct op *o, struct err *err)
{
	if (o->in->no_delta)
		return err_set(err, -EOPNOTSUPP, "pooling of the input");
	blob_blocked(o->in);
	o->class = &avgpool_class;
	return 0;
}

/* ---- shortcut: y = act(alpha * x + beta * from) ---- */

struct shortcut {
	struct op *op;
	char *x, *from, *y;
	float alpha, beta, slope;
	bool add_x, add_from, backward;
};

static void shortcut_part(void *arg, int thread, int threads)
{
	const struct shortcut *v = arg;
	const struct kernels *k = v->op->plan->k;
	size_t from, to;
	par_share(v->op->out->blocked_elems / k->block, thread, threads, &from, &to);
	size_t at = from * k->block * k->elem_bytes, n = (to - from) * k->block;
	if (!v->backward) {
		k->scaled_sum(v->x + at, v->from + at, v->y + at, n, v->alpha, v->beta, v->slope);
		return;
	}
	k->scale(v->y + at, v->x + at, n, v->alpha, v->add_x);
	k->scale(v->y + at, v->from + at, n, v->beta, v->add_from);
}

static struct blob *from_of(const struct op *o)
{
	return o->plan->blobs[o->l->index];
}

static void shortcut_forward(struct op *o, bool train)
{
	struct plan *p = o->plan;
	struct shortcut v = {.op = o, .alpha = o->l->alpha, .beta = o->l->beta};
	v.slope = op_slope(o->l->activation);
	v.x = blob_read(p, o->in, BLOCKED);
	v.from = blob_read(p, from_of(o), BLOCKED);
	v.y = blob_write(p, o->out, BLOCKED);
	par_run(p->conf.threads, shortcut_part, &v);
}

static void slope_part(void *arg, int thread, int threads)
{
	const struct shortcut *v = arg;
	const struct kernels *k = v->op->plan->k;
	size_t from, to;
	par_share(v->op->out->blocked_elems / k->block, thread, threads, &from, &to);
	size_t at = from * k->block * k->elem_bytes;
	k->slope_back(v->x + at, v->y + at, v->y + at, (to - from) * k->block, v->slope);
}

static void shortcut_backward(struct op *o)
{
	struct plan *p = o->plan;
	struct shortcut v = {.op = o, .alpha = o->l->alpha, .beta = o->l->beta, .backward = true};
	v.slope = op_slope(o->l->activation);
	v.y = blob_delta_read(p, o->out, BLOCKED);
	if (v.slope != 1) {
		v.x = blob_read(p, o->out, BLOCKED);
		par_run(p->conf.threads, slope_part, &v);
	}
	v.x = blob_delta(p, o->in, BLOCKED, &v.add_x);
	v.from = blob_delta(p, from_of(o), BLOCKED, &v.add_from);
	par_run(p->conf.threads, shortcut_part, &v);
}

static const struct op_class shortcut_class = {.forward = shortcut_forward,
					       .backward = shortcut_backward};

int op_shortcut_init(struct op *o, struct err *err)
{
	struct blob *from = from_of(o);
	if (o->in->no_delta || op_slope(o->l->activation) < 0 || from->c != o->in->c ||
	    from->h != o->in->h || from->w != o->in->w)
		return err_set(err, -EOPNOTSUPP, "shortcut between different shapes");
	blob_blocked(o->in);
	blob_blocked(from);
	blob_blocked(o->out);
	o->class = &shortcut_class;
	return 0;
}
