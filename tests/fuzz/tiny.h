/* A model of 125 weights, for targets whose inputs are of a model; and one with the same tensors of
 * several hundred each, for what handles long runs at once. */
#pragma once

#include "common/checkpoint/model.h"

#define TINY_FLOATS  125
#define TINY_TENSORS 7

const struct model *tiny_model(void);
#define WIDE_FLOATS (4 * 300 + 2700 + 1 + 4800)
const struct model *wide_model(void);
