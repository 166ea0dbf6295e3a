/* Darknet keeps what a run needs in three places: the cfg (read from a file name, here a memfd),
 * net->seen (which both names the images seen in a saved file and drives the learning rate;
 * here they are two numbers, and seen is lent to the file while it is written) and rand(). */
#include "common/engine/network.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <darknet.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/engine/mask.h"
#include "common/engine/plan/plan.h"
#include "common/engine/plan/statistics.h"

struct dnet {
	network *net;
	struct plan *plan; /* NULL: Darknet's own functions compute */
	struct mask *mask; /* NULL: nothing was ever left out */
	bool bf16, training;
	const struct model *model;
	float rate;   /* of the cfg */
	float *input; /* Darknet's own; net->input may point elsewhere (dnet_input_at) */
};

/* For all cfgs, one after the other. */
static int cfg_file = -1;

int dnet_prepare(struct err *err)
{
	if (cfg_file < 0)
		cfg_file = memfd_create("cfg", MFD_CLOEXEC);
	return cfg_file < 0 ? err_errno(err, -errno, "memfd_create") : 0;
}

void dnet_seed(uint64_t seed)
{
	srand((unsigned)(seed ^ seed >> 32));
}

/* glibc's rand() and random() are one. */
void dnet_random_begin(struct dnet_random *r, uint64_t seed)
{
	r->before = initstate((unsigned)(seed ^ seed >> 32), r->state, sizeof(r->state));
}

void dnet_random_end(struct dnet_random *r)
{
	setstate(r->before);
}

/* rand_normal() keeps every other number for its next call, whatever the seed is by then. One that
 * is kept shows by not drawing from rand(): use it up. */
static void forget_spare_normal(void)
{
	srand(1);
	int first = rand();
	srand(1);
	rand_normal();
	if (rand() != first)
		rand_normal();
}

/* The cfg into the file that Darknet then opens by name, with batch and subdivisions put before the
 * cfg's own: Darknet takes the first of a key. */
static int write_cfg(const char *cfg, size_t len, uint32_t batch, struct err *err)
{
	size_t head = 0;
	while (head < len) { /* past the line "[net]", the first with a '[' */
		const char *end = memchr(cfg + head, '\n', len - head);
		size_t next = end ? (size_t)(end - cfg) + 1 : len;
		size_t at = head;
		while (at < next && (cfg[at] == ' ' || cfg[at] == '\t'))
			at++;
		head = next;
		if (at < next && cfg[at] == '[')
			break;
	}
	char own[64] = "";
	if (batch)
		snprintf(own, sizeof(own), "\nbatch=%u\nsubdivisions=1\n", batch);
	int r = dnet_prepare(err);
	if (r < 0)
		return r;
	if (ftruncate(cfg_file, 0) < 0 || lseek(cfg_file, 0, SEEK_SET) < 0)
		return err_errno(err, -errno, "cfg");
	r = file_write_all(cfg_file, cfg, head);
	if (r == 0)
		r = file_write_all(cfg_file, own, strlen(own));
	if (r == 0)
		r = file_write_all(cfg_file, cfg + head, len - head);
	if (r == 0)
		r = file_write_all(cfg_file, "\n", 1);
	return r < 0 ? err_errno(err, r, "cfg") : 0;
}

static int check_shape(const struct dnet *d, struct err *err)
{
	const network *net = d->net;
	const struct model *m = d->model;
	const layer out = get_network_output_layer(d->net);
	if (out.type != SOFTMAX)
		return err_set(err, -EOPNOTSUPP,
			       "%s: the last layer is not [softmax]: expected a "
			       "classifier that ends with [softmax], or [softmax] and [cost]",
			       m->cfg_path);
	if (net->w != (int)m->width || net->h != (int)m->height || net->c != (int)m->channels ||
	    net->outputs != (int)m->outputs || net->truths != net->outputs || net->batch < 1)
		return err_set(err, -EINVAL,
			       "%s: Darknet reads it as %dx%dx%d, %d outputs, batch %d; expected "
			       "%ux%ux%u, %u outputs",
			       m->cfg_path, net->w, net->h, net->c, net->outputs, net->batch,
			       m->width, m->height, m->channels, m->outputs);
	return 0;
}

