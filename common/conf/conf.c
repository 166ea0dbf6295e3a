/* inih cuts a file into sections, keys and values; everything strict is done around it. inih calls
 * its handler without a line number, so it reads through read_line(), which counts: when the
 * handler runs, `line` is the line that the key stands on. read_line() also refuses what inih
 * would let pass in silence (it folds over-long lines and cuts long section names). The first
 * error wins and ends the load. */
#include "common/conf/conf.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/id.h"
#include "common/base/mem.h"

#define TEXT_OF_(x) #x
#define TEXT_OF(x)  TEXT_OF_(x)

#define FOUND_MAX   80 /* bytes of a value that an error shows */
#define SUGGEST_MAX 3  /* edits between a wrong name and the one suggested for it */

struct entry {
	char *section, *key, *value;
	unsigned line;
	bool used;
};

/* A key that some getter asked for. */
struct known {
	char section[CONF_NAME_MAX + 1], key[CONF_NAME_MAX + 1];
};

struct section {
	char name[CONF_NAME_MAX + 1];
	unsigned line; /* the first */
};

struct conf {
	char path[FILE_PATH_MAX];
	struct section sections[CONF_SECTIONS_MAX];
	size_t n_sections;
	struct entry entries[CONF_KEYS_MAX];
	size_t n_entries;
	struct known known[CONF_KEYS_MAX];
	size_t n_known;
};

/* ---- loading ---- */

struct load {
	struct conf *conf;
	const char *pos, *end; /* the text that inih has not read yet */
	unsigned line;
	int r; /* the first error */
	struct err *err;
};

static int refuse(struct load *l, int code, const char *found, const char *expected)
{
	l->r = err_set(l->err, code, "%s:%u: found %s, expected %s", l->conf->path, l->line, found,
		       expected);
	return l->r;
}

static int remember_section(struct load *l, const char *name, size_t len)
{
	struct conf *c = l->conf;
	for (size_t i = 0; i < c->n_sections; i++)
		if (strlen(c->sections[i].name) == len &&
		    memcmp(c->sections[i].name, name, len) == 0)
			return 0;
	if (c->n_sections == CONF_SECTIONS_MAX)
		return refuse(l, -E2BIG, "more sections",
			      "at most " TEXT_OF(CONF_SECTIONS_MAX) " of different names");
	struct section *s = &c->sections[c->n_sections++];
	memcpy(s->name, name, len); /* the rest is zero */
	s->line = l->line;
	return 0;
}

static int check_section(struct load *l, const char *line, size_t len)
{
	const char *close = memchr(line, ']', len);
	if (!close)
		return refuse(l, -EINVAL, "'[' without ']'", "[section]");
	size_t name = (size_t)(close - line) - 1;
	if (name == 0 || name > CONF_NAME_MAX)
		return refuse(l, -EINVAL, name ? "a longer section name" : "an empty section name",
			      "1 to " TEXT_OF(CONF_NAME_MAX) " bytes");
	for (const char *p = close + 1; p < line + len; p++) {
		if (*p == ';' || *p == '#')
			break;
		if (!isspace((unsigned char)*p))
			return refuse(l, -EINVAL, "text after ']'", "the end of the line");
	}
	return remember_section(l, line + 1, name);
}

static int check_line(struct load *l, const char *line, size_t len)
{
	while (len && isspace((unsigned char)line[len - 1]))
		len--;
	if (l->line == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
		line += 3;
		len -= 3;
	}
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
			return refuse(l, -EINVAL, "a control character", "text");
	while (len && isspace((unsigned char)*line)) {
		line++;
		len--;
	}
	return len && *line == '[' ? check_section(l, line, len) : 0;
}

/* fgets(3) for inih, from memory; always whole lines. */
static char *read_line(char *buf, int size, void *stream)
{
	struct load *l = stream;
	if (l->r < 0 || l->pos == l->end)
		return NULL;
	const char *newline = memchr(l->pos, '\n', (size_t)(l->end - l->pos));
	size_t len = (size_t)((newline ? newline + 1 : l->end) - l->pos);
	l->line++;
	if (len > CONF_LINE_MAX || len >= (size_t)size) {
		refuse(l, -E2BIG, "a longer line", "at most " TEXT_OF(CONF_LINE_MAX) " bytes");
		return NULL;
	}
	if (check_line(l, l->pos, len) < 0)
		return NULL;
	memcpy(buf, l->pos, len);
	buf[len] = 0;
	l->pos += len;
	return buf;
}

