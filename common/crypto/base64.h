/* Base64 (RFC 4648, section 4), with padding. */
#pragma once

#include <stddef.h>

#define BASE64_LEN(bytes) (((bytes) + 2) / 3 * 4) /* characters, without the NUL */

/* Writes BASE64_LEN(len) characters and a NUL. */
void base64_encode(const void *data, size_t len, char *ret);
/* The one text that base64_encode() makes of some bytes, at most `max` of them; -EINVAL: another.
 */
int base64_decode(const char *text, size_t len, void *ret, size_t max, size_t *ret_len);
