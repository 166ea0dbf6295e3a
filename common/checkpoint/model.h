/* What a Darknet cfg says about its weights: layers, shapes and the exact layout of the file.
 * Our own reading of the cfg, so that a bad one is refused, with file, line, section and key,
 * before Darknet (which exits or crashes on it) sees it.
 *
 * Layout of a .weights file (Darknet's save_weights): int32 major, minor, revision; uint64 seen
 * (20 bytes, little endian, version 0.2.0); then float32 tensors in the order of `tensors`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"

#define MODEL_CFG_MAX        (1024 * 1024) /* bytes of a cfg */
#define MODEL_LAYERS_MAX     1024
#define MODEL_FLOATS_MAX     ((uint64_t)512 * 1024 * 1024) /* 2 GiB of weights */
#define MODEL_DIM_MAX        8192 /* width, height, channels, filters of one layer */
#define MODEL_CLASSES_MAX    4096
#define MODEL_CLASS_NAME_MAX 255
#define MODEL_BATCH_MAX      65536
#define WEIGHTS_HEADER_SIZE  20

enum tensor_kind { TENSOR_BIAS, TENSOR_SCALE, TENSOR_MEAN, TENSOR_VARIANCE, TENSOR_WEIGHT };

struct tensor {
	int layer; /* index among the layers, [net] not counted, as Darknet counts */
	enum tensor_kind kind;
	uint64_t offset; /* in floats after the header */
	uint64_t count;
	/* Output rows: count is rows x (count / rows), row-major: one row an output or filter; a
	 * bias, scale, mean or variance has rows of one. In a local layer row l * n + f holds
	 * filter f at location l, while its bias is number f * locations + l. */
	uint32_t rows;
};

struct model_layer {
	char type[24]; /* without brackets, in its long form: "convolutional" */
	int line;      /* of its section in the cfg */
	/* Output shape (c, h, w) per image; all 0 where Darknet gives the output none (softmax,
	 * cost, and what passes on theirs): then no layer that needs an image can follow. */
	uint32_t out_w, out_h, out_c;
	uint32_t outputs; /* floats per image, with or without a shape */
	uint64_t macs;    /* multiply-adds of one image's forward pass; 0 for what has no weights */
	bool has_loss;    /* it compares what comes in with the truth */
	bool in_groups;   /* a softmax of each of several groups of its input */
	bool no_gradient; /* Darknet keeps none of its output: [crop], and [dropout] on it */
};

struct model {
	char cfg_path[1024];
	uint32_t width, height, channels; /* input: NCHW, float32 0..1 */
	uint32_t batch, subdivisions;     /* as in the cfg: a training step sees batch images */
	bool adam;                        /* [net] adam: Darknet then keeps more of each weight */
	uint32_t outputs;                 /* of the last layer that has any before a cost layer */
	struct model_layer *layers;
	size_t n_layers;
	struct tensor *tensors;
	size_t n_tensors;
	uint64_t n_floats;
	uint64_t file_bytes;      /* exact size of a weights file: header + 4 * n_floats */
	uint64_t workspace_bytes; /* that Darknet's layers share */
	uint32_t n_classes;       /* of the public class list; <= outputs */
	char id[HASH_SIZE];       /* sha256 of `canonical` */
	char *canonical; /* topology and class list as text; docs/protocol.md, "Model identity" */
};

/* Reads and checks the cfg. class_names: the public class list in the order of outputs (n 0: names
 * are not known, as offline; outputs then stand for themselves and the id covers none).
 * -ENOENT, -EINVAL, -EOPNOTSUPP (a layer whose weights we cannot size), -E2BIG, -ENOMEM. */
int model_load(const char *cfg_path, const char *const *class_names, size_t n_classes,
	       struct model **ret, struct err *err);
/* The same from memory; `name` stands for the file in errors. Fuzz entry. */
int model_parse(const char *text, size_t len, const char *name, const char *const *class_names,
		size_t n_classes, struct model **ret, struct err *err);
void model_free(struct model *m);
/* That it is a network to classify images with, and to train: it ends with [softmax], or [softmax]
 * and [cost]. -EOPNOTSUPP. */
int model_check_classifier(const struct model *m, struct err *err);
/* The layer whose weights have one row for each of the model's outputs, with nothing after it that
 * mixes them. -EOPNOTSUPP when there is none. */
int model_output_layer(const struct model *m, struct err *err);
/* That outputs can be left out of its softmax (absent_classes = mask): there is one, with groups=1,
 * and model_output_layer() finds a layer. -EOPNOTSUPP. */
int model_check_absent(const struct model *m, struct err *err);
const char *tensor_kind_name(enum tensor_kind k); /* "bias", "scale", ... */
static inline void model_freep(struct model **m)
{
	model_free(*m);
}
