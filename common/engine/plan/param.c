/* See op.h. */
#include <string.h>

#include "common/engine/plan/op.h"

int param_init(struct param *w, struct plan *p, float **darknet, const dnnl_memory_desc_t *dense,
	       const dnnl_memory_desc_t *grad, const dnnl_memory_desc_t *forward,
	       const dnnl_memory_desc_t *backward, struct err *err)
{
	const dnnl_memory_desc_t *master = grad ? grad : dense;
	*w = (struct param){.darknet = darknet, .dense = *dense};
	w->n = dnnl_memory_desc_get_size(dense) / sizeof(float);
	w->floats = dnnl_memory_desc_get_size(master) / sizeof(float);
	w->trains = grad != NULL;
	int r = reorder_init(&w->load, &p->dnn, dense, master, err);
	if (r == 0)
		r = reorder_init(&w->store, &p->dnn, master, dense, err);
	if (r == 0)
		r = port_init(&w->forward, &p->dnn, master, forward, false, err);
	w->has_backward = backward != NULL;
	if (r == 0 && backward)
		r = port_init(&w->backward, &p->dnn, master, backward, false, err);
	return r;
}

void param_done(struct param *w)
{
	reorder_done(&w->load);
	reorder_done(&w->store);
	port_done(&w->forward);
	port_done(&w->backward);
	free(w->master);
	free(w->momentum);
	*w = (struct param){0};
}

/* The copies that products take follow the master. */
static void refresh(struct param *w, struct plan *p)
{
	port_set(&w->forward, &p->dnn, w->master);
	if (w->has_backward)
		port_set(&w->backward, &p->dnn, w->master);
}

static void drop(float **p)
{
	free(*p);
	*p = NULL;
}

void param_in(struct param *w, struct plan *p)
{
	if (!w->master)
		w->master = dnn_alloc(w->floats * sizeof(float));
	reorder_run(&w->load, &p->dnn, *w->darknet, w->master);
	if (w->trains && !w->momentum)
		w->momentum = dnn_alloc(w->floats * sizeof(float));
	else if (w->trains)
		memset(w->momentum, 0, w->floats * sizeof(float));
	size_t row = w->n / (size_t)w->dense.dims[0];
	if (w->fold && w->dense.ndims == 5)
		row = w->n / (size_t)(w->dense.dims[0] * w->dense.dims[1]);
	for (size_t i = 0; w->fold && i < w->n; i++)
		w->master[i] *= w->fold[i / row];
	refresh(w, p);
	if (!w->trains && w->forward.copy)
		drop(&w->master);
}

void param_rest(struct param *w)
{
	drop(&w->master);
	port_rest(&w->forward);
}

void param_out(struct param *w, struct plan *p)
{
	if (w->trains)
		reorder_run(&w->store, &p->dnn, w->master, *w->darknet);
}

void param_update(struct param *w, struct plan *p, const update_args *a, float rate_scale)
{
	op_step(p, w->master, w->momentum, w->floats, a, rate_scale);
	refresh(w, p);
}

void param_gather(struct param *w, struct plan *p, const float *grad)
{
	op_add(p, PLAIN, w->momentum, grad, w->floats);
}

void param_momentum(struct param *w, struct plan *p, float *out, const float *in)
{
	if (out)
		reorder_run(&w->store, &p->dnn, w->momentum, out);
	else
		reorder_run(&w->load, &p->dnn, in, w->momentum);
}
