/* What the trainer may hold on disk, as a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/quota.h"

static void test_plan(void **state)
{
	static const struct {
		struct quota q; /* max, working, offering, loose, lapsed, unknown, history */
		int64_t more;
		int r;
		struct quota_cut cut; /* loose, history, lapsed */
	} rows[] = {
		{{10, 0, 0, 0, 0, 0, 0}, 1, 0, {0, 0, 0}},
		{{10, 2, 0, 0, 0, 0, 0}, 1, 0, {0, 0, 0}},
		{{10, 2, 0, 0, 0, 0, 1}, 1, 0, {0, 0, 0}}, /* just fits */
		{{10, 2, 0, 0, 0, 0, 3}, 1, 0, {0, 2, 0}},
		{{10, 2, 0, 0, 1, 0, 3}, 1, 0, {0, 3, 1}}, /* all history, then the lapsed one */
		{{10, 2, 0, 0, 4, 0, 0}, 1, 0, {0, 0, 4}},
		{{12, 2, 0, 0, 4, 0, 0}, 1, 0, {0, 0, 3}},
		{{20, 2, 0, 5, 1, 0, 3},
		 1,
		 0,
		 {2, 0, 0}}, /* before any history, those of strangers */
		{{13, 2, 0, 2, 1, 0, 3}, 1, 0, {2, 1, 0}},
		{{10, 2, 0, 2, 1, 0, 3}, 1, 0, {2, 3, 1}},
		{{10, 3, 0, 0, 0, 0, 1}, 1, -ENOSPC, {0, 0, 0}},
		{{10, 3, 0, 1, 5, 0, 3},
		 1,
		 -ENOSPC,
		 {1, 3, 5}}, /* busy, and what is there is too much */
		{{10, 2, 2, 0, 0, 0, 0}, 1, -ENOSPC, {0, 0, 0}},
		{{10, 1, 2, 0, 0, 0, 5}, 1, 0, {0, 5, 0}},
		{{10, 0, 0, 0, 0, 7, 0}, 1, 0, {0, 0, 0}},
		{{10, 0, 0, 0, 0, 8, 2},
		 1,
		 -ENOSPC,
		 {0, 0, 0}}, /* what nobody knows gives way to nothing */
		{{10, 0, 0, 0, 0, 80, 2}, 0, -ENOSPC, {0, 2, 0}},
		{{10, 2, 0, 0, 1, 0, 9}, 0, 0, {0, 7, 0}}, /* the limit was lowered */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct quota_cut cut = {-1, -1, -1};
		int r = quota_plan(&rows[i].q, rows[i].more, &cut);

		if (r != rows[i].r || memcmp(&cut, &rows[i].cut, sizeof(cut)) != 0)
			fail_msg("row %zu: %d, loose %lld, history %lld, lapsed %lld", i, r,
				 (long long)cut.loose, (long long)cut.history,
				 (long long)cut.lapsed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan),
	};
	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
