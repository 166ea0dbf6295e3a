/* See plan.h. The list of operations is the list of layers; a 2 x 2 maximum after a convolution is
 * part of that convolution's operation (training). */
#include "common/engine/plan/plan.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/engine/plan/op.h"

/* ---- scratch ---- */

void *plan_scratch(struct plan *p, size_t bytes)
{
	if (bytes > p->scratch_bytes) {
		free(p->scratch);
		p->scratch = dnn_alloc(bytes);
		p->scratch_bytes = bytes;
	}
	return p->scratch;
}

bool plan_has_bf16(void)
{
#if defined(__x86_64__)
	dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
	return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
#else
	return false;
#endif
}

/* ---- making it ---- */

/* Is a layer read by others than the next one? */
static bool is_read_elsewhere(const network *net, int index)
{
	for (int i = 0; i < net->n; i++) {
		const layer *l = &net->layers[i];
		if (l->type == SHORTCUT && l->index == index)
			return true;
		for (int k = 0; l->type == ROUTE && k < l->n; k++)
			if (l->input_layers[k] == index)
				return true;
	}
	return false;
}

/* Does the next layer take the maximum of 2 x 2 windows side by side? */
static bool pool_follows(const struct plan *p, int i)
{
	const network *net = p->net;
	if (!p->conf.training || i + 1 >= net->n || is_read_elsewhere(net, i))
		return false;
	const layer *l = &net->layers[i], *next = &net->layers[i + 1];
	return next->type == MAXPOOL && next->size == 2 && next->stride == 2 && next->pad <= 1 &&
	       next->out_w == (l->out_w + 1) / 2 && next->out_h == (l->out_h + 1) / 2 &&
	       op_slope(l->activation) >= 0;
}

/* Layers that work in place on the one before share its blob, as they share Darknet's arrays. */
static bool is_in_place(const struct plan *p, int i)
{
	return i > 0 && p->net->layers[i].output == p->net->layers[i - 1].output;
}

static int make_blob(struct plan *p, int i)
{
	const layer *l = &p->net->layers[i];
	if (is_in_place(p, i)) {
		p->blobs[i] = p->blobs[i - 1];
		return 0;
	}
	struct blob *b = malloc(sizeof(*b));
	if (!b)
		return -ENOMEM;
	bool image = l->out_w > 0 && l->out_h > 0 && l->out_c > 0 &&
		     l->out_w * l->out_h * l->out_c == l->outputs;
	if (image)
		blob_init(b, p, (size_t)l->batch, (size_t)l->out_c, (size_t)l->out_h,
			  (size_t)l->out_w, l->output, l->delta);
	else
		blob_init(b, p, (size_t)l->batch, (size_t)l->outputs, 1, 1, l->output, l->delta);
	b->no_delta = l->type == CROP; /* nothing flows back through it */
	p->blobs[i] = b;
	return 0;
}

static int make_op(struct plan *p, int i)
{
	struct op *o = &p->ops[i];
	struct err ignored;
	bool pool = pool_follows(p, i);
	int r = -EOPNOTSUPP;
	*o = (struct op){.plan = p, .l = &p->net->layers[i], .index = i};
	o->in = i ? p->blobs[i - 1] : &p->input;
	o->out = p->blobs[pool && o->l->type == CONVOLUTIONAL ? i + 1 : i];
	switch (o->l->type) {
	case CONVOLUTIONAL:
		r = op_conv_init(o, pool, &ignored);
		break;
	case CONNECTED:
		r = op_connected_init(o, &ignored);
		break;
	case MAXPOOL:
		r = op_maxpool_init(o, &ignored);
		break;
	case AVGPOOL:
		r = op_avgpool_init(o, &ignored);
		break;
	case SHORTCUT:
		r = op_shortcut_init(o, &ignored);
		break;
	default:
		break;
	}
	if (r == -EOPNOTSUPP) {
		o->out = p->blobs[i];
		op_darknet_init(o);
		r = 0;
	}
	return r;
}

static bool fused_into(const struct op *before, int i)
{
	return before->class && before->index == i - 1 && before->out == before->plan->blobs[i] &&
	       before->out != before->plan->blobs[i - 1];
}

static int make_ops(struct plan *p)
{
	int r = 0;
	for (int i = 0; i < p->net->n && r == 0; i++)
		r = make_blob(p, i);
	for (int i = 0; i < p->net->n && r == 0; i++) {
		if (i > 0 && fused_into(&p->ops[i - 1], i)) {
			p->ops[i] = (struct op){.plan = p, .l = &p->net->layers[i], .index = i};
			continue;
		}
		r = make_op(p, i);
	}
	return r;
}

