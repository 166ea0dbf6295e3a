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
#include "common/checkpoint/weights_edit.h"

void edit_close(struct edit *e)
{
	for (size_t i = 0; i < e->n; i++)
		stream_close(&e->in[i]);
	free(e->out);
	free(e->sum);
	free(e->mean);
	free(e->own_mean);
}

int edit_open(struct edit *e, const struct model *m, const char *const *paths, size_t n,
	      struct err *err)
{
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = weights_check(m, paths[i], NULL, NULL, err);
	for (; e->n < n && r == 0; e->n++)
		r = stream_open(&e->in[e->n], m, paths[e->n], err);
	if (r < 0)
		return r;
	e->m = m;
	e->out = malloc(WEIGHTS_BUFFER);
	return e->out ? 0 : err_errno(err, -ENOMEM, "%s", paths[0]);
}

/* One buffer: read, edited, screened, written. */
static int edit_step(struct edit *e, edit_fn fn, int fd, const char *out, struct err *err)
{
	struct weights_piece p;
	int r = 0;
	for (size_t i = 0; i < e->n && r == 0; i++)
		r = stream_next(&e->in[i], err);
	while (r == 0 && stream_piece(&e->in[0], &p)) {
		const uint32_t *bits = e->out + p.from;
		r = fn(e, &p, err);
		if (r < 0)
			return r;
		size_t bad =
			weights_screen(bits, p.n, e->m->tensors[p.tensor].kind == TENSOR_VARIANCE);
		if (bad < p.n)
			return weights_bad_value(e->m, out, p.tensor, p.first + bad, bits[bad],
						 err);
	}
	if (r < 0)
		return r;
	r = file_write_all(fd, e->out, 4 * e->in[0].n);
	return r < 0 ? err_errno(err, r, "%s", out) : 0;
}

int edit_run(struct edit *e, edit_fn fn, const uint8_t header[WEIGHTS_HEADER_SIZE], const char *out,
	     struct err *err)
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
		if (e->in[0].n == 0)
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

double edit_value(const uint32_t *bits)
{
	float f;
	memcpy(&f, bits, sizeof(f));
	return (double)f;
}

/* In double: no overflow, and a sum of a value with itself is that value. An input that is all of
 * the sum is copied, to the bit (0 * x + -0 would be +0). */
static int sum_piece(const struct edit *e, const struct weights_piece *p, struct err *err)
{
	uint32_t *out = e->out + p->from;
	for (size_t k = 0; k < e->n; k++) {
		if (e->shares[k] == 1) {
			memcpy(out, e->in[k].buf + p->from, 4 * p->n);
			return 0;
		}
	}
	for (size_t i = 0; i < p->n; i++) {
		double sum = e->shares[0] * edit_value(&e->in[0].buf[p->from + i]);
		for (size_t k = 1; k < e->n; k++)
			sum += e->shares[k] * edit_value(&e->in[k].buf[p->from + i]);
		float f = (float)sum;
		memcpy(&out[i], &f, sizeof(f));
	}
	return 0;
}

/* The header of the input that has seen most images. */
static const uint8_t *newest_header(const struct edit *e)
{
	const struct weights_stream *newest = &e->in[0];
	for (size_t i = 1; i < e->n; i++)
		if (e->in[i].header.seen > newest->header.seen)
			newest = &e->in[i];
	return newest->raw;
}

/* The header in the middle by images seen (of two, the lower one): what it says is the word of
 * whoever made the input, and one forged count must not be what all the others train on from. */
static const uint8_t *middle_header(const struct edit *e)
{
	const struct weights_stream *middle = &e->in[0];
	for (size_t i = 0; i < e->n; i++) {
		size_t below = 0;
		for (size_t k = 0; k < e->n; k++)
			below += e->in[k].header.seen < e->in[i].header.seen ||
				 (e->in[k].header.seen == e->in[i].header.seen && k < i);
		if (below == (e->n - 1) / 2)
			middle = &e->in[i];
	}
	return middle->raw;
}

int weights_blend(const struct model *m, const char *a, const char *b, double alpha,
		  const char *out, struct err *err)
{
	if (!(alpha >= 0 && alpha <= 1))
		return err_set(err, -EINVAL, "alpha: found %g, expected 0 to 1", alpha);
	_cleanup_(edit_close) struct edit e = {.shares = {1 - alpha, alpha}};
	int r = edit_open(&e, m, (const char *[]){a, b}, 2, err);
	return r < 0 ? r : edit_run(&e, sum_piece, newest_header(&e), out, err);
}

/* The rolling means that belong to a piece of variances, of input k; they lie elsewhere in the
 * file. */
static int read_means(const struct edit *e, size_t k, const struct weights_piece *p,
		      struct err *err)
{
	const struct weights_stream *s = &e->in[k];
	const struct tensor *t = &e->m->tensors[p->tensor];
	while (t->kind != TENSOR_MEAN) /* before it, in the same layer */
		t--;
	ssize_t n = file_read_at(s->fd, e->own_mean, 4 * p->n,
				 WEIGHTS_HEADER_SIZE + 4 * (t->offset + p->first));
	if (n < 0)
		return err_errno(err, (int)n, "%s", s->path);
	return (size_t)n == 4 * p->n
		       ? 0
		       : err_set(err, -EBADMSG, "%s: its size changed while it was read", s->path);
}

