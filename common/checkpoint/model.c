/* From a cfg to a model: [net] here, the layers in layers.c, then the identity.
 *
 * Model identity. The canonical form is text, one item a line, each line ended by '\n':
 *
 *   tasuki-model 1
 *   input width=28 height=28 channels=1
 *   convolutional filters=32 size=3 stride=1 padding=1 groups=1 batch_normalize=1 activation=leaky
 *   ...                             one line a layer, in order
 *   classes 10
 *   class zero
 *   ...                             the public class list in the order of outputs
 *
 * A layer's line has its full type name and the keys that shape its weights or the function it
 * computes, in the order of layers.c, with defaults filled in: `pad` is resolved into `padding`,
 * indexes of layers are counted from the first, switches are 0 or 1, numbers that Darknet keeps
 * as float are printed from the float with %.9g. What only steers training (learning rate, batch,
 * policy, dropout's probability, crop's flip, cost's type) is left out, and so are comments,
 * blanks, key order and keys that Darknet does not know. The id is the sha256 of this text. */
#include "common/checkpoint/model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/cfg.h"
#include "common/checkpoint/layers.h"
#include "common/crypto/hash.h"

void model_free(struct model *m)
{
	if (!m)
		return;
	free(m->layers);
	free(m->tensors);
	free(m->canonical);
	free(m);
}

const char *tensor_kind_name(enum tensor_kind k)
{
	static const char *const names[] = {"bias", "scale", "mean", "variance", "weight"};
	return k < ARRAY_LEN(names) ? names[k] : "unknown";
}

/* ---- [net] ---- */

static int required(const struct cfg *c, const struct cfg_section *s, const char *key, int64_t max,
		    uint32_t *ret, struct err *err)
{
	int64_t v;
	if (!cfg_find(c, s, key))
		return cfg_err(c, s, NULL, err, -EINVAL,
			       "%s: found none, expected an integer from 1 to %lld", key,
			       (long long)max);
	int r = cfg_int(c, s, key, 1, 1, max, &v, err);
	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

/* policy=steps: as many steps as scales, or Darknet reads past the shorter list. */
static int check_steps(const struct cfg *c, const struct cfg_section *s, struct err *err)
{
	double list[CFG_LIST_MAX];
	size_t n_steps = 0, n_scales = 0;
	int r = cfg_list(c, s, "scales", list, &n_scales, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_scales; i++)
		if (list[i] < 0)
			return cfg_err(c, s, "scales", err, -EINVAL,
				       "scales: found %g, expected at least 0", list[i]);
	r = cfg_integers(c, s, "steps", list, &n_steps, err);
	if (r < 0)
		return r;
	if (n_steps == 0 || n_scales != n_steps)
		return cfg_err(c, s, "steps", err, -EINVAL,
			       "policy=steps: found %zu steps and %zu scales, expected as many of "
			       "both, at least one",
			       n_steps, n_scales);
	for (size_t i = 0; i < n_steps; i++)
		if (list[i] < 0 || list[i] > INT32_MAX || list[i] != (double)(int64_t)list[i])
			return cfg_err(c, s, "steps", err, -EINVAL,
				       "steps: found %g, expected integers from 0 to %d", list[i],
				       INT32_MAX);
	return 0;
}

static int check_policy(const struct cfg *c, const struct cfg_section *s, struct err *err)
{
	static const char *const names[] = {"constant", "step", "exp",   "sigmoid",
					    "steps",    "poly", "random"};
	const char *policy = cfg_str(c, s, "policy", "constant");
	int64_t v;
	size_t i = 0;
	while (i < ARRAY_LEN(names) && strcmp(policy, names[i]))
		i++;
	if (i == ARRAY_LEN(names))
		return cfg_err(
			c, s, "policy", err, -EINVAL,
			"policy: found '%.40s', expected constant, step, exp, sigmoid, steps, "
			"poly or random",
			policy);
	/* Darknet divides by step and by max_batches. */
	int r = cfg_int(c, s, "step", 1, strcmp(policy, "step") ? INT32_MIN : 1, INT32_MAX, &v,
			err);
	if (r == 0)
		r = cfg_int(c, s, "max_batches", 0, 0, INT32_MAX, &v, err);
	if (r < 0)
		return r;
	if (strcmp(policy, "poly") == 0 && v == 0)
		return cfg_err(c, s, "max_batches", err, -EINVAL,
			       "max_batches: found none, expected at least 1 with policy=poly");
	return strcmp(policy, "steps") ? 0 : check_steps(c, s, err);
}

/* What Darknet steps with: a rate below 0 climbs, a momentum of 1 never ends. */
static int check_rates(const struct cfg *c, const struct cfg_section *s, struct err *err)
{
	static const struct {
		const char *key;
		double fallback, end;
	} keys[] = {
		{"learning_rate", .001, INFINITY},
		{"momentum", .9, 1},
		{"decay", .0001, INFINITY},
		{"power", 4, INFINITY},
		{"scale", 1, INFINITY},
		{"gamma", 1, INFINITY},
	};
	double d;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		int r = cfg_num(c, s, keys[i].key, keys[i].fallback, &d, err);
		if (r < 0)
			return r;
		if (d < 0 || d >= keys[i].end)
			return cfg_err(c, s, keys[i].key, err, -EINVAL,
				       "%s: found %g, expected at least 0%s", keys[i].key, d,
				       isinf(keys[i].end) ? "" : " and less than 1");
	}
	return 0;
}

