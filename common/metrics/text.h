/* Figures in Prometheus's text form (version 0.0.4): a family is its name, what it is and its
 * samples. Names and units follow its conventions: base units (seconds, bytes, ratios from 0 to 1),
 * counters end with _total, and no label has more values than are named in the code. Not
 * thread-safe. */
#pragma once

#include <stdio.h>

struct metrics {
	FILE *to;
	const char *prefix; /* of each name: "tasuki_agent" */
	char name[128];     /* of the family at hand */
};

enum metric_type { METRIC_GAUGE, METRIC_COUNTER };

void metrics_family(struct metrics *m, const char *name, enum metric_type type, const char *help);
/* One of the family at hand; labels: names and values in turn, and NULL. Not a number: left out. */
void metrics_sample(struct metrics *m, double value, ...) __attribute__((sentinel));
/* A family of one without labels. */
void metrics_gauge(struct metrics *m, const char *name, double value, const char *help);
void metrics_counter(struct metrics *m, const char *name, double value, const char *help);
