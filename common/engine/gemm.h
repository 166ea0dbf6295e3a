/* Matrix products of Darknet's layers. The worker's executable exports a symbol `gemm`, which the
 * dynamic linker prefers to libdarknet's own: its calls arrive here (gemm_openblas.c), unless
 * the build has no OpenBLAS (gemm_darknet.c: nothing is replaced). */
#pragma once

#include <stdint.h>

#include "common/base/err.h"

/* Threads for one product, >= 1. -ENOMEM: the memory limit leaves no room for its buffers. */
int gemm_init(int threads, struct err *err);
/* What is mapped for each thread; most of it is never touched. */
uint64_t gemm_thread_bytes(void);
/* Changes the number of threads, up to what gemm_init() was given. */
void gemm_threads(int threads);
/* What computed so far: "darknet+openblas" once calls of libdarknet arrived here, else "darknet".
 */
const char *gemm_engine(void);
