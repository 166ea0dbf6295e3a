#include "common/trust/freshness.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"

__attribute__((format(printf, 4, 5))) static enum refusal refuse(enum refusal r, struct err *err,
								 int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(err, code, "%s", text);
	return r;
}

enum refusal freshness_expires(int64_t expires_ms, int64_t now_ms, int64_t lifetime_ms,
			       struct err *err)
{
	char at[CLOCK_TEXT_MAX], now[CLOCK_TEXT_MAX];
	if (expires_ms == 0)
		return refuse(REFUSAL_FREEZE, err, -EINVAL, "expires: found none, expected a time");
	clock_format(expires_ms, at);
	clock_format(now_ms, now);
	if (expires_ms < now_ms - FRESHNESS_SKEW_MS)
		return refuse(REFUSAL_FREEZE, err, -ETIME, "expires: found %s, and it is %s", at,
			      now);
	if (expires_ms > now_ms + lifetime_ms + FRESHNESS_SKEW_MS)
		return refuse(
			REFUSAL_FREEZE, err, -ERANGE,
			"expires: found %s, expected at most %lld minutes from now, and it is %s",
			at, (long long)(lifetime_ms / 60000), now);
	return REFUSAL_NONE;
}

enum refusal freshness_sequence(int64_t sequence, int64_t unit_ms, int64_t now_ms, struct err *err)
{
	int64_t most = (now_ms + FRESHNESS_AHEAD_MS) / unit_ms;
	return sequence <= most
		       ? REFUSAL_NONE
		       : refuse(REFUSAL_ROLLBACK, err, -ERANGE,
				"sequence: found %lld, expected at most %lld, a day from now: all "
				"later ones would be older",
				(long long)sequence, (long long)most);
}

static enum refusal check_sequence(const struct manifest *m, const struct freshness_last *last,
				   struct err *err)
{
	bool same = strcmp(m->id, last->id) == 0;
	if (m->sequence > last->sequence)
		return REFUSAL_NONE;
	if (m->sequence == last->sequence && !same)
		return refuse(
			REFUSAL_MIXED, err, -EINVAL,
			"sequence %lld: found checkpoint %.12s, expected %.12s, which had it first",
			(long long)m->sequence, m->id, last->id);
	if (m->sequence == last->sequence && !last->over)
		return REFUSAL_NONE; /* a repetition */
	return refuse(same ? REFUSAL_REPLAY : REFUSAL_ROLLBACK, err, -ESTALE,
		      "sequence: found %lld, expected more than %lld", (long long)m->sequence,
		      (long long)last->sequence);
}

enum refusal freshness_check(const struct manifest *m, const struct freshness *here,
			     struct err *err)
{
	if (here->device && strcmp(m->device, here->device) != 0)
		return refuse(REFUSAL_DEVICE, err, -EINVAL, "device: found %s, expected %s",
			      m->device, here->device);
	if (here->model && strcmp(m->model, here->model) != 0)
		return refuse(REFUSAL_MODEL, err, -EINVAL, "model: found %.12s, expected %.12s",
			      m->model, here->model);
	if (m->sequence == 0)
		return refuse(REFUSAL_ROLLBACK, err, -EINVAL, "sequence: found none");
	enum refusal r = freshness_expires(m->expires_ms, here->now_ms, here->lifetime_ms, err);
	if (r == REFUSAL_NONE)
		r = freshness_sequence(m->sequence,
				       here->sequence_unit_ms ? here->sequence_unit_ms : 1,
				       here->now_ms, err);
	if (r == REFUSAL_NONE)
		r = check_sequence(m, here->last, err);
	if (r == REFUSAL_NONE && here->parent &&
	    (m->n_parents == 0 || strcmp(m->parents[0], here->parent) != 0))
		r = refuse(REFUSAL_MIXED, err, -EINVAL, "parents: found %.12s, expected %.12s",
			   m->n_parents ? m->parents[0] : "none", here->parent);
	return r;
}
