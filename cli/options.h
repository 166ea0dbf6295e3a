/* What each sub-command takes, as a table. From it come what getopt is told, `--help`, the answer
 * to a typing error, and `tasuki --list-commands`, which completion and man pages are made from. */
#pragma once

#include <stdio.h>

struct cli_option {
	const char *name; /* without dashes; NULL ends a table */
	const char *arg;  /* what it takes, "FILE"; NULL: nothing */
	const char *help; /* one paragraph, wrapped as it is printed */
	int id;           /* what cli_next() returns: 'a' to 'z', or from 256 on */
};

struct cli_spec {
	const char *usage;                /* what follows the command's name, a form a line */
	const char *about;                /* as it is printed, ended by '\n' */
	const struct cli_option *options; /* its own; those that all take come by themselves */
	const char *example;              /* a whole command a line, at least one */
};

struct cli_command {
	const char *name, *summary;
	int (*run)(int argc, char **argv); /* argv[0]: the sub-command's name */
	const struct cli_spec *spec;
};

enum { CLI_OPT_JSON = 1000, CLI_OPT_HELP, CLI_OPT_COLOR, CLI_OPT_NO_COLOR };
#define CLI_END   (-1) /* no further option: argv[optind] is the first argument */
#define CLI_WRONG '?'  /* bad usage, and the message is printed */

#define CLI_JSON                                                                               \
	{                                                                                      \
		"json", NULL, "one JSON object on standard output, for programs", CLI_OPT_JSON \
	}

/* The next option's id (its value is in optarg), CLI_END or CLI_WRONG. optind is 1 at first. Those
 * that all commands take are dealt with here. */
int cli_next(const struct cli_spec *s, int argc, char **argv);

void cli_help(FILE *f, const struct cli_command *c);
/* A line "command NAME SUMMARY", then a line "option NAME --OPTION ARG HELP" for each of its
 * options, with tabs between and ARG empty where there is none. */
void cli_list(FILE *f, const struct cli_command *c);