/* ---- where what lies ---- */

int plan_back_step(const struct plan *p, int layer)
{
	return p->net->n + 3 * (p->net->n - 1 - layer);
}

void plan_region(struct plan *p, struct region *r, size_t bytes, int from, int to)
{
	if (p->conf.apart) {
		from = 0;
		to = 4 * p->net->n;
	}
	arena_add(&p->arena, r, bytes, from, to);
}

static bool reads(const struct plan *p, int i, const struct blob *b)
{
	const layer *l = &p->net->layers[i];
	if (p->ops[i].class && p->ops[i].in == b)
		return true;
	if (l->type == SHORTCUT)
		return p->blobs[l->index] == b;
	for (int k = 0; l->type == ROUTE && k < l->n; k++)
		if (p->blobs[l->input_layers[k]] == b)
			return true;
	return false;
}

/* A blob that nobody reads is read when all is done. */
static void place_blob(struct plan *p, struct blob *b)
{
	int first = p->net->n, last = -1;
	for (int i = 0; i < p->net->n; i++) {
		bool writes = p->ops[i].class && p->ops[i].out == b;
		if (writes && i < first)
			first = i;
		if (reads(p, i, b))
			last = i;
	}
	blob_place(p, b, first < p->net->n ? first : 0, last >= 0 ? last : p->net->n);
}

static void place(struct plan *p)
{
	for (int i = 0; i < p->net->n; i++)
		if (i == 0 || p->blobs[i] != p->blobs[i - 1])
			place_blob(p, p->blobs[i]);
	arena_place(&p->arena);
}

