/* Model: what a reader sees is decided by renames alone, and each rename is made only after all
 * that it reveals is on the disk. So every prefix of the steps below is a state that store_open()
 * takes up:
 *
 * - add: .store-tmp/<id>.add/ made; manifest.json and weights written, copied or linked there and
 *   synced; renamed to checkpoints/<id>; checkpoints/ synced; the caller's file removed.
 * - activate: previous.next -> what is active; active -> id; previous.next renamed to previous. A
 *   previous.next that names what is active is an attempt that did not get as far as the switch,
 *   and is dropped; one that names another ends by its last rename.
 * - remove: checkpoints/<id> renamed to .store-tmp/<id>.gone; removed there.
 * - set aside: the links that name it switched or removed, active first; checkpoints/<id> renamed
 *   to damaged/<id>.
 *
 * Nothing is kept in memory but the folder's name: the links are the truth, also after an error. */
#include "common/checkpoint/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"

#define CHECKPOINTS STORE_CHECKPOINTS
#define DAMAGED     "damaged"
#define TMP         ".store-tmp"
/* In manifest.json, and nowhere else: */
#define STAYS      "stays"
#define NOISED     "noised"
#define NOISE_RHO  "noise_rho"
#define COPY_BYTES (256 * 1024)
#define TMP_MARK   "made by tasuki" /* a file; no name that store_tmp() gives */

struct store {
	char dir[FILE_PATH_MAX];
	char lost[HASH_SIZE];
};

static int path_in(const struct store *s, char out[FILE_PATH_MAX], struct err *err, const char *a,
		   const char *b)
{
	int r = file_path(out, FILE_PATH_MAX, "%s/%s%s", s->dir, a, b);
	return r < 0 ? err_errno(err, r, "%s/%s%s", s->dir, a, b) : 0;
}

void store_free(struct store *s)
{
	free(s);
}

/* ---- what is there ---- */

static bool is_file(const char *dir, const char *name)
{
	char path[FILE_PATH_MAX];
	struct stat st;
	return file_path(path, sizeof(path), "%s/%s", dir, name) == 0 && lstat(path, &st) == 0 &&
	       S_ISREG(st.st_mode);
}

bool store_has(const struct store *s, const char *id)
{
	char dir[FILE_PATH_MAX];
	return hash_valid(id) && path_in(s, dir, NULL, CHECKPOINTS "/", id) == 0 &&
	       is_file(dir, "weights") && is_file(dir, "manifest.json");
}

int store_weights(const struct store *s, const char *id, char path[FILE_PATH_MAX])
{
	if (!store_has(s, id))
		return -ENOENT;
	return file_path(path, FILE_PATH_MAX, "%s/" CHECKPOINTS "/%s/weights", s->dir, id);
}

static int read_noised(const struct json *j, struct manifest *m, struct err *err)
{
	int r = json_get_str(j, NOISED, m->noised, sizeof(m->noised), err);
	if (r == 0 && !hash_valid(m->noised))
		r = err_set(err, -EINVAL, NOISED ": found '%s', expected 64 hex digits", m->noised);
	return r < 0 ? r : json_get_num(j, NOISE_RHO, 0, 1e300, &m->noise_rho, err);
}

int store_manifest(const struct store *s, const char *id, struct manifest *ret, struct err *err)
{
	char path[FILE_PATH_MAX];
	if (!hash_valid(id))
		return err_set(err, -EINVAL, "%s: expected a checkpoint's id", s->dir);
	int r = file_path(path, sizeof(path), "%s/" CHECKPOINTS "/%s/manifest.json", s->dir, id);
	if (r < 0)
		return err_errno(err, r, "%s", s->dir);
	_cleanup_(json_freep) struct json *j = NULL;
	struct manifest m;
	r = json_parse_file(path, MANIFEST_BYTES_MAX, &j, err);
	if (r < 0)
		return r;
	r = manifest_from_json(j, NULL, &m, err);
	if (r == 0 && json_has(j, STAYS))
		r = json_get_bool(j, STAYS, &m.stays, err);
	if (r == 0 && json_has(j, NOISED))
		r = read_noised(j, &m, err);
	if (r == 0 && strcmp(m.id, id))
		r = err_set(err, -EBADMSG, "manifest: id: found %s, expected its folder's", m.id);
	if (r < 0) {
		err_prefix(err, "%s", path);
		return r;
	}
	*ret = m;
	return 0;
}

