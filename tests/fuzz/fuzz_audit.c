/* An audit log as somebody may have left it: it is read as a chain, or refused with the line that
 * is wrong; an agent that finds it goes on, and what it then writes can be verified. */
#include <string.h>
#include <unistd.h>

#include "common/audit/audit.h"
#include "common/base/mem.h"
#include "tests/fuzz/fuzz.h"

#define NOW_MS 1790000000000LL

static void audit_freep(struct audit **a)
{
	audit_free(*a);
}

static int count(void *user, const struct audit_head *head, const struct json *line,
		 struct err *err)
{
	uint64_t *n = user;
	FUZZ_CHECK(json_is_obj(line) && head->seq > 0 && hash_valid(head->hash));
	++*n;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char folder[FILE_PATH_MAX], path[FILE_PATH_MAX], bad[FILE_PATH_MAX];
	_cleanup_(audit_freep) struct audit *a = NULL;
	struct audit_chain before = {0}, after = {0};
	struct audit_head head;
	struct err err = {0};
	uint64_t n = 0;
	if (!*path) {
		fuzz_path("", folder);
		fuzz_path(AUDIT_FILE, path);
		fuzz_path(AUDIT_FILE ".bad", bad);
	}
	fuzz_put(path, data, size);
	unlink(bad);
	int r = audit_check(path, &before, count, &n, &err);
	FUZZ_CHECK(r == 0 ? !*err.text : *err.text != 0);
	FUZZ_CHECK(before.lines == n && (before.lines == 0) == (before.head.seq == 0));
	fuzz_taken += r == 0 && n > 0;

	FUZZ_CHECK(audit_open(folder, NOW_MS, &a, &err) == 0);
	audit_say(a, NOW_MS, &(struct audit_event){.event = "tested", .who = "cam-1"});
	FUZZ_CHECK(!audit_fault(a));
	audit_head(a, &head);
	/* What was whole is whole, and one longer (two: the clock was set); nothing mends the rest.
	 */
	err = (struct err){0};
	if (r == 0) {
		FUZZ_CHECK(audit_check(path, &after, NULL, NULL, &err) == 0);
		FUZZ_CHECK(after.lines > before.lines && after.lines <= before.lines + 2);
		FUZZ_CHECK(after.head.seq == head.seq && strcmp(after.head.hash, head.hash) == 0);
	}
	return 0;
}
