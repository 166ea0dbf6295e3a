#include "common/metrics/text.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* Text of labels and of HELP: a backslash and a new line are written as two characters, in labels
 * quotes, too. */
static void put_escaped(FILE *to, const char *s, const char *special)
{
	for (; *s; s++) {
		if (*s == '\n') {
			fputs("\\n", to);
			continue;
		}
		if (strchr(special, *s))
			fputc('\\', to);
		fputc(*s, to);
	}
}

void metrics_family(struct metrics *m, const char *name, enum metric_type type, const char *help)
{
	const char *slash = *m->prefix ? "_" : "";
	snprintf(m->name, sizeof(m->name), "%s%s%s", m->prefix, slash, name);
	fprintf(m->to, "# HELP %s ", m->name);
	put_escaped(m->to, help, "\\");
	fprintf(m->to, "\n# TYPE %s %s\n", m->name, type == METRIC_COUNTER ? "counter" : "gauge");
}

void metrics_sample(struct metrics *m, double value, ...)
{
	const char *label, *before = "{";
	va_list ap;
	if (isnan(value))
		return;
	fputs(m->name, m->to);
	va_start(ap, value);
	while ((label = va_arg(ap, const char *))) {
		fprintf(m->to, "%s%s=\"", before, label);
		put_escaped(m->to, va_arg(ap, const char *), "\\\"");
		fputc('"', m->to);
		before = ",";
	}
	va_end(ap);
	fprintf(m->to, *before == ',' ? "} %.17g\n" : " %.17g\n", value);
}

void metrics_gauge(struct metrics *m, const char *name, double value, const char *help)
{
	metrics_family(m, name, METRIC_GAUGE, help);
	metrics_sample(m, value, NULL);
}

void metrics_counter(struct metrics *m, const char *name, double value, const char *help)
{
	metrics_family(m, name, METRIC_COUNTER, help);
	metrics_sample(m, value, NULL);
}
