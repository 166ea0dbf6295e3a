/* Text in columns, as wide as what is in them; where a terminal is narrower, columns are left out.
 * No I/O but printing. Widths count characters of UTF-8, which fits names, numbers and most text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cli/terminal.h"

struct table;

struct table_column {
	const char *title;
	bool right; /* numbers */
	int rank;   /* 0: always there; of the others the highest goes first where it is narrow */
};

/* `columns` must outlive it. NULL: out of memory. */
struct table *table_new(const struct table_column *columns, size_t n);
void table_free(struct table *t);
static inline void table_freep(struct table **t)
{
	table_free(*t);
}
/* The next cell, row by row. Without memory it stays empty. */
void table_add(struct table *t, enum term_ink colour, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
size_t table_rows(const struct table *t);
/* Titles and rows, the first `max_rows`. width 0: no limit. */
void table_print(const struct table *t, FILE *f, int width, bool colour, size_t max_rows);
