/* What the sub-commands of `tasuki` share: options, output, exit codes.
 *
 * Exit codes: 0 success; 1 failure, with one clear line on standard error; 2 bad usage. With --json
 * exactly one JSON object goes to standard output (one a line of what goes on: watch, logs). */
#pragma once

#include <getopt.h>
#include <stdbool.h>

#include "cli/options.h"
#include "cli/terminal.h"
#include "common/base/err.h"
#include "common/conf/conf.h"
#include "common/engine/worker.h"
#include "common/json/json.h"

#define CLI_OK	  0
#define CLI_FAIL  1
#define CLI_USAGE 2

/* Each sub-command, in the file of its subject. */
#define CLI_COMMANDS(each)                                                                         \
	each(train) each(evaluate) each(classify) each(blend) each(inspect) each(dataset)          \
	each(devices) each(show) each(watch) each(history) each(cmd) each(publish) each(rollout)   \
	each(logs) each(export) each(audit) each(doctor) each(privacy)
#define CLI_DECLARE(name)                                                                          \
	int cmd_##name(int argc, char **argv);                                                     \
	extern const struct cli_spec spec_##name;
CLI_COMMANDS(CLI_DECLARE)

/* A line on standard error; what others made may be in it. */
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "tasuki NAME: text" on standard error; return CLI_FAIL and CLI_USAGE. */
int cli_fail(const char *name, const struct err *err);
int cli_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* getopt_long() whose messages begin like ours, and name what was perhaps meant. */
int cli_getopt(int argc, char **argv, const struct option *options);

/* What a person asked for is theirs to share: gives the file, or the folder with all that is in it, the
 * modes that the umask leaves, in place of those that the daemons' private files have. Failures do no
 * harm and are not told. */
void cli_share_modes(const char *path);

/* Number options. False (after a message naming the option) when it is no number in range. */
bool cli_int(const char *name, const char *option, const char *text, int64_t min, int64_t max,
	     int64_t *ret);
bool cli_num(const char *name, const char *option, const char *text, double min, double max,
	     double *ret);

/* The nearest of the words within two edits, NULL: none; for "did you mean". Two neighbours that changed places are one edit. */
const char *cli_nearest(const char *word, const char *const *words, size_t n);
/* The text "; did you mean 'WORD'?", or "" for NULL; valid until the next call. */
const char *cli_did_you_mean(const char *word);
/* Where there is no file `path`: adds to the error what its folder has that is called nearly so. Returns
 * err->code. */
int cli_near_file(const char *path, struct err *err);
/* Whose configuration it is, by its sections: a trainer's, or a device's. -EINVAL: both, or neither. */
int cli_is_trainers(const struct conf *c, const char *path, bool *ret, struct err *err);

/* The object on one line, with escapes for all that could speak to a terminal; NULL: out of memory. */
char *cli_json_text(const struct json *j);
/* Prints it and a newline on standard output; frees it. */
int cli_print_json(struct json *j);

/* Options that commands with data share; see cli_data_option(). */
#define CLI_DATA_OPTIONS                                                                           \
	{"data", "DIR", "four IDX files, or one folder of images per class", 'd'},                 \
		{"classes", "FILE", "class list in the order of outputs (default: sorted names)", 'c'}, \
		{"center-crop", "PX", "square around the middle of each image (default: all of it)", 'C'}, \
		{"test-share", "X", "share of the images split off as test (0.2; own test files win)", 't'}, \
		{"validation-share", "X", "likewise for validation (0.1)", 'v'},                   \
		{"split-seed", "N", "seed of the split (1)", 'S'},                                 \
		{"limit", "N", "at most so many images", 'L'}
/* Handles one of CLI_DATA_OPTIONS; 1: done, 0: not one of them; else -CLI_USAGE or -CLI_FAIL (a file
 * that is not there), message printed. */
int cli_data_option(const char *name, int option, const char *value, struct worker_conf *w);
void cli_worker_defaults(struct worker_conf *w);
