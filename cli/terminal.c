#include "cli/terminal.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/mem.h"

const char *const term_inks[] = {"", "\033[32m", "\033[31m", "\033[33m", "\033[2m"};

#define BAR_WIDTH  30
#define FIRST_MS   1000 /* of work, before anything is said in a pipe */
#define CLEAR_LINE "\r\033[K"
/* Alternate screen, no cursor, long lines cut. */
#define LIVE_BEGIN "\033[?1049h\033[?25l\033[?7l"
#define LIVE_END   "\033[?7h\033[?25h\033[?1049l"

static enum term_colour colour;
static volatile sig_atomic_t interrupted, bar_shown;
static int64_t began_ms = -1, line_ms;

void term_set_colour(enum term_colour c)
{
	colour = c;
}

bool cli_colour(void)
{
	const char *no = getenv("NO_COLOR");
	if (colour != TERM_COLOUR_AUTO)
		return colour == TERM_COLOUR_ALWAYS;
	return isatty(STDOUT_FILENO) && !(no && *no);
}

static struct winsize size(int fd)
{
	struct winsize w = {0};
	if (!isatty(fd) || ioctl(fd, TIOCGWINSZ, &w) < 0)
		return (struct winsize){0};
	/* One that does not say: the size that every terminal has. */
	if (!w.ws_col)
		w.ws_col = 80;
	if (!w.ws_row)
		w.ws_row = 24;
	return w;
}

int term_width(void)
{
	return size(STDOUT_FILENO).ws_col;
}

int term_height(void)
{
	return size(STDOUT_FILENO).ws_row;
}

void term_bar(char *out, size_t room, int width, double share)
{
	if (room < (size_t)width + 1 || !(share >= 0)) {
		if (room)
			*out = 0;
		return;
	}
	int full = (int)lround(fmin(share, 1) * width);
	for (int i = 0; i < width; i++)
		out[i] = i < full ? '#' : '.';
	out[width] = 0;
}

/* A half-drawn bar is wiped, then the signal does what it does. */
static void on_end_in_progress(int signo)
{
	if (bar_shown)
		file_write_all(STDERR_FILENO, CLEAR_LINE, sizeof(CLEAR_LINE) - 1);
	raise(signo); /* SA_RESETHAND: the default now */
}

static void progress_begins(void)
{
	began_ms = clock_mono_ms();
	line_ms = began_ms - TERM_LINE_MS + FIRST_MS;
	struct sigaction sa = {.sa_handler = on_end_in_progress, .sa_flags = (int)SA_RESETHAND};
	if (isatty(STDERR_FILENO)) {
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
	}
}

void cli_progress(const char *what, double share, const char *detail)
{
	char bar[BAR_WIDTH + 1];
	if (began_ms < 0)
		progress_begins();
	if (isatty(STDERR_FILENO)) {
		term_bar(bar, sizeof(bar), BAR_WIDTH, fmax(share, 0));
		/* A line that breaks could not be wiped. */
		char line[256];
		snprintf(line, sizeof(line), "%s [%s] %3.0f %% %s", what, bar, share * 100, detail);
		bar_shown = 1; /* before it is: who sees it may press Ctrl-C at once */
		fprintf(stderr, CLEAR_LINE "%.*s", size(STDERR_FILENO).ws_col - 1, line);
	} else if (clock_mono_ms() - line_ms >= TERM_LINE_MS) {
		line_ms = clock_mono_ms();
		fprintf(stderr, "%s %.0f %% %s\n", what, share * 100, detail);
	}
}

void cli_progress_end(void)
{
	if (bar_shown)
		fputs(CLEAR_LINE, stderr);
	bar_shown = 0;
	began_ms = -1;
}

static void on_interrupt(int signo)
{
	interrupted = 1;
}

void term_catch_interrupt(void)
{
	struct sigaction sa = {.sa_handler = on_interrupt};
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool term_interrupted(void)
{
	return interrupted;
}

static void say(const char *text)
{
	file_write_all(STDOUT_FILENO, text, strlen(text));
}

void term_live_begin(void)
{
	fflush(stdout);
	say(LIVE_BEGIN);
}

void term_live_draw(const char *text)
{
	_cleanup_free_ char *out = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);
	if (!f)
		return;
	fputs("\033[H", f);
	for (int left = term_height(); left > 0 && *text; left--) {
		size_t n = strcspn(text, "\n");
		/* The last line ends without a newline: the screen would scroll. */
		fprintf(f, "%.*s\033[K%s", (int)n, text, left > 1 ? "\n" : "");
		text += n + (text[n] == '\n');
	}
	fputs("\033[J", f);
	if (fclose(f) == 0)
		say(out);
}

void term_live_end(void)
{
	say(LIVE_END);
}
