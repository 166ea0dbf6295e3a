/* The cage that a request `open` asks for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/args.h"
#include "common/engine/cage.h"
#include "common/engine/session.h"
#include "common/engine/worker.h"
#include "common/engine/worker_protocol.h"

#define NAMED_MAX 7 /* paths to be read that `open` itself names */
/* Of a file, as many as a model has, and: what momentum adds; the log. */
#define FILE_MODELS     4
#define FILE_MORE_BYTES ((uint64_t)64 * 1024 * 1024)

static int add_list(const struct json *cage, const char *key, const char **paths, size_t *n,
		    struct err *err)
{
	const struct json *list;
	int r = json_get_arr(cage, key, WORKER_CAGE_PATHS_MAX, &list, err);
	for (const struct json *e = r == 0 ? json_first(list) : NULL; e; e = json_next(e)) {
		if (!json_str(e))
			return err_set(err, -EINVAL, "cage.%s: found no string, expected a path",
				       key);
		paths[(*n)++] = json_str(e);
	}
	return r;
}

static void add_named(const struct json *obj, const char *key, const char **paths, size_t *n)
{
	if (json_get_text(obj, key, FILE_PATH_MAX, &paths[*n], NULL) == 0)
		++*n;
}

static void add_data(struct session *s, const struct json *args, const char **paths, size_t *n)
{
	static const char *const keys[CONFINE_FOLDERS] = {"path", "test_path", "validation_path",
							  "stay_path"};
	const struct json *data;
	struct stat st;
	if (json_get_obj(args, "data", &data, NULL) < 0)
		return;
	for (size_t i = 0; i < CONFINE_FOLDERS; i++) {
		size_t before = *n;
		add_named(data, keys[i], paths, n);
		if (*n == before || stat(paths[before], &st) < 0)
			continue;
		snprintf(s->folders[i].path, sizeof(s->folders[i].path), "%s", paths[before]);
		s->folders[i].dev = st.st_dev;
		s->folders[i].ino = st.st_ino;
	}
}

const char *confine_replaced(const struct session *s)
{
	struct stat st;
	for (size_t i = 0; i < CONFINE_FOLDERS; i++)
		if (*s->folders[i].path && stat(s->folders[i].path, &st) == 0 &&
		    (st.st_dev != s->folders[i].dev || st.st_ino != s->folders[i].ino))
			return s->folders[i].path;
	return NULL;
}

static int enter(struct session *s, const struct json *args, const struct json *cage, bool required,
		 struct err *err)
{
	size_t most = WORKER_CAGE_PATHS_MAX + NAMED_MAX + 1, n = 0, n_writable = 0;
	_cleanup_free_ const char **readable = calloc(most, sizeof(*readable));
	_cleanup_free_ const char **writable = calloc(most, sizeof(*writable));
	if (!readable || !writable)
		return err_errno(err, -ENOMEM, "cage");
	add_named(args, "cfg", readable, &n);
	add_named(args, "classes", readable, &n);
	add_named(args, "private_classes", readable, &n);
	add_data(s, args, readable, &n);
	int r = add_list(cage, "readable", readable, &n, err);
	if (r == 0)
		r = add_list(cage, "writable", writable, &n_writable, err);
	if (r < 0)
		return r;
	r = dnet_prepare(err);
	if (r < 0)
		return r;
	const struct cage c = {required, readable, writable};
	return cage_enter(&c, &s->cage, err);
}

int confine(struct session *s, const struct json *args, struct err *err)
{
	static const char *const words[] = WORKER_SANDBOXES;
	enum { ON, REQUIRE, OFF } how = OFF;
	const struct json *cage;
	char word[16] = "off";
	if (s->confined) /* an `open` that failed came before */
		return 0;
	int r = json_has(args, "cage") ? json_get_obj(args, "cage", &cage, err) : 0;
	if (r == 0 && json_has(args, "cage"))
		r = json_get_str(cage, "sandbox", word, sizeof(word), err);
	if (r < 0)
		return r;
	for (how = ON; how < OFF && strcmp(word, words[how]) != 0; how++)
		;
	if (strcmp(word, words[how]) != 0)
		return err_set(err, -EINVAL,
			       "cage.sandbox: found '%s', expected on, require or off", word);
	s->confined = true;
	if (how != OFF)
		return enter(s, args, cage, how == REQUIRE, err);
	snprintf(s->cage.missing, sizeof(s->cage.missing), "sandbox = off");
	return 0;
}

int confine_files(const struct session *s, struct err *err)
{
	if (!*s->cage.parts)
		return 0;
	return cage_limit_file(FILE_MODELS * s->model->file_bytes + FILE_MORE_BYTES, err);
}

struct json *confine_report(const struct session *s)
{
	struct json *j = json_new_obj();
	json_set_str(j, "parts", s->cage.parts);
	json_set_str(j, "missing", s->cage.missing);
	return j;
}
