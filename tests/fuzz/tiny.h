/* A model of 125 weights, for targets whose inputs are of a model. */
#pragma once

#include "common/checkpoint/model.h"

#define TINY_FLOATS  125
#define TINY_TENSORS 7

const struct model *tiny_model(void);
