/* Configuration files (INI, through inih). Every key is consumed by a getter; what is left over
 * at the end is refused, so that a typing error fails at start, with file and line.
 *
 * A getter fails with -EINVAL/-ERANGE/-ENOENT and err "FILE:LINE: [section] key: found ...,
 * expected ...". A key given twice, a key outside any section, a line that is neither and a file
 * over CONF_BYTES_MAX are refused at load. Sections may be empty, and stand there again.
 *
 * Lines: "[section]", "key = value", blank, or a comment from ';' or '#' at their start. A ';'
 * after a blank begins a comment too. A line is one value: there are no continuations. Not
 * thread-safe (inih's settings are global): load before any thread starts. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

#define CONF_BYTES_MAX    262144
#define CONF_KEYS_MAX     512
#define CONF_SECTIONS_MAX 64  /* of different names */
#define CONF_VALUE_MAX    900 /* bytes of a value, as are the following */
#define CONF_NAME_MAX     48  /* of a section's or key's name; inih cuts them at 49 */
#define CONF_LINE_MAX     1200

struct conf;

int conf_load(const char *path, struct conf **ret, struct err *err);
void conf_free(struct conf *c);

/* Refuses the first section that is not one of `names` (NULL-terminated); suggests the nearest.
 * To be called first: in a mistyped section every key is missing elsewhere. */
int conf_sections(const struct conf *c, const char *const *names, struct err *err);

/* The i-th key and its value as written, borrowed, in the file's order; false: there are no more. It
 * does not count as asked for. */
bool conf_at(const struct conf *c, size_t i, const char **ret_section, const char **ret_key,
	     const char **ret_value);
/* Also where it has no keys. */
bool conf_has_section(const struct conf *c, const char *name);

/* `fallback` NULL: the key is required, and must not be empty. */
int conf_str(struct conf *c, const char *section, const char *key, const char *fallback, char *buf,
	     size_t size, struct err *err);
/* As conf_str, but a relative path is taken from the configuration file's own folder. An empty
 * fallback ("") stays empty. */
int conf_file(struct conf *c, const char *section, const char *key, const char *fallback, char *buf,
	      size_t size, struct err *err);
/* A valid id (common/base/id.h). */
int conf_id(struct conf *c, const char *section, const char *key, const char *fallback, char *buf,
	    size_t size, struct err *err);
/* Required when `fallback` lies outside min..max. */
int conf_int(struct conf *c, const char *section, const char *key, int64_t min, int64_t max,
	     int64_t fallback, int64_t *ret, struct err *err);
int conf_num(struct conf *c, const char *section, const char *key, double min, double max,
	     double fallback, double *ret, struct err *err);
/* yes/no/true/false/on/off/1/0 */
int conf_bool(struct conf *c, const char *section, const char *key, bool fallback, bool *ret,
	      struct err *err);
/* One of `words` (NULL-terminated); *ret is its index. */
int conf_choice(struct conf *c, const char *section, const char *key, const char *const *words,
		const char *fallback, int *ret, struct err *err);
/* Refuses the first key that no getter asked for; suggests the nearest known key. */
int conf_finish(struct conf *c, struct err *err);
/* For a caller's own checks: err becomes "FILE:LINE: [section] key: " and the text; without the
 * line when the file does not have the key. Returns `code`. */
int conf_fail(const struct conf *c, const char *section, const char *key, int code, struct err *err,
	      const char *fmt, ...) __attribute__((format(printf, 6, 7)));
