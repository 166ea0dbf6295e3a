/* Weights files for a tiny model: what is taken has its exact size, only sound values, and the id
 * of its bytes. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "tests/fuzz/fuzz.h"

/* make_corpus.py has the layout: 2 biases, scales, means, variances and 18 weights of the
 * convolution, then 3 biases and 96 weights: 20 + 4 * 125 bytes. */
static const char cfg[] = "[net]\nwidth=4\nheight=4\nchannels=1\nbatch=1\nsubdivisions=1\n"
			  "[convolutional]\nbatch_normalize=1\nfilters=2\nsize=3\nstride=1\npad=1\n"
			  "activation=leaky\n"
			  "[connected]\noutput=3\nactivation=linear\n"
			  "[softmax]\n";
#define FLOATS      125
#define TENSORS_MAX 16

static const struct model *tiny(void)
{
	static struct model *m;
	struct err err = {0};
	if (!m && model_parse(cfg, strlen(cfg), "tiny.cfg", NULL, 0, &m, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	FUZZ_CHECK(m->n_floats == FLOATS && m->n_tensors <= TENSORS_MAX);
	return m;
}

static void check_values(const struct model *m, const uint8_t *data)
{
	float v[FLOATS];
	memcpy(v, data + WEIGHTS_HEADER_SIZE, sizeof(v));
	for (size_t i = 0; i < m->n_tensors; i++)
		for (uint64_t k = 0; k < m->tensors[i].count; k++) {
			float f = v[m->tensors[i].offset + k];
			FUZZ_CHECK(isfinite(f));
			FUZZ_CHECK(m->tensors[i].kind != TENSOR_VARIANCE || f >= 0);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct model *m = tiny();
	_cleanup_close_ int fd = -1;
	char path[FILE_PATH_MAX], id[HASH_SIZE], expected[HASH_SIZE];
	struct weights_header h;
	struct weights_stat stats[TENSORS_MAX];
	struct err err = {0};
	fuzz_file(data, size, &fd, path);
	if (weights_check(m, path, &h, id, &err) < 0) {
		FUZZ_CHECK(*err.text);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(size == m->file_bytes && h.seen <= WEIGHTS_SEEN_MAX);
	check_values(m, data);
	FUZZ_CHECK(hash_bytes(data, size, expected) == 0 && strcmp(id, expected) == 0);
	FUZZ_CHECK(weights_stats(m, path, stats, &err) == 0);
	for (size_t i = 0; i < m->n_tensors; i++)
		FUZZ_CHECK(stats[i].min <= stats[i].max && stats[i].zeros <= m->tensors[i].count);
	return 0;
}
