/* The plan against Darknet's own functions: the same network, weights, images and random numbers
 * in both; layer by layer forward and backward, then weights and momentum after several steps.
 *
 * Tolerance: differences of a tensor, relative to its own root mean square, at most TOLERANCE for
 * one pass (Winograd's products and sums in another order lose the last digits), TRAINED after
 * five steps, which amplify them. How much they do depends on the network: batch normalization over
 * a handful of values can make a percent of a last digit. So a second Darknet network whose first
 * weights are NUDGE off, less than what one pass may be, goes the same way, and where it strays
 * farther than TRAINED from the first, so may ours, by STRAY. Few networks may need that. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/checkpoint/model.h"
#include "common/engine/gemm.h"
#include "common/engine/plan/op.h"
#include "emulated.h"

#define TOLERANCE   2e-4
#define TRAINED     5e-3
#define NUDGE       1e-5
#define STRAY       4
#define STRAYED_MAX 5 /* networks */
#define RANDOM_CFGS 200
#define STEPS       5

struct pair {
	network *ours, *theirs;
	network *nudged; /* as theirs, from weights that are a little off; NULL: none */
	int strayed;     /* tensors that only it excuses */
	struct plan *plan;
	char cfg[8192];
};

static network *parse(const char *cfg)
{
	int fd = memfd_create("cfg", MFD_CLOEXEC), quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int out = dup(STDERR_FILENO);
	char name[32];
	assert_int_equal(write(fd, cfg, strlen(cfg)), (ssize_t)strlen(cfg));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	dup2(quiet, STDERR_FILENO);
	srand(7);
	network *net = parse_network_cfg(name);
	dup2(out, STDERR_FILENO);
	close(fd);
	close(quiet);
	close(out);
	return net;
}

/* free_network() leaves these. */
static void net_free(network *net)
{
	free(net->workspace);
	free(net->cost);
	free(net->seen);
	free(net->t);
	free_network(net);
}

static void copy_weights(network *to, const network *from)
{
	for (int i = 0; i < from->n; i++) {
		const layer *a = &from->layers[i];
		layer *b = &to->layers[i];
		size_t n = (size_t)a->n;
		if (a->type == CONVOLUTIONAL) {
			memcpy(b->weights, a->weights, (size_t)a->nweights * sizeof(float));
		} else if (a->type == CONNECTED) {
			n = (size_t)a->outputs;
			memcpy(b->weights, a->weights, n * (size_t)a->inputs * sizeof(float));
		} else if (a->type == LOCAL) {
			n = (size_t)a->outputs;
			memcpy(b->weights, a->weights,
			       (size_t)(a->size * a->size * a->c * a->n * a->out_w * a->out_h) *
				       sizeof(float));
		} else {
			continue;
		}
		memcpy(b->biases, a->biases, n * sizeof(float));
	}
}

/* Biases and scales that are not all alike. */
static void spread(network *net, struct rng *r)
{
	for (int i = 0; i < net->n; i++) {
		layer *l = &net->layers[i];
		int n = l->type == CONVOLUTIONAL ? l->n : l->type == CONNECTED ? l->outputs : 0;
		for (int k = 0; k < n; k++) {
			l->biases[k] = (float)(rng_unit(r) - .5) * .2f;
			if (l->batch_normalize)
				l->scales[k] = (float)(.5 + rng_unit(r));
		}
	}
}

static void copy_scales(network *to, const network *from)
{
	for (int i = 0; i < from->n; i++) {
		const layer *a = &from->layers[i];
		int n = a->type == CONNECTED ? a->outputs : a->n;
		if (a->batch_normalize && a->scales)
			memcpy(to->layers[i].scales, a->scales, (size_t)n * sizeof(float));
	}
}

/* 0, or 1 when oneDNN has nothing for it. */
static int pair_init(struct pair *p, const char *cfg, bool bf16, bool apart, uint64_t seed)
{
	struct rng r;
	struct err err = {0};
	rng_init(&r, seed);
	snprintf(p->cfg, sizeof(p->cfg), "%s", cfg);
	p->theirs = parse(cfg);
	p->ours = parse(cfg);
	p->nudged = NULL;
	p->strayed = 0;
	spread(p->theirs, &r);
	copy_weights(p->ours, p->theirs);
	copy_scales(p->ours, p->theirs);
	struct plan_conf conf = {.threads = 2, .training = true, .bf16 = bf16, .apart = apart};
	int e = plan_new(p->ours, &conf, &p->plan, &err);
	if (e < 0) {
		net_free(p->ours);
		net_free(p->theirs);
		assert_int_equal(e, -EOPNOTSUPP);
		return 1;
	}
	return 0;
}

