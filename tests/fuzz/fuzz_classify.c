/* A line from a client of `tasuki classify --follow`: what is taken keeps its limits, and a frame
 * of a known length is known also where the rest is refused. */
#include <string.h>

#include "cli/classify_request.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct classify_request r;
	struct err err = {0};
	int code = classify_request_parse((const char *)data, size, &r, &err);
	FUZZ_CHECK(r.bytes >= 0 && r.bytes <= CLASSIFY_FRAME_MAX && r.id >= 0);
	if (code < 0) {
		FUZZ_CHECK(err.code == code && *err.text);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(size <= CLASSIFY_LINE_MAX && !r.lost);
	FUZZ_CHECK(!*r.path || (*r.path == '/' && !r.bytes));
	FUZZ_CHECK(!r.bytes || r.floats || r.width * r.height * r.channels == r.bytes);
	FUZZ_CHECK(r.has_watch || !r.watch);
	return 0;
}
