/* The command line that the daemons share: PROGRAM [--check-config] [--verbose] [--version]
 * [--help] CONFIG. */
#pragma once

#include <stdbool.h>

#define ARGUMENTS_USAGE 2 /* exit status of bad usage */

struct arguments {
	/* Set by the caller, all constant text: */
	const char *program;
	const char *about;   /* a line of --help */
	const char *example; /* name of its example configuration */
	const char *more;    /* further lines of --help; "": none */
	/* Set here: */
	const char *conf; /* of argv */
	bool check;
};

/* Reads it and begins the log, at debug level with --verbose. -1: go on; else the status to exit
 * with, as what was asked for, or the usage on standard error, is printed. */
int arguments_read(struct arguments *a, int argc, char **argv);
