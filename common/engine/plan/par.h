/* Shares work among the threads that oneDNN computes with, too: those of GNU OpenMP, so that no
 * second pool competes for the CPUs. */
#pragma once

#include <stddef.h>

#define PAR_THREADS_MAX 256

/* Threads of every later call, and of oneDNN's primitives made from now on. */
void par_threads(int threads);

/* fn(arg, i, threads) on each of `threads` threads, i from 0; returns when all have. */
typedef void (*par_fn)(void *arg, int thread, int threads);
void par_run(int threads, par_fn fn, void *arg);

/* The part [from, to) of `total` pieces that falls to a thread. */
static inline void par_share(size_t total, int thread, int threads, size_t *from, size_t *to)
{
	*from = total * (size_t)thread / (size_t)threads;
	*to = total * ((size_t)thread + 1) / (size_t)threads;
}
