#include "common/checkpoint/model_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/json/json.h"

static void set_path(struct json *j, const char *key, const char *path)
{
	_cleanup_free_ char *whole = *path ? realpath(path, NULL) : NULL;
	json_set_str(j, key, whole ? whole : path);
}

static char *print(const struct model_file *m)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	json_set_str(j, "model", m->model);
	json_set_str(j, "site", m->site);
	json_set_str(j, "device", m->device);
	set_path(j, "cfg", m->cfg);
	set_path(j, "classes", m->classes);
	set_path(j, "private_classes", m->private_classes);
	json_set_str(j, "absent_classes", m->absent);
	json_set_int(j, "center_crop", m->center_crop);
	return json_print_pretty(j);
}

int model_file_write(const char *state, const struct model_file *m, struct err *err)
{
	char path[FILE_PATH_MAX];
	_cleanup_free_ char *text = print(m), *was = NULL;
	size_t len;
	int r = file_path(path, sizeof(path), "%s/" MODEL_FILE, state);
	if (r < 0 || !text)
		return err_errno(err, r < 0 ? r : -ENOMEM, "%s/" MODEL_FILE, state);
	if (file_read(path, MODEL_FILE_BYTES_MAX, &was, &len, NULL) == 0 && strcmp(was, text) == 0)
		return 0;
	return file_write(path, text, strlen(text), err);
}

static int parse(const struct json *j, struct model_file *m, struct err *err)
{
	int64_t crop;
	int r;
	if ((r = json_get_str(j, "model", m->model, sizeof(m->model), err)) < 0 ||
	    (r = json_get_str(j, "site", m->site, sizeof(m->site), err)) < 0 ||
	    (r = json_get_str(j, "device", m->device, sizeof(m->device), err)) < 0 ||
	    (r = json_get_str(j, "cfg", m->cfg, sizeof(m->cfg), err)) < 0 ||
	    (r = json_get_str(j, "classes", m->classes, sizeof(m->classes), err)) < 0 ||
	    (r = json_get_str(j, "private_classes", m->private_classes, sizeof(m->private_classes),
			      err)) < 0 ||
	    (r = json_get_str(j, "absent_classes", m->absent, sizeof(m->absent), err)) < 0 ||
	    (r = json_get_int(j, "center_crop", 0, MODEL_FILE_CROP_MAX, &crop, err)) < 0)
		return r;
	if (!hash_valid(m->model))
		return err_set(err, -EINVAL, "model: found '%s', expected a sha256", m->model);
	if (!id_valid(m->site) || !id_valid(m->device))
		return err_set(err, -EINVAL, "site, device: found '%s', '%s', expected ids",
			       m->site, m->device);
	if (*m->cfg != '/' || *m->classes != '/')
		return err_set(err, -EINVAL, "%s: found '%.200s', expected an absolute path",
			       *m->cfg != '/' ? "cfg" : "classes",
			       *m->cfg != '/' ? m->cfg : m->classes);
	if (*m->private_classes && *m->private_classes != '/')
		return err_set(
			err, -EINVAL,
			"private_classes: found '%.200s', expected an absolute path, or none",
			m->private_classes);
	if (strcmp(m->absent, "train") != 0 && strcmp(m->absent, "mask") != 0)
		return err_set(err, -EINVAL, "absent_classes: found '%s', expected train or mask",
			       m->absent);
	m->center_crop = (uint32_t)crop;
	return 0;
}

int model_file_read(const char *state, struct model_file *ret, struct err *err)
{
	char path[FILE_PATH_MAX];
	struct model_file m = {0};
	_cleanup_(json_freep) struct json *j = NULL;
	int r = file_path(path, sizeof(path), "%s/" MODEL_FILE, state);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	if (!file_exists(path))
		return err_set(err, -ENOENT, "%s: not there: %s", path,
			       file_exists(state) ? "tasuki-agent has not run in this folder yet"
						  : "no such folder");
	r = json_parse_file(path, MODEL_FILE_BYTES_MAX, &j, err);
	if (r < 0)
		return r;
	r = parse(j, &m, err);
	if (r < 0)
		return err_prefix(err, "%s", path), r;
	*ret = m;
	return 0;
}
