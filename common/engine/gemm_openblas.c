/* See gemm.h. OpenBLAS is loaded by gemm_init(), not with the program: it takes memory and starts
 * threads, which a worker that waits, or that has other kernels for every layer, can do without.
 * Darknet's matrices are row-major, as cblas's CblasRowMajor. */
#include "common/engine/gemm.h"

#include <cblas.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LIBRARY "libopenblas.so.0"
/* What OpenBLAS maps per thread on x86-64 and arm64 at most (its BUFFER_SIZE). When that mapping
 * fails it tries again for ever, so whether it can succeed is asked first. */
#define BUFFER_BYTES ((size_t)128 * 1024 * 1024)

static __typeof__(&cblas_sgemm) sgemm; /* NULL: not loaded yet */
static __typeof__(&openblas_set_num_threads) set_num_threads;
static int most_threads; /* that there was room for */
static unsigned long n_calls;

/* Replaces libdarknet's function of this name: C = alpha * op(A) * op(B) + beta * C. */
void gemm(int ta, int tb, int m, int n, int k, float alpha, float *a, int lda, float *b, int ldb,
	  float beta, float *c, int ldc);
/* Darknet's own loops. */
void gemm_cpu(int ta, int tb, int m, int n, int k, float alpha, float *a, int lda, float *b,
	      int ldb, float beta, float *c, int ldc);

__attribute__((visibility("default"))) void gemm(int ta, int tb, int m, int n, int k, float alpha,
						 float *a, int lda, float *b, int ldb, float beta,
						 float *c, int ldc)
{
	if (!sgemm) {
		gemm_cpu(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
		return;
	}
	n_calls++;
	sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n,
	      k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static int load(int threads, struct err *err)
{
	char value[16];
	snprintf(value, sizeof(value), "%d", threads);
	setenv("OPENBLAS_NUM_THREADS", value, 1); /* else it starts one for each processor */
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return err_set(err, -ELIBACC, "OpenBLAS: %s", dlerror());
	set_num_threads = (__typeof__(set_num_threads))dlsym(lib, "openblas_set_num_threads");
	sgemm = (__typeof__(sgemm))dlsym(lib, "cblas_sgemm");
	if (!set_num_threads || !sgemm) {
		sgemm = NULL;
		dlclose(lib);
		return err_set(err, -ELIBACC, LIBRARY ": found a library without '%s'",
			       set_num_threads ? "cblas_sgemm" : "openblas_set_num_threads");
	}
	return 0;
}

int gemm_init(int threads, struct err *err)
{
	if (sgemm && threads <= most_threads) {
		set_num_threads(threads);
		return 0;
	}
	size_t bytes = BUFFER_BYTES * (size_t)threads;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_set(
			err, -ENOMEM,
			"out of memory: matrix products with %d threads need room for %zu MiB",
			threads, bytes >> 20);
	munmap(p, bytes);
	int r = sgemm ? 0 : load(threads, err);
	if (r < 0)
		return r;
	set_num_threads(threads);
	most_threads = threads;
	return 0;
}

uint64_t gemm_thread_bytes(void)
{
	return BUFFER_BYTES;
}

void gemm_threads(int threads)
{
	if (sgemm)
		set_num_threads(threads);
}

const char *gemm_engine(void)
{
	return n_calls ? "darknet+openblas" : "darknet";
}
