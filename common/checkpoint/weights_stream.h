/* Reading a .weights file piece by piece along a model's tensors. Private to this folder.
 *
 * WEIGHTS_BUFFER bytes at a time; what is returned is a run of floats of one or more tensors.
 * Only hosts of Darknet's own byte order, little endian, are supported. */
#pragma once

#include <stdint.h>

#include "common/checkpoint/weights.h"

#define WEIGHTS_BUFFER        65536
#define WEIGHTS_BUFFER_FLOATS (WEIGHTS_BUFFER / 4)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights files are little endian");

struct weights_stream {
	const struct model *m;
	const char *path;
	int fd;                           /* -1: closed */
	uint8_t raw[WEIGHTS_HEADER_SIZE]; /* the header as it is in the file */
	struct weights_header header;
	uint32_t *buf; /* the floats at hand, as bits */
	size_t n;      /* how many */
	uint64_t at;   /* index of the first one among the model's floats */
	uint64_t done; /* floats that stream_piece() has returned */
	size_t tensor; /* and the tensor of the next one */
};

/* A run of floats within one tensor. */
struct weights_piece {
	size_t tensor;  /* index in the model */
	uint64_t first; /* index in the tensor */
	size_t from, n; /* in s->buf */
};

/* Opens, refuses what is no regular file of exactly the model's size with a good header. */
int stream_open(struct weights_stream *s, const struct model *m, const char *path, struct err *err);
/* Fills the buffer: s->n floats, 0 at the end. -EBADMSG when the file's size changed meanwhile. */
int stream_next(struct weights_stream *s, struct err *err);
/* The next piece of what is in the buffer; 0 when there is no more. */
int stream_piece(struct weights_stream *s, struct weights_piece *ret);
void stream_close(struct weights_stream *s); /* of an opened or zeroed one with fd -1 */

/* Index of the first value that is not finite (or, for a variance, negative); n: none. */
size_t weights_screen(const uint32_t *bits, size_t n, int variance);
/* The error for it. */
int weights_bad_value(const struct model *m, const char *path, size_t tensor, uint64_t index,
		      uint32_t bits, struct err *err);
