/* Memory for some steps of a run: what is needed at one time lies apart, what is not shares, and
 * what one network does not need of another's goes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/rng.h"
#include "common/engine/plan/arena.h"
#include "emulated.h"

#define REGIONS 60
#define STEPS	40

static int between(struct rng *r, int from, int to)
{
	return from + (int)(rng_u64(r) % (uint64_t)(to - from + 1));
}

static size_t alive(const struct region *r, size_t n, int step)
{
	size_t sum = 0;
	for (size_t i = 0; i < n; i++)
		if (r[i].from <= step && step <= r[i].to)
			sum += r[i].bytes;
	return sum;
}

/* Filled at its first step, whole still at its last. */
static void test_no_two_meet(void **state)
{
	static struct region regions[REGIONS];
	struct rng r;
	rng_init(&r, 1);
	for (int round = 0; round < 20; round++) {
		struct arena a = {0};
		size_t most = 0;
		for (int i = 0; i < REGIONS; i++) {
			int from = between(&r, 0, STEPS - 1);
			arena_add(&a, &regions[i], (size_t)between(&r, 0, 5000), from,
				  between(&r, from, STEPS - 1));
			assert_int_equal(regions[i].bytes % 64, 0);
		}
		arena_place(&a);
		arena_begin(&a);
		for (int step = 0; step < STEPS; step++) {
			size_t sum = alive(regions, REGIONS, step);
			most = sum > most ? sum : most;
			for (int i = 0; i < REGIONS; i++)
				if (regions[i].from == step && regions[i].bytes)
					memset(arena_at(&a, &regions[i]), i + 1, regions[i].bytes);
			for (int i = 0; i < REGIONS; i++) {
				const uint8_t *p = arena_at(&a, &regions[i]);
				for (size_t k = 0; regions[i].to == step && k < regions[i].bytes; k++)
					assert_int_equal(p[k], i + 1);
			}
		}
		assert_true(a.bytes >= most && a.bytes < most * 3 / 2);
		arena_done(&a);
	}
}

/* As a chain of layers has them: kept until the way back, with scratch at each step. */
static void test_chain_is_tight(void **state)
{
	static struct region kept[20], scratch[40];
	struct arena a = {0};
	size_t kept_bytes = 0;
	for (int i = 0; i < 20; i++) {
		size_t bytes = (size_t)(20 - i) * 4096;
		arena_add(&a, &kept[i], bytes, i, 39 - i);
		kept_bytes += kept[i].bytes;
	}
	for (int i = 0; i < 40; i++)
		arena_add(&a, &scratch[i], 64 * 1024, i, i);
	arena_place(&a);
	assert_int_equal(a.bytes, kept_bytes + scratch[0].bytes);
	arena_done(&a);
}

static size_t resident(const struct arena *a, size_t pages)
{
	unsigned char there[1024];
	size_t n = 0;
	assert_int_equal(mincore(a->base, pages * (size_t)sysconf(_SC_PAGESIZE), there), 0);
	for (size_t i = 0; i < pages; i++)
		n += there[i] & 1;
	return n;
}

static void test_gives_back(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct region large, small;
	struct arena a = {0}, b = {0};
	arena_add(&a, &large, 1000 * page, 0, 0);
	arena_add(&b, &small, 10 * page, 0, 0);
	arena_place(&a);
	arena_place(&b);
	arena_begin(&a);
	memset(arena_at(&a, &large), 1, 1000 * page);
	assert_int_equal(resident(&a, 1000), 1000);
	arena_begin(&a); /* its own: it will need them again */
	assert_int_equal(resident(&a, 1000), 1000);
	arena_begin(&b);
	assert_ptr_equal(b.base, a.base);
	memset(arena_at(&b, &small), 2, 10 * page);
	if (!under_valgrind())
		assert_true(resident(&b, 1000) <= 11);
	arena_done(&a);
	memset(arena_at(&b, &small), 3, 10 * page);
	arena_done(&b);
}

static void test_nothing(void **state)
{
	struct region none;
	struct arena a = {0};
	arena_add(&a, &none, 0, 0, 0);
	arena_place(&a);
	arena_begin(&a);
	assert_null(arena_at(&a, &none));
	arena_done(&a);
	arena_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_two_meet),
		cmocka_unit_test(test_chain_is_tight),
		cmocka_unit_test(test_gives_back),
		cmocka_unit_test(test_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