bool dnet_has_bf16(void)
{
	return plan_has_bf16();
}

/* In place of Darknet's functions, if they are not asked for. */
static int make_plan(struct dnet *d, const struct dnet_conf *conf, struct err *err)
{
	struct err e = {0};
	if (conf->engine == DNET_DARKNET) {
		if (conf->precision == DNET_BF16)
			return err_set(err, -EOPNOTSUPP,
				       "precision: found 'bf16', but the engine 'darknet' computes "
				       "in float32 only");
		return 0;
	}
	if (conf->precision == DNET_BF16 && !plan_has_bf16())
		return err_set(err, -EOPNOTSUPP,
			       "precision: found 'bf16', but this CPU has no bfloat16 arithmetic");
	struct plan_conf c = {.threads = conf->threads, .training = conf->training};
	c.bf16 = conf->precision == DNET_BF16;
	int r = plan_new(d->net, &c, &d->plan, &e);
	if (r == -EOPNOTSUPP && conf->engine == DNET_AUTO)
		return 0;
	if (r < 0)
		return err_set(err, r, "engine: found 'onednn', but %s", e.text);
	d->bf16 = c.bf16;
	return 0;
}

/* A network's arrays are large, and many of them are never used or dropped again: by a plan, which
 * has others, and with the network. malloc() would keep those below a limit that grows up to 32 MB
 * in one piece, zeroed by hand, for the next; while a network is made, each is mapped by itself
 * instead. It costs nothing before it is used and goes back at once. Later, what is allocated for
 * each batch is to be at hand. */
#define MAKING_MAPPED_BYTES  (64 * 1024)
#define RUNNING_MAPPED_BYTES (1024 * 1024)
#define KEPT_BYTES           (2 * 1024 * 1024)

static void set_allocator(int mapped_bytes)
{
	mallopt(M_MMAP_THRESHOLD, mapped_bytes);
	mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}

