/* What the sub-commands of `tasuki` share: options, output, exit codes.
 *
 * Exit codes: 0 success; 1 failure, with one clear line on standard error; 2 bad usage. With --json
 * exactly one JSON object goes to standard output (watch: one a line). */
#pragma once

#include <getopt.h>
#include <stdbool.h>

#include "common/base/err.h"
#include "common/engine/worker.h"
#include "common/json/json.h"

#define CLI_OK	  0
#define CLI_FAIL  1
#define CLI_USAGE 2

struct cli_command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv); /* argv[0]: the sub-command's name */
};

int cmd_train(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_classify(int argc, char **argv);
int cmd_blend(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_dataset(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_cmd(int argc, char **argv);
int cmd_publish(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_privacy(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* "tasuki NAME: text" on standard error; return CLI_FAIL and CLI_USAGE. */
/* A line on standard error; what others made may be in it. */
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_fail(const char *name, const struct err *err);
int cli_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* getopt_long() whose messages begin like ours. */
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

/* The nearest of the words within two edits, NULL: none; for "did you mean". */
const char *cli_nearest(const char *word, const char *const *words, size_t n);

/* Prints the object and a newline on standard output; frees it. */
int cli_print_json(struct json *j);

/* Progress on standard error: a bar on a terminal, nothing in a pipe. */
void cli_progress(const char *what, double share, const char *detail);
void cli_progress_end(void);
bool cli_colour(void); /* standard output is a terminal and NO_COLOR is unset */

/* Options that commands with data share; see cli_data_option(). */
#define CLI_DATA_OPTIONS                                                                          \
	{"data", required_argument, NULL, 'd'}, {"classes", required_argument, NULL, 'c'},        \
		{"center-crop", required_argument, NULL, 'C'},                                    \
		{"validation-share", required_argument, NULL, 'v'},                               \
		{"test-share", required_argument, NULL, 't'},                                     \
		{"split-seed", required_argument, NULL, 'S'}, {"limit", required_argument, NULL, 'L'}
#define CLI_DATA_HELP                                                                             \
	"  --data DIR            four IDX files, or one folder of images per class\n"             \
	"  --classes FILE        class list in the order of outputs (default: sorted names)\n"    \
	"  --center-crop PX      square around the middle of each image (default: all of it)\n"   \
	"  --test-share X        share of the images split off as test (0.2; own test files win)\n" \
	"  --validation-share X  likewise for validation (0.1)\n"                                 \
	"  --split-seed N        seed of the split (1)\n"                                         \
	"  --limit N             at most so many images\n"
/* Handles one of CLI_DATA_OPTIONS; 1: done, 0: not one of them; else -CLI_USAGE or -CLI_FAIL (a file
 * that is not there), message printed. */
int cli_data_option(const char *name, int option, const char *value, struct worker_conf *w);
void cli_worker_defaults(struct worker_conf *w);
