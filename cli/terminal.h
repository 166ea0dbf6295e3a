/* The person's terminal: colours, its size, progress, a screen that is drawn anew; left as it was
 * found, also when Ctrl-C ends the program. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum term_colour { TERM_COLOUR_AUTO, TERM_COLOUR_ALWAYS, TERM_COLOUR_NEVER };

/* What --color said. */
void term_set_colour(enum term_colour c);
/* Standard output is a terminal and NO_COLOR is unset or empty, unless --color says otherwise. */
bool cli_colour(void);

/* What begins text of that kind, ECMA-48's; "" for TERM_PLAIN. TERM_RESET ends it. */
enum term_ink { TERM_PLAIN, TERM_GREEN, TERM_RED, TERM_YELLOW, TERM_DIM };
extern const char *const term_inks[];
#define TERM_RESET "\033[0m"

/* Columns and lines of the terminal that standard output is; 0: it is none. */
int term_width(void);
int term_height(void);

/* Progress on standard error: a bar on a terminal; in a pipe a line once a second has passed, and
 * then one every TERM_LINE_MS. `share` 0..1. */
#define TERM_LINE_MS 5000
void cli_progress(const char *what, double share, const char *detail);
void cli_progress_end(void);
/* "####......" of `width` characters; "" where share is no number or below 0. */
void term_bar(char *out, size_t size, int width, double share);

/* From here on SIGINT and SIGTERM are only remembered: whoever loops asks, and ends in order. */
void term_catch_interrupt(void);
bool term_interrupted(void);

/* A screen of its own, until term_live_end(). */
void term_live_begin(void);
/* The whole picture at once, so that nothing flickers; lines beyond the terminal's height are left
 * out. */
void term_live_draw(const char *text);
void term_live_end(void);
