/* Darknet: what its make_*_layer() and parse_network_cfg() allocate, within a hundredth. It makes
 * no difference to them whether a network will train.
 *
 * oneDNN: the plan frees what it replaces, and takes memory for its kernels, their scratch, and
 * activations in two layouts where a layer runs Darknet's functions. Measured: from half of what
 * Darknet takes (deploy/models/digits.cfg) to 1.27 times as much (cifar.cfg of its package). */
#include "common/engine/memory.h"

#include <string.h>

#include "common/base/mem.h"

#define ONEDNN_PERCENT 130

/* Arrays of a layer that have one float for each of its outputs and images: output, delta, ... */
static uint64_t arrays(const struct model_layer *l)
{
	static const struct {
		const char *type;
		uint64_t n;
	} counts[] = {
		{"maxpool", 3},       {"softmax", 3},    {"logistic", 3},
		{"l2norm", 3},        {"dropout", 1},    {"crop", 1},
		{"normalization", 4}, {"activation", 4}, /* two, of pointers' size */
	};
	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		if (strcmp(l->type, counts[i].type) == 0)
			return counts[i].n;
	return 2;
}

/* Copies of a tensor: itself, its update, and what batch normalization and Adam keep beside it. */
static uint64_t copies(const struct model *m, const struct tensor *t)
{
	bool of_batch = t->kind == TENSOR_MEAN || t->kind == TENSOR_VARIANCE;
	return of_batch ? 3 : m->adam ? 4 : 2;
}

uint64_t network_bytes(const struct model *m, enum dnet_engine engine, uint32_t batch,
		       bool training)
{
	uint64_t inputs = (uint64_t)m->width * m->height * m->channels;
	uint64_t per_image = inputs + m->outputs, fixed = 0;
	for (size_t i = 0; i < m->n_layers; i++)
		per_image += arrays(&m->layers[i]) * m->layers[i].outputs;
	for (size_t i = 0; i < m->n_tensors; i++) {
		const struct tensor *t = &m->tensors[i];
		fixed += copies(m, t) * t->count;
		if (t->kind == TENSOR_SCALE) /* normalized before and after */
			per_image += 2 * (uint64_t)m->layers[t->layer].outputs;
	}
	uint64_t darknet = 4 * (fixed + batch * per_image) + m->workspace_bytes;
	return engine == DNET_DARKNET ? darknet : darknet * ONEDNN_PERCENT / 100;
}
