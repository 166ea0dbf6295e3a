/* A convolution with what follows it: batch normalization or bias, activation, and a 2 x 2 maximum
 * where the next layer is one.
 *
 * Training: z = conv(x); y = pool(act(norm(z))) in one pass over z (after one for the moments);
 * backward, one pass over z and dy for the sums that batch normalization's gradient needs, one
 * that turns z into dz; then the two products. Nothing but z is kept between forward and
 * backward: pre-activations and the places of the maxima are computed again from it. Formulas are
 * Darknet's (batchnorm_layer.c, blas.c), including the two different epsilons.
 *
 * Inference: batch normalization is folded into weights and bias, and bias and activation
 * into the convolution. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/engine/plan/op.h"

#define EPS_FORWARD  .000001f /* added to the standard deviation */
#define EPS_BACKWARD .00001f  /* added to the variance */
#define MOMENTUM     .99f     /* of the running statistics */

struct conv {
	bool norm, pool;
	float slope; /* of the activation in the kernels; 1 where Darknet's function follows */
	bool darknet_activation;
	enum rep src_rep;
	struct prim forward, back_data, back_weights;
	struct region forward_scratch, back_data_scratch, back_weights_scratch, z_at, grad_at;
	struct port src, src_back, dz_data, dz_weights, diff_src;
	struct port dst;
	struct param w;
	void *z; /* in training; for this run */
	size_t z_slices, blocks, slice_bytes;
	struct slice slice;
	struct norm *norms; /* by block */
	double *sums;	    /* [thread][block][2][B] */
	float *fold, *bias; /* inference */
	dnnl_memory_t bias_memory, grad;
};

static struct conv *conv_of(const struct op *o)
{
	return o->own;
}

/* ---- making it ---- */

struct shape {
	dnnl_dims_t src, weights, dst, strides, padding, padding_r;
	int weights_dims;
};

static struct shape shape_of(const layer *l)
{
	struct shape s = {.src = {l->batch, l->c, l->h, l->w},
			  .dst = {l->batch, l->n, l->out_h, l->out_w},
			  .strides = {l->stride, l->stride},
			  .padding = {l->pad, l->pad}};
	/* What lies to the right and below: only what the output needs. */
	s.padding_r[0] = (l->out_h - 1) * l->stride + l->size - l->h - l->pad;
	s.padding_r[1] = (l->out_w - 1) * l->stride + l->size - l->w - l->pad;
	if (l->groups > 1) {
		const dnnl_dims_t w = {l->groups, l->n / l->groups, l->c / l->groups, l->size,
				       l->size};
		memcpy(s.weights, w, sizeof(w));
		s.weights_dims = 5;
	} else {
		const dnnl_dims_t w = {l->n, l->c, l->size, l->size};
		memcpy(s.weights, w, sizeof(w));
		s.weights_dims = 4;
	}
	return s;
}

/* Winograd's algorithm needs a quarter of the multiplications of 3 x 3 kernels; its results
 * differ from the direct sum's in the last digits, so it serves training only. */
static bool suits_winograd(const struct op *o)
{
	const layer *l = o->l;
	return o->plan->conf.training && !o->plan->conf.bf16 && l->size == 3 && l->stride == 1 &&
	       l->groups == 1 && l->c % 16 == 0 && l->n % 16 == 0;
}

static int make_forward(struct op *o, const struct shape *s, dnnl_alg_kind_t alg, struct prim *ret,
			const dnnl_memory_desc_t *dst, struct err *err)
{
	struct plan *p = o->plan;
	dnnl_memory_desc_t src = dnn_any(4, s->src, p->type);
	dnnl_memory_desc_t weights = dnn_any(s->weights_dims, s->weights, p->type);
	const dnnl_dims_t n = {o->l->n};
	dnnl_memory_desc_t bias = dnn_dense(1, n, dnnl_f32);
	dnnl_convolution_desc_t d;
	bool train = p->conf.training;
	dnnl_post_ops_t ops = NULL;
	float slope = op_slope(o->l->activation);
	if (!train && slope >= 0 && slope != 1) {
		dnnl_post_ops_create(&ops);
		dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, slope, 0);
	}
	dnnl_convolution_forward_desc_init(&d, train ? dnnl_forward_training : dnnl_forward_inference,
					   alg, &src, &weights, train ? NULL : &bias, dst,
					   s->strides, s->padding, s->padding_r);
	int r = prim_init(ret, &p->dnn, &d, ops, NULL, err);
	if (ops)
		dnnl_post_ops_destroy(ops);
	return r;
}

