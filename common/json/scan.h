/* Judges the bytes of a JSON text before a parser sees them; private to common/json. */
#pragma once

#include <stddef.h>

#include "common/base/err.h"

/* -EINVAL, with the byte named in err, for: anything but an object or array at the top, nesting
 * deeper than depth_max, NUL bytes and other raw control characters, an escaped NUL, bytes that
 * are no UTF-8, a number that RFC 8259 does not allow. Does not match brackets or commas: the
 * parser does. */
int json_scan(const char *text, size_t len, int depth_max, struct err *err);
/* A copy with U+FFFD in place of each byte that is no UTF-8; NULL when out of memory. */
char *json_clean_utf8(const char *s);
