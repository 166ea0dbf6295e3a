/* See gemm.h. Darknet's matrices are row-major, as cblas's CblasRowMajor. */
#include "common/engine/gemm.h"

#include <cblas.h>
#include <errno.h>
#include <sys/mman.h>

/* What OpenBLAS maps per thread on x86-64 and arm64 at most (its BUFFER_SIZE). When that mapping
 * fails it tries again for ever, so whether it can succeed is asked first. */
#define BUFFER_BYTES ((size_t)128 * 1024 * 1024)

static unsigned long n_calls;

/* Replaces libdarknet's function of this name: C = alpha * op(A) * op(B) + beta * C. */
void gemm(int ta, int tb, int m, int n, int k, float alpha, float *a, int lda, float *b, int ldb,
	  float beta, float *c, int ldc);

__attribute__((visibility("default"))) void gemm(int ta, int tb, int m, int n, int k, float alpha,
						 float *a, int lda, float *b, int ldb, float beta,
						 float *c, int ldc)
{
	n_calls++;
	cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
		    m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int gemm_init(int threads, struct err *err)
{
	size_t bytes = BUFFER_BYTES * (size_t)threads;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_set(
			err, -ENOMEM,
			"out of memory: matrix products with %d threads need room for %zu MiB",
			threads, bytes >> 20);
	munmap(p, bytes);
	openblas_set_num_threads(threads);
	return 0;
}

uint64_t gemm_thread_bytes(void)
{
	return BUFFER_BYTES;
}

void gemm_threads(int threads)
{
	openblas_set_num_threads(threads);
}

const char *gemm_engine(void)
{
	return n_calls ? "darknet+openblas" : "darknet";
}
