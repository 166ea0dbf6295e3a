#include "common/transfer/proof.h"

#include <string.h>

#include "common/transfer/part.h"

static int make(struct proof *p, const char *path, const struct manifest *m, struct err *err)
{
	const char *payload = manifest_payload(m);
	if (p->tree && strcmp(p->payload, payload) == 0 && p->size == (uint64_t)m->size &&
	    p->block_size == (uint32_t)m->block_size)
		return 0;
	proof_done(p);
	p->size = (uint64_t)m->size;
	p->block_size = (uint32_t)m->block_size;
	memcpy(p->payload, payload, HASH_SIZE);
	return merkle_file(path, p->size, p->block_size, &p->tree, err);
}

int proof_root(struct proof *p, const char *path, struct manifest *m, struct err *err)
{
	int r = make(p, path, m, err);
	if (r == 0)
		merkle_root(p->tree, m->root);
	return r;
}

int proof_read_block(struct proof *p, const char *path, const struct manifest *m, uint32_t i,
		     void *buf, uint32_t *ret_len, struct err *err)
{
	uint32_t n_blocks = (uint32_t)((m->size + m->block_size - 1) / m->block_size);
	size_t path_len = merkle_path_len(i, n_blocks);
	uint32_t len;
	int r = part_read_block(path, (uint64_t)m->size, (uint32_t)m->block_size, i,
				(uint8_t *)buf + path_len, &len, err);
	if (r == 0)
		r = make(p, path, m, err);
	if (r < 0)
		return r;
	merkle_path(p->tree, i, buf);
	*ret_len = (uint32_t)path_len + len;
	return 0;
}

void proof_done(struct proof *p)
{
	merkle_free(p->tree);
	*p = (struct proof){0};
}
