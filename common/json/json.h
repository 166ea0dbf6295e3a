/* JSON with limits; the only door to cJSON. `struct json` is a value in a tree; the root's owner
 * frees the whole tree. Not thread-safe.
 *
 * Getters look up member `key` of `obj`: 0 found and valid; -ENOENT absent; -EINVAL wrong type;
 * -ERANGE out of range; -E2BIG too long. err names the key, what was found, what was expected. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct json;

#define JSON_DEPTH_MAX 16 /* nesting that json_parse accepts */
#define JSON_INT_MAX   (((int64_t)1 << 53) - 1) /* beyond it a double loses integers */

/* Parses exactly one object or array of at most `max` bytes (RFC 8259), without NUL bytes (also
 * escaped), trailing text, duplicate members, invalid UTF-8 or numbers beyond a double; `text`
 * needs no NUL at its end. -EINVAL, -E2BIG, -ENOMEM; err names the byte where it can. */
int json_parse(const char *text, size_t len, size_t max, struct json **ret, struct err *err);
int json_parse_file(const char *path, size_t max, struct json **ret, struct err *err);
void json_free(struct json *j);
static inline void json_freep(struct json **j)
{
	json_free(*j);
}

/* A string of at most size-1 bytes into buf. */
int json_get_str(const struct json *obj, const char *key, char *buf, size_t size, struct err *err);
/* Borrowed, valid while the tree lives; at most max bytes. */
int json_get_text(const struct json *obj, const char *key, size_t max, const char **ret,
		  struct err *err);
int json_get_int(const struct json *obj, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct err *err);
int json_get_num(const struct json *obj, const char *key, double min, double max, double *ret,
		 struct err *err);
int json_get_bool(const struct json *obj, const char *key, bool *ret, struct err *err);
/* Borrowed. */
int json_get_obj(const struct json *obj, const char *key, const struct json **ret,
		 struct err *err);
/* Borrowed; at most `max` elements. */
int json_get_arr(const struct json *obj, const char *key, size_t max, const struct json **ret,
		 struct err *err);
bool json_has(const struct json *obj, const char *key);
bool json_is_obj(const struct json *j);

size_t json_len(const struct json *arr_or_obj);
/* Elements of an array or members of an object, in order; NULL past the end:
 *
 *   for (const struct json *e = json_first(arr); e; e = json_next(e))
 *
 * json_len() and json_at() walk there from the first one: not for loops. */
const struct json *json_first(const struct json *arr_or_obj);
const struct json *json_next(const struct json *e);
const struct json *json_at(const struct json *arr_or_obj, size_t i);
/* What such a one is; NULL allowed. */
const char *json_name(const struct json *e); /* as a member; NULL: an element */
const char *json_str(const struct json *e);  /* NULL when no string */
/* -ENOENT for NULL, -EINVAL wrong type, -ERANGE. */
int json_int(const struct json *e, int64_t min, int64_t max, int64_t *ret);
int json_num(const struct json *e, double *ret);

/* Building. Failures are remembered in the tree: json_print() then returns NULL. A failure is an
 * allocation that failed, a NULL child, or an integer beyond JSON_INT_MAX. Setters replace a
 * member of that name; a NULL obj or arr is left alone. Text that is not UTF-8 is stored with
 * U+FFFD in place of each bad byte, so that what is printed can always be parsed. */
struct json *json_new_obj(void);
struct json *json_new_arr(void);
void json_set_str(struct json *obj, const char *key, const char *value);
void json_set_int(struct json *obj, const char *key, int64_t value);
void json_set_num(struct json *obj, const char *key, double value); /* non-finite: null */
void json_set_bool(struct json *obj, const char *key, bool value);
void json_set_null(struct json *obj, const char *key);
/* Takes `child`, also when it fails. */
void json_set(struct json *obj, const char *key, struct json *child);
void json_push(struct json *arr, struct json *child); /* takes child */
void json_push_str(struct json *arr, const char *value);
void json_push_int(struct json *arr, int64_t value);
void json_push_num(struct json *arr, double value);
struct json *json_dup(const struct json *j); /* NULL when out of memory */

/* Compact text, caller frees; NULL on a remembered failure or when out of memory. Numbers are
 * printed so that parsing gives the same double. */
char *json_print(const struct json *j);
char *json_print_pretty(const struct json *j);