int store_list(const struct store *s, char (**ret)[HASH_SIZE], size_t *ret_n, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = path_in(s, path, err, CHECKPOINTS, "");
	if (r < 0)
		return r;
	DIR *d = opendir(path);
	if (!d)
		return err_errno(err, -errno, "%s", path);
	char(*ids)[HASH_SIZE] = NULL;
	size_t n = 0;
	for (struct dirent *e; (errno = 0, e = readdir(d));) {
		if (!store_has(s, e->d_name))
			continue;
		char(*more)[HASH_SIZE] = realloc(ids, (n + 1) * sizeof(*ids));
		if (!more) {
			errno = ENOMEM;
			break;
		}
		ids = more;
		memcpy(ids[n++], e->d_name, HASH_SIZE);
	}
	r = -errno;
	closedir(d);
	if (r < 0) {
		free(ids);
		return err_errno(err, r, "%s", path);
	}
	*ret = ids;
	*ret_n = n;
	return 0;
}

/* The checkpoint that a link names, there or not; "": none. Whether there is such a link at all. */
static bool read_target(const struct store *s, const char *name, char id[HASH_SIZE])
{
	static const char prefix[] = CHECKPOINTS "/";
	char path[FILE_PATH_MAX], target[FILE_PATH_MAX];
	ssize_t n = -1;
	if (path_in(s, path, NULL, name, "") == 0)
		n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	const char *to = target + sizeof(prefix) - 1;
	bool good = strncmp(target, prefix, sizeof(prefix) - 1) == 0 && hash_valid(to);
	memcpy(id, good ? to : "", good ? HASH_SIZE : 1);
	return n >= 0;
}

/* The same, "" when it is not there. */
static void read_link(const struct store *s, const char *name, char id[HASH_SIZE], bool *ret_there)
{
	bool there = read_target(s, name, id);
	if (ret_there)
		*ret_there = there;
	if (!store_has(s, id))
		id[0] = 0;
}

void store_active(const struct store *s, char id[HASH_SIZE])
{
	read_link(s, "active", id, NULL);
}

void store_previous(const struct store *s, char id[HASH_SIZE])
{
	read_link(s, "previous", id, NULL);
}

/* ---- links ---- */

static int drop_link(const struct store *s, const char *name, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = path_in(s, path, err, name, "");
	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "%s", path);
	return file_sync(s->dir, err);
}

static int set_link(const struct store *s, const char *name, const char *id, struct err *err)
{
	char path[FILE_PATH_MAX], target[sizeof(CHECKPOINTS) + HASH_SIZE];
	int r = path_in(s, path, err, name, "");
	if (r < 0)
		return r;
	snprintf(target, sizeof(target), CHECKPOINTS "/%s", id);
	return file_symlink(target, path, err);
}

/* Ends or takes back what a previous.next tells of. */
static int settle(const struct store *s, struct err *err)
{
	char active[HASH_SIZE], next[HASH_SIZE], from[FILE_PATH_MAX], to[FILE_PATH_MAX];
	bool there;
	read_link(s, "previous.next", next, &there);
	if (!there)
		return 0;
	store_active(s, active);
	if (!*next || !*active || strcmp(next, active) == 0)
		return drop_link(s, "previous.next", err);
	int r = path_in(s, from, err, "previous.next", "");
	if (r == 0)
		r = path_in(s, to, err, "previous", "");
	return r < 0 ? r : file_rename(from, to, err);
}

/* A link NAME -> TARGET that never changes. What is not a link is somebody's, and stays. */
static int permanent_link(const struct store *s, const char *name, const char *target,
			  struct err *err)
{
	char path[FILE_PATH_MAX], found[64];
	struct stat st;
	int r = path_in(s, path, err, name, "");
	if (r < 0)
		return r;
	if (lstat(path, &st) == 0 && !S_ISLNK(st.st_mode))
		return err_set(err, -EEXIST, "%s: found no symbolic link, expected one to %s", path,
			       target);
	ssize_t n = readlink(path, found, sizeof(found) - 1);
	found[n > 0 ? n : 0] = 0;
	return strcmp(found, target) == 0 ? 0 : file_symlink(target, path, err);
}

