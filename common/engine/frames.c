/* Images that come as numbers, one at a time, for whoever waits for each answer (libtasuki): in
 * memory that both sides have mapped (worker_protocol.h, "frames"). The weights stay loaded. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/engine/args.h"
#include "common/engine/session.h"
#include "common/engine/worker_protocol.h"

static size_t inputs(const struct session *s)
{
	return (size_t)s->model->width * s->model->height * s->model->channels;
}

int frames_open(struct session *s, const struct json *args, struct err *err)
{
	int64_t slots;
	struct stat st;
	int r = arg_int(args, "frames", 0, WORKER_FRAMES_MAX, 0, &slots, err);
	if (r < 0 || !slots)
		return r;
	size_t bytes = (size_t)slots * (inputs(s) + s->model->outputs) * sizeof(float);
	if (fstat(WORKER_FRAMES_FD, &st) < 0 || (uint64_t)st.st_size < bytes)
		return err_set(err, -EINVAL, "frames: found no shared memory of %zu bytes", bytes);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_FRAMES_FD, 0);
	if (p == MAP_FAILED)
		return err_errno(err, -errno, "frames: mmap");
	s->frames = p;
	s->n_frames = (uint32_t)slots;
	return 0;
}

static int check_open(const struct session *s, const char *op, struct err *err)
{
	return s->frames ? 0 : err_set(err, -EOPNOTSUPP, "%s: opened without frames", op);
}

int frames_load(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	char weights[FILE_PATH_MAX], id[HASH_SIZE];
	uint64_t seen;
	int r = check_open(s, "load", err);
	if (r == 0)
		r = arg_path(args, "weights", weights, err);
	if (r < 0)
		return r;
	r = dnet_load(s->eval_net, weights, &seen, id, err);
	if (r < 0)
		return r;
	s->frames_loaded = true;
	memset(dnet_input(s->eval_net, 0), 0, inputs(s) * sizeof(float));
	session_predict(s); /* what the first frame would wait for */
	*ret = json_new_obj();
	json_set_str(*ret, "checkpoint", id);
	return 0;
}

int frames_predict(struct session *s, const struct json *args, struct json **ret, struct err *err)
{
	int64_t first, n;
	int r = check_open(s, "predict", err);
	if (r < 0 || (r = arg_int(args, "first", 0, s->n_frames, 0, &first, err)) < 0 ||
	    (r = json_get_int(args, "n", 1, s->n_frames - first, &n, err)) < 0)
		return r;
	if (!s->frames_loaded)
		return err_set(err, -ENODATA, "predict: no weights are loaded");
	size_t n_in = inputs(s), n_out = s->model->outputs;
	float *out = s->frames + s->n_frames * n_in;
	for (size_t i = (size_t)first; i < (size_t)(first + n); i++) {
		dnet_input_at(s->eval_net, s->frames + i * n_in);
		memcpy(out + i * n_out, session_predict(s), n_out * sizeof(float));
	}
	return 0;
}
