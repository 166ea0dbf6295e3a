/* Classification of image files, a batch at a time; one that cannot be read costs only itself. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/args.h"
#include "common/engine/session.h"
#include "common/engine/worker_protocol.h"

int classify_begin(struct session *s, struct job *j, struct err *err)
{
	char weights[FILE_PATH_MAX];
	uint64_t seen;
	int64_t crop;
	int r = json_get_str(j->args, "weights", weights, sizeof(weights), err);
	if (r < 0 ||
	    (r = json_get_arr(j->args, "images", WORKER_CLASSIFY_MAX, &j->images, err)) < 0 ||
	    (r = arg_int(j->args, "center_crop", 0, DATASET_IMAGE_DIM_MAX, 0, &crop, err)) < 0)
		return r;
	j->center_crop = (uint32_t)crop;
	j->n = (uint32_t)json_len(j->images);
	j->next_image = json_first(j->images);
	j->results = json_new_arr();
	return dnet_load(s->eval_net, weights, &seen, j->checkpoint, err);
}

/* Reads an image into `input` and says what it is called; "error" when it cannot be read. */
static struct json *read_one(struct session *s, struct job *j, const char *path, float *input)
{
	const struct model *m = s->model;
	struct json *one = json_new_obj();
	struct err err = {0};
	json_set_str(one, "image", path);
	if (dataset_read_image(path, m->width, m->height, m->channels, j->center_crop, input,
			       &err) < 0) {
		json_set_str(one, "error", err.text);
		memset(input, 0, (size_t)m->width * m->height * m->channels * sizeof(*input));
	}
	return one;
}

static void set_class(struct session *s, struct json *one, const float *p)
{
	uint32_t best = 0;
	char buf[16];
	for (uint32_t c = 1; c < s->model->outputs; c++)
		if (p[c] > p[best])
			best = c;
	json_set_int(one, "class", best);
	json_set_str(one, "name", session_class_name(s, best, buf));
	json_set_num(one, "score", (double)p[best]);
}

int classify_step(struct session *s, struct job *j, struct json **ret_result, struct err *err)
{
	struct json *batch[SESSION_EVAL_BATCH_MAX];
	uint32_t n = MIN_OF(dnet_batch(s->eval_net), j->n - j->at);
	for (uint32_t i = 0; i < n; i++) {
		const char *path = json_str(j->next_image);
		j->next_image = json_next(j->next_image);
		batch[i] = read_one(s, j, path ? path : "", dnet_input(s->eval_net, i));
	}
	const float *p = n ? session_predict(s) : NULL;
	for (uint32_t i = 0; i < n; i++) {
		if (!json_has(batch[i], "error"))
			set_class(s, batch[i], p + (size_t)i * s->model->outputs);
		json_push(j->results, batch[i]);
	}
	j->at += n;
	channel_progress(s->channel, CHANNEL_JOB, j->id, j->at, j->n, NAN, 0);
	if (j->at < j->n)
		return 1;
	*ret_result = json_new_obj();
	json_set(*ret_result, "results", TAKE_PTR(j->results));
	json_set_str(*ret_result, "checkpoint", j->checkpoint);
	return 0;
}
