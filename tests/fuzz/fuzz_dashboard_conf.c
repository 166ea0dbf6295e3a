/* The dashboard's configuration, in a folder where the example finds what it names: what is refused
 * leaves the struct as it was. */
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "dashboard/gateway/conf.h"
#include "tests/fuzz/fuzz.h"

static char path[FILE_PATH_MAX];

static void begin(void)
{
	char page[FILE_PATH_MAX];
	fuzz_path("dashboard.conf", path);
	fuzz_path("page", page);
	FUZZ_CHECK(mkdir(page, 0700) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gateway_conf c, as_it_was;
	struct err err = {0};
	if (!*path)
		begin();
	fuzz_put(path, data, size);
	memset(&c, 0x5a, sizeof(c));
	if (gateway_conf_load(path, &c, &err) < 0) {
		memset(&as_it_was, 0x5a, sizeof(as_it_was));
		FUZZ_CHECK(*err.text && memcmp(&c, &as_it_was, sizeof(c)) == 0);
		return 0;
	}
	fuzz_taken++;
	FUZZ_CHECK(id_valid(c.site) && *c.page && *c.listen);
	FUZZ_CHECK(c.port >= 1 && c.port <= 65535 && c.listen_port >= 1 && c.listen_port <= 65535);
	FUZZ_CHECK(c.connections >= 1 && c.connections_per_address >= 1);
	FUZZ_CHECK(c.insecure || *c.certificate || strncmp(c.listen, "127.", 4) == 0 ||
		   strcmp(c.listen, "::1") == 0 || strchr(c.listen, ':'));
	return 0;
}
