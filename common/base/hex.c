#include "common/base/hex.h"

#include <errno.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

void hex_print(const uint8_t *bytes, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = 0;
}

int hex_parse(const char *text, uint8_t *out, size_t n)
{
	if (strnlen(text, 2 * n + 1) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const char *hi = strchr(digits, text[2 * i]), *lo = strchr(digits, text[2 * i + 1]);
		if (!hi || !lo)
			return -EINVAL;
		out[i] = (uint8_t)((hi - digits) << 4 | (lo - digits));
	}
	return 0;
}
