/* The chart as PNG or SVG. Colours are those of Okabe and Ito (2008), which people who see colours
 * otherwise tell apart, too; each origin has a shape of its own besides. */
#include <cairo-svg.h>
#include <cairo.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/chart.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define WIDTH  1200
#define HEIGHT 640
#define LEFT   92
#define RIGHT  40
#define TOP    96
#define BOTTOM 76
#define RADIUS 5.5
#define FONT   "sans-serif"
#define INK    0x222222
#define GRID   0xdddddd
#define PALE   0x666666

struct look {
	uint32_t rgb;
	int corners; /* 0: a circle */
	double turn; /* of the first corner, in quarters of a circle */
};

static const struct look looks[ORIGIN_N] = {
	[ORIGIN_LOCAL] = {0x0072b2, 0, 0},  [ORIGIN_EDGE] = {0xd55e00, 4, 0.5},
	[ORIGIN_BLEND] = {0x009e73, 3, -1}, [ORIGIN_TUNED] = {0xcc79a7, 4, 0},
	[ORIGIN_FLEET] = {0xe69f00, 3, 1},
};

struct drawing {
	cairo_t *c;
	const struct msg_history *h;
	struct chart_scale s;
};

static void colour(cairo_t *c, uint32_t rgb)
{
	cairo_set_source_rgb(c, (rgb >> 16 & 255) / 255.0, (rgb >> 8 & 255) / 255.0,
			     (rgb & 255) / 255.0);
}

static double x_of(const struct drawing *d, int64_t at_s)
{
	return LEFT +
	       (double)(at_s - d->s.from) / (double)(d->s.to - d->s.from) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct drawing *d, double accuracy)
{
	return TOP + (d->s.high - accuracy) / (d->s.high - d->s.low) * (HEIGHT - TOP - BOTTOM);
}

