/* See op.h. A conversion goes slice by slice, shared among the threads. */
#include <string.h>

#include "common/engine/plan/op.h"

size_t blob_blocks(const struct plan *p, const struct blob *b)
{
	return (b->c + p->k->block - 1) / p->k->block;
}

size_t blob_slice_bytes(const struct plan *p, const struct blob *b)
{
	return b->h * b->w * p->k->block * p->k->elem_bytes;
}

void blob_init(struct blob *b, const struct plan *p, size_t n, size_t c, size_t h, size_t w,
	       float *plain_data, float *plain_delta)
{
	*b = (struct blob){.n = n, .c = c, .h = h, .w = w, .plain_floats = n * c * h * w};
	b->data[PLAIN] = plain_data;
	b->delta[PLAIN] = plain_delta;
	b->blocked_elems = n * blob_blocks(p, b) * h * w * p->k->block;
}

void blob_blocked(struct blob *b)
{
	b->blocked = true;
}

static size_t bytes_of(const struct plan *p, const struct blob *b, enum rep rep)
{
	return rep == PLAIN ? b->plain_floats * sizeof(float)
			    : b->blocked_elems * p->k->elem_bytes;
}

/* In training the way back reads what the way there wrote. A gradient is written by those that
 * read the blob, the last of them first, and read by who wrote it, in the first of its steps. */
void blob_place(struct plan *p, struct blob *b, int first, int last)
{
	if (!b->blocked)
		return;
	int back = plan_back_step(p, first);
	size_t bytes = bytes_of(p, b, BLOCKED);
	plan_region(p, &b->data_at, bytes, first, p->conf.training ? back : last);
	if (!p->conf.training || b->no_delta)
		return;
	int late = last < p->net->n ? p->ops[last].delta_late : 0;
	plan_region(p, &b->delta_at, bytes, plan_back_step(p, last) + late, back);
}

void blob_begin(struct plan *p, struct blob *b)
{
	memset(b->has, 0, sizeof(b->has));
	memset(b->owed, 0, sizeof(b->owed));
	b->data[BLOCKED] = arena_at(&p->arena, &b->data_at);
	b->delta[BLOCKED] = arena_at(&p->arena, &b->delta_at);
}

dnnl_memory_desc_t blob_md(const struct plan *p, const struct blob *b, enum rep rep)
{
	const dnnl_dims_t dims = {(dnnl_dim_t)b->n, (dnnl_dim_t)b->c, (dnnl_dim_t)b->h,
				  (dnnl_dim_t)b->w};
	return rep == PLAIN ? dnn_dense(4, dims, dnnl_f32) : dnn_blocked(dims, p->type, p->k->block);
}

struct conversion {
	const struct plan *p;
	const struct blob *b;
	float *plain;
	char *blocked;
	bool to_plain, add;
};

static void convert_part(void *arg, int thread, int threads)
{
	const struct conversion *v = arg;
	const struct blob *b = v->b;
	const struct kernels *k = v->p->k;
	size_t blocks = blob_blocks(v->p, b), bytes = blob_slice_bytes(v->p, b), hw = b->h * b->w;
	size_t i, to;
	par_share(b->n * blocks, thread, threads, &i, &to);
	for (; i < to; i++) {
		size_t image = i / blocks, block = i % blocks;
		float *planes = v->plain + (image * b->c + block * k->block) * hw;
		size_t left = b->c - block * k->block, c = left < k->block ? left : k->block;
		if (v->to_plain)
			k->to_planes(v->blocked + i * bytes, planes, hw, c, v->add);
		else
			k->from_planes(planes, v->blocked + i * bytes, hw, c);
	}
}

static void convert(struct plan *p, const struct blob *b, void *plain, void *blocked,
		    bool to_plain, bool add)
{
	struct conversion v = {p, b, plain, blocked, to_plain, add};
	par_run(p->conf.threads, convert_part, &v);
}

void *blob_write(struct plan *p, struct blob *b, enum rep rep)
{
	b->has[rep] = true;
	b->has[!rep] = false;
	return b->data[rep];
}

void *blob_read(struct plan *p, struct blob *b, enum rep rep)
{
	if (!b->has[rep])
		convert(p, b, b->data[PLAIN], b->data[BLOCKED], rep == PLAIN, false);
	b->has[rep] = true;
	return b->data[rep];
}

void *blob_delta(struct plan *p, struct blob *b, enum rep rep, bool *ret_add)
{
	*ret_add = b->owed[rep];
	b->owed[rep] = true;
	return b->delta[rep];
}

void *blob_delta_add(struct plan *p, struct blob *b, enum rep rep)
{
	bool add;
	void *d = blob_delta(p, b, rep, &add);
	return add ? d : memset(d, 0, bytes_of(p, b, rep));
}

void *blob_delta_read(struct plan *p, struct blob *b, enum rep rep)
{
	bool both = b->owed[PLAIN] && b->owed[BLOCKED], other = b->owed[!rep] && !b->owed[rep];
	void *to = b->delta[rep];
	if (!b->owed[rep] && !other)
		memset(to, 0, bytes_of(p, b, rep));
	if (other)
		convert(p, b, b->delta[PLAIN], b->delta[BLOCKED], rep == PLAIN, false);
	if (both && rep == PLAIN)
		convert(p, b, b->delta[PLAIN], b->delta[BLOCKED], true, true);
	if (both && rep == BLOCKED) {
		void *more = plan_scratch(p, bytes_of(p, b, BLOCKED));
		convert(p, b, b->delta[PLAIN], more, false, false);
		blob_delta_sum(p, b, BLOCKED, more);
	}
	b->owed[rep] = true;
	b->owed[!rep] = false;
	return to;
}

struct sum {
	const struct plan *p;
	char *x;
	const char *y;
	size_t n;
	enum rep rep;
};

static void sum_part(void *arg, int thread, int threads)
{
	const struct sum *s = arg;
	size_t from, to, unit = KERNELS_BLOCK_MAX;
	par_share((s->n + unit - 1) / unit, thread, threads, &from, &to);
	size_t begin = from * unit, end = to * unit < s->n ? to * unit : s->n;
	if (begin >= end)
		return;
	if (s->rep == PLAIN) {
		s->p->flat->add((float *)s->x + begin, (const float *)s->y + begin, end - begin);
	} else {
		size_t bytes = s->p->k->elem_bytes;
		s->p->k->add(s->x + begin * bytes, s->y + begin * bytes, end - begin);
	}
}

void op_add(struct plan *p, enum rep rep, void *x, const void *y, size_t n)
{
	struct sum s = {p, x, y, n, rep};
	par_run(p->conf.threads, sum_part, &s);
}

void blob_delta_sum(struct plan *p, struct blob *b, enum rep rep, const void *y)
{
	op_add(p, rep, b->delta[rep], y, rep == PLAIN ? b->plain_floats : b->blocked_elems);
}
