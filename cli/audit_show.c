#include "cli/audit_show.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/base/text.h"

#define SHORT_HASH 12

struct show {
	const struct audit_view *view;
	char **ring; /* of view->last lines */
	size_t n;
};

static bool is_hash_of(const char *key)
{
	return !strcmp(key, "checkpoint") || !strcmp(key, "parent") || !strcmp(key, "head") ||
	       !strcmp(key, "message");
}

/* "key=value", hashes shortened; seq, at and event are the line's beginning, and prev is the
 * chain's. */
static void print_member(FILE *f, const struct json *e)
{
	static const char *const said[] = {"seq", "at", "event", "prev"};
	const char *key = json_name(e), *text = json_str(e);
	int64_t number;
	for (size_t i = 0; i < ARRAY_LEN(said); i++)
		if (!strcmp(key, said[i]))
			return;
	if (text && is_hash_of(key))
		fprintf(f, " %s=%.*s", key, SHORT_HASH, text);
	else if (text)
		fprintf(f, strchr(text, ' ') ? " %s=\"%s\"" : " %s=%s", key, text);
	else if (json_int(e, -JSON_INT_MAX, JSON_INT_MAX, &number) == 0)
		fprintf(f, " %s=%lld", key, (long long)number);
}

static char *for_people(const struct audit_head *is, const struct json *line)
{
	char at[40] = "", event[33] = "", *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	json_get_str(line, "at", at, sizeof(at), NULL);
	json_get_str(line, "event", event, sizeof(event), NULL);
	fprintf(f, "%s %6lld %-11s", at, (long long)is->seq, event);
	for (const struct json *e = json_first(line); e; e = json_next(e))
		print_member(f, e);
	if (fclose(f) != 0)
		return NULL;
	text_blank_controls(text);
	return text;
}

static bool has(const struct json *line, const char *key, const char *expected)
{
	const char *text = NULL;
	return !expected || (json_get_text(line, key, AUDIT_LINE_MAX, &text, NULL) == 0 &&
			     !strcmp(text, expected));
}

static int show_line(void *user, const struct audit_head *is, const struct json *line,
		     struct err *err)
{
	struct show *s = user;
	const struct audit_view *v = s->view;
	if (!has(line, "event", v->event) || !has(line, "peer", v->peer))
		return 0;
	char *text = v->json ? json_print(line) : for_people(is, line);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	if (v->last) {
		char **at = &s->ring[s->n++ % v->last];
		free(*at);
		*at = text;
	} else {
		puts(text);
		free(text);
	}
	return 0;
}

int audit_check_path(const char *path, struct audit_chain *c, audit_each *each, void *user,
		     struct err *err)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	return S_ISDIR(st.st_mode) ? audit_check_folder(path, c, each, user, err)
				   : audit_check(path, c, each, user, err);
}

int audit_show(char *const *paths, int n, const struct audit_view *v, struct err *err)
{
	struct show s = {.view = v};
	struct audit_chain c = {0};
	int r = 0;
	if (v->last && !(s.ring = calloc(v->last, sizeof(*s.ring))))
		return err_set(err, -ENOMEM, "out of memory");
	for (int i = 0; i < n && r == 0; i++)
		r = audit_check_path(paths[i], &c, show_line, &s, err);
	for (size_t i = s.n > v->last ? s.n - v->last : 0; v->last && i < s.n; i++)
		puts(s.ring[i % v->last]);
	for (size_t i = 0; i < v->last; i++)
		free(s.ring[i]);
	free(s.ring);
	return r < 0 ? r : fflush(stdout) == 0 ? 0 : err_errno(err, -errno, "standard output");
}
