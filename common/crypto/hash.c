#include "common/crypto/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/hex.h"
#include "common/base/mem.h"

#define READ_BYTES 65536

struct hash {
	EVP_MD_CTX *ctx;
};

int hash_new(struct hash **ret)
{
	struct hash *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx || !EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL)) {
		hash_free(h);
		return -ENOMEM;
	}
	*ret = h;
	return 0;
}

void hash_free(struct hash *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

int hash_update(struct hash *h, const void *data, size_t len)
{
	return EVP_DigestUpdate(h->ctx, data, len) ? 0 : -EIO;
}

int hash_hex(struct hash *h, char out[HASH_SIZE])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	if (!EVP_DigestFinal_ex(h->ctx, md, NULL))
		return -EIO;
	hex_print(md, HASH_HEX / 2, out);
	return 0;
}

int hash_bytes(const void *data, size_t len, char out[HASH_SIZE])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	if (!EVP_Digest(data, len, md, NULL, EVP_sha256(), NULL))
		return -EIO;
	hex_print(md, HASH_HEX / 2, out);
	return 0;
}

static void hash_freep(struct hash **h)
{
	hash_free(*h);
}

int hash_file(const char *path, char out[HASH_SIZE], struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: not a regular file", path);
	_cleanup_(hash_freep) struct hash *h = NULL;
	_cleanup_free_ char *buf = malloc(READ_BYTES);
	int r = buf ? hash_new(&h) : -ENOMEM;
	while (r >= 0) {
		ssize_t n = read(fd, buf, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		r = hash_update(h, buf, (size_t)n);
	}
	if (r >= 0)
		r = hash_hex(h, out);
	return r < 0 ? err_errno(err, r, "%s", path) : 0;
}
