#include "common/dataset/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"

bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
	return !a->young && !b->young && a->size == b->size && a->inode == b->inode &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct stamp stamp_of(const struct stat *st)
{
	int64_t ctime_ns = nanoseconds(st->st_ctim);
	return (struct stamp){
		.size = (uint64_t)st->st_size,
		.inode = (uint64_t)st->st_ino,
		.mtime_ns = nanoseconds(st->st_mtim),
		.ctime_ns = ctime_ns,
		.young = llabs(clock_real_ms() - ctime_ns / 1000000) < STAMP_YOUNG_MS,
	};
}

int stamp_read(const char *path, struct stamp *ret, struct err *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	*ret = stamp_of(&st);
	return 0;
}

void folder_list_done(struct folder_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->files[i].name);
	free(l->files);
	*l = (struct folder_list){0};
}

static void dir_freep(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* The next entry that is not hidden; 1, 0 at the end, or a negative errno. */
static int next_entry(DIR *d, const char **ret_name, struct stat *ret_st)
{
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e)
			return -errno;
		if (e->d_name[0] == '.')
			continue;
		/* Gone meanwhile, or a link that leads nowhere: not there. */
		if (fstatat(dirfd(d), e->d_name, ret_st, 0) < 0) {
			if (errno == ENOENT || errno == ELOOP)
				continue;
			return -errno;
		}
		*ret_name = e->d_name;
		return 1;
	}
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int folder_classes(const char *path, char ***ret_names, size_t *ret_n, struct err *err)
{
	_cleanup_(dir_freep) DIR *d = opendir(path);
	if (!d)
		return err_errno(err, -errno, "%s", path);
	const char *name = "";
	struct stat st;
	int r;
	while ((r = next_entry(d, &name, &st)) > 0) {
		if (!S_ISDIR(st.st_mode))
			continue;
		if (*ret_n == DATASET_CLASSES_MAX)
			return err_set(err, -E2BIG, "%s: more than %d class folders", path,
				       DATASET_CLASSES_MAX);
		char **names = reallocarray(*ret_names, *ret_n + 1, sizeof(*names));
		if (!names)
			return err_errno(err, -ENOMEM, "%s", path);
		*ret_names = names;
		names[*ret_n] = strdup(name);
		if (!names[*ret_n])
			return err_errno(err, -ENOMEM, "%s", path);
		++*ret_n;
	}
	if (r < 0)
		return err_errno(err, r, "%s", path);
	if (!*ret_n)
		return err_set(err, -EINVAL,
			       "%s: no data set: expected IDX files (train-images-idx3-ubyte, ...) "
			       "or a folder of images per class",
			       path);
	qsort(*ret_names, *ret_n, sizeof(**ret_names), compare_strings);
	return 0;
}

static int find_class(const struct classes *c, const char *name, uint32_t *ret)
{
	for (size_t i = 0; i < c->n; i++)
		if (!strcmp(c->names[i], name)) {
			*ret = (uint32_t)i;
			return 0;
		}
	return -ENOENT;
}

static int add_file(struct folder_list *l, size_t *room, const char *class_name, const char *name,
		    uint32_t label, const struct stat *st)
{
	if (l->n == *room) {
		size_t more = *room ? 2 * *room : 256;
		struct folder_file *files = reallocarray(l->files, more, sizeof(*files));
		if (!files)
			return -ENOMEM;
		l->files = files;
		*room = more;
	}
	struct folder_file f = {.label = label, .stamp = stamp_of(st)};
	if (asprintf(&f.name, "%s/%s", class_name, name) < 0)
		return -ENOMEM;
	l->files[l->n++] = f;
	return 0;
}

static int list_class(const char *path, const char *class_name, uint32_t label,
		      struct folder_list *l, size_t *room, struct err *err)
{
	char sub[FILE_PATH_MAX];
	int r = file_path(sub, sizeof(sub), "%s/%s", path, class_name);
	if (r < 0)
		return err_errno(err, r, "%s/%s", path, class_name);
	_cleanup_(dir_freep) DIR *d = opendir(sub);
	if (!d)
		return err_errno(err, -errno, "%s", sub);
	size_t before = l->n;
	const char *name = "";
	struct stat st;
	while ((r = next_entry(d, &name, &st)) > 0) {
		if (!S_ISREG(st.st_mode))
			continue;
		if (l->n == DATASET_IMAGES_MAX)
			return err_set(err, -E2BIG, "%s: more than %d images", path,
				       DATASET_IMAGES_MAX);
		r = add_file(l, room, class_name, name, label, &st);
		if (r < 0)
			break;
	}
	if (r < 0)
		return err_errno(err, r, "%s", sub);
	if (l->n == before)
		return err_set(err, -ENODATA,
			       "%s: class folder without an image, expected at least one "
			       "(or no such folder)",
			       sub);
	return 0;
}

static int compare_files(const void *a, const void *b)
{
	const struct folder_file *x = a, *y = b;
	return strcmp(x->name, y->name);
}

struct names {
	char **at;
	size_t n;
};

static void names_done(struct names *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->at[i]);
	free(s->at);
}

int folder_list(const char *path, const struct classes *classes, struct folder_list *ret,
		struct err *err)
{
	_cleanup_(names_done) struct names found = {0};
	int r = folder_classes(path, &found.at, &found.n, err);
	if (r < 0)
		return r;
	_cleanup_(folder_list_done) struct folder_list l = {0};
	size_t room = 0;
	for (size_t i = 0; i < found.n; i++) {
		uint32_t label;
		if (find_class(classes, found.at[i], &label) < 0)
			return err_set(err, -EINVAL,
				       "%s/%s: class folder is not in the class list (%zu classes, "
				       "'%s' first)",
				       path, found.at[i], classes->n,
				       classes->n ? classes->names[0] : "");
		r = list_class(path, found.at[i], label, &l, &room, err);
		if (r < 0)
			return r;
	}
	qsort(l.files, l.n, sizeof(*l.files), compare_files);
	*ret = l;
	l = (struct folder_list){0};
	return 0;
}
