/* Errors that a person reads.
 *
 * Functions return 0 (or a count) on success and a negative errno on failure; results go to
 * `ret_...` parameters, which stay untouched on failure. Where a person will want to know what
 * was wrong, the function also takes a `struct err *` (NULL is allowed) and leaves one line in
 * it that names the file, key, topic or field, what was found and what was expected.
 * Libraries fill it and never log; whoever handles the error logs it, once. */
#pragma once

#include <stdarg.h>

#define ERR_TEXT_MAX 512

/* What kind of trouble it is, for those who may not see the text: it may name paths, and with them
 * classes and people, which do not leave their machine. */
enum err_category {
	ERR_OTHER,
	ERR_DISK_FULL,
	ERR_MEMORY,
	ERR_FILE,       /* missing, or cannot be read or written */
	ERR_CONF,       /* cfg, class list, settings */
	ERR_DATA,       /* images */
	ERR_CHECKPOINT, /* weights that are not what they should be */
	ERR_DIVERGED,   /* loss or weights are not finite */
	ERR_WORKER,     /* the process that trains ended, or speaks nonsense */
	ERR_HUNG,       /* ... or stood still */
	ERR_FORBIDDEN,  /* ... or tried what it must not */
	ERR_CATEGORY_N
};

struct err {
	int code; /* negative errno, 0: none */
	char text[ERR_TEXT_MAX];
	enum err_category category; /* from the code, where nobody knew better */
};

/* Writes the text and returns `code`, so that `return err_set(err, -EINVAL, "...")` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the text that is there; returns err->code, or 0 when err is NULL: return
 * the code itself where that may be. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* err_set with ": strerror(-code)" appended. */
int err_errno(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The compiler is told what they return: it then sees that what they are the failure of has its result
 * whenever it returns 0. */
#define err_set(err, code, ...)                                                                    \
	({                                                                                         \
		const int err_code_ = (code);                                                      \
		(err_set)(err, err_code_, __VA_ARGS__);                                            \
		err_code_;                                                                         \
	})
#define err_errno(err, code, ...)                                                                  \
	({                                                                                         \
		const int err_code_ = (code);                                                      \
		(err_errno)(err, err_code_, __VA_ARGS__);                                          \
		err_code_;                                                                         \
	})

/* Says the category, unless the code told it already in a way that holds anywhere: a full disk,
 * no memory. */
void err_categorize(struct err *err, enum err_category c);
/* "disk-full": a word for machines. ERR_OTHER for a word that is none. */
const char *err_category_name(enum err_category c);
enum err_category err_category_parse(const char *name);
/* "no space left on the disk": for people elsewhere, instead of the text. */
const char *err_category_text(enum err_category c);