/* The channels a block that oneDNN's convolutions take on this CPU. */
static const struct kernels *choose_kernels(bool bf16)
{
#if defined(__x86_64__)
	dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
	bool wide = (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
	const struct kernels *k = wide ? kernels_for(16, bf16) : NULL;
	return k ? k : kernels_for(8, bf16);
#else
	return kernels_for(8, bf16);
#endif
}

static void drop_array(float **a)
{
	free(*a);
	*a = NULL;
}

/* Layer by layer, so that no more than one layer's weights are there twice. */
static void take_weights(struct plan *p)
{
	for (int i = 0; i < p->net->n; i++) {
		struct op *o = &p->ops[i];
		if (o->fast)
			o->class->weights_in(o);
		if (!o->param)
			continue;
		drop_array(&o->l->weights);
		drop_array(&o->l->weight_updates);
	}
}

int plan_new(network *net, const struct plan_conf *conf, struct plan **ret, struct err *err)
{
	struct plan *p = calloc(1, sizeof(*p));
	if (!p)
		return err_errno(err, -ENOMEM, "plan");
	p->net = net;
	p->conf = *conf;
	p->k = choose_kernels(conf->bf16);
	p->flat = kernels_flat();
	p->type = conf->bf16 ? dnnl_bf16 : dnnl_f32;
	p->blobs = calloc((size_t)net->n, sizeof(struct blob *));
	p->ops = calloc((size_t)net->n, sizeof(*p->ops));
	par_threads(conf->threads);
	int r = p->k && p->blobs && p->ops ? dnn_init(&p->dnn, err) : -ENOMEM;
	if (r == 0) {
		blob_init(&p->input, p, (size_t)net->batch, (size_t)net->c, (size_t)net->h,
			  (size_t)net->w, net->input, NULL);
		p->input.no_delta = true;
		r = make_ops(p);
	}
	bool any = false;
	for (int i = 0; r == 0 && i < net->n; i++)
		any |= p->ops[i].fast;
	if (r == 0 && !any)
		r = err_set(err, -EOPNOTSUPP, "oneDNN has nothing fast for this network on this CPU");
	if (r < 0) {
		plan_free(p);
		return r;
	}
	place(p);
	take_weights(p);
	*ret = p;
	return 0;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	for (int i = 0; p->ops && i < p->net->n; i++)
		if (p->ops[i].class && p->ops[i].class->free)
			p->ops[i].class->free(&p->ops[i]);
	for (int i = 0; p->blobs && i < p->net->n; i++) {
		if (!(i && p->blobs[i] == p->blobs[i - 1]))
			free(p->blobs[i]);
	}
	arena_done(&p->arena);
	free(p->blobs);
	free(p->ops);
	free(p->scratch);
	dnn_done(&p->dnn);
	free(p);
}

/* ---- weights ---- */

void plan_weights_out(struct plan *p)
{
	arena_begin(&p->arena); /* another network's memory goes back before this one needs more */
	for (int i = 0; i < p->net->n; i++) {
		struct op *o = &p->ops[i];
		if (o->param)
			o->l->weights = dnn_alloc(o->param->n * sizeof(float));
		if (o->fast)
			o->class->weights_out(o);
	}
}

void plan_rest(struct plan *p)
{
	for (int i = 0; i < p->net->n; i++)
		if (p->ops[i].fast)
			p->ops[i].class->rest(&p->ops[i]);
}

bool plan_multiplies_elsewhere(const struct plan *p)
{
	for (int i = 0; i < p->net->n; i++)
		if (p->ops[i].class && !p->ops[i].fast && p->net->layers[i].update)
			return true;
	return false;
}

void plan_weights_in(struct plan *p, bool in)
{
	for (int i = 0; i < p->net->n; i++) {
		struct op *o = &p->ops[i];
		if (in && o->fast)
			o->class->weights_in(o);
		if (o->param)
			drop_array(&o->l->weights);
	}
}

/* ---- running it ---- */

static void reset(struct plan *p)
{
	arena_begin(&p->arena);
	blob_begin(p, &p->input);
	for (int i = 0; i < p->net->n; i++)
		blob_begin(p, p->blobs[i]);
	p->input.has[PLAIN] = true;
}

static void forward(struct plan *p, bool train)
{
	float *truth = p->net->truth;
	if (!train)
		p->net->truth = NULL;
	par_threads(p->conf.threads);
	reset(p);
	p->input.data[PLAIN] = p->net->input;
	for (int i = 0; i < p->net->n; i++)
		if (p->ops[i].class)
			p->ops[i].class->forward(&p->ops[i], train);
	p->net->truth = truth;
}

void plan_predict(struct plan *p)
{
	forward(p, false);
	/* The output layer's output, whoever computed it. */
	int i = p->net->n - 1;
	while (i > 0 && p->net->layers[i].type == COST)
		i--;
	blob_read(p, p->blobs[i], PLAIN);
}

/* Darknet's calc_network_cost(): the mean over the layers that have one. */
static float loss_of(const network *net)
{
	float sum = 0;
	int count = 0;
	for (int i = 0; i < net->n; i++) {
		if (net->layers[i].cost) {
			sum += net->layers[i].cost[0];
			count++;
		}
	}
	return count ? sum / (float)count : 0;
}

/* Darknet's update_network(). */
static void update(struct plan *p)
{
	network *net = p->net;
	update_args a = {.batch = net->batch * net->subdivisions,
			 .learning_rate = get_current_rate(net),
			 .momentum = net->momentum,
			 .decay = net->decay,
			 .adam = net->adam,
			 .B1 = net->B1,
			 .B2 = net->B2,
			 .eps = net->eps};
	a.t = ++*net->t;
	for (int i = 0; i < net->n; i++)
		if (p->ops[i].class && p->ops[i].class->update)
			p->ops[i].class->update(&p->ops[i], &a);
}

float plan_train(struct plan *p)
{
	network *net = p->net;
	*net->seen += (size_t)net->batch;
	forward(p, true);
	float loss = loss_of(net);
	if (!isfinite(loss))
		return loss; /* a maximum of what is no number has no place to go back to */
	bool stopped = false;
	for (int i = net->n - 1; i >= 0; i--) {
		stopped |= net->layers[i].stopbackward != 0;
		if (!stopped && p->ops[i].class && p->ops[i].class->backward)
			p->ops[i].class->backward(&p->ops[i]);
	}
	if (*net->seen / (size_t)net->batch % (size_t)net->subdivisions == 0)
		update(p);
	return loss;
}

bool plan_momentum(struct plan *p, int i, float *out, const float *in)
{
	if (!p->ops[i].param)
		return false;
	param_momentum(p->ops[i].param, p, out, in);
	return true;
}

bool plan_has_statistics(const struct plan *p)
{
	for (int i = 0; i < p->net->n; i++)
		if (p->net->layers[i].batch_normalize)
			return true;
	return false;
}

void plan_settle(struct plan *p, unsigned batch)
{
	p->settled = batch;
	p->settling = true;
	forward(p, true);
	p->settling = false;
}
