/* A layer computed by Darknet's own functions, on Darknet's own (PLAIN) arrays. They read the
 * layer before through net.input, other layers through net.layers[], and add gradients to
 * net.delta and to those layers' `delta`. */
#include <string.h>

#include "common/engine/plan/op.h"
#include "common/engine/plan/statistics.h"

/* Layers that this one reads besides the one before it. */
static int others(const layer *l, int i)
{
	if (l->type == ROUTE)
		return i < l->n ? l->input_layers[i] : -1;
	return l->type == SHORTCUT && i == 0 ? l->index : -1;
}

static network view(const struct op *o)
{
	network net = *o->plan->net;
	net.index = o->index;
	net.input = o->in->data[PLAIN];
	net.delta = o->in->no_delta ? NULL : o->in->delta[PLAIN];
	return net;
}

static void forward(struct op *o, bool train)
{
	struct plan *p = o->plan;
	layer *l = o->l;
	blob_read(p, o->in, PLAIN);
	for (int i = 0; others(l, i) >= 0; i++)
		blob_read(p, p->blobs[others(l, i)], PLAIN);
	network net = view(o);
	net.train = train;
	if (o->out != o->in && l->delta && train) {
		/* A loss layer writes its gradient while it goes forward. */
		memset(l->delta, 0, (size_t)l->outputs * (size_t)l->batch * sizeof(float));
		o->out->owed[PLAIN] = true;
	}
	blob_write(p, o->out, PLAIN);
	bool settles = p->settling && l->batch_normalize;
	if (settles)
		statistics_lend(l);
	l->forward(*l, net);
	if (settles)
		statistics_take(l, p->settled);
	if (l->truth)
		p->net->truth = l->output;
}

static void backward(struct op *o)
{
	struct plan *p = o->plan;
	layer *l = o->l;
	blob_read(p, o->in, PLAIN);
	if (!o->out->no_delta)
		blob_delta_read(p, o->out, PLAIN);
	if (!o->in->no_delta && o->in != o->out && l->type != ROUTE)
		blob_delta_add(p, o->in, PLAIN);
	for (int i = 0; others(l, i) >= 0; i++)
		blob_delta_add(p, p->blobs[others(l, i)], PLAIN);
	network net = view(o);
	net.train = 1;
	l->backward(*l, net);
}

static void update(struct op *o, const update_args *a)
{
	if (o->l->update)
		o->l->update(*o->l, *a);
}

static const struct op_class class = {.forward = forward, .backward = backward, .update = update};

void op_darknet_init(struct op *o)
{
	o->class = &class;
}