int dnet_new(const struct model *m, const char *cfg, size_t len, const struct dnet_conf *conf,
	     struct dnet **ret, struct err *err)
{
	uint32_t batch = conf->batch;
	int r = write_cfg(cfg, len, batch, err);
	if (r < 0)
		return r;
	struct dnet *d = calloc(1, sizeof(*d));
	if (!d)
		return err_errno(err, -ENOMEM, "network");
	char name[32];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", cfg_file);
	d->model = m;
	set_allocator(MAKING_MAPPED_BYTES);
	d->training = conf->training;
	forget_spare_normal();
	dnet_seed(conf->seed);
	errno = 0;
	d->net = parse_network_cfg(name);
	d->rate = d->net->learning_rate;
	d->input = d->net->input;
	r = check_shape(d, err);
	if (r == 0 && batch && d->net->batch != (int)batch)
		r = err_set(err, -EINVAL, "%s: Darknet takes batch %d, expected %u", m->cfg_path,
			    d->net->batch, batch);
	if (r == 0)
		r = make_plan(d, conf, err);
	set_allocator(RUNNING_MAPPED_BYTES);
	if (r < 0) {
		dnet_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void dnet_free(struct dnet *d)
{
	if (!d)
		return;
	plan_free(d->plan);
	mask_free(d->mask);
	if (d->net) {
		/* free_network() leaves these. */
		free(d->net->workspace);
		free(d->net->cost);
		free(d->net->seen);
		free(d->net->t);
		d->net->input = d->input;
		free_network(d->net);
	}
	free(d);
}

bool dnet_uses_gemm(const struct dnet *d)
{
	return !d->plan || plan_multiplies_elsewhere(d->plan);
}

void dnet_rest(struct dnet *d)
{
	if (d->plan)
		plan_rest(d->plan);
}

const char *dnet_engine_name(const struct dnet *d)
{
	return d->plan ? "onednn" : "darknet";
}

const char *dnet_precision_name(const struct dnet *d)
{
	return d->bf16 ? "bf16" : "f32";
}

uint32_t dnet_batch(const struct dnet *d)
{
	return (uint32_t)d->net->batch;
}

uint32_t dnet_step_images(const struct dnet *d)
{
	return (uint32_t)(d->net->batch * d->net->subdivisions);
}

/* The file is held open, so that what is loaded is what was checked, also when another process
 * replaces `path` in between. */
int dnet_load(struct dnet *d, const char *path, uint64_t *ret_seen, char id[HASH_SIZE],
	      struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	char name[32];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	struct weights_header h;
	struct err e = {0};
	int r = weights_check(d->model, name, &h, id, &e);
	if (r < 0) {
		size_t skip = strncmp(e.text, name, strlen(name)) == 0 ? strlen(name) : 0;
		return err_set(err, r, "%s%s%s", path, skip ? "" : ": ", e.text + skip);
	}
	if (d->plan)
		plan_weights_out(d->plan);
	load_weights(d->net, name);
	if (d->plan)
		plan_weights_in(d->plan, true);
	*ret_seen = h.seen;
	return 0;
}

/* What the disk says about a file that came out short: Darknet does not look. */
static int short_file(int fd, const char *path, uint64_t found, uint64_t expected, struct err *err)
{
	int r = posix_fallocate(fd, 0, (off_t)expected);
	return err_errno(err, r ? -r : -EIO, "%s: wrote %llu of %llu bytes", path,
			 (unsigned long long)found, (unsigned long long)expected);
}

static int check_saved(struct dnet *d, int fd, const char *tmp, const char *path,
		       char id[HASH_SIZE], struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	if ((uint64_t)st.st_size < d->model->file_bytes)
		return short_file(fd, path, (uint64_t)st.st_size, d->model->file_bytes, err);
	if (fsync(fd) < 0)
		return err_errno(err, -errno, "%s", path);
	struct err e = {0};
	int r = weights_check(d->model, tmp, NULL, id, &e);
	return r < 0 ? err_set(err, r == -EBADMSG ? -EDOM : r,
			       "%s: what training made is not usable: %s", path, e.text)
		     : 0;
}

static int put_rows_back(struct dnet *d, struct err *err);

int dnet_save(struct dnet *d, const char *path, uint64_t seen, char id[HASH_SIZE], struct err *err)
{
	char tmp[FILE_PATH_MAX];
	int r = file_path(tmp, sizeof(tmp), "%s.tmp", path);
	if (r < 0)
		return err_errno(err, r, "%s", path);
	r = put_rows_back(d, err);
	if (r < 0)
		return r;
	/* Opened here first, for an error that can be answered: Darknet would exit. */
	_cleanup_close_ int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_errno(err, -errno, "%s", tmp);
	size_t schedule = *d->net->seen;
	*d->net->seen = seen;
	if (d->plan)
		plan_weights_out(d->plan);
	save_weights(d->net, tmp);
	if (d->plan)
		plan_weights_in(d->plan, false);
	*d->net->seen = schedule;
	r = check_saved(d, fd, tmp, path, id, err);
	if (r == 0)
		r = file_rename(tmp, path, err);
	if (r < 0)
		unlink(tmp);
	return r;
}

float *dnet_input(struct dnet *d, uint32_t slot)
{
	d->net->input = d->input;
	return d->input + (size_t)slot * (size_t)d->net->inputs;
}

void dnet_input_at(struct dnet *d, float *pixels)
{
	d->net->input = pixels;
}

void dnet_label(struct dnet *d, uint32_t slot, uint32_t label)
{
	float *truth = d->net->truth + (size_t)slot * (size_t)d->net->truths;
	memset(truth, 0, (size_t)d->net->truths * sizeof(*truth));
	truth[label] = 1;
}

void dnet_schedule(struct dnet *d, uint64_t seen)
{
	/* Darknet updates the weights when seen is a multiple of a step: never start within one. */
	*d->net->seen = seen - seen % dnet_step_images(d);
}

void dnet_rate_scale(struct dnet *d, double scale)
{
	d->net->learning_rate = (float)((double)d->rate * scale);
}

/* Of nothing but minus infinity, or what is no number, there is no maximum: -1 is its place, and
 * Darknet's backward pass then writes in front of its arrays. What follows may hide it from the
 * loss: relu makes 0 of what Darknet puts there. */
static bool maxima_have_places(const network *net)
{
	for (int i = 0; i < net->n; i++) {
		const layer *l = &net->layers[i];
		for (int k = 0; l->type == MAXPOOL && k < l->outputs * l->batch; k++)
			if (l->indexes[k] < 0)
				return false;
	}
	return true;
}

/* train_network_datum(), but for what is no number. */
static float train_datum(network *net)
{
	*net->seen += (size_t)net->batch;
	net->train = 1;
	forward_network(net);
	if (!isfinite(*net->cost))
		return *net->cost;
	if (!maxima_have_places(net))
		return NAN;
	backward_network(net);
	if (*net->seen / (size_t)net->batch % (size_t)net->subdivisions == 0)
		update_network(net);
	return *net->cost;
}

/* policy=poly goes down to 0 at max_batches, where Darknet's own training ends. Beyond it the
 * formula goes up again, or gives what is no number. */
static bool schedule_is_over(const network *net)
{
	size_t steps = (*net->seen + (size_t)net->batch) /
		       ((size_t)net->batch * (size_t)net->subdivisions);
	return net->policy == POLY && net->power > 0 && steps > (size_t)net->max_batches &&
	       steps >= (size_t)net->burn_in;
}

/* Where Darknet keeps the momentum of a layer's biases, scales and weights. */
struct updates {
	float *arrays[3];
	size_t counts[3];
};

static struct updates updates_of(const layer *l)
{
	size_t places = (size_t)l->out_w * (size_t)l->out_h, n = (size_t)l->n, weights = 0;
	if (l->type == CONVOLUTIONAL) {
		weights = (size_t)l->nweights;
	} else if (l->type == CONNECTED) {
		n = (size_t)l->outputs;
		weights = n * (size_t)l->inputs;
	} else if (l->type == LOCAL) {
		weights = (size_t)l->size * (size_t)l->size * (size_t)l->c * n * places;
		n *= places;
	} else {
		n = 0;
	}
	return (struct updates){{l->bias_updates, l->scale_updates, l->weight_updates},
				{n, l->scale_updates ? n : 0, weights}};
}

/* Both NULL: counts only. */
static size_t exchange_momentum(const struct dnet *d, float *out, const float *in)
{
	size_t at = 0;
	for (int i = 0; i < d->net->n; i++) {
		struct updates u = updates_of(&d->net->layers[i]);
		for (int k = 0; k < 3; at += u.counts[k++]) {
			size_t bytes = u.counts[k] * sizeof(float);
			if (!bytes || (!out && !in) ||
			    (k == 2 && d->plan &&
			     plan_momentum(d->plan, i, out ? out + at : NULL, in ? in + at : NULL)))
				continue;
			if (out)
				memcpy(out + at, u.arrays[k], bytes);
			else
				memcpy(u.arrays[k], in + at, bytes);
		}
	}
	return at;
}

size_t dnet_momentum_floats(const struct dnet *d)
{
	return exchange_momentum(d, NULL, NULL);
}

void dnet_momentum_get(struct dnet *d, float *out)
{
	exchange_momentum(d, out, NULL);
}

void dnet_momentum_set(struct dnet *d, const float *in)
{
	exchange_momentum(d, NULL, in);
}

/* ---- outputs left out ---- */

static bool any_left_out(const struct dnet *d)
{
	size_t i = 0, n = d->model->outputs;
	while (d->mask && i < n && !mask_outputs(d->mask)[i])
		i++;
	return d->mask && i < n;
}

/* Of the layer with the outputs' rows, which is the last in `all`. */
static void forget_momentum(const struct dnet *d, float *all, size_t floats)
{
	const struct updates u = updates_of(&d->net->layers[model_output_layer(d->model, NULL)]);
	float *at = all + floats - u.counts[0] - u.counts[1] - u.counts[2];
	for (int k = 0; k < 3; at += u.counts[k++]) {
		size_t row = u.counts[k] / d->model->outputs;
		for (size_t i = 0; i < d->model->outputs; i++)
			if (mask_outputs(d->mask)[i])
				memset(at + i * row, 0, row * sizeof(*at));
	}
}

static int put_rows_back(struct dnet *d, struct err *err)
{
	if (!d->training || !any_left_out(d))
		return 0;
	size_t floats = dnet_momentum_floats(d);
	_cleanup_free_ float *momentum = malloc(floats * sizeof(*momentum));
	if (!momentum)
		return err_errno(err, -ENOMEM, "rows of absent outputs");
	dnet_momentum_get(d, momentum);
	if (d->plan)
		plan_weights_out(d->plan);
	mask_rows_back(d->mask);
	if (d->plan)
		plan_weights_in(d->plan, true);
	forget_momentum(d, momentum, floats);
	dnet_momentum_set(d, momentum);
	return 0;
}

static int keep_rows(struct dnet *d, struct err *err)
{
	if (!d->training || !any_left_out(d))
		return 0;
	if (d->plan)
		plan_weights_out(d->plan);
	int r = mask_keep_rows(d->mask, err);
	if (d->plan)
		plan_weights_in(d->plan, false);
	return r;
}

int dnet_leave_out(struct dnet *d, const bool *outputs, struct err *err)
{
	int r = model_output_layer(d->model, err);
	if (r < 0)
		return r;
	if (!d->mask && (r = mask_new(d->net, r, &d->mask, err)) < 0) {
		err_prefix(err, "%s", d->model->cfg_path);
		return r;
	}
	if (memcmp(mask_outputs(d->mask), outputs, d->model->outputs * sizeof(*outputs)) == 0)
		return 0;
	r = put_rows_back(d, err);
	if (r < 0)
		return r;
	mask_set(d->mask, outputs);
	return keep_rows(d, err);
}

bool dnet_settles(const struct dnet *d)
{
	return d->plan && plan_has_statistics(d->plan);
}

void dnet_settle(struct dnet *d, unsigned batch)
{
	network *net = d->net;
	errno = 0;
	if (d->plan) {
		plan_settle(d->plan, batch);
		return;
	}
	for (int i = 0; i < net->n; i++)
		if (net->layers[i].batch_normalize)
			statistics_lend(&net->layers[i]);
	net->train = 1;
	forward_network(net);
	for (int i = 0; i < net->n; i++)
		if (net->layers[i].batch_normalize)
			statistics_take(&net->layers[i], batch);
}

bool dnet_train(struct dnet *d, double *ret_loss)
{
	network *net = d->net;
	float rate = net->learning_rate;
	learning_rate_policy policy = net->policy;
	errno = 0; /* see worker_main.c, on_fault() */
	if (schedule_is_over(net)) {
		net->learning_rate = 0;
		net->policy = CONSTANT;
	}
	float sum = d->plan ? plan_train(d->plan) : train_datum(net);
	net->learning_rate = rate;
	net->policy = policy;
	*ret_loss = (double)sum / (double)d->net->batch;
	return *d->net->seen % dnet_step_images(d) == 0;
}

const float *dnet_predict(struct dnet *d)
{
	errno = 0;
	if (!d->plan)
		return network_predict(d->net, d->net->input);
	plan_predict(d->plan);
	return get_network_output_layer(d->net).output;
}
