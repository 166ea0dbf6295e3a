/* Members of one JSON message, read one after the other; private to common/protocol.
 *
 * The first failure stays in `r` and makes every later call do nothing, so that a decoder reads
 * like the list of its members and asks once, at fields_end(), whether all went well. The names
 * asked for are what the decoder knows: `critical` is checked against them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/id.h"
#include "common/json/json.h"
#include "common/protocol/message.h"

#define FIELDS_MAX	    48 /* members one decoder may ask for */
#define FIELDS_CRITICAL_MAX 64 /* names that a message may list as critical */
#define LOSS_MAX	    1e9 /* a loss beyond it, or none at all (diverged), is sent as this */
#define LEASE_MS_MAX	    86400000 /* a day: longest lease and longest busy time */

enum need { REQUIRED, OPTIONAL };

struct fields {
	struct json *root; /* owned; NULL in the reader of an inner object */
	const struct json *obj;
	const char *name; /* of the message, for err */
	struct err *err;
	int r; /* 0, or the first failure */
	const char *asked[FIELDS_MAX];
	size_t n_asked;
};

/* Parses the payload; a failure is in f->r. */
void fields_begin(struct fields *f, const char *name, const void *p, size_t len, size_t max,
		  struct err *err);
/* Refuses what `critical` names and nobody asked for. Returns f->r. */
int fields_end(struct fields *f);
/* The same without looking at `critical`: for who leaves that to the manifest's decoder. */
int fields_end_plain(struct fields *f);
/* Frees the tree. */
void fields_done(struct fields *f);
/* A reader of the inner object `key`; false: it is not there (or f failed). Hand it back with
 * fields_up(), which passes on a failure. */
bool fields_down(struct fields *f, const char *key, enum need need, struct fields *ret_inner);
void fields_up(struct fields *f, const char *key, struct fields *inner);

/* Whether `key` is to be read: asked for, nothing failed, and there or required. */
bool field_there(struct fields *f, const char *key, enum need need);
bool field_is_null(const struct fields *f, const char *key);
void field_int(struct fields *f, const char *key, enum need need, int64_t min, int64_t max,
	       int64_t *ret);
/* An integer from 0. */
void field_count(struct fields *f, const char *key, enum need need, int64_t *ret);
void field_num(struct fields *f, const char *key, enum need need, double min, double max,
	       double *ret);
void field_bool(struct fields *f, const char *key, enum need need, bool *ret);
/* One line: no control characters, so that it can go to logs and terminals. */
void field_text(struct fields *f, const char *key, enum need need, char *buf, size_t size);
void field_id(struct fields *f, const char *key, enum need need, char buf[ID_SIZE]);
void field_hash(struct fields *f, const char *key, enum need need, char buf[HASH_SIZE]);
/* The id of a log of reports. */
void field_logid(struct fields *f, const char *key, enum need need, char buf[LOGID_SIZE]);
/* RFC 3339, from 1970 to 9999, as milliseconds. */
void field_time(struct fields *f, const char *key, enum need need, int64_t *ret);
/* One of `words`; *ret is its index. */
void field_word(struct fields *f, const char *key, enum need need, const char *const *words,
		size_t n, int *ret);
void field_origin(struct fields *f, const char *key, enum origin *ret);
void field_split(struct fields *f, const char *key, enum need need, enum split *ret);
/* n, correct, accuracy and loss of f's own object. */
void field_score_flat(struct fields *f, struct score *ret);
/* The inner object `key` with those four. */
void field_score(struct fields *f, const char *key, enum need need, struct score *ret);

/* `audit_seq` and `audit_head`, both or neither. */
void field_audit(struct fields *f, int64_t *ret_seq, char ret_head[HASH_SIZE]);

/* Writing. Text is made to pass field_text: one line, UTF-8, at most max bytes. */
void put_text(struct json *obj, const char *key, const char *text, size_t max);
/* Nothing for "". */
void put_optional(struct json *obj, const char *key, const char *text, size_t max);
void put_time(struct json *obj, const char *key, int64_t ms);
/* Nothing for NaN and infinities. */
void put_finite(struct json *obj, const char *key, double v);
/* v brought into min..max; NaN becomes min. */
void put_within(struct json *obj, const char *key, double v, double min, double max);
void put_score_flat(struct json *obj, const struct score *s);
/* Nothing where n is 0 and it is optional. */
void put_score(struct json *obj, const char *key, enum need need, const struct score *s);
/* `audit_seq` and `audit_head`, both or neither. */
void put_audit(struct json *obj, int64_t seq, const char *head);
/* Prints and frees obj. */
char *put_print(struct json *obj);