/* `align` 0: begins at x, 0.5: is around it, 1: ends there. */
static double text(cairo_t *c, double x, double y, double align, double size, bool bold,
		   const char *s)
{
	cairo_text_extents_t e;
	cairo_select_font_face(c, FONT, CAIRO_FONT_SLANT_NORMAL,
			       bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
	cairo_set_font_size(c, size);
	cairo_text_extents(c, s, &e);
	cairo_move_to(c, x - align * e.x_advance, y);
	cairo_show_text(c, s);
	return e.x_advance;
}

static void line(cairo_t *c, double x0, double y0, double x1, double y1, double width)
{
	cairo_set_line_width(c, width);
	cairo_move_to(c, x0, y0);
	cairo_line_to(c, x1, y1);
	cairo_stroke(c);
}

static void marker(cairo_t *c, double x, double y, enum origin o, bool swap)
{
	const struct look *k = &looks[o];
	double r = swap ? 1.5 * RADIUS : RADIUS;
	cairo_new_path(c);
	if (!k->corners)
		cairo_arc(c, x, y, r, 0, 2 * M_PI);
	for (int i = 0; i < k->corners; i++) {
		double a = (k->turn / 4 + (double)i / k->corners) * 2 * M_PI;
		cairo_line_to(c, x + 1.25 * r * cos(a), y + 1.25 * r * sin(a));
	}
	cairo_close_path(c);
	colour(c, k->rgb);
	cairo_fill_preserve(c);
	colour(c, swap ? INK : 0xffffff);
	cairo_set_line_width(c, swap ? 2 : 1);
	cairo_stroke(c);
}

static void axes(const struct drawing *d)
{
	cairo_t *c = d->c;
	char label[CHART_LABEL_MAX];
	for (double a = d->s.low; a < d->s.high + d->s.step / 2; a += d->s.step) {
		double y = y_of(d, a);
		colour(c, GRID);
		line(c, LEFT, y, WIDTH - RIGHT, y, 1);
		colour(c, INK);
		snprintf(label, sizeof(label), d->s.step < 0.01 ? "%.1f %%" : "%.0f %%", 100 * a);
		text(c, LEFT - 10, y + 5, 1, 15, false, label);
	}
	for (int64_t t = (d->s.from + d->s.tick - 1) / d->s.tick * d->s.tick; t <= d->s.to;
	     t += d->s.tick) {
		double x = x_of(d, t);
		colour(c, GRID);
		line(c, x, TOP, x, HEIGHT - BOTTOM, 1);
		colour(c, INK);
		line(c, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5, 1);
		chart_label(label, t, d->s.tick);
		text(c, x, HEIGHT - BOTTOM + 22, 0.5, 15, false, label);
	}
	colour(c, INK);
	line(c, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, 1.5);
	line(c, LEFT, TOP, LEFT, HEIGHT - BOTTOM, 1.5);
}

static void axis_names(const struct drawing *d)
{
	cairo_t *c = d->c;
	char from[CHART_LABEL_MAX], name[CHART_LABEL_MAX + 32];
	time_t at = (time_t)d->s.from;
	struct tm tm;
	if (!gmtime_r(&at, &tm) || !strftime(from, sizeof(from), "%Y-%m-%d", &tm))
		strcpy(from, "?");
	snprintf(name, sizeof(name), "time (UTC), from %s on", from);
	colour(c, PALE);
	text(c, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 18, 0.5, 15, false, name);
	cairo_save(c);
	cairo_translate(c, 24, (TOP + HEIGHT - BOTTOM) / 2.0);
	cairo_rotate(c, -M_PI / 2);
	text(c, 0, 0, 0.5, 15, false, "accuracy on validation images");
	cairo_restore(c);
}

/* What was in use: steps from swap to swap. */
static void active_line(const struct drawing *d)
{
	cairo_t *c = d->c;
	bool begun = false;
	cairo_new_path(c);
	for (size_t i = 0; i < d->h->n_points; i++) {
		const struct history_point *p = &d->h->points[i];
		double x = x_of(d, p->at_s), y = y_of(d, chart_accuracy(p)), from_y;
		if (!p->swap)
			continue;
		if (begun) {
			cairo_get_current_point(c, NULL, &from_y);
			cairo_line_to(c, x, from_y);
			cairo_line_to(c, x, y);
		} else {
			cairo_move_to(c, x, y);
		}
		begun = true;
	}
	if (begun) {
		double y;
		cairo_get_current_point(c, NULL, &y);
		cairo_line_to(c, WIDTH - RIGHT, y);
	}
	colour(c, INK);
	cairo_set_line_width(c, 2.5);
	cairo_set_line_join(c, CAIRO_LINE_JOIN_ROUND);
	cairo_stroke(c);
}

static void points(const struct drawing *d, bool swaps)
{
	for (size_t i = 0; i < d->h->n_points; i++) {
		const struct history_point *p = &d->h->points[i];
		if (p->swap == swaps)
			marker(d->c, x_of(d, p->at_s), y_of(d, chart_accuracy(p)), p->origin,
			       swaps);
	}
}

static void legend(const struct drawing *d)
{
	cairo_t *c = d->c;
	double x = LEFT, y = TOP - 28;
	for (int o = 0; o < ORIGIN_N; o++) {
		bool there = false;
		for (size_t i = 0; i < d->h->n_points; i++)
			there |= (int)d->h->points[i].origin == o;
		if (!there)
			continue;
		marker(c, x + RADIUS, y - 5, (enum origin)o, false);
		colour(c, INK);
		x += 18 + text(c, x + 18, y, 0, 15, false, origin_name((enum origin)o)) + 26;
	}
	colour(c, INK);
	line(c, x, y - 5, x + 30, y - 5, 2.5);
	x += 38 + text(c, x + 38, y, 0, 15, false, "in use") + 26;
	marker(c, x + RADIUS, y - 5, ORIGIN_LOCAL, true);
	colour(c, INK);
	text(c, x + 22, y, 0, 15, false, "became active (large, with a rim)");
}

static void draw(const struct drawing *d, const char *title)
{
	cairo_t *c = d->c;
	colour(c, 0xffffff);
	cairo_paint(c);
	colour(c, INK);
	text(c, LEFT, 36, 0, 21, true, title);
	axes(d);
	axis_names(d);
	/* A letter or shape at an edge may stick out: it is not cut. */
	active_line(d);
	points(d, false);
	points(d, true);
	legend(d);
}

struct buffer {
	FILE *f;
	char *data;
	size_t len;
};

static cairo_status_t append(void *user, const unsigned char *data, unsigned len)
{
	struct buffer *b = user;
	return fwrite(data, 1, len, b->f) == len ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

int chart_file(const struct msg_history *h, const char *title, enum chart_form form,
	       const char *path, struct err *err)
{
	struct buffer b = {0};
	b.f = open_memstream(&b.data, &b.len);
	if (!b.f)
		return err_set(err, -ENOMEM, "out of memory");
	cairo_surface_t *s =
		form == CHART_PNG ? cairo_image_surface_create(CAIRO_FORMAT_RGB24, WIDTH, HEIGHT)
				  : cairo_svg_surface_create_for_stream(append, &b, WIDTH, HEIGHT);
	struct drawing d = {.c = cairo_create(s), .h = h, .s = chart_scale(h)};
	draw(&d, title);
	cairo_status_t status = cairo_status(d.c);
	if (status == CAIRO_STATUS_SUCCESS && form == CHART_PNG)
		status = cairo_surface_write_to_png_stream(s, append, &b);
	cairo_destroy(d.c);
	cairo_surface_finish(s);
	if (status == CAIRO_STATUS_SUCCESS)
		status = cairo_surface_status(s);
	cairo_surface_destroy(s);
	int r = fclose(b.f) == 0 && status == CAIRO_STATUS_SUCCESS
			? file_write(path, b.data, b.len, err)
			: err_set(err, -EIO, "%s: not drawn: %s", path,
				  cairo_status_to_string(status));
	free(b.data);
	return r;
}
