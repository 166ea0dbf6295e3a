/* What a worker's failure looks like to the daemons. */
#pragma once

#include "common/base/err.h"

/* Valid until the next call. */
static inline const struct err *failure(int code, enum err_category category, const char *text)
{
	static struct err e;
	err_set(&e, code, "%s", text);
	err_categorize(&e, category);
	return &e;
}
