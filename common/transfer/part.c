/* See part.h for what is on disk. A map is made atomically, whole and empty, after the data file
 * has its size; so a map of wrong size or with another header is a leftover or damage, and the
 * transfer begins anew. Data of the right size without a map is what part_finish() leaves: if a
 * crash came before the caller moved it, its hash tells. */
#include "common/transfer/part.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/crypto/merkle.h"

#define MAP_MAGIC "TasukiP2"
/* Beside the data: the map, the file system's own blocks. */
#define SPACE_MARGIN (1024 * 1024)

struct map_header {
	char magic[8];
	uint64_t size_le;
	uint32_t block_size_le;
	uint32_t zero;
	char id[HASH_HEX];
};
_Static_assert(sizeof(struct map_header) == 88, "the layout on disk has no gaps");

static void map_header_fill(struct map_header *h, const struct part *p)
{
	*h = (struct map_header){.size_le = htole64(p->xfer.size),
				 .block_size_le = htole32(p->xfer.block_size)};
	memcpy(h->magic, MAP_MAGIC, sizeof(h->magic));
	memcpy(h->id, p->id, HASH_HEX);
}

static off_t map_offset(uint32_t i)
{
	return (off_t)(sizeof(struct map_header) + (uint64_t)i * sizeof(uint64_t));
}

static off_t data_offset(const struct part *p, uint32_t i)
{
	return (off_t)((uint64_t)i * p->xfer.block_size);
}

/* FNV-1a (Fowler, Noll, Vo) by words of 64 bits, in four lanes because a multiplication takes as
 * long as four; little endian for the disk; 0 means 'not there'. Against accidents only: the sha256
 * of the whole judges at the end. */
static uint64_t check_sum(const uint8_t *data, size_t len)
{
	uint64_t h[4] = {0xcbf29ce484222325u, 1, 2, 3}, sum = len;
	for (; len > 0; data += 32) {
		uint64_t w[4] = {0};
		size_t n = MIN_OF(len, sizeof(w));
		memcpy(w, data, n);
		len -= n;
		for (int i = 0; i < 4; i++)
			h[i] = (h[i] ^ le64toh(w[i])) * 0x100000001b3u;
	}
	for (int i = 0; i < 4; i++)
		sum = (sum ^ h[i]) * 0x100000001b3u;
	return htole64(sum ? sum : 1);
}

static int write_at(int fd, const void *buf, size_t len, off_t at)
{
	size_t put = 0;
	while (put < len) {
		ssize_t n = pwrite(fd, (const char *)buf + put, len - put, at + (off_t)put);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		put += (size_t)n;
	}
	return 0;
}

static int part_paths(const char *dir, const char *id, char data[FILE_PATH_MAX],
		      char map[FILE_PATH_MAX])
{
	int r = file_path(data, FILE_PATH_MAX, "%s/%s.part", dir, id);
	return r < 0 ? r : file_path(map, FILE_PATH_MAX, "%s/%s.map", dir, id);
}

/* ---- opening what is there ---- */

