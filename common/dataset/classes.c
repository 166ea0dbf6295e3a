#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/dataset/dataset.h"
#include "common/dataset/folder.h"
#include "common/dataset/idx.h"

#define LIST_BYTES_MAX (DATASET_CLASSES_MAX * (DATASET_CLASS_NAME_MAX + 2))

void classes_done(struct classes *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->names[i]);
	free(c->names);
	*c = (struct classes){0};
}

/* Length of the UTF-8 sequence at p (RFC 3629: shortest form, no surrogates), 0: none. */
static size_t utf8_len(const unsigned char *p)
{
	if (p[0] < 0x80)
		return 1;
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80) /* stops at a NUL, too */
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* NULL when the name will do, else what is wrong with it. */
static const char *name_fault(const char *name)
{
	size_t len = strlen(name);
	if (!len)
		return "is empty";
	if (len > DATASET_CLASS_NAME_MAX)
		return "is longer than 128 bytes";
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return "is not a name";
	for (const unsigned char *p = (const unsigned char *)name; *p;) {
		size_t n = utf8_len(p);
		if (!n)
			return "is not UTF-8";
		if (*p == '/' || *p < 0x20 || *p == 0x7f)
			return "holds '/' or a control character";
		p += n;
	}
	return NULL;
}

static int add(struct classes *c, const char *name)
{
	char **names = reallocarray(c->names, c->n + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	c->names = names;
	names[c->n] = strdup(name);
	return names[c->n] ? (c->n++, 0) : -ENOMEM;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A repeated name, or NULL. */
static const char *find_repeated(const struct classes *c)
{
	_cleanup_free_ char **sorted = reallocarray(NULL, c->n + 1, sizeof(*sorted));
	if (!sorted || !c->n)
		return NULL;
	memcpy(sorted, c->names, c->n * sizeof(*sorted));
	qsort(sorted, c->n, sizeof(*sorted), compare_names);
	for (size_t i = 1; i < c->n; i++)
		if (!strcmp(sorted[i - 1], sorted[i]))
			return sorted[i];
	return NULL;
}

static int parse_list(char *text, size_t len, const char *path, struct classes *c, struct err *err)
{
	if (memchr(text, 0, len))
		return err_set(err, -EINVAL, "%s: holds a NUL byte, expected one name a line",
			       path);
	unsigned line = 0;
	for (char *at = text; at < text + len;) {
		char *end = strchrnul(at, '\n');
		bool last = !*end;
		*end = 0;
		if (end > at && end[-1] == '\r')
			end[-1] = 0;
		line++;
		const char *fault = name_fault(at);
		if (fault)
			return err_set(err, -EINVAL, "%s:%u: class name %s", path, line, fault);
		if (c->n == DATASET_CLASSES_MAX)
			return err_set(err, -E2BIG, "%s:%u: more than %d classes", path, line,
				       DATASET_CLASSES_MAX);
		if (add(c, at) < 0)
			return err_errno(err, -ENOMEM, "%s", path);
		at = last ? text + len : end + 1;
	}
	const char *twice = find_repeated(c);
	if (twice)
		return err_set(err, -EINVAL, "%s: class '%s' is listed twice", path, twice);
	if (!c->n)
		return err_set(err, -EINVAL, "%s: no class in it, expected one name a line", path);
	return 0;
}

int classes_load(const char *path, struct classes *ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, LIST_BYTES_MAX, &text, &len, err);
	if (r < 0)
		return r;
	_cleanup_(classes_done) struct classes c = {0};
	r = parse_list(text, len, path, &c, err);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct classes){0};
	return 0;
}

int classes_append(struct classes *c, const struct classes *more, const char *path,
		   struct err *err)
{
	size_t n = c->n;
	for (size_t i = 0; i < more->n; i++) {
		for (size_t k = 0; k < n; k++)
			if (!strcmp(c->names[k], more->names[i]))
				return err_set(err, -EINVAL,
					       "%s: '%s' is in the public class list, too", path,
					       more->names[i]);
		if (c->n == DATASET_CLASSES_MAX)
			return err_set(err, -E2BIG, "%s: more than %d classes", path,
				       DATASET_CLASSES_MAX);
		if (add(c, more->names[i]) < 0)
			return err_errno(err, -ENOMEM, "%s", path);
	}
	return 0;
}

/* "0" to the largest label of the IDX files. */
static int from_labels(const struct idx_pair *pair, unsigned *largest, struct err *err)
{
	_cleanup_free_ uint8_t *labels = NULL;
	uint32_t n;
	int r = idx_labels(pair->labels, &labels, &n, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		*largest = MAX_OF(*largest, (unsigned)labels[i]);
	return 0;
}

static int from_idx(const char *path, struct classes *c, struct err *err)
{
	static const char *const stems[] = {"train", "t10k"};
	unsigned largest = 0;
	bool found = false;
	for (size_t i = 0; i < ARRAY_LEN(stems); i++) {
		struct idx_pair pair;
		int r = idx_find(path, stems[i], &pair, err);
		if (r > 0)
			r = from_labels(&pair, &largest, err) < 0 ? -EBADMSG : 1;
		if (r < 0)
			return r;
		found |= r > 0;
	}
	for (unsigned i = 0; found && i <= largest; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%u", i);
		if (add(c, name) < 0)
			return err_errno(err, -ENOMEM, "%s", path);
	}
	return found;
}

int classes_from_data(const char *path, struct classes *ret, struct err *err)
{
	_cleanup_(classes_done) struct classes c = {0};
	int r = from_idx(path, &c, err);
	if (r == 0)
		r = folder_classes(path, &c.names, &c.n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c.n; i++) {
		const char *fault = name_fault(c.names[i]);
		if (fault)
			return err_set(err, -EINVAL, "%s: name of class folder %zu %s", path, i,
				       fault);
	}
	*ret = c;
	c = (struct classes){0};
	return 0;
}
