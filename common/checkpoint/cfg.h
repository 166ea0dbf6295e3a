/* A Darknet cfg as sections and options, with line numbers.
 *
 * Read as Darknet's own parser (read_cfg, read_option) reads it: blanks and tabs count nowhere,
 * not even inside a value; a line that then begins with '#' or ';' is a comment; of an option
 * that is there twice the first counts. What Darknet stumbles over or silently takes for
 * something else is refused: a carriage return, a NUL, an option before the first section, a line
 * without '=', a key without a value, a section header with text after its ']', a number with
 * text after it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define CFG_LINE_MAX     4096 /* bytes of a line */
#define CFG_SECTIONS_MAX 1025
#define CFG_OPTIONS_MAX  65536
#define CFG_LIST_MAX     64 /* numbers in one comma-separated value */

struct cfg_option {
	const char *key, *value;
	int line;
};

struct cfg_section {
	const char *type; /* without brackets */
	int line;
	size_t first, n; /* its options in cfg->options */
};

struct cfg {
	char name[1024]; /* of the file, for errors */
	char *text;      /* what the strings point into */
	struct cfg_section *sections;
	size_t n_sections;
	struct cfg_option *options;
	size_t n_options;
};

/* `name` stands for the file in errors. -EINVAL, -E2BIG, -ENOMEM. */
int cfg_parse(const char *text, size_t len, const char *name, struct cfg **ret, struct err *err);
void cfg_free(struct cfg *c);
static inline void cfg_freep(struct cfg **c)
{
	cfg_free(*c);
}

/* The first option of that name, NULL: none. */
const struct cfg_option *cfg_find(const struct cfg *c, const struct cfg_section *s,
				  const char *key);
/* The value, or def when there is none (def may be NULL). */
const char *cfg_str(const struct cfg *c, const struct cfg_section *s, const char *key,
		    const char *def);
/* An integer min..max; def, unchecked, when there is none. */
int cfg_int(const struct cfg *c, const struct cfg_section *s, const char *key, int64_t def,
	    int64_t min, int64_t max, int64_t *ret, struct err *err);
/* A finite number; def when there is none. */
int cfg_num(const struct cfg *c, const struct cfg_section *s, const char *key, double def,
	    double *ret, struct err *err);
/* Comma-separated finite numbers, at most CFG_LIST_MAX, into ret[]; 0 of them when absent. */
int cfg_list(const struct cfg *c, const struct cfg_section *s, const char *key, double *ret,
	     size_t *ret_n, struct err *err);
/* Likewise, but for what Darknet reads with atoi(), which takes 1e1 for 1: without point or
 * exponent. */
int cfg_integers(const struct cfg *c, const struct cfg_section *s, const char *key, double *ret,
		 size_t *ret_n, struct err *err);

/* err_set with "NAME:LINE: [type] " before the text; the line of the option `key` when there is
 * one, else of the section. */
int cfg_err(const struct cfg *c, const struct cfg_section *s, const char *key, struct err *err,
	    int code, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
