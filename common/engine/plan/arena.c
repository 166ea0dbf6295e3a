/* See arena.h. Placing is greedy: the largest region first, each at the lowest address where it
 * meets no other of its time. For a chain of layers that comes within a few per cent of the most
 * that is alive at one step. */
#include "common/engine/plan/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/engine/plan/dnn.h"

#define ALIGN_BYTES 64
/* Behind each region, so that large ones, which are whole pages, do not all begin at the same place
 * of a page: a processor takes a load for one of what was just stored 4096 bytes further. Without it
 * a step of digits.cfg takes 3 % longer, or more. */
#define STAGGER_BYTES (9 * 64)

static struct {
	char *base;
	size_t bytes;
	unsigned users; /* arenas that have been placed */
	const struct arena *last; /* that began */
} memory;

static void release(void)
{
	if (memory.base)
		munmap(memory.base, memory.bytes);
	memory.base = NULL;
	memory.bytes = 0;
}

/* Not through malloc(): it is not to be touched before it is used, and goes back as a whole. */
static void reserve(size_t bytes)
{
	if (bytes <= memory.bytes)
		return;
	release();
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		dnn_no_memory();
	memory.base = p;
	memory.bytes = bytes;
}

void arena_add(struct arena *a, struct region *r, size_t bytes, int from, int to)
{
	*r = (struct region){.from = from, .to = to};
	if (!bytes)
		return;
	r->bytes = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES + STAGGER_BYTES;
	if (a->n == a->allocated) {
		a->allocated = a->allocated ? 2 * a->allocated : 64;
		a->regions = realloc(a->regions, a->allocated * sizeof(struct region *));
		if (!a->regions)
			dnn_no_memory();
	}
	a->regions[a->n++] = r;
}

static int larger_first(const void *x, const void *y)
{
	const struct region *a = *(struct region *const *)x, *b = *(struct region *const *)y;
	if (a->bytes != b->bytes)
		return a->bytes < b->bytes ? 1 : -1;
	return (a->from > b->from) - (a->from < b->from);
}

static bool meets(const struct region *a, const struct region *b)
{
	return a->from <= b->to && b->from <= a->to && a->at < b->at + b->bytes &&
	       b->at < a->at + a->bytes;
}

/* The lowest place for region i beside those before it: behind one that is in the way, until
 * none is. */
static void place(struct arena *a, size_t i)
{
	struct region *r = a->regions[i];
	r->at = 0;
	for (size_t k = 0; k < i;) {
		if (!meets(r, a->regions[k])) {
			k++;
			continue;
		}
		r->at = a->regions[k]->at + a->regions[k]->bytes;
		k = 0;
	}
	if (r->at + r->bytes > a->bytes)
		a->bytes = r->at + r->bytes;
}

void arena_place(struct arena *a)
{
	if (a->n)
		qsort(a->regions, a->n, sizeof(struct region *), larger_first);
	for (size_t i = 0; i < a->n; i++)
		place(a, i);
	if (a->bytes)
		memory.users++;
}

void arena_done(struct arena *a)
{
	bool placed = a->bytes > 0;
	if (memory.last == a)
		memory.last = NULL;
	free(a->regions);
	*a = (struct arena){0};
	if (placed && --memory.users == 0)
		release();
}

/* Of the memory, what lies behind so many bytes: read again, it is zero. */
static void give_back(size_t behind)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), from = (behind + page - 1) / page * page;
	if (from < memory.bytes)
		madvise(memory.base + from, memory.bytes - from, MADV_DONTNEED);
}

void arena_begin(struct arena *a)
{
	reserve(a->bytes);
	if (memory.last != a)
		give_back(a->bytes);
	memory.last = a;
	a->base = memory.base;
}

void *arena_at(const struct arena *a, const struct region *r)
{
	return r->bytes ? a->base + r->at : NULL;
}