static const struct entry *find(const struct conf *c, const char *section, const char *key)
{
	for (size_t i = 0; i < c->n_entries; i++) {
		const struct entry *e = &c->entries[i];
		if (strcmp(e->section, section) == 0 && strcmp(e->key, key) == 0)
			return e;
	}
	return NULL;
}

/* inih's handler: 0 says error. */
static int take_key(void *user, const char *section, const char *key, const char *value)
{
	struct load *l = user;
	struct conf *c = l->conf;
	if (l->r < 0)
		return 0;
	if (!*section)
		return refuse(l, -EINVAL, "a key", "a [section] before it") == 0;
	if (!*key || strlen(key) > CONF_NAME_MAX)
		return refuse(l, -EINVAL, *key ? "a longer key" : "an empty key",
			      "1 to " TEXT_OF(CONF_NAME_MAX) " bytes before '='") == 0;
	if (strlen(value) > CONF_VALUE_MAX)
		return refuse(l, -E2BIG, "a longer value",
			      "at most " TEXT_OF(CONF_VALUE_MAX) " bytes") == 0;
	const struct entry *twin = find(c, section, key);
	if (twin) {
		l->r = err_set(l->err, -EINVAL,
			       "%s:%u: [%s] %s: found a second time (first in line %u), "
			       "expected once",
			       c->path, l->line, section, key, twin->line);
		return 0;
	}
	if (c->n_entries == CONF_KEYS_MAX)
		return refuse(l, -E2BIG, "more keys", "at most " TEXT_OF(CONF_KEYS_MAX)) == 0;
	struct entry *e = &c->entries[c->n_entries++];
	*e = (struct entry){strdup(section), strdup(key), strdup(value), l->line, false};
	if (!e->section || !e->key || !e->value)
		l->r = err_errno(l->err, -ENOMEM, "%s", c->path);
	return l->r == 0;
}

static int parse(struct load *l)
{
	/* Debian builds inih with its options as variables. */
	ini_use_stack = true;
	ini_max_line = CONF_LINE_MAX + 3;
	ini_allow_multiline = false;
	ini_allow_inline_comments = true;
	ini_allow_no_value = false;
	ini_allow_bom = true;
	ini_stop_on_first_error = true;
	int r = ini_parse_stream(read_line, l, take_key, l);
	if (r != 0 && l->r == 0)
		refuse(l, -EINVAL, "a line that is neither", "[section] or key = value");
	return l->r;
}

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

int conf_load(const char *path, struct conf **ret, struct err *err)
{
	_cleanup_(conf_freep) struct conf *c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(err, -ENOMEM, "%s", path);
	int r = file_path(c->path, sizeof(c->path), "%s", path);
	if (r < 0)
		return err_errno(err, r, "%.100s...", path);
	_cleanup_free_ char *text = NULL;
	size_t len;
	r = file_read(path, CONF_BYTES_MAX, &text, &len, err);
	if (r < 0)
		return r;
	struct load l = {.conf = c, .pos = text, .end = text + len, .err = err};
	r = parse(&l);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_entries; i++) {
		free(c->entries[i].section);
		free(c->entries[i].key);
		free(c->entries[i].value);
	}
	free(c);
}

/* ---- getters ---- */

static void remember_known(struct conf *c, const char *section, const char *key)
{
	for (size_t i = 0; i < c->n_known; i++)
		if (strcmp(c->known[i].section, section) == 0 && strcmp(c->known[i].key, key) == 0)
			return;
	struct known k;
	if (c->n_known < CONF_KEYS_MAX &&
	    file_path(k.section, sizeof(k.section), "%s", section) == 0 &&
	    file_path(k.key, sizeof(k.key), "%s", key) == 0)
		c->known[c->n_known++] = k;
}

/* NULL when the file has no such key; else it counts as consumed. */
static const struct entry *consume(struct conf *c, const char *section, const char *key)
{
	remember_known(c, section, key);
	const struct entry *e = find(c, section, key);
	if (e)
		c->entries[e - c->entries].used = true;
	return e;
}

static int missing(const struct conf *c, const char *section, const char *key, const char *expected,
		   struct err *err)
{
	return err_set(err, -ENOENT, "%s: [%s] %s: found nothing, expected %s", c->path, section,
		       key, expected);
}

