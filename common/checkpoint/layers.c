/* One function a layer type. Shapes and tensor order are those of Darknet's make_*_layer() and
 * save_weights_upto(); each refusal here stands for something that Darknet would answer with
 * exit(), a crash, memory overwritten, or another function than the cfg says.
 *
 * integer(), number() and activation() remember the first error in x->r and go on with a default,
 * so that a layer reads all its keys in a row and checks once. */
#include "common/checkpoint/layers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define refuse(x, key, code, ...) cfg_err((x)->cfg, (x)->s, (key), (x)->err, (code), __VA_ARGS__)

/* ---- reading keys ---- */

static int64_t integer(struct layer_ctx *x, const char *key, int64_t def, int64_t min, int64_t max)
{
	int64_t v = def;
	if (x->r == 0)
		x->r = cfg_int(x->cfg, x->s, key, def, min, max, &v, x->err);
	return x->r < 0 ? def : v;
}

/* As the float that Darknet keeps. */
static double number(struct layer_ctx *x, const char *key, double def)
{
	double v = def;
	if (x->r == 0)
		x->r = cfg_num(x->cfg, x->s, key, def, &v, x->err);
	return (double)(float)(x->r < 0 ? def : v);
}

static const char *activation(struct layer_ctx *x, const char *def)
{
	static const char *const names[] = {"logistic", "loggy", "relu",    "elu",   "selu",
					    "relie",    "plse",  "hardtan", "lhtan", "linear",
					    "ramp",     "leaky", "tanh",    "stair"};
	const char *v = cfg_str(x->cfg, x->s, "activation", def);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(v, names[i]) == 0)
			return names[i];
	if (x->r == 0)
		x->r = refuse(x, "activation", -EINVAL,
			      "activation: found '%.40s', expected one of Darknet's, as leaky or "
			      "linear",
			      v);
	return def;
}

/* ---- shapes and tensors ---- */

static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t p;
	return __builtin_mul_overflow(a, b, &p) ? UINT64_MAX : p;
}

/* Keys whose value is good; then that what comes in has a shape. */
static int begin(struct layer_ctx *x, bool needs_image)
{
	if (x->r == 0 && needs_image && !x->w)
		x->r = refuse(x, NULL, -EINVAL,
			      "the layer before gives no image (width, height, channels)");
	return x->r;
}

/* Darknet counts in int: a whole mini-batch of a layer must fit. */
static int set_flat(struct layer_ctx *x, struct model_layer *l, uint64_t outputs)
{
	uint64_t minibatch = x->m->batch / x->m->subdivisions;
	if (outputs == 0 || times(outputs, minibatch) > INT32_MAX)
		return refuse(x, NULL, -E2BIG,
			      "output: found %llu numbers an image, %llu images at once; expected "
			      "1 to %d in all",
			      (unsigned long long)outputs, (unsigned long long)minibatch,
			      INT32_MAX);
	l->outputs = (uint32_t)outputs;
	return 0;
}

static int set_image(struct layer_ctx *x, struct model_layer *l, int64_t w, int64_t h, int64_t c)
{
	if (w < 1 || h < 1 || c < 1 || w > MODEL_DIM_MAX || h > MODEL_DIM_MAX || c > MODEL_DIM_MAX)
		return refuse(x, NULL, -EINVAL,
			      "output: found %lld x %lld x %lld, expected each 1 to %d",
			      (long long)w, (long long)h, (long long)c, MODEL_DIM_MAX);
	l->out_w = (uint32_t)w;
	l->out_h = (uint32_t)h;
	l->out_c = (uint32_t)c;
	return set_flat(x, l, (uint64_t)w * (uint64_t)h * (uint64_t)c);
}

/* As it comes in. */
static int set_same(struct layer_ctx *x, struct model_layer *l)
{
	return x->w ? set_image(x, l, x->w, x->h, x->c) : set_flat(x, l, x->n);
}

