#include "common/conf/check.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"

static int folder(const char *path, int mode)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return access(path, mode) < 0 ? -errno : 0;
}

int conf_check_folder(const struct conf *c, const char *section, const char *key, const char *path,
		      struct err *err)
{
	int r = *path ? folder(path, R_OK | X_OK) : 0;
	if (r < 0)
		return conf_fail(c, section, key, r, err,
				 "found '%.200s' (%s), expected a folder that can be read", path,
				 strerror(-r));
	return 0;
}

int conf_check_program(const struct conf *c, const char *section, const char *key, const char *path,
		       struct err *err)
{
	struct stat st;
	int r = 0;
	if (!*path)
		return 0;
	if (stat(path, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
	else if (access(path, X_OK) < 0)
		r = -errno;
	if (r < 0)
		return conf_fail(c, section, key, r, err,
				 "found '%.200s' (%s), expected a program that can be run", path,
				 strerror(-r));
	return 0;
}

/* The last part and the slashes before it; the folder of "x" is ".". */
static void to_parent(char *path)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	while (len > 0 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len == 0)
		path[len++] = '.';
	path[len] = 0;
}

int conf_check_state(const struct conf *c, const char *section, const char *key, const char *path,
		     struct err *err)
{
	char above[FILE_PATH_MAX];
	if (!*path)
		return conf_fail(c, section, key, -ENOENT, err, "found nothing, expected a folder");
	int r = file_path(above, sizeof(above), "%s", path);
	if (r == 0)
		r = folder(above, W_OK | X_OK);
	/* It ends: "/" and "." are there, and a part that is no folder gives ENOTDIR. */
	while (r == -ENOENT && strcmp(above, "/") != 0 && strcmp(above, ".") != 0) {
		to_parent(above);
		r = folder(above, W_OK | X_OK);
	}
	if (r < 0)
		return conf_fail(c, section, key, r, err,
				 "found '%.200s', which cannot be made or written (%.100s: %s), "
				 "expected a folder",
				 path, above, strerror(-r));
	return 0;
}

int conf_check_host(const struct conf *c, const char *section, const char *key, const char *host,
		    struct err *err)
{
	static const char expected[] = "expected a host name or address";
	if (!*host)
		return conf_fail(c, section, key, -EINVAL, err, "found nothing, %s", expected);
	for (const char *p = host; *p; p++)
		if (isspace((unsigned char)*p))
			return conf_fail(c, section, key, -EINVAL, err, "found '%s', %s", host,
					 expected);
	return 0;
}
