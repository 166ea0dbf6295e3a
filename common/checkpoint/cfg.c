/* The text is copied once; blanks are squeezed out of each line in place, and sections and
 * options point into the copy. Values in error texts are cut and cleaned of control bytes, as
 * they may be anything. */
#include "common/checkpoint/cfg.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define SHOWN_MAX 40

void cfg_free(struct cfg *c)
{
	if (!c)
		return;
	free(c->text);
	free(c->sections);
	free(c->options);
	free(c);
}

/* What was found, fit for an error line. */
static const char *shown(const char *s, char out[SHOWN_MAX + 4])
{
	size_t n = 0;
	for (; s[n] && n < SHOWN_MAX; n++)
		out[n] = (unsigned char)s[n] < 0x20 || s[n] == 0x7f ? '?' : s[n];
	memcpy(out + n, s[n] ? "..." : "", s[n] ? 4 : 1);
	return out;
}

int cfg_err(const struct cfg *c, const struct cfg_section *s, const char *key, struct err *err,
	    int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX], type[SHOWN_MAX + 4];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	const struct cfg_option *o = key ? cfg_find(c, s, key) : NULL;
	return err_set(err, code, "%.200s:%d: [%s] %.240s", c->name, o ? o->line : s->line,
		       shown(s->type, type), text);
}

/* The array of n items, with room for one more: doubled whenever n is a power of two. NULL: no
 * memory, and the array is as it was. */
static void *grown(void *array, size_t n, size_t item_bytes)
{
	return n & (n - 1) ? array : realloc(array, (n ? 2 * n : 1) * item_bytes);
}

static int add_section(struct cfg *c, char *line, int number, struct err *err)
{
	char out[SHOWN_MAX + 4];
	size_t len = strlen(line);
	if (len < 3 || strchr(line, ']') != line + len - 1)
		return err_set(err, -EINVAL, "%s:%d: found '%s', expected [section]", c->name,
			       number, shown(line, out));
	if (c->n_sections == CFG_SECTIONS_MAX)
		return err_set(err, -E2BIG, "%s:%d: found more than %d sections", c->name, number,
			       CFG_SECTIONS_MAX);
	struct cfg_section *sections = grown(c->sections, c->n_sections, sizeof(*sections));
	if (!sections)
		return err_errno(err, -ENOMEM, "%s", c->name);
	c->sections = sections;
	line[len - 1] = 0;
	c->sections[c->n_sections++] =
		(struct cfg_section){.type = line + 1, .line = number, .first = c->n_options};
	return 0;
}

static int add_option(struct cfg *c, char *line, int number, struct err *err)
{
	char out[SHOWN_MAX + 4];
	if (c->n_sections == 0)
		return err_set(err, -EINVAL, "%s:%d: found '%s' before any section, expected [net]",
			       c->name, number, shown(line, out));
	char *eq = strchr(line, '=');
	if (!eq || eq == line || !eq[1])
		return err_set(err, -EINVAL, "%s:%d: found '%s', expected key=value", c->name,
			       number, shown(line, out));
	if (c->n_options == CFG_OPTIONS_MAX)
		return err_set(err, -E2BIG, "%s:%d: found more than %d options", c->name, number,
			       CFG_OPTIONS_MAX);
	struct cfg_option *options = grown(c->options, c->n_options, sizeof(*options));
	if (!options)
		return err_errno(err, -ENOMEM, "%s", c->name);
	c->options = options;
	*eq = 0;
	c->options[c->n_options++] =
		(struct cfg_option){.key = line, .value = eq + 1, .line = number};
	c->sections[c->n_sections - 1].n++;
	return 0;
}

/* One line, its newline already replaced by NUL. */
static int take_line(struct cfg *c, char *line, size_t len, int number, struct err *err)
{
	if (len > CFG_LINE_MAX)
		return err_set(err, -E2BIG, "%s:%d: found a line of %zu bytes, at most %d expected",
			       c->name, number, len, CFG_LINE_MAX);
	if (memchr(line, 0, len))
		return err_set(err, -EINVAL, "%s:%d: found a NUL byte, expected text", c->name,
			       number);
	if (memchr(line, '\r', len))
		return err_set(
			err, -EINVAL,
			"%s:%d: found a carriage return (a Windows line end?), which Darknet "
			"takes for a part of the value",
			c->name, number);
	char *to = line;
	for (char *p = line; *p; p++)
		if (*p != ' ' && *p != '\t')
			*to++ = *p;
	*to = 0;
	if (*line == 0 || *line == '#' || *line == ';')
		return 0;
	return *line == '[' ? add_section(c, line, number, err) : add_option(c, line, number, err);
}

