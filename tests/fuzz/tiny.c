#include "tests/fuzz/tiny.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

#define CFG(filters, outputs)                                                          \
	"[net]\nwidth=4\nheight=4\nchannels=1\nbatch=1\nsubdivisions=1\n"              \
	"[convolutional]\nbatch_normalize=1\nfilters=" #filters "\nsize=3\nstride=1\n" \
	"pad=1\nactivation=leaky\n"                                                    \
	"[connected]\noutput=" #outputs "\nactivation=linear\n"                        \
	"[softmax]\n"

static struct model *made(const char *cfg, size_t floats)
{
	struct model *m = NULL;
	struct err err = {0};
	FUZZ_CHECK(model_parse(cfg, strlen(cfg), "tiny.cfg", NULL, 0, &m, &err) == 0);
	FUZZ_CHECK(m->n_floats == floats && m->n_tensors == TINY_TENSORS);
	return m;
}

/* 2 biases, scales, means, variances and 18 weights of the convolution, then 3 biases and 96
 * weights: 20 + 4 * 125 bytes. make_payloads.py has the same. */
const struct model *tiny_model(void)
{
	static struct model *m;
	if (!m)
		m = made(CFG(2, 3), TINY_FLOATS);
	return m;
}

/* 4 * 300 + 2700, 1 + 4800. */
const struct model *wide_model(void)
{
	static struct model *m;
	if (!m)
		m = made(CFG(300, 1), WIDE_FLOATS);
	return m;
}
