/* Files, written so that a crash at any point leaves either the old or the new one:
 * write to a temporary name in the same folder, fsync, rename, fsync the folder. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/err.h"

/* Reads a whole file of at most `max` bytes; *ret_data is NUL-terminated beyond *ret_len and the
 * caller frees it. -ENOENT, -EFBIG, -EIO ... with the path named in err. */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len, struct err *err);
/* Replaces `path` atomically and durably. */
int file_write(const char *path, const void *data, size_t len, struct err *err);
/* The same for what holds secrets: its owner's alone (0600). */
int file_write_private(const char *path, const void *data, size_t len, struct err *err);
/* fsync of a file or folder by name. */
int file_sync(const char *path, struct err *err);
/* Durable rename: `from` must already be synced; syncs the folder of `to`. */
int file_rename(const char *from, const char *to, struct err *err);
/* Points the symbolic link `path` at `target` by one atomic rename; syncs the folder. */
int file_symlink(const char *target, const char *path, struct err *err);
/* mkdir -p, mode 0750, durable. */
int file_mkdirs(const char *path, struct err *err);
/* Removes a file, or a folder with all in it; a missing one is no error. Follows no links. */
int file_remove(const char *path, struct err *err);
/* Takes the exclusive lock file `path` for this process's life (flock). -EBUSY when another
 * process holds it; err then names the other's pid. The fd is the caller's. */
int file_lock(const char *path, int *ret_fd, struct err *err);
/* Whether another process holds it now; makes nothing. -ENOENT: there is no such file. Who wants to
 * take it at this very moment may find it held. */
int file_lock_held(const char *path, bool *ret);
/* Free bytes for an ordinary user on the file system of `path`. */
int file_free_bytes(const char *path, uint64_t *ret_bytes);
/* snprintf into a path; -ENAMETOOLONG when it does not fit (and the text is then empty). */
int file_path(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* write(2) until all is out. */
int file_write_all(int fd, const void *data, size_t len);
/* pread(2) until len bytes or the end: the number of bytes there were, or a negative errno. */
ssize_t file_read_at(int fd, void *buf, size_t len, uint64_t at);
bool file_exists(const char *path);

#define FILE_PATH_MAX 1024
