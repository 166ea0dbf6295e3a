#include "common/trust/trust.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define DAY_MS (86400LL * 1000)

struct trust {
	struct authority *authority;
	struct signer *signer;
	char file[FILE_PATH_MAX]; /* of its own certificate */
	int64_t until_ms;         /* of that */
	int64_t watch_at_ms;      /* nothing to say before */
	uint64_t refused[REFUSAL_N];
	bool told[REFUSAL_N];
};

static int check_own(struct trust *t, enum role own, int64_t now_ms, struct err *err)
{
	struct certificate c;
	size_t len;
	const unsigned char *der = signer_der(t->signer, &len);
	int r = authority_check(t->authority, own, der, len, now_ms, &c, err);
	if (r < 0) {
		err_prefix(err, "%s: not a good %s's certificate", t->file, role_name(own));
		return r;
	}
	t->until_ms = c.until_ms;
	return 0;
}

int trust_new(const struct identity_paths *paths, enum role own, int64_t now_ms, struct trust **ret,
	      struct err *err)
{
	*ret = NULL;
	if (!*paths->certificate)
		return 0;
	struct trust *t = calloc(1, sizeof(*t));
	if (!t)
		return err_errno(err, -ENOMEM, "%s", paths->certificate);
	memcpy(t->file, paths->certificate, sizeof(t->file));
	int r = authority_new(paths, &t->authority, err);
	if (r == 0)
		r = signer_read(paths, &t->signer, err);
	if (r == 0)
		r = check_own(t, own, now_ms, err);
	if (r < 0) {
		trust_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void trust_free(struct trust *t)
{
	if (!t)
		return;
	authority_free(t->authority);
	signer_free(t->signer);
	free(t);
}

/* ---- what leaves ---- */

bool trust_is_signed(enum topic_kind kind, enum role *ret_by)
{
	switch (kind) {
	case TOPIC_DEVICE_OFFER:
	case TOPIC_DEVICE_REPORT:
	case TOPIC_TRAINER_GRANT:
	case TOPIC_TRAINER_KEY:
	case TOPIC_TRAINER_ACK:
		*ret_by = ROLE_DEVICE;
		return true;
	case TOPIC_DEVICE_CLAIM:
	case TOPIC_DEVICE_RESULT:
	case TOPIC_DEVICE_KEY:
	case TOPIC_DEVICE_ACK:
	case TOPIC_FLEET_OFFER:
		*ret_by = ROLE_TRAINER;
		return true;
	default:
		return false;
	}
}

char *trust_sign_always(const struct trust *t, const char *topic, char *text)
{
	return t && text ? signed_print(t->signer, topic, text) : text;
}

char *trust_sign(const struct trust *t, const struct topic *to, const char *topic, char *text)
{
	enum role by;
	return trust_is_signed(to->kind, &by) ? trust_sign_always(t, topic, text) : text;
}

/* ---- what comes in ---- */

enum refusal trust_refuse(struct trust *t, enum refusal r, struct err *err)
{
	if (r != REFUSAL_NONE) {
		t->refused[r]++;
		err_prefix(err, "%s", refusal_name(r));
	}
	return r;
}

uint64_t trust_refused(const struct trust *t, enum refusal r)
{
	return t->refused[r];
}

bool trust_has_news(struct trust *t)
{
	bool news = false;
	for (int r = 0; t && r < REFUSAL_N; r++)
		if (t->refused[r] && !t->told[r])
			news = t->told[r] = true;
	return news;
}

enum refusal trust_open(struct trust *t, enum role role, const char *name, const char *topic,
			const void *payload, size_t len, int64_t now_ms, char ret_name[ID_SIZE],
			struct err *err)
{
	struct certificate c;
	enum refusal r =
		signed_open(t->authority, role, name, topic, payload, len, now_ms, &c, err);
	if (r == REFUSAL_NONE)
		memcpy(ret_name, c.name, ID_SIZE);
	return trust_refuse(t, r, err);
}

/* ---- its own certificate ---- */

int64_t trust_until_ms(const struct trust *t)
{
	return t->until_ms;
}

int trust_watch(struct trust *t, int64_t now_ms, struct err *err)
{
	char at[CLOCK_TEXT_MAX];
	int64_t left_ms = t ? t->until_ms - now_ms : TRUST_WARN_MS;
	if (left_ms >= TRUST_WARN_MS || now_ms < t->watch_at_ms)
		return 0;
	/* Again in a day, and at its end. */
	t->watch_at_ms = now_ms + (left_ms > 0 ? MIN_OF(left_ms, DAY_MS) : DAY_MS);
	clock_format(t->until_ms, at);
	if (left_ms <= 0)
		return err_set(err, -ETIME, "%s: the certificate ended at %s: nobody believes it",
			       t->file, at);
	return err_set(err, -EAGAIN, "%s: the certificate ends in %lld days, at %s: renew it",
		       t->file, (long long)(left_ms / DAY_MS), at);
}
