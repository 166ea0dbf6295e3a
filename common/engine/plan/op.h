/* Inside the plan: blobs (what flows between layers), parameters and operations. */
#pragma once

#include <darknet.h>

#include "common/base/err.h"
#include "common/engine/plan/arena.h"
#include "common/engine/plan/dnn.h"
#include "common/engine/plan/kernels.h"
#include "common/engine/plan/par.h"
#include "common/engine/plan/plan.h"

/* Darknet's, not in darknet.h. */
void activate_array(float *x, int n, ACTIVATION a);
void gradient_array(const float *x, int n, ACTIVATION a, float *delta);

/* A blob is the output of a layer (or the network's input) for one batch, and its gradient. Each
 * exists in up to two representations: PLAIN, float32 NCHW in Darknet's own arrays, and BLOCKED
 * (kernels.h) in the plan's. Data is converted when somebody asks for what is not there.
 * Gradients are sums over the consumers, kept by representation and brought together when the
 * producer asks. */
enum rep { PLAIN, BLOCKED, REPS };

struct blob {
	size_t n, c, h, w;
	size_t plain_floats, blocked_elems; /* of the batch */
	void *data[REPS], *delta[REPS];
	bool has[REPS], owed[REPS];
	bool no_delta; /* the network's input */
	/* BLOCKED, if an operation asks for it: where it lies in the plan's arena. */
	bool blocked;
	struct region data_at, delta_at;
};

struct op;
struct op_class {
	void (*forward)(struct op *o, bool train);
	void (*backward)(struct op *o);
	void (*update)(struct op *o, const update_args *a);
	/* Darknet's arrays to the plan's and back. */
	void (*weights_in)(struct op *o);
	void (*weights_out)(struct op *o);
	void (*rest)(struct op *o); /* see plan_rest() */
	void (*free)(struct op *o);
};

struct op {
	const struct op_class *class;
	struct plan *plan;
	layer *l;
	int index;
	struct blob *in, *out;
	void *own;		  /* of the class */
	struct param *param;	  /* weights, NULL: none, or in Darknet's arrays */
	bool fast;		  /* oneDNN computes it */
	int delta_late;		  /* of its steps back, the one that writes its input's gradient */
};

struct plan {
	network *net;
	struct plan_conf conf;
	struct dnn dnn;
	const struct kernels *k; /* of blocked blobs */
	const struct kernels_flat *flat;
	dnnl_data_type_t type; /* of blocked blobs */
	struct blob input;
	struct blob **blobs; /* by layer; layers that share one (in place, fused) share it */
	struct op *ops;	     /* by layer; class NULL: fused into the one before */
	struct arena arena; /* of BLOCKED blobs, and what operations need meanwhile */
	bool settling; /* the statistics are being measured anew, and so many batches are in them */
	unsigned settled;
	float *scratch; /* of the largest gradient that had to be added */
	size_t scratch_bytes;
};

/* ---- blob.c ---- */
void blob_init(struct blob *b, const struct plan *p, size_t n, size_t c, size_t h, size_t w,
	       float *plain_data, float *plain_delta);
/* While operations are made: one that reads or writes it BLOCKED says so. */
void blob_blocked(struct blob *b);
/* When they are: from the operation that writes it to the last that reads it. */
void blob_place(struct plan *p, struct blob *b, int first, int last);
/* The addresses of this run; nothing is in them yet. */
void blob_begin(struct plan *p, struct blob *b);
size_t blob_blocks(const struct plan *p, const struct blob *b); /* slices of an image */
size_t blob_slice_bytes(const struct plan *p, const struct blob *b);
dnnl_memory_desc_t blob_md(const struct plan *p, const struct blob *b, enum rep rep);
/* The buffer that is about to be filled whole in this representation. */
void *blob_write(struct plan *p, struct blob *b, enum rep rep);
void *blob_read(struct plan *p, struct blob *b, enum rep rep);
/* Where a consumer's gradient goes; *ret_add: added to what is there, else it overwrites. */
void *blob_delta(struct plan *p, struct blob *b, enum rep rep, bool *ret_add);
/* The same for who always adds: zeroed when it is the first. */
void *blob_delta_add(struct plan *p, struct blob *b, enum rep rep);
/* The whole gradient for the producer; zeros when no consumer gave any. */
void *blob_delta_read(struct plan *p, struct blob *b, enum rep rep);
/* At least so many bytes, the plan's; what they were is lost, also to who asked before. */
void *plan_scratch(struct plan *p, size_t bytes);
/* x += y, n elements in that representation, on all threads; the same over a whole gradient. */
void op_add(struct plan *p, enum rep rep, void *x, const void *y, size_t n);
void blob_delta_sum(struct plan *p, struct blob *b, enum rep rep, const void *y);

