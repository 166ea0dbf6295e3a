/* The page's bundle: all files of a folder, read at the start. What is asked for is looked up by
 * its exact name, so no request reaches the file system. */
#pragma once

#include <stddef.h>

#include "common/base/err.h"
#include "common/base/id.h"

#define PAGE_FILES_MAX 256
#define PAGE_BYTES_MAX (32 * 1024 * 1024) /* of all files */
#define PAGE_DEPTH_MAX 4                  /* folders in folders */

struct page_file {
	char *name; /* "/index.html" */
	char *data;
	size_t len;
	const char *type;        /* of its content; by the name's end */
	char tag[HASH_SIZE + 2]; /* entity tag: its sha256, in quotes */
};

struct page;

/* -ENOENT: the folder has no index.html; -EINVAL: a file of a type that browsers are not served;
 * -E2BIG ... */
int page_load(const char *folder, struct page **ret, struct err *err);
void page_free(struct page *p); /* NULL allowed */
/* "/" is /index.html. NULL: none. */
const struct page_file *page_find(const struct page *p, const char *path);
