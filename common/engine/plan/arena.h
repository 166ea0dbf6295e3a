/* Memory of what lives for a part of a run only: activations, their gradients, oneDNN's scratch.
 * Regions that are never needed at one time lie at the same place.
 *
 * A run is a row of steps: forward through the layers, then back. Each region is declared with its
 * first and last step, all are placed once, and their addresses hold for one run. The memory
 * itself belongs to all arenas of the process: nothing in it outlives a run, and networks run one at
 * a time (network.h). It is as large as the largest of them; what the one that runs does not
 * need of it is given back. */
#pragma once

#include <stddef.h>

struct region {
	size_t bytes, at;
	int from, to; /* steps, both included */
};

struct arena {
	struct region **regions;
	size_t n, allocated;
	size_t bytes;
	char *base; /* for this run */
};

/* The region stays the caller's, and where it is until arena_done(). Out of memory: as
 * dnn_alloc(). */
void arena_add(struct arena *a, struct region *r, size_t bytes, int from, int to);
void arena_place(struct arena *a);
void arena_done(struct arena *a);
/* Before a run, or earlier, to have others' memory given back. What the regions hold is
 * anything. */
void arena_begin(struct arena *a);
/* NULL: a region of no bytes. */
void *arena_at(const struct arena *a, const struct region *r);