/* The variance of all that the inputs have seen is that within each, and that of their means. */
static int pool_variances(const struct edit *e, const struct weights_piece *p, struct err *err)
{
	memset(e->mean, 0, p->n * sizeof(*e->mean));
	memset(e->sum, 0, p->n * sizeof(*e->sum));
	for (size_t k = 0; k < e->n; k++) {
		int r = read_means(e, k, p, err);
		if (r < 0)
			return r;
		for (size_t i = 0; i < p->n; i++)
			e->mean[i] += e->shares[k] * (double)e->own_mean[i];
	}
	for (size_t k = 0; k < e->n; k++) {
		int r = read_means(e, k, p, err);
		if (r < 0)
			return r;
		for (size_t i = 0; i < p->n; i++) {
			double away = (double)e->own_mean[i] - e->mean[i];
			double own = edit_value(&e->in[k].buf[p->from + i]);
			e->sum[i] += e->shares[k] * (own + away * away);
		}
	}
	for (size_t i = 0; i < p->n; i++) {
		float f = (float)e->sum[i];
		memcpy(&e->out[p->from + i], &f, sizeof(f));
	}
	return 0;
}

static int merge_piece(const struct edit *e, const struct weights_piece *p, struct err *err)
{
	bool variance = e->m->tensors[p->tensor].kind == TENSOR_VARIANCE;
	return variance ? pool_variances(e, p, err) : sum_piece(e, p, err);
}

static int take_shares(struct edit *e, const struct weights_input *inputs, size_t n,
		       const char **paths, struct err *err)
{
	double sum = 0;
	if (n < 2 || n > WEIGHTS_INPUTS_MAX)
		return err_set(err, -EINVAL, "inputs: found %zu, expected 2 to %d", n,
			       WEIGHTS_INPUTS_MAX);
	for (size_t i = 0; i < n; i++) {
		paths[i] = inputs[i].path;
		sum += inputs[i].share;
		if (!(inputs[i].share > 0 && inputs[i].share <= WEIGHTS_SHARE_MAX))
			return err_set(err, -EINVAL,
				       "%s: share: found %g, expected more than 0, at most %g",
				       inputs[i].path, inputs[i].share, WEIGHTS_SHARE_MAX);
	}
	for (size_t i = 0; i < n; i++)
		e->shares[i] = inputs[i].share / sum;
	return 0;
}

int weights_merge(const struct model *m, const struct weights_input *inputs, size_t n,
		  const char *out, struct err *err)
{
	_cleanup_(edit_close) struct edit e = {0};
	const char *paths[WEIGHTS_INPUTS_MAX];
	int r = take_shares(&e, inputs, n, paths, err);
	if (r == 0)
		r = edit_open(&e, m, paths, n, err);
	if (r < 0)
		return r;
	e.sum = malloc(WEIGHTS_BUFFER_FLOATS * sizeof(*e.sum));
	e.mean = malloc(WEIGHTS_BUFFER_FLOATS * sizeof(*e.mean));
	e.own_mean = malloc(WEIGHTS_BUFFER);
	if (!e.sum || !e.mean || !e.own_mean)
		return err_errno(err, -ENOMEM, "%s", out);
	return edit_run(&e, merge_piece, middle_header(&e), out, err);
}

size_t edit_before_rows(const struct edit *e, const struct weights_piece *p)
{
	const struct tensor *t = &e->m->tensors[p->tensor];
	uint64_t from = t->count / t->rows * e->first_row;
	if (t->layer != e->graft_layer || p->first + p->n <= from)
		return p->n;
	return from > p->first ? (size_t)(from - p->first) : 0;
}

/* Rows first_row.. of the tensors of the output layer come from a second input, or are zero. */
static int graft_piece(const struct edit *e, const struct weights_piece *p, struct err *err)
{
	uint32_t *out = e->out + p->from;
	memcpy(out, e->in[0].buf + p->from, 4 * p->n);
	size_t skip = edit_before_rows(e, p);
	if (e->n > 1)
		memcpy(out + skip, e->in[1].buf + p->from + skip, 4 * (p->n - skip));
	else
		memset(out + skip, 0, 4 * (p->n - skip));
	return 0;
}

int weights_graft(const struct model *m, const char *base, const char *rows, uint32_t first_row,
		  const char *out, struct err *err)
{
	_cleanup_(edit_close) struct edit e = {.first_row = first_row};
	int r = e.graft_layer = model_output_layer(m, err);
	if (r >= 0)
		r = edit_open(&e, m, (const char *[]){base, rows}, rows ? 2 : 1, err);
	return r < 0 ? r : edit_run(&e, graft_piece, e.in[0].raw, out, err);
}
