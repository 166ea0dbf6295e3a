/* Every topic is one row of `patterns`; formatting, filters and parsing all walk that table.
 * A level of one capital letter stands for a part of `struct topic`: D device, T trainer,
 * R the client of a reply, C checkpoint, B block. All other levels are literal. */
#include "common/protocol/topic.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/transfer/xfer.h"

static const char *const patterns[TOPIC_N] = {
	[TOPIC_DEVICE_PRESENCE] = "device/D/presence",
	[TOPIC_DEVICE_STATUS] = "device/D/status",
	[TOPIC_DEVICE_HISTORY] = "device/D/history",
	[TOPIC_DEVICE_REPORT] = "device/D/report",
	[TOPIC_DEVICE_OFFER] = "device/D/offer",
	[TOPIC_DEVICE_CLAIM] = "device/D/in/claim",
	[TOPIC_DEVICE_RESULT] = "device/D/in/offer",
	[TOPIC_DEVICE_WANT] = "device/D/in/want",
	[TOPIC_DEVICE_BLOCK] = "device/D/in/block/C/B",
	[TOPIC_DEVICE_KEY] = "device/D/in/key",
	[TOPIC_DEVICE_ACK] = "device/D/in/ack",
	[TOPIC_DEVICE_CMD] = "device/D/in/cmd",
	[TOPIC_FLEET_CMD] = "fleet/cmd",
	[TOPIC_FLEET_OFFER] = "fleet/offer",
	[TOPIC_FLEET_BLOCK] = "fleet/block/C/B",
	[TOPIC_TRAINER_PRESENCE] = "trainer/T/presence",
	[TOPIC_TRAINER_STATUS] = "trainer/T/status",
	[TOPIC_TRAINER_JOB] = "trainer/T/job/D",
	[TOPIC_TRAINER_GRANT] = "trainer/T/in/D/grant",
	[TOPIC_TRAINER_WANT] = "trainer/T/in/D/want",
	[TOPIC_TRAINER_BLOCK] = "trainer/T/in/D/block/C/B",
	[TOPIC_TRAINER_KEY] = "trainer/T/in/D/key",
	[TOPIC_TRAINER_ACK] = "trainer/T/in/D/ack",
	[TOPIC_REPLY] = "reply/R",
};

struct out {
	char *buf;
	size_t len;
	int r;
};

static void put(struct out *o, const char *s, size_t n)
{
	if (o->r < 0)
		return;
	if (o->len + n >= TOPIC_SIZE) {
		o->r = -ENAMETOOLONG;
		return;
	}
	memcpy(o->buf + o->len, s, n);
	o->len += n;
	o->buf[o->len] = 0;
}

static bool is_part(const char *level, size_t len)
{
	return len == 1 && strchr("DTRCB", *level);
}

/* The text of one part; with `wild` '+' for an empty one. NULL: missing or invalid. */
static const char *part_text(const struct topic *t, char part, bool wild, char number[16])
{
	const char *s = part == 'D'   ? t->device
			: part == 'T' ? t->trainer
			: part == 'R' ? t->client
				      : t->checkpoint;
	if (wild && (!*s || part == 'B'))
		return "+";
	switch (part) {
	case 'C':
		return hash_valid(s) ? s : NULL;
	case 'B':
		if (t->block >= XFER_BLOCKS_MAX)
			return NULL;
		snprintf(number, 16, "%u", (unsigned)t->block);
		return number;
	}
	return id_valid(s) ? s : NULL;
}

static void put_pattern(struct out *o, const struct topic *t, bool wild)
{
	for (const char *p = patterns[t->kind]; o->r == 0;) {
		size_t n = strcspn(p, "/");
		char number[16];
		const char *text = p;
		size_t len = n;
		if (is_part(p, n)) {
			text = part_text(t, *p, wild, number);
			if (!text) {
				o->r = -EINVAL;
				return;
			}
			len = strlen(text);
		}
		put(o, "/", 1);
		put(o, text, len);
		if (!p[n])
			return;
		p += n + 1;
	}
}

