/* Transfers on a real disk: resumed after a close, after kill -9 at random moments, after damage;
 * and without room. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/crypto/hash.h"
#include "common/transfer/part.h"
#include "common/transfer/proof.h"

#define BLOCK  1024
#define BLOCKS 300
#define SIZE   (BLOCK * (BLOCKS - 1) + 17) /* the last block is short */

static char dir[FILE_PATH_MAX - 100];
static uint8_t data[SIZE];
static struct manifest manifest;

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof(dir), "%s/tasuki-part-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	struct rng rng;
	rng_init(&rng, 1);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rng_u64(&rng);
	memset(data + 5 * BLOCK, 0, BLOCK); /* a block like a hole in the file */
	manifest.size = SIZE;
	manifest.block_size = BLOCK;
	return hash_bytes(data, sizeof(data), manifest.id);
}

static int teardown(void **state)
{
	return file_remove(dir, NULL);
}

static int clean(void **state)
{
	part_discard(dir, manifest.id);
	return 0;
}

static void path_of(const char *end, char path[FILE_PATH_MAX])
{
	assert_int_equal(file_path(path, FILE_PATH_MAX, "%s/%s.%s", dir, manifest.id, end), 0);
}

static bool held(const struct part *p, uint32_t i)
{
	return p->xfer.held[i / 8] >> (i % 8) & 1;
}

static size_t len_of(uint32_t i)
{
	return i == BLOCKS - 1 ? 17 : BLOCK;
}

/* Stores up to `n` of what is missing, in the order asked for. */
static int feed(struct part *p, uint32_t n)
{
	uint32_t want[XFER_WINDOW_MAX];
	while (n > 0) {
		size_t k = xfer_want(&p->xfer, 0, want, MIN_OF(n, (uint32_t)XFER_WINDOW_MAX));
		for (size_t i = 0; i < k; i++, n--) {
			int r = part_block(p, want[i], data + (size_t)want[i] * BLOCK,
					   len_of(want[i]), 0, NULL);
			if (r)
				return r;
		}
		if (k == 0)
			break;
	}
	return 0;
}

