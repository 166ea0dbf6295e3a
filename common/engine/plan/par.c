/* Calls libgomp directly (its ABI is what gcc's `#pragma omp parallel` compiles to), so that
 * every compiler's build shares the one pool of threads that libdnnl was linked with. */
#include "common/engine/plan/par.h"

void GOMP_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);
int omp_get_thread_num(void);
void omp_set_num_threads(int threads);
void omp_set_dynamic(int dynamic);

struct call {
	par_fn fn;
	void *arg;
	int threads;
};

static void enter(void *data)
{
	const struct call *c = data;
	c->fn(c->arg, omp_get_thread_num(), c->threads);
}

void par_threads(int threads)
{
	omp_set_dynamic(0); /* a team has exactly as many as asked for */
	omp_set_num_threads(threads);
}

void par_run(int threads, par_fn fn, void *arg)
{
	struct call c = {.fn = fn, .arg = arg, .threads = threads};
	if (threads == 1)
		fn(arg, 0, 1);
	else
		GOMP_parallel(enter, &c, (unsigned)threads, 0);
}