static int check_numbers(const struct cfg *c, const struct cfg_section *s, struct err *err)
{
	static const char *const integers[] = {"notruth", "random", "center", "max_crop",
					       "min_crop"};
	static const char *const numbers[] = {"B1",         "B2",       "eps",   "max_ratio",
					      "min_ratio",  "clip",     "angle", "aspect",
					      "saturation", "exposure", "hue"};
	int64_t i64;
	double d;
	int r = 0;
	for (size_t i = 0; i < ARRAY_LEN(integers) && r == 0; i++)
		r = cfg_int(c, s, integers[i], 0, INT32_MIN, INT32_MAX, &i64, err);
	for (size_t i = 0; i < ARRAY_LEN(numbers) && r == 0; i++)
		r = cfg_num(c, s, numbers[i], 0, &d, err);
	if (r == 0)
		r = cfg_int(c, s, "burn_in", 0, 0, INT32_MAX, &i64, err);
	return r < 0 ? r : check_rates(c, s, err);
}

static int read_net(const struct cfg *c, const struct cfg_section *s, struct model *m,
		    struct err *err)
{
	int64_t v;
	int r = required(c, s, "batch", MODEL_BATCH_MAX, &m->batch, err);
	if (r == 0)
		r = required(c, s, "subdivisions", MODEL_BATCH_MAX, &m->subdivisions, err);
	if (r == 0)
		r = required(c, s, "width", MODEL_DIM_MAX, &m->width, err);
	if (r == 0)
		r = required(c, s, "height", MODEL_DIM_MAX, &m->height, err);
	if (r == 0)
		r = required(c, s, "channels", MODEL_DIM_MAX, &m->channels, err);
	if (r < 0)
		return r;
	if (m->batch % m->subdivisions)
		return cfg_err(c, s, "subdivisions", err, -EINVAL,
			       "subdivisions: found %u, expected a divisor of batch, %u",
			       m->subdivisions, m->batch);
	uint64_t n = (uint64_t)m->width * m->height * m->channels;
	if (n * (m->batch / m->subdivisions) > INT32_MAX)
		return cfg_err(c, s, "width", err, -E2BIG,
			       "width: found %u x %u x %u, %u images at once; expected at most %d "
			       "numbers in all",
			       m->width, m->height, m->channels, m->batch / m->subdivisions,
			       INT32_MAX);
	r = cfg_int(c, s, "inputs", (int64_t)n, (int64_t)n, (int64_t)n, &v, err);
	if (r == 0)
		r = cfg_int(c, s, "time_steps", 1, 1, INT32_MAX, &v, err);
	if (r == 0 && v != 1)
		r = cfg_err(c, s, "time_steps", err, -EOPNOTSUPP,
			    "time_steps: recurrent networks are not supported");
	if (r == 0)
		r = check_numbers(c, s, err);
	if (r == 0)
		r = cfg_int(c, s, "adam", 0, INT32_MIN, INT32_MAX, &v, err);
	m->adam = r == 0 && v != 0;
	return r < 0 ? r : check_policy(c, s, err);
}

/* ---- layers ---- */

/* Darknet compares each loss with the one truth that there is, of the network's outputs. */
static int check_losses(const struct layer_ctx *x)
{
	const struct model *m = x->m;
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct model_layer *l = &m->layers[i];
		if (l->has_loss && l->outputs != m->outputs)
			return cfg_err(
				x->cfg, &x->cfg->sections[i + 1], NULL, x->err, -EINVAL,
				"found a loss of %u numbers, expected %u, as the network has "
				"outputs%s",
				l->outputs, m->outputs,
				strcmp(l->type, "softmax") == 0 ? ", or noloss=1" : "");
	}
	return 0;
}