static void open_part(struct part *p, uint32_t expected_held)
{
	struct err err = {0};
	if (part_open(p, dir, &manifest, 0, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(p->xfer.n_held, expected_held);
}

static void finish(struct part *p)
{
	char path[FILE_PATH_MAX], expected[FILE_PATH_MAX], id[HASH_SIZE];
	struct err err = {0};
	if (part_finish(p, path, &err) < 0)
		fail_msg("%s", err.text);
	path_of("part", expected);
	assert_string_equal(path, expected);
	assert_int_equal(hash_file(path, id, NULL), 0);
	assert_string_equal(id, manifest.id);
	path_of("map", expected);
	assert_false(file_exists(expected));
}

/* Changes one byte of DIR/<id>.<end>. */
static void flip(const char *end, off_t at)
{
	char path[FILE_PATH_MAX];
	uint8_t b;
	path_of(end, path);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 0x40;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
}

static void test_whole(void **state)
{
	struct part p;
	open_part(&p, 0);
	assert_int_equal(part_block(&p, BLOCKS, data, BLOCK, 0, NULL), XFER_E_RANGE);
	assert_int_equal(part_block(&p, 0, data, BLOCK, 0, NULL), XFER_E_UNASKED);
	assert_int_equal(feed(&p, 8), 0);
	assert_int_equal(part_block(&p, 0, data + BLOCK, BLOCK, 0, NULL), XFER_E_TWICE);
	assert_int_equal(part_block(&p, 9, data, BLOCK - 1, 0, NULL), XFER_E_LENGTH);
	assert_int_equal(feed(&p, BLOCKS), 0);
	assert_true(xfer_complete(&p.xfer));
	finish(&p);
}

static void test_resume_after_close(void **state)
{
	struct part p;
	for (uint32_t n = 0; n < BLOCKS; n += 37) {
		open_part(&p, n);
		assert_int_equal(feed(&p, 37), 0);
		part_close(&p);
		part_close(&p);
	}
	open_part(&p, BLOCKS);
	assert_true(xfer_complete(&p.xfer));
	finish(&p);
	/* The caller had not moved it when it died: it is found complete. */
	open_part(&p, BLOCKS);
	finish(&p);
	struct part never = {0};
	int before = fcntl(0, F_GETFD);
	part_close(&never); /* leaves descriptor 0 alone */
	assert_int_equal(fcntl(0, F_GETFD), before);
}

static void test_finish_too_early(void **state)
{
	struct part p;
	char path[FILE_PATH_MAX];
	open_part(&p, 0);
	assert_int_equal(feed(&p, 10), 0);
	assert_int_equal(part_finish(&p, path, NULL), -EAGAIN);
	open_part(&p, 10);
	part_close(&p);
}

/* ---- killed ---- */

static void child_transfers(void)
{
	struct part p;
	if (part_open(&p, dir, &manifest, 0, NULL) < 0)
		_exit(1);
	for (;;) {
		if (feed(&p, 5) < 0)
			_exit(2);
		usleep(200);
		if (xfer_complete(&p.xfer))
			_exit(0);
	}
}

static void test_kill_at_any_moment(void **state)
{
	struct rng rng;
	rng_init(&rng, rng_entropy());
	int killed = 0;
	for (int round = 0; round < 40; round++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			child_transfers();
		usleep(rng_below(&rng, 12000));
		kill(pid, SIGKILL);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
		killed += WIFSIGNALED(status);
		struct part p;
		assert_int_equal(part_open(&p, dir, &manifest, 0, NULL), 0);
		for (uint32_t i = 0; i < BLOCKS; i++) {
			uint8_t buf[BLOCK];
			ssize_t len = (ssize_t)len_of(i);
			if (!held(&p, i))
				continue;
			assert_int_equal(pread(p.data_fd, buf, (size_t)len, (off_t)i * BLOCK), len);
			assert_memory_equal(buf, data + (size_t)i * BLOCK, (size_t)len);
		}
		if (xfer_complete(&p.xfer)) {
			finish(&p);
			part_discard(dir, manifest.id);
		} else {
			part_close(&p);
		}
	}
	assert_true(killed > 0);
	struct part p;
	assert_int_equal(part_open(&p, dir, &manifest, 0, NULL), 0);
	assert_int_equal(feed(&p, BLOCKS), 0);
	finish(&p);
}

/* ---- damage and leftovers ---- */

static void test_wrong_bytes(void **state)
{
	struct part p;
	uint32_t want[1];
	char path[FILE_PATH_MAX] = "untouched", left[FILE_PATH_MAX];
	struct err err = {0};
	open_part(&p, 0);
	assert_int_equal(xfer_want(&p.xfer, 0, want, 1), 1);
	assert_int_equal(part_block(&p, 0, data + BLOCK, BLOCK, 0, NULL), 0); /* another's bytes */
	assert_int_equal(feed(&p, BLOCKS), 0);
	assert_int_equal(part_finish(&p, path, &err), -EBADMSG);
	assert_non_null(strstr(err.text, manifest.id));
	assert_string_equal(path, "untouched");
	path_of("part", left);
	assert_false(file_exists(left));
	path_of("map", left);
	assert_false(file_exists(left));
	open_part(&p, 0); /* begins anew, and can succeed */
	assert_int_equal(feed(&p, BLOCKS), 0);
	finish(&p);
}

static void test_damage_on_disk_is_asked_again(void **state)
{
	struct part p;
	open_part(&p, 0);
	assert_int_equal(feed(&p, 100), 0);
	part_close(&p);
	flip("part", 7 * BLOCK + 3);
	flip("map", 88 + 8 * 9);   /* the sum of block 9 */
	flip("map", 88 + 8 * 200); /* block 200 never came: its sum cannot fit */
	open_part(&p, 98);
	assert_false(held(&p, 7));
	assert_false(held(&p, 9));
	assert_false(held(&p, 200));
	assert_int_equal(feed(&p, BLOCKS), 0);
	finish(&p);
}

static void test_torn_files_begin_anew(void **state)
{
	static const struct {
		const char *end;
		off_t size;
	} cuts[] = {
		{"map", 0},  {"map", 50},        {"map", 88},       {"map", 88 + 8 * BLOCKS - 1},
		{"part", 0}, {"part", SIZE - 1}, {"part", SIZE + 1}};
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		struct part p;
		char path[FILE_PATH_MAX];
		open_part(&p, 0);
		assert_int_equal(feed(&p, 20), 0);
		part_close(&p);
		path_of(cuts[i].end, path);
		assert_int_equal(truncate(path, cuts[i].size), 0);
		open_part(&p, 0);
		assert_int_equal(feed(&p, BLOCKS), 0);
		finish(&p);
		part_discard(dir, manifest.id);
	}
}

static void test_bad_headers_begin_anew(void **state)
{
	static const off_t at[] = {0, 8, 16, 20, 24, 87}; /* magic, size, block size, zero, id */
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		struct part p;
		open_part(&p, 0);
		assert_int_equal(feed(&p, 20), 0);
		part_close(&p);
		flip("map", at[i]);
		open_part(&p, 0);
		part_close(&p);
		part_discard(dir, manifest.id);
	}
}

