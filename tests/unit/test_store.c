/* The store: what its functions do, what a kill at any moment leaves, what a full disk does. */
#include "ckpt_util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/checkpoint/store.h"
#include "common/crypto/hash.h"

#define WEIGHTS_BYTES 100000
#define KILLS         40u

/* Writes the weights of checkpoint k (its own bytes) to path; its manifest. */
static int make_checkpoint(const char *path, unsigned k, struct manifest *m)
{
	static uint8_t data[WEIGHTS_BYTES];
	struct rng rng;
	rng_init(&rng, k);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rng_u64(&rng);
	*m = (struct manifest){.origin = ORIGIN_LOCAL,
			       .device = "d",
			       .epoch = k,
			       .classes = 3,
			       .size = WEIGHTS_BYTES,
			       .block_size = 4096,
			       .created_ms = 1795000000000,
			       .encoding = ENCODING_RAW};
	memset(m->model, 'a', HASH_HEX);
	int r = hash_bytes(data, sizeof(data), m->id);
	return r < 0 ? r : file_write(path, data, sizeof(data), NULL);
}

static struct store *open_store(const char *dir)
{
	struct store *s = NULL;
	struct err err = {0};
	if (store_open(dir, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static void add(struct store *s, unsigned k, char id[HASH_SIZE])
{
	char path[FILE_PATH_MAX];
	struct manifest m;
	struct err err = {0};
	assert_int_equal(store_tmp(s, "new.weights", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, k, &m), 0);
	if (store_add(s, path, &m, &err) < 0)
		fail_msg("%s", err.text);
	assert_false(file_exists(path));
	assert_true(store_has(s, m.id));
	memcpy(id, m.id, HASH_SIZE);
}

/* Whoever wrote the file, and holds it open, changes nothing of what is in the store. */
static void held_open(void **state)
{
	const char *dir = *state;
	_cleanup_(store_freep) struct store *s = open_store(dir);
	char path[FILE_PATH_MAX], other[FILE_PATH_MAX + 2], found[HASH_SIZE];
	struct manifest m;
	assert_int_equal(store_tmp(s, "new.weights", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, 1, &m), 0);
	snprintf(other, sizeof(other), "%s.2", path);
	assert_int_equal(link(path, other), 0);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(store_add(s, path, &m, NULL), 0);
	assert_int_equal(pwrite(fd, "xxxx", 4, 100), 4);
	assert_int_equal(store_weights(s, m.id, path), 0);
	assert_int_equal(hash_file(path, found, NULL), 0);
	assert_string_equal(found, m.id);
	/* One that nobody else has had is not copied. */
	struct stat before, after;
	assert_int_equal(store_tmp(s, "received", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, 2, &m), 0);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(store_add_own(s, path, &m, NULL), 0);
	assert_int_equal(store_weights(s, m.id, path), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
}

static void path_of(char path[FILE_PATH_MAX], const char *dir, const char *name)
{
	assert_int_equal(file_path(path, FILE_PATH_MAX, "%s/%s", dir, name), 0);
}

/* What any reader sees: NULL when `active` is whole or absent, else what is wrong. It opens the
 * folder once, as an application should. */
static const char *look(const char *dir, char id[HASH_SIZE])
{
	static char json[MANIFEST_BYTES_MAX], weights[WEIGHTS_BYTES + 1];
	char path[FILE_PATH_MAX];
	id[0] = 0;
	if (file_path(path, sizeof(path), "%s/active", dir) < 0)
		return "path";
	_cleanup_close_ int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return errno == ENOENT ? NULL : "active";
	_cleanup_close_ int w = openat(folder, "weights", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int j = openat(folder, "manifest.json", O_RDONLY | O_CLOEXEC);
	if (w < 0 || j < 0)
		return "missing weights or manifest.json";
	ssize_t nj = read(j, json, sizeof(json)), nw = read(w, weights, sizeof(weights));
	_cleanup_(json_freep) struct json *parsed = NULL;
	struct manifest m;
	if (nj < 0 || json_parse(json, (size_t)nj, sizeof(json), &parsed, NULL) < 0 ||
	    manifest_from_json(parsed, NULL, &m, NULL) < 0)
		return "manifest.json";
	char hash[HASH_SIZE];
	if (nw != WEIGHTS_BYTES || hash_bytes(weights, (size_t)nw, hash) < 0 || strcmp(hash, m.id))
		return "weights do not match their manifest";
	memcpy(id, m.id, HASH_SIZE);
	return NULL;
}

static void expect(const struct store *s, const char *dir, const char *active, const char *previous)
{
	char id[HASH_SIZE], a[FILE_PATH_MAX], b[FILE_PATH_MAX];
	const char *wrong = look(dir, id);
	if (wrong)
		fail_msg("%s", wrong);
	assert_string_equal(id, active);
	store_active(s, id);
	assert_string_equal(id, active);
	store_previous(s, id);
	assert_string_equal(id, previous);
	path_of(a, dir, "previous.next");
	struct stat st;
	assert_int_equal(lstat(a, &st), -1);
	if (!*active)
		return;
	struct stat one, two;
	path_of(a, dir, "active.weights");
	assert_int_equal(store_weights(s, active, b), 0);
	assert_int_equal(stat(a, &one), 0);
	assert_int_equal(stat(b, &two), 0);
	assert_true(one.st_ino == two.st_ino);
	path_of(a, dir, "active.json");
	assert_int_equal(stat(a, &one), 0);
}

static void basics(void **state)
{
	const char *dir = *state;
	char sub[FILE_PATH_MAX], a[HASH_SIZE], b[HASH_SIZE], c[HASH_SIZE], path[FILE_PATH_MAX];
	struct manifest m;
	struct err err = {0};
	path_of(sub, dir, "deep/state");
	_cleanup_(store_freep) struct store *s = open_store(sub);
	expect(s, sub, "", "");
	memset(a, '1', HASH_HEX);
	a[HASH_HEX] = 0;
	assert_false(store_has(s, a));
	assert_false(store_has(s, "../checkpoints"));
	assert_int_equal(store_activate(s, a, &err), -ENOENT);
	assert_int_equal(store_weights(s, a, path), -ENOENT);
	assert_int_equal(store_manifest(s, a, &m, &err), -ENOENT);
	assert_int_equal(store_manifest(s, "../x", &m, &err), -EINVAL);
	add(s, 1, a);
	expect(s, sub, "", "");
	assert_int_equal(store_activate(s, a, NULL), 0);
	expect(s, sub, a, "");
	assert_int_equal(store_activate(s, a, NULL), 0);
	expect(s, sub, a, "");
	add(s, 2, b);
	add(s, 3, c);
	assert_int_equal(store_activate(s, b, NULL), 0);
	expect(s, sub, b, a);
	assert_int_equal(store_activate(s, b, NULL), 0);
	expect(s, sub, b, a);
	assert_int_equal(store_activate(s, c, NULL), 0);
	expect(s, sub, c, b);
	assert_int_equal(store_activate(s, b, NULL), 0); /* rollback */
	expect(s, sub, b, c);
	assert_int_equal(store_manifest(s, b, &m, NULL), 0);
	assert_string_equal(m.id, b);
	assert_int_equal(m.epoch, 2);
	store_free(TAKE_PTR(s));
	s = open_store(sub);
	expect(s, sub, b, c);
}

static void adding(void **state)
{
	const char *dir = *state;
	char a[HASH_SIZE], path[FILE_PATH_MAX], link[FILE_PATH_MAX];
	struct manifest m;
	struct err err = {0};
	_cleanup_(store_freep) struct store *s = open_store(dir);
	add(s, 1, a);
	add(s, 1, a); /* again: success */
	assert_int_equal(store_activate(s, a, NULL), 0);
	/* A file of the store, under whatever name, is not moved into it. */
	assert_int_equal(store_manifest(s, a, &m, NULL), 0);
	assert_int_equal(store_weights(s, a, path), 0);
	assert_int_equal(store_add(s, path, &m, &err), -EINVAL);
	path_of(path, dir, "active.weights");
	assert_int_equal(store_add(s, path, &m, &err), -EINVAL);
	expect(s, dir, a, "");
	/* Not a file, not of the size, not there: refused, left alone. */
	assert_int_equal(store_tmp(s, "x", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, 2, &m), 0);
	m.size++;
	assert_int_equal(store_add(s, path, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "100001"));
	assert_true(file_exists(path));
	m.size--;
	m.id[0] = m.id[0] == 'a' ? 'b' : 'a';
	assert_int_equal(store_add(s, path, &m, &err), -EBADMSG);
	assert_true(file_exists(path) && !store_has(s, m.id));
	assert_int_equal(make_checkpoint(path, 2, &m), 0);
	path_of(link, dir, STORE_OUT "/link");
	assert_int_equal(symlink("x", link), 0);
	assert_int_equal(store_add(s, link, &m, &err), -ELOOP);
	path_of(link, dir, STORE_OUT "/none");
	assert_int_equal(store_add(s, link, &m, &err), -ENOENT);
	assert_int_equal(store_add(s, dir, &m, &err), -EINVAL);
	assert_false(store_has(s, m.id));
	/* Half of one by that id (somebody's doing) is replaced. */
	path_of(link, dir, "checkpoints");
	strcat(strcat(link, "/"), m.id);
	assert_int_equal(mkdir(link, 0700), 0);
	assert_false(store_has(s, m.id));
	assert_int_equal(store_add(s, path, &m, &err), 0);
	assert_true(store_has(s, m.id));
	/* Names for tmp. */
	static const char *const names[] = {"", ".", "..", "a/b", "a b"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(store_tmp(s, names[i], path, &err), -EINVAL);
}

static void damaged_manifest(void **state)
{
	const char *dir = *state;
	char a[HASH_SIZE], b[HASH_SIZE], pa[FILE_PATH_MAX], pb[FILE_PATH_MAX];
	struct manifest m;
	struct err err = {0};
	_cleanup_(store_freep) struct store *s = open_store(dir);
	add(s, 1, a);
	add(s, 2, b);
	assert_int_equal(file_path(pa, sizeof(pa), "%s/checkpoints/%s/manifest.json", dir, a), 0);
	assert_int_equal(file_path(pb, sizeof(pb), "%s/checkpoints/%s/manifest.json", dir, b), 0);
	util_write(pa, "{\"id\":", 6);
	assert_int_equal(store_manifest(s, a, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, pa));
	assert_int_equal(unlink(pa), 0);
	assert_int_equal(rename(pb, pa), 0);
	assert_int_equal(store_manifest(s, a, &m, &err), -EBADMSG);
}

/* What must not leave is marked in the store, and nowhere else. */
static void staying(void **state)
{
	const char *dir = *state;
	char path[FILE_PATH_MAX], *text;
	size_t len;
	struct manifest m, is;
	struct err err = {0};
	struct store *s = open_store(dir);
	assert_int_equal(store_tmp(s, "new.weights", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, 1, &m), 0);
	m.stays = true;
	assert_int_equal(store_add(s, path, &m, &err), 0);
	store_free(s);
	s = open_store(dir);
	assert_int_equal(store_manifest(s, m.id, &is, &err), 0);
	assert_true(is.stays);
	/* What is sent of it does not say so, and what comes in cannot. */
	_cleanup_(json_freep) struct json *j = json_new_obj();
	manifest_to_json(&is, j);
	assert_false(json_has(j, "stays"));
	json_set_bool(j, "stays", true);
	assert_int_equal(manifest_from_json(j, NULL, &is, &err), 0);
	assert_false(is.stays);
	/* Neither yes nor no: not believed. */
	assert_int_equal(
		file_path(path, sizeof(path), "%s/checkpoints/%s/manifest.json", dir, m.id), 0);
	assert_int_equal(file_read(path, 65536, &text, &len, &err), 0);
	char *at = strstr(text, "true");
	assert_non_null(at);
	memcpy(at, "0   ", 4);
	util_write(path, text, len);
	free(text);
	assert_int_equal(store_manifest(s, m.id, &is, &err), -EINVAL);
	assert_non_null(strstr(err.text, "stays"));
	store_free(s);
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void collecting(void **state)
{
	const char *dir = *state;
	char id[6][HASH_SIZE], other[FILE_PATH_MAX], want[4][HASH_SIZE];
	_cleanup_(store_freep) struct store *s = open_store(dir);
	for (unsigned i = 0; i < 6; i++) {
		add(s, i, id[i]);
		if (i < 3)
			assert_int_equal(store_activate(s, id[i], NULL), 0);
	}
	path_of(other, dir, "checkpoints/notes");
	util_write(other, "mine", 4);
	const char keep[2][HASH_SIZE] = {"unknown"};
	memcpy((char *)(uintptr_t)keep[1], id[4], HASH_SIZE);
	assert_int_equal(store_collect(s, keep, 2, NULL), 0);
	expect(s, dir, id[2], id[1]);
	char(*left)[HASH_SIZE] = NULL;
	size_t n;
	assert_int_equal(store_list(s, &left, &n, NULL), 0);
	assert_int_equal(n, 3);
	qsort(left, n, sizeof(*left), compare_ids);
	memcpy(want, id + 1, 2 * HASH_SIZE);
	memcpy(want[2], id[4], HASH_SIZE);
	qsort(want, 3, sizeof(*want), compare_ids);
	for (size_t i = 0; i < 3; i++)
		assert_string_equal(left[i], want[i]);
	free(left);
	assert_true(file_exists(other));
	assert_int_equal(store_collect(s, NULL, 0, NULL), 0);
	assert_false(store_has(s, id[4]));
	expect(s, dir, id[2], id[1]);
}

static void link_to(const char *dir, const char *name, const char *id)
{
	char path[FILE_PATH_MAX], target[128];
	path_of(path, dir, name);
	snprintf(target, sizeof(target), "checkpoints/%s", id);
	assert_int_equal(file_symlink(target, path, NULL), 0);
}

/* Each state that a stop in the middle of store_activate() can leave, made by hand. */
static void half_done(void **state)
{
	const char *dir = *state;
	char a[HASH_SIZE], b[HASH_SIZE], c[HASH_SIZE], path[FILE_PATH_MAX];
	struct store *s = open_store(dir);
	add(s, 1, a);
	add(s, 2, b);
	add(s, 3, c);
	assert_int_equal(store_activate(s, a, NULL), 0);
	assert_int_equal(store_activate(s, b, NULL), 0);
	store_free(s);
	/* Before the switch to c: nothing happened. */
	link_to(dir, "previous.next", b);
	s = open_store(dir);
	expect(s, dir, b, a);
	store_free(s);
	/* After it: it ends. */
	link_to(dir, "previous.next", b);
	link_to(dir, "active", c);
	s = open_store(dir);
	expect(s, dir, c, b);
	store_free(s);
	/* The same, seen by the next activation or collection instead of an opening. */
	s = open_store(dir);
	link_to(dir, "previous.next", c);
	link_to(dir, "active", a);
	assert_int_equal(store_activate(s, a, NULL), 0);
	expect(s, dir, a, c);
	link_to(dir, "previous.next", a);
	link_to(dir, "active", b);
	assert_int_equal(store_collect(s, NULL, 0, NULL), 0);
	expect(s, dir, b, a);
	assert_false(store_has(s, c));
	store_free(s);
	/* Leftovers of links and of adding. */
	link_to(dir, "active.tmp", a);
	link_to(dir, "previous.next.tmp", a);
	path_of(path, dir, ".store-tmp/half.add");
	assert_int_equal(mkdir(path, 0700), 0);
	path_of(path, dir, ".store-tmp/half.add/weights");
	util_write(path, "x", 1);
	s = open_store(dir);
	expect(s, dir, b, a);
	assert_false(file_exists(path));
	path_of(path, dir, "active.tmp");
	struct stat st;
	assert_int_equal(lstat(path, &st), -1);
	store_free(s);
}

static size_t n_damaged(const char *dir)
{
	char path[FILE_PATH_MAX];
	size_t n = 0;
	path_of(path, dir, "damaged");
	DIR *d = opendir(path);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += hash_valid(e->d_name);
	closedir(d);
	return n;
}

static bool is_damaged(const char *dir, const char *id)
{
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/damaged/%s/weights", dir, id), 0);
	return file_exists(path);
}

static void setting_aside(void **state)
{
	const char *dir = *state;
	char id[6][HASH_SIZE], none[HASH_SIZE], path[FILE_PATH_MAX];
	struct err err = {0};
	memset(none, '9', HASH_HEX);
	none[HASH_HEX] = 0;
	_cleanup_(store_freep) struct store *s = open_store(dir);
	for (unsigned i = 0; i < 6; i++)
		add(s, i, id[i]);
	assert_int_equal(store_activate(s, id[0], NULL), 0);
	assert_int_equal(store_activate(s, id[1], NULL), 0);
	/* One that no link names. */
	assert_int_equal(store_set_aside(s, id[2], "", NULL), 0);
	expect(s, dir, id[1], id[0]);
	assert_false(store_has(s, id[2]));
	assert_true(is_damaged(dir, id[2]));
	assert_int_equal(store_set_aside(s, id[2], "", &err), -ENOENT);
	assert_true(is_damaged(dir, id[2]));
	assert_int_equal(store_set_aside(s, "../x", "", &err), -EINVAL);
	assert_int_equal(store_set_aside(s, id[1], none, &err), -EINVAL);
	expect(s, dir, id[1], id[0]);
	/* The previous one; the active one, also when a file of it is gone; with another in its
	 * place. */
	assert_int_equal(store_set_aside(s, id[0], "", NULL), 0);
	expect(s, dir, id[1], "");
	assert_int_equal(store_activate(s, id[3], NULL), 0);
	assert_int_equal(
		file_path(path, sizeof(path), "%s/checkpoints/%s/manifest.json", dir, id[3]), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_set_aside(s, id[3], id[1], NULL), 0);
	expect(s, dir, id[1], "");
	/* With none. */
	assert_int_equal(store_activate(s, id[4], NULL), 0);
	assert_int_equal(store_set_aside(s, id[4], "", NULL), 0);
	expect(s, dir, "", id[1]);
	assert_int_equal(store_activate(s, id[5], NULL), 0);
	expect(s, dir, id[5], id[1]);
	/* The last ones are kept. */
	assert_int_equal(n_damaged(dir), STORE_DAMAGED_MAX);
	assert_true(is_damaged(dir, id[4]) && is_damaged(dir, id[3]));
	/* A stop before the other link was removed, and before the oldest one was. */
	store_free(TAKE_PTR(s));
	link_to(dir, "previous", id[5]);
	assert_int_equal(file_path(path, sizeof(path), "%s/damaged/%s", dir, id[5]), 0);
	assert_int_equal(mkdir(path, 0755), 0);
	s = open_store(dir);
	expect(s, dir, id[5], "");
	assert_int_equal(n_damaged(dir), STORE_DAMAGED_MAX);
}

/* A file of a checkpoint was lost while nobody looked. */
static void incomplete(void **state)
{
	const char *dir = *state;
	char a[HASH_SIZE], b[HASH_SIZE], c[HASH_SIZE], path[FILE_PATH_MAX], lost[HASH_SIZE];
	struct store *s = open_store(dir);
	add(s, 1, a);
	add(s, 2, b);
	add(s, 3, c);
	assert_int_equal(store_activate(s, a, NULL), 0);
	assert_int_equal(store_activate(s, b, NULL), 0);
	store_lost(s, lost);
	assert_string_equal(lost, "");
	store_free(s);
	assert_int_equal(file_path(path, sizeof(path), "%s/checkpoints/%s/manifest.json", dir, b),
			 0);
	assert_int_equal(unlink(path), 0);
	s = open_store(dir);
	expect(s, dir, a, "");
	store_lost(s, lost);
	assert_string_equal(lost, b);
	assert_true(is_damaged(dir, b));
	assert_true(store_has(s, c));
	assert_int_equal(file_path(path, sizeof(path), "%s/checkpoints/%s", dir, b), 0);
	assert_false(file_exists(path));
	store_free(s);
	s = open_store(dir);
	store_lost(s, lost);
	assert_string_equal(lost, "");
	store_free(s);
}

/* Only what the store made is emptied: a folder of that name that holds somebody's things is not.
 */
static void foreign_folders(void **state)
{
	const char *dir = *state;
	char path[FILE_PATH_MAX], mine[FILE_PATH_MAX], tmp[FILE_PATH_MAX];
	struct store *s = NULL;
	struct err err = {0};
	path_of(path, dir, "tmp");
	path_of(mine, dir, "tmp/letter");
	assert_int_equal(mkdir(path, 0700), 0);
	util_write(mine, "x", 1);
	path_of(path, dir, ".store-tmp");
	path_of(tmp, dir, ".store-tmp/letter");
	assert_int_equal(mkdir(path, 0700), 0);
	util_write(tmp, "x", 1);
	assert_int_equal(store_open(dir, &s, &err), -EEXIST);
	assert_non_null(strstr(err.text, ".store-tmp"));
	assert_true(file_exists(tmp));
	/* An empty one is what a crash may have left of making it. */
	assert_int_equal(unlink(tmp), 0);
	store_free(open_store(dir));
	util_write(tmp, "x", 1);
	store_free(open_store(dir));
	assert_false(file_exists(tmp));
	assert_true(file_exists(mine));
	assert_int_equal(file_remove(path, NULL), 0);
	assert_int_equal(symlink("tmp", path), 0);
	assert_int_equal(store_open(dir, &s, &err), -EEXIST);
	assert_true(file_exists(mine));
}

/* One by one, for who decides by more than a list. */
static void removing(void **state)
{
	const char *dir = *state;
	char a[HASH_SIZE], b[HASH_SIZE], c[HASH_SIZE];
	_cleanup_(store_freep) struct store *s = open_store(dir);
	int64_t at_ms = 0;
	add(s, 1, a);
	add(s, 2, b);
	add(s, 3, c);
	assert_int_equal(store_activate(s, a, NULL), 0);
	assert_int_equal(store_activate(s, b, NULL), 0);
	assert_int_equal(store_added_ms(s, c, &at_ms), 0);
	assert_true(llabs(at_ms - clock_real_ms()) < 60000);
	assert_int_equal(store_remove(s, a, NULL), -EBUSY);
	assert_int_equal(store_remove(s, b, NULL), -EBUSY);
	assert_int_equal(store_remove(s, c, NULL), 0);
	assert_int_equal(store_remove(s, c, NULL), -ENOENT);
	assert_int_equal(store_added_ms(s, c, &at_ms), -ENOENT);
	assert_false(store_has(s, c));
	expect(s, dir, b, a);
}

static void lost_checkpoints(void **state)
{
	const char *dir = *state;
	char a[HASH_SIZE], b[HASH_SIZE], path[FILE_PATH_MAX];
	struct store *s = open_store(dir);
	add(s, 1, a);
	add(s, 2, b);
	assert_int_equal(store_activate(s, a, NULL), 0);
	assert_int_equal(store_activate(s, b, NULL), 0);
	store_free(s);
	assert_int_equal(file_path(path, sizeof(path), "%s/checkpoints/%s", dir, b), 0);
	assert_int_equal(file_remove(path, NULL), 0);
	s = open_store(dir);
	expect(s, dir, a, ""); /* the previous one stands in */
	add(s, 2, b);
	assert_int_equal(store_activate(s, b, NULL), 0);
	store_free(s);
	assert_int_equal(file_path(path, sizeof(path), "%s/checkpoints", dir), 0);
	assert_int_equal(file_remove(path, NULL), 0);
	s = open_store(dir);
	expect(s, dir, "", "");
	store_free(s);
	/* Links out of the store are no checkpoints; a file in a link's place is somebody's. */
	s = open_store(dir);
	link_to(dir, "active", "../../etc");
	add(s, 1, a);
	char id[HASH_SIZE];
	store_active(s, id);
	assert_string_equal(id, "");
	path_of(path, dir, "active.weights");
	assert_int_equal(unlink(path), 0);
	util_write(path, "mine", 4);
	struct err err = {0};
	assert_int_equal(store_activate(s, a, &err), -EEXIST);
	assert_non_null(strstr(err.text, "active.weights"));
	store_free(s);
}

/* ---- a full disk ---- */

static const char *tiny_dir; /* of the process that full_disk() starts */

static bool write_proc(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A file system of 1 MB for this process alone; false where that is not allowed. */
static bool tiny_disk(const char *dir)
{
	char uid[64], gid[64];
	snprintf(uid, sizeof(uid), "0 %u 1", getuid());
	snprintf(gid, sizeof(gid), "0 %u 1", getgid());
	if (unshare(CLONE_NEWNS) < 0 &&
	    (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || !write_proc("/proc/self/uid_map", uid) ||
	     !write_proc("/proc/self/setgroups", "deny") || !write_proc("/proc/self/gid_map", gid)))
		return false;
	return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=64") == 0;
}

static char (*list_all(const struct store *s, size_t *n))[HASH_SIZE]
{
	char(*ids)[HASH_SIZE] = NULL;
	assert_int_equal(store_list(s, &ids, n, NULL), 0);
	return ids;
}

/* Adds until the disk is full, then tries everything: nothing that was there may change. */
static void fill_up(void **state)
{
	const char *dir = tiny_dir;
	char a[HASH_SIZE], b[HASH_SIZE], path[FILE_PATH_MAX], filler[FILE_PATH_MAX];
	struct manifest m;
	_cleanup_(store_freep) struct store *s = open_store(dir);
	add(s, 1, a);
	add(s, 2, b);
	assert_int_equal(store_activate(s, a, NULL), 0);
	assert_int_equal(store_activate(s, b, NULL), 0);
	assert_int_equal(store_tmp(s, "next", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, 3, &m), 0);
	path_of(filler, dir, "filler");
	int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	static const char block[512];
	while (write(fd, block, sizeof(block)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	struct err err = {0};
	assert_int_equal(store_add(s, path, &m, &err), -ENOSPC);
	assert_non_null(strstr(err.text, dir));
	assert_true(file_exists(path));
	assert_false(store_has(s, m.id));
	expect(s, dir, b, a);
	size_t n;
	free(list_all(s, &n));
	assert_int_equal(n, 2);
	/* With room again it goes on as if nothing had been. */
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	assert_int_equal(store_add(s, path, &m, NULL), 0);
	/* No room for links either: inodes run out. Then for one of the two. */
	for (int i = 0;; i++) {
		assert_int_equal(file_path(filler, sizeof(filler), "%s/f%d", dir, i), 0);
		fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			break;
		close(fd);
	}
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(store_activate(s, m.id, &err), -ENOSPC);
	expect(s, dir, b, a);
	path_of(filler, dir, "f0");
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(store_activate(s, m.id, &err), -ENOSPC);
	expect(s, dir, b, a);
	path_of(filler, dir, "f1");
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(store_activate(s, m.id, &err), 0);
	expect(s, dir, m.id, b);
}

static void full_disk(void **state)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!tiny_disk(*state))
			_exit(77);
		/* Anew, so that a failed assertion ends this process and not our other tests. */
		char self[FILE_PATH_MAX] = "";
		if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0)
			execl(self, "test_store", "--fill", (char *)*state, (char *)NULL);
		_exit(1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

/* A write that fails in the middle of an add, wherever the tests run. */
static void failing_write(void **state)
{
	char a[HASH_SIZE], path[FILE_PATH_MAX];
	struct manifest m;
	_cleanup_(store_freep) struct store *s = open_store(*state);
	add(s, 1, a);
	assert_int_equal(store_activate(s, a, NULL), 0);
	assert_int_equal(store_tmp(s, "next", path, NULL), 0);
	assert_int_equal(make_checkpoint(path, 2, &m), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit limit = {100, 100};
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		_exit(store_add(s, path, &m, NULL) == -EFBIG ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(store_has(s, m.id));
	assert_true(file_exists(path));
	expect(s, *state, a, "");
	assert_int_equal(store_add(s, path, &m, NULL), 0);
}

/* ---- kill -9 ---- */

/* What a daemon does all day, until it is killed; a byte to `out` for each time round. */
static void churn(const char *dir, unsigned round, int out)
{
	struct store *s = NULL;
	struct rng rng;
	rng_init(&rng, round);
	if (store_open(dir, &s, NULL) < 0)
		_exit(1);
	for (;;) {
		char path[FILE_PATH_MAX];
		struct manifest m;
		unsigned k = rng_below(&rng, 8);
		if (store_tmp(s, "new.weights", path, NULL) < 0 ||
		    make_checkpoint(path, k, &m) < 0 || store_add(s, path, &m, NULL) < 0 ||
		    store_activate(s, m.id, NULL) < 0)
			_exit(2);
		if (rng_below(&rng, 3) == 0 && store_collect(s, NULL, 0, NULL) < 0)
			_exit(3);
		if (write(out, "", 1) != 1)
			_exit(4);
	}
}

static void killed(void **state)
{
	const char *dir = *state;
	struct rng rng;
	rng_init(&rng, 1);
	char before[HASH_SIZE] = "", id[HASH_SIZE];
	unsigned looks = 0, active_rounds = 0;
	for (unsigned round = 0; round < KILLS; round++) {
		int fds[2];
		assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			churn(dir, round, fds[1]);
		/* Killed somewhere in its next time round, however slow this machine is. */
		unsigned times = rng_below(&rng, 4);
		int64_t extra_ms = rng_below(&rng, 8), end = INT64_MAX;
		while (clock_mono_ms() < end) {
			const char *wrong = look(dir, id);
			/* A checkpoint of two switches ago may be collected under our hands. */
			if (wrong && strcmp(wrong, "missing weights or manifest.json"))
				fail_msg("while it ran, round %u: %s", round, wrong);
			looks++;
			char c;
			while (times && read(fds[0], &c, 1) == 1)
				times--;
			if (times == 0 && end == INT64_MAX)
				end = clock_mono_ms() + extra_ms;
			assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
		}
		close(fds[0]);
		close(fds[1]);
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		const char *wrong = look(dir, id);
		if (wrong)
			fail_msg("after the kill, round %u: %s", round, wrong);
		if (*before)
			assert_true(*id); /* once there is one, there always is */
		_cleanup_(store_freep) struct store *s = open_store(dir);
		char previous[HASH_SIZE];
		store_previous(s, previous);
		expect(s, dir, id, previous);
		if (*previous)
			assert_string_not_equal(previous, id);
		size_t n;
		_cleanup_free_ char(*ids)[HASH_SIZE] = list_all(s, &n);
		for (size_t i = 0; i < n; i++) {
			char path[FILE_PATH_MAX], hash[HASH_SIZE];
			struct manifest m;
			assert_int_equal(store_manifest(s, ids[i], &m, NULL), 0);
			assert_int_equal(store_weights(s, ids[i], path), 0);
			assert_int_equal(hash_file(path, hash, NULL), 0);
			assert_string_equal(hash, ids[i]);
		}
		active_rounds += *id && strcmp(id, before) != 0;
		memcpy(before, id, HASH_SIZE);
	}
	print_message("%u looks, active changed in %u of %u rounds\n", looks, active_rounds, KILLS);
	assert_true(active_rounds > 10);
}

#define CODED   "coded, of 20 letters"
#define SMALLER "smaller than it was before"

static void expect_payload(struct store *s, const char *id, const char *text)
{
	char path[FILE_PATH_MAX], *data;
	struct err err = {0};
	size_t len;
	assert_int_equal(store_payload(s, id, path, &err), 0);
	assert_int_equal(file_read(path, 1 << 20, &data, &len, &err), 0);
	if (text)
		assert_string_equal(data, text);
	else
		assert_int_equal(len, WEIGHTS_BYTES);
	free(data);
}

static void code_as(struct manifest *m, enum encoding e, const char *text)
{
	m->encoding = e;
	m->size = (int64_t)strlen(text);
	hash_bytes(text, strlen(text), m->payload);
	memcpy(m->base, e == ENCODING_DELTA ? m->payload : "", e == ENCODING_DELTA ? HASH_SIZE : 1);
}

/* The form in which a checkpoint travels, new with it or put beside it later. */
static void payloads(void **state)
{
	struct store *s = open_store(*state);
	char weights[FILE_PATH_MAX], payload[FILE_PATH_MAX], id[HASH_SIZE];
	struct manifest m, back;
	struct err err = {0};
	assert_int_equal(store_tmp(s, "weights", weights, NULL), 0);
	assert_int_equal(store_tmp(s, "payload", payload, NULL), 0);
	assert_int_equal(make_checkpoint(weights, 1, &m), 0);
	util_write(payload, CODED, strlen(CODED));
	assert_int_equal(store_add_coded(s, weights, payload, &m, &err), -EINVAL);
	code_as(&m, ENCODING_DELTA, CODED);
	assert_int_equal(store_add(s, weights, &m, &err), -EINVAL);
	m.size++;
	assert_int_equal(store_add_coded(s, weights, payload, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "found 20 bytes, expected 21"));
	assert_false(store_has(s, m.id));
	m.size--;
	assert_int_equal(store_add_coded(s, weights, payload, &m, &err), 0);
	assert_false(file_exists(weights) || file_exists(payload));
	expect_payload(s, m.id, CODED);
	assert_int_equal(store_manifest(s, m.id, &back, &err), 0);
	assert_memory_equal(&m, &back, sizeof(m));
	/* In another form; of one that was there without any. */
	add(s, 2, id);
	expect_payload(s, id, NULL);
	for (unsigned k = 1; k <= 2; k++) {
		assert_int_equal(make_checkpoint(weights, k, &m), 0);
		code_as(&m, ENCODING_ZSTD, SMALLER);
		util_write(payload, SMALLER, strlen(SMALLER));
		assert_int_equal(store_add_coded(s, weights, payload, &m, &err), 0);
		expect_payload(s, m.id, SMALLER);
		assert_false(file_exists(weights) || file_exists(payload));
	}
	/* What must not leave does not get to by being made once more. */
	assert_int_equal(make_checkpoint(weights, 3, &m), 0);
	m.stays = true;
	assert_int_equal(store_add(s, weights, &m, &err), 0);
	assert_int_equal(make_checkpoint(weights, 3, &m), 0);
	code_as(&m, ENCODING_ZSTD, SMALLER);
	util_write(payload, SMALLER, strlen(SMALLER));
	assert_int_equal(store_add_coded(s, weights, payload, &m, &err), 0);
	assert_int_equal(store_manifest(s, m.id, &back, &err), 0);
	assert_true(back.stays);
	assert_int_equal(store_remove(s, m.id, &err), 0);
	assert_int_equal(store_payload(s, m.id, payload, &err), -ENOENT);
	store_free(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest fill[] = {cmocka_unit_test(fill_up)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(basics, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(adding, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(held_open, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(payloads, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(damaged_manifest, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(staying, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(collecting, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(setting_aside, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(incomplete, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(half_done, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(foreign_folders, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(removing, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(lost_checkpoints, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(full_disk, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(failing_write, util_dir, util_dir_done),
		cmocka_unit_test_setup_teardown(killed, util_dir, util_dir_done),
	};
	if (argc == 3 && strcmp(argv[1], "--fill") == 0) {
		tiny_dir = argv[2];
		return cmocka_run_group_tests(fill, NULL, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
