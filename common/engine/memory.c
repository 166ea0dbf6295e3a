/* Darknet: what its make_*_layer() and parse_network_cfg() allocate, within a hundredth. It makes
 * no difference to them whether a network will train.
 *
 * oneDNN: beside what Darknet maps, of which the plan leaves most untouched, there are the weights of
 * convolutions in the layouts of its kernels, the scratch of the largest one (Winograd's transforms
 * of weights, input and output; only in training) and its code. Measured, with two threads, of what
 * is said here: two fifths in deploy/models/faces.cfg and digits.cfg; of Darknet's package three
 * quarters in darknet.cfg (nearly all of it scratch) and .95 in alexnet.cfg (connected layers). */
#include "common/engine/memory.h"

#include <string.h>

#include "common/base/mem.h"

#define ONEDNN_CODE_BYTES ((uint64_t)8 * 1024 * 1024)
/* Floats of scratch, for each weight and for each float that goes in or comes out: 36 values stand
 * for 9 weights, twice, and for 16 places, rounded up at the edges. */
#define SCRATCH_WEIGHTS 8
#define SCRATCH_PLACES	3

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

/* What comes on top with oneDNN. */
static uint64_t onednn_floats(const struct model *m, uint32_t batch, bool training)
{
	uint64_t weights = 0, scratch = 0, inputs = (uint64_t)m->width * m->height * m->channels;
	for (size_t i = 0; i < m->n_tensors; i++) {
		const struct tensor *t = &m->tensors[i];
		const struct model_layer *l = &m->layers[t->layer];
		if (t->kind != TENSOR_WEIGHT || strcmp(l->type, "convolutional") != 0)
			continue;
		uint64_t in = t->layer ? m->layers[t->layer - 1].outputs : inputs;
		uint64_t most = SCRATCH_WEIGHTS * t->count +
				SCRATCH_PLACES * batch * (in + l->outputs);
		scratch = MAX_OF(scratch, most);
		weights += t->count;
	}
	return training ? 2 * weights + scratch : weights;
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
	if (engine == DNET_DARKNET)
		return darknet;
	return darknet + 4 * onednn_floats(m, batch, training) + ONEDNN_CODE_BYTES;
}
