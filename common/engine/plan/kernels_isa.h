/* Tables that kernels_isa.c defines, once for each instruction set that it is compiled for:
 * [0] float32, [1] bfloat16. */
#pragma once

#include "common/engine/plan/kernels.h"

#if defined(__x86_64__)
extern const struct kernels kernels_avx512[2], kernels_avx2[2];
extern const struct kernels_flat kernels_avx512_flat, kernels_avx2_flat;
#endif
extern const struct kernels kernels_8[2]; /* what the compiler's default allows */
extern const struct kernels_flat kernels_8_flat;
