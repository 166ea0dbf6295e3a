/* A line of a worker, as one might write it whose network has taken it over: what a daemon makes of
 * it stays within its limits. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/worker_protocol.h"
#include "common/engine/worker_wire.h"
#include "tests/fuzz/fuzz.h"

static void check_ready(const struct json *result)
{
	struct worker_ready ready = {.threads = 77};
	struct err err = {0};
	if (worker_ready_parse(result, &ready, &err) < 0) {
		FUZZ_CHECK(*err.text && ready.threads == 77);
		return;
	}
	fuzz_taken++;
	FUZZ_CHECK(hash_valid(ready.model) && ready.classes > 0);
	FUZZ_CHECK(ready.threads >= 1 && ready.threads <= WORKER_THREADS_MAX);
	FUZZ_CHECK(strlen(ready.skipped_first) < sizeof(ready.skipped_first));
	for (int s = 0; s < SPLIT_N; s++) {
		FUZZ_CHECK(ready.n[s] <= DATASET_IMAGES_MAX);
		FUZZ_CHECK(!*ready.snapshot[s] || hash_valid(ready.snapshot[s]));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_freep) struct json *line = NULL;
	struct worker_line l = {0};
	struct err err = {0};
	if (json_parse((const char *)data, size, WORKER_LINE_MAX, &line, &err) < 0)
		return 0;
	if (worker_wire_line(line, &l, &err) < 0) {
		FUZZ_CHECK(*err.text);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(l.id > 0);
	if (l.kind == WORKER_LINE_OK)
		check_ready(l.result);
	else if (l.kind == WORKER_LINE_FAILED)
		FUZZ_CHECK(l.err.code < 0 && l.err.category < ERR_CATEGORY_N);
	else
		FUZZ_CHECK(l.progress.step >= 0 && l.progress.steps >= 0 &&
			   l.progress.images_per_second >= 0);
	return 0;
}