static int make_back_weights(struct op *o, const struct shape *s, dnnl_alg_kind_t alg,
			     const struct prim *hint, const dnnl_memory_desc_t *dst,
			     struct prim *ret, struct err *err)
{
	struct plan *p = o->plan;
	dnnl_memory_desc_t src = *prim_md(hint, dnnl_query_src_md);
	dnnl_memory_desc_t weights = dnn_any(s->weights_dims, s->weights, dnnl_f32);
	dnnl_convolution_desc_t d;
	dnnl_convolution_backward_weights_desc_init(&d, alg, &src, &weights, NULL, dst, s->strides,
						    s->padding, s->padding_r);
	return prim_init(ret, &p->dnn, &d, NULL, hint->desc, err);
}

static int make_back_data(struct op *o, const struct shape *s, dnnl_alg_kind_t alg,
			  const struct prim *hint, const dnnl_memory_desc_t *dst, struct prim *ret,
			  struct err *err)
{
	struct plan *p = o->plan;
	dnnl_memory_desc_t src = dnn_any(4, s->src, p->type);
	dnnl_memory_desc_t weights = dnn_any(s->weights_dims, s->weights, p->type);
	dnnl_convolution_desc_t d;
	dnnl_convolution_backward_data_desc_init(&d, alg, &src, &weights, dst, s->strides,
						 s->padding, s->padding_r);
	return prim_init(ret, &p->dnn, &d, NULL, hint->desc, err);
}

static int make_products(struct op *o, dnnl_alg_kind_t alg, struct err *err)
{
	struct conv *c = conv_of(o);
	struct shape s = shape_of(o->l);
	dnnl_memory_desc_t z = dnn_blocked(s.dst, o->plan->type, o->plan->k->block);
	int r = make_forward(o, &s, alg, &c->forward, &z, err);
	if (r == 0 && o->plan->conf.training)
		r = make_back_weights(o, &s, alg, &c->forward, &z, &c->back_weights, err);
	if (r == 0 && o->plan->conf.training && !o->in->no_delta)
		r = make_back_data(o, &s, alg, &c->forward, &z, &c->back_data, err);
	if (r < 0) {
		prim_done(&c->forward);
		prim_done(&c->back_weights);
		prim_done(&c->back_data);
	}
	return r;
}

static int make_ports(struct op *o, struct err *err)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	struct shape s = shape_of(o->l);
	dnnl_memory_desc_t outer = blob_md(p, o->in, c->src_rep);
	dnnl_memory_desc_t z = dnn_blocked(s.dst, p->type, p->k->block);
	dnnl_memory_desc_t dense = dnn_dense(s.weights_dims, s.weights, dnnl_f32);
	bool train = p->conf.training;
	int r = port_init(&c->src, &p->dnn, &outer, prim_md(&c->forward, dnnl_query_src_md), false,
			  err);
	if (r == 0)
		r = port_init(&c->dst, &p->dnn, &z, &z, true, err);
	if (r == 0)
		r = param_init(&c->w, p, &o->l->weights, &dense,
			       train ? prim_md(&c->back_weights, dnnl_query_diff_weights_md) : NULL,
			       prim_md(&c->forward, dnnl_query_weights_md),
			       c->back_data.desc ? prim_md(&c->back_data, dnnl_query_weights_md)
						 : NULL,
			       err);
	if (r == 0 && train)
		r = port_init(&c->dz_weights, &p->dnn, &z,
			      prim_md(&c->back_weights, dnnl_query_diff_dst_md), false, err);
	if (r == 0 && train)
		r = port_init(&c->src_back, &p->dnn, prim_md(&c->forward, dnnl_query_src_md),
			      prim_md(&c->back_weights, dnnl_query_src_md), false, err);
	if (r == 0 && c->back_data.desc)
		r = port_init(&c->dz_data, &p->dnn, &z,
			      prim_md(&c->back_data, dnnl_query_diff_dst_md), false, err);
	if (r == 0 && c->back_data.desc)
		r = port_init(&c->diff_src, &p->dnn, &outer,
			      prim_md(&c->back_data, dnnl_query_diff_src_md), true, err);
	return r;
}

