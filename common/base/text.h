/* Text from outside on a person's terminal: it must not be able to forge a second line, or to speak
 * to the terminal. */
#pragma once

#include <stddef.h>
#include <string.h>

/* Length of the control character at s: C0, DEL, and C1 as UTF-8; 0: it is none. */
static inline size_t text_control(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;
	if (u[0] < 0x20 || u[0] == 0x7f)
		return 1;
	return u[0] == 0xc2 && u[1] >= 0x80 && u[1] <= 0x9f ? 2 : 0;
}

static inline void text_blank_controls(char *s)
{
	for (; *s; s++) {
		size_t n = text_control(s);
		if (n) {
			memset(s, ' ', n);
			s += n - 1;
		}
	}
}
