#include "dashboard/gateway/filter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/topic.h"

enum {
	CONNECT = 1,
	PUBLISH = 3,
	PUBACK = 4,
	SUBSCRIBE = 8,
	UNSUBSCRIBE = 10,
	PINGREQ = 12,
	DISCONNECT = 14,
};

#define CONNECT_CLEAN    0x02 /* of its flags: the one that may be set */
#define SUBSCRIBE_QOS    0x03 /* of a subscription's options */
#define SUBSCRIBE_UNUSED 0xc0
#define LENGTH_BYTES_MAX 4 /* of the remaining length */

/* Properties of CONNECT (section 3.1.2.11), how long their values are, and whether they pass: those
 * that bind the broker, not us. The others' defaults hold then. */
#define PROPERTY_TEXT  -1
#define PROPERTY_PAIR  -2
#define PROPERTIES_MAX 16 /* bytes that pass */
static const struct {
	uint8_t id;
	int8_t size;
	bool passes;
} properties[] = {
	{0x11, 4, false},             /* session expiry */
	{0x17, 1, true},              /* request problem information */
	{0x19, 1, false},             /* request response information */
	{0x21, 2, true},              /* receive maximum */
	{0x22, 2, false},             /* topic alias maximum */
	{0x26, PROPERTY_PAIR, false}, /* user property */
	{0x27, 4, true},              /* maximum packet size */
};

/* What a dashboard may read: broker-config/dashboard.acl. */
static const enum topic_kind readable[] = {
	TOPIC_DEVICE_PRESENCE,  TOPIC_DEVICE_STATUS,  TOPIC_DEVICE_REPORT, TOPIC_DEVICE_HISTORY,
	TOPIC_TRAINER_PRESENCE, TOPIC_TRAINER_STATUS, TOPIC_TRAINER_JOB,   TOPIC_FLEET_OFFER,
};

/* ---- the bytes of a packet ---- */

struct reader {
	const uint8_t *at, *end;
	bool short_of; /* there were fewer bytes than asked for */
};

static const uint8_t *take(struct reader *r, size_t n)
{
	if (r->short_of || (size_t)(r->end - r->at) < n) {
		r->short_of = true;
		return NULL;
	}
	r->at += n;
	return r->at - n;
}

static unsigned take_u8(struct reader *r)
{
	const uint8_t *p = take(r, 1);
	return p ? *p : 0;
}

static unsigned take_u16(struct reader *r)
{
	const uint8_t *p = take(r, 2);
	return p ? (unsigned)p[0] << 8 | p[1] : 0;
}

static const uint8_t *take_text(struct reader *r, size_t *ret_len)
{
	*ret_len = take_u16(r);
	return take(r, *ret_len);
}

/* A variable byte integer (section 1.5.5), of at most as many bytes as a packet's length has. */
static uint32_t take_varint(struct reader *r)
{
	uint32_t v = 0;
	for (int i = 0; i < LENGTH_BYTES_MAX; i++) {
		unsigned byte = take_u8(r);
		v |= (uint32_t)(byte & 0x7f) << (7 * i);
		if (!(byte & 0x80))
			return v;
	}
	r->short_of = true;
	return 0;
}

static int refuse(struct err *err, const char *found, const char *expected)
{
	return err_set(err, -EPROTO, "found %s, expected %s", found, expected);
}

/* ---- CONNECT ---- */

/* Reads the properties; those that pass go to `out`, *ret_len bytes. */
static int connect_properties(struct reader *r, uint8_t out[PROPERTIES_MAX], size_t *ret_len,
			      struct err *err)
{
	uint32_t seen = 0;
	size_t len = take_varint(r), n = 0, text;
	const uint8_t *from = take(r, len);
	struct reader p = {from, from ? from + len : from, false};
	while (from && p.at < p.end) {
		const uint8_t *begin = p.at;
		unsigned id = take_u8(&p);
		size_t i = 0;
		while (i < ARRAY_LEN(properties) && properties[i].id != id)
			i++;
		if (i == ARRAY_LEN(properties))
			return refuse(err, "a property that CONNECT may not have here",
				      "none such");
		if (properties[i].size != PROPERTY_PAIR && seen & 1u << i)
			return refuse(err, "a property of CONNECT twice", "it once");
		seen |= 1u << i;
		if (properties[i].size == PROPERTY_PAIR) {
			take_text(&p, &text);
			take_text(&p, &text);
		} else {
			take(&p, (size_t)properties[i].size);
		}
		if (p.short_of)
			return refuse(err, "a property of CONNECT cut off", "all of it");
		if (properties[i].passes) {
			memcpy(out + n, begin, (size_t)(p.at - begin));
			n += (size_t)(p.at - begin);
		}
	}
	*ret_len = n;
	return r->short_of ? refuse(err, "CONNECT cut off", "its properties") : 0;
}

