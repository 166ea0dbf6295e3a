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

struct err {
	int code; /* negative errno, 0: none */
	char text[ERR_TEXT_MAX];
};

/* Writes the text and returns `code`, so that `return err_set(err, -EINVAL, "...")` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before the text that is there; returns err->code, or 0 when err is NULL: return
 * the code itself where that may be. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* err_set with ": strerror(-code)" appended. */
int err_errno(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
