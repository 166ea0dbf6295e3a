/* Weights files made from others. Output goes to OUT.tmp beside OUT and takes its name by rename
 * when it is complete and synced, so an input may be the output, too. Inputs are checked in full
 * first and every value is screened again as it is written: what they become between the two
 * passes cannot get through. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"
#include "common/checkpoint/weights_stream.h"

struct edit {
	const struct model *m;
	struct weights_stream a, b; /* b: fd -1 when there is only one input */
	uint32_t *out;              /* as large as a.buf */
	double alpha;
	uint32_t first_row; /* of weights_graft */
	int graft_layer;
};

typedef void (*edit_fn)(const struct edit *e, const struct weights_piece *p);

static void edit_close(struct edit *e)
{
	stream_close(&e->a);
	stream_close(&e->b);
	free(e->out);
}

static int edit_open(struct edit *e, const struct model *m, const char *a, const char *b,
		     struct err *err)
{
	int r = weights_check(m, a, NULL, NULL, err);
	if (r == 0 && b)
		r = weights_check(m, b, NULL, NULL, err);
	if (r == 0)
		r = stream_open(&e->a, m, a, err);
	if (r == 0 && b)
		r = stream_open(&e->b, m, b, err);
	if (r < 0)
		return r;
	e->m = m;
	e->out = malloc(WEIGHTS_BUFFER);
	return e->out ? 0 : err_errno(err, -ENOMEM, "%s", a);
}

/* One buffer: read, edited, screened, written. */
static int edit_step(struct edit *e, edit_fn fn, int fd, const char *out, struct err *err)
{
	struct weights_piece p;
	int r = stream_next(&e->a, err);
	if (r == 0 && e->b.fd >= 0)
		r = stream_next(&e->b, err);
	while (r == 0 && stream_piece(&e->a, &p)) {
		fn(e, &p);
		const uint32_t *bits = e->out + p.from;
		size_t bad =
			weights_screen(bits, p.n, e->m->tensors[p.tensor].kind == TENSOR_VARIANCE);
		if (bad < p.n)
			return weights_bad_value(e->m, out, p.tensor, p.first + bad, bits[bad],
						 err);
	}
	if (r < 0)
		return r;
	r = file_write_all(fd, e->out, 4 * e->a.n);
	return r < 0 ? err_errno(err, r, "%s", out) : 0;
}

static int edit_run(struct edit *e, edit_fn fn, const uint8_t header[WEIGHTS_HEADER_SIZE],
		    const char *out, struct err *err)
{
	char tmp[FILE_PATH_MAX];
	int r = file_path(tmp, sizeof(tmp), "%s.tmp", out);
	if (r < 0)
		return err_errno(err, r, "%s", out);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return err_errno(err, -errno, "%s", tmp);
	r = file_write_all(fd, header, WEIGHTS_HEADER_SIZE);
	if (r < 0)
		err_errno(err, r, "%s", tmp);
	while (r == 0) {
		r = edit_step(e, fn, fd, tmp, err);
		if (e->a.n == 0)
			break;
	}
	if (r == 0 && fsync(fd) < 0)
		r = err_errno(err, -errno, "%s", tmp);
	if (close(fd) < 0 && r == 0)
		r = err_errno(err, -errno, "%s", tmp);
	if (r == 0)
		r = file_rename(tmp, out, err);
	if (r < 0)
		unlink(tmp);
	return r;
}

/* In double: no overflow, and a blend of a value with itself is that value. The ends are copies,
 * to the bit (0 * x + -0 would be +0). */
static void blend_piece(const struct edit *e, const struct weights_piece *p)
{
	const uint32_t *a = e->a.buf + p->from, *b = e->b.buf + p->from;
	uint32_t *out = e->out + p->from;
	if (e->alpha == 0 || e->alpha == 1) {
		memcpy(out, e->alpha == 0 ? a : b, 4 * p->n);
		return;
	}
	for (size_t i = 0; i < p->n; i++) {
		float fa, fb;
		memcpy(&fa, &a[i], 4);
		memcpy(&fb, &b[i], 4);
		float f = (float)((1 - e->alpha) * (double)fa + e->alpha * (double)fb);
		memcpy(&out[i], &f, 4);
	}
}

int weights_blend(const struct model *m, const char *a, const char *b, double alpha,
		  const char *out, struct err *err)
{
	if (!(alpha >= 0 && alpha <= 1))
		return err_set(err, -EINVAL, "alpha: found %g, expected 0 to 1", alpha);
	_cleanup_(edit_close) struct edit e = {.a.fd = -1, .b.fd = -1, .alpha = alpha};
	int r = edit_open(&e, m, a, b, err);
	if (r < 0)
		return r;
	bool b_newer = e.b.header.seen > e.a.header.seen;
	return edit_run(&e, blend_piece, b_newer ? e.b.raw : e.a.raw, out, err);
}

/* Rows first_row.. of the tensors of the output layer come from b, or are zero. */
static void graft_piece(const struct edit *e, const struct weights_piece *p)
{
	const struct tensor *t = &e->m->tensors[p->tensor];
	uint32_t *out = e->out + p->from;
	memcpy(out, e->a.buf + p->from, 4 * p->n);
	uint64_t from = t->count / t->rows * e->first_row;
	if (t->layer != e->graft_layer || p->first + p->n <= from)
		return;
	size_t skip = from > p->first ? (size_t)(from - p->first) : 0;
	if (e->b.fd >= 0)
		memcpy(out + skip, e->b.buf + p->from + skip, 4 * (p->n - skip));
	else
		memset(out + skip, 0, 4 * (p->n - skip));
}

/* The last layer with weights, if its rows are the model's outputs; else -1. */
static int output_layer(const struct model *m)
{
	static const char *const keep_order[] = {"avgpool", "softmax",    "cost",
						 "dropout", "activation", "logistic"};
	if (m->n_tensors == 0 || m->tensors[m->n_tensors - 1].rows != m->outputs)
		return -1;
	int layer = m->tensors[m->n_tensors - 1].layer;
	for (size_t i = (size_t)layer + 1; i < m->n_layers; i++) {
		size_t k = 0;
		while (k < ARRAY_LEN(keep_order) && strcmp(m->layers[i].type, keep_order[k]))
			k++;
		if (k == ARRAY_LEN(keep_order))
			return -1;
	}
	return layer;
}

int weights_graft(const struct model *m, const char *base, const char *rows, uint32_t first_row,
		  const char *out, struct err *err)
{
	_cleanup_(edit_close) struct edit e = {.a.fd = -1, .b.fd = -1, .first_row = first_row};
	e.graft_layer = output_layer(m);
	if (e.graft_layer < 0)
		return err_set(err, -EOPNOTSUPP,
			       "%s: found no layer whose weights have one row for each of the %u "
			       "outputs",
			       m->cfg_path, m->outputs);
	int r = edit_open(&e, m, base, rows, err);
	return r < 0 ? r : edit_run(&e, graft_piece, e.a.raw, out, err);
}
