#include "cli/classify_request.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/json/json.h"

static int get_flag(const struct json *j, const char *key, bool *ret, struct err *err)
{
	return json_has(j, key) ? json_get_bool(j, key, ret, err) : 0;
}

static int parse_frame(const struct json *j, struct classify_request *r, struct err *err)
{
	char format[8] = "u8";
	int code = json_get_int(j, "bytes", 1, CLASSIFY_FRAME_MAX, &r->bytes, err);
	if (code == 0 && json_has(j, "format"))
		code = json_get_str(j, "format", format, sizeof(format), err);
	if (code < 0)
		return code;
	r->floats = strcmp(format, "f32") == 0;
	if (!r->floats && strcmp(format, "u8") != 0)
		return err_set(err, -EINVAL, "format: found '%s', expected u8 or f32", format);
	if (r->floats)
		return 0;
	if ((code = json_get_int(j, "width", 1, CLASSIFY_FRAME_MAX, &r->width, err)) < 0 ||
	    (code = json_get_int(j, "height", 1, CLASSIFY_FRAME_MAX, &r->height, err)) < 0 ||
	    (code = json_get_int(j, "channels", 1, 3, &r->channels, err)) < 0)
		return code;
	if (r->width * r->height > CLASSIFY_FRAME_MAX ||
	    r->width * r->height * r->channels != r->bytes)
		return err_set(err, -EINVAL,
			       "bytes: found %lld, expected width x height x channels",
			       (long long)r->bytes);
	return 0;
}

static int parse(const struct json *j, struct classify_request *r, struct err *err)
{
	if (!json_is_obj(j))
		return err_set(err, -EINVAL, "found an array, expected an object");
	int code = json_has(j, "id") ? json_get_int(j, "id", 0, JSON_INT_MAX, &r->id, err) : 0;
	r->has_id = code == 0 && json_has(j, "id");
	/* As soon as it is known: what is wrong with the rest must not make a frame a request. */
	if (code == 0 && json_has(j, "bytes"))
		code = parse_frame(j, r, err);
	else if (code == 0 && json_has(j, "path"))
		code = json_get_str(j, "path", r->path, sizeof(r->path), err);
	if (code == 0)
		code = get_flag(j, "probabilities", &r->probabilities, err);
	if (code == 0)
		code = get_flag(j, "watch", &r->watch, err);
	r->has_watch = code == 0 && json_has(j, "watch");
	if (code == 0 && *r->path && *r->path != '/')
		code = err_set(err, -EINVAL, "path: found '%.200s', expected an absolute one",
			       r->path);
	return code;
}

int classify_request_parse(const char *line, size_t len, struct classify_request *ret,
			   struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct classify_request r = {0};
	int code = json_parse(line, len, CLASSIFY_LINE_MAX, &j, err);
	if (code == 0)
		code = parse(j, &r, err);
	r.lost = code < 0 && (!j || !json_is_obj(j) || (json_has(j, "bytes") && !r.bytes));
	*ret = r;
	return code;
}
