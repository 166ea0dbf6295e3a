#include "common/base/err.h"

#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	/* Not straight into err->text: an argument may be that very text. */
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(err->text, text, sizeof(text));
	err->code = code;
	return code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
	if (!err)
		return 0;
	char head[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	return err_set(err, err->code, "%.200s: %.300s", head, err->text);
}

int err_errno(struct err *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	char head[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	return err_set(err, code, "%.400s: %s", head, strerror(-code));
}