static int make_args(struct op *o, struct err *err)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	prim_arg(&c->forward, DNNL_ARG_SRC, c->src.inner);
	prim_arg(&c->forward, DNNL_ARG_WEIGHTS, c->w.forward.inner);
	prim_arg(&c->forward, DNNL_ARG_DST, c->dst.inner);
	if (!p->conf.training) {
		const dnnl_dims_t n = {o->l->n};
		dnnl_memory_desc_t md = dnn_dense(1, n, dnnl_f32);
		c->bias = dnn_alloc((size_t)o->l->n * sizeof(float));
		c->fold = dnn_alloc((size_t)o->l->n * sizeof(float));
		c->w.fold = c->fold;
		if (dnnl_memory_create(&c->bias_memory, &md, p->dnn.engine, c->bias) != dnnl_success)
			return err_set(err, -ENOMEM, "oneDNN has no memory");
		prim_arg(&c->forward, DNNL_ARG_BIAS, c->bias_memory);
		return 0;
	}
	if (dnnl_memory_create(&c->grad, prim_md(&c->back_weights, dnnl_query_diff_weights_md),
			       p->dnn.engine, NULL) != dnnl_success)
		return err_set(err, -ENOMEM, "oneDNN has no memory");
	prim_arg(&c->back_weights, DNNL_ARG_SRC, c->src_back.inner);
	prim_arg(&c->back_weights, DNNL_ARG_DIFF_DST, c->dz_weights.inner);
	prim_arg(&c->back_weights, DNNL_ARG_DIFF_WEIGHTS, c->grad);
	if (c->back_data.desc) {
		prim_arg(&c->back_data, DNNL_ARG_WEIGHTS, c->w.backward.inner);
		prim_arg(&c->back_data, DNNL_ARG_DIFF_DST, c->dz_data.inner);
		prim_arg(&c->back_data, DNNL_ARG_DIFF_SRC, c->diff_src.inner);
	}
	return 0;
}

static void make_buffers(struct op *o)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	const layer *l = o->l;
	size_t b = p->k->block;
	c->blocks = ((size_t)l->n + b - 1) / b;
	c->z_slices = (size_t)l->batch * c->blocks;
	c->slice = (struct slice){.h = (size_t)l->out_h, .w = (size_t)l->out_w, .pool = c->pool};
	c->slice_bytes = c->slice.h * c->slice.w * b * p->k->elem_bytes;
	int on = o->index, back = plan_back_step(p, o->index);
	plan_region(p, &c->forward_scratch, c->forward.scratch_bytes, on, on);
	blob_blocked(o->out);
	if (c->src_rep == BLOCKED)
		blob_blocked(o->in);
	if (!p->conf.training)
		return;
	/* Back: dz from dy; the weights' gradient; the input's. */
	plan_region(p, &c->z_at, c->z_slices * c->slice_bytes, on, back + 2);
	plan_region(p, &c->back_weights_scratch, c->back_weights.scratch_bytes, back + 1, back + 1);
	plan_region(p, &c->grad_at, c->w.floats * sizeof(float), back + 1, back + 1);
	plan_region(p, &c->back_data_scratch, c->back_data.scratch_bytes, back + 2, back + 2);
	o->delta_late = 2;
	c->norms = dnn_alloc(c->blocks * sizeof(*c->norms));
	c->sums = dnn_alloc((size_t)p->conf.threads * c->blocks * 2 * b * sizeof(double));
	for (size_t i = 0; i < c->blocks; i++)
		c->norms[i].slope = c->slope;
}

/* ---- shared among threads, by slices ---- */

struct pass {
	struct conv *c;
	const struct plan *p;
	char *y; /* or dy; NULL: z alone */
	size_t y_bytes;
	void (*slice)(const struct pass *v, void *z, void *y, size_t block, double *sums);
};

