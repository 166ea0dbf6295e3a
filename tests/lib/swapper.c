/* Makes a state folder as the agent does, with the store's own code, and swaps in it.
 *
 *     swapper STATE CFG CLASSES WEIGHTS...
 *
 * Puts every file of weights into the store, describes the folder (model.json), makes the first one
 * active, and prints "ready". Then it does what each line on its standard input says, and answers
 * with "done N" (swaps so far): "swap" (the next one, in turn), "run MS" (swaps for so long,
 * without a pause). */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/checkpoint/model_file.h"
#include "common/checkpoint/store.h"
#include "common/checkpoint/weights.h"
#include "common/dataset/dataset.h"

#define WEIGHTS_MAX 16

struct swapper {
	struct store *store;
	struct model *model;
	const char *state;
	char ids[WEIGHTS_MAX][HASH_SIZE];
	int n, at;
	unsigned long swaps;
};

static void fail(const struct err *err)
{
	fprintf(stderr, "swapper: %s\n", err->text);
	exit(1);
}

/* A copy, as the store takes its file away. */
static void add(struct swapper *s, const char *path)
{
	struct err err = {0};
	struct weights_header h;
	char tmp[FILE_PATH_MAX], *data = NULL;
	size_t len;
	struct manifest m = {
		.origin = ORIGIN_LOCAL, .epoch = 1, .images_seen = 1, .block_size = 65536};
	if (weights_check(s->model, path, &h, s->ids[s->n], &err) < 0 ||
	    store_tmp(s->store, "in", tmp, &err) < 0 ||
	    file_read(path, s->model->file_bytes, &data, &len, &err) < 0 ||
	    file_write(tmp, data, len, &err) < 0)
		fail(&err);
	free(data);
	manifest_name(&m, s->ids[s->n]);
	memcpy(m.model, s->model->id, sizeof(m.model));
	snprintf(m.device, sizeof(m.device), "app");
	m.classes = s->model->n_classes;
	m.size = (int64_t)s->model->file_bytes;
	m.created_ms = clock_real_ms();
	if (store_add(s->store, tmp, &m, &err) < 0)
		fail(&err);
	s->n++;
}

static void swap(struct swapper *s)
{
	struct err err = {0};
	s->at = (s->at + 1) % s->n;
	if (store_activate(s->store, s->ids[s->at], &err) < 0)
		fail(&err);
	s->swaps++;
}

static void describe(const char *state, const struct model *m, const char *cfg, const char *classes)
{
	struct model_file f = {.site = "test", .device = "app", .absent = "train"};
	struct err err = {0};
	memcpy(f.model, m->id, sizeof(f.model));
	snprintf(f.cfg, sizeof(f.cfg), "%s", cfg);
	snprintf(f.classes, sizeof(f.classes), "%s", classes);
	if (model_file_write(state, &f, &err) < 0)
		fail(&err);
}

static void do_line(struct swapper *s, const char *line)
{
	int64_t ms = 0;
	if (strncmp(line, "run ", 4) == 0)
		ms = atoll(line + 4);
	int64_t end = clock_mono_ms() + ms;
	do
		swap(s);
	while (clock_mono_ms() < end);
	printf("done %lu\n", s->swaps);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct swapper s = {.at = -1};
	struct err err = {0};
	struct classes classes = {0};
	char line[64];
	if (argc < 5 || argc - 4 > WEIGHTS_MAX)
		return 2;
	s.state = argv[1];
	if (classes_load(argv[3], &classes, &err) < 0 ||
	    model_load(argv[2], (const char *const *)classes.names, classes.n, &s.model, &err) <
		    0 ||
	    file_mkdirs(s.state, &err) < 0 || store_open(s.state, &s.store, &err) < 0)
		fail(&err);
	for (int i = 4; i < argc; i++)
		add(&s, argv[i]);
	describe(s.state, s.model, argv[2], argv[3]);
	swap(&s);
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		do_line(&s, line);
	store_free(s.store);
	model_free(s.model);
	classes_done(&classes);
	return 0;
}