static int permanent_links(const struct store *s, struct err *err)
{
	int r = permanent_link(s, "active.weights", "active/weights", err);
	return r < 0 ? r : permanent_link(s, "active.json", "active/manifest.json", err);
}

int store_activate(struct store *s, const char *id, struct err *err)
{
	char active[HASH_SIZE];
	if (!store_has(s, id))
		return err_set(err, -ENOENT, "%s: checkpoint %.12s is not there", s->dir, id);
	int r = settle(s, err);
	if (r == 0)
		r = permanent_links(s, err);
	store_active(s, active);
	if (r < 0 || strcmp(active, id) == 0)
		return r;
	if (*active)
		r = set_link(s, "previous.next", active, err);
	if (r == 0)
		r = set_link(s, "active", id, err);
	/* After an error, too: whether the switch happened is what the links say. */
	int r2 = settle(s, r < 0 ? NULL : err);
	return r < 0 ? r : r2;
}

/* ---- setting aside ---- */

/* Removes the oldest but STORE_DAMAGED_MAX. A rename changes the ctime. */
static int prune_damaged(const struct store *s, struct err *err)
{
	for (;;) {
		char dir[FILE_PATH_MAX], path[FILE_PATH_MAX], oldest[HASH_SIZE] = "";
		struct timespec since = {0};
		size_t n = 0;
		struct stat st;
		int r = path_in(s, dir, err, DAMAGED, "");
		DIR *d = r == 0 ? opendir(dir) : NULL;
		if (!d)
			return r < 0 ? r : err_errno(err, -errno, "%s", dir);
		for (struct dirent *e; (e = readdir(d));) {
			if (!hash_valid(e->d_name) || fstatat(dirfd(d), e->d_name, &st, 0) < 0)
				continue;
			bool older = st.st_ctim.tv_sec < since.tv_sec ||
				     (st.st_ctim.tv_sec == since.tv_sec &&
				      st.st_ctim.tv_nsec < since.tv_nsec);
			if (n++ == 0 || older) {
				memcpy(oldest, e->d_name, HASH_SIZE);
				since = st.st_ctim;
			}
		}
		closedir(d);
		if (n <= STORE_DAMAGED_MAX)
			return 0;
		r = path_in(s, path, err, DAMAGED "/", oldest);
		if (r == 0)
			r = file_remove(path, err);
		if (r < 0)
			return r;
	}
}

static int move_aside(const struct store *s, const char *id, struct err *err)
{
	char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
	int r = path_in(s, from, err, CHECKPOINTS "/", id);
	if (r == 0 && !file_exists(from))
		r = err_set(err, -ENOENT, "%s: checkpoint %.12s is not there", s->dir, id);
	if (r == 0)
		r = path_in(s, to, err, DAMAGED "/", id);
	if (r == 0)
		r = file_remove(to, err); /* the same one, damaged before */
	if (r == 0)
		r = file_rename(from, to, err);
	if (r == 0)
		r = path_in(s, from, err, CHECKPOINTS, "");
	if (r == 0)
		r = file_sync(from, err);
	return r < 0 ? r : prune_damaged(s, err);
}

int store_set_aside(struct store *s, const char *id, const char *instead, struct err *err)
{
	char active[HASH_SIZE], previous[HASH_SIZE];
	if (!hash_valid(id) || (*instead && !store_has(s, instead)))
		return err_set(err, -EINVAL, "%s: expected ids of checkpoints", s->dir);
	int r = settle(s, err);
	read_target(s, "active", active);
	read_target(s, "previous", previous);
	bool was_active = strcmp(active, id) == 0;
	if (r == 0 && was_active)
		r = *instead ? set_link(s, "active", instead, err) : drop_link(s, "active", err);
	if (r == 0 && *previous &&
	    (strcmp(previous, id) == 0 || (was_active && strcmp(previous, instead) == 0)))
		r = drop_link(s, "previous", err);
	return r < 0 ? r : move_aside(s, id, err);
}