static int add_tensor(struct layer_ctx *x, enum tensor_kind kind, uint64_t count, uint64_t rows)
{
	struct model *m = x->m;
	if (count > MODEL_FLOATS_MAX - m->n_floats)
		return refuse(x, NULL, -E2BIG,
			      "weights: found more than %llu in all, expected less",
			      (unsigned long long)MODEL_FLOATS_MAX);
	struct tensor *t = realloc(m->tensors, (m->n_tensors + 1) * sizeof(*t));
	if (!t)
		return refuse(x, NULL, -ENOMEM, "out of memory");
	m->tensors = t;
	t[m->n_tensors++] = (struct tensor){.layer = (int)m->n_layers,
					    .kind = kind,
					    .offset = m->n_floats,
					    .count = count,
					    .rows = (uint32_t)rows};
	m->n_floats += count;
	return 0;
}

static int add_batchnorm(struct layer_ctx *x, uint64_t n)
{
	int r = add_tensor(x, TENSOR_SCALE, n, n);
	if (r == 0)
		r = add_tensor(x, TENSOR_MEAN, n, n);
	return r < 0 ? r : add_tensor(x, TENSOR_VARIANCE, n, n);
}

/* How many windows fit side by side; 0: none. */
static int64_t windows(int64_t padded, int64_t size, int64_t stride)
{
	return padded < size ? 0 : (padded - size) / stride + 1;
}

/* im2col's columns; Darknet counts them in int. */
static int add_workspace(struct layer_ctx *x, uint64_t floats)
{
	if (floats > INT32_MAX)
		return refuse(x, NULL, -E2BIG, "workspace: found %llu numbers, expected at most %d",
			      (unsigned long long)floats, INT32_MAX);
	x->workspace_bytes = MAX_OF(x->workspace_bytes, 4 * floats);
	return 0;
}

/* ---- layers with weights ---- */

static int kernel_too_large(struct layer_ctx *x, int64_t size, int64_t padding)
{
	return refuse(x, "size", -EINVAL,
		      "size: found a kernel of %lld, expected at most the padded input, %u x %u "
		      "with padding of %lld in all",
		      (long long)size, x->w, x->h, (long long)padding);
}

static int read_convolutional(struct layer_ctx *x, struct model_layer *l)
{
	int64_t n = integer(x, "filters", 1, 1, MODEL_DIM_MAX);
	int64_t size = integer(x, "size", 1, 1, MODEL_DIM_MAX);
	int64_t stride = integer(x, "stride", 1, 1, MODEL_DIM_MAX);
	int64_t padding = integer(x, "padding", 0, 0, MODEL_DIM_MAX);
	int64_t groups = integer(x, "groups", 1, 1, MODEL_DIM_MAX);
	bool bn = integer(x, "batch_normalize", 0, INT32_MIN, INT32_MAX) != 0;
	if (integer(x, "pad", 0, INT32_MIN, INT32_MAX))
		padding = size / 2;
	const char *act = activation(x, "logistic");
	if (begin(x, true) < 0)
		return x->r;
	if (x->c % groups || n % groups)
		return refuse(x, "groups", -EINVAL,
			      "groups: found %lld, expected a divisor of %u channels and %lld "
			      "filters",
			      (long long)groups, x->c, (long long)n);
	if (size == 1 && (stride > 1 || padding > 0))
		return refuse(x, "size", -EOPNOTSUPP,
			      "size: found 1 with stride %lld and padding %lld; Darknet reads such "
			      "input as if stride were 1 and padding 0",
			      (long long)stride, (long long)padding);
	int64_t out_w = windows(x->w + 2 * padding, size, stride);
	int64_t out_h = windows(x->h + 2 * padding, size, stride);
	if (!out_w || !out_h)
		return kernel_too_large(x, size, 2 * padding);
	int r = set_image(x, l, out_w, out_h, n);
	uint64_t row = times((uint64_t)(x->c / groups), (uint64_t)(size * size));
	uint64_t places = (uint64_t)(out_w * out_h);
	if (r == 0)
		r = add_tensor(x, TENSOR_BIAS, (uint64_t)n, (uint64_t)n);
	if (r == 0 && bn)
		r = add_batchnorm(x, (uint64_t)n);
	if (r == 0)
		r = add_tensor(x, TENSOR_WEIGHT, times((uint64_t)n, row), (uint64_t)n);
	if (r == 0)
		r = add_workspace(x, times(places, row));
	l->macs = times(places, times((uint64_t)n, row));
	fprintf(x->canon,
		"convolutional filters=%lld size=%lld stride=%lld padding=%lld groups=%lld "
		"batch_normalize=%d activation=%s\n",
		(long long)n, (long long)size, (long long)stride, (long long)padding,
		(long long)groups, bn, act);
	return r;
}

