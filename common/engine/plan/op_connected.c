/* A connected layer: an inner product of the whole image, then bias and activation on its rows of
 * outputs (PLAIN, float32 in either precision). An image that lies in whole blocks is taken as it
 * is; the weights' order follows it. */
#include <errno.h>
#include <string.h>

#include "common/engine/plan/op.h"

struct connected {
	float slope;
	bool darknet_activation;
	enum rep src_rep;
	struct prim forward, back_data, back_weights;
	struct port src, src_back, dst, dy_data, dy_weights, diff_src;
	struct param w;
	dnnl_memory_t grad;
};

static struct connected *connected_of(const struct op *o)
{
	return o->own;
}

/* ---- making it ---- */

struct shape {
	dnnl_dims_t src, weights, dst;
	int dims;
};

static struct shape shape_of(const struct op *o)
{
	const layer *l = o->l;
	const struct blob *in = o->in;
	struct shape s = {.dst = {l->batch, l->outputs}};
	if (connected_of(o)->src_rep == BLOCKED) {
		const dnnl_dims_t src = {l->batch, (dnnl_dim_t)in->c, (dnnl_dim_t)in->h,
					 (dnnl_dim_t)in->w};
		const dnnl_dims_t w = {l->outputs, src[1], src[2], src[3]};
		memcpy(s.src, src, sizeof(src));
		memcpy(s.weights, w, sizeof(w));
		s.dims = 4;
	} else {
		const dnnl_dims_t src = {l->batch, l->inputs}, w = {l->outputs, l->inputs};
		memcpy(s.src, src, sizeof(src));
		memcpy(s.weights, w, sizeof(w));
		s.dims = 2;
	}
	return s;
}

static dnnl_memory_desc_t src_md(const struct op *o, const struct shape *s)
{
	return s->dims == 4 ? blob_md(o->plan, o->in, BLOCKED) : dnn_dense(2, s->src, dnnl_f32);
}

static int make_products(struct op *o, struct err *err)
{
	struct connected *c = connected_of(o);
	struct plan *p = o->plan;
	struct shape s = shape_of(o);
	dnnl_data_type_t type = p->type;
	bool train = p->conf.training;
	dnnl_memory_desc_t outer = src_md(o, &s);
	dnnl_memory_desc_t src = s.dims == 4 ? outer : dnn_dense(2, s.src, type);
	dnnl_memory_desc_t w = dnn_any(s.dims, s.weights, type);
	dnnl_memory_desc_t w32 = dnn_any(s.dims, s.weights, dnnl_f32);
	dnnl_memory_desc_t dst = dnn_dense(2, s.dst, dnnl_f32), dy = dnn_dense(2, s.dst, type);
	dnnl_inner_product_desc_t d;
	dnnl_inner_product_forward_desc_init(&d, train ? dnnl_forward_training
						       : dnnl_forward_inference,
					     &src, &w, NULL, &dst);
	int r = prim_init(&c->forward, &p->dnn, &d, NULL, NULL, err);
	if (r < 0 || !train)
		return r;
	dnnl_inner_product_backward_weights_desc_init(&d, &src, &w32, NULL, &dy);
	r = prim_init(&c->back_weights, &p->dnn, &d, NULL, c->forward.desc, err);
	if (r < 0 || o->in->no_delta)
		return r;
	dnnl_inner_product_backward_data_desc_init(&d, &src, &w, &dy);
	return prim_init(&c->back_data, &p->dnn, &d, NULL, c->forward.desc, err);
}

static int make_ports(struct op *o, struct err *err)
{
	struct connected *c = connected_of(o);
	struct plan *p = o->plan;
	struct shape s = shape_of(o);
	bool train = p->conf.training;
	dnnl_memory_desc_t outer = src_md(o, &s), dst = dnn_dense(2, s.dst, dnnl_f32);
	dnnl_memory_desc_t dense = dnn_dense(s.dims, s.weights, dnnl_f32);
	int r = port_init(&c->src, &p->dnn, &outer, prim_md(&c->forward, dnnl_query_src_md), false,
			  err);
	if (r == 0)
		r = port_init(&c->dst, &p->dnn, &dst, prim_md(&c->forward, dnnl_query_dst_md), true,
			      err);
	if (r == 0)
		r = param_init(&c->w, p, &o->l->weights, &dense,
			       train ? prim_md(&c->back_weights, dnnl_query_diff_weights_md) : NULL,
			       prim_md(&c->forward, dnnl_query_weights_md),
			       c->back_data.desc ? prim_md(&c->back_data, dnnl_query_weights_md)
						 : NULL,
			       err);
	if (r == 0 && train)
		r = port_init(&c->dy_weights, &p->dnn, &dst,
			      prim_md(&c->back_weights, dnnl_query_diff_dst_md), false, err);
	if (r == 0 && train)
		r = port_init(&c->src_back, &p->dnn, prim_md(&c->forward, dnnl_query_src_md),
			      prim_md(&c->back_weights, dnnl_query_src_md), false, err);
	if (r == 0 && c->back_data.desc)
		r = port_init(&c->dy_data, &p->dnn, &dst,
			      prim_md(&c->back_data, dnnl_query_diff_dst_md), false, err);
	if (r == 0 && c->back_data.desc)
		r = port_init(&c->diff_src, &p->dnn, &outer,
			      prim_md(&c->back_data, dnnl_query_diff_src_md), true, err);
	return r;
}