static double *sums_of(const struct pass *v, int thread, size_t block)
{
	size_t b = v->p->k->block;
	return v->c->sums + ((size_t)thread * v->c->blocks + block) * 2 * b;
}

static void pass_part(void *arg, int thread, int threads)
{
	const struct pass *v = arg;
	struct conv *c = v->c;
	size_t i, to;
	memset(sums_of(v, thread, 0), 0, c->blocks * 2 * v->p->k->block * sizeof(double));
	par_share(c->z_slices, thread, threads, &i, &to);
	for (; i < to; i++)
		v->slice(v, (char *)c->z + i * c->slice_bytes,
			 v->y ? v->y + i * v->y_bytes : NULL, i % c->blocks,
			 sums_of(v, thread, i % c->blocks));
}

static void run_pass(const struct op *o, void *y,
		     void (*slice)(const struct pass *, void *, void *, size_t, double *))
{
	struct conv *c = conv_of(o);
	const struct plan *p = o->plan;
	struct pass v = {c, p, y, blob_slice_bytes(p, o->out), slice};
	par_run(p->conf.threads, pass_part, &v);
}

/* Of all threads: the two sums of one channel. */
static void total(const struct op *o, size_t channel, double *ret_a, double *ret_b)
{
	struct conv *c = conv_of(o);
	size_t b = o->plan->k->block, block = channel / b, lane = channel % b;
	*ret_a = *ret_b = 0;
	for (size_t t = 0; t < (size_t)o->plan->conf.threads; t++) {
		const double *s = c->sums + (t * c->blocks + block) * 2 * b;
		*ret_a += s[lane];
		*ret_b += s[b + lane];
	}
}

static void moments_slice(const struct pass *v, void *z, void *y, size_t block, double *sums)
{
	v->p->k->moments(z, v->c->slice.h * v->c->slice.w, v->c->norms[block].mean, sums,
			 sums + v->p->k->block);
}

static void norm_slice(const struct pass *v, void *z, void *y, size_t block, double *sums)
{
	v->p->k->norm(z, y, &v->c->slice, &v->c->norms[block]);
}

static void sums_slice(const struct pass *v, void *z, void *y, size_t block, double *sums)
{
	v->p->k->norm_sums(z, y, &v->c->slice, &v->c->norms[block], sums, sums + v->p->k->block);
}

static void back_slice(const struct pass *v, void *z, void *y, size_t block, double *sums)
{
	v->p->k->norm_back(z, y, &v->c->slice, &v->c->norms[block]);
}

/* ---- forward ---- */

/* Mean and variance of this batch, into Darknet's arrays too. Sums are taken around the first
 * place of each channel, which is near its mean: little cancels. */
static void batch_statistics(struct op *o)
{
	struct conv *c = conv_of(o);
	layer *l = o->l;
	size_t b = o->plan->k->block;
	double m = (double)l->batch * l->out_h * l->out_w;
	const struct plan *p = o->plan;
	float keep = p->settling ? 1.f - 1.f / (float)(p->settled + 1) : MOMENTUM;
	for (size_t i = 0; i < c->blocks; i++)
		o->plan->k->to_planes((char *)c->z + i * c->slice_bytes, c->norms[i].mean, 1, b,
				      false);
	run_pass(o, NULL, moments_slice);
	for (size_t i = 0; i < (size_t)l->n; i++) {
		float shift = c->norms[i / b].mean[i % b];
		double sum, squares;
		total(o, i, &sum, &squares);
		double around = squares - sum * sum / m;
		float mean = (float)((double)shift + sum / m);
		float variance = (float)((around > 0 ? around : 0) / (m - 1));
		l->mean[i] = mean;
		l->variance[i] = variance;
		l->rolling_mean[i] = keep * l->rolling_mean[i] + (1 - keep) * mean;
		l->rolling_variance[i] = keep * l->rolling_variance[i] + (1 - keep) * variance;
	}
}

static void set_norms(struct op *o)
{
	struct conv *c = conv_of(o);
	const layer *l = o->l;
	size_t b = o->plan->k->block;
	for (size_t i = 0; i < (size_t)l->n; i++) {
		struct norm *n = &c->norms[i / b];
		size_t k = i % b;
		n->mean[k] = c->norm ? l->mean[i] : 0;
		n->a[k] = c->norm ? l->scales[i] / (sqrtf(l->variance[i]) + EPS_FORWARD) : 1;
		n->b[k] = l->biases[i];
	}
}

