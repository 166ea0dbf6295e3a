#include "common/engine/mask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* Low enough that exp() of its distance to any logit is 0, and still a number. */
#define LOGIT_LOW -1e30f

/* Darknet's, not in darknet.h. */
void forward_softmax_layer(const layer l, network net);
void backward_softmax_layer(const layer l, network net);

struct mask {
	layer *softmax, *rows;
	size_t n;      /* outputs */
	bool *outputs; /* left out */
	float *logits; /* batch x n: of those left out */
	float *kept;   /* their rows, one after the other; NULL: none are kept */
};

/* Darknet's functions get the layer and nothing else. A softmax has no use for this field, which is
 * of detection's layers, and nobody frees it. */
static struct mask *mask_of(const layer *l)
{
	return (void *)l->mask;
}

static void forward(const layer l, network net)
{
	const struct mask *m = mask_of(&l);
	size_t n = (size_t)l.batch * m->n;
	for (size_t i = 0; i < n; i++) {
		if (m->outputs[i % m->n]) {
			m->logits[i] = net.input[i];
			net.input[i] = LOGIT_LOW;
		}
	}
	forward_softmax_layer(l, net);
	/* The layer before computes its gradient from what it put out. */
	for (size_t i = 0; i < n; i++)
		if (m->outputs[i % m->n])
			net.input[i] = m->logits[i];
}

/* Whatever a cost layer makes of a probability of 0. */
static void backward(const layer l, network net)
{
	const struct mask *m = mask_of(&l);
	for (size_t i = 0; i < (size_t)l.batch * m->n; i++)
		if (m->outputs[i % m->n])
			l.delta[i] = 0;
	backward_softmax_layer(l, net);
}

static int find_softmax(network *net, layer **ret, struct err *err)
{
	layer *found = NULL;
	for (int i = 0; i < net->n; i++) {
		if (net->layers[i].type != SOFTMAX)
			continue;
		if (found || net->layers[i].groups != 1)
			return err_set(err, -EOPNOTSUPP,
				       "layer %d: found %s, expected one [softmax] with groups=1, "
				       "or absent outputs cannot be left out",
				       i, found ? "another [softmax]" : "a [softmax] in groups");
		found = &net->layers[i];
	}
	*ret = found;
	return found ? 0 : err_set(err, -EOPNOTSUPP, "found no [softmax]");
}

int mask_new(network *net, int rows, struct mask **ret, struct err *err)
{
	layer *softmax;
	int r = find_softmax(net, &softmax, err);
	if (r < 0)
		return r;
	struct mask *m = calloc(1, sizeof(*m));
	if (!m)
		return err_errno(err, -ENOMEM, "mask");
	m->softmax = softmax;
	m->rows = &net->layers[rows];
	m->n = (size_t)softmax->outputs;
	m->outputs = calloc(m->n, sizeof(*m->outputs));
	m->logits = calloc((size_t)softmax->batch * m->n, sizeof(*m->logits));
	if (!m->outputs || !m->logits) {
		mask_free(m);
		return err_errno(err, -ENOMEM, "mask");
	}
	softmax->mask = (void *)m;
	softmax->forward = forward;
	softmax->backward = backward;
	*ret = m;
	return 0;
}

void mask_free(struct mask *m)
{
	if (!m)
		return;
	if (m->softmax->mask == (void *)m)
		m->softmax->mask = NULL;
	free(m->outputs);
	free(m->logits);
	free(m->kept);
	free(m);
}

const bool *mask_outputs(const struct mask *m)
{
	return m->outputs;
}

void mask_set(struct mask *m, const bool *outputs)
{
	memcpy(m->outputs, outputs, m->n * sizeof(*outputs));
	free(TAKE_PTR(m->kept));
}

/* What a row is made of: so many floats each, an array of n rows. */
struct part {
	float *array;
	size_t floats;
};

enum { PARTS = 5 };

static size_t parts_of(const struct mask *m, struct part parts[PARTS])
{
	const layer *l = m->rows;
	size_t weights = l->type == CONNECTED ? (size_t)l->inputs : (size_t)l->nweights / m->n;
	const struct part all[PARTS] = {{l->biases, 1},
					{l->weights, weights},
					{l->scales, 1},
					{l->rolling_mean, 1},
					{l->rolling_variance, 1}};
	size_t n = l->batch_normalize ? PARTS : 2;
	memcpy(parts, all, n * sizeof(*all));
	return n;
}

/* Between the network and m->kept. */
static void copy_rows(struct mask *m, bool back)
{
	struct part parts[PARTS];
	size_t n = parts_of(m, parts);
	float *at = m->kept;
	for (size_t row = 0; row < m->n; row++) {
		for (size_t k = 0; m->outputs[row] && k < n; at += parts[k++].floats) {
			float *own = parts[k].array + row * parts[k].floats;
			memcpy(back ? own : at, back ? at : own, parts[k].floats * sizeof(*at));
		}
	}
}

int mask_keep_rows(struct mask *m, struct err *err)
{
	struct part parts[PARTS];
	size_t n = parts_of(m, parts), floats = 0, rows = 0;
	for (size_t k = 0; k < n; k++)
		floats += parts[k].floats;
	for (size_t row = 0; row < m->n; row++)
		rows += m->outputs[row];
	free(m->kept);
	m->kept = malloc((rows * floats + 1) * sizeof(*m->kept));
	if (!m->kept) {
		memset(m->outputs, 0, m->n * sizeof(*m->outputs));
		return err_errno(err, -ENOMEM, "mask of %zu outputs", rows);
	}
	copy_rows(m, false);
	return 0;
}

void mask_rows_back(struct mask *m)
{
	if (m->kept)
		copy_rows(m, true);
}
