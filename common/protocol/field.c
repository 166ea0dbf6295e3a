#include "common/protocol/field.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/text.h"

#define TIME_MAX_MS    253402300799999 /* 9999-12-31T23:59:59.999Z */
#define NAME_SHOWN_MAX 64
/* Somebody's own encoder may have rounded the accuracy to two digits. */
#define ACCURACY_TOLERANCE 0.01

/* ---- reading ---- */

void fields_begin(struct fields *f, const char *name, const void *p, size_t len, size_t max,
		  struct err *err)
{
	*f = (struct fields){.name = name, .err = err};
	f->r = json_parse(p, len, max, &f->root, err);
	if (f->r == 0 && !json_is_obj(f->root))
		f->r = err_set(err, -EINVAL, "found an array, expected an object");
	f->obj = f->root;
}

static bool was_asked(const struct fields *f, const char *key)
{
	for (size_t i = 0; i < f->n_asked; i++)
		if (strcmp(f->asked[i], key) == 0)
			return true;
	return false;
}

int fields_end(struct fields *f)
{
	const struct json *names;
	if (f->r == 0 && json_has(f->obj, "critical")) {
		f->r = json_get_arr(f->obj, "critical", FIELDS_CRITICAL_MAX, &names, f->err);
		const struct json *e = f->r == 0 ? json_first(names) : NULL;
		for (; f->r == 0 && e; e = json_next(e)) {
			const char *s = json_str(e);
			if (!s)
				f->r = err_set(f->err, -EINVAL,
					       "critical: found an element that is no string");
			else if (strcmp(s, "critical") != 0 && !was_asked(f, s))
				f->r = err_set(
					f->err, -EOPNOTSUPP,
					"critical: found '%.*s', expected only members known here",
					NAME_SHOWN_MAX, s);
		}
	}
	return fields_end_plain(f);
}

int fields_end_plain(struct fields *f)
{
	if (f->r < 0)
		err_prefix(f->err, "%s", f->name);
	return f->r;
}

void fields_done(struct fields *f)
{
	json_free(f->root);
	f->root = NULL;
}

bool field_there(struct fields *f, const char *key, enum need need)
{
	if (f->r < 0)
		return false;
	if (!was_asked(f, key)) {
		if (f->n_asked == FIELDS_MAX) {
			f->r = err_set(f->err, -ENOBUFS, "%s: too many members asked for", key);
			return false;
		}
		f->asked[f->n_asked++] = key;
	}
	return need == REQUIRED || json_has(f->obj, key);
}

/* Null is what no getter takes for its type. */
bool field_is_null(const struct fields *f, const char *key)
{
	const char *text;
	const struct json *j;
	double v;
	bool b;
	return json_has(f->obj, key) && json_get_text(f->obj, key, 0, &text, NULL) == -EINVAL &&
	       json_get_num(f->obj, key, -INFINITY, INFINITY, &v, NULL) == -EINVAL &&
	       json_get_bool(f->obj, key, &b, NULL) == -EINVAL &&
	       json_get_obj(f->obj, key, &j, NULL) == -EINVAL &&
	       json_get_arr(f->obj, key, 0, &j, NULL) == -EINVAL;
}

bool fields_down(struct fields *f, const char *key, enum need need, struct fields *ret_inner)
{
	if (!field_there(f, key, need))
		return false;
	const struct json *obj;
	f->r = json_get_obj(f->obj, key, &obj, f->err);
	if (f->r < 0)
		return false;
	*ret_inner = (struct fields){.obj = obj, .name = f->name, .err = f->err};
	return true;
}

void fields_up(struct fields *f, const char *key, struct fields *inner)
{
	if (inner->r < 0) {
		f->r = inner->r;
		err_prefix(f->err, "%s", key);
	}
}

void field_int(struct fields *f, const char *key, enum need need, int64_t min, int64_t max,
	       int64_t *ret)
{
	if (field_there(f, key, need))
		f->r = json_get_int(f->obj, key, min, max, ret, f->err);
}

void field_count(struct fields *f, const char *key, enum need need, int64_t *ret)
{
	field_int(f, key, need, 0, JSON_INT_MAX, ret);
}

