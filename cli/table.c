#include "cli/table.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define GAP         2
#define COLUMNS_MAX 16

struct cell {
	char *text;
	enum term_ink colour;
};

struct table {
	const struct table_column *columns;
	size_t n_columns, n_cells, room;
	struct cell *cells;
};

struct table *table_new(const struct table_column *columns, size_t n)
{
	struct table *t = n <= COLUMNS_MAX ? calloc(1, sizeof(*t)) : NULL;
	if (t) {
		t->columns = columns;
		t->n_columns = n;
	}
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

void table_add(struct table *t, enum term_ink colour, const char *fmt, ...)
{
	if (t->n_cells == t->room) {
		size_t room = t->room ? 2 * t->room : 64;
		struct cell *more = realloc(t->cells, room * sizeof(*more));
		if (!more)
			return;
		t->cells = more;
		t->room = room;
	}
	struct cell *c = &t->cells[t->n_cells++];
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&c->text, fmt, ap) < 0)
		c->text = NULL;
	va_end(ap);
	c->colour = colour;
}

size_t table_rows(const struct table *t)
{
	return t->n_cells / t->n_columns;
}

static const char *text_of(const struct table *t, size_t row, size_t column)
{
	const char *text = t->cells[row * t->n_columns + column].text;
	return text ? text : "";
}

static int characters(const char *s)
{
	int n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void measure(const struct table *t, size_t rows, int widths[COLUMNS_MAX])
{
	for (size_t c = 0; c < t->n_columns; c++) {
		widths[c] = characters(t->columns[c].title);
		for (size_t r = 0; r < rows; r++)
			widths[c] = MAX_OF(widths[c], characters(text_of(t, r, c)));
	}
}

static int total(const struct table *t, const int widths[COLUMNS_MAX])
{
	int sum = -GAP;
	for (size_t c = 0; c < t->n_columns; c++)
		sum += widths[c] < 0 ? 0 : widths[c] + GAP;
	return sum;
}

/* A column that is left out has the width -1. */
static void leave_out(const struct table *t, int width, int widths[COLUMNS_MAX])
{
	while (width && total(t, widths) > width) {
		size_t worst = t->n_columns;
		for (size_t c = 0; c < t->n_columns; c++)
			if (widths[c] >= 0 && t->columns[c].rank &&
			    (worst == t->n_columns || t->columns[c].rank > t->columns[worst].rank))
				worst = c;
		if (worst == t->n_columns)
			return;
		widths[worst] = -1;
	}
}

static void print_line(const struct table *t, FILE *f, bool colour, const int widths[COLUMNS_MAX],
		       size_t row, bool titles)
{
	int blanks = 0; /* owed: none are written at the end of a line */
	for (size_t c = 0; c < t->n_columns; c++) {
		if (widths[c] < 0)
			continue;
		const char *text = titles ? t->columns[c].title : text_of(t, row, c);
		enum term_ink k = titles ? TERM_PLAIN : t->cells[row * t->n_columns + c].colour;
		int pad = widths[c] - characters(text);
		if (t->columns[c].right)
			blanks += pad;
		if (*text) {
			fprintf(f, "%*s%s%s%s", blanks, "", colour ? term_inks[k] : "", text,
				colour && k ? TERM_RESET : "");
			blanks = 0;
		}
		blanks += (t->columns[c].right ? 0 : pad) + GAP;
	}
	fputc('\n', f);
}

void table_print(const struct table *t, FILE *f, int width, bool colour, size_t max_rows)
{
	int widths[COLUMNS_MAX];
	size_t rows = MIN_OF(table_rows(t), max_rows);
	measure(t, rows, widths);
	leave_out(t, width, widths);
	print_line(t, f, colour, widths, 0, true);
	for (size_t r = 0; r < rows; r++)
		print_line(t, f, colour, widths, r, false);
}
