/* Reading, and what must hold of it. */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "common/audit/audit.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"

#define OLD_PREFIX AUDIT_FILE "."
#define OLD_DIGITS 12

int audit_line_parse(const char *text, size_t len, struct audit_line *ret, struct json **ret_json,
		     struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct audit_line l = {0};
	char at[CLOCK_TEXT_MAX];
	int r = json_parse(text, len, AUDIT_LINE_MAX, &j, err);
	if (r == 0)
		r = json_get_int(j, "seq", 1, AUDIT_SEQ_MAX, &l.seq, err);
	if (r == 0)
		r = json_get_str(j, "at", at, sizeof(at), err);
	if (r == 0 && clock_parse(at, &l.at_ms) < 0)
		r = err_set(err, -EINVAL, "at: found '%s', expected a time", at);
	if (r == 0)
		r = json_get_str(j, "event", l.event, sizeof(l.event), err);
	if (r == 0)
		r = json_get_str(j, "prev", l.prev, sizeof(l.prev), err);
	if (r == 0 && !hash_valid(l.prev))
		r = err_set(err, -EINVAL, "prev: found '%s', expected a hash", l.prev);
	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	*ret = l;
	if (ret_json)
		*ret_json = TAKE_PTR(j);
	return 0;
}

/* ---- files ---- */

static bool is_old(const char *name)
{
	size_t n = strlen(OLD_PREFIX);
	return strncmp(name, OLD_PREFIX, n) == 0 && strlen(name + n) == OLD_DIGITS &&
	       strspn(name + n, "0123456789") == OLD_DIGITS;
}

/* The digits sort them; the one without comes last. */
static int by_age(const void *one, const void *other)
{
	bool a = is_old(strrchr(one, '/') + 1), b = is_old(strrchr(other, '/') + 1);
	return a != b ? b - a : strcmp(one, other);
}

int audit_files(const char *folder, char (**ret)[FILE_PATH_MAX], size_t *ret_n, struct err *err)
{
	char(*paths)[FILE_PATH_MAX] = NULL;
	size_t n = 0;
	DIR *d = opendir(folder);
	if (!d)
		return err_errno(err, -errno, "%s", folder);
	for (struct dirent *e; (e = readdir(d));) {
		if (strcmp(e->d_name, AUDIT_FILE) != 0 && !is_old(e->d_name))
			continue;
		void *more = realloc(paths, (n + 1) * sizeof(*paths));
		if (!more || file_path(((char(*)[FILE_PATH_MAX])more)[n], FILE_PATH_MAX, "%s/%s",
				       folder, e->d_name) < 0) {
			free(more ? more : paths);
			closedir(d);
			return err_errno(err, -ENOMEM, "%s", folder);
		}
		paths = more;
		n++;
	}
	closedir(d);
	if (n)
		qsort(paths, n, sizeof(*paths), by_age);
	*ret = paths;
	*ret_n = n;
	return 0;
}

/* ---- the chain ---- */

static int check_line(const char *text, size_t len, struct audit_chain *c, audit_each *each,
		      void *user, struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct audit_line l;
	struct audit_head head;
	int r = audit_line_parse(text, len, &l, &j, err);
	if (r < 0)
		return r;
	if (c->lines && l.seq != c->head.seq + 1)
		return err_set(err, -EBADMSG, "seq: found %lld, expected %lld", (long long)l.seq,
			       (long long)c->head.seq + 1);
	if ((c->lines || l.seq == 1) && strcmp(l.prev, c->lines ? c->head.hash : AUDIT_NONE) != 0)
		return err_set(err, -EBADMSG,
			       "prev: found %.12s, expected %.12s, the sha256 of the line before",
			       l.prev, c->lines ? c->head.hash : AUDIT_NONE);
	if (c->lines && l.at_ms < c->at_ms && strcmp(l.event, "clock") != 0)
		return err_set(err, -EBADMSG, "at: before that of the line before");
	head.seq = l.seq;
	r = hash_bytes(text, len, head.hash);
	if (r == 0 && each)
		r = each(user, &head, j, err);
	if (r < 0)
		return r;
	if (c->lines++ == 0)
		c->first = l.seq;
	c->head = head;
	c->at_ms = l.at_ms;
	return 0;
}

int audit_check(const char *path, struct audit_chain *c, audit_each *each, void *user,
		struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len, n = 0;
	int r = file_read(path, AUDIT_FILE_BYTES + AUDIT_LINE_MAX, &text, &len, err);
	if (r < 0)
		return r;
	for (size_t at = 0; at < len;) {
		const char *line = text + at, *end = memchr(line, '\n', len - at);
		struct err why = {0};
		n++;
		r = end ? check_line(line, (size_t)(end - line), c, each, user, &why)
			: err_set(&why, -EBADMSG, "torn: no newline at its end");
		if (r < 0)
			return err_set(err, r, "%s: line %zu: %s", path, n, why.text);
		at = (size_t)(end - text) + 1;
	}
	return 0;
}

/* A folder's first line may be missing only where so many files are there that the oldest went. */
static int check_begin(const char *path, const struct audit_chain *c, size_t n_files,
		       struct err *err)
{
	const char *name = strrchr(path, '/') + 1;
	int64_t number = is_old(name) ? strtoll(name + strlen(OLD_PREFIX), NULL, 10) : 1;
	if (is_old(name) && n_files > AUDIT_FILES_KEPT ? c->first == number : c->first == 1)
		return 0;
	return err_set(err, -EBADMSG, "%s: line 1: seq: found %lld, expected %lld", path,
		       (long long)c->first,
		       (long long)(n_files > AUDIT_FILES_KEPT ? number : 1));
}

int audit_check_folder(const char *folder, struct audit_chain *c, audit_each *each, void *user,
		       struct err *err)
{
	_cleanup_free_ char(*files)[FILE_PATH_MAX] = NULL;
	size_t n;
	int r = audit_files(folder, &files, &n, err);
	if (r == 0 && n == 0)
		r = err_set(err, -ENOENT, "%s: found no %s", folder, AUDIT_FILE);
	for (size_t i = 0; r == 0 && i < n; i++) {
		bool begins = c->lines == 0;
		r = audit_check(files[i], c, each, user, err);
		if (r == 0 && begins && c->lines)
			r = check_begin(files[i], c, n, err);
	}
	return r;
}
