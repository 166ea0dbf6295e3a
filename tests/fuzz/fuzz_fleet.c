/* The trainer's fleet.json: what is taken is written again, and read back the same. */
#include <string.h>

#include "common/base/mem.h"
#include "edge-trainer/fleet_priv.h"
#include "tests/fuzz/fuzz.h"

static char path[FILE_PATH_MAX];

static char *saved(struct trainer *t)
{
	char *text;
	size_t len;
	struct err err = {0};
	fleet_save(t);
	FUZZ_CHECK(!t->fleet->save_due);
	FUZZ_CHECK(file_read(path, SIZE_MAX, &text, &len, &err) == 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct trainer_conf conf;
	static struct trainer t = {.conf = &conf};
	static struct fleet f;
	_cleanup_free_ char *one = NULL, *two = NULL;
	struct err err = {0};
	if (!*path) {
		fuzz_path("", conf.state);
		fuzz_path("fleet.json", path);
	}
	fuzz_put(path, data, size);
	memset(&f, 0, sizeof(f));
	t.fleet = &f;
	if (fleet_read(&t, &err) < 0) {
		FUZZ_CHECK(*err.text);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(f.n_counted <= ROLLOUT_REPORTS_MAX && f.rollout.phase < ROLLOUT_PHASE_N);
	one = saved(&t);
	memset(&f, 0, sizeof(f));
	if (fleet_read(&t, &err) < 0) {
		fprintf(stderr, "%s\n%s\n", err.text, one);
		abort();
	}
	two = saved(&t);
	FUZZ_CHECK(strcmp(one, two) == 0);
	return 0;
}