void field_num(struct fields *f, const char *key, enum need need, double min, double max,
	       double *ret)
{
	if (field_there(f, key, need))
		f->r = json_get_num(f->obj, key, min, max, ret, f->err);
}

void field_bool(struct fields *f, const char *key, enum need need, bool *ret)
{
	if (field_there(f, key, need))
		f->r = json_get_bool(f->obj, key, ret, f->err);
}

void field_text(struct fields *f, const char *key, enum need need, char *buf, size_t size)
{
	const char *text;
	if (!field_there(f, key, need))
		return;
	f->r = json_get_text(f->obj, key, size - 1, &text, f->err);
	for (const char *s = text; f->r == 0 && *s; s++)
		if (text_control(s))
			f->r = err_set(f->err, -EINVAL,
				       "%s: found a control character, expected one line of text",
				       key);
	if (f->r == 0)
		memcpy(buf, text, strlen(text) + 1);
}

/* The text of an id or a hash, at most max bytes. */
static const char *borrow(struct fields *f, const char *key, enum need need, size_t max)
{
	const char *text = NULL;
	if (field_there(f, key, need))
		f->r = json_get_text(f->obj, key, max, &text, f->err);
	return f->r == 0 ? text : NULL;
}

void field_id(struct fields *f, const char *key, enum need need, char buf[ID_SIZE])
{
	const char *text = borrow(f, key, need, ID_MAX);
	if (!text)
		return;
	if (id_valid(text))
		memcpy(buf, text, strlen(text) + 1);
	else
		f->r = err_set(f->err, -EINVAL,
			       "%s: found '%s', expected an id ([A-Za-z0-9._-]{1,64})", key, text);
}

void field_hash(struct fields *f, const char *key, enum need need, char buf[HASH_SIZE])
{
	const char *text = borrow(f, key, need, HASH_HEX);
	if (!text)
		return;
	if (hash_valid(text))
		memcpy(buf, text, HASH_SIZE);
	else
		f->r = err_set(f->err, -EINVAL, "%s: found '%s', expected %d lower-case hex digits",
			       key, text, HASH_HEX);
}

void field_logid(struct fields *f, const char *key, enum need need, char buf[LOGID_SIZE])
{
	const char *text = borrow(f, key, need, LOGID_MAX);
	if (!text)
		return;
	if (logid_valid(text))
		memcpy(buf, text, strlen(text) + 1);
	else
		f->r = err_set(f->err, -EINVAL,
			       "%s: found '%s', expected %d to %d letters and digits", key, text,
			       LOGID_MIN, LOGID_MAX);
}

void field_time(struct fields *f, const char *key, enum need need, int64_t *ret)
{
	const char *text = borrow(f, key, need, 40);
	int64_t ms;
	if (!text)
		return;
	if (clock_parse(text, &ms) == 0 && ms >= 0 && ms <= TIME_MAX_MS)
		*ret = ms;
	else
		f->r = err_set(f->err, -EINVAL,
			       "%s: found '%s', expected a time as 2026-11-23T12:00:00Z", key,
			       text);
}

static void no_word(struct fields *f, const char *key, const char *text, const char *expected)
{
	f->r = err_set(f->err, -EINVAL, "%s: found '%.*s', expected %s", key, NAME_SHOWN_MAX, text,
		       expected);
}

void field_word(struct fields *f, const char *key, enum need need, const char *const *words,
		size_t n, int *ret)
{
	const char *text = borrow(f, key, need, MESSAGE_SMALL_MAX);
	if (!text)
		return;
	for (size_t i = 0; i < n; i++)
		if (strcmp(words[i], text) == 0) {
			*ret = (int)i;
			return;
		}
	char all[200] = "one of";
	size_t used = strlen(all);
	for (size_t i = 0; i < n && used < sizeof(all); i++)
		used += (size_t)snprintf(all + used, sizeof(all) - used, " %s", words[i]);
	no_word(f, key, text, all);
}

void field_origin(struct fields *f, const char *key, enum origin *ret)
{
	const char *text = borrow(f, key, REQUIRED, MESSAGE_SMALL_MAX);
	if (text && origin_parse(text, ret) < 0)
		no_word(f, key, text, "local, edge, blend, tuned or fleet");
}