static int format(char buf[TOPIC_SIZE], const char *site, const struct topic *t, const char *share,
		  bool wild)
{
	struct out o = {.buf = buf};
	buf[0] = 0;
	if (!id_valid(site) || t->kind >= TOPIC_N || (share && !id_valid(share)))
		return -EINVAL;
	if (share) {
		put(&o, "$share/", 7);
		put(&o, share, strlen(share));
		put(&o, "/", 1);
	}
	put(&o, "tasuki/v1/", 10);
	put(&o, site, strlen(site));
	put_pattern(&o, t, wild);
	if (o.r < 0)
		buf[0] = 0;
	return o.r;
}

int topic_format(char buf[TOPIC_SIZE], const char *site, const struct topic *t)
{
	return format(buf, site, t, NULL, false);
}

int topic_filter(char buf[TOPIC_SIZE], const char *site, const struct topic *t, const char *share)
{
	return format(buf, site, t, share, true);
}

/* Plain decimal without sign or leading zeros: each block has exactly one name. */
static bool parse_block(const char *s, uint32_t *ret)
{
	uint32_t v = 0;
	size_t n = strspn(s, "0123456789");
	if (n == 0 || n > 7 || s[n] || (n > 1 && *s == '0'))
		return false;
	for (; *s; s++)
		v = v * 10 + (uint32_t)(*s - '0');
	if (v >= XFER_BLOCKS_MAX)
		return false;
	*ret = v;
	return true;
}

static bool take_part(struct topic *t, char part, const char *level, size_t len)
{
	char text[HASH_SIZE];
	if (len >= sizeof(text))
		return false;
	memcpy(text, level, len);
	text[len] = 0;
	if (part == 'B')
		return parse_block(text, &t->block);
	if (part == 'C' ? !hash_valid(text) : !id_valid(text))
		return false;
	char *to = part == 'D'   ? t->device
		   : part == 'T' ? t->trainer
		   : part == 'R' ? t->client
				 : t->checkpoint;
	memcpy(to, text, len + 1);
	return true;
}

/* What may follow reply/<client>: "", or further levels, none empty, of printable ASCII without
 * wildcards. Whoever asked chose them. */
static bool reply_rest_valid(const char *s)
{
	if (!*s)
		return true;
	if (*s != '/')
		return false;
	for (; *s; s++)
		if (*s <= ' ' || *s > '~' || strchr("+#", *s) ||
		    (*s == '/' && (!s[1] || s[1] == '/')))
			return false;
	return true;
}

static bool match(const char *s, enum topic_kind kind, struct topic *ret)
{
	struct topic t = {.kind = kind};
	for (const char *p = patterns[kind];;) {
		size_t n = strcspn(p, "/"), len = strcspn(s, "/");
		if (is_part(p, n)) {
			if (!take_part(&t, *p, s, len))
				return false;
		} else if (len != n || memcmp(s, p, n) != 0) {
			return false;
		}
		p += n;
		s += len;
		if (!*p)
			break;
		if (!*s)
			return false;
		p++;
		s++;
	}
	if (kind == TOPIC_REPLY ? !reply_rest_valid(s) : *s)
		return false;
	*ret = t;
	return true;
}

int topic_parse(const char *topic, const char *site, struct topic *ret)
{
	if (!id_valid(site) || strnlen(topic, TOPIC_SIZE) >= TOPIC_SIZE ||
	    strncmp(topic, "tasuki/v1/", 10) != 0)
		return -EINVAL;
	topic += 10;
	size_t n = strlen(site);
	if (strncmp(topic, site, n) != 0 || topic[n] != '/')
		return -EINVAL;
	for (enum topic_kind k = 0; k < TOPIC_N; k++)
		if (match(topic + n + 1, k, ret))
			return 0;
	return -EINVAL;
}