static int read_connected(struct layer_ctx *x, struct model_layer *l)
{
	int64_t n = integer(x, "output", 1, 1, MODEL_DIM_MAX);
	bool bn = integer(x, "batch_normalize", 0, INT32_MIN, INT32_MAX) != 0;
	const char *act = activation(x, "logistic");
	if (begin(x, false) < 0)
		return x->r;
	int r = set_image(x, l, 1, 1, n);
	l->macs = times((uint64_t)n, x->n);
	if (r == 0)
		r = add_tensor(x, TENSOR_BIAS, (uint64_t)n, (uint64_t)n);
	if (r == 0)
		r = add_tensor(x, TENSOR_WEIGHT, l->macs, (uint64_t)n);
	if (r == 0 && bn)
		r = add_batchnorm(x, (uint64_t)n);
	fprintf(x->canon, "connected output=%lld batch_normalize=%d activation=%s\n", (long long)n,
		bn, act);
	return r;
}

/* A convolution with weights of its own at each place. `pad` is both a switch in the output's
 * size and the width of im2col's padding, which must agree. Its workspace is sized in floats
 * where bytes are meant; only another layer that needs more saves it (see layer_ctx). */
static int read_local(struct layer_ctx *x, struct model_layer *l)
{
	int64_t n = integer(x, "filters", 1, 1, MODEL_DIM_MAX);
	int64_t size = integer(x, "size", 1, 1, MODEL_DIM_MAX);
	int64_t stride = integer(x, "stride", 1, 1, MODEL_DIM_MAX);
	int64_t pad = integer(x, "pad", 0, 0, MODEL_DIM_MAX);
	const char *act = activation(x, "logistic");
	if (begin(x, true) < 0)
		return x->r;
	int64_t out_w = windows(x->w + 2 * pad, size, stride);
	int64_t out_h = windows(x->h + 2 * pad, size, stride);
	if (!out_w || !out_h)
		return kernel_too_large(x, size, 2 * pad);
	if (pad && (out_w != (x->w - 1) / stride + 1 || out_h != (x->h - 1) / stride + 1))
		return refuse(x, "pad", -EOPNOTSUPP,
			      "pad: found %lld with a kernel of %lld, which Darknet cannot lay out "
			      "here; expected half the kernel",
			      (long long)pad, (long long)size);
	int r = set_image(x, l, out_w, out_h, n);
	uint64_t places = (uint64_t)(out_w * out_h), row = times(x->c, (uint64_t)(size * size));
	l->macs = times(times(places, (uint64_t)n), row);
	if (r == 0)
		r = add_tensor(x, TENSOR_BIAS, l->outputs, l->outputs);
	if (r == 0)
		r = add_tensor(x, TENSOR_WEIGHT, l->macs, places * (uint64_t)n);
	if (r == 0 && times(places, row) > x->local_bytes / 4) {
		x->local_bytes = times(4, times(places, row));
		x->local = x->s;
	}
	fprintf(x->canon, "local filters=%lld size=%lld stride=%lld pad=%lld activation=%s\n",
		(long long)n, (long long)size, (long long)stride, (long long)pad, act);
	return r;
}

