#include "dashboard/gateway/access.h"

#include <stdio.h>
#include <string.h>

/* The bucket of an address: its own, or that of the one that tried longest ago. */
static struct bucket *tries_of(struct access *a, const char *address)
{
	uint32_t oldest = 0;
	for (uint32_t i = 0; i < ACCESS_ADDRESSES_MAX; i++) {
		if (strcmp(a->addresses[i].address, address) == 0)
			return &a->addresses[i].tries;
		if (a->addresses[i].tries.at_ms < a->addresses[oldest].tries.at_ms)
			oldest = i;
	}
	memset(&a->addresses[oldest], 0, sizeof(a->addresses[oldest]));
	snprintf(a->addresses[oldest].address, PEER_SIZE, "%s", address);
	return &a->addresses[oldest].tries;
}

bool access_may_try(struct access *a, const char *address, int64_t now_ms, int64_t *ret_wait_ms)
{
	struct bucket *own = tries_of(a, address);
	/* What an address may not costs the others nothing. */
	if (!bucket_has(own, &ACCESS_TRIES_ADDRESS, 1, now_ms, ret_wait_ms) ||
	    !bucket_take(&a->tries, &ACCESS_TRIES_ALL, now_ms, ret_wait_ms))
		return false;
	bucket_use(own, 1);
	return true;
}

static bool valid(const struct access_session *s, int64_t now_ms)
{
	return s->open && now_ms - s->opened_ms < ACCESS_LIFE_MS &&
	       now_ms - s->used_ms < ACCESS_IDLE_MS;
}

void access_open(struct access *a, const uint8_t token[ACCESS_TOKEN], int64_t now_ms)
{
	struct access_session *to = &a->sessions[0];
	for (uint32_t i = 0; i < ACCESS_SESSIONS_MAX && valid(to, now_ms); i++)
		if (!valid(&a->sessions[i], now_ms) || a->sessions[i].used_ms < to->used_ms)
			to = &a->sessions[i];
	*to = (struct access_session){.open = true, .opened_ms = now_ms, .used_ms = now_ms};
	memcpy(to->token, token, ACCESS_TOKEN);
}

static bool same(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t differ = 0;
	for (int i = 0; i < ACCESS_TOKEN; i++)
		differ = (uint8_t)(differ | (a[i] ^ b[i]));
	return !differ;
}

struct access_session *access_find(struct access *a, const uint8_t token[ACCESS_TOKEN],
				   int64_t now_ms)
{
	struct access_session *found = NULL;
	for (uint32_t i = 0; i < ACCESS_SESSIONS_MAX; i++) {
		struct access_session *s = &a->sessions[i];
		bool is = same(s->token, token);
		if (is && valid(s, now_ms))
			found = s;
	}
	return found;
}

bool access_command(struct access_session *s, int64_t now_ms)
{
	s->used_ms = now_ms;
	return bucket_take(&s->commands, &ACCESS_COMMANDS, now_ms, NULL);
}

void access_close(struct access_session *s)
{
	memset(s, 0, sizeof(*s));
}
