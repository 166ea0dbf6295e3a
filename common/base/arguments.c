#include "common/base/arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"

static int usage(const struct arguments *a, FILE *f, int status)
{
	fprintf(f,
		"Usage: %s [--check-config] [--verbose] [--version] CONFIG\n"
		"%s\n"
		"  --check-config  check CONFIG and what it names, make nothing, then exit\n"
		"  --verbose       log every step\n"
		"  --version       print the version, then exit\n"
		"  --help          print this, then exit\n"
		"CONFIG: see %s among the examples, which has every key and its default.\n%s",
		a->program, a->about, a->example, a->more);
	return status;
}

int arguments_read(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {
		{"check-config", no_argument, NULL, 'c'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	bool verbose = false;
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			a->check = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'V':
			printf("%s %s\n", a->program, TASUKI_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			return usage(a, stdout, EXIT_SUCCESS);
		default:
			return usage(a, stderr, ARGUMENTS_USAGE);
		}
	}
	if (optind != argc - 1)
		return usage(a, stderr, ARGUMENTS_USAGE);
	a->conf = argv[optind];
	log_init(a->program, verbose ? LOG_P_DEBUG : LOG_P_INFO);
	return -1;
}
