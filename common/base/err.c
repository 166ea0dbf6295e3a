#include "common/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *text;
} categories[ERR_CATEGORY_N] = {
	[ERR_OTHER] = {"other", "failed; its own log says why"},
	[ERR_DISK_FULL] = {"disk-full", "no space left on the disk"},
	[ERR_MEMORY] = {"memory", "out of memory"},
	[ERR_FILE] = {"file", "a file cannot be read or written"},
	[ERR_CONF] = {"conf", "the configuration is not usable"},
	[ERR_DATA] = {"data", "the images are not usable"},
	[ERR_CHECKPOINT] = {"checkpoint", "the checkpoint is not usable"},
	[ERR_DIVERGED] = {"diverged", "the loss is not finite"},
	[ERR_WORKER] = {"worker", "the worker died"},
	[ERR_HUNG] = {"hung", "the worker hung"},
	[ERR_FORBIDDEN] = {"forbidden", "the worker tried what it must not"},
};

static enum err_category of_code(int code)
{
	switch (-code) {
	case ENOSPC:
	case EDQUOT:
		return ERR_DISK_FULL;
	case ENOMEM:
		return ERR_MEMORY;
	case EIO:
	case EROFS:
	case EACCES:
	case EPERM:
	case ENOENT:
	case ENOTDIR:
	case EFBIG:
		return ERR_FILE;
	case ENODATA:
	case ESTALE:
		return ERR_DATA;
	case EBADMSG:
		return ERR_CHECKPOINT;
	case EDOM:
		return ERR_DIVERGED;
	default:
		return ERR_OTHER;
	}
}

int(err_set)(struct err *err, int code, const char *fmt, ...)
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
	err->category = of_code(code);
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
	enum err_category known = err->category;
	err_set(err, err->code, "%.200s: %.300s", head, err->text);
	err->category = known;
	return err->code;
}

int(err_errno)(struct err *err, int code, const char *fmt, ...)
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

void err_categorize(struct err *err, enum err_category c)
{
	if (err && err->category != ERR_DISK_FULL && err->category != ERR_MEMORY)
		err->category = c;
}

const char *err_category_name(enum err_category c)
{
	return categories[c < ERR_CATEGORY_N ? c : ERR_OTHER].name;
}

enum err_category err_category_parse(const char *name)
{
	for (enum err_category c = ERR_OTHER; c < ERR_CATEGORY_N; c++)
		if (strcmp(name, categories[c].name) == 0)
			return c;
	return ERR_OTHER;
}

const char *err_category_text(enum err_category c)
{
	return categories[c < ERR_CATEGORY_N ? c : ERR_OTHER].text;
}
