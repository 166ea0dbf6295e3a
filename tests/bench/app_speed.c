/* What an application waits for a classification, and what swaps beneath it cost: app_speed HOW
 * STATE CFG SECONDS WORKER -. HOW: libtasuki; tasuki (our engine in this very process); darknet
 * (Darknet's library in it, as an application would use it by itself). The latter two look at
 * STATE/active before each image and load what is new there. Prints "ready", and then one JSON
 * object for each line on standard input. One thread calls, one computes.
 *     app_speed make CFG SEED FILE
 * writes new weights. */
#include <darknet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/engine/gemm.h"
#include "common/engine/network.h"
#include "libtasuki/tasuki.h"

#define CALLS_MAX 1000000 /* of a measurement, which ends with them */

struct app {
	const char *state, *cfg, *worker;
	double seconds;
	float *image; /* CHW, of random numbers */
	size_t n;
	char active[HASH_SIZE]; /* the checkpoint that answered last */
	unsigned long swaps;
	tasuki *t;
	struct dnet *net;
	network *darknet;
};

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static _Noreturn void fail(const char *text)
{
	fprintf(stderr, "app_speed: %s\n", text);
	exit(1);
}

static bool is_another(struct app *a, const char *id)
{
	if (strcmp(a->active, id) == 0)
		return false;
	snprintf(a->active, sizeof(a->active), "%.64s", id);
	a->swaps++;
	return true;
}

/* True: the link leads elsewhere than the last time; then `path` is the file of weights. */
static bool swapped(struct app *a, char path[FILE_PATH_MAX])
{
	static const char before[] = "checkpoints/";
	char link[FILE_PATH_MAX], to[sizeof(before) + HASH_SIZE - 1] = "";
	snprintf(link, sizeof(link), "%s/active", a->state);
	if (readlink(link, to, sizeof(to) - 1) < (ssize_t)sizeof(before))
		fail("the state folder has no active checkpoint");
	snprintf(path, FILE_PATH_MAX, "%s/%s/weights", a->state, to);
	return is_another(a, to + sizeof(before) - 1);
}

static void open_libtasuki(struct app *a)
{
	struct tasuki_options o = {.size = sizeof(o), .threads = 1, .worker = a->worker};
	struct tasuki_error e;
	if (tasuki_open(a->state, &o, &a->t, &e) < 0)
		fail(e.text);
}

static void call_libtasuki(struct app *a)
{
	struct tasuki_result got;
	struct tasuki_error e;
	if (tasuki_classify_input(a->t, a->image, a->n, &got, NULL, 0, &e) < 0)
		fail(e.text);
	is_another(a, got.checkpoint);
}

/* Of `cfg`, with new weights. What it was built from stays for as long as the program runs. */
static struct dnet *build(const char *path, uint64_t seed)
{
	struct dnet_conf conf = {.threads = 1, .batch = 1, .seed = seed, .engine = DNET_AUTO};
	struct dnet *net;
	struct model *m;
	char *cfg;
	struct err err = {0};
	size_t len;
	if (model_load(path, NULL, 0, &m, &err) < 0 ||
	    file_read(path, MODEL_CFG_MAX, &cfg, &len, &err) < 0 || gemm_init(1, &err) < 0 ||
	    dnet_new(m, cfg, len, &conf, &net, &err) < 0)
		fail(err.text);
	return net;
}

static void open_tasuki(struct app *a)
{
	a->net = build(a->cfg, 1);
}

static void call_tasuki(struct app *a)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE];
	struct err err = {0};
	uint64_t seen;
	if (swapped(a, path) && dnet_load(a->net, path, &seen, id, &err) < 0)
		fail(err.text);
	memcpy(dnet_input(a->net, 0), a->image, a->n * sizeof(float));
	dnet_predict(a->net);
}

static void open_darknet(struct app *a)
{
	a->darknet = load_network((char *)a->cfg, NULL, 0);
	set_batch_network(a->darknet, 1);
}

static void call_darknet(struct app *a)
{
	char path[FILE_PATH_MAX];
	if (swapped(a, path))
		load_weights(a->darknet, path);
	network_predict(a->darknet, a->image);
}

static const struct how {
	const char *name;
	void (*open)(struct app *a);
	void (*call)(struct app *a);
} hows[] = {
	{"libtasuki", open_libtasuki, call_libtasuki},
	{"tasuki", open_tasuki, call_tasuki},
	{"darknet", open_darknet, call_darknet},
};

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(struct app *a, const struct how *how)
{
	static double ms[CALLS_MAX];
	size_t n = 0;
	a->swaps = 0;
	double begun = now_ms(), last = begun;
	while (n < CALLS_MAX && (!n || last < begun + a->seconds * 1e3)) {
		how->call(a);
		double at = now_ms();
		ms[n++] = at - last;
		last = at;
	}
	qsort(ms, n, sizeof(*ms), by_size);
	printf("{\"calls\": %zu, \"swaps\": %lu, \"median_ms\": %.4f, \"p99_ms\": %.4f, "
	       "\"longest_ms\": %.3f, \"images_per_second\": %.2f}\n",
	       n, a->swaps, ms[n / 2], ms[n - 1 - n / 100], ms[n - 1],
	       (double)n * 1e3 / (last - begun));
	fflush(stdout);
}

static void draw_image(struct app *a)
{
	_cleanup_(model_freep) struct model *m = NULL;
	struct err err = {0};
	if (model_load(a->cfg, NULL, 0, &m, &err) < 0)
		fail(err.text);
	a->n = (size_t)m->width * m->height * m->channels;
	a->image = malloc(a->n * sizeof(float));
	for (size_t i = 0; a->image && i < a->n; i++)
		a->image[i] = (float)rand() / (float)RAND_MAX;
}

static int make_weights(char **argv)
{
	char id[HASH_SIZE];
	struct err err = {0};
	if (dnet_save(build(argv[2], strtoull(argv[3], NULL, 10)), argv[4], 0, id, &err) < 0)
		fail(err.text);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "make") == 0)
		return make_weights(argv);
	if (argc != 7)
		return 2;
	struct app a = {
		.state = argv[2], .cfg = argv[3], .seconds = atof(argv[4]), .worker = argv[5]};
	const struct how *how = NULL;
	for (size_t i = 0; i < sizeof(hows) / sizeof(*hows); i++)
		if (strcmp(argv[1], hows[i].name) == 0)
			how = &hows[i];
	if (!how)
		return 2;
	draw_image(&a);
	how->open(&a);
	for (int i = 0; i < 20; i++)
		how->call(&a);
	char line[16];
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		measure(&a, how);
	return 0;
}
