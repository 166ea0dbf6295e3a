#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/text.h"

#define WORD_MAX    64 /* bytes of what is compared: an id has as many */
#define OPTIONS_MAX 64
#define FILES_MAX   4096 /* of a folder that are compared */

void cli_warn(const char *fmt, ...)
{
	char *line;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	text_blank_controls(line);
	fprintf(stderr, "%s\n", line);
	free(line);
}

int cli_fail(const char *name, const struct err *err)
{
	cli_warn("tasuki %s: %s", name, err->text[0] ? err->text : "failed");
	return CLI_FAIL;
}

int cli_usage(const char *name, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "tasuki %s: ", name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (tasuki %s --help)\n", name);
	return CLI_USAGE;
}

/* What was typed, up to '=': the last one that getopt looked at. */
static void unknown_option(const char *command, const char *typed, const struct option *options)
{
	char word[WORD_MAX + 1];
	const char *names[OPTIONS_MAX];
	size_t n = 0, len = strcspn(typed, "=");
	for (; n < OPTIONS_MAX && options[n].name; n++)
		names[n] = options[n].name;
	snprintf(word, sizeof(word), "%.*s", (int)MIN_OF(len, (size_t)WORD_MAX), typed);
	const char *near = strncmp(word, "--", 2) ? NULL : cli_nearest(word + 2, names, n);
	char text[WORD_MAX + 3];
	snprintf(text, sizeof(text), "--%s", near ? near : "");
	cli_usage(command, "no option '%s'%s", word, cli_did_you_mean(near ? text : NULL));
}

int cli_getopt(int argc, char **argv, const struct option *options)
{
	opterr = 0;
	int c = getopt_long(argc, argv, ":", options, NULL);
	if (c != '?' && c != ':')
		return c;
	const char *name = NULL;
	for (const struct option *o = options; o->name; o++)
		if (optopt && o->val == optopt)
			name = o->name;
	if (c == ':')
		cli_usage(argv[0], "--%s: found nothing, expected a value", name ? name : "?");
	else if (name)
		cli_usage(argv[0], "--%s: found a value, expected none", name);
	else
		unknown_option(argv[0], argv[optind - 1], options);
	return '?';
}

static int share_mode(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	mode_t mask = umask(0);
	umask(mask);
	if (S_ISREG(st->st_mode))
		chmod(path, 0666 & ~mask);
	else if (S_ISDIR(st->st_mode))
		chmod(path, 0777 & ~mask);
	return 0;
}

void cli_share_modes(const char *path)
{
	nftw(path, share_mode, 16, FTW_DEPTH | FTW_PHYS);
}

bool cli_int(const char *name, const char *option, const char *text, int64_t min, int64_t max,
	     int64_t *ret)
{
	char *end;
	errno = 0;
	long long v = strtoll(text, &end, 10);
	if (errno || end == text || *end || v < min || v > max) {
		cli_usage(name, "%s: found '%s', expected a whole number from %lld to %lld", option,
			  text, (long long)min, (long long)max);
		return false;
	}
	*ret = v;
	return true;
}

bool cli_num(const char *name, const char *option, const char *text, double min, double max,
	     double *ret)
{
	char *end;
	double v = strtod(text, &end);
	if (end == text || *end || !(v >= min && v <= max)) {
		cli_usage(name, "%s: found '%s', expected a number from %g to %g", option, text,
			  min, max);
		return false;
	}
	*ret = v;
	return true;
}

/* Optimal string alignment (Levenshtein's distance, and two neighbours exchanged as one edit) of
 * short words, three rows at a time. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), rows[3][WORD_MAX + 1];
	if (la > WORD_MAX || lb > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
			best = MIN_OF(best, MIN_OF(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN_OF(best, before[j - 2] + 1);
			row[j] = best;
		}
	}
	return rows[la % 3][lb];
}

const char *cli_nearest(const char *word, const char *const *words, size_t n)
{
	const char *best = NULL;
	/* Of a short word nearly all would be another one. */
	size_t best_distance = MIN_OF((size_t)3, strlen(word) / 2 + 1);
	for (size_t i = 0; i < n; i++) {
		size_t d = distance(word, words[i]);
		if (d < best_distance) {
			best_distance = d;
			best = words[i];
		}
	}
	return best;
}

const char *cli_did_you_mean(const char *word)
{
	static char text[2 * FILE_PATH_MAX];
	if (!word)
		return "";
	snprintf(text, sizeof(text), "; did you mean '%s'?", word);
	return text;
}