static void nudge(struct pair *p, struct rng *r)
{
	p->nudged = parse(p->cfg);
	copy_weights(p->nudged, p->theirs);
	copy_scales(p->nudged, p->theirs);
	for (int i = 0; i < p->nudged->n; i++) {
		layer *l = &p->nudged->layers[i];
		int n = l->type == CONVOLUTIONAL ? l->nweights
			: l->type == CONNECTED   ? l->outputs * l->inputs
						 : 0;
		for (int k = 0; k < n; k++)
			l->weights[k] *= (float)(1 + (rng_u64(r) % 2 ? NUDGE : -NUDGE));
	}
}

static void pair_done(struct pair *p)
{
	plan_free(p->plan);
	net_free(p->ours);
	net_free(p->theirs);
	if (p->nudged)
		net_free(p->nudged);
}

static void fill(struct pair *p, struct rng *r)
{
	network *a = p->ours, *b = p->theirs;
	for (int i = 0; i < a->inputs * a->batch; i++)
		a->input[i] = b->input[i] = (float)rng_unit(r);
	memset(a->truth, 0, (size_t)(a->truths * a->batch) * sizeof(float));
	for (int i = 0; i < a->batch; i++)
		a->truth[i * a->truths + (int)(rng_u64(r) % (uint64_t)a->truths)] = 1;
	memcpy(b->truth, a->truth, (size_t)(a->truths * a->batch) * sizeof(float));
	if (!p->nudged)
		return;
	memcpy(p->nudged->input, a->input, (size_t)(a->inputs * a->batch) * sizeof(float));
	memcpy(p->nudged->truth, a->truth, (size_t)(a->truths * a->batch) * sizeof(float));
}

/* Root mean square of the difference, relative to that of `a` (or to `least`). */
static double distance(const float *a, const float *b, size_t n, double least)
{
	double d = 0, s = 0;
	for (size_t i = 0; i < n; i++) {
		d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		s += (double)a[i] * (double)a[i];
	}
	double rms = sqrt(s / (double)n);
	return sqrt(d / (double)n) / (rms > least ? rms : least);
}

static void check(const struct pair *p, const char *what, int layer_no, const float *theirs,
		  const float *ours, size_t n, double least, double tolerance)
{
	double d = distance(theirs, ours, n, least);
	if (!(d <= tolerance))
		print_error("%s of layer %d: %g\n%s\n", what, layer_no, d, p->cfg);
	assert_true(d <= tolerance);
}

/* The same as check(), unless the nudged network is as far off. */
static void check_trained(struct pair *p, const char *what, int layer_no, const float *theirs,
			  const float *ours, const float *nudged, size_t n, double least)
{
	if (distance(theirs, ours, n, least) > TRAINED) {
		p->strayed++;
		check(p, what, layer_no, theirs, ours, n, least,
		      fmax(TRAINED, STRAY * distance(theirs, nudged, n, least)));
		return;
	}
	check(p, what, layer_no, theirs, ours, n, least, TRAINED);
}

/* How far apart their losses may be is what it returns in *ret_most. */
static double train_both(struct pair *p, int seed, double *ret_most)
{
	srand((unsigned)seed);
	float a = train_network_datum(p->theirs) / (float)p->theirs->batch;
	srand((unsigned)seed);
	float b = plan_train(p->plan) / (float)p->ours->batch;
	*ret_most = (p->nudged ? TRAINED : TOLERANCE) * fabs((double)a);
	if (p->nudged) {
		srand((unsigned)seed);
		float c = train_network_datum(p->nudged) / (float)p->nudged->batch;
		p->strayed += fabs((double)a - (double)b) > *ret_most;
		*ret_most = fmax(*ret_most, STRAY * fabs((double)a - (double)c));
	}
	return fabs((double)a - (double)b);
}

