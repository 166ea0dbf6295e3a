/* `struct json` is a cJSON node under another name. Model:
 *
 * - json_parse() first lets json_scan() judge the bytes, because cJSON is lenient where a message
 *   from outside must not be: it takes control characters for blanks, cuts strings at an escaped
 *   NUL, passes bytes that are no UTF-8 and recurses 1000 deep. cJSON then only sees text within
 *   our depth limit. What needs the tree (duplicate members, numbers that overflow) is checked
 *   after it, before the caller gets anything.
 * - A tree under construction remembers a failure in the `valueint` of the container that it
 *   happened to, a field that cJSON leaves 0 in arrays and objects and copies with them. */
#include "common/json/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/json/scan.h"

#define NUMBER_TEXT_MAX 32

static cJSON *node(const struct json *j)
{
	return (cJSON *)(uintptr_t)j;
}

static struct json *wrap(const cJSON *n)
{
	return (struct json *)(uintptr_t)n;
}

void json_free(struct json *j)
{
	cJSON_Delete(node(j));
}

static const char *type_name(const cJSON *n)
{
	switch (n->type & 0xff) {
	case cJSON_False:
	case cJSON_True:
		return "a boolean";
	case cJSON_NULL:
		return "null";
	case cJSON_Number:
		return "a number";
	case cJSON_String:
		return "a string";
	case cJSON_Array:
		return "an array";
	case cJSON_Object:
		return "an object";
	}
	return "an unknown type";
}

/* ---- parsing ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_duplicates(const cJSON *obj, struct err *err)
{
	size_t n = (size_t)cJSON_GetArraySize(obj), i = 0;
	if (n < 2)
		return 0;
	_cleanup_free_ const char **names = calloc(n, sizeof(*names));
	if (!names)
		return err_errno(err, -ENOMEM, "JSON");
	for (const cJSON *m = obj->child; m; m = m->next)
		names[i++] = m->string;
	qsort(names, n, sizeof(*names), compare_names);
	for (i = 1; i < n; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			return err_set(err, -EINVAL,
				       "JSON: found member '%.64s' twice, expected it once",
				       names[i]);
	return 0;
}

/* Recursion is bounded: json_scan() has refused what is deeper than JSON_DEPTH_MAX. */
static int check_tree(const cJSON *n, struct err *err)
{
	int r = 0;
	if (cJSON_IsNumber(n) && !isfinite(n->valuedouble))
		return err_set(
			err, -EINVAL,
			"JSON: found a number too large for a double, expected a finite one");
	if (cJSON_IsObject(n))
		r = check_duplicates(n, err);
	for (const cJSON *m = n->child; m && r == 0; m = m->next)
		r = check_tree(m, err);
	return r;
}