/* Folders that lack a file: store_list() does not see them, so nobody else would remove them. */
static int set_aside_incomplete(struct store *s, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = path_in(s, path, err, CHECKPOINTS, "");
	DIR *d = r == 0 ? opendir(path) : NULL;
	if (!d)
		return r < 0 ? r : err_errno(err, -errno, "%s", path);
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (hash_valid(e->d_name) && !store_has(s, e->d_name))
			r = move_aside(s, e->d_name, err);
	closedir(d);
	return r;
}

void store_lost(const struct store *s, char id[HASH_SIZE])
{
	memcpy(id, s->lost, HASH_SIZE);
}

/* ---- opening ---- */

/* Links to nothing: the previous one stands in for the active one. */
static int mend_links(struct store *s, struct err *err)
{
	char active[HASH_SIZE], previous[HASH_SIZE];
	bool active_there, previous_there;
	int r = settle(s, err);
	read_link(s, "active", active, &active_there);
	read_link(s, "previous", previous, &previous_there);
	if (r == 0 && active_there && !*active) {
		read_target(s, "active", s->lost);
		r = *previous ? set_link(s, "active", previous, err) : drop_link(s, "active", err);
	}
	if (r == 0 && previous_there &&
	    (!*previous || strcmp(previous, active) == 0 || (active_there && !*active)))
		r = drop_link(s, "previous", err);
	return r == 0 && *active ? permanent_links(s, err) : r;
}

/* The folder with the file that marks it as ours. What has another's things in it stays as it is.
 */
static int make_tmp(const struct store *s, struct err *err)
{
	char path[FILE_PATH_MAX], mark[FILE_PATH_MAX];
	struct stat st;
	int r = path_in(s, path, err, TMP, "");
	if (r == 0)
		r = path_in(s, mark, err, TMP "/", TMP_MARK);
	if (r < 0)
		return r;
	bool there = lstat(path, &st) == 0;
	if (there && S_ISDIR(st.st_mode) && file_exists(mark))
		return 0;
	/* Empty: a crash came before the mark. */
	if (there && rmdir(path) < 0)
		return err_set(err, -EEXIST,
			       "%s: found something that no store made, expected nothing: move it "
			       "away",
			       path);
	r = file_mkdirs(path, err);
	return r < 0 ? r : file_write(mark, "", 0, err);
}

static int empty_tmp(const struct store *s, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = path_in(s, path, err, TMP, "");
	if (r < 0)
		return r;
	DIR *d = opendir(path);
	if (!d)
		return err_errno(err, -errno, "%s", path);
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    strcmp(e->d_name, TMP_MARK) == 0)
			continue;
		r = path_in(s, path, err, TMP "/", e->d_name);
		if (r == 0)
			r = file_remove(path, err);
	}
	closedir(d);
	return r;
}

static int make_folders(const struct store *s, struct err *err)
{
	/* What file_symlink() may have left half way. */
	static const char *const leftovers[] = {"active.tmp", "previous.tmp", "previous.next.tmp",
						"active.weights.tmp", "active.json.tmp"};
	char path[FILE_PATH_MAX];
	int r = path_in(s, path, err, CHECKPOINTS, "");
	if (r == 0)
		r = file_mkdirs(path, err);
	if (r == 0)
		r = path_in(s, path, err, DAMAGED, "");
	if (r == 0)
		r = file_mkdirs(path, err);
	if (r == 0)
		r = make_tmp(s, err);
	if (r == 0)
		r = empty_tmp(s, err);
	if (r == 0)
		r = path_in(s, path, err, STORE_OUT, "");
	if (r == 0)
		r = file_mkdirs(path, err);
	for (size_t i = 0; i < ARRAY_LEN(leftovers) && r == 0; i++) {
		r = path_in(s, path, err, leftovers[i], "");
		if (r == 0 && unlink(path) < 0 && errno != ENOENT)
			r = err_errno(err, -errno, "%s", path);
	}
	return r < 0 ? r : file_sync(s->dir, err);
}

