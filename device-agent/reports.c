/* In memory only the offset of each line: 8 bytes a report. */
#include "device-agent/reports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/json/json.h"
#include "common/protocol/message.h"

#define INDEX_MAX (REPORTS_KEEP + REPORTS_SLACK)

struct reports {
	char path[FILE_PATH_MAX];
	int fd;
	int64_t first; /* number of the first line */
	size_t n;
	off_t at[INDEX_MAX + 1]; /* where line i begins; at[n]: the file's end */
};

static void reports_freep(struct reports **r)
{
	reports_free(*r);
}

void reports_free(struct reports *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	free(r);
}

int64_t reports_first(const struct reports *r)
{
	return r->first;
}

int64_t reports_last(const struct reports *r)
{
	return r->first + (int64_t)r->n - 1;
}

static int open_file(struct reports *r, struct err *err)
{
	r->fd = open(r->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	return r->fd < 0 ? err_errno(err, -errno, "%s", r->path) : 0;
}

/* Takes line i (without its newline) into the index. */
static int index_line(struct reports *r, const char *line, size_t len, struct err *err)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct err why = {0};
	int64_t seq;
	int c = json_parse(line, len, MESSAGE_LARGE_MAX, &j, &why);
	if (c >= 0)
		c = json_get_int(j, "seq", 1, JSON_INT_MAX - 1, &seq, &why);
	if (c < 0)
		return err_set(err, c, "%s: line %zu: %s", r->path, r->n + 1, why.text);
	if (r->n == 0)
		r->first = seq;
	else if (seq != r->first + (int64_t)r->n)
		return err_set(err, -EINVAL, "%s: line %zu: seq: found %lld, expected %lld",
			       r->path, r->n + 1, (long long)seq,
			       (long long)(r->first + (int64_t)r->n));
	if (r->n == INDEX_MAX)
		return err_set(err, -EFBIG, "%s: more than %d lines", r->path, INDEX_MAX);
	r->at[r->n + 1] = r->at[r->n] + (off_t)len + 1;
	r->n++;
	return 0;
}

static int index_file(struct reports *r, struct err *err)
{
	_cleanup_file_ FILE *f = fopen(r->path, "re");
	if (!f)
		return err_errno(err, -errno, "%s", r->path);
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t len;
	r->n = 0;
	r->at[0] = 0;
	while ((len = getline(&line, &size, f)) > 0) {
		if (line[len - 1] != '\n')
			break; /* a crash came in the middle of it: it was never counted */
		int c = index_line(r, line, (size_t)len - 1, err);
		if (c < 0)
			return c;
	}
	if (ferror(f))
		return err_errno(err, -EIO, "%s", r->path);
	if (ftruncate(r->fd, r->at[r->n]) < 0)
		return err_errno(err, -errno, "%s", r->path);
	return 0;
}

int reports_open(const char *path, int64_t last_seq, struct reports **ret, struct err *err)
{
	_cleanup_(reports_freep) struct reports *r = calloc(1, sizeof(*r));
	if (!r)
		return err_errno(err, -ENOMEM, "%s", path);
	r->fd = -1;
	r->first = 1;
	int c = file_path(r->path, sizeof(r->path), "%s", path);
	if (c < 0)
		return err_errno(err, c, "%s", path);
	c = open_file(r, err);
	if (c >= 0)
		c = index_file(r, err);
	if (c < 0)
		return c;
	if (reports_last(r) < last_seq) {
		char old[FILE_PATH_MAX];
		c = file_path(old, sizeof(old), "%s.old", path);
		if (c < 0)
			return err_errno(err, c, "%s", path);
		if (r->n > 0 && (c = file_rename(path, old, err)) < 0)
			return c;
		close(TAKE_FD(r->fd));
		c = open_file(r, err);
		if (c < 0)
			return c;
		r->n = 0;
		r->at[0] = 0;
		r->first = last_seq + 1;
	}
	*ret = TAKE_PTR(r);
	return 0;
}