static void test_other_sizes_begin_anew(void **state)
{
	struct part p;
	struct manifest other = manifest;
	open_part(&p, 0);
	assert_int_equal(feed(&p, 20), 0);
	part_close(&p);
	other.block_size = 2 * BLOCK;
	assert_int_equal(part_open(&p, dir, &other, 0, NULL), 0);
	assert_int_equal(p.xfer.n_held, 0);
	part_close(&p);
	open_part(&p, 0);
	assert_int_equal(feed(&p, 20), 0);
	part_close(&p);
	other = manifest;
	other.size--;
	assert_int_equal(part_open(&p, dir, &other, 0, NULL), 0);
	assert_int_equal(p.xfer.n_held, 0);
	part_close(&p);
}

static void test_missing_map(void **state)
{
	struct part p;
	char path[FILE_PATH_MAX];
	open_part(&p, 0);
	assert_int_equal(feed(&p, 20), 0);
	part_close(&p);
	path_of("map", path);
	assert_int_equal(unlink(path), 0);
	open_part(&p, 0);
	part_close(&p);
}

static void test_odd_things_in_the_way(void **state)
{
	struct part p;
	char path[FILE_PATH_MAX], target[FILE_PATH_MAX];
	path_of("part", path);
	assert_int_equal(file_path(target, sizeof(target), "%s/precious", dir), 0);
	assert_int_equal(file_write(target, "gold", 4, NULL), 0);
	assert_int_equal(symlink(target, path), 0);
	open_part(&p, 0);
	assert_int_equal(feed(&p, 3), 0);
	part_close(&p);
	part_discard(dir, manifest.id);
	_cleanup_free_ char *text = NULL;
	size_t len;
	assert_int_equal(file_read(target, 100, &text, &len, NULL), 0);
	assert_string_equal(text, "gold");
	assert_int_equal(mkdir(path, 0700), 0);
	open_part(&p, 0);
	part_close(&p);
}

static void test_bad_manifests(void **state)
{
	static const struct {
		int64_t size, block_size;
	} bad[] = {{0, BLOCK},         {-1, BLOCK},
		   {SIZE, 0},          {SIZE, -1},
		   {SIZE, 1023},       {SIZE, 128 * 1024 + 1},
		   {INT64_MAX, BLOCK}, {((int64_t)1 << 30) + 1, BLOCK}};
	struct part p;
	struct manifest m = manifest;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		m.size = bad[i].size;
		m.block_size = bad[i].block_size;
		assert_int_equal(part_open(&p, dir, &m, 0, NULL), -EINVAL);
	}
	m = manifest;
	strcpy(m.id, "../../x");
	assert_int_equal(part_open(&p, dir, &m, 0, NULL), -EINVAL);
	part_discard(dir, m.id);
	char nowhere[FILE_PATH_MAX];
	struct err err = {0};
	snprintf(nowhere, sizeof(nowhere), "%.900s/nowhere", dir);
	assert_int_equal(part_open(&p, nowhere, &manifest, 0, &err), -ENOENT);
	assert_non_null(strstr(err.text, "nowhere"));
}