/* ---- layers without weights ---- */

/* A window that lies in the padding alone has no maximum, and Darknet's backward pass then
 * writes in front of its buffer. */
static int read_maxpool(struct layer_ctx *x, struct model_layer *l)
{
	int64_t stride = integer(x, "stride", 1, 1, MODEL_DIM_MAX);
	int64_t size = integer(x, "size", stride, 1, MODEL_DIM_MAX);
	int64_t padding = integer(x, "padding", size - 1, 0, 2 * MODEL_DIM_MAX);
	if (begin(x, true) < 0)
		return x->r;
	int64_t out_w = windows(x->w + padding, size, stride);
	int64_t out_h = windows(x->h + padding, size, stride);
	if (!out_w || !out_h)
		return kernel_too_large(x, size, padding);
	if (padding / 2 >= size || (out_w - 1) * stride - padding / 2 >= x->w ||
	    (out_h - 1) * stride - padding / 2 >= x->h)
		return refuse(
			x, "padding", -EINVAL,
			"padding: found %lld, expected less: windows of %lld every %lld would "
			"lie in the padding alone",
			(long long)padding, (long long)size, (long long)stride);
	fprintf(x->canon, "maxpool size=%lld stride=%lld padding=%lld\n", (long long)size,
		(long long)stride, (long long)padding);
	return set_image(x, l, out_w, out_h, x->c);
}

static int read_avgpool(struct layer_ctx *x, struct model_layer *l)
{
	fprintf(x->canon, "avgpool\n");
	return begin(x, true) < 0 ? x->r : set_image(x, l, 1, 1, x->c);
}

/* Works in place on the output of the layer before. The probability counts in training only. */
static int read_dropout(struct layer_ctx *x, struct model_layer *l)
{
	double p = number(x, "probability", .5);
	if (begin(x, false) < 0)
		return x->r;
	if (x->m->n_layers == 0)
		return refuse(x, NULL, -EINVAL, "found as the first layer, expected one before it");
	if (p < 0 || p >= 1)
		return refuse(x, "probability", -EINVAL,
			      "probability: found %g, expected 0 to less than 1", p);
	fprintf(x->canon, "dropout\n");
	l->no_gradient = x->no_gradient;
	return set_same(x, l);
}

static int read_softmax(struct layer_ctx *x, struct model_layer *l)
{
	int64_t groups = integer(x, "groups", 1, 1, INT32_MAX);
	double temperature = number(x, "temperature", 1);
	bool noloss = integer(x, "noloss", 0, INT32_MIN, INT32_MAX) != 0;
	number(x, "spatial", 0);
	if (begin(x, false) < 0)
		return x->r;
	if (cfg_find(x->cfg, x->s, "tree"))
		return refuse(x, "tree", -EOPNOTSUPP, "tree: class hierarchies are not supported");
	if (x->n % groups)
		return refuse(x, "groups", -EINVAL,
			      "groups: found %lld, expected a divisor of %u inputs",
			      (long long)groups, x->n);
	if (!(temperature > 0))
		return refuse(x, "temperature", -EINVAL,
			      "temperature: found %g, expected more than 0", temperature);
	l->has_loss = !noloss;
	l->in_groups = groups > 1;
	fprintf(x->canon, "softmax groups=%lld temperature=%.9g\n", (long long)groups, temperature);
	return set_flat(x, l, x->n);
}

static int read_cost(struct layer_ctx *x, struct model_layer *l)
{
	static const char *const types[] = {"sse", "masked", "L1", "seg", "smooth", "wgan"};
	const char *type = cfg_str(x->cfg, x->s, "type", "sse");
	size_t i = 0;
	while (i < ARRAY_LEN(types) && strcmp(type, types[i]))
		i++;
	if (i == ARRAY_LEN(types))
		return refuse(x, "type", -EINVAL,
			      "type: found '%.40s', expected sse, masked, L1, seg, smooth or wgan",
			      type);
	l->has_loss = true;
	fprintf(x->canon, "cost\n");
	return begin(x, false) < 0 ? x->r : set_flat(x, l, x->n);
}