int store_open(const char *dir, struct store **ret, struct err *err)
{
	_cleanup_(store_freep) struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(err, -ENOMEM, "%s", dir);
	/* Room is left for the longest name inside. */
	if (!*dir || strlen(dir) > sizeof(s->dir) - 160)
		return err_errno(err, *dir ? -ENAMETOOLONG : -EINVAL, "'%.80s'", dir);
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	int r = make_folders(s, err);
	if (r == 0)
		r = mend_links(s, err);
	if (r == 0)
		r = set_aside_incomplete(s, err);
	if (r == 0)
		r = prune_damaged(s, err); /* a crash may have come before that */
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

int store_tmp(struct store *s, const char *name, char path[FILE_PATH_MAX], struct err *err)
{
	if (!id_valid(name))
		return err_set(err, -EINVAL, "%s/" TMP ": '%.40s' is no name for a file", s->dir,
			       name);
	return path_in(s, path, err, STORE_OUT "/", name);
}

/* ---- adding ---- */

static int write_manifest(const char *dir, const struct manifest *m, struct err *err)
{
	char path[FILE_PATH_MAX];
	_cleanup_(json_freep) struct json *j = json_new_obj();
	if (j)
		manifest_to_json(m, j);
	if (j && m->stays)
		json_set_bool(j, STAYS, true);
	if (j && *m->noised) {
		json_set_str(j, NOISED, m->noised);
		json_set_num(j, NOISE_RHO, m->noise_rho);
	}
	_cleanup_free_ char *text = j ? json_print_pretty(j) : NULL;
	int r = text ? file_path(path, sizeof(path), "%s/manifest.json", dir) : -ENOMEM;
	return r < 0 ? err_errno(err, r, "%s", dir) : file_write(path, text, strlen(text), err);
}

/* All bytes of one file into another, and what they hash to. */
static int copy(int from, int to, char ret_id[HASH_SIZE])
{
	struct hash *h = NULL;
	_cleanup_free_ char *buf = malloc(COPY_BYTES);
	int r = buf ? hash_new(&h) : -ENOMEM;
	for (uint64_t at = 0; r == 0;) {
		ssize_t n = file_read_at(from, buf, COPY_BYTES, at);
		if (n <= 0) {
			r = (int)n;
			break;
		}
		r = hash_update(h, buf, (size_t)n);
		if (r == 0)
			r = file_write_all(to, buf, (size_t)n);
		at += (uint64_t)n;
	}
	if (r == 0 && fsync(to) < 0)
		r = -errno;
	if (r == 0)
		r = hash_hex(h, ret_id);
	hash_free(h);
	return r;
}

static int copy_in(int from, const char *path, const char *id, struct err *err)
{
	char found[HASH_SIZE];
	_cleanup_close_ int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (to < 0)
		return err_errno(err, -errno, "%s", path);
	int r = copy(from, to, found);
	if (r < 0)
		return err_errno(err, r, "%s: copy", path);
	if (strcmp(found, id) != 0)
		return err_set(err, -EBADMSG, "%s: found sha256 %.12s, expected %.12s", path, found,
			       id);
	return 0;
}

static int link_in(int fd, const char *from, const char *path, struct err *err)
{
	if (fsync(fd) < 0)
		return err_errno(err, -errno, "%s: sync", from);
	if (link(from, path) < 0)
		return err_errno(err, -errno, "%s: link to %s", from, path);
	return 0;
}

/* A file of m->size bytes, or of any size with `any`, onto the disk: a copy that hashes to `id`,
 * for whoever wrote it, as a worker does, may hold it open still; with `own`, of a file that nobody
 * else has had open and that is verified, a second name. */
static int take_file(const char *from, const char *dir, const char *name, const char *id,
		     const struct manifest *m, bool any, bool own, struct err *err)
{
	char path[FILE_PATH_MAX];
	struct stat st;
	_cleanup_close_ int fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, -errno, "%s", from);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: found no regular file, expected one", from);
	if (!any && st.st_size != m->size)
		return err_set(err, -EINVAL,
			       "%s: found %lld bytes, expected %lld as its manifest says", from,
			       (long long)st.st_size, (long long)m->size);
	int r = file_path(path, sizeof(path), "%s/%s", dir, name);
	if (r < 0)
		return err_errno(err, r, "%s", dir);
	r = own ? link_in(fd, from, path, err) : copy_in(fd, path, id, err);
	if (r < 0)
		return r;
	return file_sync(dir, err);
}