/* What of each layer is there to be compared: outputs and gradients that the plan keeps. */
static void compare_layers(struct pair *p, double tolerance)
{
	double largest = 0;
	for (int i = 0; i < p->ours->n; i++) {
		const layer *l = &p->theirs->layers[i];
		for (int k = 0; l->delta && k < l->outputs * l->batch; k++)
			largest = fmax(largest, fabs((double)l->delta[k]));
	}
	for (int i = 0; i < p->ours->n; i++) {
		const layer *l = &p->theirs->layers[i];
		struct blob *b = p->plan->blobs[i];
		size_t n = (size_t)(l->outputs * l->batch);
		bool last_of_blob = i + 1 == p->ours->n || p->plan->blobs[i + 1] != b;
		if (!b->has[PLAIN] && !b->has[BLOCKED])
			continue; /* fused away */
		if (last_of_blob)
			check(p, "output", i, l->output, blob_read(p->plan, b, PLAIN), n, 1e-6,
			      tolerance);
	}
}

static void compare_weights(struct pair *p)
{
	plan_weights_out(p->plan);
	for (int i = 0; i < p->ours->n; i++) {
		const layer *a = &p->theirs->layers[i], *b = &p->ours->layers[i],
			    *c = &p->nudged->layers[i];
		size_t n = (size_t)(a->type == CONNECTED ? a->outputs : a->n);
		size_t w = (size_t)a->nweights;
		if (a->type == CONNECTED)
			w = n * (size_t)a->inputs;
		else if (a->type != CONVOLUTIONAL)
			continue;
		check_trained(p, "weights", i, a->weights, b->weights, c->weights, w, 1e-3);
		check_trained(p, "biases", i, a->biases, b->biases, c->biases, n, 1e-2);
		if (a->batch_normalize) {
			check_trained(p, "scales", i, a->scales, b->scales, c->scales, n, 1e-2);
			check_trained(p, "means", i, a->rolling_mean, b->rolling_mean,
				      c->rolling_mean, n, 1e-4);
			check_trained(p, "variances", i, a->rolling_variance, b->rolling_variance,
				      c->rolling_variance, n, 1e-4);
		}
	}
	plan_weights_in(p->plan, false);
}

/* Momentum after one step without decay is the gradient times the momentum factor. */
static void compare_gradients(struct pair *p, double tolerance)
{
	for (int i = 0; i < p->ours->n; i++) {
		const layer *l = &p->theirs->layers[i];
		size_t units = (size_t)(l->type == CONNECTED ? l->outputs : l->n);
		size_t w = (size_t)l->nweights;
		if (l->type == CONNECTED)
			w = units * (size_t)l->inputs;
		else if (l->type != CONVOLUTIONAL)
			continue;
		const layer *o = &p->ours->layers[i];
		float *ours = calloc(w, sizeof(float)), *m = o->weight_updates;
		if (plan_momentum(p->plan, i, ours, NULL))
			m = ours;
		check(p, "bias gradient", i, l->bias_updates, o->bias_updates, units, 1e-3,
		      tolerance);
		if (l->scale_updates)
			check(p, "scale gradient", i, l->scale_updates, o->scale_updates, units,
			      1e-3, tolerance);
		check(p, "weight gradient", i, l->weight_updates, m, w, 1e-4, tolerance);
		free(ours);
	}
}

/* ---- single kernels on random shapes ---- */

static const char *const activations[] = {"leaky", "relu", "linear", "logistic", "tanh", "elu"};

static int between(struct rng *r, int from, int to)
{
	return from + (int)(rng_u64(r) % (uint64_t)(to - from + 1));
}

static size_t head(char *at, size_t size, struct rng *r, double decay)
{
	static const int channels[] = {1, 2, 3, 4, 16};
	int subdivisions = between(r, 1, 2), batch = between(r, 2, 6) * subdivisions;
	return (size_t)snprintf(at, size,
				"[net]\nbatch=%d\nsubdivisions=%d\nwidth=%d\nheight=%d\n"
				"channels=%d\nlearning_rate=0.001\nmomentum=0.9\ndecay=%g\n"
				"policy=constant\nmax_batches=1000\n",
				batch, subdivisions, between(r, 5, 18), between(r, 5, 18),
				channels[between(r, 0, 4)], decay);
}

