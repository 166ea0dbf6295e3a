#include "edge-trainer/idmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"

#define BUCKETS_FIRST 64

/* FNV-1a over the bytes, started from the seed and mixed at the end. */
static uint64_t hash_id(const struct idmap *m, const char *id)
{
	uint64_t h = 0xcbf29ce484222325u ^ m->seed;
	struct rng mix;

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 0x100000001b3u;
	rng_init(&mix, h ^ m->seed);
	return rng_u64(&mix);
}

int idmap_init(struct idmap *m)
{
	m->buckets = calloc(BUCKETS_FIRST, sizeof(*m->buckets));
	m->n_buckets = BUCKETS_FIRST;
	m->n = 0;
	m->seed = rng_entropy();
	return m->buckets ? 0 : -ENOMEM;
}

void idmap_done(struct idmap *m)
{
	free(m->buckets);
	memset(m, 0, sizeof(*m));
}

struct idmap_node *idmap_find(const struct idmap *m, const char *id)
{
	uint64_t h;
	struct idmap_node *n;

	if (m->n == 0)
		return NULL;
	h = hash_id(m, id);
	for (n = m->buckets[h & (m->n_buckets - 1)]; n; n = n->next)
		if (n->hash == h && strcmp(n->id, id) == 0)
			return n;
	return NULL;
}

static void grow(struct idmap *m)
{
	size_t n_new = m->n_buckets * 2;
	struct idmap_node **b = calloc(n_new, sizeof(*b));

	if (!b)
		return; /* longer chains, still right */
	for (size_t i = 0; i < m->n_buckets; i++) {
		struct idmap_node *n = m->buckets[i], *next;

		for (; n; n = next) {
			next = n->next;
			n->next = b[n->hash & (n_new - 1)];
			b[n->hash & (n_new - 1)] = n;
		}
	}
	free(m->buckets);
	m->buckets = b;
	m->n_buckets = n_new;
}

void idmap_add(struct idmap *m, struct idmap_node *node, const char *id)
{
	struct idmap_node **bucket;

	if (m->n >= m->n_buckets)
		grow(m);
	node->id = id;
	node->hash = hash_id(m, id);
	bucket = &m->buckets[node->hash & (m->n_buckets - 1)];
	node->next = *bucket;
	*bucket = node;
	m->n++;
}

void idmap_remove(struct idmap *m, struct idmap_node *node)
{
	struct idmap_node **p = &m->buckets[node->hash & (m->n_buckets - 1)];

	while (*p && *p != node)
		p = &(*p)->next;
	if (!*p)
		return;
	*p = node->next;
	m->n--;
}

int idmap_each(struct idmap *m, int (*each)(void *user, struct idmap_node *node), void *user)
{
	for (size_t i = 0; i < m->n_buckets; i++) {
		struct idmap_node *n = m->buckets[i], *next;

		for (; n; n = next) {
			int r;

			next = n->next;
			r = each(user, n);
			if (r != 0)
				return r;
		}
	}
	return 0;
}