/* A file of the store itself would be lost by being moved in. */
static int check_outside(const struct store *s, const char *weights_path, struct err *err)
{
	char path[FILE_PATH_MAX];
	int r = path_in(s, path, err, CHECKPOINTS, "");
	if (r < 0)
		return r;
	_cleanup_free_ char *file = realpath(weights_path, NULL);
	if (!file)
		return err_errno(err, -errno, "%s", weights_path);
	_cleanup_free_ char *store = realpath(path, NULL);
	if (!store)
		return err_errno(err, -errno, "%s", path);
	size_t n = strlen(store);
	if (strncmp(file, store, n) == 0 && file[n] == '/')
		return err_set(err, -EINVAL, "%s: is in the store, expected a file outside of it",
			       weights_path);
	return 0;
}

static int fill_and_rename(const char *weights_path, const char *payload_path, const char *dir,
			   const char *final, const struct manifest *m, bool own, struct err *err)
{
	int r = file_mkdirs(dir, err);
	if (r == 0)
		r = write_manifest(dir, m, err);
	if (r == 0)
		r = take_file(weights_path, dir, "weights", m->id, m, payload_path, own, err);
	if (r == 0 && payload_path)
		r = take_file(payload_path, dir, "payload", m->payload, m, false, false, err);
	/* Something incomplete of that name is nothing that store_has() counts. */
	if (r == 0)
		r = file_remove(final, err);
	return r < 0 ? r : file_rename(dir, final, err);
}

/* One whose manifest says another form than it has is never there, whenever a crash comes. */
static int replace_payload(const struct store *s, const char *payload_path,
			   const struct manifest *m, struct err *err)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
	struct manifest plain, coded = *m;
	struct stat st;
	int r = store_manifest(s, m->id, &plain, err);
	if (r == 0)
		coded.stays |= plain.stays; /* by whatever way it was made before */
	if (r == 0)
		r = path_in(s, dir, err, CHECKPOINTS "/", m->id);
	if (r == 0)
		r = store_weights(s, m->id, path);
	if (r == 0 && stat(path, &st) < 0)
		r = err_errno(err, -errno, "%s", path);
	if (r == 0 && plain.encoding != ENCODING_RAW) {
		manifest_decoded(&plain, (uint64_t)st.st_size);
		r = write_manifest(dir, &plain, err);
	}
	if (r == 0)
		r = file_path(path, sizeof(path), "%s/payload", dir);
	if (r == 0)
		r = file_remove(path, err);
	if (r == 0)
		r = take_file(payload_path, dir, "payload", m->payload, m, false, false, err);
	return r < 0 ? r : write_manifest(dir, &coded, err);
}

int store_payload(const struct store *s, const char *id, char path[FILE_PATH_MAX], struct err *err)
{
	struct manifest m;
	int r = store_manifest(s, id, &m, err);
	if (r < 0)
		return r;
	if (m.encoding == ENCODING_RAW)
		return store_weights(s, id, path);
	r = file_path(path, FILE_PATH_MAX, "%s/" CHECKPOINTS "/%s/payload", s->dir, id);
	return r < 0 ? err_errno(err, r, "%s", s->dir) : 0;
}

static int add(struct store *s, const char *weights_path, const char *payload_path,
	       const struct manifest *m, bool own, struct err *err)
{
	char dir[FILE_PATH_MAX], final[FILE_PATH_MAX], name[HASH_SIZE + 8];
	if (!hash_valid(m->id))
		return err_set(err, -EINVAL, "%s: expected a checkpoint's id", s->dir);
	int r = check_outside(s, weights_path, err);
	if (r < 0)
		return r;
	if (!store_has(s, m->id)) {
		snprintf(name, sizeof(name), "%s.add", m->id);
		r = path_in(s, dir, err, TMP "/", name);
		if (r == 0)
			r = path_in(s, final, err, CHECKPOINTS "/", m->id);
		if (r == 0)
			r = file_remove(dir, err);
		if (r == 0)
			r = fill_and_rename(weights_path, payload_path, dir, final, m, own, err);
		if (r < 0 && !store_has(s, m->id))
			file_remove(dir, NULL);
	} else if (payload_path) {
		r = replace_payload(s, payload_path, m, err);
	}
	if (r < 0)
		return r;
	/* A name that cannot be removed is litter, not a failure: the checkpoint is there. */
	unlink(weights_path);
	if (payload_path)
		unlink(payload_path);
	return 0;
}

