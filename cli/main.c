/* tasuki: the tool for people. Each sub-command is a function in a file of its subject. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "common/base/log.h"
#include "common/base/mem.h"

static const struct cli_command commands[] = {
	{"train", "train a network on images", cmd_train},
	{"evaluate", "score a checkpoint on images", cmd_evaluate},
	{"classify", "say what images show", cmd_classify},
	{"blend", "mix two checkpoints", cmd_blend},
	{"inspect", "what a checkpoint is made of, and whether it is well-formed", cmd_inspect},
	{"dataset", "make and look at data sets: digits, share, sheet, count", cmd_dataset},
	{"devices", "the fleet as a table", cmd_devices},
	{"show", "one device in full", cmd_show},
	{"watch", "the fleet, live", cmd_watch},
	{"cmd", "send a command to a device or the fleet", cmd_cmd},
	{"publish", "offer a checkpoint to all devices", cmd_publish},
	{"audit", "check an audit log: verify", cmd_audit},
	{"doctor", "look for what is wrong with a set-up, and say what to do", cmd_doctor},
	{"privacy", "what handovers with noise give away", cmd_privacy},
};

static void help(FILE *f)
{
	fprintf(f, "usage: tasuki COMMAND [OPTION ...]\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(f, "\ntasuki COMMAND --help tells the options. All take --json.\n"
		   "Exit: 0 success, 1 failure (one line on standard error), 2 bad usage.\n");
}

int main(int argc, char **argv)
{
	log_init("tasuki", LOG_P_WARNING);
	if (argc < 2) {
		help(stderr);
		return CLI_USAGE;
	}
	const char *word = argv[1], *names[ARRAY_LEN(commands)];
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		help(stdout);
		return CLI_OK;
	}
	if (!strcmp(word, "--version")) {
		printf("tasuki %s\n", TASUKI_VERSION);
		return CLI_OK;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		names[i] = commands[i].name;
		if (!strcmp(word, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	}
	const char *near = cli_nearest(word, names, ARRAY_LEN(names));
	fprintf(stderr, "tasuki: no command '%s'%s%s%s (tasuki --help)\n", word,
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	return CLI_USAGE;
}
