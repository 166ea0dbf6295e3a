#include "common/base/id.h"

#include <string.h>

#define ALPHANUMERIC "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static bool all_of(const char *s, const char *set, size_t min, size_t max)
{
	size_t n = strspn(s, set);
	return !s[n] && n >= min && n <= max;
}

bool id_valid(const char *s)
{
	return s && all_of(s, ALPHANUMERIC "._-", 1, ID_MAX) && strcmp(s, ".") != 0 &&
	       strcmp(s, "..") != 0;
}

bool hash_valid(const char *s)
{
	return s && all_of(s, "0123456789abcdef", HASH_HEX, HASH_HEX);
}

bool logid_valid(const char *s)
{
	return s && all_of(s, ALPHANUMERIC, LOGID_MIN, LOGID_MAX);
}

const char *hash_short(const char *hash, char out[13])
{
	size_t n = strnlen(hash, 12);
	memcpy(out, hash, n);
	out[n] = 0;
	return out;
}