static size_t convolution(char *at, size_t size, struct rng *r, int filters, int groups)
{
	static const int sizes[] = {1, 3, 3, 3, 5};
	int k = sizes[between(r, 0, 4)], stride = k > 1 ? between(r, 1, 2) : 1;
	return (size_t)snprintf(at, size,
				"[convolutional]\nfilters=%d\nsize=%d\nstride=%d\npad=%d\n"
				"groups=%d\nbatch_normalize=%d\nactivation=%s\n",
				filters, k, stride, k > 1, groups, between(r, 0, 1),
				activations[between(r, 0, 5)]);
}

static const char tail[] = "[connected]\noutput=7\nactivation=linear\n[softmax]\ngroups=1\n";

static bool is_valid(const char *cfg)
{
	struct model *m = NULL;
	int r = model_parse(cfg, strlen(cfg), "random.cfg", NULL, 0, &m, NULL);
	model_free(m);
	return r == 0;
}

static int filters(struct rng *r)
{
	static const int n[] = {5, 8, 16, 24, 32, 48};
	return n[between(r, 0, 5)];
}

typedef size_t (*layers_fn)(char *at, size_t size, struct rng *r);

static size_t plain_convolution(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, filters(r), 1);
	return n + convolution(at + n, size - n, r, filters(r), 1);
}

static size_t grouped_convolution(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, 32, 1);
	return n + convolution(at + n, size - n, r, 32, between(r, 0, 1) ? 2 : 32);
}

static size_t pooled_convolution(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, filters(r), 1);
	n += (size_t)snprintf(at + n, size - n, "[maxpool]\nsize=2\nstride=2\n");
	return n + convolution(at + n, size - n, r, filters(r), 1);
}

static size_t any_pool(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, filters(r), 1);
	return n + (size_t)snprintf(at + n, size - n, "[maxpool]\nsize=%d\nstride=%d\n",
				    between(r, 2, 3), between(r, 1, 3));
}

/* The mean of what batch normalization has just centred has no gradient but noise: an activation
 * that is not linear lies in between. */
static size_t average(char *at, size_t size, struct rng *r)
{
	return (size_t)snprintf(at, size,
				"[convolutional]\nfilters=%d\nsize=3\nstride=1\npad=1\n"
				"batch_normalize=%d\nactivation=%s\n[avgpool]\n",
				filters(r), between(r, 0, 1), between(r, 0, 1) ? "relu" : "tanh");
}

static size_t connected(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, filters(r), 1);
	return n + (size_t)snprintf(at + n, size - n,
				    "[connected]\noutput=%d\nactivation=%s\n[dropout]\n"
				    "probability=.3\n",
				    between(r, 3, 70), activations[between(r, 0, 5)]);
}

static size_t shortcut(char *at, size_t size, struct rng *r)
{
	int f = filters(r);
	size_t n = convolution(at, size, r, f, 1);
	for (int i = 0; i < 2; i++)
		n += (size_t)snprintf(at + n, size - n,
				      "[convolutional]\nfilters=%d\nsize=3\nstride=1\npad=1\n"
				      "batch_normalize=1\nactivation=%s\n",
				      f, i ? "linear" : "leaky");
	return n + (size_t)snprintf(at + n, size - n,
				    "[shortcut]\nfrom=-3\nalpha=%g\nbeta=%g\nactivation=%s\n",
				    .5 + rng_unit(r), .5 + rng_unit(r),
				    activations[between(r, 0, 3)]);
}

static size_t route(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, filters(r), 1);
	n += (size_t)snprintf(at + n, size - n,
			      "[convolutional]\nfilters=16\nsize=3\nstride=1\npad=1\n"
			      "batch_normalize=1\nactivation=leaky\n[route]\nlayers=-1,-2\n");
	return n + convolution(at + n, size - n, r, filters(r), 1);
}

static size_t dropped(char *at, size_t size, struct rng *r)
{
	size_t n = convolution(at, size, r, filters(r), 1);
	n += (size_t)snprintf(at + n, size - n, "[dropout]\nprobability=.4\n");
	return n + convolution(at + n, size - n, r, filters(r), 1);
}

static const layers_fn kinds[] = {plain_convolution,
				  grouped_convolution,
				  pooled_convolution,
				  any_pool,
				  average,
				  connected,
				  shortcut,
				  route,
				  dropped};

