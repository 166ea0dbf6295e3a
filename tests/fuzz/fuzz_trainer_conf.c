/* The trainer's configuration, in a folder where the example finds what it names: what is refused
 * leaves the struct as it was. */
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "edge-trainer/conf.h"
#include "tests/fuzz/fuzz.h"

static char path[FILE_PATH_MAX];

static void begin(void)
{
	char data[FILE_PATH_MAX];
	fuzz_path("trainer.conf", path);
	fuzz_path("data", data);
	FUZZ_CHECK(mkdir(data, 0700) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct trainer_conf c, as_it_was;
	struct err err = {0};
	if (!*path)
		begin();
	fuzz_put(path, data, size);
	memset(&c, 0x5a, sizeof(c));
	if (trainer_conf_load(path, &c, &err) < 0) {
		memset(&as_it_was, 0x5a, sizeof(as_it_was));
		FUZZ_CHECK(*err.text && memcmp(&c, &as_it_was, sizeof(c)) == 0);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(id_valid(c.site) && id_valid(c.id) && *c.state);
	FUZZ_CHECK(c.port >= 1 && c.port <= 65535);
	return 0;
}