/* The layer that an index (negative: counted back from here) stands for. */
static const struct model_layer *other_layer(struct layer_ctx *x, const char *key, double index,
					     size_t *ret_i)
{
	double count = (double)x->m->n_layers, i = index < 0 ? count + index : index;
	if (i < 0 || i >= count || i != (double)(size_t)i) {
		x->r = refuse(x, key, -EINVAL,
			      "%s: found %g in layer %zu, expected the number of an earlier layer",
			      key, index, x->m->n_layers);
		return NULL;
	}
	const struct model_layer *o = &x->m->layers[(size_t)i];
	if (!o->out_w) {
		x->r = refuse(x, key, -EINVAL,
			      "%s: layer %g [%s] gives no image (width, height, channels)", key, i,
			      o->type);
		return NULL;
	}
	if (o->no_gradient) {
		x->r = refuse(
			x, key, -EOPNOTSUPP,
			"%s: layer %g [%s] has no gradient for Darknet's backward pass to add "
			"to",
			key, i, o->type);
		return NULL;
	}
	*ret_i = (size_t)i;
	return o;
}

static int read_shortcut(struct layer_ctx *x, struct model_layer *l)
{
	if (!cfg_find(x->cfg, x->s, "from"))
		return refuse(x, NULL, -EINVAL, "from: found none, expected a layer");
	int64_t from = integer(x, "from", 0, INT32_MIN, INT32_MAX);
	double alpha = number(x, "alpha", 1), beta = number(x, "beta", 1);
	const char *act = activation(x, "linear");
	if (begin(x, true) < 0)
		return x->r;
	size_t i;
	const struct model_layer *o = other_layer(x, "from", (double)from, &i);
	if (!o)
		return x->r;
	/* What shortcut_cpu() asserts: the same whole ratio both ways, up or down. */
	if (o->out_w / x->w != o->out_h / x->h || x->w / o->out_w != x->h / o->out_h)
		return refuse(
			x, "from", -EINVAL,
			"from: layer %zu gives %u x %u, expected %u x %u or a whole multiple or "
			"part",
			i, o->out_w, o->out_h, x->w, x->h);
	fprintf(x->canon, "shortcut from=%zu alpha=%.9g beta=%.9g activation=%s\n", i, alpha, beta,
		act);
	return set_same(x, l);
}

static int read_route(struct layer_ctx *x, struct model_layer *l)
{
	double list[CFG_LIST_MAX];
	size_t n, i;
	int r = cfg_integers(x->cfg, x->s, "layers", list, &n, x->err);
	if (r < 0)
		return r;
	if (n == 0)
		return refuse(x, NULL, -EINVAL, "layers: found none, expected at least one");
	uint32_t w = 0, h = 0, c = 0;
	for (size_t k = 0; k < n; k++) {
		const struct model_layer *o = other_layer(x, "layers", list[k], &i);
		if (!o)
			return x->r;
		if (k > 0 && (o->out_w != w || o->out_h != h))
			return refuse(x, "layers", -EINVAL,
				      "layers: layer %zu gives %u x %u, expected %u x %u as the "
				      "first one",
				      i, o->out_w, o->out_h, w, h);
		w = o->out_w;
		h = o->out_h;
		c += o->out_c; /* at most CFG_LIST_MAX * MODEL_DIM_MAX */
		fprintf(x->canon, "%s%zu", k ? "," : "route layers=", i);
	}
	fprintf(x->canon, "\n");
	return begin(x, false) < 0 ? x->r : set_image(x, l, w, h, c);
}

