/* Members of a request that may be absent: they keep the default then. 0, or negative with err. */
#pragma once

#include "common/base/file.h"
#include "common/json/json.h"

#include <errno.h>

static inline int arg_str(const struct json *args, const char *key, char *buf, size_t size,
			  struct err *err)
{
	return json_has(args, key) ? json_get_str(args, key, buf, size, err) : (buf[0] = 0);
}

/* A path, which must be there and not be empty. */
static inline int arg_path(const struct json *args, const char *key, char out[FILE_PATH_MAX],
			   struct err *err)
{
	int r = json_get_str(args, key, out, FILE_PATH_MAX, err);
	return r == 0 && !*out ? err_set(err, -EINVAL, "%s: found nothing, expected a path", key)
			       : r;
}

static inline int arg_int(const struct json *args, const char *key, int64_t min, int64_t max,
			  int64_t def, int64_t *ret, struct err *err)
{
	*ret = def;
	return json_has(args, key) ? json_get_int(args, key, min, max, ret, err) : 0;
}

static inline int arg_num(const struct json *args, const char *key, double min, double max,
			  double def, double *ret, struct err *err)
{
	*ret = def;
	return json_has(args, key) ? json_get_num(args, key, min, max, ret, err) : 0;
}

static inline int arg_bool(const struct json *args, const char *key, bool def, bool *ret,
			   struct err *err)
{
	*ret = def;
	return json_has(args, key) ? json_get_bool(args, key, ret, err) : 0;
}