static int wrong(const struct conf *c, const struct entry *e, int code, const char *expected,
		 struct err *err)
{
	return err_set(err, code, "%s:%u: [%s] %s: found '%.*s', expected %s", c->path, e->line,
		       e->section, e->key, FOUND_MAX, e->value, expected);
}

/* A value may be a secret: errors here show its length only. */
int conf_str(struct conf *c, const char *section, const char *key, const char *fallback, char *buf,
	     size_t size, struct err *err)
{
	const struct entry *e = consume(c, section, key);
	if (!fallback && (!e || !*e->value))
		return missing(c, section, key, "a value", err);
	const char *value = e ? e->value : fallback;
	size_t len = strlen(value);
	if (len >= size)
		return err_set(err, -ERANGE,
			       "%s:%u: [%s] %s: found %zu bytes, expected at most %zu", c->path,
			       e ? e->line : 0, section, key, len, size - 1);
	memcpy(buf, value, len + 1);
	return 0;
}

int conf_file(struct conf *c, const char *section, const char *key, const char *fallback, char *buf,
	      size_t size, struct err *err)
{
	char value[FILE_PATH_MAX];
	int r = conf_str(c, section, key, fallback, value, sizeof(value), err);
	if (r < 0)
		return r;
	const char *slash = strrchr(c->path, '/');
	if (!slash || !*value || *value == '/')
		r = file_path(buf, size, "%s", value);
	else
		r = file_path(buf, size, "%.*s%s", (int)(slash + 1 - c->path), c->path, value);
	if (r < 0)
		return err_set(err, -ERANGE,
			       "%s: [%s] %s: found a path of more than %zu bytes with its folder, "
			       "expected at most that",
			       c->path, section, key, size - 1);
	return 0;
}

int conf_id(struct conf *c, const char *section, const char *key, const char *fallback, char *buf,
	    size_t size, struct err *err)
{
	static const char expected[] = "1 to 64 of A-Z a-z 0-9 . _ -";
	const struct entry *e = consume(c, section, key);
	if (!e && !fallback)
		return missing(c, section, key, expected, err);
	if (e && !id_valid(e->value))
		return wrong(c, e, -EINVAL, expected, err);
	return conf_str(c, section, key, fallback, buf, size, err);
}

int conf_int(struct conf *c, const char *section, const char *key, int64_t min, int64_t max,
	     int64_t fallback, int64_t *ret, struct err *err)
{
	char expected[96];
	snprintf(expected, sizeof(expected), "an integer from %lld to %lld", (long long)min,
		 (long long)max);
	const struct entry *e = consume(c, section, key);
	if (!e && (fallback < min || fallback > max))
		return missing(c, section, key, expected, err);
	if (!e) {
		*ret = fallback;
		return 0;
	}
	char *end;
	errno = 0;
	long long v = strtoll(e->value, &end, 10);
	if (end == e->value || *end)
		return wrong(c, e, -EINVAL, expected, err);
	if (errno == ERANGE || v < min || v > max)
		return wrong(c, e, -ERANGE, expected, err);
	*ret = v;
	return 0;
}

int conf_num(struct conf *c, const char *section, const char *key, double min, double max,
	     double fallback, double *ret, struct err *err)
{
	char expected[96];
	snprintf(expected, sizeof(expected), "a number from %g to %g", min, max);
	const struct entry *e = consume(c, section, key);
	if (!e && !(fallback >= min && fallback <= max))
		return missing(c, section, key, expected, err);
	if (!e) {
		*ret = fallback;
		return 0;
	}
	char *end;
	double v = strtod(e->value, &end);
	/* strtod also knows inf, nan and hexadecimal. */
	if (end == e->value || e->value[strspn(e->value, "+-.0123456789eE")])
		return wrong(c, e, -EINVAL, expected, err);
	if (*end)
		return wrong(c, e, -EINVAL, expected, err);
	if (!(v >= min && v <= max))
		return wrong(c, e, -ERANGE, expected, err);
	*ret = v;
	return 0;
}

int conf_bool(struct conf *c, const char *section, const char *key, bool fallback, bool *ret,
	      struct err *err)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
	const struct entry *e = consume(c, section, key);
	if (!e) {
		*ret = fallback;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcasecmp(e->value, words[i]) == 0) {
			*ret = i % 2;
			return 0;
		}
	}
	return wrong(c, e, -EINVAL, "yes or no", err);
}

