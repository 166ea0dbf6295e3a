#include "common/encoding/lossless.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <zstd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/checkpoint/weights.h"

#define PIECE 65536

/* One file into another through libzstd, at most `most` bytes of it. */
struct stream {
	int in, out;
	const char *name; /* of the input, for errors */
	uint64_t most, written;
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
	char *buf; /* 2 pieces */
};

static void done(struct stream *s)
{
	if (s->in >= 0)
		close(s->in);
	if (s->out >= 0)
		close(s->out);
	ZSTD_freeCCtx(s->c);
	ZSTD_freeDCtx(s->d);
	free(s->buf);
}

static int begin(struct stream *s, const char *in, const char *out, bool encodes, struct err *err)
{
	s->in = open(in, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->in < 0)
		return err_errno(err, -errno, "%s", in);
	s->out = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (s->out < 0)
		return err_errno(err, -errno, "%s", out);
	s->buf = malloc(2 * PIECE);
	s->c = encodes ? ZSTD_createCCtx() : NULL;
	s->d = encodes ? NULL : ZSTD_createDCtx();
	if (!s->buf || (!s->c && !s->d))
		return err_errno(err, -ENOMEM, "%s", in);
	if (s->c) {
		ZSTD_CCtx_setParameter(s->c, ZSTD_c_compressionLevel, ZSTD_LEVEL);
		ZSTD_CCtx_setParameter(s->c, ZSTD_c_windowLog, ZSTD_WINDOW_LOG);
	} else {
		ZSTD_DCtx_setParameter(s->d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	}
	return 0;
}

static int write_out(struct stream *s, size_t n, struct err *err)
{
	s->written += n;
	if (s->written > s->most)
		return err_set(err, s->c ? -EFBIG : -EBADMSG, "%s: found more than %llu bytes%s",
			       s->name, (unsigned long long)s->most,
			       s->c ? " compressed" : " in it, expected no more");
	int r = file_write_all(s->out, s->buf + PIECE, n);
	return r < 0 ? err_errno(err, r, "%s", s->name) : 0;
}

/* All of `in` that was read, or with `last` all there is. *ret_left: 0 once a frame is complete. */
static int feed(struct stream *s, size_t n, bool last, size_t *ret_left, struct err *err)
{
	ZSTD_inBuffer in = {s->buf, n, 0};
	bool more = true;
	while (more) {
		ZSTD_outBuffer out = {s->buf + PIECE, PIECE, 0};
		*ret_left = s->c ? ZSTD_compressStream2(s->c, &out, &in,
							last ? ZSTD_e_end : ZSTD_e_continue)
				 : ZSTD_decompressStream(s->d, &out, &in);
		if (ZSTD_isError(*ret_left))
			return err_set(err, -EBADMSG, "%s: %s", s->name,
				       ZSTD_getErrorName(*ret_left));
		int r = write_out(s, out.pos, err);
		if (r < 0)
			return r;
		more = in.pos < in.size || out.pos == out.size || (s->c && last && *ret_left);
		if (s->d && *ret_left == 0 && in.pos < in.size)
			return err_set(err, -EBADMSG, "%s: found more after its end", s->name);
	}
	return 0;
}

static int run(struct stream *s, struct err *err)
{
	size_t left = 1;
	for (;;) {
		ssize_t n = read(s->in, s->buf, PIECE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, -errno, "%s", s->name);
		if (n == 0 && s->d)
			break;
		int r = feed(s, (size_t)n, n == 0, &left, err);
		if (r < 0)
			return r;
		if (n == 0)
			break;
	}
	if (s->d && left)
		return err_set(err, -EBADMSG, "%s: ends too early", s->name);
	return fsync(s->out) < 0 ? err_errno(err, -errno, "%s", s->name) : 0;
}

static int convert(const char *in, const char *out, uint64_t most, bool encodes, struct err *err)
{
	_cleanup_(done) struct stream s = {.in = -1, .out = -1, .name = in, .most = most};
	int r = begin(&s, in, out, encodes, err);
	return r < 0 ? r : run(&s, err);
}

int lossless_decode(const struct model *m, const char *in, const char *out, char ret_id[HASH_SIZE],
		    struct err *err)
{
	char tmp[FILE_PATH_MAX];
	if (file_path(tmp, sizeof(tmp), "%s.tmp", out) < 0)
		return err_errno(err, -ENAMETOOLONG, "%s", out);
	int r = convert(in, tmp, m->file_bytes, false, err);
	if (r == 0)
		r = weights_check(m, tmp, NULL, ret_id, err);
	if (r == 0)
		r = file_rename(tmp, out, err);
	if (r < 0)
		unlink(tmp);
	return r;
}

int lossless_encode(const struct model *m, const char *weights, const char *out,
		    const char *decoded, char ret_id[HASH_SIZE], struct err *err)
{
	char tmp[FILE_PATH_MAX];
	int r = weights_check(m, weights, NULL, NULL, err);
	if (r == 0 && file_path(tmp, sizeof(tmp), "%s.tmp", out) < 0)
		r = err_errno(err, -ENAMETOOLONG, "%s", out);
	if (r < 0)
		return r;
	r = convert(weights, tmp, m->file_bytes - 1, true, err);
	if (r == 0) /* what a receiver makes of it, by the same way */
		r = lossless_decode(m, tmp, decoded, ret_id, err);
	if (r == 0)
		r = file_rename(tmp, out, err);
	if (r < 0)
		unlink(tmp);
	return r;
}