int cfg_parse(const char *text, size_t len, const char *name, struct cfg **ret, struct err *err)
{
	_cleanup_(cfg_freep) struct cfg *c = calloc(1, sizeof(*c));
	if (!c || !(c->text = malloc(len + 1)))
		return err_errno(err, -ENOMEM, "%s", name);
	snprintf(c->name, sizeof(c->name), "%s", name);
	memcpy(c->text, text, len);
	c->text[len] = 0;
	int number = 0;
	for (char *line = c->text, *end = c->text + len; line < end;) {
		char *nl = memchr(line, '\n', (size_t)(end - line));
		if (!nl)
			nl = end;
		*nl = 0;
		int r = take_line(c, line, (size_t)(nl - line), ++number, err);
		if (r < 0)
			return r;
		line = nl + 1;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

const struct cfg_option *cfg_find(const struct cfg *c, const struct cfg_section *s, const char *key)
{
	for (size_t i = s->first; i < s->first + s->n; i++)
		if (strcmp(c->options[i].key, key) == 0)
			return &c->options[i];
	return NULL;
}

const char *cfg_str(const struct cfg *c, const struct cfg_section *s, const char *key,
		    const char *def)
{
	const struct cfg_option *o = cfg_find(c, s, key);
	return o ? o->value : def;
}

int cfg_int(const struct cfg *c, const struct cfg_section *s, const char *key, int64_t def,
	    int64_t min, int64_t max, int64_t *ret, struct err *err)
{
	const char *v = cfg_str(c, s, key, NULL);
	if (!v) {
		*ret = def;
		return 0;
	}
	char *end, out[SHOWN_MAX + 4];
	errno = 0;
	long long x = strtoll(v, &end, 10);
	if (*end || errno || x < min || x > max)
		return cfg_err(c, s, key, err, -EINVAL,
			       "%s: found '%s', expected an integer from %lld to %lld", key,
			       shown(v, out), (long long)min, (long long)max);
	*ret = x;
	return 0;
}

/* A finite number that ends at `stop`; hexadecimal, inf and nan are none. */
static int number(const char *v, char stop, double *ret, const char **ret_end)
{
	char *end;
	if (!*v || strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,", *v))
		return -EINVAL;
	double x = strtod(v, &end);
	if ((*end && *end != stop) || end == v || !isfinite(x) || fabs(x) > 3.4e38 ||
	    memchr(v, 'x', (size_t)(end - v)) || memchr(v, 'X', (size_t)(end - v)))
		return -EINVAL;
	*ret = x;
	*ret_end = end;
	return 0;
}

int cfg_num(const struct cfg *c, const struct cfg_section *s, const char *key, double def,
	    double *ret, struct err *err)
{
	const char *v = cfg_str(c, s, key, NULL), *end;
	char out[SHOWN_MAX + 4];
	if (!v)
		*ret = def;
	else if (number(v, 0, ret, &end) < 0)
		return cfg_err(c, s, key, err, -EINVAL, "%s: found '%s', expected a finite number",
			       key, shown(v, out));
	return 0;
}

static int read_list(const struct cfg *c, const struct cfg_section *s, const char *key,
		     const char *kind, bool integers, double *ret, size_t *ret_n, struct err *err)
{
	const char *v = cfg_str(c, s, key, NULL);
	char out[SHOWN_MAX + 4];
	size_t n = 0;
	for (const char *p = v; p;) {
		const char *begin = p;
		double x;
		if (n == CFG_LIST_MAX || number(p, ',', &x, &p) < 0 ||
		    (integers && strcspn(begin, ".eE") < (size_t)(p - begin)))
			return cfg_err(c, s, key, err, -EINVAL,
				       "%s: found '%s', expected at most %d %s and commas", key,
				       shown(v, out), CFG_LIST_MAX, kind);
		ret[n++] = x;
		p = *p == ',' ? p + 1 : NULL;
	}
	*ret_n = n;
	return 0;
}

int cfg_list(const struct cfg *c, const struct cfg_section *s, const char *key, double *ret,
	     size_t *ret_n, struct err *err)
{
	return read_list(c, s, key, "numbers", false, ret, ret_n, err);
}

int cfg_integers(const struct cfg *c, const struct cfg_section *s, const char *key, double *ret,
		 size_t *ret_n, struct err *err)
{
	return read_list(c, s, key, "integers", true, ret, ret_n, err);
}
