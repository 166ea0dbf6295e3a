#include "cli/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"

#define DAY         86400
#define GUTTER      7 /* characters of "100 % |" */
#define WIDTH_MIN   40
#define HEIGHT_MIN  4
#define LABEL_APART 12 /* characters between two times, at least */

char chart_letter(enum origin o)
{
	return origin_name(o)[0];
}

static double nice_step(double span)
{
	static const double steps[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2};
	for (size_t i = 0; i < ARRAY_LEN(steps); i++)
		if (span / steps[i] <= CHART_TICKS_MAX)
			return steps[i];
	return 0.25;
}

static int64_t nice_tick(int64_t span)
{
	static const int64_t ticks[] = {1,   2,   5,    10,   15,   30,    60,    120,  300,
					600, 900, 1800, 3600, 7200, 10800, 21600, 43200};
	for (size_t i = 0; i < ARRAY_LEN(ticks); i++)
		if (span / ticks[i] <= CHART_TICKS_MAX)
			return ticks[i];
	int64_t days = (span / DAY + CHART_TICKS_MAX) / CHART_TICKS_MAX;
	return MAX_OF(days, (int64_t)1) * DAY;
}

struct chart_scale chart_scale(const struct msg_history *h)
{
	struct chart_scale s = {
		.low = 1, .high = 0, .from = h->points[0].at_s, .to = h->points[0].at_s};
	for (size_t i = 0; i < h->n_points; i++) {
		double a = chart_accuracy(&h->points[i]);
		s.low = fmin(s.low, a);
		s.high = fmax(s.high, a);
		/* A clock that was set back may have them out of order. */
		s.from = MIN_OF(s.from, h->points[i].at_s);
		s.to = MAX_OF(s.to, h->points[i].at_s);
	}
	s.to = MAX_OF(s.to, s.from + 1);
	s.step = nice_step(fmax(s.high - s.low, 0.01));
	/* The small sum: 0.95 / 0.05 is a bit less than 19. */
	s.low = fmax(floor(s.low / s.step + 1e-9) * s.step, 0);
	s.high = fmin(ceil(s.high / s.step - 1e-9) * s.step, 1);
	if (s.high - s.low < s.step / 2) {
		s.low = fmax(s.low - s.step, 0);
		s.high = fmin(s.high + s.step, 1);
	}
	s.tick = nice_tick(s.to - s.from);
	return s;
}

void chart_label(char buf[CHART_LABEL_MAX], int64_t at_s, int64_t tick)
{
	time_t at = (time_t)at_s;
	struct tm tm;
	const char *form = tick >= DAY ? "%m-%d" : tick >= 60 ? "%H:%M" : "%H:%M:%S";
	if (!gmtime_r(&at, &tm) || !strftime(buf, CHART_LABEL_MAX, form, &tm))
		strcpy(buf, "?");
}

struct canvas {
	int width, height;
	char *at; /* height rows of width characters */
};

static int column(const struct canvas *c, const struct chart_scale *s, int64_t at_s)
{
	return (int)lround((double)(at_s - s->from) / (double)(s->to - s->from) * (c->width - 1));
}

static int row(const struct canvas *c, const struct chart_scale *s, double accuracy)
{
	return (int)lround((s->high - accuracy) / (s->high - s->low) * (c->height - 1));
}

/* What was in use, from one swap to the next. */
static void draw_active(struct canvas *c, const struct chart_scale *s, const struct msg_history *h)
{
	const struct history_point *now = NULL;
	for (size_t i = 0; i <= h->n_points; i++) {
		const struct history_point *p = i < h->n_points ? &h->points[i] : NULL;
		if (p && !p->swap)
			continue;
		int end = p ? column(c, s, p->at_s) : c->width;
		for (int x = now ? column(c, s, now->at_s) : end; x < end; x++)
			c->at[row(c, s, chart_accuracy(now)) * c->width + x] = '-';
		now = p;
	}
}

static void draw_points(struct canvas *c, const struct chart_scale *s, const struct msg_history *h,
			bool swaps)
{
	for (size_t i = 0; i < h->n_points; i++) {
		const struct history_point *p = &h->points[i];
		char letter = chart_letter(p->origin);
		if (p->swap == swaps)
			c->at[row(c, s, chart_accuracy(p)) * c->width + column(c, s, p->at_s)] =
				(char)(swaps ? letter - 32 : letter);
	}
}

/* A letter in its origin's colour. */
static void print_char(FILE *f, char c, bool colour)
{
	static const char *const codes[ORIGIN_N] = {"34", "31", "32", "35", "33"};
	for (int o = 0; colour && o < ORIGIN_N; o++)
		if (c != ' ' && (c | 32) == chart_letter((enum origin)o)) {
			fprintf(f, "\033[%s%sm%c\033[0m", c & 32 ? "" : "1;", codes[o], c);
			return;
		}
	fputc(c, f);
}

static void print_rows(FILE *f, const struct canvas *c, const struct chart_scale *s, bool colour)
{
	for (int y = 0; y < c->height; y++) {
		int end = c->width;
		double here = s->high - (s->high - s->low) * y / (c->height - 1);
		double mark = round(here / s->step) * s->step;
		while (end && c->at[y * c->width + end - 1] == ' ')
			end--;
		if (row(c, s, mark) == y)
			fprintf(f, s->step < 0.01 ? "%5.1f |" : "%3.0f %% |", 100 * mark);
		else
			fprintf(f, "%*s|", GUTTER - 1, "");
		for (int x = 0; x < end; x++)
			print_char(f, c->at[y * c->width + x], colour);
		fputc('\n', f);
	}
}

static void print_times(FILE *f, const struct canvas *c, const struct chart_scale *s)
{
	_cleanup_free_ char *line = calloc(1, (size_t)c->width + CHART_LABEL_MAX + 1);
	char label[CHART_LABEL_MAX];
	int free_from = 0;
	if (!line)
		return;
	memset(line, ' ', (size_t)c->width);
	for (int64_t t = (s->from + s->tick - 1) / s->tick * s->tick; t <= s->to; t += s->tick) {
		int x = column(c, s, t);
		chart_label(label, t, s->tick);
		if (x < free_from || x + (int)strlen(label) > c->width)
			continue;
		memcpy(line + x, label, strlen(label));
		free_from = x + LABEL_APART;
	}
	for (size_t n = strlen(line); n && line[n - 1] == ' ';)
		line[--n] = 0;
	fprintf(f, "%*s+", GUTTER - 1, "");
	for (int x = 0; x < c->width; x++)
		fputc('-', f);
	fprintf(f, "\n%*s%s\n", GUTTER, "", line);
}

char *chart_text(const struct msg_history *h, int width, int height, bool colour)
{
	struct canvas c = {.width = MAX_OF(width, WIDTH_MIN) - GUTTER,
			   .height = MAX_OF(height, HEIGHT_MIN)};
	struct chart_scale s = chart_scale(h);
	_cleanup_free_ char *cells = c.at = malloc((size_t)c.width * (size_t)c.height);
	char *text = NULL;
	size_t len;
	FILE *f = cells ? open_memstream(&text, &len) : NULL;
	if (!f)
		return NULL;
	memset(c.at, ' ', (size_t)c.width * (size_t)c.height);
	draw_active(&c, &s, h);
	draw_points(&c, &s, h, false);
	draw_points(&c, &s, h, true);
	print_rows(f, &c, &s, colour);
	print_times(f, &c, &s);
	return fclose(f) == 0 ? text : NULL;
}