static int open_data(struct part *p, bool *ret_there, struct err *err)
{
	struct stat st;
	*ret_there = false;
	p->data_fd = open(p->data_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (p->data_fd < 0 && (errno == ENOENT || errno == ELOOP || errno == EISDIR))
		return 0; /* nothing of ours: begin() removes it */
	if (p->data_fd < 0)
		return err_errno(err, -errno, "%s", p->data_path);
	if (fstat(p->data_fd, &st) < 0)
		return err_errno(err, -errno, "%s", p->data_path);
	*ret_there = S_ISREG(st.st_mode) && (uint64_t)st.st_size == p->xfer.size;
	return 0;
}

/* Opens the map and reads its entries; *ret NULL: there is none, or not of this transfer. */
static int read_map(struct part *p, uint64_t **ret, struct err *err)
{
	struct map_header want, found;
	size_t len = p->xfer.n_blocks * sizeof(uint64_t);
	*ret = NULL;
	p->map_fd = open(p->map_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (p->map_fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "%s", p->map_path);
	map_header_fill(&want, p);
	ssize_t n = file_read_at(p->map_fd, &found, sizeof(found), 0);
	if (n < 0)
		return err_errno(err, (int)n, "%s", p->map_path);
	if ((size_t)n < sizeof(found) || memcmp(&want, &found, sizeof(want)) != 0)
		return 0;
	_cleanup_free_ uint64_t *sums = malloc(len);
	if (!sums)
		return err_errno(err, -ENOMEM, "%s", p->map_path);
	n = file_read_at(p->map_fd, sums, len, (uint64_t)map_offset(0));
	if (n < 0)
		return err_errno(err, (int)n, "%s", p->map_path);
	if ((size_t)n == len)
		*ret = TAKE_PTR(sums);
	return 0;
}

/* Holds the blocks whose bytes are those that the map was written for. */
static int check_blocks(struct part *p, const uint64_t *sums, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(p->xfer.block_size);
	if (!buf)
		return err_errno(err, -ENOMEM, "%s", p->data_path);
	for (uint32_t i = 0; i < p->xfer.n_blocks; i++) {
		size_t len = xfer_block_len(&p->xfer, i);
		if (sums[i] == 0)
			continue;
		ssize_t n = file_read_at(p->data_fd, buf, len, (uint64_t)data_offset(p, i));
		if (n < 0)
			return err_errno(err, (int)n, "%s", p->data_path);
		if ((size_t)n == len && check_sum(buf, len) == sums[i])
			xfer_hold(&p->xfer, i);
	}
	return 0;
}

/* ---- beginning ---- */

static int check_space(const struct part *p, struct err *err)
{
	uint64_t free_bytes, need = p->xfer.size + SPACE_MARGIN;
	char dir[FILE_PATH_MAX];
	memcpy(dir, p->data_path, sizeof(dir));
	*strrchr(dir, '/') = 0;
	int r = file_free_bytes(dir, &free_bytes);
	if (r < 0)
		return err_errno(err, r, "%s", dir);
	if (free_bytes >= need)
		return 0;
	return err_set(err, -ENOSPC,
		       "%s: found %llu bytes free, expected %llu for checkpoint %.12s", dir,
		       (unsigned long long)free_bytes, (unsigned long long)need, p->id);
}

/* posix_fallocate() would write into every block where the file system cannot reserve; fallocate()
 * says so, and the file then grows as blocks come. */
static int reserve(int fd, uint64_t size)
{
	int r;
	do
		r = fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
	while (r == -EINTR);
	if (r == -EOPNOTSUPP || r == -ENOSYS)
		r = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	return r;
}

static int make_map(struct part *p, struct err *err)
{
	size_t len = (size_t)map_offset(p->xfer.n_blocks);
	_cleanup_free_ char *map = calloc(1, len);
	if (!map)
		return err_errno(err, -ENOMEM, "%s", p->map_path);
	struct map_header h;
	map_header_fill(&h, p);
	memcpy(map, &h, sizeof(h));
	int r = file_write(p->map_path, map, len, err);
	if (r < 0)
		return r;
	p->map_fd = open(p->map_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return p->map_fd < 0 ? err_errno(err, -errno, "%s", p->map_path) : 0;
}

static void close_files(struct part *p)
{
	if (p->data_fd >= 0)
		close(p->data_fd);
	if (p->map_fd >= 0)
		close(p->map_fd);
	p->data_fd = p->map_fd = -1;
}

static int remove_files(const struct part *p, struct err *err)
{
	int r = file_remove(p->map_path, err); /* first: data without it claims nothing */
	return r < 0 ? r : file_remove(p->data_path, err);
}

/* Makes both files, empty. */
static int begin(struct part *p, struct err *err)
{
	int r = check_space(p, err);
	if (r < 0)
		return r;
	p->data_fd = open(p->data_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (p->data_fd < 0)
		return err_errno(err, -errno, "%s", p->data_path);
	r = reserve(p->data_fd, p->xfer.size);
	if (r < 0)
		err_errno(err, r, "%s: reserving %llu bytes", p->data_path,
			  (unsigned long long)p->xfer.size);
	else
		r = make_map(p, err);
	if (r < 0) {
		close_files(p);
		remove_files(p, NULL); /* lest a full disk stay full */
	}
	return r;
}

/* What stands in the way of begin(). */
static int clear(struct part *p, struct err *err)
{
	close_files(p);
	int r = remove_files(p, err);
	return r < 0 ? r : check_space(p, err);
}

/* Goes on with what is there; *ret_found tells whether it was of this transfer. */
static int resume(struct part *p, bool *ret_found, struct err *err)
{
	_cleanup_free_ uint64_t *sums = NULL;
	char id[HASH_SIZE];
	bool there;
	*ret_found = false;
	int r = open_data(p, &there, err);
	if (r < 0 || !there)
		return r;
	r = read_map(p, &sums, err);
	if (r < 0)
		return r;
	if (sums) {
		*ret_found = true;
		return check_blocks(p, sums, err);
	}
	if (p->map_fd >= 0)
		return 0; /* a map, but not of this transfer */
	r = hash_file(p->data_path, id, err);
	if (r < 0 || strcmp(id, p->id) != 0)
		return r;
	r = make_map(p, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < p->xfer.n_blocks; i++)
		xfer_hold(&p->xfer, i);
	*ret_found = true;
	return 0;
}

int part_open(struct part *p, const char *dir, const struct manifest *m, int64_t now_ms,
	      struct err *err)
{
	*p = (struct part){.data_fd = -1, .map_fd = -1};
	if (!hash_valid(m->id) || m->size <= 0 || m->block_size < MANIFEST_BLOCK_MIN ||
	    m->block_size > MANIFEST_BLOCK_MAX)
		return err_set(err, -EINVAL,
			       "checkpoint '%.12s': size %lld in blocks of %lld bytes", m->id,
			       (long long)m->size, (long long)m->block_size);
	memcpy(p->id, manifest_payload(m), HASH_SIZE);
	memcpy(p->root, m->root, HASH_SIZE);
	int r = part_paths(dir, p->id, p->data_path, p->map_path);
	if (r < 0)
		return err_errno(err, r, "%s", dir);
	r = xfer_init(&p->xfer, (uint64_t)m->size, (uint32_t)m->block_size, NULL, now_ms);
	if (r < 0)
		return err_errno(err, r, "checkpoint %.12s: %lld bytes in blocks of %lld", m->id,
				 (long long)m->size, (long long)m->block_size);
	bool found;
	r = resume(p, &found, err);
	if (r == 0 && !found)
		r = clear(p, err);
	if (r < 0)
		part_close(p);
	return r;
}

/* ---- blocks ---- */

/* So that little is left for the sync at the end, and a power cut costs seconds of transfer at
 * most. What it does not do does no harm. */
static void begin_writing(struct part *p)
{
	sync_file_range(p->data_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	sync_file_range(p->map_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	p->unwritten = 0;
}

static int store(struct part *p, uint32_t i, const void *data, size_t len, struct err *err)
{
	uint64_t sum = check_sum(data, len);
	int r = p->data_fd < 0 ? begin(p, err) : 0;
	if (r < 0)
		return r;
	r = write_at(p->data_fd, data, len, data_offset(p, i));
	if (r < 0)
		return err_errno(err, r, "%s: block %u", p->data_path, i);
	r = write_at(p->map_fd, &sum, sizeof(sum), map_offset(i));
	if (r < 0)
		return err_errno(err, r, "%s: block %u", p->map_path, i);
	if (++p->unwritten >= PART_WRITE_BLOCKS)
		begin_writing(p);
	return 0;
}

int part_block(struct part *p, uint32_t i, const void *data, size_t len, int64_t now_ms,
	       struct err *err)
{
	enum xfer_result x = xfer_block(&p->xfer, i, len, now_ms);
	if (x != XFER_OK)
		return (int)x;
	int r = store(p, i, data, len, err);
	if (r < 0)
		xfer_lost(&p->xfer, i);
	return r;
}

int part_proven(struct part *p, uint32_t i, const void *proven, size_t len, int64_t now_ms,
		struct err *err)
{
	size_t path_len = merkle_path_len(i, p->xfer.n_blocks);
	const uint8_t *block = (const uint8_t *)proven + path_len;
	len = len > path_len ? len - path_len : 0;
	int r = 0;
	if (!p->from_signer && i < p->xfer.n_blocks && len == xfer_block_len(&p->xfer, i))
		r = *p->root ? merkle_verify(p->root, i, p->xfer.n_blocks, proven, block, len)
			     : -EBADMSG;
	if (r == 0)
		return part_block(p, i, block, len, now_ms, err);
	if (r != -EBADMSG)
		return err_errno(err, r, "%s: block %u", p->data_path, i);
	p->xfer.n_refused++;
	return XFER_E_FORGED;
}

int part_finish(struct part *p, char path[FILE_PATH_MAX], struct err *err)
{
	char id[HASH_SIZE];
	int r;
	if (!xfer_complete(&p->xfer))
		r = err_set(err, -EAGAIN, "%s: found %u of %u blocks, expected all", p->data_path,
			    p->xfer.n_held, p->xfer.n_blocks);
	else
		r = hash_file(p->data_path, id, err);
	if (r == 0 && strcmp(id, p->id) != 0) {
		r = err_set(err, -EBADMSG, "%s: found sha256 %s, expected its id", p->data_path,
			    id);
		remove_files(p, NULL);
	}
	if (r == 0 && fdatasync(p->data_fd) < 0)
		r = err_errno(err, -errno, "%s: sync", p->data_path);
	if (r == 0)
		r = file_remove(p->map_path, err);
	if (r == 0)
		memcpy(path, p->data_path, FILE_PATH_MAX);
	part_close(p);
	return r;
}

void part_close(struct part *p)
{
	if (p->xfer.held) /* else there is nothing open; descriptor 0 is not ours */
		close_files(p);
	p->data_fd = p->map_fd = -1;
	xfer_done(&p->xfer);
}

bool part_there(const char *dir, const char *id)
{
	char data[FILE_PATH_MAX], map[FILE_PATH_MAX];
	return hash_valid(id) && part_paths(dir, id, data, map) == 0 && file_exists(map);
}

void part_discard(const char *dir, const char *id)
{
	char data[FILE_PATH_MAX], map[FILE_PATH_MAX];
	if (!hash_valid(id) || part_paths(dir, id, data, map) < 0)
		return;
	file_remove(map, NULL);
	file_remove(data, NULL);
}

void part_sweep(const char *dir, const char *keep)
{
	DIR *d = opendir(dir);
	if (!d)
		return;
	/* ID.part, ID.map, and the ID.map.tmp of a map that was never finished. */
	for (struct dirent *e; (e = readdir(d));) {
		char id[HASH_SIZE], path[FILE_PATH_MAX];
		snprintf(id, sizeof(id), "%.64s", e->d_name);
		if (hash_valid(id) && e->d_name[HASH_HEX] == '.' && strcmp(id, keep) != 0 &&
		    file_path(path, sizeof(path), "%s/%s", dir, e->d_name) == 0)
			file_remove(path, NULL);
	}
	closedir(d);
}

/* ---- the sender's side ---- */

int part_read_block(const char *path, uint64_t size, uint32_t block_size, uint32_t i, void *buf,
		    uint32_t *ret_len, struct err *err)
{
	uint64_t at = (uint64_t)i * block_size;
	if (block_size == 0 || at >= size)
		return err_set(err, -ERANGE,
			       "%s: found a wish for block %u, expected one of %llu bytes", path, i,
			       (unsigned long long)size);
	size_t len = MIN_OF(size - at, (uint64_t)block_size);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, -errno, "%s", path);
	ssize_t n = file_read_at(fd, buf, len, at);
	if (n < 0)
		return err_errno(err, (int)n, "%s", path);
	if ((size_t)n < len)
		return err_set(err, -EIO, "%s: found %llu bytes, expected %llu", path,
			       (unsigned long long)(at + (uint64_t)n), (unsigned long long)size);
	*ret_len = (uint32_t)len;
	return 0;
}