static int write_connect(const struct filter *f, unsigned keepalive_s, const uint8_t *props,
			 size_t n_props, uint8_t *out)
{
	static const uint8_t name[] = {0, 4, 'M', 'Q', 'T', 'T', 5, CONNECT_CLEAN};
	size_t id = strlen(f->client);
	uint8_t *p = out;
	*p++ = CONNECT << 4;
	*p++ = (uint8_t)(sizeof(name) + 2 + 1 + n_props + 2 + id); /* below 128: one byte */
	memcpy(p, name, sizeof(name));
	p += sizeof(name);
	*p++ = (uint8_t)(keepalive_s >> 8);
	*p++ = (uint8_t)keepalive_s;
	*p++ = (uint8_t)n_props;
	memcpy(p, props, n_props);
	p += n_props;
	*p++ = 0;
	*p++ = (uint8_t)id;
	memcpy(p, f->client, id);
	return (int)(p + id - out);
}

static int on_connect(struct filter *f, struct reader r, uint8_t *out, struct err *err)
{
	uint8_t props[PROPERTIES_MAX];
	size_t len, n_props;
	const uint8_t *name = take_text(&r, &len);
	if (!name || len != 4 || memcmp(name, "MQTT", 4) != 0 || take_u8(&r) != 5)
		return refuse(err, "another protocol", "MQTT 5");
	unsigned flags = take_u8(&r), keepalive_s = take_u16(&r);
	if (flags != CONNECT_CLEAN)
		return refuse(err,
			      flags & 0x04   ? "a Will"
			      : flags & 0xc0 ? "a user name or password"
					     : "CONNECT without clean start",
			      "a CONNECT with clean start and nothing else");
	int rc = connect_properties(&r, props, &n_props, err);
	if (rc < 0)
		return rc;
	take_text(&r, &len);
	if (r.short_of || r.at != r.end)
		return refuse(err, "CONNECT of another length", "a client id at its end");
	keepalive_s = MIN_OF(MAX_OF(keepalive_s, FILTER_KEEPALIVE_MIN_S), FILTER_KEEPALIVE_MAX_S);
	f->connected = true;
	return write_connect(f, keepalive_s, props, n_props, out);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

/* Whether all topics of the filter (n bytes) are topics of `allowed`, whose levels are literal or
 * '+'. */
static bool covered(const char *filter, size_t n, const char *allowed)
{
	const char *end = filter + n;
	for (;;) {
		size_t a = strcspn(allowed, "/");
		const char *slash = memchr(filter, '/', (size_t)(end - filter));
		size_t len = (size_t)((slash ? slash : end) - filter);
		bool any = a == 1 && *allowed == '+';
		if (any ? !len || (len > 1 && memchr(filter, '+', len)) || memchr(filter, '#', len)
			: len != a || memcmp(filter, allowed, a) != 0)
			return false;
		if (!slash || !allowed[a])
			return !slash && !allowed[a];
		filter = slash + 1;
		allowed += a + 1;
	}
}

static bool may_read(const struct filter *f, const char *filter, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(readable); i++) {
		char allowed[TOPIC_SIZE];
		struct topic t = {.kind = readable[i]};
		if (topic_filter(allowed, f->site, &t, NULL) == 0 && covered(filter, n, allowed))
			return true;
	}
	return false;
}

static int subscribe_one(struct filter *f, struct reader *r, const uint8_t *filter, size_t len,
			 int64_t now_ms, struct err *err)
{
	unsigned options = take_u8(r);
	if (r->short_of)
		return refuse(err, "SUBSCRIBE cut off", "options of each filter");
	if (options & SUBSCRIBE_UNUSED || (options & SUBSCRIBE_QOS) > 1)
		return refuse(err, "a subscription of QoS 2", "QoS 0 or 1");
	if (!may_read(f, (const char *)filter, len))
		return refuse(
			err, "a subscription to what dashboards may not read",
			"presence, status, reports and jobs of the site, and what is offered to "
			"its fleet");
	if (++f->subscriptions > FILTER_SUBSCRIPTIONS_MAX)
		return err_set(err, -EDQUOT, "found %u subscriptions, expected at most %d",
			       f->subscriptions, FILTER_SUBSCRIPTIONS_MAX);
	if (!bucket_take(&f->subscribes, &FILTER_SUBSCRIBES, now_ms, NULL))
		return err_set(err, -EDQUOT,
			       "found too many subscriptions at once, expected %g a second",
			       FILTER_SUBSCRIBES.per_s);
	return 0;
}

