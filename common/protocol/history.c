#include "common/protocol/history.h"

#include <errno.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/protocol/field.h"

#define POINT_MEMBERS 7

static struct json *print_point(const struct history_point *p)
{
	struct json *arr = json_new_arr();
	json_push_int(arr, p->at_s);
	json_push_int(arr, p->epoch);
	json_push_str(arr, origin_name(p->origin));
	json_push_int(arr, p->n);
	json_push_int(arr, p->correct);
	json_push_int(arr, p->swap);
	json_push_str(arr, p->checkpoint);
	return arr;
}

char *msg_history_print(const struct msg_history *m)
{
	struct json *obj = json_new_obj(), *points = json_new_arr();
	put_time(obj, "at", m->at_ms);
	for (size_t i = 0; i < m->n_points; i++)
		json_push(points, print_point(&m->points[i]));
	json_set(obj, "points", points);
	int64_t k = m->confusion.classes;
	if (k > 0) {
		struct json *inner = json_new_obj(), *counts = json_new_arr();
		json_set_str(inner, "checkpoint", m->confusion.checkpoint);
		json_set_int(inner, "classes", k);
		for (int64_t i = 0; i < k * k; i++)
			json_push_int(counts, MIN_OF(m->confusion.counts[i], HISTORY_COUNT_MAX));
		json_set(inner, "counts", counts);
		json_set(obj, "confusion", inner);
	}
	return put_print(obj);
}

/* The first HISTORY_DIGITS of an id. */
static bool is_digits(const char *s)
{
	return s && strlen(s) == HISTORY_DIGITS && strspn(s, "0123456789abcdef") == HISTORY_DIGITS;
}

static bool parse_point(const struct json *arr, struct history_point *ret)
{
	const struct json *e = json_first(arr), *part[POINT_MEMBERS];
	int64_t swap;
	for (size_t i = 0; i < POINT_MEMBERS; i++, e = json_next(e)) {
		if (!e)
			return false;
		part[i] = e;
	}
	const char *origin = json_str(part[2]), *digits = json_str(part[6]);
	if (e || !origin || origin_parse(origin, &ret->origin) < 0 || !is_digits(digits) ||
	    json_int(part[0], 0, JSON_INT_MAX, &ret->at_s) < 0 ||
	    json_int(part[1], 0, JSON_INT_MAX, &ret->epoch) < 0 ||
	    json_int(part[3], 1, JSON_INT_MAX, &ret->n) < 0 ||
	    json_int(part[4], 0, ret->n, &ret->correct) < 0 || json_int(part[5], 0, 1, &swap) < 0)
		return false;
	ret->swap = swap;
	memcpy(ret->checkpoint, digits, HISTORY_DIGITS + 1);
	return true;
}

static void parse_points(struct fields *f, struct msg_history *m)
{
	const struct json *arr;
	if (!field_there(f, "points", REQUIRED))
		return;
	f->r = json_get_arr(f->obj, "points", HISTORY_POINTS_MAX, &arr, f->err);
	if (f->r < 0)
		return;
	for (const struct json *e = json_first(arr); e; e = json_next(e)) {
		if (json_is_obj(e) || !parse_point(e, &m->points[m->n_points])) {
			f->r = err_set(
				f->err, -EINVAL,
				"points: entry %zu: found something else, expected [seconds, "
				"epoch, origin, n, correct, 0 or 1, %d hex digits]",
				m->n_points + 1, HISTORY_DIGITS);
			return;
		}
		m->n_points++;
	}
}

static void parse_counts(struct fields *f, int64_t k, int32_t *ret)
{
	const struct json *arr;
	size_t n = (size_t)(k * k), i = 0;
	if (!field_there(f, "counts", REQUIRED))
		return;
	f->r = json_get_arr(f->obj, "counts", n, &arr, f->err);
	if (f->r < 0)
		return;
	for (const struct json *e = json_first(arr); e; e = json_next(e), i++) {
		int64_t v;
		f->r = json_int(e, 0, HISTORY_COUNT_MAX, &v);
		if (f->r < 0) {
			f->r = err_set(f->err, f->r, "counts: entry %zu: expected 0 to %d", i + 1,
				       HISTORY_COUNT_MAX);
			return;
		}
		ret[i] = (int32_t)v;
	}
	if (i != n)
		f->r = err_set(f->err, -EINVAL,
			       "counts: found %zu, expected classes * classes: %zu", i, n);
}

static void parse_confusion(struct fields *f, struct msg_history *m)
{
	struct fields inner;
	int64_t k = 0;
	if (!fields_down(f, "confusion", OPTIONAL, &inner))
		return;
	field_hash(&inner, "checkpoint", REQUIRED, m->confusion.checkpoint);
	field_int(&inner, "classes", REQUIRED, 1, HISTORY_CLASSES_MAX, &k);
	parse_counts(&inner, k, m->confusion.counts);
	m->confusion.classes = k;
	fields_up(f, "confusion", &inner);
}

int msg_history_parse(const void *p, size_t len, struct msg_history *ret, struct err *err)
{
	struct msg_history m = {0};
	_cleanup_(fields_done) struct fields f;
	fields_begin(&f, "history", p, len, MESSAGE_LARGE_MAX, err);
	field_time(&f, "at", REQUIRED, &m.at_ms);
	parse_points(&f, &m);
	parse_confusion(&f, &m);
	if (fields_end(&f) < 0)
		return f.r;
	*ret = m;
	return 0;
}
