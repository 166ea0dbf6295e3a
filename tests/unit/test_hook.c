/* The command that is run after a swap: when it is started and ended, by tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>

#include "common/base/mem.h"
#include "device-agent/hook.h"

#define LIMIT 1000

struct row {
	int64_t at_ms;
	enum hook_event_kind kind;
	const char *checkpoint;
	/* What follows: */
	bool start;
	int signal;
	bool timed_out;
	const char *running, *due;
	int64_t deadline_ms;
};

static void run(const char *told, const struct row *rows, size_t n)
{
	struct hook h;
	hook_init(&h, LIMIT, told);
	for (size_t i = 0; i < n; i++) {
		const struct row *r = &rows[i];
		const struct hook_event ev = {r->kind, r->checkpoint};
		struct hook_actions a;
		hook_step(&h, &ev, r->at_ms, &a);
		if (a.start != r->start || a.signal != r->signal || a.timed_out != r->timed_out ||
		    strcmp(h.running, r->running) != 0 || strcmp(h.due, r->due) != 0 ||
		    hook_deadline_ms(&h) != r->deadline_ms)
			fail_msg("row %zu: start %d, signal %d, timed out %d, running '%s', due "
				 "'%s', "
				 "deadline %lld",
				 i, a.start, a.signal, a.timed_out, h.running, h.due,
				 (long long)hook_deadline_ms(&h));
		assert_true(a.keep == (r->kind == HOOK_ENDED));
	}
}

static void one_after_the_other(void **state)
{
	static const struct row rows[] = {
		{0, HOOK_SWAP, "a", true, 0, false, "a", "", LIMIT},
		{1, HOOK_SWAP, "b", false, 0, false, "a", "b", LIMIT},
		{2, HOOK_SWAP, "c", false, 0, false, "a", "c", LIMIT}, /* the latest wins */
		{500, HOOK_ENDED, NULL, true, 0, false, "c", "", 500 + LIMIT},
		{600, HOOK_ENDED, NULL, false, 0, false, "", "", -1},
		{700, HOOK_TIMER, NULL, false, 0, false, "", "", -1},
	};
	run("", rows, ARRAY_LEN(rows));
}

static void back_to_what_it_is_told(void **state)
{
	static const struct row rows[] = {
		{0, HOOK_SWAP, "a", true, 0, false, "a", "", LIMIT},
		{1, HOOK_SWAP, "b", false, 0, false, "a", "b", LIMIT},
		{2, HOOK_SWAP, "a", false, 0, false, "a", "", LIMIT},
		{3, HOOK_ENDED, NULL, false, 0, false, "", "", -1},
		{4, HOOK_SWAP, "a", false, 0, false, "", "", -1},
		{5, HOOK_SWAP, "b", true, 0, false, "b", "", 5 + LIMIT},
	};
	run("", rows, ARRAY_LEN(rows));
}

static void told_before_the_start(void **state)
{
	static const struct row rows[] = {
		{0, HOOK_SWAP, "a", false, 0, false, "", "", -1},
		{1, HOOK_SWAP, "b", true, 0, false, "b", "", 1 + LIMIT},
	};
	run("a", rows, ARRAY_LEN(rows));
}

static void too_long(void **state)
{
	static const struct row rows[] = {
		{0, HOOK_SWAP, "a", true, 0, false, "a", "", LIMIT},
		{LIMIT - 1, HOOK_TIMER, NULL, false, 0, false, "a", "", LIMIT},
		{LIMIT, HOOK_TIMER, NULL, false, SIGTERM, false, "a", "", LIMIT + HOOK_GRACE_MS},
		{LIMIT + 1, HOOK_SWAP, "b", false, 0, false, "a", "b", LIMIT + HOOK_GRACE_MS},
		{LIMIT + 2, HOOK_TIMER, NULL, false, 0, false, "a", "b", LIMIT + HOOK_GRACE_MS},
		{LIMIT + HOOK_GRACE_MS, HOOK_TIMER, NULL, false, SIGKILL, false, "a", "b", -1},
		{9000, HOOK_TIMER, NULL, false, 0, false, "a", "b", -1}, /* once */
		{9001, HOOK_ENDED, NULL, true, 0, true, "b", "", 9001 + LIMIT},
		{9002, HOOK_ENDED, NULL, false, 0, false, "", "", -1},
	};
	run("", rows, ARRAY_LEN(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(back_to_what_it_is_told),
		cmocka_unit_test(told_before_the_start),
		cmocka_unit_test(too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