/* [local] asks for a quarter of the workspace that it writes. */
static int check_workspace(const struct layer_ctx *x)
{
	uint64_t there = x->m->workspace_bytes;
	if (x->local_bytes > there)
		return cfg_err(x->cfg, x->local, NULL, x->err, -EOPNOTSUPP,
			       "Darknet would write %llu bytes into a workspace of %llu here; "
			       "expected a convolutional layer that needs as much",
			       (unsigned long long)x->local_bytes, (unsigned long long)there);
	return 0;
}

static int read_layers(struct layer_ctx *x)
{
	const struct cfg *c = x->cfg;
	struct model *m = x->m;
	m->layers = calloc(c->n_sections - 1, sizeof(*m->layers));
	if (!m->layers)
		return err_errno(x->err, -ENOMEM, "%s", c->name);
	x->w = m->width;
	x->h = m->height;
	x->c = m->channels;
	x->n = x->w * x->h * x->c;
	x->no_gradient = true;
	for (size_t i = 1; i < c->n_sections; i++) {
		struct model_layer *l = &m->layers[m->n_layers];
		x->s = &c->sections[i];
		int r = layer_read(x, l);
		if (r < 0)
			return r;
		m->n_layers++;
		if (strcmp(l->type, "cost"))
			m->outputs = l->outputs;
		x->w = l->out_w;
		x->h = l->out_h;
		x->c = l->out_c;
		x->n = l->outputs;
		x->no_gradient = l->no_gradient;
	}
	m->file_bytes = WEIGHTS_HEADER_SIZE + 4 * m->n_floats;
	m->workspace_bytes = MAX_OF(x->workspace_bytes, x->local_bytes / 4);
	int r = check_losses(x);
	return r < 0 ? r : check_workspace(x);
}

int model_check_classifier(const struct model *m, struct err *err)
{
	size_t n = m->n_layers;
	bool has_loss = false;
	while (n > 1 && strcmp(m->layers[n - 1].type, "cost") == 0)
		has_loss |= m->layers[--n].has_loss;
	const struct model_layer *last = &m->layers[n - 1];
	if (strcmp(last->type, "softmax"))
		return err_set(
			err, -EOPNOTSUPP,
			"%s:%d: [%s] is the last layer, expected a classifier that ends with "
			"[softmax], or [softmax] and [cost]",
			m->cfg_path, last->line, last->type);
	if (!last->has_loss && !has_loss)
		return err_set(
			err, -EOPNOTSUPP,
			"%s:%d: [softmax] noloss: nothing to train towards, expected none or "
			"0",
			m->cfg_path, last->line);
	return 0;
}

/* ---- identity ---- */

static int add_classes(FILE *canon, const char *const *names, size_t n, struct model *m,
		       struct err *err)
{
	if (n > MODEL_CLASSES_MAX)
		return err_set(err, -E2BIG, "class list: found %zu names, expected at most %d", n,
			       MODEL_CLASSES_MAX);
	if (n > m->outputs)
		return err_set(err, -EINVAL,
			       "%s: found %u outputs, expected at least %zu as in the class list",
			       m->cfg_path, m->outputs, n);
	m->n_classes = (uint32_t)n;
	fprintf(canon, "classes %zu\n", n);
	for (size_t i = 0; i < n; i++) {
		size_t len = strnlen(names[i], MODEL_CLASS_NAME_MAX + 1);
		bool good = len > 0 && len <= MODEL_CLASS_NAME_MAX;
		for (size_t k = 0; good && k < len; k++)
			good = (unsigned char)names[i][k] >= 0x20 && names[i][k] != 0x7f;
		if (!good)
			return err_set(
				err, -EINVAL,
				"class list: name %zu: expected 1 to %d bytes without control "
				"characters",
				i + 1, MODEL_CLASS_NAME_MAX);
		fprintf(canon, "class %s\n", names[i]);
	}
	return 0;
}