static int read_upsample(struct layer_ctx *x, struct model_layer *l)
{
	int64_t stride = integer(x, "stride", 2, -MODEL_DIM_MAX, MODEL_DIM_MAX);
	int64_t by = stride < 0 ? -stride : stride;
	double scale = number(x, "scale", 1);
	if (begin(x, true) < 0)
		return x->r;
	if (stride == 0 || (stride < 0 && (x->w % by || x->h % by)))
		return refuse(x, "stride", -EINVAL,
			      "stride: found %lld, expected not 0 and, if negative, a divisor of "
			      "%u x %u",
			      (long long)stride, x->w, x->h);
	fprintf(x->canon, "upsample stride=%lld scale=%.9g\n", (long long)stride, scale);
	return stride < 0 ? set_image(x, l, x->w / by, x->h / by, x->c)
			  : set_image(x, l, x->w * by, x->h * by, x->c);
}

static int read_reorg(struct layer_ctx *x, struct model_layer *l)
{
	int64_t s = integer(x, "stride", 1, 1, 64);
	bool reverse = integer(x, "reverse", 0, INT32_MIN, INT32_MAX) != 0;
	bool flatten = integer(x, "flatten", 0, INT32_MIN, INT32_MAX) != 0;
	bool extra = integer(x, "extra", 0, INT32_MIN, INT32_MAX) != 0;
	if (begin(x, true) < 0)
		return x->r;
	if (extra)
		return refuse(x, "extra", -EOPNOTSUPP, "extra: not supported");
	/* reorg_cpu() divides the channels either way and loops over whole blocks. */
	if (x->c % (s * s) || (!reverse && (x->w % s || x->h % s)))
		return refuse(x, "stride", -EINVAL,
			      "stride: found %lld, expected its square to divide %u channels%s",
			      (long long)s, x->c, reverse ? "" : " and itself width and height");
	fprintf(x->canon, "reorg stride=%lld reverse=%d flatten=%d\n", (long long)s, reverse,
		flatten);
	return reverse ? set_image(x, l, x->w * s, x->h * s, x->c / (s * s))
		       : set_image(x, l, x->w / s, x->h / s, x->c * s * s);
}

static int read_crop(struct layer_ctx *x, struct model_layer *l)
{
	int64_t h = integer(x, "crop_height", 1, 1, MODEL_DIM_MAX);
	int64_t w = integer(x, "crop_width", 1, 1, MODEL_DIM_MAX);
	bool noadjust = integer(x, "noadjust", 0, INT32_MIN, INT32_MAX) != 0;
	if (begin(x, true) < 0)
		return x->r;
	if (w > x->w || h > x->h)
		return refuse(x, "crop_width", -EINVAL,
			      "crop: found %lld x %lld, expected at most the input, %u x %u",
			      (long long)w, (long long)h, x->w, x->h);
	fprintf(x->canon, "crop width=%lld height=%lld noadjust=%d\n", (long long)w, (long long)h,
		noadjust);
	l->no_gradient = true;
	return set_image(x, l, w, h, x->c);
}

static int read_activation(struct layer_ctx *x, struct model_layer *l)
{
	fprintf(x->canon, "activation activation=%s\n", activation(x, "linear"));
	return begin(x, false) < 0 ? x->r : set_same(x, l);
}

static int read_l2norm(struct layer_ctx *x, struct model_layer *l)
{
	fprintf(x->canon, "l2norm\n");
	return begin(x, true) < 0 ? x->r : set_same(x, l);
}

static int read_logistic(struct layer_ctx *x, struct model_layer *l)
{
	l->has_loss = true;
	fprintf(x->canon, "logistic\n");
	return begin(x, false) < 0 ? x->r : set_same(x, l);
}

static int read_normalization(struct layer_ctx *x, struct model_layer *l)
{
	int64_t size = integer(x, "size", 5, 1, MODEL_DIM_MAX);
	double alpha = number(x, "alpha", .0001), beta = number(x, "beta", .75);
	double kappa = number(x, "kappa", 1);
	if (begin(x, true) < 0)
		return x->r;
	if (size / 2 > x->c)
		return refuse(x, "size", -EINVAL,
			      "size: found %lld, expected at most twice the %u channels",
			      (long long)size, x->c);
	fprintf(x->canon, "normalization size=%lld alpha=%.9g beta=%.9g kappa=%.9g\n",
		(long long)size, alpha, beta, kappa);
	return set_same(x, l);
}