static int make_args(struct op *o, struct err *err)
{
	struct connected *c = connected_of(o);
	struct plan *p = o->plan;
	prim_arg(&c->forward, DNNL_ARG_SRC, c->src.inner);
	prim_arg(&c->forward, DNNL_ARG_WEIGHTS, c->w.forward.inner);
	prim_arg(&c->forward, DNNL_ARG_DST, c->dst.inner);
	if (!p->conf.training)
		return 0;
	if (dnnl_memory_create(&c->grad, prim_md(&c->back_weights, dnnl_query_diff_weights_md),
			       p->dnn.engine, c->w.grad) != dnnl_success)
		return err_set(err, -ENOMEM, "oneDNN has no memory");
	prim_arg(&c->back_weights, DNNL_ARG_SRC, c->src_back.inner);
	prim_arg(&c->back_weights, DNNL_ARG_DIFF_DST, c->dy_weights.inner);
	prim_arg(&c->back_weights, DNNL_ARG_DIFF_WEIGHTS, c->grad);
	if (c->back_data.desc) {
		prim_arg(&c->back_data, DNNL_ARG_WEIGHTS, c->w.backward.inner);
		prim_arg(&c->back_data, DNNL_ARG_DIFF_DST, c->dy_data.inner);
		prim_arg(&c->back_data, DNNL_ARG_DIFF_SRC, c->diff_src.inner);
	}
	return 0;
}

/* ---- running it ---- */

static void forward(struct op *o, bool train)
{
	struct connected *c = connected_of(o);
	struct plan *p = o->plan;
	const layer *l = o->l;
	float *y = blob_write(p, o->out, PLAIN);
	port_set(&c->src, &p->dnn, blob_read(p, o->in, c->src_rep));
	port_set(&c->dst, &p->dnn, y);
	prim_run(&c->forward, &p->dnn);
	port_flush(&c->dst, &p->dnn);
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
	port_set(&c->src_back, &p->dnn,
		 c->src.copy ? c->src.copy : blob_read(p, o->in, c->src_rep));
	port_set(&c->dy_weights, &p->dnn, dy);
	prim_run(&c->back_weights, &p->dnn);
	if (!c->back_data.desc)
		return;
	bool add;
	void *to = blob_delta(p, o->in, c->src_rep, &add), *at = to;
	if (add)
		at = plan_scratch(p, c->src_rep == PLAIN
					     ? o->in->plain_floats * sizeof(float)
					     : o->in->blocked_elems * p->k->elem_bytes);
	port_set(&c->dy_data, &p->dnn, dy);
	port_set(&c->diff_src, &p->dnn, at);
	prim_run(&c->back_data, &p->dnn);
	port_flush(&c->diff_src, &p->dnn);
	if (add)
		blob_delta_sum(p, o->in, c->src_rep, at);
}

static void update(struct op *o, const update_args *a)
{
	layer *l = o->l;
	op_step_small(l->biases, l->bias_updates, l->outputs, a, l->learning_rate_scale);
	param_update(&connected_of(o)->w, o->plan, a, l->learning_rate_scale);
}

static void weights_in(struct op *o)
{
	param_in(&connected_of(o)->w, o->plan);
}

static void weights_out(struct op *o)
{
	param_out(&connected_of(o)->w, o->plan);
}

static void connected_free(struct op *o)
{
	struct connected *c = connected_of(o);
	struct port *ports[] = {&c->src,     &c->src_back, &c->dst,
				&c->dy_data, &c->dy_weights, &c->diff_src};
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		port_done(ports[i]);
	prim_done(&c->forward);
	prim_done(&c->back_data);
	prim_done(&c->back_weights);
	if (c->grad)
		dnnl_memory_destroy(c->grad);
	param_done(&c->w);
	free(c);
	o->own = NULL;
}

static const struct op_class class = {
	.forward = forward,
	.backward = backward,
	.update = update,
	.weights_in = weights_in,
	.weights_out = weights_out,
	.free = connected_free,
};

int op_connected_init(struct op *o, struct err *err)
{
	const layer *l = o->l;
	struct plan *p = o->plan;
	if (l->batch_normalize)
		return err_set(err, -EOPNOTSUPP, "batch normalization of a connected layer");
	struct connected *c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(err, -ENOMEM, "connected layer");
	o->own = c;
	c->slope = op_slope(l->activation);
	c->darknet_activation = c->slope < 0;
	if (c->darknet_activation)
		c->slope = 1;
	bool whole = !o->in->no_delta && o->in->c % p->k->block == 0 && o->in->h * o->in->w > 1;
	c->src_rep = whole ? BLOCKED : PLAIN;
	int r = make_products(o, err);
	if (r == 0)
		r = make_ports(o, err);
	if (r == 0)
		r = make_args(o, err);
	if (r < 0) {
		connected_free(o);
		return r;
	}
	o->param = &c->w;
	o->class = &class;
	return 0;
}
