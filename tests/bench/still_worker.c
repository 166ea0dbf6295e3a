/* Stands for tasuki-worker on a device that does not train: it has 20 validation images, and each
 * checkpoint is right on as many of them as the first byte of its sha256 says. So hundreds of
 * agents fit on one machine, and all come to the same decision.
 *
 *   still_worker                          as a daemon's worker
 *   still_worker CFG CLASSES SEED OUT     writes random weights that validate */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/checkpoint/model.h"
#include "common/checkpoint/weights.h"
#include "common/crypto/hash.h"
#include "common/dataset/dataset.h"
#include "common/engine/channel.h"
#include "common/engine/worker_protocol.h"

#define IMAGES   20
#define SNAPSHOT "5555555555555555555555555555555555555555555555555555555555555555"

static int load(const char *cfg, const char *names, struct model **ret, struct err *err)
{
	struct classes classes = {0};
	int r = classes_load(names, &classes, err);
	if (r == 0)
		r = model_load(cfg, (const char *const *)classes.names, classes.n, ret, err);
	classes_done(&classes);
	return r;
}

static int write_weights(char **argv, struct err *err)
{
	_cleanup_(model_freep) struct model *m = NULL;
	struct rng rng;
	int r = load(argv[1], argv[2], &m, err);
	if (r < 0)
		return r;
	_cleanup_free_ char *data = calloc(1, m->file_bytes);
	if (!data)
		return err_errno(err, -ENOMEM, "%s", argv[4]);
	data[4] = 2; /* version 0.2.0 */
	rng_init(&rng, strtoull(argv[3], NULL, 10));
	for (uint64_t i = 0; i < m->n_floats; i++) {
		float f = (float)rng_unit(&rng); /* variances are not below 0 */
		memcpy(data + WEIGHTS_HEADER_SIZE + 4 * i, &f, sizeof(f));
	}
	r = file_write(argv[4], data, m->file_bytes, err);
	return r;
}

static int opened(const struct json *q, struct json *ret, struct err *err)
{
	_cleanup_(model_freep) struct model *m = NULL;
	char cfg[FILE_PATH_MAX], names[FILE_PATH_MAX];
	struct json *images = json_new_obj(), *snapshot = json_new_obj();
	int r = json_get_str(q, "cfg", cfg, sizeof(cfg), err);
	if (r == 0)
		r = json_get_str(q, "classes", names, sizeof(names), err);
	if (r == 0)
		r = load(cfg, names, &m, err);
	for (enum split s = 0; s < SPLIT_N; s++) {
		json_set_int(images, split_name(s), s == SPLIT_VALIDATION ? IMAGES : 0);
		json_set_str(snapshot, split_name(s), SNAPSHOT);
	}
	json_set(ret, "images", images);
	json_set(ret, "snapshot", snapshot);
	json_set_int(ret, "stay", 0);
	json_set_int(ret, "classes", m ? m->n_classes : 0);
	json_set_str(ret, "model", m ? m->id : "");
	json_set_int(ret, "skipped", 0);
	json_set(ret, "skipped_names", json_new_arr());
	json_set_str(ret, "engine", "still");
	json_set_str(ret, "precision", "f32");
	json_set_int(ret, "threads", 1);
	struct json *cage = json_new_obj();
	json_set_str(cage, "parts", "");
	json_set_str(cage, "missing", "still");
	json_set(ret, "cage", cage);
	return r;
}

static int evaluated(const struct json *q, struct json *ret, struct err *err)
{
	char path[FILE_PATH_MAX], id[HASH_SIZE], first[3] = "";
	int r = json_get_str(q, "weights", path, sizeof(path), err);
	if (r == 0)
		r = hash_file(path, id, err);
	if (r < 0)
		return r;
	memcpy(first, id, 2);
	json_set_str(ret, "checkpoint", id);
	json_set_str(ret, "snapshot", SNAPSHOT);
	json_set_int(ret, "n", IMAGES);
	json_set_int(ret, "correct", (int64_t)(strtoul(first, NULL, 16) % IMAGES));
	json_set_num(ret, "loss", 1);
	json_set(ret, "per_class", json_new_arr());
	return 0;
}

static void answer(struct channel *c, const struct json *q)
{
	struct json *result = json_new_obj();
	struct err err = {0};
	char op[16];
	int64_t id;
	if (json_get_int(q, "id", 1, JSON_INT_MAX, &id, &err) < 0)
		exit(EXIT_FAILURE);
	int r = json_get_str(q, "op", op, sizeof(op), &err);
	if (r == 0 && (strcmp(op, "open") == 0 || strcmp(op, "rescan") == 0))
		r = opened(q, result, &err);
	else if (r == 0 && strcmp(op, "evaluate") == 0)
		r = evaluated(q, result, &err);
	else if (r == 0)
		r = err_set(&err, -EOPNOTSUPP, "op: found '%s', expected open or evaluate", op);
	if (r == 0) {
		channel_reply(c, (uint64_t)id, result);
	} else {
		json_free(result);
		channel_fail(c, (uint64_t)id, &err);
	}
}

int main(int argc, char **argv)
{
	struct channel *c;
	struct err err = {0};
	if (argc == 5) {
		if (write_weights(argv, &err) == 0)
			return EXIT_SUCCESS;
		fprintf(stderr, "%s\n", err.text);
		return EXIT_FAILURE;
	}
	if (channel_new(WORKER_FD, &c) < 0)
		return EXIT_FAILURE;
	for (;;) {
		_cleanup_(json_freep) struct json *q = NULL;
		size_t len;
		const char *line = channel_line(c, -1, &len);
		if (line && json_parse(line, len, len, &q, &err) == 0)
			answer(c, q);
	}
}