/* ---- */

/* `first`: its backward pass asks whether there is a gradient to add to. That of the others
 * writes to address 0 when they are the first layer, or come right after [crop]. */
static const struct {
	const char *name, *alias;
	int (*read)(struct layer_ctx *x, struct model_layer *l);
	bool first;
} types[] = {
	{"convolutional", "conv", read_convolutional, true},
	{"connected", "conn", read_connected, true},
	{"local", NULL, read_local, true},
	{"crop", NULL, read_crop, true},
	{"dropout", NULL, read_dropout, true},
	{"route", NULL, read_route, true},
	{"maxpool", "max", read_maxpool},
	{"avgpool", "avg", read_avgpool},
	{"softmax", "soft", read_softmax},
	{"shortcut", NULL, read_shortcut},
	{"cost", NULL, read_cost},
	{"upsample", NULL, read_upsample},
	{"reorg", NULL, read_reorg},
	{"activation", NULL, read_activation},
	{"l2norm", NULL, read_l2norm},
	{"logistic", NULL, read_logistic},
	{"normalization", "lrn", read_normalization},
};

/* Keys that any layer may have. The first group makes Darknet load and save different parts of a
 * file, or compute something that the canonical form does not tell. */
static int check_common(struct layer_ctx *x)
{
	static const char *const unsupported[] = {"dontload", "dontsave", "dontloadscales",
						  "numload",  "truth",    "flipped",
						  "binary",   "xnor"};
	static const char *const integers[] = {"onlyforward", "stopbackward", "flip"};
	static const char *const numbers[] = {"smooth", "dot",   "angle", "saturation", "exposure",
					      "shift",  "ratio", "noobj", "thresh",     "scale"};
	for (size_t i = 0; i < ARRAY_LEN(unsupported); i++)
		if (integer(x, unsupported[i], 0, INT32_MIN, INT32_MAX) && x->r == 0)
			x->r = refuse(x, unsupported[i], -EOPNOTSUPP, "%s: not supported",
				      unsupported[i]);
	for (size_t i = 0; i < ARRAY_LEN(integers); i++)
		integer(x, integers[i], 0, INT32_MIN, INT32_MAX);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		number(x, numbers[i], 0);
	double rate = number(x, "learning_rate", 1);
	if (x->r == 0 && rate < 0)
		x->r = refuse(x, "learning_rate", -EINVAL,
			      "learning_rate: found %g, expected at least 0", rate);
	return x->r;
}

/* The index in `types`, or how many there are. */
static size_t find_type(const char *name)
{
	size_t i = 0;
	while (i < ARRAY_LEN(types) && strcmp(name, types[i].name) &&
	       (!types[i].alias || strcmp(name, types[i].alias)))
		i++;
	return i;
}

int layer_check_type(const struct cfg *c, const struct cfg_section *s, struct err *err)
{
	return find_type(s->type) < ARRAY_LEN(types) ? 0 : layer_refuse_type(c, s, err);
}

int layer_read(struct layer_ctx *x, struct model_layer *l)
{
	size_t i = find_type(x->s->type);
	if (i == ARRAY_LEN(types))
		return layer_refuse_type(x->cfg, x->s, x->err);
	if (x->no_gradient && !types[i].first)
		return refuse(
			x, NULL, -EOPNOTSUPP,
			"found as the first layer or right after [crop], where Darknet cannot "
			"train it; expected [convolutional], [connected], [local] or [crop]");
	snprintf(l->type, sizeof(l->type), "%s", types[i].name);
	l->line = x->s->line;
	x->r = 0;
	int r = check_common(x);
	return r < 0 ? r : types[i].read(x, l);
}
