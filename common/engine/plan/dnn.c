#include "common/engine/plan/dnn.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int dnn_init(struct dnn *d, struct err *err)
{
	*d = (struct dnn){0};
	if (dnnl_engine_create(&d->engine, dnnl_cpu, 0) != dnnl_success ||
	    dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) != dnnl_success) {
		dnn_done(d);
		return err_set(err, -EIO, "oneDNN does not start");
	}
	return 0;
}

void dnn_done(struct dnn *d)
{
	if (d->stream)
		dnnl_stream_destroy(d->stream);
	if (d->engine)
		dnnl_engine_destroy(d->engine);
	*d = (struct dnn){0};
}

static _Noreturn void die(int code)
{
	errno = code;
	raise(SIGSEGV);
	abort();
}

void dnn_no_memory(void)
{
	die(ENOMEM);
}

void *dnn_alloc(size_t bytes)
{
	size_t whole = (bytes + 63) / 64 * 64;
	void *p = aligned_alloc(64, whole ? whole : 64);
	if (!p)
		die(ENOMEM);
	return memset(p, 0, whole);
}

/* ---- products ---- */

void dnn_product(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda,
		 const float *b, size_t ldb, float keep, float *c, size_t ldc)
{
	if (dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k,
		       1, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, keep, c,
		       (dnnl_dim_t)ldc) != dnnl_success)
		die(ENOMEM);
}

bool dnn_has_product(void)
{
#if defined(__x86_64__)
	return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_sse41) == dnnl_cpu_isa_sse41;
#else
	return false;
#endif
}

/* ---- descriptors ---- */

dnnl_memory_desc_t dnn_dense(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type)
{
	dnnl_memory_desc_t md;
	dnnl_dims_t strides;
	dnnl_dim_t stride = 1;
	for (int i = ndims - 1; i >= 0; i--) {
		strides[i] = stride;
		stride *= dims[i];
	}
	dnnl_memory_desc_init_by_strides(&md, ndims, dims, type, strides);
	return md;
}

dnnl_memory_desc_t dnn_blocked(const dnnl_dims_t dims, dnnl_data_type_t type, size_t block)
{
	dnnl_memory_desc_t md;
	dnnl_memory_desc_init_by_tag(&md, 4, dims, type, block == 16 ? dnnl_nChw16c : dnnl_nChw8c);
	return md;
}

dnnl_memory_desc_t dnn_any(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type)
{
	dnnl_memory_desc_t md;
	dnnl_memory_desc_init_by_tag(&md, ndims, dims, type, dnnl_format_tag_any);
	return md;
}

/* ---- primitives ---- */

/* A fast implementation is one that oneDNN generates for the CPU at hand (jit, brgemm). */
static bool is_fast(const_dnnl_primitive_desc_t desc)
{
	const char *name = NULL;
	dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
	return name && (strstr(name, "jit") || strstr(name, "brg"));
}

static int memory_init(dnnl_memory_t *ret, struct dnn *d, const dnnl_memory_desc_t *md, void *data,
		       struct err *err)
{
	if (dnnl_memory_create(ret, md, d->engine, data) != dnnl_success)
		return err_set(err, -ENOMEM, "oneDNN has no memory");
	return 0;
}

/* Its scratch is the caller's to give: oneDNN would keep as much as the largest needs for good. */
static bool make_desc(struct prim *p, struct dnn *d, const void *op, const_dnnl_post_ops_t post_ops,
		      const_dnnl_primitive_desc_t hint)
{
	dnnl_primitive_attr_t attr;
	if (dnnl_primitive_attr_create(&attr) != dnnl_success)
		return false;
	dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
	if (post_ops)
		dnnl_primitive_attr_set_post_ops(attr, post_ops);
	bool made = dnnl_primitive_desc_create(&p->desc, op, attr, d->engine, hint) == dnnl_success;
	dnnl_primitive_attr_destroy(attr);
	return made;
}

static int make_scratch(struct prim *p, struct dnn *d, struct err *err)
{
	const dnnl_memory_desc_t *md = prim_md(p, dnnl_query_scratchpad_md);
	p->scratch_bytes = dnnl_memory_desc_get_size(md);
	if (!p->scratch_bytes)
		return 0;
	int r = memory_init(&p->scratch, d, md, NULL, err);
	if (r == 0)
		prim_arg(p, DNNL_ARG_SCRATCHPAD, p->scratch);
	return r;
}

