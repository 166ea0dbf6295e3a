#include "common/conf/reload.h"

#include <string.h>

static const char *written(const struct conf *c, const char *section, const char *key)
{
	const char *s, *k, *value;
	for (size_t i = 0; conf_at(c, i, &s, &k, &value); i++)
		if (strcmp(s, section) == 0 && strcmp(k, key) == 0)
			return value;
	return NULL;
}

static bool is_live(const struct conf_live *live, size_t n, const char *section, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(live[i].section, section) == 0 && strcmp(live[i].key, key) == 0)
			return true;
	return false;
}

int conf_reload(const struct conf *start, const char *path, const struct conf_live *live, size_t n,
		const void *next, void *now, conf_changed_cb changed, void *user, struct err *err)
{
	struct conf *file;
	const char *section, *key, *value, *other;
	int taken = 0, r = conf_load(path, &file, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		char *to = (char *)now + live[i].offset;
		const char *from = (const char *)next + live[i].offset;
		if (memcmp(to, from, live[i].size) == 0)
			continue;
		memcpy(to, from, live[i].size);
		changed(user, live[i].section, live[i].key, true);
		taken++;
	}
	for (size_t i = 0; conf_at(file, i, &section, &key, &value); i++) {
		other = written(start, section, key);
		if (!is_live(live, n, section, key) && (!other || strcmp(other, value) != 0))
			changed(user, section, key, false);
	}
	for (size_t i = 0; conf_at(start, i, &section, &key, &value); i++)
		if (!is_live(live, n, section, key) && !written(file, section, key))
			changed(user, section, key, false);
	conf_free(file);
	return taken;
}
