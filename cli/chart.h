/* A device's history as a chart: accuracy over time, origins apart, and what was in use. The scales
 * and the drawing in text are pure; chart_file() is the only door to cairo (chart_cairo.c;
 * chart_none.c without it). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/protocol/history.h"

/* Both axes. Times are in seconds since 1970, accuracies 0..1; low < high, from < to. */
struct chart_scale {
	double low, high, step; /* of accuracy: multiples of step */
	int64_t from, to, tick; /* of time; tick divides a day, or is whole days */
};

#define CHART_TICKS_MAX 8
/* `h` has at least one point. */
struct chart_scale chart_scale(const struct msg_history *h);
/* "14:05", "14:05:20" or "11-26", as `tick` needs it; UTC. */
#define CHART_LABEL_MAX 24
void chart_label(char buf[CHART_LABEL_MAX], int64_t at_s, int64_t tick);

static inline double chart_accuracy(const struct history_point *p)
{
	return (double)p->correct / (double)p->n;
}

/* One letter an origin, a capital where the checkpoint became active; dashes: what was in use. The
 * lines are at most `width` characters (40 at least), `height` of them for the plot. Caller frees;
 * NULL: out of memory. */
char *chart_text(const struct msg_history *h, int width, int height, bool colour);
char chart_letter(enum origin o);

/* Draws it into a file, replaced atomically; `title` above it. -EOPNOTSUPP: built without cairo. */
enum chart_form { CHART_PNG, CHART_SVG };
int chart_file(const struct msg_history *h, const char *title, enum chart_form form,
	       const char *path, struct err *err);
