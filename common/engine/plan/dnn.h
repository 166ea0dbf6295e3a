/* oneDNN's primitives with their memory: the little of its C API that the operations share.
 * Buffers belong to the caller unless said otherwise. */
#pragma once

#include <dnnl.h>
#include <stdbool.h>

#include "common/base/err.h"

struct dnn {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
};

int dnn_init(struct dnn *d, struct err *err);
void dnn_done(struct dnn *d);

/* Out of memory ends the process, as it does in Darknet: see worker_main.c, on_fault(). */
_Noreturn void dnn_no_memory(void);
/* 64-byte aligned, zeroed, or dnn_no_memory(). */
void *dnn_alloc(size_t bytes);

/* Row-major float32 products, c = op(a) * op(b) + keep * c with op(a) m x k and op(b) k x n; a row
 * every lda, ldb, ldc floats. On the calling thread where that is one of par_run()'s. */
void dnn_product(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda,
		 const float *b, size_t ldb, float keep, float *c, size_t ldc);
/* Are they fast here? oneDNN's own code for other processors is a loop for reference. */
bool dnn_has_product(void);

/* Descriptors. Dense: row-major, as Darknet lays out everything. */
dnnl_memory_desc_t dnn_dense(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type);
/* NCHW in blocks of 8 or 16 channels. */
dnnl_memory_desc_t dnn_blocked(const dnnl_dims_t dims, dnnl_data_type_t type, size_t block);
dnnl_memory_desc_t dnn_any(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type);

/* One primitive. */
#define DNN_ARGS_MAX 6
struct prim {
	dnnl_primitive_desc_t desc;
	dnnl_primitive_t primitive;
	dnnl_exec_arg_t args[DNN_ARGS_MAX];
	int n_args;
	size_t scratch_bytes;
	dnnl_memory_t scratch; /* NULL: it needs none */
};
/* From an operation descriptor; -EOPNOTSUPP when oneDNN has only reference code for it, or none.
 * NULL allowed: post_ops, hint. */
int prim_init(struct prim *p, struct dnn *d, const void *op, const_dnnl_post_ops_t post_ops,
	      const_dnnl_primitive_desc_t hint, struct err *err);
void prim_done(struct prim *p);
void prim_arg(struct prim *p, int arg, dnnl_memory_t memory);
const dnnl_memory_desc_t *prim_md(const struct prim *p, dnnl_query_t what);
/* scratch: scratch_bytes, for this run. */
void prim_run(struct prim *p, struct dnn *d, void *scratch);

/* From one layout to another; a copy where they are the same. */
struct reorder {
	struct prim prim;
	dnnl_memory_t from, to;
	size_t bytes;
};
int reorder_init(struct reorder *r, struct dnn *d, const dnnl_memory_desc_t *from,
		 const dnnl_memory_desc_t *to, struct err *err);
void reorder_done(struct reorder *r);
void reorder_run(struct reorder *r, struct dnn *d, const void *from, void *to);

/* A buffer as its owner has it and as a primitive wants it; the same memory where the two
 * agree, else a copy that is reordered in or out. */
struct port {
	dnnl_memory_t inner; /* what the primitive is given */
	struct reorder reorder;
	size_t copy_bytes; /* 0: the layouts agree */
	void *copy, *buffer;
	bool out;
};
int port_init(struct port *p, struct dnn *d, const dnnl_memory_desc_t *outer,
	      const dnnl_memory_desc_t *inner, bool out, struct err *err);
void port_done(struct port *p);
/* Drops the copy until the next port_set(). */
void port_rest(struct port *p);
/* The buffer for the next run; reads it in now if it goes in. */
void port_set(struct port *p, struct dnn *d, void *buffer);
/* After a run: writes out what goes out. */
void port_flush(struct port *p, struct dnn *d);
