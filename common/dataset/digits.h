/* The embedded data set: handwriting-like digits, drawn by strokes with random pen, slant,
 * position and noise; 28x28 grey, needs no download. */
#pragma once

#include <stdint.h>

#include "common/base/err.h"

#define DIGITS_SIDE 28
#define DIGITS_MAX  1000000

/* Draws digit `label` (0..9), number `index` of the series `seed`: always the same pixels. */
void digits_draw(uint64_t seed, uint64_t index, int label, uint8_t out[DIGITS_SIDE * DIGITS_SIDE]);
/* Writes n training images (train-images-idx3-ubyte, train-labels-idx1-ubyte) and n/5 test images
 * (t10k-..., at least one) of the same series, but of other numbers, into dir, which is made.
 * n: 1 to DIGITS_MAX. mix: 10 weights of the classes, >= 0, NULL: even; each class gets its exact
 * share, rounded. */
int digits_write(const char *dir, uint32_t n, uint64_t seed, const double *mix, struct err *err);
