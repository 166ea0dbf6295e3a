#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/mem.h"

#define PRIVATE 0600

int file_path(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= size) {
		buf[0] = 0;
		return -ENAMETOOLONG;
	}
	return 0;
}

bool file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

int file_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t file_read_at(int fd, void *buf, size_t len, uint64_t at)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = pread(fd, (char *)buf + got, len - got, (off_t)(at + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: not a regular file", path);
	if ((uint64_t)st.st_size > max)
		return err_set(err, -EFBIG, "%s: %lld bytes, at most %zu expected", path,
			       (long long)st.st_size, max);
	size_t len = (size_t)st.st_size;
	_cleanup_free_ char *data = malloc(len + 1);
	if (!data)
		return err_errno(err, -ENOMEM, "%s", path);
	ssize_t got = file_read_at(fd, data, len, 0);
	if (got < 0)
		return err_errno(err, (int)got, "%s", path);
	/* It may have shrunk meanwhile: what is there is what it is. */
	data[got] = 0;
	*ret_data = TAKE_PTR(data);
	*ret_len = (size_t)got;
	return 0;
}

static int sync_parent(const char *path, struct err *err)
{
	char dir[FILE_PATH_MAX];
	const char *slash = strrchr(path, '/');
	int r = slash == path ? file_path(dir, sizeof(dir), "/")
		: slash       ? file_path(dir, sizeof(dir), "%.*s", (int)(slash - path), path)
			      : file_path(dir, sizeof(dir), ".");
	if (r < 0)
		return err_errno(err, r, "%s", path);
	return file_sync(dir, err);
}

int file_sync(const char *path, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return err_errno(err, -errno, "%s: sync", path);
	return 0;
}

int file_rename(const char *from, const char *to, struct err *err)
{
	if (rename(from, to) < 0)
		return err_errno(err, -errno, "%s: rename to %s", from, to);
	return sync_parent(to, err);
}

static int rename_or_unlink(const char *tmp, const char *path, struct err *err)
{
	int r = file_rename(tmp, path, err);
	if (r < 0)
		unlink(tmp); /* gone already when only the sync failed */
	return r;
}

static int replace(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
	char tmp[FILE_PATH_MAX];
	int r = file_path(tmp, sizeof(tmp), "%s.tmp", path);
	if (r < 0)
		return err_errno(err, r, "%s", path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		return err_errno(err, -errno, "%s", tmp);
	/* What a crash left there may have another one. */
	r = mode == PRIVATE && fchmod(fd, mode) < 0 ? -errno : 0;
	if (r == 0)
		r = file_write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return err_errno(err, r, "%s", tmp);
	}
	return rename_or_unlink(tmp, path, err);
}

int file_write(const char *path, const void *data, size_t len, struct err *err)
{
	return replace(path, data, len, 0640, err);
}

int file_write_private(const char *path, const void *data, size_t len, struct err *err)
{
	return replace(path, data, len, PRIVATE, err);
}

int file_symlink(const char *target, const char *path, struct err *err)
{
	char tmp[FILE_PATH_MAX];
	int r = file_path(tmp, sizeof(tmp), "%s.tmp", path);
	if (r < 0)
		return err_errno(err, r, "%s", path);
	if (unlink(tmp) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "%s", tmp);
	if (symlink(target, tmp) < 0)
		return err_errno(err, -errno, "%s", tmp);
	return rename_or_unlink(tmp, path, err);
}

int file_mkdirs(const char *path, struct err *err)
{
	char part[FILE_PATH_MAX];
	int r = file_path(part, sizeof(part), "%s", path);
	if (r < 0 || !*path)
		return err_errno(err, r < 0 ? r : -EINVAL, "'%s'", path);
	for (char *p = part + 1;; p++) {
		if (*p && *p != '/')
			continue;
		char c = *p;
		*p = 0;
		if (mkdir(part, 0750) == 0)
			r = sync_parent(part, err);
		else if (errno != EEXIST)
			r = err_errno(err, -errno, "%s", part);
		if (r < 0)
			return r;
		*p = c;
		if (!c)
			break;
	}
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, "%s: not a folder", path);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

int file_remove(const char *path, struct err *err)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "%s: remove", path);
	return 0;
}

int file_lock(const char *path, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	int r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r < 0 && r != -EWOULDBLOCK)
		return err_errno(err, r, "%s: lock", path);
	if (r < 0) {
		char pid[32] = "";
		ssize_t n = read(fd, pid, sizeof(pid) - 1);
		pid[n > 0 ? n : 0] = 0;
		pid[strcspn(pid, "\n")] = 0;
		return err_set(err, -EBUSY, "%s: held by another process (pid %s)", path,
			       *pid ? pid : "unknown");
	}
	char text[32];
	int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	/* The pid is for the error above only: a full disk must not keep the daemon from starting.
	 */
	ssize_t ignored = ftruncate(fd, 0) < 0 ? -1 : pwrite(fd, text, (size_t)len, 0);
	(void)ignored;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int file_lock_held(const char *path, bool *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = flock(fd, LOCK_SH | LOCK_NB) < 0 ? -errno : 0;
	if (r < 0 && r != -EWOULDBLOCK)
		return r;
	*ret = r < 0;
	return 0;
}

int file_free_bytes(const char *path, uint64_t *ret_bytes)
{
	struct statvfs v;
	if (statvfs(path, &v) < 0)
		return -errno;
	*ret_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}
