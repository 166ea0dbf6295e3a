#include "common/dataset/glyphs.h"

#include "common/base/mem.h"

/* clang-format off: one way to write a digit is one row of points. */
#define M(x, y)                   \
	{                         \
		x, y, GLYPH_START \
	}
#define S(x, y)                    \
	{                          \
		x, y, GLYPH_SMOOTH \
	}
#define C(x, y)                    \
	{                          \
		x, y, GLYPH_CORNER \
	}
#define POINTS static const struct glyph_point

/* 0: round; narrow, begun at the right; open at the top; crossed out. */
POINTS zero_round[] = {M(55, 2),  S(25, 14), S(10, 50), S(24, 88), S(52, 98),
		       S(80, 84), S(90, 48), S(78, 14), S(54, 2),  S(42, 6)};
POINTS zero_narrow[] = {M(72, 12), S(50, 1),  S(28, 22), S(22, 60), S(40, 97),
			S(64, 88), S(76, 50), S(70, 14), S(60, 4)};
POINTS zero_open[] = {M(38, 8),  S(14, 34), S(14, 74), S(42, 98),
		      S(76, 86), S(88, 44), S(70, 8),  S(56, 6)};
POINTS zero_crossed[] = {M(52, 2),  S(20, 18), S(12, 54), S(28, 92), S(56, 98), S(82, 80),
			 S(88, 44), S(76, 12), S(52, 2),  M(96, -4), S(50, 50), S(6, 106)};
/* 1: a stroke; with a flag; with a flag and a base. */
POINTS one_plain[] = {M(52, 0), S(50, 50), S(49, 100)};
POINTS one_flag[] = {M(28, 26), S(44, 14), C(56, 0), S(55, 50), S(54, 100)};
POINTS one_base[] = {M(30, 22), S(44, 12), C(54, 0), S(53, 50), S(52, 98), M(26, 99), S(80, 98)};
/* 2: with an edge; with a loop below; swung; like a Z. */
POINTS two_plain[] = {M(14, 26), S(26, 6),  S(54, 0),  S(80, 16), S(74, 46),
		      S(44, 74), C(10, 98), S(50, 96), S(92, 97)};
POINTS two_loop[] = {M(14, 20), S(40, 1),  S(74, 10), S(76, 40), S(50, 74), S(24, 96),
		     S(8, 90),  S(22, 76), S(46, 86), S(68, 98), S(94, 92)};
POINTS two_swung[] = {M(20, 30), S(30, 6),  S(60, 2),  S(78, 22),
		      S(60, 56), S(20, 92), S(54, 86), S(90, 96)};
POINTS two_z[] = {M(14, 8), S(48, 3), C(82, 6), S(50, 50), C(12, 96), S(50, 95), S(90, 94)};
/* 3: two bows; flat on top; in one swing. */
POINTS three_bows[] = {M(16, 14), S(44, 0),  S(76, 14), S(70, 38), C(38, 47),
		       S(76, 56), S(86, 78), S(60, 98), S(30, 98), S(8, 86)};
POINTS three_flat[] = {M(14, 3),  S(48, 3),  C(82, 3),  S(62, 20), C(40, 40),
		       S(76, 48), S(86, 74), S(58, 98), S(10, 92)};
POINTS three_swing[] = {M(20, 10), S(54, 2),  S(72, 20), S(48, 44), S(62, 50),
			S(82, 70), S(66, 96), S(34, 98), S(12, 88)};
/* 4: open; closed; with a round arm; in one stroke. */
POINTS four_open[] = {M(28, 2),  S(20, 28), C(10, 58), S(50, 58),
		      S(92, 56), M(68, 14), S(65, 56), S(62, 100)};
POINTS four_closed[] = {M(66, 0),  S(38, 34), C(6, 68),  S(50, 68),
			S(94, 67), M(66, 0),  S(66, 50), S(65, 100)};
POINTS four_round[] = {M(16, 4),  S(14, 36), S(32, 56), S(60, 50),
		       S(80, 32), M(84, 0),  S(78, 50), S(72, 100)};
POINTS four_single[] = {M(64, 98), S(68, 50), C(72, 2), S(40, 32), C(10, 64), S(50, 66), S(94, 62)};
/* 5: in one stroke; with its roof drawn last; like an S. */
POINTS five_single[] = {M(82, 2),  S(54, 2),  C(28, 3),  S(25, 24), C(20, 44),
			S(48, 36), S(80, 50), S(82, 78), S(54, 98), S(12, 90)};
POINTS five_roof[] = {M(28, 4),  S(24, 26), C(20, 46), S(50, 36), S(82, 54), S(80, 84),
		      S(48, 99), S(12, 88), M(26, 4),  S(56, 4),  S(88, 1)};
POINTS five_s[] = {M(80, 6),  S(48, 2),  S(24, 18), S(32, 42), S(62, 50),
		   S(82, 68), S(68, 94), S(36, 99), S(10, 90)};
