/* What a network takes in memory, from its cfg alone: so that one that does not fit is refused
 * before anything is allocated. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/checkpoint/model.h"
#include "common/engine/network.h"

/* Bytes of a network that computes `batch` images at a time with `engine`; AUTO: as many as either
 * takes. */
uint64_t network_bytes(const struct model *m, enum dnet_engine engine, uint32_t batch,
		       bool training);
