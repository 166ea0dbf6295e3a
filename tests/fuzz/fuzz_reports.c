/* The agent's file of reports: what is taken has numbers without gaps, each of which is read back,
 * and goes on with the next. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "device-agent/reports.h"
#include "tests/fuzz/fuzz.h"

#define LAST_SEQ 3 /* that the state file knows of */

static void reports_freep(struct reports **r)
{
	reports_free(*r);
}

/* Appends one; the file is then what the reports are. */
static void check_append(const char *path, struct reports *r)
{
	_cleanup_(reports_freep) struct reports *again = NULL;
	_cleanup_free_ char *text = NULL;
	char line[64];
	struct err err = {0};
	int64_t last = reports_last(r);
	snprintf(line, sizeof(line), "{\"seq\":%lld}", (long long)last + 1);
	FUZZ_CHECK(reports_append(r, line, &err) == 0 && reports_last(r) == last + 1);
	FUZZ_CHECK(reports_open(path, LAST_SEQ, &again, &err) == 0);
	FUZZ_CHECK(reports_first(again) == reports_first(r) && reports_last(again) == last + 1);
	FUZZ_CHECK(reports_read(again, last + 1, &text, &err) == 0 && strcmp(text, line) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char path[FILE_PATH_MAX], old[FILE_PATH_MAX];
	_cleanup_(reports_freep) struct reports *r = NULL;
	struct err err = {0};
	if (!*path) {
		fuzz_path("reports", path);
		fuzz_path("reports.old", old);
	}
	fuzz_put(path, data, size);
	unlink(old);
	if (reports_open(path, LAST_SEQ, &r, &err) < 0) {
		FUZZ_CHECK(*err.text && !r);
		return 0;
	}
	int64_t first = reports_first(r), last = reports_last(r);
	FUZZ_CHECK(first >= 1 && last >= LAST_SEQ && last >= first - 1);
	fuzz_taken += last >= first;
	for (int64_t seq = first; seq <= last; seq++) {
		_cleanup_free_ char *text = NULL;
		FUZZ_CHECK(reports_read(r, seq, &text, &err) == 0 && !strchr(text, '\n'));
	}
	check_append(path, r);
	return 0;
}
