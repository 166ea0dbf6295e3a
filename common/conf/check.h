/* What a configuration names must be there: told at start, with file, line and key, rather than
 * when it is first used. Nothing is made or changed. An empty path passes, except for a state
 * folder. Errors as conf_fail()'s. */
#pragma once

#include "common/conf/conf.h"

/* `path` is what conf_file() gave for the key. */
int conf_check_folder(const struct conf *c, const char *section, const char *key, const char *path,
		      struct err *err);
int conf_check_program(const struct conf *c, const char *section, const char *key, const char *path,
		       struct err *err);
/* A folder that can be written, or can be made with the folders above it. */
int conf_check_state(const struct conf *c, const char *section, const char *key, const char *path,
		     struct err *err);
/* A host name or address; it is not resolved. */
int conf_check_host(const struct conf *c, const char *section, const char *key, const char *host,
		    struct err *err);
