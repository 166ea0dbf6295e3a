/* Matrix products of Darknet's layers. The worker's executable has a symbol `gemm`, which the
 * linker (dynamic or, with a static Darknet, not) prefers to Darknet's own: its calls arrive here
 * (gemm_openblas.c), unless the build has no OpenBLAS (gemm_darknet.c: nothing is replaced). */
#pragma once

#include <stdint.h>

#include "common/base/err.h"

/* Threads for one product, >= 1. Before it, Darknet's own loops run. -ENOMEM: the memory limit
 * leaves no room for the buffers; -ELIBACC: OpenBLAS cannot be loaded. */
int gemm_init(int threads, struct err *err);
/* What is mapped for each thread; most of it is never touched. */
uint64_t gemm_thread_bytes(void);
/* Changes the number of threads, up to what gemm_init() was given. */
void gemm_threads(int threads);
/* What computed so far: "darknet+openblas" once calls of libdarknet arrived here, else "darknet".
 */
const char *gemm_engine(void);
