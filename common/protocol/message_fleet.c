/* fleet/offer: a checkpoint for everyone, and who is to take it first; .../key: what its blocks are
 * sealed with. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/protocol/field.h"
#include "common/protocol/message.h"

int64_t fleet_place(const char *device, int64_t sequence)
{
	char text[ID_SIZE + 24], hash[HASH_SIZE];
	int n = snprintf(text, sizeof(text), "%lld %s", (long long)sequence, device);
	if (n < 0 || n >= (int)sizeof(text) || hash_bytes(text, (size_t)n, hash) < 0)
		return 99; /* among the last */
	hash[8] = 0;
	return (int64_t)(strtoul(hash, NULL, 16) % 100);
}

bool fleet_has(const char *device, int64_t sequence, int64_t share)
{
	return fleet_place(device, sequence) < share;
}

static const char *const fleet_names[] = {"share",     "halted", "reason",
					  "starts_in_ms", "spread_ms", "test",   NULL};

char *msg_fleet_print(const struct msg_fleet *m)
{
	struct json *obj = json_new_obj();
	manifest_to_json(&m->manifest, obj);
	json_set_int(obj, "share", m->share);
	if (m->halted) {
		json_set_bool(obj, "halted", true);
		put_optional(obj, "reason", m->reason, sizeof(m->reason) - 1);
	}
	if (m->starts_in_ms >= 0)
		json_set_int(obj, "starts_in_ms", m->starts_in_ms);
	json_set_int(obj, "spread_ms", m->spread_ms);
	put_score(obj, "test", OPTIONAL, &m->test);
	return put_print(obj);
}

int msg_fleet_parse(const void *p, size_t len, struct msg_fleet *ret, struct err *err)
{
	struct msg_fleet m = {.starts_in_ms = -1};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "fleet offer", p, len, MESSAGE_LARGE_MAX, err);
	if (f.r == 0)
		f.r = manifest_from_json(f.obj, fleet_names, &m.manifest, f.err);
	if (f.r == 0 && m.manifest.origin != ORIGIN_FLEET)
		f.r = err_set(err, -EINVAL, "origin: found %s, expected fleet",
			      origin_name(m.manifest.origin));
	if (f.r == 0 && m.manifest.n_parents)
		f.r = err_set(err, -EINVAL,
			      "parents: found %zu, expected none: whose they are is not for all",
			      m.manifest.n_parents);
	if (f.r == 0 && !*m.manifest.trainer)
		f.r = err_set(err, -EINVAL, "trainer: found nothing, expected who has it");
	if (f.r == 0 && !m.manifest.sequence)
		f.r = err_set(err, -ENOENT, "sequence: missing");
	field_int(&f, "share", REQUIRED, 1, 100, &m.share);
	field_bool(&f, "halted", OPTIONAL, &m.halted);
	field_text(&f, "reason", OPTIONAL, m.reason, sizeof(m.reason));
	field_int(&f, "starts_in_ms", OPTIONAL, 0, FLEET_SPREAD_MAX_MS, &m.starts_in_ms);
	field_int(&f, "spread_ms", REQUIRED, 0, FLEET_SPREAD_MAX_MS, &m.spread_ms);
	field_score(&f, "test", OPTIONAL, &m.test);
	if (fields_end_plain(&f) < 0)
		return f.r;
	if (!m.halted)
		m.reason[0] = 0;
	*ret = m;
	return 0;
}

char *msg_key_print(const struct msg_key *m)
{
	struct json *obj = json_new_obj();
	json_set_str(obj, "trainer", m->trainer);
	json_set_int(obj, "sequence", m->sequence);
	json_set_str(obj, "seal", m->seal);
	put_optional(obj, "key", m->key, sizeof(m->key) - 1);
	return put_print(obj);
}

int msg_key_parse(const void *p, size_t len, struct msg_key *ret, struct err *err)
{
	struct msg_key m = {0};
	uint8_t sealed[MESSAGE_SITE_KEY / 2];
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "key", p, len, MESSAGE_SMALL_MAX, err);
	field_id(&f, "trainer", REQUIRED, m.trainer);
	field_int(&f, "sequence", REQUIRED, 1, JSON_INT_MAX, &m.sequence);
	field_hash(&f, "seal", REQUIRED, m.seal);
	field_text(&f, "key", OPTIONAL, m.key, sizeof(m.key));
	if (f.r == 0 && *m.key && hex_parse(m.key, sealed, sizeof(sealed)) < 0)
		f.r = err_set(err, -EINVAL, "key: expected %d lower-case hex digits",
			      MESSAGE_SITE_KEY);
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}