int cli_near_file(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	char dir[FILE_PATH_MAX], near[FILE_PATH_MAX];
	if (file_exists(path) ||
	    file_path(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 2,
		      slash ? path : "./") < 0)
		return err->code;
	DIR *folder = opendir(dir);
	char *names[FILES_MAX];
	size_t n = 0;
	for (struct dirent *e; folder && n < FILES_MAX && (e = readdir(folder));)
		if (e->d_name[0] != '.' && (names[n] = strdup(e->d_name)))
			n++;
	if (folder)
		closedir(folder);
	const char *word = cli_nearest(base, (const char *const *)names, n);
	struct err before = *err;
	if (word && file_path(near, sizeof(near), "%s%s", slash ? dir : "", word) == 0)
		err_set(err, before.code, "%s%s", before.text, cli_did_you_mean(near));
	while (n)
		free(names[--n]);
	return err->code;
}

int cli_is_trainers(const struct conf *c, const char *path, bool *ret, struct err *err)
{
	bool trainer = conf_has_section(c, "trainer"), device = conf_has_section(c, "device");
	if (trainer == device)
		return err_set(err, -EINVAL,
			       "%s: found %s, expected a section [device] or [trainer]", path,
			       trainer ? "both" : "neither");
	*ret = trainer;
	return 0;
}

char *cli_json_text(const struct json *j)
{
	_cleanup_free_ char *text = json_print(j);
	char *safe = text ? malloc(6 * strlen(text) + 1) : NULL, *to = safe;
	for (const char *s = text; safe && *s; s++) {
		size_t n = text_control(s); /* those below a blank are escaped already */
		if (n)
			to += sprintf(to, "\\u%04x", (unsigned char)s[n - 1]);
		else
			*to++ = *s;
		s += n ? n - 1 : 0;
	}
	if (safe)
		*to = 0;
	return safe;
}

int cli_print_json(struct json *j)
{
	_cleanup_free_ char *text = cli_json_text(j);
	json_free(j);
	if (!text || puts(text) < 0 || fflush(stdout) != 0) {
		fprintf(stderr, "tasuki: standard output: %s\n", strerror(text ? errno : ENOMEM));
		return CLI_FAIL;
	}
	return CLI_OK;
}

static int set_path(const char *name, const char *option, const char *value, char *buf, size_t size)
{
	/* A worker may run elsewhere one day: it is given whole paths. */
	_cleanup_free_ char *whole = realpath(value, NULL);
	if (!whole || strlen(whole) >= size) {
		fprintf(stderr, "tasuki %s: %s %s: %s\n", name, option, value,
			whole ? "path too long" : strerror(errno));
		return -CLI_FAIL;
	}
	strcpy(buf, whole);
	return 1;
}

int cli_data_option(const char *name, int option, const char *value, struct worker_conf *w)
{
	int64_t i;
	switch (option) {
	case 'd':
		w->has_data = true;
		return set_path(name, "--data", value, w->data.path, sizeof(w->data.path));
	case 'c':
		return set_path(name, "--classes", value, w->classes, sizeof(w->classes));
	case 'C':
		if (!cli_int(name, "--center-crop", value, 0, DATASET_IMAGE_DIM_MAX, &i))
			return -CLI_USAGE;
		w->data.center_crop = (uint32_t)i;
		return 1;
	case 'v':
		return cli_num(name, "--validation-share", value, 0, 0.9, &w->data.validation_share)
			       ? 1
			       : -CLI_USAGE;
	case 't':
		return cli_num(name, "--test-share", value, 0, 0.9, &w->data.test_share)
			       ? 1
			       : -CLI_USAGE;
	case 'S':
		if (!cli_int(name, "--split-seed", value, 0, JSON_INT_MAX, &i))
			return -CLI_USAGE;
		w->data.seed = (uint64_t)i;
		return 1;
	case 'L':
		if (!cli_int(name, "--limit", value, 0, DATASET_IMAGES_MAX, &i))
			return -CLI_USAGE;
		w->data.limit = (uint32_t)i;
		return 1;
	default:
		return 0;
	}
}

void cli_worker_defaults(struct worker_conf *w)
{
	*w = (struct worker_conf){
		.data = {.validation_share = 0.1, .test_share = 0.2, .seed = 1},
		.fold = 1,
	};
}
