/* What the tests of common/checkpoint share: a folder of their own, small models, weights. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/checkpoint/model.h"

#define NET "[net]\nbatch=4\nsubdivisions=2\nwidth=8\nheight=8\nchannels=3\n"
/* 4*3*3*3 + 4*4 for the convolution, 5*64 + 5 for the connected one. */
#define SMALL_CFG                                                                              \
	NET "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\npad=1\nactivation=leaky\n" \
	    "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=5\nactivation=linear\n[softmax]\n"

static inline int util_dir(void **state)
{
	char path[] = "/tmp/tasuki-test-XXXXXX";
	char *dir = mkdtemp(path);
	*state = dir ? strdup(dir) : NULL;
	return *state ? 0 : -1;
}

static inline int util_dir_done(void **state)
{
	file_remove(*state, NULL);
	free(*state);
	return 0;
}

static inline struct model *util_model(const char *cfg, size_t n_classes)
{
	static const char *const names[] = {"zero", "one", "two", "three", "four"};
	struct model *m = NULL;
	struct err err = {0};
	assert_true(n_classes <= ARRAY_LEN(names));
	if (model_parse(cfg, strlen(cfg), "test.cfg", names, n_classes, &m, &err) < 0)
		fail_msg("%s", err.text);
	return m;
}

/* A whole file as the caller will change it: header, then small values from the seed. */
static inline uint8_t *util_weights(const struct model *m, uint64_t seed, uint64_t seen)
{
	uint8_t *data = calloc(1, m->file_bytes);
	assert_non_null(data);
	data[4] = 2;
	memcpy(data + 12, &seen, 8);
	struct rng rng;
	rng_init(&rng, seed);
	for (size_t t = 0; t < m->n_tensors; t++)
		for (uint64_t i = 0; i < m->tensors[t].count; i++) {
			float f = (float)rng_between(&rng, -1, 1);
			if (m->tensors[t].kind == TENSOR_VARIANCE && f < 0)
				f = -f;
			memcpy(data + WEIGHTS_HEADER_SIZE + 4 * (m->tensors[t].offset + i), &f, 4);
		}
	return data;
}

static inline void util_write(const char *path, const void *data, size_t len)
{
	struct err err = {0};
	if (file_write(path, data, len, &err) < 0)
		fail_msg("%s", err.text);
}

static inline void util_write_weights(const struct model *m, const char *path, uint64_t seed,
				      uint64_t seen)
{
	_cleanup_free_ uint8_t *data = util_weights(m, seed, seen);
	util_write(path, data, m->file_bytes);
}
