/* What the trainer may hold on disk, as a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "common/base/mem.h"
#include "edge-trainer/quota.h"

static void test_plan(void **state)
{
	static const struct {
		struct quota q; /* max, working, offering, lapsed, unknown, history */
		int64_t more;
		int r;
		int64_t history, lapsed;
	} rows[] = {
		{{10, 0, 0, 0, 0, 0}, 1, 0, 0, 0},
		{{10, 2, 0, 0, 0, 0}, 1, 0, 0, 0},
		{{10, 2, 0, 0, 0, 1}, 1, 0, 0, 0}, /* just fits */
		{{10, 2, 0, 0, 0, 3}, 1, 0, 2, 0},
		{{10, 2, 0, 1, 0, 3}, 1, 0, 3, 1}, /* all history, then the lapsed one */
		{{10, 2, 0, 4, 0, 0}, 1, 0, 0, 4},
		{{12, 2, 0, 4, 0, 0}, 1, 0, 0, 3},
		{{10, 3, 0, 0, 0, 1}, 1, -ENOSPC, 0, 0},
		{{10, 3, 0, 5, 0, 3}, 1, -ENOSPC, 3, 5}, /* busy, and what is there is too much */
		{{10, 2, 2, 0, 0, 0}, 1, -ENOSPC, 0, 0},
		{{10, 1, 2, 0, 0, 5}, 1, 0, 5, 0},
		{{10, 0, 0, 0, 7, 0}, 1, 0, 0, 0},
		{{10, 0, 0, 0, 8, 2}, 1, -ENOSPC, 0, 0}, /* what nobody knows gives way to nothing */
		{{10, 0, 0, 0, 80, 2}, 0, -ENOSPC, 2, 0},
		{{10, 2, 0, 1, 0, 9}, 0, 0, 7, 0}, /* the limit was lowered */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t history = -1, lapsed = -1;
		int r = quota_plan(&rows[i].q, rows[i].more, &history, &lapsed);

		if (r != rows[i].r || history != rows[i].history || lapsed != rows[i].lapsed)
			fail_msg("row %zu: %d, history %lld, lapsed %lld", i, r, (long long)history,
				 (long long)lapsed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan),
	};
	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