static int build(const struct cfg *c, const char *const *names, size_t n_names, FILE *canon,
		 struct model *m, struct err *err)
{
	const struct cfg_section *net = c->sections;
	if (c->n_sections == 0)
		return err_set(err, -EINVAL, "%s: found no section, expected [net]", c->name);
	if (strcmp(net->type, "net") && strcmp(net->type, "network"))
		return cfg_err(c, net, NULL, err, -EINVAL, "expected [net] as the first section");
	if (c->n_sections == 1)
		return cfg_err(c, net, NULL, err, -EINVAL, "found no layer, expected at least one");
	if (c->n_sections - 1 > MODEL_LAYERS_MAX)
		return err_set(err, -E2BIG, "%s: found %zu layers, expected at most %d", c->name,
			       c->n_sections - 1, MODEL_LAYERS_MAX);
	int r = 0;
	/* First: a network of another kind may lack keys of [net], too. */
	for (size_t i = 1; i < c->n_sections && r == 0; i++)
		r = layer_check_type(c, &c->sections[i], err);
	if (r == 0)
		r = read_net(c, net, m, err);
	if (r < 0)
		return r;
	fprintf(canon, "tasuki-model 1\ninput width=%u height=%u channels=%u\n", m->width,
		m->height, m->channels);
	struct layer_ctx x = {.cfg = c, .m = m, .canon = canon, .err = err};
	r = read_layers(&x);
	return r < 0 ? r : add_classes(canon, names, n_names, m, err);
}

int model_parse(const char *text, size_t len, const char *name, const char *const *class_names,
		size_t n_classes, struct model **ret, struct err *err)
{
	if (len > MODEL_CFG_MAX)
		return err_set(err, -E2BIG, "%s: found %zu bytes, expected at most %d", name, len,
			       MODEL_CFG_MAX);
	_cleanup_(cfg_freep) struct cfg *c = NULL;
	int r = cfg_parse(text, len, name, &c, err);
	if (r < 0)
		return r;
	_cleanup_(model_freep) struct model *m = calloc(1, sizeof(*m));
	if (!m)
		return err_errno(err, -ENOMEM, "%s", name);
	snprintf(m->cfg_path, sizeof(m->cfg_path), "%s", name);
	size_t canon_len = 0;
	FILE *canon = open_memstream(&m->canonical, &canon_len);
	if (!canon)
		return err_errno(err, -ENOMEM, "%s", name);
	r = build(c, class_names, n_classes, canon, m, err);
	bool failed = ferror(canon);
	if ((fclose(canon) != 0 || failed) && r == 0)
		r = err_errno(err, -ENOMEM, "%s", name);
	if (r == 0 && (r = hash_bytes(m->canonical, canon_len, m->id)) < 0)
		err_errno(err, r, "%s", name);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

int model_load(const char *cfg_path, const char *const *class_names, size_t n_classes,
	       struct model **ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int r = file_read(cfg_path, MODEL_CFG_MAX, &text, &len, err);
	if (r < 0)
		return r == -EFBIG ? -E2BIG : r;
	return model_parse(text, len, cfg_path, class_names, n_classes, ret, err);
}

static bool keeps_order(const char *type)
{
	static const char *const types[] = {"avgpool", "softmax",    "cost",
					    "dropout", "activation", "logistic"};
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return false;
}

int model_output_layer(const struct model *m, struct err *err)
{
	const struct tensor *last = m->n_tensors ? &m->tensors[m->n_tensors - 1] : NULL;
	/* (Of a local layer, biases and weights are not in one order.) */
	bool found = last && last->rows == m->outputs &&
		     strcmp(m->layers[last->layer].type, "local") != 0;
	for (size_t i = found ? (size_t)last->layer + 1 : 0; found && i < m->n_layers; i++)
		found = keeps_order(m->layers[i].type);
	return found ? last->layer
		     : err_set(err, -EOPNOTSUPP,
			       "%s: found no layer whose weights have one row for each of the %u "
			       "outputs",
			       m->cfg_path, m->outputs);
}

int model_check_absent(const struct model *m, struct err *err)
{
	size_t softmaxes = 0;
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct model_layer *l = &m->layers[i];
		if (strcmp(l->type, "softmax") != 0)
			continue;
		if (++softmaxes > 1 || l->in_groups)
			return err_set(err, -EOPNOTSUPP,
				       "%s:%d: found %s, expected one [softmax] with groups=1, or "
				       "absent_classes = train",
				       m->cfg_path, l->line,
				       l->in_groups ? "a [softmax] in groups"
						    : "another [softmax]");
	}
	int r = model_output_layer(m, err);
	if (r < 0)
		err_prefix(err, "absent_classes = mask");
	return r < 0 ? r : 0;
}
