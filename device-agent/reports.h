/* The reports a device has made: one JSON object a line, numbered without gaps, append-only, each
 * synced before it counts. The last REPORTS_KEEP are kept; a line that a crash left half-written
 * is taken off at open. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define REPORTS_KEEP  10000
#define REPORTS_SLACK 1000 /* beyond it before the file is rewritten without the oldest */

struct reports;

/* last_seq: the number that the state file knows to have been used; a file that ends earlier is
 * set aside as PATH.old, and numbering goes on after it. */
int reports_open(const char *path, int64_t last_seq, struct reports **ret, struct err *err);
void reports_free(struct reports *r);
int64_t reports_first(const struct reports *r); /* oldest kept; reports_last() + 1: none */
int64_t reports_last(const struct reports *r);
/* `text` is the report with number reports_last() + 1, without newlines. */
int reports_append(struct reports *r, const char *text, struct err *err);
/* Caller frees *ret_text. -ENOENT: not kept. */
int reports_read(struct reports *r, int64_t seq, char **ret_text, struct err *err);
