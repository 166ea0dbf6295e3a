/* STATE/model.json, which applications, perhaps of another user, read: what is taken has its
 * limits, and is the same when it is written and read again; what is refused changes nothing. */
#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/model_file.h"
#include "tests/fuzz/fuzz.h"

static bool is_text(const char *s, size_t size)
{
	return memchr(s, 0, size) != NULL;
}

static bool same(const struct model_file *a, const struct model_file *b)
{
	return !strcmp(a->model, b->model) && !strcmp(a->site, b->site) &&
	       !strcmp(a->device, b->device) && !strcmp(a->absent, b->absent) &&
	       a->center_crop == b->center_crop;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char state[FILE_PATH_MAX], path[FILE_PATH_MAX];
	static struct model_file m, as_it_was, again;
	struct err err = {0};
	if (!*path) {
		fuzz_path("", state);
		fuzz_path(MODEL_FILE, path);
	}
	fuzz_put(path, data, size);
	memset(&m, 0x5a, sizeof(m));
	if (model_file_read(state, &m, &err) < 0) {
		memset(&as_it_was, 0x5a, sizeof(as_it_was));
		FUZZ_CHECK(*err.text && memcmp(&m, &as_it_was, sizeof(m)) == 0);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(hash_valid(m.model) && *m.cfg == '/' && *m.classes == '/' &&
		   m.center_crop <= MODEL_FILE_CROP_MAX);
	FUZZ_CHECK(is_text(m.private_classes, sizeof(m.private_classes)) &&
		   is_text(m.absent, sizeof(m.absent)));
	FUZZ_CHECK(id_valid(m.site) && id_valid(m.device));
	FUZZ_CHECK(!*m.private_classes || *m.private_classes == '/');
	FUZZ_CHECK(!strcmp(m.absent, "train") || !strcmp(m.absent, "mask"));
	FUZZ_CHECK(model_file_write(state, &m, &err) == 0);
	FUZZ_CHECK(model_file_read(state, &again, &err) == 0 && same(&m, &again));
	return 0;
}
