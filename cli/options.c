#include "cli/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/terminal.h"
#include "common/base/mem.h"

#define HELP_COLUMN 24 /* where the text of an option begins */
#define HELP_WIDTH  96
#define OPTIONS_MAX 64

static const struct cli_option common[] = {
	{"color", "WHEN", "auto, always or never; auto: on a terminal, unless NO_COLOR is set",
	 CLI_OPT_COLOR},
	{"no-color", NULL, "the same as --color never", CLI_OPT_NO_COLOR},
	{"help", NULL, "this text", CLI_OPT_HELP},
	{0},
};

static size_t add(const struct cli_option *from, struct option *to, size_t n)
{
	for (; from->name && n < OPTIONS_MAX; from++)
		to[n++] = (struct option){from->name, from->arg ? required_argument : no_argument,
					  NULL, from->id};
	return n;
}

static bool set_colour(const char *command, const char *when)
{
	static const char *const words[] = {"auto", "always", "never"};
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(when, words[i])) {
			term_set_colour((enum term_colour)i);
			return true;
		}
	cli_usage(command, "--color: found '%s', expected auto, always or never", when);
	return false;
}

int cli_next(const struct cli_spec *s, int argc, char **argv)
{
	struct option all[OPTIONS_MAX + 1] = {0};
	add(common, all, add(s->options, all, 0));
	for (;;) {
		int c = cli_getopt(argc, argv, all);
		if (c == CLI_OPT_NO_COLOR)
			term_set_colour(TERM_COLOUR_NEVER);
		else if (c != CLI_OPT_COLOR)
			return c;
		else if (!set_colour(argv[0], optarg))
			return CLI_WRONG;
	}
}

/* `text` from column HELP_COLUMN on, broken between words. */
static void wrap(FILE *f, const char *text)
{
	size_t column = HELP_COLUMN;
	while (*text) {
		size_t n = strcspn(text, " ");
		if (column > HELP_COLUMN && column + 1 + n > HELP_WIDTH) {
			fprintf(f, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		}
		if (column > HELP_COLUMN) {
			fputc(' ', f);
			column++;
		}
		fprintf(f, "%.*s", (int)n, text);
		column += n;
		text += n + (text[n] == ' ');
	}
	fputc('\n', f);
}

static void help_options(FILE *f, const struct cli_option *o)
{
	for (; o->name; o++) {
		int n = fprintf(f, "  --%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		if (n + 1 > HELP_COLUMN)
			fprintf(f, "\n%*s", HELP_COLUMN, "");
		else
			fprintf(f, "%*s", HELP_COLUMN - n, "");
		wrap(f, o->help);
	}
}

/* Each line of `lines`, after `first`, then `next`, and the command's name where there is one. */
static void each_line(FILE *f, const char *lines, const char *first, const char *next,
		      const char *name)
{
	const char *lead = first;
	while (*lines) {
		size_t n = strcspn(lines, "\n");
		fprintf(f, "%s%s%s%.*s\n", lead, name, *name && n ? " " : "", (int)n, lines);
		lines += n + (lines[n] == '\n');
		lead = next;
	}
}

void cli_help(FILE *f, const struct cli_command *c)
{
	const struct cli_spec *s = c->spec;
	each_line(f, s->usage, "usage: tasuki ", "       tasuki ", c->name);
	fprintf(f, "\n%s\noptions:\n", s->about);
	help_options(f, s->options);
	help_options(f, common);
	fprintf(f, "\nexample:\n");
	each_line(f, s->example, "  ", "  ", "");
}

static void list_options(FILE *f, const char *command, const struct cli_option *o)
{
	for (; o->name; o++)
		fprintf(f, "option\t%s\t--%s\t%s\t%s\n", command, o->name, o->arg ? o->arg : "",
			o->help);
}

void cli_list(FILE *f, const struct cli_command *c)
{
	fprintf(f, "command\t%s\t%s\n", c->name, c->summary);
	if (!c->spec)
		return;
	list_options(f, c->name, c->spec->options);
	list_options(f, c->name, common);
}