static int add_raw(struct store *s, const char *weights_path, const struct manifest *m, bool own,
		   struct err *err)
{
	if (m->encoding != ENCODING_RAW)
		return err_set(err, -EINVAL,
			       "%s: checkpoint %.12s: found encoding %s, expected raw", s->dir,
			       m->id, encoding_name(m->encoding));
	return add(s, weights_path, NULL, m, own, err);
}

int store_add(struct store *s, const char *weights_path, const struct manifest *m, struct err *err)
{
	return add_raw(s, weights_path, m, false, err);
}

int store_add_own(struct store *s, const char *weights_path, const struct manifest *m,
		  struct err *err)
{
	return add_raw(s, weights_path, m, true, err);
}

int store_add_coded(struct store *s, const char *weights_path, const char *payload_path,
		    const struct manifest *m, struct err *err)
{
	if (m->encoding == ENCODING_RAW)
		return err_set(err, -EINVAL,
			       "%s: checkpoint %.12s: found encoding raw, expected another", s->dir,
			       m->id);
	int r = check_outside(s, payload_path, err);
	return r < 0 ? r : add(s, weights_path, payload_path, m, false, err);
}

/* ---- collecting ---- */

static int discard(const struct store *s, const char *id, struct err *err)
{
	char from[FILE_PATH_MAX], to[FILE_PATH_MAX], name[HASH_SIZE + 8];
	snprintf(name, sizeof(name), "%s.gone", id);
	int r = path_in(s, from, err, CHECKPOINTS "/", id);
	if (r == 0)
		r = path_in(s, to, err, TMP "/", name);
	if (r == 0)
		r = file_remove(to, err);
	if (r == 0 && rename(from, to) < 0)
		r = err_errno(err, -errno, "%s", from);
	return r < 0 ? r : file_remove(to, err);
}

int store_collect(struct store *s, const char (*keep)[HASH_SIZE], size_t n, struct err *err)
{
	char active[HASH_SIZE], previous[HASH_SIZE], path[FILE_PATH_MAX];
	_cleanup_free_ char(*ids)[HASH_SIZE] = NULL;
	size_t n_ids = 0;
	int r = settle(s, err);
	if (r == 0)
		r = store_list(s, &ids, &n_ids, err);
	store_active(s, active);
	store_previous(s, previous);
	for (size_t i = 0; i < n_ids && r == 0; i++) {
		bool kept = strcmp(ids[i], active) == 0 || strcmp(ids[i], previous) == 0;
		for (size_t k = 0; k < n && !kept; k++)
			kept = strcmp(ids[i], keep[k]) == 0;
		if (!kept)
			r = discard(s, ids[i], err);
	}
	if (r == 0)
		r = path_in(s, path, err, CHECKPOINTS, "");
	return r < 0 ? r : file_sync(path, err);
}

int store_remove(struct store *s, const char *id, struct err *err)
{
	char active[HASH_SIZE], previous[HASH_SIZE];
	if (!store_has(s, id))
		return err_set(err, -ENOENT, "%s: checkpoint %.12s is not there", s->dir, id);
	store_active(s, active);
	store_previous(s, previous);
	if (strcmp(id, active) == 0 || strcmp(id, previous) == 0)
		return err_set(err, -EBUSY,
			       "%s: checkpoint %.12s is the active or the previous one", s->dir,
			       id);
	return discard(s, id, err);
}

int store_added_ms(const struct store *s, const char *id, int64_t *ret)
{
	char path[FILE_PATH_MAX];
	struct stat st;
	if (!store_has(s, id))
		return -ENOENT;
	int r = file_path(path, sizeof(path), "%s/" CHECKPOINTS "/%s/manifest.json", s->dir, id);
	if (r == 0 && stat(path, &st) < 0)
		r = -errno;
	if (r == 0)
		*ret = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	return r;
}