static void touch(const char *name)
{
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/%s", dir, name), 0);
	assert_int_equal(file_write(path, "x", 1, NULL), 0);
}

static bool there(const char *name)
{
	char path[FILE_PATH_MAX];
	assert_int_equal(file_path(path, sizeof(path), "%s/%s", dir, name), 0);
	return file_exists(path);
}

#define OTHER "00000000000000000000000000000000000000000000000000000000000000ff"

static void test_sweep(void **state)
{
	static const char *const others[] = {OTHER ".part", OTHER ".map", OTHER ".map.tmp"};
	char mine[HASH_SIZE + 8];
	snprintf(mine, sizeof(mine), "%s.part", manifest.id);
	touch(mine);
	touch("notes");
	touch(OTHER);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		touch(others[i]);
	part_sweep(dir, manifest.id);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		assert_false(there(others[i]));
	/* What no transfer has made stays. */
	assert_true(there(mine) && there("notes") && there(OTHER));
	part_sweep(dir, "");
	assert_false(there(mine));
	assert_true(there("notes"));
	part_sweep("/nowhere", "");
}

static int open_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_no_descriptor_leaks(void **state)
{
	struct part p;
	struct manifest m = manifest;
	char path[FILE_PATH_MAX];
	int before = open_fds();
	open_part(&p, 0);
	assert_int_equal(feed(&p, BLOCKS), 0);
	finish(&p);
	open_part(&p, BLOCKS);
	part_close(&p);
	m.size = 1;
	m.block_size = 1;
	assert_int_equal(part_open(&p, dir, &m, 0, NULL), -EINVAL);
	path_of("map", path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0); /* the map cannot be opened: an error at open */
	assert_int_equal(part_open(&p, dir, &manifest, 0, NULL), -EISDIR);
	assert_int_equal(open_fds(), before);
}

/* ---- no room ---- */

/* Runs in a child: a limit on the size of files stands for a full disk. */
static int with_file_limit(void)
{
	struct rlimit lim = {SIZE / 2, SIZE / 2};
	struct part p;
	struct err err = {0};
	char path[FILE_PATH_MAX];
	uint32_t want[1];
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &lim) < 0 || part_open(&p, dir, &manifest, 0, NULL) < 0)
		return 1;
	xfer_want(&p.xfer, 0, want, 1);
	if (part_block(&p, 0, data, BLOCK, 0, &err) != -EFBIG || !strstr(err.text, ".part"))
		return 2;
	part_close(&p);
	path_of("part", path);
	return file_exists(path) ? 3 : 0;
}

/* The limit comes in the middle of a transfer. */
static int with_late_limit(void)
{
	struct rlimit lim = {SIZE / 2, SIZE};
	struct part p;
	struct err err = {0};
	signal(SIGXFSZ, SIG_IGN);
	if (part_open(&p, dir, &manifest, 0, &err) < 0 || feed(&p, 1) < 0 ||
	    setrlimit(RLIMIT_FSIZE, &lim) < 0)
		return 1;
	if (feed(&p, BLOCKS) != -EFBIG)
		return 2;
	uint32_t n = p.xfer.n_held;
	if (n < BLOCKS / 2 - 1 || n > BLOCKS / 2 + 1 || feed(&p, 1) == 0)
		return 3;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_FSIZE, &lim) < 0)
		return 4;
	xfer_restart(&p.xfer, 0); /* there is room again: it goes on where it was */
	if (p.xfer.n_held != n || feed(&p, BLOCKS) < 0 || !xfer_complete(&p.xfer))
		return 5;
	return part_finish(&p, (char[FILE_PATH_MAX]){0}, NULL);
}

