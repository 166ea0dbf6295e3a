/* Listing a folder of class folders: which images are there, not what is in them. Hidden names
 * are passed over, so are files beside the class folders and folders inside them; symbolic links
 * count as what they lead to. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/dataset/dataset.h"

/* Tells one state of a file from another without reading it. File systems tell time in steps of
 * milliseconds: a file that was seen right after a change may change again within the step, so
 * such a stamp equals none. */
#define STAMP_YOUNG_MS 100
struct stamp {
	uint64_t size, inode;
	int64_t mtime_ns, ctime_ns;
	bool young;
};
bool stamp_equal(const struct stamp *a, const struct stamp *b);
int stamp_read(const char *path, struct stamp *ret, struct err *err);

struct folder_file {
	char *name; /* CLASS/FILE below the folder */
	uint32_t label;
	struct stamp stamp;
};

struct folder_list {
	struct folder_file *files; /* sorted by name */
	size_t n;
};

/* The images of all class folders. A class folder that is not in `classes` or holds no file, and a
 * folder without class folders, are errors that name it. */
int folder_list(const char *path, const struct classes *classes, struct folder_list *ret,
		struct err *err);
void folder_list_done(struct folder_list *l);
/* Sorted names of the class folders; the caller frees them (also what is there after an error). */
int folder_classes(const char *path, char ***ret_names, size_t *ret_n, struct err *err);