int conf_choice(struct conf *c, const char *section, const char *key, const char *const *words,
		const char *fallback, int *ret, struct err *err)
{
	char expected[256] = "one of";
	size_t len = strlen(expected);
	const struct entry *e = consume(c, section, key);
	const char *value = e ? e->value : fallback;
	for (int i = 0; words[i]; i++) {
		if (value && strcmp(value, words[i]) == 0) {
			*ret = i;
			return 0;
		}
		if (len < sizeof(expected))
			len += (size_t)snprintf(expected + len, sizeof(expected) - len, " %s",
						words[i]);
	}
	return e ? wrong(c, e, -EINVAL, expected, err) : missing(c, section, key, expected, err);
}

/* ---- leftovers ---- */

/* Levenshtein's distance between two names. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[CONF_NAME_MAX + 1];
	size_t nb = strlen(b);
	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 0; a[i]; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i + 1;
		for (size_t j = 0; j < nb; j++) {
			unsigned swap = diagonal + (a[i] != b[j]);
			diagonal = row[j + 1];
			unsigned gap = MIN_OF(row[j], row[j + 1]) + 1;
			row[j + 1] = MIN_OF(swap, gap);
		}
	}
	return row[nb];
}

static const struct known *nearest(const struct conf *c, const struct entry *e)
{
	const struct known *best = NULL;
	/* Fewer edits than letters: else any short name would do. */
	size_t len = strlen(e->key);
	unsigned best_edits = (unsigned)MIN_OF(len, SUGGEST_MAX + 1);
	for (size_t i = 0; i < c->n_known; i++) {
		const struct known *k = &c->known[i];
		unsigned edits = distance(e->key, k->key);
		/* The right key under another heading is a likely mistake. */
		if (strcmp(e->section, k->section) != 0)
			edits += 1;
		if (edits < best_edits) {
			best_edits = edits;
			best = k;
		}
	}
	return best;
}

int conf_finish(struct conf *c, struct err *err)
{
	for (size_t i = 0; i < c->n_entries; i++) {
		const struct entry *e = &c->entries[i];
		if (e->used)
			continue;
		const struct known *k = nearest(c, e);
		if (k)
			return err_set(
				err, -EINVAL,
				"%s:%u: [%s] %s: found an unknown key, expected perhaps [%s] %s",
				c->path, e->line, e->section, e->key, k->section, k->key);
		return err_set(err, -EINVAL, "%s:%u: [%s] %s: found an unknown key, expected none",
			       c->path, e->line, e->section, e->key);
	}
	return 0;
}

bool conf_at(const struct conf *c, size_t i, const char **ret_section, const char **ret_key,
	     const char **ret_value)
{
	if (i >= c->n_entries)
		return false;
	*ret_section = c->entries[i].section;
	*ret_key = c->entries[i].key;
	*ret_value = c->entries[i].value;
	return true;
}

bool conf_has_section(const struct conf *c, const char *name)
{
	for (size_t i = 0; i < c->n_sections; i++)
		if (strcmp(c->sections[i].name, name) == 0)
			return true;
	return false;
}

int conf_sections(const struct conf *c, const char *const *names, struct err *err)
{
	for (size_t i = 0; i < c->n_sections; i++) {
		const struct section *s = &c->sections[i];
		const char *best = NULL;
		unsigned best_edits = (unsigned)MIN_OF(strlen(s->name), SUGGEST_MAX + 1);
		bool known = false;
		for (size_t k = 0; names[k] && !known; k++) {
			unsigned edits = distance(s->name, names[k]);
			known = edits == 0;
			if (edits < best_edits) {
				best_edits = edits;
				best = names[k];
			}
		}
		if (known)
			continue;
		if (best)
			return err_set(
				err, -EINVAL,
				"%s:%u: [%s]: found an unknown section, expected perhaps [%s]",
				c->path, s->line, s->name, best);
		return err_set(err, -EINVAL, "%s:%u: [%s]: found an unknown section, expected none",
			       c->path, s->line, s->name);
	}
	return 0;
}

int conf_fail(const struct conf *c, const char *section, const char *key, int code, struct err *err,
	      const char *fmt, ...)
{
	char text[ERR_TEXT_MAX], line[16] = "";
	const struct entry *e = find(c, section, key);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (e)
		snprintf(line, sizeof(line), ":%u", e->line);
	return err_set(err, code, "%s%s: [%s] %s: %s", c->path, line, section, key, text);
}