/* A random cfg that begins with layers of this kind. */
static void make(char *cfg, size_t size, layers_fn kind, struct rng *r, bool mixed)
{
	do {
		size_t n = head(cfg, size, r, mixed ? .0005 : 0);
		n += kind(cfg + n, size - n, r);
		for (int i = between(r, 0, 1); mixed && i > 0; i--)
			n += kinds[between(r, 0, (int)ARRAY_LEN(kinds) - 1)](cfg + n, size - n, r);
		snprintf(cfg + n, size - n, "%s", tail);
	} while (!is_valid(cfg));
}

/* One step: outputs, input gradients (through the weights' gradients of the layers before) and
 * parameter gradients. False: oneDNN has nothing for it. */
static bool one_step(const char *cfg, uint64_t seed)
{
	struct pair p;
	struct rng r;
	double most;
	rng_init(&r, seed);
	if (pair_init(&p, cfg, false, true, seed))
		return false;
	for (int i = 0; i < p.ours->subdivisions; i++) {
		fill(&p, &r);
		double d = train_both(&p, (int)seed + 1, &most);
		assert_true(d <= most);
		compare_layers(&p, TOLERANCE);
	}
	compare_gradients(&p, 20 * TOLERANCE);
	pair_done(&p);
	return true;
}

/* Debian's oneDNN has fast code for few processors but these; without it Darknet computes. */
static void enough(int planned, int least)
{
#if defined(__x86_64__)
	assert_true(planned >= least);
#else
	print_message("oneDNN has fast code for %d networks\n", planned);
	if (!planned)
		skip();
#endif
}

static void test_kernels(void **state)
{
	char cfg[8192];
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		struct rng r;
		rng_init(&r, 100 + k);
		for (uint64_t i = 0; i < (under_valgrind() ? 1 : 12); i++) {
			make(cfg, sizeof(cfg), kinds[k], &r, false);
			one_step(cfg, i);
		}
	}
}

/* Nothing flows back through [crop]: Darknet has no array for it. */
static void test_cropped(void **state)
{
	static const char net[] =
		"[net]\nbatch=4\nsubdivisions=1\nwidth=12\nheight=11\nchannels=3\n"
		"learning_rate=0.001\nmomentum=0.9\ndecay=0\n";
	static const char conv[] = "[convolutional]\nfilters=16\nsize=3\npad=1\n"
				   "batch_normalize=1\nactivation=leaky\n";
	static const char crop[] = "[crop]\ncrop_width=8\ncrop_height=9\nflip=1\n";
	static const char *const layers[][3] = {{crop, "", ""},
						{crop, conv, ""},
						{crop, "[dropout]\n", conv},
						{conv, crop, ""},
						{conv, crop, conv}};
	char cfg[8192];
	int planned = 0;
	for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
		snprintf(cfg, sizeof(cfg), "%s%s%s%s%s", net, layers[i][0], layers[i][1],
			 layers[i][2], tail);
		assert_true(is_valid(cfg));
		planned += one_step(cfg, i);
	}
	enough(planned, (int)ARRAY_LEN(layers));
}

static void test_random_cfgs(void **state)
{
	char cfg[8192];
	struct rng r;
	int planned = 0, strayed = 0;
	rng_init(&r, 1);
	/* valgrind takes a hundred times as long. */
	int cfgs = under_valgrind() ? RANDOM_CFGS / 40 : RANDOM_CFGS;
	for (int i = 0; i < cfgs; i++) {
		struct pair p;
		struct rng nudging;
		double most;
		make(cfg, sizeof(cfg), kinds[i % (int)ARRAY_LEN(kinds)], &r, true);
		if (pair_init(&p, cfg, false, false, (uint64_t)i))
			continue;
		planned++;
		rng_init(&nudging, (uint64_t)i);
		nudge(&p, &nudging);
		for (int step = 0; step < STEPS * p.ours->subdivisions; step++) {
			fill(&p, &r);
			double d = train_both(&p, step, &most);
			if (!(d <= most))
				print_error("loss differs by %g, at most %g\n%s\n", d, most, cfg);
			assert_true(d <= most);
		}
		compare_weights(&p);
		strayed += p.strayed > 0;
		pair_done(&p);
	}
	assert_true(strayed <= STRAYED_MAX);
	enough(planned, cfgs * 9 / 10);
}