static void in_child(int (*f)(void))
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(f());
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_file_limit(void **state)
{
	in_child(with_file_limit);
	in_child(with_late_limit);
}

static void test_full_disk(void **state)
{
	char small[FILE_PATH_MAX];
	struct err err = {0};
	struct part p;
	struct manifest m = manifest;
	assert_int_equal(file_path(small, sizeof(small), "%s/small", dir), 0);
	assert_int_equal(mkdir(small, 0700), 0);
	if (mount("tmpfs", small, "tmpfs", 0, "size=4m") < 0) {
		print_message("no small file system: mount: %s\n", strerror(errno));
		skip();
	}
	m.size = 64 * 1024 * 1024;
	m.block_size = 65536;
	int r = part_open(&p, small, &m, 0, &err), r2 = part_open(&p, small, &manifest, 0, NULL);
	uint64_t room = 0;
	if (r2 == 0) {
		part_close(&p);
		part_discard(small, manifest.id);
	}
	file_free_bytes(small, &room);
	umount(small);
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(err.text, "bytes free"));
	assert_int_equal(r2, 0);
	assert_true(room >= 4 * 1024 * 1024 - 65536); /* nothing was left behind */
}

/* A promise takes no room: whoever never sends a block, or sends none that fits, leaves nothing. */
static void test_no_room_before_the_first_block(void **state)
{
	char path[2][FILE_PATH_MAX];
	struct stat st;
	struct part p;
	uint32_t want[1];
	path_of("part", path[0]);
	path_of("map", path[1]);
	open_part(&p, 0);
	assert_int_equal(xfer_want(&p.xfer, 0, want, 1), 1);
	assert_int_equal(part_block(&p, 0, data, 5, 0, NULL), XFER_E_LENGTH);
	assert_int_equal(part_block(&p, 1, data, BLOCK, 0, NULL), XFER_E_UNASKED);
	assert_int_equal(part_block(&p, BLOCKS, data, BLOCK, 0, NULL), XFER_E_RANGE);
	for (int i = 0; i < 2; i++)
		assert_false(file_exists(path[i]));
	assert_false(part_there(dir, manifest.id));
	part_close(&p);
	open_part(&p, 0);
	assert_int_equal(feed(&p, 1), 0);
	assert_true(part_there(dir, manifest.id));
	assert_int_equal(stat(path[0], &st), 0);
	assert_int_equal(st.st_size, SIZE);
	part_close(&p);
	open_part(&p, 1);
	part_close(&p);
}

/* There was room when it was opened, and there is none when the first block comes: that block is
 * missing again, nothing is left behind, and it goes on when there is room. */
static int with_no_room_at_first_block(void)
{
	struct rlimit lim = {0, RLIM_INFINITY};
	struct part p;
	signal(SIGXFSZ, SIG_IGN);
	if (part_open(&p, dir, &manifest, 0, NULL) < 0 || setrlimit(RLIMIT_FSIZE, &lim) < 0)
		return 1;
	if (feed(&p, 1) >= 0 || p.xfer.n_held != 0 || part_there(dir, manifest.id))
		return 2;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_FSIZE, &lim) < 0)
		return 3;
	xfer_restart(&p.xfer, 0);
	if (feed(&p, BLOCKS) < 0 || !xfer_complete(&p.xfer))
		return 4;
	return part_finish(&p, (char[FILE_PATH_MAX]){0}, NULL);
}

static void test_no_room_at_first_block(void **state)
{
	in_child(with_no_room_at_first_block);
}

/* ---- the sender's side ---- */

