/* tasuki: the tool for people. Each sub-command is a function in a file of its subject. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "common/base/log.h"
#include "common/base/mem.h"

static const struct cli_command commands[] = {
	{"train", "train a network on images", cmd_train, &spec_train},
	{"evaluate", "score a checkpoint on images", cmd_evaluate, &spec_evaluate},
	{"classify", "say what images show", cmd_classify, &spec_classify},
	{"blend", "mix two checkpoints", cmd_blend, &spec_blend},
	{"inspect", "what a checkpoint is made of, and whether it is well-formed", cmd_inspect,
	 &spec_inspect},
	{"dataset", "make and look at data sets: digits, share, sheet, count", cmd_dataset,
	 &spec_dataset},
	{"devices", "the fleet as a table", cmd_devices, &spec_devices},
	{"show", "one device in full", cmd_show, &spec_show},
	{"watch", "the fleet, live", cmd_watch, &spec_watch},
	{"history", "a device's accuracy by checkpoint and origin", cmd_history, &spec_history},
	{"cmd", "send a command to a device or the fleet", cmd_cmd, &spec_cmd},
	{"publish", "offer a checkpoint to all devices", cmd_publish, &spec_publish},
	{"rollout", "how far a checkpoint for everyone is; halt it, or go on", cmd_rollout,
	 &spec_rollout},
	{"logs", "what devices and trainers say, as it happens", cmd_logs, &spec_logs},
	{"export", "a checkpoint with all that stock darknet needs", cmd_export, &spec_export},
	{"audit", "check an audit log, or read it", cmd_audit, &spec_audit},
	{"doctor", "look for what is wrong with a set-up, and say what to do", cmd_doctor, &spec_doctor},
	{"privacy", "what handovers with noise give away", cmd_privacy, &spec_privacy},
};

static void help(FILE *f)
{
	fprintf(f, "usage: tasuki COMMAND [OPTION ...]\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(f, "\ntasuki COMMAND --help tells the options, with an example. All take --json.\n"
		   "tasuki --version tells the version, tasuki --list-commands all commands and options.\n"
		   "Exit: 0 success, 1 failure (one line on standard error), 2 bad usage.\n");
}

static bool asks_for_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static int run(const struct cli_command *c, int argc, char **argv)
{
	if (c->spec && asks_for_help(argc, argv)) {
		cli_help(stdout, c);
		return fflush(stdout) == 0 ? CLI_OK : CLI_FAIL;
	}
	return c->run(argc, argv);
}

static int run_by_name(const char *word, int argc, char **argv)
{
	const char *names[ARRAY_LEN(commands)];
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		names[i] = commands[i].name;
		if (!strcmp(word, commands[i].name))
			return run(&commands[i], argc, argv);
	}
	fprintf(stderr, "tasuki: no command '%s'%s (tasuki --help)\n", word,
		cli_did_you_mean(cli_nearest(word, names, ARRAY_LEN(names))));
	return CLI_USAGE;
}

static int list(void)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		cli_list(stdout, &commands[i]);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAIL;
}

int main(int argc, char **argv)
{
	log_init("tasuki", LOG_P_WARNING);
	if (argc < 2) {
		help(stderr);
		return CLI_USAGE;
	}
	const char *word = argv[1];
	if (!strcmp(word, "help") && argc > 2)
		return run_by_name(argv[2], 2, (char *[]){argv[2], "--help", NULL});
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		help(stdout);
		return CLI_OK;
	}
	if (!strcmp(word, "--version")) {
		printf("tasuki %s\n", TASUKI_VERSION);
		return CLI_OK;
	}
	if (!strcmp(word, "--list-commands"))
		return list();
	return run_by_name(word, argc - 1, argv + 1);
}
