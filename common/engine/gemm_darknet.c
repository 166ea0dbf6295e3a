/* See gemm.h: without OpenBLAS nothing is replaced; Darknet's loops run on one thread. */
#include "common/engine/gemm.h"

int gemm_init(int threads, struct err *err)
{
	return 0;
}

uint64_t gemm_thread_bytes(void)
{
	return 0;
}

void gemm_threads(int threads)
{
}

const char *gemm_engine(void)
{
	return "darknet";
}
