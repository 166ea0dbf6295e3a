/* What worker.c and tasuki-worker tell each other, as JSON. worker_protocol.h. */
#pragma once

#include "common/engine/worker.h"

/* That the numbers of the configuration fit into JSON and into the program. */
int worker_wire_check(const struct worker_conf *conf, struct err *err);
/* Arguments of `open`. */
struct json *worker_wire_open(const struct worker_conf *conf);

struct worker_line {
	uint64_t id;
	enum { WORKER_LINE_PROGRESS, WORKER_LINE_OK, WORKER_LINE_FAILED } kind;
	struct worker_progress progress;
	const struct json *result; /* borrowed from the line */
	struct err err;
};
/* Judges a line of the worker. */
int worker_wire_line(const struct json *line, struct worker_line *ret, struct err *err);
