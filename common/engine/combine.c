/* Weights made from others: blends, merges and grafts. */
#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/engine/args.h"
#include "common/engine/session.h"

/* A path, not an empty one. */
static int arg_path(const struct json *args, const char *key, char out[FILE_PATH_MAX],
		    struct err *err)
{
	int r = json_get_str(args, key, out, FILE_PATH_MAX, err);
	return r == 0 && !*out ? err_set(err, -EINVAL, "%s: found nothing, expected a path", key)
			       : r;
}

static int answer(struct session *s, const char *out, struct json **ret_result, struct err *err)
{
	char id[HASH_SIZE];
	int r = weights_check(s->model, out, NULL, id, err);
	if (r < 0)
		return r;
	*ret_result = json_new_obj();
	json_set_str(*ret_result, "out", out);
	json_set_str(*ret_result, "checkpoint", id);
	return 0;
}

int blend_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	char a[FILE_PATH_MAX], b[FILE_PATH_MAX], out[FILE_PATH_MAX];
	double alpha;
	int r = arg_path(j->args, "a", a, err);
	if (r < 0 || (r = arg_path(j->args, "b", b, err)) < 0 ||
	    (r = arg_path(j->args, "out", out, err)) < 0 ||
	    (r = json_get_num(j->args, "alpha", 0, 1, &alpha, err)) < 0 ||
	    (r = weights_blend(s->model, a, b, alpha, out, err)) < 0)
		return r;
	return answer(s, out, ret_result, err);
}

/* The paths are borrowed from `args`. */
static int read_inputs(const struct json *args, struct weights_input in[WEIGHTS_INPUTS_MAX],
		       size_t *ret_n, struct err *err)
{
	const struct json *list;
	int r = json_get_arr(args, "inputs", WEIGHTS_INPUTS_MAX, &list, err);
	size_t n = 0;
	for (const struct json *e = r == 0 ? json_first(list) : NULL; e; e = json_next(e), n++) {
		if (!json_is_obj(e))
			return err_set(err, -EINVAL, "inputs: found no object at %zu", n);
		r = json_get_text(e, "weights", FILE_PATH_MAX - 1, &in[n].path, err);
		if (r == 0)
			r = json_get_num(e, "share", 0, WEIGHTS_SHARE_MAX, &in[n].share, err);
		if (r < 0) {
			err_prefix(err, "inputs: %zu", n);
			return r;
		}
	}
	*ret_n = n;
	return r;
}

int merge_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	struct weights_input in[WEIGHTS_INPUTS_MAX];
	char out[FILE_PATH_MAX];
	size_t n;
	int r = arg_path(j->args, "out", out, err);
	if (r < 0 || (r = read_inputs(j->args, in, &n, err)) < 0 ||
	    (r = weights_merge(s->model, in, n, out, err)) < 0)
		return r;
	return answer(s, out, ret_result, err);
}

int graft_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	char base[FILE_PATH_MAX], rows[FILE_PATH_MAX], out[FILE_PATH_MAX];
	int64_t first;
	int r = arg_path(j->args, "base", base, err);
	if (r < 0 || (r = arg_str(j->args, "rows", rows, sizeof(rows), err)) < 0 ||
	    (r = arg_path(j->args, "out", out, err)) < 0 ||
	    (r = json_get_int(j->args, "first_row", 0, s->model->outputs, &first, err)) < 0 ||
	    (r = weights_graft(s->model, base, *rows ? rows : NULL, (uint32_t)first, out, err)) < 0)
		return r;
	return answer(s, out, ret_result, err);
}