int json_parse(const char *text, size_t len, size_t max, struct json **ret, struct err *err)
{
	if (len > max)
		return err_set(err, -E2BIG, "JSON: found %zu bytes, expected at most %zu", len,
			       max);
	int r = json_scan(text, len, JSON_DEPTH_MAX, err);
	if (r < 0)
		return r;
	const char *end = NULL;
	cJSON *n = cJSON_ParseWithLengthOpts(text, len, &end, 0);
	if (!n)
		return err_set(err, -EINVAL,
			       "JSON: found an error near byte %zu, expected valid JSON",
			       end ? (size_t)(end - text) : 0);
	_cleanup_(json_freep) struct json *j = wrap(n);
	for (; end < text + len; end++)
		if (!strchr(" \t\r\n", *end))
			return err_set(
				err, -EINVAL,
				"JSON: found text at byte %zu, expected the end of the value there",
				(size_t)(end - text));
	r = check_tree(n, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(j);
	return 0;
}

int json_parse_file(const char *path, size_t max, struct json **ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(path, max, &text, &len, err);
	if (r < 0)
		return r == -EFBIG ? -E2BIG : r;
	r = json_parse(text, len, max, ret, err);
	if (r < 0)
		err_prefix(err, "%s", path);
	return r;
}

/* ---- reading ---- */

static int find(const struct json *obj, const char *key, const char *expected, const cJSON **ret,
		struct err *err)
{
	if (!cJSON_IsObject(node(obj)))
		return err_set(err, -EINVAL, "%s: found %s in place of the object around it", key,
			       obj ? type_name(node(obj)) : "nothing");
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(node(obj), key);
	if (!n)
		return err_set(err, -ENOENT, "%s: found nothing, expected %s", key, expected);
	*ret = n;
	return 0;
}

static int wrong_type(const cJSON *n, const char *key, const char *expected, struct err *err)
{
	return err_set(err, -EINVAL, "%s: found %s, expected %s", key, type_name(n), expected);
}

int json_get_text(const struct json *obj, const char *key, size_t max, const char **ret,
		  struct err *err)
{
	const cJSON *n;
	int r = find(obj, key, "a string", &n, err);
	if (r < 0)
		return r;
	if (!cJSON_IsString(n))
		return wrong_type(n, key, "a string", err);
	size_t len = strlen(n->valuestring);
	if (len > max)
		return err_set(err, -E2BIG, "%s: found a string of %zu bytes, expected at most %zu",
			       key, len, max);
	*ret = n->valuestring;
	return 0;
}

int json_get_str(const struct json *obj, const char *key, char *buf, size_t size, struct err *err)
{
	const char *text;
	int r = json_get_text(obj, key, size - 1, &text, err);
	if (r == 0)
		memcpy(buf, text, strlen(text) + 1);
	return r;
}

/* A double that is an integer within min..max. */
static int to_int(double v, int64_t min, int64_t max, int64_t *ret)
{
	if (v != floor(v))
		return -EINVAL;
	if (v < -(double)JSON_INT_MAX || v > (double)JSON_INT_MAX || (int64_t)v < min ||
	    (int64_t)v > max)
		return -ERANGE;
	*ret = (int64_t)v;
	return 0;
}

int json_get_int(const struct json *obj, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct err *err)
{
	const cJSON *n;
	int r = find(obj, key, "an integer", &n, err);
	if (r < 0)
		return r;
	if (!cJSON_IsNumber(n))
		return wrong_type(n, key, "an integer", err);
	r = to_int(n->valuedouble, min, max, ret);
	if (r < 0)
		return err_set(err, r, "%s: found %.17g, expected an integer from %lld to %lld",
			       key, n->valuedouble, (long long)min, (long long)max);
	return 0;
}

int json_get_num(const struct json *obj, const char *key, double min, double max, double *ret,
		 struct err *err)
{
	const cJSON *n;
	int r = find(obj, key, "a number", &n, err);
	if (r < 0)
		return r;
	if (!cJSON_IsNumber(n))
		return wrong_type(n, key, "a number", err);
	if (!(n->valuedouble >= min && n->valuedouble <= max))
		return err_set(err, -ERANGE, "%s: found %.17g, expected a number from %g to %g",
			       key, n->valuedouble, min, max);
	*ret = n->valuedouble;
	return 0;
}

int json_get_bool(const struct json *obj, const char *key, bool *ret, struct err *err)
{
	const cJSON *n;
	int r = find(obj, key, "a boolean", &n, err);
	if (r < 0)
		return r;
	if (!cJSON_IsBool(n))
		return wrong_type(n, key, "a boolean", err);
	*ret = cJSON_IsTrue(n);
	return 0;
}

int json_get_obj(const struct json *obj, const char *key, const struct json **ret, struct err *err)
{
	const cJSON *n;
	int r = find(obj, key, "an object", &n, err);
	if (r < 0)
		return r;
	if (!cJSON_IsObject(n))
		return wrong_type(n, key, "an object", err);
	*ret = wrap(n);
	return 0;
}

int json_get_arr(const struct json *obj, const char *key, size_t max, const struct json **ret,
		 struct err *err)
{
	const cJSON *n;
	int r = find(obj, key, "an array", &n, err);
	if (r < 0)
		return r;
	if (!cJSON_IsArray(n))
		return wrong_type(n, key, "an array", err);
	size_t len = (size_t)cJSON_GetArraySize(n);
	if (len > max)
		return err_set(err, -E2BIG, "%s: found %zu elements, expected at most %zu", key,
			       len, max);
	*ret = wrap(n);
	return 0;
}

bool json_has(const struct json *obj, const char *key)
{
	return cJSON_IsObject(node(obj)) && cJSON_GetObjectItemCaseSensitive(node(obj), key);
}

bool json_is_obj(const struct json *j)
{
	return cJSON_IsObject(node(j));
}

static bool is_container(const cJSON *n)
{
	return cJSON_IsArray(n) || cJSON_IsObject(n);
}

size_t json_len(const struct json *arr_or_obj)
{
	const cJSON *n = node(arr_or_obj);
	return is_container(n) ? (size_t)cJSON_GetArraySize(n) : 0;
}

const struct json *json_first(const struct json *arr_or_obj)
{
	const cJSON *n = node(arr_or_obj);
	return is_container(n) ? wrap(n->child) : NULL;
}

const struct json *json_next(const struct json *e)
{
	return e ? wrap(node(e)->next) : NULL;
}

const struct json *json_at(const struct json *arr_or_obj, size_t i)
{
	const struct json *e = json_first(arr_or_obj);
	while (e && i--)
		e = json_next(e);
	return e;
}

const char *json_name(const struct json *e)
{
	return e ? node(e)->string : NULL;
}

const char *json_str(const struct json *e)
{
	return cJSON_IsString(node(e)) ? node(e)->valuestring : NULL;
}

int json_int(const struct json *e, int64_t min, int64_t max, int64_t *ret)
{
	if (!e)
		return -ENOENT;
	return cJSON_IsNumber(node(e)) ? to_int(node(e)->valuedouble, min, max, ret) : -EINVAL;
}

int json_num(const struct json *e, double *ret)
{
	if (!e)
		return -ENOENT;
	if (!cJSON_IsNumber(node(e)))
		return -EINVAL;
	*ret = node(e)->valuedouble;
	return 0;
}

/* ---- building ---- */

struct json *json_new_obj(void)
{
	return wrap(cJSON_CreateObject());
}

struct json *json_new_arr(void)
{
	return wrap(cJSON_CreateArray());
}

static void remember_failure(cJSON *container)
{
	container->valueint = 1;
}

static cJSON *string_node(const char *value)
{
	_cleanup_free_ char *clean = value ? json_clean_utf8(value) : NULL;
	return clean ? cJSON_CreateString(clean) : NULL;
}

static cJSON *int_node(int64_t value)
{
	return value >= -JSON_INT_MAX && value <= JSON_INT_MAX ? cJSON_CreateNumber((double)value)
							       : NULL;
}

static cJSON *num_node(double value)
{
	return isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull();
}

/* Takes `child`; NULL says that making it failed. */
static void set_node(struct json *obj, const char *key, cJSON *child)
{
	cJSON *o = node(obj);
	_cleanup_free_ char *clean = json_clean_utf8(key);
	if (o && clean && child && cJSON_IsObject(o)) {
		cJSON_DeleteItemFromObjectCaseSensitive(o, clean);
		if (cJSON_AddItemToObject(o, clean, child))
			return;
	}
	cJSON_Delete(child);
	if (o)
		remember_failure(o);
}

static void push_node(struct json *arr, cJSON *child)
{
	cJSON *a = node(arr);
	if (a && child && cJSON_IsArray(a) && cJSON_AddItemToArray(a, child))
		return;
	cJSON_Delete(child);
	if (a)
		remember_failure(a);
}

void json_set_str(struct json *obj, const char *key, const char *value)
{
	set_node(obj, key, string_node(value));
}

void json_set_int(struct json *obj, const char *key, int64_t value)
{
	set_node(obj, key, int_node(value));
}

void json_set_num(struct json *obj, const char *key, double value)
{
	set_node(obj, key, num_node(value));
}

void json_set_bool(struct json *obj, const char *key, bool value)
{
	set_node(obj, key, cJSON_CreateBool(value));
}

void json_set_null(struct json *obj, const char *key)
{
	set_node(obj, key, cJSON_CreateNull());
}

void json_set(struct json *obj, const char *key, struct json *child)
{
	set_node(obj, key, node(child));
}

void json_push(struct json *arr, struct json *child)
{
	push_node(arr, node(child));
}

void json_push_str(struct json *arr, const char *value)
{
	push_node(arr, string_node(value));
}

void json_push_int(struct json *arr, int64_t value)
{
	push_node(arr, int_node(value));
}

void json_push_num(struct json *arr, double value)
{
	push_node(arr, num_node(value));
}

struct json *json_dup(const struct json *j)
{
	return wrap(cJSON_Duplicate(node(j), 1));
}

/* ---- printing ---- */

/* The shortest of 15 to 17 digits that reads back as the same double. */
static void number_text(double v, char text[NUMBER_TEXT_MAX])
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, NUMBER_TEXT_MAX, "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	/* A locale may have another decimal sign. */
	char *sign = text + strspn(text, "-0123456789");
	if (*sign && *sign != 'e')
		*sign = '.';
}

/* cJSON prints 2^53-1 as 9.00719925474099e+15: it takes what is within an epsilon for equal. So
 * numbers become raw text of our own first. False: a failure is remembered, or out of memory. */
static bool prepare(cJSON *n)
{
	if (is_container(n) && n->valueint)
		return false;
	if (cJSON_IsNumber(n)) {
		char text[NUMBER_TEXT_MAX];
		number_text(n->valuedouble, text);
		n->valuestring = strdup(text);
		if (!n->valuestring)
			return false;
		n->type = cJSON_Raw;
	}
	for (cJSON *m = n->child; m; m = m->next)
		if (!prepare(m))
			return false;
	return true;
}

static char *print(const struct json *j, bool pretty)
{
	_cleanup_(json_freep) struct json *copy = json_dup(j);
	if (!copy || !prepare(node(copy)))
		return NULL;
	return pretty ? cJSON_Print(node(copy)) : cJSON_PrintUnformatted(node(copy));
}

char *json_print(const struct json *j)
{
	return print(j, false);
}

char *json_print_pretty(const struct json *j)
{
	return print(j, true);
}
