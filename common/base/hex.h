/* Bytes as lower-case hex digits: two a byte, the higher half first. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes 2 * n digits and a zero. */
void hex_print(const uint8_t *bytes, size_t n, char *out);
/* Exactly 2 * n digits and a zero, or -EINVAL: then `out` is not to be used. */
int hex_parse(const char *text, uint8_t *out, size_t n);
