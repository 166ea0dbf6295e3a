#include "common/trust/sealed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/hex.h"

#define INFO_PREFIX "tasuki/1 seal"
#define INFO_MAX    512 /* three ids, a fence, two words and a hash, each with its zero */

static int pair_of(const struct sealed *s, struct seal_pair *ret)
{
	uint8_t secret[SEAL_KEY];
	int r = hex_parse(s->secret, secret, SEAL_KEY);
	if (r == 0)
		r = seal_pair_of(secret, ret);
	seal_wipe(secret, sizeof(secret));
	return r;
}

int sealed_begin(struct sealed *s)
{
	struct seal_pair pair;
	int r = seal_pair_new(&pair);
	if (r < 0)
		return r;
	hex_print(pair.secret, SEAL_KEY, s->secret);
	s->theirs[0] = 0;
	seal_wipe(&pair, sizeof(pair));
	return 0;
}

int sealed_public(const struct sealed *s, char ret[HASH_SIZE])
{
	struct seal_pair pair;
	int r = pair_of(s, &pair);
	if (r < 0)
		return r;
	hex_print(pair.public, SEAL_KEY, ret);
	seal_wipe(&pair, sizeof(pair));
	return 0;
}

enum refusal sealed_check(const char *seal, struct err *err)
{
	static const uint8_t any[SEAL_KEY] = {1};
	uint8_t theirs[SEAL_KEY], shared[SEAL_KEY];
	if (hex_parse(seal, theirs, SEAL_KEY) < 0) {
		err_set(err, -EBADMSG, "seal: found '%s', expected %d lower-case hex digits", seal,
			HASH_HEX);
		return REFUSAL_UNSEALED;
	}
	/* Which points give zeros does not depend on the secret. */
	if (seal_shared(any, theirs, shared) == 0)
		return REFUSAL_NONE;
	err_set(err, -EBADMSG, "seal: found %s, expected no point of small order", seal);
	return REFUSAL_WEAK;
}

enum refusal sealed_refusal(enum xfer_result r)
{
	return r == XFER_E_PLAIN                        ? REFUSAL_UNSEALED
	       : r == XFER_E_SEAL || r == XFER_E_FORGED ? REFUSAL_BLOCK
							: REFUSAL_NONE;
}

void sealed_wipe(struct sealed *s)
{
	seal_wipe(s, sizeof(*s));
}

/* ---- keys ---- */

static size_t print_info(const struct sealed_transfer *t, char ret[INFO_MAX])
{
	int n = snprintf(ret, INFO_MAX, INFO_PREFIX "%c%s%c%s%c%s%c%" PRId64 "%c%s%c%s%c", 0,
			 t->site, 0, t->device, 0, t->trainer, 0, t->fence, 0,
			 t->to_device ? "to-device" : "to-trainer", 0, t->payload, 0);
	return n > 0 && n < INFO_MAX ? (size_t)n : 0;
}

static int derive(const struct sealed *s, const struct sealed_transfer *t, uint8_t ret[SEAL_KEY])
{
	struct seal_pair own;
	uint8_t theirs[SEAL_KEY], shared[SEAL_KEY], salt[2 * SEAL_KEY];
	uint8_t *const trainer = salt, *const device = salt + SEAL_KEY;
	char info[INFO_MAX];
	size_t info_len = print_info(t, info);
	int r = info_len ? pair_of(s, &own) : -EINVAL;
	if (r == 0)
		r = hex_parse(s->theirs, theirs, SEAL_KEY);
	if (r == 0)
		r = seal_shared(own.secret, theirs, shared);
	if (r == 0) {
		memcpy(trainer, t->own_device ? theirs : own.public, SEAL_KEY);
		memcpy(device, t->own_device ? own.public : theirs, SEAL_KEY);
		r = seal_derive(shared, sizeof(shared), salt, sizeof(salt), (const uint8_t *)info,
				info_len, ret, SEAL_KEY);
	}
	seal_wipe(&own, sizeof(own));
	seal_wipe(shared, sizeof(shared));
	return r;
}

const uint8_t *sealed_key(struct sealed_memo *m, const struct sealed *s,
			  const struct sealed_transfer *t)
{
	if (*m->payload && m->fence == t->fence && m->to_device == t->to_device &&
	    strcmp(m->payload, t->payload) == 0 && strcmp(m->of.secret, s->secret) == 0 &&
	    strcmp(m->of.theirs, s->theirs) == 0)
		return m->key;
	sealed_forget(m);
	if (!hash_valid(t->payload) || derive(s, t, m->key) < 0)
		return NULL;
	m->of = *s;
	m->fence = t->fence;
	m->to_device = t->to_device;
	memcpy(m->payload, t->payload, HASH_SIZE);
	return m->key;
}

void sealed_forget(struct sealed_memo *m)
{
	seal_wipe(m, sizeof(*m));
}
