#include "common/crypto/base64.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void base64_encode(const void *data, size_t len, char *ret)
{
	EVP_EncodeBlock((unsigned char *)ret, data, (int)len);
}

int base64_decode(const char *text, size_t len, void *ret, size_t max, size_t *ret_len)
{
	if (len == 0 || len % 4 || len > BASE64_LEN(max))
		return -EINVAL;
	size_t n = len / 4 * 3;
	_cleanup_free_ unsigned char *bytes = malloc(n);
	_cleanup_free_ char *again = malloc(len + 1);
	if (!bytes || !again)
		return -ENOMEM;
	if (EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len) != (int)n)
		return -EINVAL;
	n -= (size_t)(text[len - 1] == '=') + (size_t)(text[len - 2] == '=');
	/* OpenSSL's decoder lets blanks and stray bits pass. */
	base64_encode(bytes, n, again);
	if (n > max || memcmp(again, text, len) != 0)
		return -EINVAL;
	memcpy(ret, bytes, n);
	*ret_len = n;
	return 0;
}
