#include "common/checkpoint/weights_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define ABS_BITS   0x7fffffffu
#define INF_BITS   0x7f800000u /* exponent all ones: infinite or not a number */
#define SIGN_BIT   0x80000000u
#define SCREEN_RUN 256

static int changed(const struct weights_stream *s, struct err *err)
{
	return err_set(err, -EBADMSG, "%s: its size changed while it was read", s->path);
}

static int read_header(struct weights_stream *s, struct err *err)
{
	ssize_t n = file_read_at(s->fd, s->raw, sizeof(s->raw), 0);
	if (n < 0)
		return err_errno(err, (int)n, "%s", s->path);
	if ((size_t)n < sizeof(s->raw))
		return changed(s, err);
	struct weights_header *h = &s->header;
	memcpy(&h->major, s->raw, 4);
	memcpy(&h->minor, s->raw + 4, 4);
	memcpy(&h->revision, s->raw + 8, 4);
	memcpy(&h->seen, s->raw + 12, 8);
	if (h->major != 0 || h->minor != 2 || h->revision != 0)
		return err_set(err, -EBADMSG, "%s: header: found version %d.%d.%d, expected 0.2.0",
			       s->path, h->major, h->minor, h->revision);
	if (h->seen > WEIGHTS_SEEN_MAX)
		return err_set(err, -EBADMSG, "%s: header: seen: found %llu, expected at most %llu",
			       s->path, (unsigned long long)h->seen,
			       (unsigned long long)WEIGHTS_SEEN_MAX);
	return 0;
}

int stream_open(struct weights_stream *s, const struct model *m, const char *path, struct err *err)
{
	*s = (struct weights_stream){.m = m, .path = path, .fd = -1};
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return err_errno(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EBADMSG, "%s: found no regular file, expected one", path);
	if ((uint64_t)st.st_size != m->file_bytes)
		return err_set(err, -EBADMSG, "%s: found %lld bytes, expected %llu for %s", path,
			       (long long)st.st_size, (unsigned long long)m->file_bytes,
			       m->cfg_path);
	s->buf = malloc(WEIGHTS_BUFFER);
	if (!s->buf)
		return err_errno(err, -ENOMEM, "%s", path);
	return read_header(s, err);
}

int stream_next(struct weights_stream *s, struct err *err)
{
	s->at += s->n;
	uint64_t left = s->m->n_floats - s->at;
	s->n = (size_t)MIN_OF(left, (uint64_t)WEIGHTS_BUFFER_FLOATS);
	/* At the end one byte more is asked for: a file that grew is refused, too. */
	size_t want = s->n ? 4 * s->n : 1;
	ssize_t n = file_read_at(s->fd, s->buf, want, sizeof(s->raw) + 4 * s->at);
	if (n < 0)
		return err_errno(err, (int)n, "%s", s->path);
	return (size_t)n == 4 * s->n ? 0 : changed(s, err);
}

int stream_piece(struct weights_stream *s, struct weights_piece *ret)
{
	uint64_t end = s->at + s->n;
	if (s->done == end)
		return 0;
	/* Tensors lie end to end, so what comes next begins where the last piece ended. */
	const struct tensor *t = &s->m->tensors[s->tensor];
	uint64_t t_end = t->offset + t->count, to = MIN_OF(t_end, end);
	*ret = (struct weights_piece){.tensor = s->tensor,
				      .first = s->done - t->offset,
				      .from = (size_t)(s->done - s->at),
				      .n = (size_t)(to - s->done)};
	s->done = to;
	if (to == t_end)
		s->tensor++;
	return 1;
}

void stream_close(struct weights_stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->buf);
	s->fd = -1;
	s->buf = NULL;
}

/* Integer compares over a fixed count, which compilers turn into vector code at -O2. A variance of
 * -0 is 0. */
static uint32_t run_is_bad(const uint32_t *v, int variance)
{
	uint32_t bad = 0;
	for (int i = 0; i < SCREEN_RUN; i++)
		bad |= (uint32_t)((int32_t)(v[i] & ABS_BITS) >= (int32_t)INF_BITS);
	if (variance)
		for (int i = 0; i < SCREEN_RUN; i++)
			bad |= (uint32_t)(v[i] > SIGN_BIT);
	return bad;
}

size_t weights_screen(const uint32_t *bits, size_t n, int variance)
{
	size_t i = 0;
	while (n - i >= SCREEN_RUN && !run_is_bad(bits + i, variance))
		i += SCREEN_RUN;
	for (; i < n; i++)
		if ((bits[i] & ABS_BITS) >= INF_BITS || (variance && bits[i] > SIGN_BIT))
			return i;
	return n;
}

int weights_bad_value(const struct model *m, const char *path, size_t tensor, uint64_t index,
		      uint32_t bits, struct err *err)
{
	const struct tensor *t = &m->tensors[tensor];
	float v;
	memcpy(&v, &bits, sizeof(v));
	return err_set(err, -EBADMSG,
		       "%s: layer %d [%s] %s: found %g at %llu of %llu, expected a finite %snumber",
		       path, t->layer, m->layers[t->layer].type, tensor_kind_name(t->kind),
		       (double)v, (unsigned long long)index, (unsigned long long)t->count,
		       t->kind == TENSOR_VARIANCE ? "non-negative " : "");
}
