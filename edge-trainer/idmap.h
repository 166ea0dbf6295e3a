/* A table from ids to things that embed a node. Chained, grows by doubling; hashed with a seed
 * that nobody outside can guess, so that chosen ids cannot make chains long. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct idmap_node {
	struct idmap_node *next;
	const char *id; /* the embedding thing's own, while it is in the table */
	uint64_t hash;
};

struct idmap {
	struct idmap_node **buckets;
	size_t n_buckets, n;
	uint64_t seed;
};

int idmap_init(struct idmap *m);
/* Frees the table, not what is in it. */
void idmap_done(struct idmap *m);
struct idmap_node *idmap_find(const struct idmap *m, const char *id);
/* The id must not be there yet. */
void idmap_add(struct idmap *m, struct idmap_node *node, const char *id);
void idmap_remove(struct idmap *m, struct idmap_node *node);
/* Calls `each` for every node until it returns nonzero, and returns that; `each` may remove (and
 * free) the node it was called with, and nothing else. */
int idmap_each(struct idmap *m, int (*each)(void *user, struct idmap_node *node), void *user);

#define idmap_entry(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))
