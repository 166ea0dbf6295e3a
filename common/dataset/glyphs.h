/* How people write the ten digits: pen strokes through a few points, several ways for each. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum glyph_point_kind {
	GLYPH_START,  /* the pen comes down */
	GLYPH_SMOOTH, /* the stroke passes through in a curve */
	GLYPH_CORNER, /* the stroke turns here */
};

/* x to the right, y down, in 1/100 of the digit's box. */
struct glyph_point {
	int8_t x, y, kind;
};

struct glyph {
	const struct glyph_point *points;
	size_t n;
};

#define GLYPH_POINTS_MAX 32

/* Ways to write `label` (0..9), and one of them. */
size_t glyph_variants(int label);
const struct glyph *glyph_get(int label, size_t variant);
