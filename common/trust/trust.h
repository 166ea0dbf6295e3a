/* What a daemon needs of trust, in one object: its own identity, whom it believes, and how often it
 * did not. NULL stands for the plain mode of development: nothing is signed, everybody is believed.
 */
#pragma once

#include <stdbool.h>

#include "common/protocol/topic.h"
#include "common/trust/signed.h"

struct trust;

#define TRUST_WARN_MS \
	(30LL * 86400 * 1000) /* so long before its own certificate ends it is told of */

/* Reads identity and authorities, and checks that the certificate is a good one of that role at
 * that time (UTC): -EKEYEXPIRED, -EKEYREJECTED ... with the file named; whose it is,
 * identity_conf_name() has checked. *ret is NULL where paths has none. */
int trust_new(const struct identity_paths *paths, enum role own, int64_t now_ms, struct trust **ret,
	      struct err *err);
void trust_free(struct trust *t); /* NULL allowed */

/* Which messages are signed, and by whom; commands are not among them, see trust_sign_always(). */
bool trust_is_signed(enum topic_kind kind, enum role *ret_by);
/* The text (taken; may be NULL) as it is to be published there; the caller frees it. */
char *trust_sign(const struct trust *t, const struct topic *to, const char *topic, char *text);
char *trust_sign_always(const struct trust *t, const char *topic, char *text);

/* Who wrote a message, verified on its bytes; name "": anybody of that role. What is refused is
 * counted, and err begins with the refusal's name. */
enum refusal trust_open(struct trust *t, enum role role, const char *name, const char *topic,
			const void *payload, size_t len, int64_t now_ms, char ret_name[ID_SIZE],
			struct err *err);
/* The same for what was found in it later; returns r. */
enum refusal trust_refuse(struct trust *t, enum refusal r, struct err *err);
uint64_t trust_refused(const struct trust *t, enum refusal r); /* so often since the start */
/* Whether a name is among them that was not at the last call: that is to be told of in any case. */
bool trust_has_news(struct trust *t);

/* When its own certificate ends, UTC. */
int64_t trust_until_ms(const struct trust *t);
/* Whether there is something to say of its own certificate, once a day: err has the text; -ETIME:
 * it has ended, -EAGAIN: it will soon. 0: nothing. */
int trust_watch(struct trust *t, int64_t now_ms, struct err *err);
