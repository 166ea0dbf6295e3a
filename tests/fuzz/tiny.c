#include "tests/fuzz/tiny.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

/* 2 biases, scales, means, variances and 18 weights of the convolution, then 3 biases and 96
 * weights: 20 + 4 * 125 bytes. make_payloads.py has the same. */
static const char cfg[] = "[net]\nwidth=4\nheight=4\nchannels=1\nbatch=1\nsubdivisions=1\n"
			  "[convolutional]\nbatch_normalize=1\nfilters=2\nsize=3\nstride=1\npad=1\n"
			  "activation=leaky\n"
			  "[connected]\noutput=3\nactivation=linear\n"
			  "[softmax]\n";

const struct model *tiny_model(void)
{
	static struct model *m;
	struct err err = {0};
	if (!m)
		FUZZ_CHECK(model_parse(cfg, strlen(cfg), "tiny.cfg", NULL, 0, &m, &err) == 0);
	FUZZ_CHECK(m->n_floats == TINY_FLOATS && m->n_tensors == TINY_TENSORS);
	return m;
}
