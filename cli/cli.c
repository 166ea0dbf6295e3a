#include "cli/cli.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/text.h"

#define WORD_MAX 32

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

int cli_getopt(int argc, char **argv, const struct option *options)
{
	char *name = argv[0], whole[WORD_MAX + sizeof("tasuki ")];
	snprintf(whole, sizeof(whole), "tasuki %.*s", WORD_MAX, name);
	argv[0] = whole;
	int c = getopt_long(argc, argv, "", options, NULL);
	argv[0] = name;
	return c;
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
		cli_usage(name, "%s: found '%s', expected a number from %g to %g", option, text, min,
			  max);
		return false;
	}
	*ret = v;
	return true;
}

/* Levenshtein distance of short words, one row at a time. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), row[WORD_MAX + 1];
	if (la > WORD_MAX || lb > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			best = MIN_OF(best, MIN_OF(row[j], row[j - 1]) + 1);
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[lb];
}

const char *cli_nearest(const char *word, const char *const *words, size_t n)
{
	const char *best = NULL;
	size_t best_distance = 3;
	for (size_t i = 0; i < n; i++) {
		size_t d = distance(word, words[i]);
		if (d < best_distance) {
			best_distance = d;
			best = words[i];
		}
	}
	return best;
}

int cli_print_json(struct json *j)
{
	_cleanup_free_ char *text = json_print(j);
	json_free(j);
	if (!text || puts(text) < 0 || fflush(stdout) != 0) {
		fprintf(stderr, "tasuki: standard output: %s\n", strerror(text ? errno : ENOMEM));
		return CLI_FAIL;
	}
	return CLI_OK;
}

bool cli_colour(void)
{
	const char *no = getenv("NO_COLOR");
	return isatty(STDOUT_FILENO) && !(no && *no);
}

void cli_progress(const char *what, double share, const char *detail)
{
	if (!isatty(STDERR_FILENO))
		return;
	const int width = 30;
	int full = (int)lround(fmin(fmax(share, 0), 1) * width);
	fprintf(stderr, "\r\033[K%s [", what);
	for (int i = 0; i < width; i++)
		fputc(i < full ? '#' : '.', stderr);
	fprintf(stderr, "] %3.0f %% %s", share * 100, detail);
}

void cli_progress_end(void)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
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
		return cli_num(name, "--test-share", value, 0, 0.9, &w->data.test_share) ? 1
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