/* Darknet's activations of zero need not be zero: padding channels are made so again. */
static void clear_padding(struct op *o, char *y)
{
	const struct plan *p = o->plan;
	size_t b = p->k->block, used = o->out->c % b, hw = o->out->h * o->out->w;
	size_t blocks = blob_blocks(p, o->out), bytes = blob_slice_bytes(p, o->out);
	if (!used)
		return;
	for (size_t image = 0; image < o->out->n; image++) {
		char *slice = y + (image * blocks + blocks - 1) * bytes;
		for (size_t i = 0; i < hw; i++)
			memset(slice + (i * b + used) * p->k->elem_bytes, 0,
			       (b - used) * p->k->elem_bytes);
	}
}

static void darknet_activation(struct op *o, void *y)
{
	if (!conv_of(o)->darknet_activation)
		return;
	op_activate(o->plan, y, o->out->blocked_elems, o->l->activation);
	clear_padding(o, y);
}

static void infer(struct op *o)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	void *y = blob_write(p, o->out, BLOCKED);
	port_set(&c->dst, &p->dnn, y);
	prim_run(&c->forward, &p->dnn, arena_at(&p->arena, &c->forward_scratch));
	darknet_activation(o, y);
}

static void forward(struct op *o, bool train)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	port_set(&c->src, &p->dnn, blob_read(p, o->in, c->src_rep));
	if (!p->conf.training) {
		infer(o);
		return;
	}
	c->z = arena_at(&p->arena, &c->z_at);
	port_set(&c->dst, &p->dnn, c->z);
	prim_run(&c->forward, &p->dnn, arena_at(&p->arena, &c->forward_scratch));
	if (c->norm)
		batch_statistics(o);
	set_norms(o);
	void *y = blob_write(p, o->out, BLOCKED);
	run_pass(o, y, norm_slice);
	darknet_activation(o, y);
}

/* ---- backward ---- */

static void set_back_norms(struct op *o)
{
	struct conv *c = conv_of(o);
	layer *l = o->l;
	size_t b = o->plan->k->block;
	double m = (double)l->batch * l->out_h * l->out_w;
	for (size_t i = 0; i < (size_t)l->n; i++) {
		struct norm *n = &c->norms[i / b];
		size_t k = i % b;
		double g, gz;
		total(o, i, &g, &gz);
		l->bias_updates[i] += (float)g;
		if (!c->norm) {
			n->c0[k] = 1;
			continue;
		}
		float scale = l->scales[i], variance = l->variance[i];
		double sigma = sqrt((double)(variance + EPS_BACKWARD));
		l->scale_updates[i] += (float)(gz / (double)(sqrtf(variance) + EPS_FORWARD));
		double d_mean = -g * (double)scale / sigma;
		double d_variance = gz * (double)scale * -.5 / (sigma * sigma * sigma);
		n->c0[k] = (float)((double)scale / sigma);
		n->c1[k] = (float)(d_variance * 2 / m);
		n->c2[k] = (float)(d_mean / m);
	}
}

static void back_weights(struct op *o)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	float *grad = arena_at(&p->arena, &c->grad_at);
	port_set(&c->src_back, &p->dnn,
		 c->src.copy ? c->src.copy : blob_read(p, o->in, c->src_rep));
	port_set(&c->dz_weights, &p->dnn, c->z);
	dnnl_memory_set_data_handle(c->grad, grad);
	prim_run(&c->back_weights, &p->dnn, arena_at(&p->arena, &c->back_weights_scratch));
	param_gather(&c->w, p, grad);
}

static void back_data(struct op *o)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	if (!c->back_data.desc)
		return;
	bool add;
	void *to = blob_delta(p, o->in, c->src_rep, &add), *at = to;
	if (add)
		at = plan_scratch(p, c->src_rep == PLAIN
					     ? o->in->plain_floats * sizeof(float)
					     : o->in->blocked_elems * p->k->elem_bytes);
	port_set(&c->dz_data, &p->dnn, c->z);
	port_set(&c->diff_src, &p->dnn, at);
	prim_run(&c->back_data, &p->dnn, arena_at(&p->arena, &c->back_data_scratch));
	port_flush(&c->diff_src, &p->dnn);
	if (add)
		blob_delta_sum(p, o->in, c->src_rep, at);
}