/* 6: curved; with a straight stem; curled at the top. */
POINTS six_curved[] = {M(72, 2),  S(38, 20), S(14, 56), S(20, 88), S(50, 99),
		       S(80, 86), S(76, 60), S(48, 52), S(20, 68)};
POINTS six_straight[] = {M(58, 0),  S(36, 34), S(18, 70), S(30, 96), S(60, 97),
			 S(76, 76), S(60, 58), S(34, 62), S(20, 78)};
POINTS six_curled[] = {M(80, 14), S(64, 2),  S(36, 12), S(16, 50), S(20, 86),
		       S(48, 99), S(78, 86), S(76, 62), S(50, 54), S(24, 64)};
/* 7: plain; with a bar; with a serif; both; bent. */
POINTS seven_plain[] = {M(10, 5), S(48, 5), C(88, 4), S(60, 48), S(40, 100)};
POINTS seven_bar[] = {M(10, 6),   S(48, 5),  C(88, 4),  S(60, 48),
		      S(42, 100), M(32, 52), S(56, 50), S(80, 50)};
POINTS seven_serif[] = {M(10, 22), C(12, 6), S(48, 7), C(86, 4), S(62, 46), S(44, 100)};
POINTS seven_both[] = {M(12, 22),  C(14, 5),  S(50, 6),  C(86, 4), S(58, 48),
		       S(38, 100), M(30, 56), S(52, 52), S(78, 50)};
POINTS seven_bent[] = {M(12, 10), S(44, 4), S(80, 6), S(72, 36), S(56, 66), S(52, 100)};
/* 8: from the upper right; two rings; begun in the middle. */
POINTS eight_s[] = {M(78, 14),  S(50, 0),  S(22, 16), S(36, 42), S(66, 56), S(82, 80),
		    S(50, 100), S(18, 80), S(34, 56), S(66, 38), S(80, 16)};
POINTS eight_rings[] = {M(50, 1),  S(24, 14), S(30, 42), S(52, 48), S(74, 38),
			S(76, 12), S(50, 1),  M(50, 48), S(18, 64), S(22, 92),
			S(52, 99), S(82, 88), S(80, 60), S(50, 48)};
POINTS eight_middle[] = {M(50, 48), S(26, 28), S(36, 4),  S(66, 4),  S(74, 28), S(50, 48),
			 S(22, 72), S(36, 98), S(68, 97), S(80, 72), S(50, 48)};
/* 9: straight stem; hooked; curved; angular. */
POINTS nine_straight[] = {M(78, 16), S(50, 1), S(20, 18), S(22, 44), S(50, 52),
			  S(74, 34), C(80, 8), S(77, 54), S(72, 100)};
POINTS nine_hooked[] = {M(80, 18), S(52, 1),  S(22, 16), S(24, 44), S(54, 50), S(78, 30),
			C(82, 12), S(80, 56), S(68, 92), S(42, 99), S(16, 90)};
POINTS nine_curved[] = {M(74, 10), S(46, 2),  S(22, 22), S(34, 48), S(64, 42),
			S(80, 14), S(78, 46), S(60, 80), S(34, 100)};
POINTS nine_angular[] = {M(74, 4), S(40, 6), C(18, 32), S(44, 50), C(76, 36),
			 S(75, 4), C(76, 6), S(74, 50), S(70, 100)};

/* clang-format on */

#define G(p)                    \
	{                       \
		p, ARRAY_LEN(p) \
	}

static const struct glyph zero[] = {G(zero_round), G(zero_narrow), G(zero_open), G(zero_crossed)};
static const struct glyph one[] = {G(one_plain), G(one_flag), G(one_base)};
static const struct glyph two[] = {G(two_plain), G(two_loop), G(two_swung), G(two_z)};
static const struct glyph three[] = {G(three_bows), G(three_flat), G(three_swing)};
static const struct glyph four[] = {G(four_open), G(four_closed), G(four_round), G(four_single)};
static const struct glyph five[] = {G(five_single), G(five_roof), G(five_s)};
static const struct glyph six[] = {G(six_curved), G(six_straight), G(six_curled)};
static const struct glyph seven[] = {G(seven_plain), G(seven_bar), G(seven_serif), G(seven_both),
				     G(seven_bent)};
static const struct glyph eight[] = {G(eight_s), G(eight_rings), G(eight_middle)};
static const struct glyph nine[] = {G(nine_straight), G(nine_hooked), G(nine_curved),
				    G(nine_angular)};

static const struct {
	const struct glyph *variants;
	size_t n;
} digits[10] = {G(zero), G(one), G(two),   G(three), G(four),
		G(five), G(six), G(seven), G(eight), G(nine)};

size_t glyph_variants(int label)
{
	return digits[label].n;
}

const struct glyph *glyph_get(int label, size_t variant)
{
	return &digits[label].variants[variant];
}