/* Both: packet id, no properties, at least one filter. */
static int on_filters(struct filter *f, struct reader r, bool subscribe, int64_t now_ms,
		      struct err *err)
{
	unsigned id = take_u16(&r);
	if (r.short_of || !id || take_u8(&r) != 0)
		return refuse(err, "SUBSCRIBE or UNSUBSCRIBE with properties or no packet id",
			      "a packet id and no properties");
	do {
		size_t len;
		const uint8_t *filter = take_text(&r, &len);
		if (!filter || !len)
			return refuse(err, "no topic filter", "at least one");
		int rc = subscribe ? subscribe_one(f, &r, filter, len, now_ms, err) : 0;
		if (rc < 0)
			return rc;
	} while (r.at < r.end);
	return r.short_of ? refuse(err, "a packet cut off", "all of it") : 0;
}

/* A packet id, and nothing, or a reason code, or that and no properties. */
static int on_puback(struct reader r, struct err *err)
{
	size_t n = (size_t)(r.end - r.at);
	if (n < 2 || n > 4 || !take_u16(&r) || (n == 4 && r.end[-1] != 0))
		return refuse(err, "PUBACK of another form", "a packet id and a reason code");
	return 0;
}

/* ---- packets ---- */

/* The whole packet is there; its body from `body`. */
static int on_packet(struct filter *f, size_t body, int64_t now_ms, uint8_t *out, struct err *err)
{
	unsigned type = f->packet[0] >> 4, flags = f->packet[0] & 0x0f;
	struct reader r = {f->packet + body, f->packet + f->have, false};
	int rc = 0;
	if (type == PUBLISH)
		return refuse(err, "PUBLISH", "a packet of somebody who only looks");
	if (flags != (type == SUBSCRIBE || type == UNSUBSCRIBE ? 2 : 0))
		return refuse(err, "flags that a packet does not have", "those of its type");
	if (!f->connected)
		return type == CONNECT ? on_connect(f, r, out, err)
				       : refuse(err, "another packet first", "CONNECT");
	if (type == SUBSCRIBE || type == UNSUBSCRIBE)
		rc = on_filters(f, r, type == SUBSCRIBE, now_ms, err);
	else if (type == PUBACK)
		rc = on_puback(r, err);
	else if (type == PINGREQ && r.at == r.end)
		rc = 0;
	else if (type == DISCONNECT) /* without properties: they could ask for a session */
		f->packet[1] = 0, f->have = 2, f->ended = true;
	else
		rc = err_set(err, -EPROTO,
			     "found a packet of type %u, expected one of somebody who only looks",
			     type);
	if (rc < 0)
		return rc;
	memcpy(out, f->packet, f->have);
	return (int)f->have;
}

/* Bytes of the packet that has begun, as far as known: at least one more than there are until its
 * length is known. *ret_body: where its body begins. 0: the length is none. */
static size_t packet_bytes(const struct filter *f, size_t *ret_body)
{
	uint32_t length = 0;
	for (size_t i = 1; i <= LENGTH_BYTES_MAX; i++) {
		if (i >= f->have)
			return i + 1;
		length |= (uint32_t)(f->packet[i] & 0x7f) << (7 * (i - 1));
		if (!(f->packet[i] & 0x80)) {
			*ret_body = i + 1;
			return i + 1 + length;
		}
	}
	return 0;
}

void filter_init(struct filter *f, const char *site, const char *client)
{
	*f = (struct filter){0};
	snprintf(f->site, sizeof(f->site), "%s", site);
	snprintf(f->client, sizeof(f->client), "%s", client);
}

int filter_step(struct filter *f, const uint8_t *in, size_t len, int64_t now_ms, size_t *ret_used,
		uint8_t out[FILTER_PACKET_MAX], struct err *err)
{
	size_t used = 0, body = 0, bytes;
	int r = 0;
	if (f->refused || f->ended)
		return refuse(err, "more", "nothing after the end");
	for (;;) {
		bytes = packet_bytes(f, &body);
		if (!bytes)
			r = refuse(err, "a length of five bytes", "at most four");
		else if (bytes > FILTER_PACKET_MAX)
			r = err_set(err, -E2BIG, "found a packet of %zu bytes, expected at most %d",
				    bytes, FILTER_PACKET_MAX);
		else if (body && f->have == bytes)
			r = on_packet(f, body, now_ms, out, err);
		if (r < 0) {
			f->refused = true;
			return r;
		}
		if (r > 0)
			break;
		size_t n = MIN_OF(bytes - f->have, len - used);
		if (!n)
			break;
		memcpy(f->packet + f->have, in + used, n);
		f->have += n;
		used += n;
	}
	if (r > 0)
		f->have = 0;
	*ret_used = used;
	return r;
}
