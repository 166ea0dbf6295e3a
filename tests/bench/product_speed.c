/* The machine's own limit: a large single-precision matrix product through OpenBLAS.
 * product_speed SIDE THREADS SECONDS [-]; "-" as engine_speed has it. */
#include <cblas.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/mem.h"

#define SIDE_MAX 16384

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The fastest product of those that fit into the time, at least one: a limit, not a mean. */
static double gflops(int n, const float *a, const float *b, float *c, double seconds)
{
	double begun = now(), best = 0;
	do {
		double t = now();
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, c, n);
		double g = 2e-9 * n * n * n / (now() - t);
		best = MAX_OF(best, g);
	} while (now() - begun < seconds);
	return best;
}

int main(int argc, char **argv)
{
	int n = argc < 4 ? 0 : atoi(argv[1]), threads = argc < 4 ? 0 : atoi(argv[2]);
	if (n < 1 || n > SIDE_MAX || threads < 1) {
		fprintf(stderr, "usage: %s SIDE THREADS SECONDS [-]\n", argv[0]);
		return 2;
	}
	size_t count = (size_t)n * (size_t)n;
	_cleanup_free_ float *a = malloc(count * sizeof(*a));
	_cleanup_free_ float *b = malloc(count * sizeof(*b));
	_cleanup_free_ float *c = malloc(count * sizeof(*c));
	if (!a || !b || !c) {
		fprintf(stderr, "out of memory\n");
		return 1;
	}
	for (size_t i = 0; i < count; i++)
		a[i] = b[i] = (float)(i % 7) - 3;
	openblas_set_num_threads(threads);
	gflops(n, a, b, c, 0);
	char line[16];
	bool steered = argc > 4, more = true;
	if (steered)
		puts("ready");
	fflush(stdout);
	while (more && (!steered || fgets(line, sizeof(line), stdin))) {
		printf("{\"gflops\": %.2f, \"side\": %d, \"threads\": %d, \"core\": \"%s\"}\n",
		       gflops(n, a, b, c, atof(argv[3])), n, threads, openblas_get_corename());
		fflush(stdout);
		more = steered;
	}
	return 0;
}