static void test_read_block(void **state)
{
	char path[FILE_PATH_MAX];
	uint8_t buf[BLOCK];
	uint32_t len = 0;
	struct err err = {0};
	assert_int_equal(file_path(path, sizeof(path), "%s/whole", dir), 0);
	assert_int_equal(file_write(path, data, sizeof(data), NULL), 0);
	assert_int_equal(part_read_block(path, SIZE, BLOCK, 3, buf, &len, NULL), 0);
	assert_int_equal(len, BLOCK);
	assert_memory_equal(buf, data + 3 * BLOCK, BLOCK);
	assert_int_equal(part_read_block(path, SIZE, BLOCK, BLOCKS - 1, buf, &len, NULL), 0);
	assert_int_equal(len, 17);
	assert_int_equal(part_read_block(path, SIZE, BLOCK, BLOCKS, buf, &len, &err), -ERANGE);
	assert_int_equal(part_read_block(path, SIZE, BLOCK, UINT32_MAX, buf, &len, NULL), -ERANGE);
	assert_int_equal(part_read_block(path, SIZE, 0, 0, buf, &len, NULL), -ERANGE);
	assert_int_equal(truncate(path, SIZE - 1), 0);
	assert_int_equal(part_read_block(path, SIZE, BLOCK, BLOCKS - 1, buf, &len, &err), -EIO);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(part_read_block(path, SIZE, BLOCK, 0, buf, &len, NULL), -ENOENT);
}

/* ---- blocks that prove themselves ---- */

/* What a sender makes of the file: block i after its path. */
static uint32_t prove(struct proof *p, const char *path, uint32_t i, uint8_t *buf)
{
	uint32_t len = 0;
	struct err err = {0};
	if (proof_read_block(p, path, &manifest, i, buf, &len, &err) < 0)
		fail_msg("%s", err.text);
	return len;
}

static int begin_proof(struct proof *p, char path[FILE_PATH_MAX])
{
	assert_int_equal(file_path(path, FILE_PATH_MAX, "%s/whole", dir), 0);
	assert_int_equal(file_write(path, data, sizeof(data), NULL), 0);
	*p = (struct proof){0};
	return proof_root(p, path, &manifest, NULL);
}

static void end_proof(struct proof *p, const char *path)
{
	proof_done(p);
	manifest.root[0] = 0;
	assert_int_equal(unlink(path), 0);
}

static void test_proven_blocks_make_the_whole(void **state)
{
	struct proof proof;
	struct part p;
	char path[FILE_PATH_MAX];
	_cleanup_free_ uint8_t *buf = malloc(PROOF_BLOCK_MAX);
	assert_non_null(buf);
	assert_int_equal(begin_proof(&proof, path), 0);
	assert_true(hash_valid(manifest.root));
	open_part(&p, 0);
	p.xfer.any = true;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint32_t len = prove(&proof, path, i, buf);
		assert_int_equal(len, merkle_path_len(i, BLOCKS) + len_of(i));
		assert_int_equal(part_proven(&p, i, buf, len, 0, NULL), XFER_OK);
	}
	finish(&p);
	end_proof(&proof, path);
}

/* One bit of it, another's place, a piece of it: nothing of that is stored, all of it counted. */
static void test_forged_blocks_are_not_stored(void **state)
{
	struct proof proof;
	struct part p;
	char path[FILE_PATH_MAX], file[FILE_PATH_MAX];
	uint8_t buf[MERKLE_PATH_MAX + BLOCK];
	uint64_t n_forged = 0;
	assert_int_equal(begin_proof(&proof, path), 0);
	open_part(&p, 0);
	p.xfer.any = true;
	uint32_t len = prove(&proof, path, 7, buf);
	for (size_t b = 0; b < 8 * (size_t)len; b += 7, n_forged++) {
		buf[b / 8] ^= (uint8_t)(1 << b % 8);
		assert_int_equal(part_proven(&p, 7, buf, len, 0, NULL), XFER_E_FORGED);
		buf[b / 8] ^= (uint8_t)(1 << b % 8);
	}
	assert_int_equal(part_proven(&p, 6, buf, len, 0, NULL), XFER_E_FORGED);
	assert_int_equal(p.xfer.n_refused, n_forged + 1);
	for (size_t l = 0; l < len; l++)
		assert_int_equal(part_proven(&p, 7, buf, l, 0, NULL), XFER_E_LENGTH);
	assert_int_equal(part_proven(&p, BLOCKS, buf, len, 0, NULL), XFER_E_RANGE);
	assert_int_equal(part_proven(&p, UINT32_MAX, buf, 0, 0, NULL), XFER_E_RANGE);
	path_of("part", file);
	assert_false(file_exists(file));
	assert_int_equal(p.xfer.n_held, 0);
	p.root[0] = 0; /* nothing to prove it by */
	assert_int_equal(part_proven(&p, 7, buf, len, 0, NULL), XFER_E_FORGED);
	memcpy(p.root, manifest.root, HASH_SIZE);
	assert_int_equal(part_proven(&p, 7, buf, len, 0, NULL), XFER_OK);
	part_close(&p);
	end_proof(&proof, path);
}