int prim_init(struct prim *p, struct dnn *d, const void *op, const_dnnl_post_ops_t post_ops,
	      const_dnnl_primitive_desc_t hint, struct err *err)
{
	*p = (struct prim){0};
	if (!make_desc(p, d, op, post_ops, hint))
		return err_set(err, -EOPNOTSUPP, "oneDNN has no such operation");
	if (!is_fast(p->desc)) {
		prim_done(p);
		return err_set(err, -EOPNOTSUPP, "oneDNN has no fast code for this operation");
	}
	if (dnnl_primitive_create(&p->primitive, p->desc) != dnnl_success) {
		prim_done(p);
		return err_set(err, -ENOMEM, "oneDNN could not make an operation");
	}
	int r = make_scratch(p, d, err);
	if (r < 0)
		prim_done(p);
	return r;
}

void prim_done(struct prim *p)
{
	if (p->primitive)
		dnnl_primitive_destroy(p->primitive);
	if (p->desc)
		dnnl_primitive_desc_destroy(p->desc);
	if (p->scratch)
		dnnl_memory_destroy(p->scratch);
	*p = (struct prim){0};
}

void prim_arg(struct prim *p, int arg, dnnl_memory_t memory)
{
	p->args[p->n_args++] = (dnnl_exec_arg_t){.arg = arg, .memory = memory};
}

const dnnl_memory_desc_t *prim_md(const struct prim *p, dnnl_query_t what)
{
	return dnnl_primitive_desc_query_md(p->desc, what, 0);
}

void prim_run(struct prim *p, struct dnn *d, void *scratch)
{
	if (p->scratch)
		dnnl_memory_set_data_handle(p->scratch, scratch);
	if (dnnl_primitive_execute(p->primitive, d->stream, p->n_args, p->args) != dnnl_success ||
	    dnnl_stream_wait(d->stream) != dnnl_success)
		die(ENOMEM);
}

/* ---- ports ---- */

int reorder_init(struct reorder *r, struct dnn *d, const dnnl_memory_desc_t *from,
		 const dnnl_memory_desc_t *to, struct err *err)
{
	*r = (struct reorder){.bytes = dnnl_memory_desc_get_size(from)};
	if (dnnl_memory_desc_equal(from, to))
		return 0;
	if (dnnl_reorder_primitive_desc_create(&r->prim.desc, from, d->engine, to, d->engine,
					       NULL) != dnnl_success ||
	    dnnl_primitive_create(&r->prim.primitive, r->prim.desc) != dnnl_success)
		return err_set(err, -EOPNOTSUPP, "oneDNN cannot reorder this");
	int e = memory_init(&r->from, d, from, NULL, err);
	if (e == 0)
		e = memory_init(&r->to, d, to, NULL, err);
	prim_arg(&r->prim, DNNL_ARG_FROM, r->from);
	prim_arg(&r->prim, DNNL_ARG_TO, r->to);
	return e;
}

void reorder_done(struct reorder *r)
{
	prim_done(&r->prim);
	if (r->from)
		dnnl_memory_destroy(r->from);
	if (r->to)
		dnnl_memory_destroy(r->to);
	*r = (struct reorder){0};
}

void reorder_run(struct reorder *r, struct dnn *d, const void *from, void *to)
{
	if (!r->prim.primitive) {
		memcpy(to, from, r->bytes);
		return;
	}
	dnnl_memory_set_data_handle(r->from, (void *)(uintptr_t)from);
	dnnl_memory_set_data_handle(r->to, to);
	prim_run(&r->prim, d, NULL);
}

int port_init(struct port *p, struct dnn *d, const dnnl_memory_desc_t *outer,
	      const dnnl_memory_desc_t *inner, bool out, struct err *err)
{
	*p = (struct port){.out = out};
	int r = memory_init(&p->inner, d, inner, NULL, err);
	if (r < 0 || dnnl_memory_desc_equal(outer, inner))
		return r;
	p->copy_bytes = dnnl_memory_desc_get_size(inner);
	return reorder_init(&p->reorder, d, out ? inner : outer, out ? outer : inner, err);
}

void port_done(struct port *p)
{
	reorder_done(&p->reorder);
	if (p->inner)
		dnnl_memory_destroy(p->inner);
	free(p->copy);
	*p = (struct port){0};
}

void port_rest(struct port *p)
{
	free(p->copy);
	p->copy = NULL;
}

void port_set(struct port *p, struct dnn *d, void *buffer)
{
	p->buffer = buffer;
	if (p->copy_bytes && !p->copy)
		p->copy = dnn_alloc(p->copy_bytes);
	dnnl_memory_set_data_handle(p->inner, p->copy ? p->copy : buffer);
	if (p->copy && !p->out)
		reorder_run(&p->reorder, d, buffer, p->copy);
}

void port_flush(struct port *p, struct dnn *d)
{
	if (p->copy && p->out)
		reorder_run(&p->reorder, d, p->copy, p->buffer);
}
