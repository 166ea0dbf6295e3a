/* What a browser says to the broker, through the gateway's filter: the same passes in whatever
 * portions it comes, and what passes is what it may say. The first byte chooses the portions. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "dashboard/gateway/filter.h"
#include "tests/fuzz/fuzz.h"

#define CLIENT       "client-of-ours"
#define SITE         "tasuki/v1/s/"
#define OUT_MAX      (1024 * 1024)
#define CONNECT      0x10
#define ALLOWED      (1u << 1 | 1u << 4 | 1u << 8 | 1u << 10 | 1u << 12 | 1u << 14) /* types */
#define KEEPALIVE_AT 10 /* in a CONNECT below 128 bytes */

static uint8_t out[2][OUT_MAX];

/* Bytes that passed; *ret: how it ended. */
static size_t pass(const uint8_t *data, size_t size, uint32_t seed, uint8_t *to, int *ret)
{
	struct filter f;
	struct rng r;
	size_t n = 0;
	*ret = 0;
	rng_init(&r, seed);
	filter_init(&f, "s", CLIENT);
	for (size_t at = 0; at < size && *ret >= 0;) {
		size_t portion = seed ? 1 + rng_below(&r, (uint32_t)(size - at)) : size - at,
		       used = 0;
		uint8_t packet[FILTER_PACKET_MAX];
		struct err err = {0};
		*ret = filter_step(&f, data + at, portion, 0, &used, packet, &err);
		FUZZ_CHECK(used <= portion && (*ret >= 0 ? *ret || used == portion : *err.text));
		if (*ret > 0 && n + (size_t)*ret <= OUT_MAX) {
			FUZZ_CHECK(n || (packet[0] == CONNECT && f.connected));
			memcpy(to + n, packet, (size_t)*ret);
			n += (size_t)*ret;
		}
		at += used;
	}
	*ret = *ret > 0 ? 0 : *ret;
	return n;
}

static void check_connect(const uint8_t *p, size_t size)
{
	static const uint8_t head[] = {0, 4, 'M', 'Q', 'T', 'T', 5, 2};
	unsigned keepalive = (unsigned)p[KEEPALIVE_AT] << 8 | p[KEEPALIVE_AT + 1];
	FUZZ_CHECK(memcmp(p + 2, head, sizeof(head)) == 0);
	FUZZ_CHECK(keepalive >= FILTER_KEEPALIVE_MIN_S && keepalive <= FILTER_KEEPALIVE_MAX_S);
	FUZZ_CHECK(memcmp(p + size - strlen(CLIENT), CLIENT, strlen(CLIENT)) == 0);
}

static void check_subscribe(const uint8_t *p, const uint8_t *end)
{
	for (p += 3; p < end;) { /* packet id, no properties */
		size_t n = (size_t)p[0] << 8 | p[1];
		FUZZ_CHECK(n > strlen(SITE) && p + 2 + n < end);
		FUZZ_CHECK(memcmp(p + 2, SITE, strlen(SITE)) == 0 && !memchr(p + 2, '#', n));
		FUZZ_CHECK((p[2 + n] & 3) < 2);
		p += 2 + n + 1;
	}
}

/* Whole packets, each of a type that may be. */
static void check(const uint8_t *p, size_t size)
{
	for (size_t at = 0; at < size;) {
		size_t length = 0, head = 1;
		do
			length |= (size_t)(p[at + head] & 0x7f) << (7 * (head - 1));
		while (p[at + head++] & 0x80);
		FUZZ_CHECK(ALLOWED & 1u << (p[at] >> 4) && at + head + length <= size);
		FUZZ_CHECK((at == 0) == (p[at] == CONNECT));
		if (p[at] == CONNECT)
			check_connect(p, length + 2);
		if (p[at] == 0x82)
			check_subscribe(p + at + head, p + at + head + length);
		at += head + length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int whole, parts;
	if (!size || size > OUT_MAX / 2)
		return 0;
	size_t n = pass(data + 1, size - 1, 0, out[0], &whole);
	FUZZ_CHECK(pass(data + 1, size - 1, 1 + data[0], out[1], &parts) == n && parts == whole);
	FUZZ_CHECK(memcmp(out[0], out[1], n) == 0);
	check(out[0], n);
	fuzz_taken += n > 0;
	return 0;
}