/* Where the seal says whose it is, the whole says what it is: at the end. */
static void test_the_signers_own_are_judged_at_the_end(void **state)
{
	struct proof proof;
	struct part p;
	char path[FILE_PATH_MAX];
	uint8_t buf[MERKLE_PATH_MAX + BLOCK];
	assert_int_equal(begin_proof(&proof, path), 0);
	open_part(&p, 0);
	p.from_signer = p.xfer.any = true;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint32_t len = prove(&proof, path, i, buf);
		buf[len - 1] ^= i == 7;
		assert_int_equal(part_proven(&p, i, buf, len - 1, 0, NULL), XFER_E_LENGTH);
		assert_int_equal(part_proven(&p, i, buf, len, 0, NULL), XFER_OK);
	}
	struct err err = {0};
	char done[FILE_PATH_MAX];
	assert_int_equal(part_finish(&p, done, &err), -EBADMSG);
	end_proof(&proof, path);
}

/* The tree is of one payload: of the next one it is made anew, of the same one it is not. */
static void test_a_tree_is_made_once(void **state)
{
	struct proof proof;
	char path[FILE_PATH_MAX], root[HASH_SIZE];
	uint8_t buf[MERKLE_PATH_MAX + 2 * BLOCK];
	struct manifest other = manifest;
	assert_int_equal(begin_proof(&proof, path), 0);
	const struct merkle *made = proof.tree;
	memcpy(root, manifest.root, sizeof(root));
	assert_int_equal(proof_root(&proof, path, &manifest, NULL), 0);
	prove(&proof, path, 1, buf);
	assert_ptr_equal(proof.tree, made);
	other.block_size = 2 * BLOCK;
	assert_int_equal(proof_root(&proof, path, &other, NULL), 0);
	assert_string_not_equal(other.root, root);
	other = manifest;
	memset(other.id, 'a', HASH_HEX);
	other.size = 5 * BLOCK;
	assert_int_equal(proof_root(&proof, path, &other, NULL), 0);
	assert_string_not_equal(other.root, root);
	uint32_t len;
	assert_int_equal(proof_read_block(&proof, path, &other, 5, buf, &len, NULL), -ERANGE);
	other.size = SIZE + 1;
	assert_int_equal(proof_root(&proof, path, &other, NULL), -EIO);
	prove(&proof, path, 1, buf);
	end_proof(&proof, path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, clean, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole),
		TEST(test_resume_after_close),
		TEST(test_finish_too_early),
		TEST(test_kill_at_any_moment),
		TEST(test_wrong_bytes),
		TEST(test_damage_on_disk_is_asked_again),
		TEST(test_torn_files_begin_anew),
		TEST(test_bad_headers_begin_anew),
		TEST(test_other_sizes_begin_anew),
		TEST(test_missing_map),
		TEST(test_odd_things_in_the_way),
		TEST(test_bad_manifests),
		TEST(test_sweep),
		TEST(test_no_descriptor_leaks),
		TEST(test_file_limit),
		TEST(test_full_disk),
		TEST(test_no_room_before_the_first_block),
		TEST(test_no_room_at_first_block),
		TEST(test_read_block),
		TEST(test_proven_blocks_make_the_whole),
		TEST(test_forged_blocks_are_not_stored),
		TEST(test_a_tree_is_made_once),
		TEST(test_the_signers_own_are_judged_at_the_end),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
