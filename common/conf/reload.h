/* Reading a configuration again while the program runs (SIGHUP). Keys of a table come into force;
 * all others wait for the next start, and are named. */
#pragma once

#include <stdbool.h>

#include "common/conf/conf.h"

/* A key that may change while the program runs, and the member that it sets of whatever struct the
 * program keeps its configuration in. */
struct conf_live {
	const char *section, *key;
	size_t offset, size;
};

/* taken: it is in force now; else it will be after the next start. */
typedef void (*conf_changed_cb)(void *user, const char *section, const char *key, bool taken);

/* `start`: the file as the program read it when it started. `path`: the file as it is, which the
 * program has read into `next` and found good. Copies to `now` each member of `live` (n of them)
 * that `next` has otherwise; then names the other keys that are written otherwise than at the start
 * (a default that is written out now counts, too). Returns how many were taken; negative: `path`
 * could not be read, nothing was changed. */
int conf_reload(const struct conf *start, const char *path, const struct conf_live *live, size_t n,
		const void *next, void *now, conf_changed_cb changed, void *user, struct err *err);
