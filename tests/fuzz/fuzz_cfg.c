/* Darknet cfg files. What is taken has a layout without gaps, and the same identity again. */
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/model.h"
#include "tests/fuzz/fuzz.h"

static void check_layout(const struct model *m)
{
	uint64_t at = 0;
	FUZZ_CHECK(m->n_floats <= MODEL_FLOATS_MAX && m->n_layers <= MODEL_LAYERS_MAX);
	FUZZ_CHECK(m->file_bytes == WEIGHTS_HEADER_SIZE + 4 * m->n_floats);
	FUZZ_CHECK(hash_valid(m->id) && m->outputs > 0 && m->n_classes <= m->outputs);
	for (size_t i = 0; i < m->n_tensors; i++) {
		const struct tensor *t = &m->tensors[i];
		FUZZ_CHECK(t->offset == at && t->count > 0 && t->rows > 0);
		FUZZ_CHECK(t->count % t->rows == 0);
		FUZZ_CHECK(t->layer >= 0 && (size_t)t->layer < m->n_layers);
		at += t->count;
	}
	FUZZ_CHECK(at == m->n_floats);
}

/* What is asked of a model once it is read: an answer, or why there is none. */
static void check_uses(const struct model *m)
{
	struct err err = {0};
	FUZZ_CHECK(model_check_classifier(m, &err) == 0 || *err.text);
	err = (struct err){0};
	FUZZ_CHECK(model_check_absent(m, &err) == 0 || *err.text);
	err = (struct err){0};
	int layer = model_output_layer(m, &err);
	FUZZ_CHECK(layer < 0 ? *err.text : (size_t)layer < m->n_layers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"zero", "one"};
	_cleanup_(model_freep) struct model *m = NULL, *again = NULL, *named = NULL;
	struct err err = {0};
	if (model_parse((const char *)data, size, "fuzz.cfg", NULL, 0, &m, &err) < 0) {
		FUZZ_CHECK(*err.text && !m);
		return 0;
	}
	fuzz_taken++;
	check_layout(m);
	check_uses(m);
	FUZZ_CHECK(model_parse((const char *)data, size, "other.cfg", NULL, 0, &again, &err) == 0);
	FUZZ_CHECK(strcmp(m->id, again->id) == 0 && m->file_bytes == again->file_bytes);
	if (model_parse((const char *)data, size, "fuzz.cfg", names, 2, &named, &err) == 0) {
		check_layout(named);
		FUZZ_CHECK(strcmp(m->id, named->id) != 0); /* the class list is part of it */
		FUZZ_CHECK(m->file_bytes == named->file_bytes);
	}
	return 0;
}
