/* The kernel can limit what a process asks for (RLIMIT_DATA), not what it has resident; much of the
 * former is never touched: half of what the libraries bring, thread stacks, OpenBLAS's buffers.
 * So the limit is set from within, when the libraries are there: what is mapped already, and what
 * the threads will map, counts as if it were free. */
#include "common/engine/ceiling.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/engine/gemm.h"
#include "common/engine/memory.h"

#define STACK_BYTES ((uint64_t)2 * 8 * 1024 * 1024) /* of a thread, in two libraries' pools */
#define SLACK_BYTES ((uint64_t)32 * 1024 * 1024)    /* the allocator's, and an image being read */

struct usage {
	uint64_t resident, data; /* bytes; data: private and writable, as RLIMIT_DATA counts */
};

static int read_usage(struct usage *ret, struct err *err)
{
	unsigned long long resident, data;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	_cleanup_file_ FILE *f = fopen("/proc/self/statm", "re");
	if (!f || fscanf(f, "%*u %llu %*u %*u %*u %llu", &resident, &data) != 2)
		return err_set(err, -EIO,
			       "/proc/self/statm: cannot be read, so the memory limit "
			       "cannot be kept");
	ret->resident = resident * page;
	ret->data = data * page;
	return 0;
}

/* A network, and the batches that wait for it. */
static uint64_t bytes_of(const struct session *s, uint32_t batch, bool training)
{
	const struct model *m = s->model;
	uint64_t floats = (uint64_t)m->width * m->height * m->channels;
	return network_bytes(m, s->engine, batch, training) + feed_bytes(batch, floats);
}

int ceiling_check(const struct session *s, uint32_t eval_batch, bool training, uint64_t *ret_left,
		  struct err *err)
{
	const struct model *m = s->model;
	struct usage now;
	*ret_left = 0;
	if (!s->memory_max_bytes)
		return 0;
	int r = read_usage(&now, err);
	if (r < 0)
		return r;
	uint64_t evaluate = bytes_of(s, eval_batch, false);
	uint64_t train = training ? bytes_of(s, m->batch / m->subdivisions, true) : 0;
	uint64_t needed = now.resident + evaluate + train;
	if (needed >= s->memory_max_bytes)
		return err_set(
			err, -ENOMEM,
			"%s: needs %llu bytes of memory (%llu to train, %llu to evaluate, %llu "
			"for the program), and the limit is %llu; expected a smaller batch, more "
			"subdivisions or a higher limit",
			m->cfg_path, (unsigned long long)needed, (unsigned long long)train,
			(unsigned long long)evaluate, (unsigned long long)now.resident,
			(unsigned long long)s->memory_max_bytes);
	*ret_left = s->memory_max_bytes - needed;
	return 0;
}

int ceiling_set(const struct session *s, struct err *err)
{
	struct usage now;
	if (!s->memory_max_bytes)
		return 0;
	int r = read_usage(&now, err);
	if (r < 0)
		return r;
	uint64_t left = s->memory_max_bytes - MIN_OF(s->memory_max_bytes, now.resident);
	uint64_t threads = (uint64_t)s->threads * (gemm_thread_bytes() + STACK_BYTES);
	rlim_t most = (rlim_t)(now.data + left + threads + SLACK_BYTES);
	if (setrlimit(RLIMIT_DATA, &(struct rlimit){most, most}) < 0)
		return err_errno(err, -errno, "memory limit of %llu bytes",
				 (unsigned long long)s->memory_max_bytes);
	return 0;
}

int ceiling_room(const struct session *s, struct err *err)
{
	struct usage now;
	struct rlimit limit;
	if (!s->memory_max_bytes)
		return 0;
	int r = read_usage(&now, err);
	if (r < 0)
		return r;
	if (getrlimit(RLIMIT_DATA, &limit) < 0)
		return err_errno(err, -errno, "memory limit");
	uint64_t needed = bytes_of(s, s->model->batch / s->model->subdivisions, true);
	uint64_t most = s->memory_max_bytes, left = most - MIN_OF(most, now.resident);
	left = MIN_OF(left, limit.rlim_cur - MIN_OF((uint64_t)limit.rlim_cur, now.data));
	if (needed <= left)
		return 0;
	return err_set(
		err, -ENOMEM,
		"%s: one more network to train needs %llu bytes of memory, and of the limit of "
		"%llu there are %llu left",
		s->model->cfg_path, (unsigned long long)needed,
		(unsigned long long)s->memory_max_bytes, (unsigned long long)left);
}
