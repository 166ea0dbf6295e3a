/* Speed of the engine on random images: engine_speed CFG train|predict ENGINE PRECISION THREADS
 * SECONDS [BATCH [-]]. Prints one JSON object; with "-" the line "ready" and then one for each line on
 * standard input, so that several programs can be measured by turns. Which arithmetic Darknet's own
 * products take is what the program is linked with (engine_speed: as the worker;
 * engine_speed_stock: Darknet's). */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/gemm.h"
#include "common/engine/network.h"

#define WARM_UP 3 /* batches, unless they take longer than a measurement */

struct speed {
	struct dnet *net;
	const struct model *model;
	bool train;
	int threads;
	double seconds; /* of one measurement, which ends with the batch in hand */
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill(struct dnet *d, const struct model *m)
{
	size_t pixels = (size_t)m->width * m->height * m->channels;
	for (uint32_t i = 0; i < dnet_batch(d); i++) {
		float *x = dnet_input(d, i);
		for (size_t k = 0; k < pixels; k++)
			x[k] = (float)rand() / (float)RAND_MAX;
		dnet_label(d, i, (uint32_t)rand() % m->outputs);
	}
}

/* Batches until the time is up or there were `max`; at least one. Returns images a second. */
static double run(const struct speed *s, long max)
{
	double begun = now(), spent, loss;
	long batches = 0;
	do {
		if (s->train)
			dnet_train(s->net, &loss);
		else
			dnet_predict(s->net);
		batches++;
		spent = now() - begun;
	} while (spent < s->seconds && batches < max);
	return (double)batches * dnet_batch(s->net) / spent;
}

static void print(const struct speed *s, double images_per_second)
{
	uint64_t macs = 0, first = 0; /* multiply-adds of all layers, of the first that has any */
	for (size_t i = 0; i < s->model->n_layers; i++) {
		first = first ? first : s->model->layers[i].macs;
		macs += s->model->layers[i].macs;
	}
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	printf("{\"engine\": \"%s\", \"gemm\": \"%s\", \"precision\": \"%s\", \"threads\": %d, "
	       "\"batch\": %u, \"images_per_second\": %.2f, \"macs_per_image\": %llu, "
	       "\"macs_first_layer\": %llu, \"peak_bytes\": %ld}\n",
	       dnet_engine_name(s->net), gemm_engine(), dnet_precision_name(s->net), s->threads,
	       dnet_batch(s->net), images_per_second, (unsigned long long)macs,
	       (unsigned long long)first, u.ru_maxrss * 1024);
	fflush(stdout);
}

static int make(struct speed *s, char **argv, uint32_t batch, struct model **ret, struct err *err)
{
	struct dnet_conf conf = {.seed = 1, .training = s->train, .threads = s->threads};
	_cleanup_free_ char *cfg = NULL;
	size_t len;
	conf.engine = strcmp(argv[3], "darknet") == 0 ? DNET_DARKNET : DNET_ONEDNN;
	conf.precision = strcmp(argv[4], "bf16") == 0 ? DNET_BF16 : DNET_F32;
	conf.batch = batch;
	int r = model_load(argv[1], NULL, 0, ret, err);
	if (r == 0)
		r = file_read(argv[1], MODEL_CFG_MAX, &cfg, &len, err);
	if (r == 0)
		r = gemm_init(s->threads, err);
	if (r == 0)
		r = dnet_new(*ret, cfg, len, &conf, &s->net, err);
	s->model = *ret;
	return r;
}

int main(int argc, char **argv)
{
	struct speed s = {.threads = argc < 7 ? 0 : atoi(argv[5])};
	if (s.threads < 1) {
		fprintf(stderr, "usage: %s CFG train|predict onednn|darknet f32|bf16 THREADS SECONDS "
				"[BATCH [-]]\n", argv[0]);
		return 2;
	}
	s.train = strcmp(argv[2], "train") == 0;
	s.seconds = atof(argv[6]);
#if defined(__SSE__)
	_mm_setcsr(_mm_getcsr() | 0x8040); /* as worker_main.c: no denormal numbers */
#endif
	_cleanup_(model_freep) struct model *m = NULL;
	struct err err = {0};
	if (make(&s, argv, argc > 7 ? (uint32_t)atoi(argv[7]) : 0, &m, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	fill(s.net, m);
	run(&s, WARM_UP);
	char line[16];
	bool steered = argc > 8;
	if (!steered)
		print(&s, run(&s, LONG_MAX));
	else
		puts("ready");
	fflush(stdout);
	while (steered && fgets(line, sizeof(line), stdin))
		print(&s, run(&s, LONG_MAX));
	dnet_free(s.net);
	return 0;
}