static int copy_range(int from, off_t begin, off_t end, int to)
{
	char buf[65536];
	while (begin < end) {
		ssize_t n = pread(from, buf, MIN_OF(sizeof(buf), (size_t)(end - begin)), begin);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		int c = file_write_all(to, buf, (size_t)n);
		if (c < 0)
			return c;
		begin += n;
	}
	return 0;
}

static int sync_folder_of(const char *path, struct err *err)
{
	char dir[FILE_PATH_MAX];
	const char *slash = strrchr(path, '/');
	int c = slash ? file_path(dir, sizeof(dir), "%.*s/", (int)(slash - path), path)
		      : file_path(dir, sizeof(dir), ".");
	return c < 0 ? err_errno(err, c, "%s", path) : file_sync(dir, err);
}

/* Rewrites the file without the oldest lines. */
static int compact(struct reports *r, struct err *err)
{
	size_t drop = r->n - REPORTS_KEEP;
	char tmp[FILE_PATH_MAX];
	int c = file_path(tmp, sizeof(tmp), "%s.tmp", r->path);
	if (c < 0)
		return err_errno(err, c, "%s", r->path);
	_cleanup_close_ int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_errno(err, -errno, "%s", tmp);
	c = copy_range(r->fd, r->at[drop], r->at[r->n], fd);
	if (c >= 0 && fsync(fd) < 0)
		c = -errno;
	if (c < 0) {
		unlink(tmp);
		return err_errno(err, c, "%s", tmp);
	}
	if (rename(tmp, r->path) < 0)
		return err_errno(err, -errno, "%s: rename to %s", tmp, r->path);
	close(r->fd);
	r->fd = TAKE_FD(fd);
	off_t base = r->at[drop];
	for (size_t i = drop; i <= r->n; i++)
		r->at[i - drop] = r->at[i] - base;
	r->n -= drop;
	r->first += (int64_t)drop;
	return sync_folder_of(r->path, err);
}

int reports_append(struct reports *r, const char *text, struct err *err)
{
	if (r->n == INDEX_MAX) {
		int c = compact(r, err);
		if (c < 0)
			return c;
	}
	size_t len = strlen(text);
	_cleanup_free_ char *line = malloc(len + 1);
	if (!line)
		return err_errno(err, -ENOMEM, "%s", r->path);
	memcpy(line, text, len);
	line[len] = '\n';
	int c = file_write_all(r->fd, line, len + 1);
	if (c >= 0 && fdatasync(r->fd) < 0)
		c = -errno;
	if (c < 0) {
		/* What a full disk let through must not stand before the next line. */
		if (ftruncate(r->fd, r->at[r->n]) < 0)
			c = -errno;
		return err_errno(err, c, "%s", r->path);
	}
	r->at[r->n + 1] = r->at[r->n] + (off_t)len + 1;
	r->n++;
	return 0;
}

int reports_read(struct reports *r, int64_t seq, char **ret_text, struct err *err)
{
	if (seq < r->first || seq > reports_last(r))
		return err_set(err, -ENOENT, "report %lld: kept are %lld to %lld", (long long)seq,
			       (long long)r->first, (long long)reports_last(r));
	size_t i = (size_t)(seq - r->first);
	size_t len = (size_t)(r->at[i + 1] - r->at[i]) - 1, got = 0;
	_cleanup_free_ char *text = malloc(len + 1);
	if (!text)
		return err_errno(err, -ENOMEM, "%s", r->path);
	while (got < len) {
		ssize_t n = pread(r->fd, text + got, len - got, r->at[i] + (off_t)got);
		if (n <= 0)
			return err_errno(err, n < 0 ? -errno : -EIO, "%s", r->path);
		got += (size_t)n;
	}
	text[len] = 0;
	*ret_text = TAKE_PTR(text);
	return 0;
}
