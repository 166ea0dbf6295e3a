#include "common/engine/momentum.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"

#define MAGIC	   "TSKMOM1\n"
#define MAGIC_SIZE 8
#define HEAD_SIZE  (MAGIC_SIZE + HASH_HEX + sizeof(uint64_t))

static size_t bytes_of(size_t floats)
{
	return HEAD_SIZE + floats * sizeof(float) + HASH_HEX;
}

static void put_head(char *p, const char id[HASH_SIZE], uint64_t floats)
{
	memcpy(p, MAGIC, MAGIC_SIZE);
	memcpy(p + MAGIC_SIZE, id, HASH_HEX);
	memcpy(p + MAGIC_SIZE + HASH_HEX, &floats, sizeof(floats));
}

int momentum_save(const char *path, const char id[HASH_SIZE], struct dnet *d, struct err *err)
{
	size_t floats = dnet_momentum_floats(d), bytes = bytes_of(floats);
	char hash[HASH_SIZE];
	_cleanup_free_ char *p = malloc(bytes);
	if (!p)
		return err_errno(err, -ENOMEM, "%s", path);
	put_head(p, id, floats);
	_cleanup_free_ float *m = malloc((floats + 1) * sizeof(*m));
	if (!m)
		return err_errno(err, -ENOMEM, "%s", path);
	dnet_momentum_get(d, m);
	memcpy(p + HEAD_SIZE, m, floats * sizeof(*m));
	int r = hash_bytes(p, bytes - HASH_HEX, hash);
	if (r < 0)
		return err_errno(err, r, "%s", path);
	memcpy(p + bytes - HASH_HEX, hash, HASH_HEX);
	return file_write(path, p, bytes, err);
}

int momentum_load(const char *path, const char id[HASH_SIZE], struct dnet *d, struct err *err)
{
	size_t floats = dnet_momentum_floats(d), bytes = bytes_of(floats), len;
	char head[HEAD_SIZE], hash[HASH_SIZE];
	struct err ignored = {0};
	_cleanup_free_ char *p = NULL;
	int r = file_read(path, bytes, &p, &len, &ignored);
	if (r == -ENOMEM)
		return err_set(err, r, "%s", ignored.text);
	put_head(head, id, floats);
	if (r < 0 || len != bytes || memcmp(p, head, HEAD_SIZE) != 0 ||
	    hash_bytes(p, bytes - HASH_HEX, hash) < 0 ||
	    memcmp(p + bytes - HASH_HEX, hash, HASH_HEX) != 0)
		return 0;
	_cleanup_free_ float *m = malloc((floats + 1) * sizeof(*m));
	if (!m)
		return err_errno(err, -ENOMEM, "%s", path);
	memcpy(m, p + HEAD_SIZE, floats * sizeof(*m));
	dnet_momentum_set(d, m);
	return 1;
}
