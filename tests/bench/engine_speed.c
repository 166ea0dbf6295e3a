/* One measurement of the engine on random images: engine_speed CFG train|predict ENGINE PRECISION
 * THREADS SECONDS [BATCH]. Prints one JSON object; which arithmetic Darknet's own products take is
 * what the program is linked with (engine_speed: as the worker; engine_speed_stock: Darknet's). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/gemm.h"
#include "common/engine/network.h"

#define WARM_UP 3

static double seconds(void)
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

static double once(struct dnet *d, bool train)
{
	double begun = seconds(), loss = 0;
	if (train)
		dnet_train(d, &loss);
	else
		dnet_predict(d);
	return seconds() - begun;
}

static int read_conf(char **argv, bool *ret_train, struct dnet_conf *conf)
{
	*ret_train = strcmp(argv[2], "train") == 0;
	conf->training = *ret_train;
	conf->engine = strcmp(argv[3], "darknet") == 0 ? DNET_DARKNET : DNET_ONEDNN;
	conf->precision = strcmp(argv[4], "bf16") == 0 ? DNET_BF16 : DNET_F32;
	conf->threads = atoi(argv[5]);
	return conf->threads >= 1 ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct dnet_conf conf = {.seed = 1};
	bool train;
	if (argc < 7 || read_conf(argv, &train, &conf) < 0) {
		fprintf(stderr, "usage: %s CFG train|predict onednn|darknet f32|bf16 THREADS SECONDS "
				"[BATCH]\n", argv[0]);
		return 2;
	}
	_cleanup_(model_freep) struct model *m = NULL;
	_cleanup_free_ char *cfg = NULL;
	size_t len;
	struct err err = {0};
	struct dnet *d = NULL;
	int r = model_load(argv[1], NULL, 0, &m, &err);
	if (r == 0)
		r = file_read(argv[1], MODEL_CFG_MAX, &cfg, &len, &err);
	conf.batch = argc > 7 ? (uint32_t)atoi(argv[7]) : 0;
	if (r == 0)
		r = gemm_init(conf.threads, &err);
	if (r == 0)
		r = dnet_new(m, cfg, len, &conf, &d, &err);
	if (r < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	fill(d, m);
	for (int i = 0; i < WARM_UP; i++)
		once(d, train);
	double limit = atof(argv[6]), spent = 0;
	long batches = 0;
	while (spent < limit || batches < 2) {
		spent += once(d, train);
		batches++;
	}
	uint64_t macs = 0;
	for (size_t i = 0; i < m->n_layers; i++)
		macs += m->layers[i].macs;
	double images = (double)batches * dnet_batch(d) / spent;
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	printf("{\"engine\": \"%s\", \"precision\": \"%s\", \"threads\": %d, \"batch\": %u, "
	       "\"images_per_second\": %.1f, \"macs_per_image\": %llu, \"peak_bytes\": %ld}\n",
	       dnet_engine_name(d), dnet_precision_name(d), conf.threads, dnet_batch(d), images,
	       (unsigned long long)macs, u.ru_maxrss * 1024);
	dnet_free(d);
	return 0;
}