/* ---- inference ---- */

static struct plan *infers(network *net, int threads)
{
	struct plan_conf conf = {.threads = threads};
	struct plan *p = NULL;
	struct err err = {0};
	int r = plan_new(net, &conf, &p, &err);
	assert_true(r == 0 || r == -EOPNOTSUPP);
	return p;
}

static network *twin_of(const struct pair *p)
{
	network *net = parse(p->cfg);
	copy_weights(net, p->theirs);
	copy_scales(net, p->theirs);
	memcpy(net->input, p->theirs->input, (size_t)(net->inputs * net->batch) * sizeof(float));
	for (int i = 0; i < net->n; i++) {
		layer *a = &net->layers[i], *b = &p->theirs->layers[i];
		for (int k = 0; a->batch_normalize && k < a->n; k++)
			a->rolling_variance[k] = b->rolling_variance[k] = 1;
	}
	return net;
}

static void predicts(const struct pair *p, struct plan *plan, const network *net,
		     const float *expected, double tolerance)
{
	const layer *out = &net->layers[net->n - 1];
	size_t n = (size_t)(out->outputs * out->batch);
	memset(out->output, 0xff, n * sizeof(*out->output)); /* no numbers: it has to write them */
	plan_predict(plan);
	double d = distance(expected, out->output, n, 1e-6);
	if (!(d <= tolerance))
		print_error("outputs differ by %g\n%s\n", d, p->cfg);
	assert_true(d <= tolerance);
}

/* Layers wide enough to be shared out in several pieces. */
static const char wide[] = "[net]\nbatch=3\nsubdivisions=1\nwidth=12\nheight=12\nchannels=3\n"
			   "learning_rate=0.001\nmomentum=0.9\ndecay=0\npolicy=constant\n"
			   "max_batches=1000\n"
			   "[convolutional]\nfilters=16\nsize=3\nstride=1\npad=1\n"
			   "batch_normalize=1\nactivation=leaky\n"
			   "[connected]\noutput=700\nactivation=leaky\n"
			   "[connected]\noutput=7\nactivation=linear\n[softmax]\ngroups=1\n";

static void test_wide(void **state)
{
	enough(one_step(wide, 1), 1);
}

/* As Darknet's; the same to the bit with every number of threads, whatever another network leaves
 * in the memory that they share, and with weights that have been away. */
static bool infer(const char *cfg, uint64_t seed, struct rng *r)
{
	struct pair p;
	double most;
	if (pair_init(&p, cfg, false, false, seed))
		return false;
	fill(&p, r);
	network *one = twin_of(&p), *three = twin_of(&p), *keeper = twin_of(&p);
	struct plan *first = infers(one, 1), *second = infers(three, 3);
	assert_true(first && second);
	const float *found = one->layers[one->n - 1].output;
	predicts(&p, first, one, network_predict(p.theirs, p.theirs->input), TOLERANCE);
	predicts(&p, second, three, found, 0);
	train_both(&p, (int)seed, &most);
	predicts(&p, second, three, found, 0);
	plan_rest(second);
	train_both(&p, (int)seed, &most);
	plan_weights_out(second);
	copy_weights(three, keeper);
	plan_weights_in(second, true);
	predicts(&p, second, three, found, 0);
	plan_free(first);
	plan_free(second);
	net_free(one);
	net_free(three);
	net_free(keeper);
	pair_done(&p);
	return true;
}

static void test_inference(void **state)
{
	char cfg[8192];
	struct rng r;
	rng_init(&r, 3);
	int cfgs = under_valgrind() ? 3 : 60, planned = infer(wide, 1, &r);
	for (int i = 0; i < cfgs; i++) {
		make(cfg, sizeof(cfg), kinds[i % (int)ARRAY_LEN(kinds)], &r, true);
		planned += infer(cfg, (uint64_t)i, &r);
	}
	enough(planned, (cfgs + 1) * 9 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernels),     cmocka_unit_test(test_cropped),
		cmocka_unit_test(test_wide),        cmocka_unit_test(test_inference),
		cmocka_unit_test(test_random_cfgs),
	};
	if (gemm_init(1, NULL) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
