#include "common/trust/sitekey.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/mem.h"

#define INFO_MAX (32 + 3 * ID_SIZE + 21)

static size_t describe(const struct sitekey_way *w, char out[INFO_MAX])
{
	return (size_t)snprintf(out, INFO_MAX, "tasuki/1 site key%c%s%c%s%c%s%c%lld", 0, w->site, 0,
				w->device, 0, w->trainer, 0, (long long)w->sequence);
}

/* The key that the site key travels under: the same at both ends. */
static int derive(const char *info, size_t info_len, const uint8_t secret[SEAL_KEY],
		  const uint8_t theirs[SEAL_KEY], const uint8_t device[SEAL_KEY],
		  const uint8_t trainer[SEAL_KEY], uint8_t ret[SEAL_KEY])
{
	uint8_t shared[SEAL_KEY], salt[2 * SEAL_KEY];
	memcpy(salt, device, SEAL_KEY);
	memcpy(salt + SEAL_KEY, trainer, SEAL_KEY);
	int r = seal_shared(secret, theirs, shared);
	if (r == 0)
		r = seal_derive(shared, sizeof(shared), salt, sizeof(salt), (const uint8_t *)info,
				info_len, ret, SEAL_KEY);
	seal_wipe(shared, sizeof(shared));
	return r;
}

int sitekey_wrap(const struct sitekey_way *w, const char *theirs, const uint8_t key[SEAL_KEY],
		 char ret_seal[HASH_SIZE], char ret_key[2 * SITEKEY_SEALED + 1])
{
	_cleanup_(seal_freep) struct seal *s = NULL;
	struct seal_pair mine;
	uint8_t device[SEAL_KEY], wrap[SEAL_KEY], sealed[SITEKEY_SEALED];
	char info[INFO_MAX];
	size_t len = describe(w, info);
	if (hex_parse(theirs, device, SEAL_KEY) < 0)
		return -EBADMSG;
	int r = seal_new(&s);
	if (r == 0)
		r = seal_pair_new(&mine);
	if (r < 0)
		return r;
	r = derive(info, len, mine.secret, device, device, mine.public, wrap);
	if (r == 0)
		r = seal_block(s, wrap, info, len, key, SEAL_KEY, sealed);
	seal_wipe(mine.secret, sizeof(mine.secret));
	seal_wipe(wrap, sizeof(wrap));
	if (r < 0)
		return r;
	hex_print(mine.public, SEAL_KEY, ret_seal);
	hex_print(sealed, sizeof(sealed), ret_key);
	return 0;
}

int sitekey_unwrap(const struct sitekey_way *w, const struct seal_pair *mine, const char *theirs,
		   const char *sealed, uint8_t ret[SEAL_KEY])
{
	_cleanup_(seal_freep) struct seal *s = NULL;
	uint8_t trainer[SEAL_KEY], wrap[SEAL_KEY], bytes[SITEKEY_SEALED];
	char info[INFO_MAX];
	size_t len = describe(w, info);
	if (hex_parse(theirs, trainer, SEAL_KEY) < 0 || hex_parse(sealed, bytes, sizeof(bytes)) < 0)
		return -EBADMSG;
	int r = seal_new(&s);
	if (r == 0)
		r = derive(info, len, mine->secret, trainer, mine->public, trainer, wrap);
	if (r == 0)
		r = open_block(s, wrap, info, len, bytes, sizeof(bytes), ret);
	seal_wipe(wrap, sizeof(wrap));
	return r;
}
