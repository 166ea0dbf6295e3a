#include "libtasuki/folder.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/checkpoint/store.h"
#include "common/json/json.h"

#define EVENTS_BYTES 4096

int folder_active(const char *state, char id[HASH_SIZE], struct err *err)
{
	char path[FILE_PATH_MAX], to[FILE_PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/active", state);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return err_errno(err, -errno, "%s", path);
	to[n] = 0;
	const char *name = to + strlen(STORE_CHECKPOINTS "/");
	if (strncmp(to, STORE_CHECKPOINTS "/", strlen(STORE_CHECKPOINTS "/")) != 0 ||
	    !hash_valid(name))
		return err_set(err, -EINVAL,
			       "%s: points at '%.200s', expected " STORE_CHECKPOINTS
			       "/ and a sha256",
			       path, to);
	memcpy(id, name, HASH_SIZE);
	return 0;
}

static int check(const char *path, const char *id, const struct model *m, const struct manifest *f,
		 struct err *err)
{
	if (strcmp(f->id, id) != 0)
		return err_set(err, -EBADMSG, "%s: id: found %.12s, expected %.12s", path, f->id,
			       id);
	if (strcmp(f->model, m->id) != 0)
		return err_set(
			err, -ESTALE,
			"%s: is of model %.12s, but %s and its class list describe model %.12s",
			path, f->model, m->cfg_path, m->id);
	return 0;
}

int folder_checkpoint(const char *state, const char *id, const struct model *m,
		      char weights[FILE_PATH_MAX], struct manifest *ret, struct err *err)
{
	char path[FILE_PATH_MAX], file[FILE_PATH_MAX];
	struct manifest f;
	struct stat st;
	_cleanup_(json_freep) struct json *j = NULL;
	int r = file_path(path, sizeof(path), "%s/" STORE_CHECKPOINTS "/%s/manifest.json", state,
			  id);
	if (r == 0)
		r = file_path(file, sizeof(file), "%s/" STORE_CHECKPOINTS "/%s/weights", state, id);
	if (r < 0)
		return err_errno(err, r, "%s", state);
	r = json_parse_file(path, MANIFEST_BYTES_MAX, &j, err);
	if (r == 0 && (r = manifest_from_json(j, NULL, &f, err)) < 0)
		err_prefix(err, "%s", path);
	if (r == 0)
		r = check(path, id, m, &f, err);
	if (r < 0)
		return r;
	if (stat(file, &st) < 0)
		return err_errno(err, -errno, "%s", file);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->file_bytes)
		return err_set(err, -EBADMSG, "%s: found %lld bytes, expected a file of %llu", file,
			       (long long)st.st_size, (unsigned long long)m->file_bytes);
	memcpy(weights, file, sizeof(file));
	*ret = f;
	return 0;
}

uint64_t folder_number(const char *state)
{
	char path[FILE_PATH_MAX];
	struct stat st;
	if (file_path(path, sizeof(path), "%s/" STORE_CHECKPOINTS, state) < 0 ||
	    stat(path, &st) < 0)
		return 0;
	return (uint64_t)st.st_ino ^ (uint64_t)st.st_dev << 48 ^ 1;
}

int folder_watch(int inotify_fd, const char *state, int *watch)
{
	*watch = inotify_add_watch(inotify_fd, state,
				   IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF |
					   IN_MOVE_SELF | IN_ONLYDIR);
	return *watch < 0 ? -errno : 0;
}

bool folder_changed(int inotify_fd, int *watch)
{
	char buf[EVENTS_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool changed = false;
	for (ssize_t n; (n = read(inotify_fd, buf, sizeof(buf))) > 0;) {
		for (char *at = buf; at < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)at;
			at += sizeof(*e) + e->len;
			if (e->wd == *watch &&
			    e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) {
				inotify_rm_watch(inotify_fd, *watch);
				*watch = -1;
			}
			changed |= !e->len || strcmp(e->name, "active") == 0;
		}
	}
	return changed;
}
