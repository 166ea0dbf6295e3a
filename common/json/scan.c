#include "common/json/scan.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 character at s (RFC 3629: shortest form, no surrogates, up to U+10FFFF);
 * 0 when it is none. */
static size_t utf8_len(const char *s, size_t left)
{
	const unsigned char *u = (const unsigned char *)s;
	unsigned char lo = 0x80, hi = 0xbf;
	size_t n;
	if (u[0] < 0x80)
		return 1;
	if (u[0] >= 0xc2 && u[0] <= 0xdf)
		n = 2;
	else if (u[0] >= 0xe0 && u[0] <= 0xef)
		n = 3;
	else if (u[0] >= 0xf0 && u[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (u[0] == 0xe0)
		lo = 0xa0;
	else if (u[0] == 0xed)
		hi = 0x9f;
	else if (u[0] == 0xf0)
		lo = 0x90;
	else if (u[0] == 0xf4)
		hi = 0x8f;
	if (left < n || u[1] < lo || u[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (u[i] < 0x80 || u[i] > 0xbf)
			return 0;
	return n;
}

static size_t digits(const char *s, size_t left)
{
	size_t n = 0;
	while (n < left && s[n] >= '0' && s[n] <= '9')
		n++;
	return n;
}

/* Bytes of the number at s by the grammar of RFC 8259, section 6; 0 when it is none. */
static size_t number_len(const char *s, size_t left)
{
	size_t i = *s == '-' ? 1 : 0, n = digits(s + i, left - i);
	if (n == 0 || (n > 1 && s[i] == '0'))
		return 0;
	i += n;
	if (i < left && s[i] == '.') {
		n = digits(s + i + 1, left - i - 1);
		if (n == 0)
			return 0;
		i += 1 + n;
	}
	if (i < left && (s[i] == 'e' || s[i] == 'E')) {
		i++;
		if (i < left && (s[i] == '+' || s[i] == '-'))
			i++;
		n = digits(s + i, left - i);
		if (n == 0)
			return 0;
		i += n;
	}
	return i;
}

static int bad(struct err *err, size_t at, const char *found, const char *expected)
{
	return err_set(err, -EINVAL, "JSON: found %s at byte %zu, expected %s", found, at,
		       expected);
}

/* Four digits, not all 0: cJSON takes what is no digit for NUL, and NUL for the end. */
static bool unicode_escape(const char *s, size_t left)
{
	if (left < 4 || memcmp(s, "0000", 4) == 0)
		return false;
	for (int i = 0; i < 4; i++)
		if (!isxdigit((unsigned char)s[i]))
			return false;
	return true;
}

/* *i stands on the opening quote, and then on the closing one. */
static int scan_string(const char *s, size_t len, size_t *i, struct err *err)
{
	size_t at = *i + 1;
	while (at < len && s[at] != '"') {
		if ((unsigned char)s[at] < 0x20)
			return bad(err, at, "a control character", "it escaped");
		if (s[at] == '\\') {
			at++; /* what is escaped is judged as any other character */
			if (at == len)
				break;
			if (s[at] == 'u' && !unicode_escape(s + at + 1, len - at - 1))
				return bad(err, at - 1, "an escaped NUL or a malformed escape",
					   "\\u and four hexadecimal digits");
		}
		size_t n = utf8_len(s + at, len - at);
		if (n == 0)
			return bad(err, at, "a byte that is no UTF-8", "UTF-8");
		at += n;
	}
	if (at >= len)
		return bad(err, *i, "a string without end", "a closing quote");
	*i = at;
	return 0;
}

int json_scan(const char *s, size_t len, int depth_max, struct err *err)
{
	int depth = 0;
	bool begun = false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			continue;
		if (!begun && c != '{' && c != '[')
			return bad(err, i, "another character", "an object or array");
		begun = true;
		if (c < 0x20 || c > 0x7e)
			return bad(err, i, "a byte that JSON has only in strings", "JSON");
		if (c == '"') {
			int r = scan_string(s, len, &i, err);
			if (r < 0)
				return r;
		} else if (c == '{' || c == '[') {
			if (++depth > depth_max)
				return err_set(err, -EINVAL,
					       "JSON: found nesting deeper than %d at byte %zu, "
					       "expected at most that",
					       depth_max, i);
		} else if (c == '}' || c == ']') {
			depth--;
		} else if (c == '-' || (c >= '0' && c <= '9')) {
			size_t n = number_len(s + i, len - i);
			if (n == 0)
				return bad(err, i, "a malformed number", "a number");
			i += n - 1;
		}
	}
	if (!begun)
		return err_set(err, -EINVAL, "JSON: found nothing, expected an object or array");
	return 0;
}

char *json_clean_utf8(const char *s)
{
	size_t left = strlen(s);
	char *out = malloc(3 * left + 1), *p = out;
	if (!out)
		return NULL;
	while (left) {
		size_t n = utf8_len(s, left);
		const char *from = n ? s : "\xef\xbf\xbd";
		size_t put = n ? n : 3, used = n ? n : 1;
		memcpy(p, from, put);
		p += put;
		s += used;
		left -= used;
	}
	*p = 0;
	return out;
}
