/* The trainer's configuration. */
#include "edge-trainer/conf.h"
#include "tests/fuzz/fuzz.h"

static int load(const char *path, void *ret, struct err *err)
{
	return trainer_conf_load(path, ret, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct trainer_conf c;
	if (!fuzz_conf("trainer.conf", "data", data, size, load, &c, sizeof(c)))
		return 0;
	FUZZ_CHECK(id_valid(c.site) && id_valid(c.id) && *c.state);
	FUZZ_CHECK(c.port >= 1 && c.port <= 65535);
	return 0;
}
