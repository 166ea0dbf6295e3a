/* Layer types of Darknet's that are not read here, and why not. */
#include "common/checkpoint/layers.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"

static const char detects[] = "it detects objects, and a classifier is expected";
static const char for_sequences[] = "it is for sequences, and its weights are not known here";
static const char deconvolves[] = "its weights are not known here";
static const char normalizes[] =
	"without a GPU Darknet crashes on it; expected batch_normalize=1 in the layer before";

static const struct {
	const char *type, *why;
} known[] = {
	{"batchnorm", normalizes}, {"deconvolutional", deconvolves},
	{"deconv", deconvolves},   {"rnn", for_sequences},
	{"gru", for_sequences},    {"lstm", for_sequences},
	{"crnn", for_sequences},   {"detection", detects},
	{"region", detects},       {"yolo", detects},
	{"iseg", detects},
};

int layer_refuse_type(const struct cfg *c, const struct cfg_section *s, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(s->type, known[i].type) == 0)
			return cfg_err(c, s, NULL, err, -EOPNOTSUPP, "layer type not supported: %s",
				       known[i].why);
	if (strcmp(s->type, "net") == 0 || strcmp(s->type, "network") == 0)
		return cfg_err(c, s, NULL, err, -EINVAL, "found a second time, expected a layer");
	return cfg_err(c, s, NULL, err, -EOPNOTSUPP,
		       "layer type not known, expected one of Darknet's");
}
