/* The dashboard's configuration. */
#include <string.h>

#include "dashboard/gateway/conf.h"
#include "tests/fuzz/fuzz.h"

static int load(const char *path, void *ret, struct err *err)
{
	return gateway_conf_load(path, ret, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gateway_conf c;
	if (!fuzz_conf("dashboard.conf", "page", data, size, load, &c, sizeof(c)))
		return 0;
	FUZZ_CHECK(id_valid(c.site) && *c.page && *c.listen);
	FUZZ_CHECK(c.port >= 1 && c.port <= 65535 && c.listen_port >= 1 && c.listen_port <= 65535);
	FUZZ_CHECK(c.connections >= 1 && c.connections_per_address >= 1);
	FUZZ_CHECK(c.insecure || *c.certificate || strncmp(c.listen, "127.", 4) == 0 ||
		   strcmp(c.listen, "::1") == 0 || strchr(c.listen, ':'));
	return 0;
}