/* ---- plan.c: memory for some steps of a run ---- */
/* Steps of a run: one a layer forward, then three a layer back; the first of these three. */
int plan_back_step(const struct plan *p, int layer);
void plan_region(struct plan *p, struct region *r, size_t bytes, int from, int to);

/* ---- param.c ---- */
/* Weights that the plan computes with: float32 master and momentum in the layout in which
 * gradients come, copies in the layouts (and type) in which products want them. A gradient is
 * added to the momentum as soon as it is there, as Darknet does. */
struct param {
	float **darknet;	  /* the layer's array, freed while the plan holds the weights */
	size_t n;		  /* floats there */
	dnnl_memory_desc_t dense; /* of them */
	size_t floats;		  /* of the master's layout, padding included */
	bool trains;
	/* From param_in() on. Inference: a master only where no copy serves. */
	float *master, *momentum;
	struct reorder load, store; /* dense -> master, master -> dense */
	struct port forward, backward;
	bool has_backward;
	const float *fold; /* inference: factor of each filter, NULL: none */
};
/* grad NULL (inference): the master stays dense; backward NULL: no input gradient. */
int param_init(struct param *w, struct plan *p, float **darknet, const dnnl_memory_desc_t *dense,
	       const dnnl_memory_desc_t *grad, const dnnl_memory_desc_t *forward,
	       const dnnl_memory_desc_t *backward, struct err *err);
void param_done(struct param *w);
void param_in(struct param *w, struct plan *p);
void param_out(struct param *w, struct plan *p);
/* Inference: the weights are dropped until param_in(). */
void param_rest(struct param *w);
/* The gradient of a batch. */
void param_gather(struct param *w, struct plan *p, const float *grad);
/* One Darknet step with all that was gathered. */
void param_update(struct param *w, struct plan *p, const update_args *a, float rate_scale);
/* The momentum in Darknet's order, out or in. */
void param_momentum(struct param *w, struct plan *p, float *out, const float *in);

/* ---- operations: 0, or -EOPNOTSUPP when Darknet's own must do ---- */
int op_conv_init(struct op *o, bool pool, struct err *err);
int op_connected_init(struct op *o, struct err *err);
int op_maxpool_init(struct op *o, struct err *err);
int op_avgpool_init(struct op *o, struct err *err);
int op_shortcut_init(struct op *o, struct err *err);
void op_darknet_init(struct op *o);

/* Slope of an activation that kernels know: 1 linear, 0 relu, .1 leaky; negative: another. */
float op_slope(ACTIVATION a);
/* On all threads: one Darknet step of n weights, whose gradients have been added to the momentum. */
void op_step(struct plan *p, float *weights, float *momentum, size_t n, const update_args *a,
	     float rate_scale);
/* Darknet's small arrays (biases, scales): x += rate/batch * updates; updates *= momentum. */
void op_step_small(float *x, float *updates, int n, const update_args *a, float rate_scale);
/* Elements of a range through Darknet's activation, or its gradient, on all threads. */
void op_activate(struct plan *p, float *x, size_t n, ACTIVATION a);
void op_gradient(struct plan *p, const float *x, size_t n, ACTIVATION a, float *delta);
