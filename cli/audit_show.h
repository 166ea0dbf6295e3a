/* Lines of an audit log as a person reads them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/audit/audit.h"

#define AUDIT_SHOW_MAX 100000 /* of --last */

struct audit_view {
	const char *event, *peer; /* NULL: any */
	size_t last;              /* 0: all */
	bool json;                /* as they are in the log */
};

/* A state folder's files, or one file, as audit_check() takes it. */
int audit_check_path(const char *path, struct audit_chain *c, audit_each *each, void *user,
		     struct err *err);
/* Prints them to standard output; the error names the first line that is wrong, and nothing after
 * it is printed. */
int audit_show(char *const *paths, int n, const struct audit_view *v, struct err *err);
