/* Checks and measures; what makes a new file is in weights_edit.c. */
#include "common/checkpoint/weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/checkpoint/weights_stream.h"
#include "common/crypto/hash.h"

static void hash_freep(struct hash **h)
{
	hash_free(*h);
}

/* What is in the buffer: into the hash, and every value looked at. */
static int check_buffer(struct weights_stream *s, struct hash *h, struct err *err)
{
	struct weights_piece p;
	int r = h ? hash_update(h, s->buf, 4 * s->n) : 0;
	if (r < 0)
		return err_errno(err, r, "%s", s->path);
	while (stream_piece(s, &p)) {
		const uint32_t *bits = s->buf + p.from;
		size_t bad =
			weights_screen(bits, p.n, s->m->tensors[p.tensor].kind == TENSOR_VARIANCE);
		if (bad < p.n)
			return weights_bad_value(s->m, s->path, p.tensor, p.first + bad, bits[bad],
						 err);
	}
	return 0;
}

int weights_check(const struct model *m, const char *path, struct weights_header *ret,
		  char id[HASH_SIZE], struct err *err)
{
	_cleanup_(stream_close) struct weights_stream s = {.fd = -1};
	_cleanup_(hash_freep) struct hash *h = NULL;
	int r = stream_open(&s, m, path, err);
	if (r < 0)
		return r;
	if (id && ((r = hash_new(&h)) < 0 || (r = hash_update(h, s.raw, sizeof(s.raw))) < 0))
		return err_errno(err, r, "%s", path);
	do {
		r = stream_next(&s, err);
		if (r == 0)
			r = check_buffer(&s, h, err);
	} while (r == 0 && s.n > 0);
	char hex[HASH_SIZE];
	if (r == 0 && h && (r = hash_hex(h, hex)) < 0)
		err_errno(err, r, "%s", path);
	if (r < 0)
		return r;
	if (id)
		memcpy(id, hex, HASH_SIZE);
	if (ret)
		*ret = s.header;
	return 0;
}

static void add_stats(struct weights_stat *st, double *sum, double *squares, const uint32_t *bits,
		      size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float f;
		memcpy(&f, &bits[i], sizeof(f));
		double v = (double)f;
		*sum += v;
		*squares += v * v;
		st->min = MIN_OF(st->min, v);
		st->max = MAX_OF(st->max, v);
		st->zeros += v == 0;
	}
}

int weights_stats(const struct model *m, const char *path, struct weights_stat *ret,
		  struct err *err)
{
	_cleanup_(stream_close) struct weights_stream s = {.fd = -1};
	_cleanup_free_ struct weights_stat *st = calloc(m->n_tensors + 1, sizeof(*st));
	double sum = 0, squares = 0;
	struct weights_piece p;
	int r = st ? stream_open(&s, m, path, err) : err_errno(err, -ENOMEM, "%s", path);
	if (r < 0)
		return r;
	do {
		r = stream_next(&s, err);
		while (r == 0 && stream_piece(&s, &p)) {
			const struct tensor *t = &m->tensors[p.tensor];
			struct weights_stat *w = &st[p.tensor];
			if (p.first == 0) {
				sum = squares = 0;
				*w = (struct weights_stat){.min = INFINITY, .max = -INFINITY};
			}
			add_stats(w, &sum, &squares, s.buf + p.from, p.n);
			if (p.first + p.n == t->count) {
				w->mean = sum / (double)t->count;
				w->l2 = sqrt(squares);
			}
		}
	} while (r == 0 && s.n > 0);
	if (r == 0 && m->n_tensors)
		memcpy(ret, st, m->n_tensors * sizeof(*st));
	return r;
}

static double squared_distance(const uint32_t *a, const uint32_t *b, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++) {
		float f, g;
		memcpy(&f, &a[i], sizeof(f));
		memcpy(&g, &b[i], sizeof(g));
		sum += ((double)f - (double)g) * ((double)f - (double)g);
	}
	return sum;
}

int weights_distance(const struct model *m, const char *path, const char *from, double *ret,
		     struct err *err)
{
	_cleanup_(stream_close) struct weights_stream a = {.fd = -1}, b = {.fd = -1};
	struct weights_piece p;
	double sum = 0;
	int r = stream_open(&a, m, path, err);
	if (r == 0)
		r = stream_open(&b, m, from, err);
	if (r < 0)
		return r;
	do {
		r = stream_next(&a, err);
		if (r == 0)
			r = stream_next(&b, err);
		while (r == 0 && stream_piece(&a, &p)) {
			enum tensor_kind kind = m->tensors[p.tensor].kind;
			if (kind == TENSOR_WEIGHT || kind == TENSOR_SCALE)
				sum += squared_distance(a.buf + p.from, b.buf + p.from, p.n);
		}
	} while (r == 0 && a.n > 0);
	if (r == 0)
		*ret = sqrt(sum);
	return r;
}
