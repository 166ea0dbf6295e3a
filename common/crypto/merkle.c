/* Levels lie one after the other in `nodes`, the leaves first; of a level of c nodes the next one
 * has (c + 1) / 2, the last of them a copy where c is odd. */
#include "common/crypto/merkle.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hex.h"
#include "common/base/mem.h"

enum { LEAF = 0, NODE = 1 };

struct merkle {
	uint32_t n;
	uint8_t (*root)[MERKLE_HASH]; /* the last of nodes */
	uint8_t nodes[][MERKLE_HASH];
};

/* One context for all: to fetch the algorithm costs as much as a small hash. */
struct hasher {
	EVP_MD_CTX *ctx;
	EVP_MD *md;
};

static void hasher_done(struct hasher *h)
{
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
}

static int hasher_init(struct hasher *h)
{
	h->ctx = EVP_MD_CTX_new();
	h->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	return h->ctx && h->md ? 0 : -ENOMEM;
}

static int digest(struct hasher *h, uint8_t kind, const void *a, size_t a_len, const void *b,
		  size_t b_len, uint8_t out[MERKLE_HASH])
{
	bool ok = EVP_DigestInit_ex2(h->ctx, h->md, NULL) && EVP_DigestUpdate(h->ctx, &kind, 1) &&
		  EVP_DigestUpdate(h->ctx, a, a_len) &&
		  (b_len == 0 || EVP_DigestUpdate(h->ctx, b, b_len)) &&
		  EVP_DigestFinal_ex(h->ctx, out, NULL);
	return ok ? 0 : -EIO;
}

static int node(struct hasher *h, const uint8_t *left, const uint8_t *right,
		uint8_t out[MERKLE_HASH])
{
	return digest(h, NODE, left, MERKLE_HASH, right, MERKLE_HASH, out);
}

static uint32_t parents(uint32_t count)
{
	return (count + 1) / 2;
}

/* ---- the tree ---- */

static size_t count_nodes(uint32_t n)
{
	size_t sum = n;
	for (; n > 1; sum += n)
		n = parents(n);
	return sum;
}

static int leaves(struct merkle *m, struct hasher *h, int fd, uint64_t size, uint32_t block_size)
{
	_cleanup_free_ uint8_t *buf = malloc(block_size);
	int r = buf ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < m->n && r == 0; i++) {
		uint64_t at = (uint64_t)i * block_size;
		size_t len = MIN_OF(size - at, (uint64_t)block_size);
		ssize_t n = file_read_at(fd, buf, len, at);
		if (n < 0)
			r = (int)n;
		else if ((size_t)n < len)
			r = -EIO;
		else
			r = digest(h, LEAF, buf, len, NULL, 0, m->nodes[i]);
	}
	return r;
}

static int levels(struct merkle *m, struct hasher *h)
{
	uint8_t(*level)[MERKLE_HASH] = m->nodes;
	int r = 0;
	for (uint32_t count = m->n; count > 1 && r == 0; count = parents(count)) {
		uint8_t(*up)[MERKLE_HASH] = level + count;
		for (uint32_t i = 0; i < count && r == 0; i += 2) {
			if (i + 1 < count)
				r = node(h, level[i], level[i + 1], up[i / 2]);
			else
				memcpy(up[i / 2], level[i], MERKLE_HASH);
		}
		level = up;
	}
	m->root = level;
	return r;
}

int merkle_file(const char *path, uint64_t size, uint32_t block_size, struct merkle **ret,
		struct err *err)
{
	uint64_t n = block_size ? (size + block_size - 1) / block_size : 0;
	if (n == 0 || n > MERKLE_LEAVES_MAX)
		return err_set(err, -EINVAL,
			       "%s: found %llu bytes in blocks of %u, expected 1 to %d", path,
			       (unsigned long long)size, block_size, MERKLE_LEAVES_MAX);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	struct hasher h = {0};
	struct merkle *m = malloc(sizeof(*m) + count_nodes((uint32_t)n) * MERKLE_HASH);
	int r = m ? hasher_init(&h) : -ENOMEM;
	if (r == 0) {
		m->n = (uint32_t)n;
		r = leaves(m, &h, fd, size, block_size);
	}
	if (r == 0)
		r = levels(m, &h);
	hasher_done(&h);
	if (r < 0) {
		free(m);
		return err_errno(err, r, "%s", path);
	}
	*ret = m;
	return 0;
}

void merkle_free(struct merkle *m)
{
	free(m);
}

void merkle_root(const struct merkle *m, char out[HASH_SIZE])
{
	hex_print(*m->root, MERKLE_HASH, out);
}

size_t merkle_path(const struct merkle *m, uint32_t i, uint8_t out[MERKLE_PATH_MAX])
{
	const uint8_t(*level)[MERKLE_HASH] = m->nodes;
	size_t len = 0;
	for (uint32_t count = m->n; count > 1; count = parents(count), i /= 2) {
		if ((i ^ 1) < count) {
			memcpy(out + len, level[i ^ 1], MERKLE_HASH);
			len += MERKLE_HASH;
		}
		level += count;
	}
	return len;
}

/* ---- one block ---- */

size_t merkle_path_len(uint32_t i, uint32_t n)
{
	size_t len = 0;
	for (; i < n && n > 1; i /= 2, n = parents(n))
		len += (i ^ 1) < n ? MERKLE_HASH : 0;
	return len;
}

static int climb(struct hasher *h, uint32_t i, uint32_t n, const uint8_t *path,
		 uint8_t at[MERKLE_HASH])
{
	int r = 0;
	for (; n > 1 && r == 0; i /= 2, n = parents(n)) {
		if ((i ^ 1) >= n)
			continue;
		r = i & 1 ? node(h, path, at, at) : node(h, at, path, at);
		path += MERKLE_HASH;
	}
	return r;
}

int merkle_verify(const char *root, uint32_t i, uint32_t n, const uint8_t *path, const void *block,
		  size_t len)
{
	uint8_t at[MERKLE_HASH], expected[MERKLE_HASH];
	if (i >= n || n > MERKLE_LEAVES_MAX || hex_parse(root, expected, MERKLE_HASH) < 0)
		return -EINVAL;
	struct hasher h = {0};
	int r = hasher_init(&h);
	if (r == 0)
		r = digest(&h, LEAF, block, len, NULL, 0, at);
	if (r == 0)
		r = climb(&h, i, n, path, at);
	hasher_done(&h);
	if (r < 0)
		return r;
	return memcmp(at, expected, MERKLE_HASH) == 0 ? 0 : -EBADMSG;
}
