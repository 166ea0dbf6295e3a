#include "dashboard/gateway/password.h"

#include <crypt.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"

static int read_hash(const char *path, char ret[CRYPT_OUTPUT_SIZE], struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, 4096, &text, &len, err);
	if (r < 0)
		return r;
	size_t n = strcspn(text, "\r\n");
	if (n >= CRYPT_OUTPUT_SIZE || strspn(text + n, "\r\n") != len - n)
		return err_set(
			err, -EINVAL,
			"%s: found more than one line, expected a hash as `mkpasswd` writes it",
			path);
	text[n] = 0;
	if (crypt_checksalt(text) != CRYPT_SALT_OK || strlen(text) < 40)
		return err_set(err, -EINVAL,
			       "%s: found no hash of a method that is good today, expected a line "
			       "as `mkpasswd` writes it",
			       path);
	memcpy(ret, text, n + 1);
	return 0;
}

int password_check_file(const char *path, struct err *err)
{
	char hash[CRYPT_OUTPUT_SIZE];
	return read_hash(path, hash, err);
}

/* As long for any two of one length; how long a hash is, its method says. */
static bool same(const char *a, const char *b)
{
	size_t n = strlen(a);
	volatile uint8_t differ = 0;
	if (n != strlen(b))
		return false;
	for (size_t i = 0; i < n; i++)
		differ = (uint8_t)(differ | (a[i] ^ b[i]));
	return !differ;
}

int password_verify(const char *path, const char *password, bool *ret, struct err *err)
{
	char hash[CRYPT_OUTPUT_SIZE];
	int r = read_hash(path, hash, err);
	if (r < 0)
		return r;
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *made = data ? crypt_r(password, hash, data) : NULL;
	if (made && made[0] != '*')
		*ret = same(hash, made);
	else
		r = err_errno(err, data ? -EINVAL : -ENOMEM, "%s: crypt", path);
	if (data)
		explicit_bzero(data, sizeof(*data));
	free(data);
	return r;
}
