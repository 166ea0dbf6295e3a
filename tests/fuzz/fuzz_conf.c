/* Configuration files, read with a getter of each kind. */
#include <string.h>

#include "common/base/id.h"
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "tests/fuzz/fuzz.h"

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

static int read_all(struct conf *c, struct err *err)
{
	static const char *const words[] = {"slow", "fast", NULL};
	char text[64], id[ID_SIZE], path[FILE_PATH_MAX];
	int64_t port = 0;
	double share = 0;
	bool flip = false;
	int speed = 0;
	int r = conf_str(c, "broker", "host", "localhost", text, sizeof(text), err);
	if (r == 0)
		r = conf_int(c, "broker", "port", 1, 65535, 1883, &port, err);
	if (r == 0)
		r = conf_id(c, "device", "id", NULL, id, sizeof(id), err);
	if (r == 0)
		r = conf_file(c, "data", "path", "", path, sizeof(path), err);
	if (r == 0)
		r = conf_num(c, "data", "share", 0, 0.9, 0.2, &share, err);
	if (r == 0)
		r = conf_bool(c, "data", "flip", false, &flip, err);
	if (r == 0)
		r = conf_choice(c, "data", "speed", words, "slow", &speed, err);
	if (r < 0)
		return r;
	FUZZ_CHECK(port >= 1 && port <= 65535 && share >= 0 && share <= 0.9);
	FUZZ_CHECK(id_valid(id) && (speed == 0 || speed == 1));
	FUZZ_CHECK(strlen(text) < sizeof(text) && strlen(path) < sizeof(path));
	return conf_finish(c, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(conf_freep) struct conf *c = NULL;
	_cleanup_close_ int fd = -1;
	char path[FILE_PATH_MAX];
	struct err err = {0};
	fuzz_file(data, size, &fd, path);
	int r = conf_load(path, &c, &err);
	if (r == 0)
		r = read_all(c, &err);
	fuzz_taken += r == 0;
	FUZZ_CHECK(r == 0 || *err.text);
	return 0;
}