void field_split(struct fields *f, const char *key, enum need need, enum split *ret)
{
	const char *text = borrow(f, key, need, MESSAGE_SMALL_MAX);
	if (text && split_parse(text, ret) < 0)
		no_word(f, key, text, "train, validation or test");
}

void field_score_flat(struct fields *f, struct score *ret)
{
	struct score s = {0};
	double accuracy = 0;
	field_count(f, "n", REQUIRED, &s.n);
	field_int(f, "correct", REQUIRED, 0, s.n, &s.correct);
	field_num(f, "accuracy", REQUIRED, 0, 1, &accuracy);
	field_num(f, "loss", REQUIRED, 0, LOSS_MAX, &s.loss);
	if (f->r < 0)
		return;
	double expected = score_accuracy(&s);
	if (fabs(accuracy - expected) > ACCURACY_TOLERANCE)
		f->r = err_set(f->err, -EINVAL,
			       "accuracy: found %g beside %lld correct of %lld, expected %g",
			       accuracy, (long long)s.correct, (long long)s.n, expected);
	else
		*ret = s;
}

void field_score(struct fields *f, const char *key, enum need need, struct score *ret)
{
	struct fields inner;
	if (!fields_down(f, key, need, &inner))
		return;
	field_score_flat(&inner, ret);
	fields_up(f, key, &inner);
}

/* ---- writing ---- */

/* The whole characters among the first max bytes of UTF-8. */
static size_t whole_chars(const char *s, size_t max)
{
	size_t n = strlen(s);
	if (n <= max)
		return n;
	n = max;
	while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	return n;
}

void put_text(struct json *obj, const char *key, const char *text, size_t max)
{
	const char *stored;
	json_set_str(obj, key, text); /* makes it UTF-8, which can lengthen it */
	if (json_get_text(obj, key, SIZE_MAX, &stored, NULL) < 0)
		return; /* the tree remembers why */
	_cleanup_free_ char *line = strndup(stored, whole_chars(stored, max));
	if (line)
		text_blank_controls(line);
	json_set_str(obj, key, line); /* NULL: remembered as a failure */
}

void put_optional(struct json *obj, const char *key, const char *text, size_t max)
{
	if (*text)
		put_text(obj, key, text, max);
}

void put_time(struct json *obj, const char *key, int64_t ms)
{
	char text[CLOCK_TEXT_MAX];
	clock_format(ms < 0 ? 0 : ms, text);
	json_set_str(obj, key, text);
}

void put_finite(struct json *obj, const char *key, double v)
{
	if (isfinite(v))
		json_set_num(obj, key, v);
}

void put_within(struct json *obj, const char *key, double v, double min, double max)
{
	json_set_num(obj, key, v > max ? max : v >= min ? v : min);
}

void put_score_flat(struct json *obj, const struct score *s)
{
	json_set_int(obj, "n", s->n);
	json_set_int(obj, "correct", s->correct);
	put_within(obj, "accuracy", score_accuracy(s), 0, 1);
	/* JSON has no NaN: a network that diverged has the worst loss there is. */
	put_within(obj, "loss", isnan(s->loss) ? LOSS_MAX : s->loss, 0, LOSS_MAX);
}

void put_score(struct json *obj, const char *key, enum need need, const struct score *s)
{
	if (need == OPTIONAL && s->n == 0)
		return;
	struct json *inner = json_new_obj();
	put_score_flat(inner, s);
	json_set(obj, key, inner);
}

char *put_print(struct json *obj)
{
	char *text = json_print(obj);
	json_free(obj);
	return text;
}

void field_audit(struct fields *f, int64_t *ret_seq, char ret_head[HASH_SIZE])
{
	enum need need = json_has(f->obj, "audit_seq") || json_has(f->obj, "audit_head") ? REQUIRED
											   : OPTIONAL;
	field_int(f, "audit_seq", need, 1, JSON_INT_MAX, ret_seq);
	field_hash(f, "audit_head", need, ret_head);
}

void put_audit(struct json *obj, int64_t seq, const char *head)
{
	if (seq == 0)
		return;
	json_set_int(obj, "audit_seq", seq);
	json_set_str(obj, "audit_head", head);
}
