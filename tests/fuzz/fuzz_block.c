/* Blocks that come in: the input is, after a byte of switches, a part file and its map that lie
 * there from before (bit 0; two bytes big endian say how much of what follows is the map), and then
 * a script of what a peer, a crash and a clock do, an operation a byte:
 *
 *   0 N      wishes, at most N                  4        the file is finished
 *   1 B L    block B of its bytes, L too short  5 T      T * 100 ms pass; a timeout, if it is due
 *   2 B C    block B, its bytes changed by C    6        the connection was lost
 *   3 A A V  byte A of part or map becomes V    7        closed, and opened again
 *   8 B      block B is wished of us
 *
 * However they come, blocks of a checkpoint are complete only when each was there, and what is
 * finished is the checkpoint. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/transfer/part.h"
#include "tests/fuzz/fuzz.h"

#define BLOCK   MANIFEST_BLOCK_MIN
#define SIZE    (3 * BLOCK + 100)
#define BLOCKS  4
#define OPS_MAX 200

struct script {
	const uint8_t *at;
	size_t left;
};

static uint8_t payload[SIZE];
static struct manifest manifest = {.size = SIZE, .block_size = BLOCK};
static char dir[FILE_PATH_MAX], data_path[FILE_PATH_MAX], map_path[FILE_PATH_MAX];

static void begin(void)
{
	char name[HASH_SIZE + 8];
	for (size_t i = 0; i < SIZE; i++)
		payload[i] = (uint8_t)(i * 7 + i / BLOCK);
	FUZZ_CHECK(hash_bytes(payload, SIZE, manifest.id) == 0);
	fuzz_path("", dir);
	snprintf(name, sizeof(name), "%s.part", manifest.id);
	fuzz_path(name, data_path);
	snprintf(name, sizeof(name), "%s.map", manifest.id);
	fuzz_path(name, map_path);
}

static uint8_t next(struct script *s)
{
	if (s->left == 0)
		return 0;
	s->left--;
	return *s->at++;
}

static void check_counts(const struct part *p)
{
	const struct xfer *x = &p->xfer;
	uint32_t held = 0, asked = 0;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		held += x->held[i / 8] >> i % 8 & 1;
		asked += x->asked[i / 8] >> i % 8 & 1;
		FUZZ_CHECK(!(x->held[i / 8] & x->asked[i / 8] & 1 << i % 8));
	}
	FUZZ_CHECK(x->n_blocks == BLOCKS && x->n_held == held && x->n_asked == asked);
	FUZZ_CHECK(x->window >= XFER_WINDOW_MIN && x->window <= x->window_max);
}

static void open_part(struct part *p, int64_t now_ms)
{
	struct err err = {0};
	FUZZ_CHECK(part_open(p, dir, &manifest, now_ms, &err) == 0);
}

static void take_block(struct part *p, struct script *s, bool changed, int64_t now_ms)
{
	uint8_t bytes[BLOCK + 1];
	uint32_t i = next(s), held = p->xfer.n_held;
	uint8_t by = next(s);
	size_t at = (size_t)i * BLOCK, len = at < SIZE ? MIN_OF((size_t)BLOCK, SIZE - at) : 0;
	struct err err = {0};
	memcpy(bytes, payload + (len ? at : 0), len);
	if (changed && len)
		bytes[by % len] ^= (uint8_t)(by | 1);
	else
		len += by == 255 ? 1 : 0 - MIN_OF((size_t)by, len);
	int r = part_block(p, i, bytes, len, now_ms, &err);
	FUZZ_CHECK(r >= 0 && p->xfer.n_held == held + (r == XFER_OK));
	FUZZ_CHECK(r != XFER_OK || (i < BLOCKS && len == xfer_block_len(&p->xfer, i)));
}

static void tamper(struct script *s)
{
	size_t at = next(s);
	at = at << 8 | next(s);
	uint8_t byte = next(s);
	_cleanup_file_ FILE *f = fopen(at & 0x8000 ? map_path : data_path, "r+e");
	if (f && fseek(f, (long)(at & 0x7fff), SEEK_SET) == 0)
		fputc(byte, f);
}

/* The sender's side, of what is there so far. */
static void send_block(uint32_t i)
{
	uint8_t buf[BLOCK];
	uint32_t len = 0;
	struct err err = {0};
	if (part_read_block(data_path, SIZE, BLOCK, i, buf, &len, &err) < 0)
		FUZZ_CHECK(*err.text && len == 0);
	else
		FUZZ_CHECK(i < BLOCKS && len > 0 && len <= BLOCK);
}

static void finish(struct part *p)
{
	_cleanup_free_ char *found = NULL;
	char path[FILE_PATH_MAX] = "untouched";
	size_t len;
	struct err err = {0};
	bool whole = xfer_complete(&p->xfer);
	int r = part_finish(p, path, &err);
	FUZZ_CHECK((r == -EAGAIN) == !whole && (r == 0 || r == -EAGAIN || r == -EBADMSG));
	if (r < 0) {
		FUZZ_CHECK(*err.text && strcmp(path, "untouched") == 0);
		FUZZ_CHECK(r == -EAGAIN || (!file_exists(data_path) && !file_exists(map_path)));
		return;
	}
	fuzz_taken++;
	FUZZ_CHECK(file_read(path, SIZE, &found, &len, &err) == 0 && len == SIZE);
	FUZZ_CHECK(memcmp(found, payload, SIZE) == 0 && !file_exists(map_path));
}

static void run(struct part *p, struct script *s)
{
	uint32_t wishes[XFER_WINDOW_MAX];
	int64_t now_ms = 1000;
	size_t n;
	for (unsigned i = 0; s->left && i < OPS_MAX; i++) {
		uint8_t op = next(s);
		switch (op % 9) {
		case 0:
			n = xfer_want(&p->xfer, now_ms, wishes, next(s));
			for (size_t k = 0; k < n; k++)
				FUZZ_CHECK(wishes[k] < BLOCKS);
			break;
		case 1:
		case 2:
			take_block(p, s, op % 9 == 2, now_ms);
			break;
		case 3:
			tamper(s);
			break;
		case 4:
			finish(p);
			open_part(p, now_ms);
			break;
		case 5:
			now_ms += 100 * next(s);
			xfer_timeout(&p->xfer, now_ms);
			break;
		case 6:
			xfer_restart(&p->xfer, now_ms);
			break;
		case 7:
			part_close(p);
			open_part(p, now_ms);
			break;
		case 8:
			send_block(next(s));
			break;
		}
		check_counts(p);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = {data, size};
	struct part p;
	if (!*dir)
		begin();
	unlink(data_path);
	unlink(map_path);
	if (next(&s) & 1) {
		size_t n = next(&s);
		n = n << 8 | next(&s);
		n = MIN_OF(n, s.left);
		fuzz_put(map_path, s.at, n);
		fuzz_put(data_path, payload, SIZE);
		s = (struct script){s.at + n, s.left - n};
	}
	open_part(&p, 1000);
	check_counts(&p);
	run(&p, &s);
	part_close(&p);
	return 0;
}
