#include "dashboard/gateway/page.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"

struct page {
	struct page_file files[PAGE_FILES_MAX];
	size_t n, bytes;
};

static const struct {
	const char *ending, *type;
} types[] = {
	{".html", "text/html; charset=utf-8"},
	{".js", "text/javascript; charset=utf-8"},
	{".css", "text/css; charset=utf-8"},
	{".json", "application/json"},
	{".webmanifest", "application/manifest+json"},
	{".map", "application/json"},
	{".txt", "text/plain; charset=utf-8"},
	{".svg", "image/svg+xml"},
	{".png", "image/png"},
	{".ico", "image/x-icon"},
	{".woff2", "font/woff2"},
};

static const char *type_of(const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t n = strlen(types[i].ending);
		if (len > n && strcmp(name + len - n, types[i].ending) == 0)
			return types[i].type;
	}
	return NULL;
}

/* `name` begins with the page's slash. */
static int add_file(struct page *p, const char *path, const char *name, struct err *err)
{
	struct page_file *f = &p->files[p->n];
	char hash[HASH_SIZE];
	const char *type = type_of(name);
	if (!type)
		return err_set(err, -EINVAL,
			       "%s: found a file of another kind, expected html, js, css, json, "
			       "svg, png, ico, woff2, txt, map, webmanifest",
			       path);
	if (p->n == PAGE_FILES_MAX)
		return err_set(err, -E2BIG, "%s: found more than %d files, expected a page", path,
			       PAGE_FILES_MAX);
	int r = file_read(path, PAGE_BYTES_MAX - p->bytes, &f->data, &f->len, err);
	if (r < 0)
		return r;
	p->n++; /* from here on page_free() frees it */
	p->bytes += f->len;
	f->type = type;
	f->name = strdup(name);
	if (!f->name || hash_bytes(f->data, f->len, hash) < 0)
		return err_set(err, -ENOMEM, "%s: out of memory", path);
	snprintf(f->tag, sizeof(f->tag), "\"%s\"", hash);
	return 0;
}

static int add_folder(struct page *p, const char *folder, const char *name, int depth,
		      struct err *err)
{
	DIR *d = opendir(folder);
	int r = 0;
	if (!d)
		return err_errno(err, -errno, "%s", folder);
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char path[FILE_PATH_MAX], below[FILE_PATH_MAX];
		struct stat st;
		if (e->d_name[0] == '.')
			continue;
		if ((r = file_path(path, sizeof(path), "%s/%s", folder, e->d_name)) < 0 ||
		    (r = file_path(below, sizeof(below), "%s/%s", name, e->d_name)) < 0 ||
		    (r = stat(path, &st) < 0 ? -errno : 0) < 0)
			err_errno(err, r, "%.200s/%.200s", folder, e->d_name);
		else if (!S_ISDIR(st.st_mode))
			r = add_file(p, path, below, err);
		else if (depth < PAGE_DEPTH_MAX)
			r = add_folder(p, path, below, depth + 1, err);
		else
			r = err_set(err, -ELOOP, "%s: found more than %d folders in each other",
				    path, PAGE_DEPTH_MAX);
	}
	closedir(d);
	return r;
}

int page_load(const char *folder, struct page **ret, struct err *err)
{
	struct page *p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, -ENOMEM, "%s: out of memory", folder);
	int r = add_folder(p, folder, "", 0, err);
	if (r == 0 && !page_find(p, "/"))
		r = err_set(err, -ENOENT,
			    "%s: found no index.html, expected the folder of the page", folder);
	if (r < 0)
		page_free(p);
	else
		*ret = p;
	return r;
}

void page_free(struct page *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		free(p->files[i].name);
		free(p->files[i].data);
	}
	free(p);
}

const struct page_file *page_find(const struct page *p, const char *path)
{
	if (strcmp(path, "/") == 0)
		path = "/index.html";
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->files[i].name, path) == 0)
			return &p->files[i];
	return NULL;
}