static void backward(struct op *o)
{
	struct conv *c = conv_of(o);
	struct plan *p = o->plan;
	void *dy = blob_delta_read(p, o->out, BLOCKED);
	if (c->darknet_activation)
		op_gradient(p, blob_read(p, o->out, BLOCKED), o->out->blocked_elems,
			    o->l->activation, dy);
	run_pass(o, dy, sums_slice);
	set_back_norms(o);
	run_pass(o, dy, back_slice);
	back_weights(o);
	back_data(o);
}

static void update(struct op *o, const update_args *a)
{
	layer *l = o->l;
	op_step_small(l->biases, l->bias_updates, l->n, a, l->learning_rate_scale);
	if (conv_of(o)->norm)
		op_step_small(l->scales, l->scale_updates, l->n, a, l->learning_rate_scale);
	param_update(&conv_of(o)->w, o->plan, a, l->learning_rate_scale);
}

static void weights_in(struct op *o)
{
	struct conv *c = conv_of(o);
	const layer *l = o->l;
	for (int i = 0; c->fold && i < l->n; i++) {
		c->fold[i] = c->norm ? l->scales[i] / (sqrtf(l->rolling_variance[i]) + EPS_FORWARD)
				     : 1;
		c->bias[i] = l->biases[i] - (c->norm ? l->rolling_mean[i] * c->fold[i] : 0);
	}
	param_in(&c->w, o->plan);
}

static void weights_out(struct op *o)
{
	param_out(&conv_of(o)->w, o->plan);
}

static void rest(struct op *o)
{
	param_rest(&conv_of(o)->w);
}

static void conv_free(struct op *o)
{
	struct conv *c = conv_of(o);
	struct port *ports[] = {&c->src,      &c->src_back, &c->dz_data, &c->dz_weights,
				&c->diff_src, &c->dst};
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		port_done(ports[i]);
	prim_done(&c->forward);
	prim_done(&c->back_data);
	prim_done(&c->back_weights);
	if (c->bias_memory)
		dnnl_memory_destroy(c->bias_memory);
	if (c->grad)
		dnnl_memory_destroy(c->grad);
	param_done(&c->w);
	free(c->norms);
	free(c->sums);
	free(c->fold);
	free(c->bias);
	free(c);
	o->own = NULL;
}

static const struct op_class class = {
	.forward = forward,
	.backward = backward,
	.update = update,
	.weights_in = weights_in,
	.weights_out = weights_out,
	.rest = rest,
	.free = conv_free,
};

int op_conv_init(struct op *o, bool pool, struct err *err)
{
	const layer *l = o->l;
	struct plan *p = o->plan;
	if (l->binary || l->xnor)
		return err_set(err, -EOPNOTSUPP, "binary weights");
	struct conv *c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(err, -ENOMEM, "convolution");
	o->own = c;
	c->norm = l->batch_normalize != 0;
	c->pool = pool && p->conf.training;
	c->slope = op_slope(l->activation);
	c->darknet_activation = c->slope < 0;
	if (c->darknet_activation)
		c->slope = 1;
	c->src_rep = o->in->no_delta ? PLAIN : BLOCKED;
	int r = -EOPNOTSUPP;
	if (c->darknet_activation && p->conf.bf16)
		r = err_set(err, -EOPNOTSUPP, "an activation of Darknet's in bfloat16");
	else if (suits_winograd(o))
		r = make_products(o, dnnl_convolution_winograd, err);
	if (r == -EOPNOTSUPP && !(c->darknet_activation && p->conf.bf16))
		r = make_products(o, dnnl_convolution_direct, err);
	if (r == 0)
		r = make_ports(o, err);
	if (r == 0)
		r = make_args(o, err);
	if (r < 0) {
		conv_free(o);
		return r;
	}
	make_buffers(o);
	o->param = &c->w;
	o->fast = true;
	o->class = &class;
	return 0;
}
