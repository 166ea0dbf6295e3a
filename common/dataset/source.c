#include "common/dataset/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/dataset/image.h"

static int hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

int sha_bytes(const void *data, size_t len, uint8_t out[SHA_BYTES])
{
	char hex[HASH_SIZE];
	int r = hash_bytes(data, len, hex);
	if (r < 0)
		return r;
	for (size_t i = 0; i < SHA_BYTES; i++)
		out[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
	return 0;
}

static uint64_t be64(const uint8_t *p)
{
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

int image_key(uint64_t seed, const uint8_t sha[SHA_BYTES], struct image_key *ret)
{
	uint8_t text[8 + SHA_BYTES], digest[SHA_BYTES];
	for (int i = 0; i < 8; i++)
		text[i] = (uint8_t)(seed >> (8 * i));
	memcpy(text + 8, sha, SHA_BYTES);
	int r = sha_bytes(text, sizeof(text), digest);
	if (r < 0)
		return r;
	*ret = (struct image_key){be64(digest), be64(digest + 8)};
	return 0;
}

static void pixels_unref(struct pixels *px)
{
	if (px && !--px->refs)
		free(px);
}

static void entry_done(struct entry *e)
{
	pixels_unref(e->px);
	free(e->fault);
	*e = (struct entry){0};
}

void source_done(struct source *s)
{
	for (size_t i = 0; i < s->n; i++)
		entry_done(&s->entries[i]);
	free(s->entries);
	folder_list_done(&s->list);
	*s = (struct source){0};
}

static int scan_idx(struct source *s, struct err *err)
{
	s->kind = SOURCE_IDX;
	int r = stamp_read(s->pair.images, &s->images_stamp, err);
	return r < 0 ? r : stamp_read(s->pair.labels, &s->labels_stamp, err);
}

int source_scan(const char *path, enum source_part part, const struct classes *classes,
		struct source *ret, struct err *err)
{
	_cleanup_(source_done) struct source s = {0};
	int r = file_path(s.path, sizeof(s.path), "%s", path);
	if (r < 0)
		return err_errno(err, r, "%s", path);
	struct idx_pair train, t10k;
	int has_train = idx_find(path, "train", &train, err);
	if (has_train < 0)
		return has_train;
	int has_t10k = idx_find(path, "t10k", &t10k, err);
	if (has_t10k < 0)
		return has_t10k;
	if (has_t10k && part != SOURCE_TRAIN) {
		s.pair = t10k;
		r = scan_idx(&s, err);
	} else if (has_train && part != SOURCE_T10K) {
		s.pair = train;
		r = scan_idx(&s, err);
	} else if (!has_train && !has_t10k && part != SOURCE_T10K) {
		s.kind = SOURCE_FOLDER;
		r = folder_list(path, classes, &s.list, err);
	}
	if (r < 0)
		return r;
	*ret = s;
	s = (struct source){0};
	return 0;
}

static bool idx_equal(const struct source *a, const struct source *b)
{
	return !strcmp(a->pair.images, b->pair.images) && !strcmp(a->pair.labels, b->pair.labels) &&
	       stamp_equal(&a->images_stamp, &b->images_stamp) &&
	       stamp_equal(&a->labels_stamp, &b->labels_stamp);
}

bool source_equal(const struct source *a, const struct source *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == SOURCE_IDX)
		return idx_equal(a, b);
	if (a->list.n != b->list.n)
		return false;
	for (size_t i = 0; i < a->list.n; i++)
		if (strcmp(a->list.files[i].name, b->list.files[i].name) ||
		    !stamp_equal(&a->list.files[i].stamp, &b->list.files[i].stamp))
			return false;
	return true;
}

/* `to` becomes a second owner of what `from` holds. */
static int entry_share(const struct entry *from, struct entry *to)
{
	to->label = from->label;
	to->number = from->number;
	if (from->fault && !(to->fault = strdup(from->fault)))
		return -ENOMEM;
	to->px = from->px;
	if (to->px)
		to->px->refs++;
	return 0;
}

static uint64_t image_bytes(const struct dataset_conf *conf)
{
	return (uint64_t)conf->width * conf->height * conf->channels;
}

static uint64_t held_bytes(const struct dataset_conf *conf)
{
	return sizeof(struct pixels) + image_bytes(conf);
}

static int share_folder(struct source *s, const struct source *old)
{
	s->entries = calloc(MAX_OF(s->list.n, 1u), sizeof(*s->entries));
	if (!s->entries)
		return -ENOMEM;
	s->n = s->list.n;
	size_t n_old = old->kind == SOURCE_FOLDER ? old->n : 0;
	for (size_t i = 0, j = 0; i < s->n; i++) {
		const struct folder_file *f = &s->list.files[i];
		while (j < n_old && strcmp(old->list.files[j].name, f->name) < 0)
			j++;
		if (j < n_old && !strcmp(old->list.files[j].name, f->name) &&
		    stamp_equal(&old->list.files[j].stamp, &f->stamp) &&
		    entry_share(&old->entries[j], &s->entries[i]) < 0)
			return -ENOMEM;
		s->entries[i].label = f->label;
		s->entries[i].number = (uint32_t)i;
	}
	return 0;
}

static int share_idx(struct source *s, const struct source *old)
{
	if (old->kind != SOURCE_IDX || !idx_equal(s, old))
		return 0;
	s->entries = calloc(MAX_OF(old->n, 1u), sizeof(*s->entries));
	if (!s->entries)
		return -ENOMEM;
	for (; s->n < old->n; s->n++)
		entry_share(&old->entries[s->n], &s->entries[s->n]); /* no fault to copy */
	s->rows = old->rows;
	s->cols = old->cols;
	return 0;
}

int source_share(struct source *s, const struct source *old, const struct dataset_conf *conf,
		 uint64_t *room_bytes, struct err *err)
{
	int r = s->kind == SOURCE_FOLDER ? share_folder(s, old)
		: s->kind == SOURCE_IDX  ? share_idx(s, old)
					 : 0;
	if (r < 0)
		return err_errno(err, r, "%s", s->path);
	uint64_t each = held_bytes(conf);
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].px && s->entries[i].px->held)
			*room_bytes -= MIN_OF(*room_bytes, each);
	return 0;
}

/* Reading the images of one source. */
struct loader {
	struct source *s;
	const struct dataset_conf *conf;
	const struct classes *classes;
	uint64_t *room_bytes;
	uint8_t *planes; /* of the image in hand */
};

/* The image in hand, held if there is room. */
static struct pixels *pixels_new(const struct loader *l, const uint8_t sha[SHA_BYTES])
{
	uint64_t each = held_bytes(l->conf);
	bool held = *l->room_bytes >= each;
	struct pixels *px = malloc(held ? each : sizeof(*px));
	if (!px)
		return NULL;
	px->refs = 1;
	px->held = held;
	memcpy(px->sha, sha, SHA_BYTES);
	if (held) {
		memcpy(px->planes, l->planes, image_bytes(l->conf));
		*l->room_bytes -= each;
	}
	return px;
}

static void looked_at_one(const struct loader *l)
{
	if (l->conf->on_image)
		l->conf->on_image(l->conf->on_image_user);
}

/* Not the image's fault, but that of memory or of this process's limits. */
static bool is_ours(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

int source_read_image(const char *path, const struct dataset_conf *conf, uint8_t *planes,
		      uint8_t sha[SHA_BYTES], struct err *err)
{
	_cleanup_free_ char *data = NULL;
	size_t len;
	int r = file_read(path, DATASET_FILE_BYTES_MAX, &data, &len, err);
	if (r < 0)
		return r;
	_cleanup_(image_done) struct image im = {0};
	r = image_decode(data, len, path, conf->channels, &im, err);
	if (r < 0)
		return r;
	r = image_fit(&im, conf->center_crop, conf->width, conf->height, conf->channels, planes);
	if (r >= 0 && sha)
		r = sha_bytes(data, len, sha);
	return r < 0 ? err_errno(err, r, "%s", path) : 0;
}

static int read_file_image(const struct source *s, uint32_t number, const struct dataset_conf *conf,
			   uint8_t *planes, uint8_t sha[SHA_BYTES], struct err *err)
{
	char path[FILE_PATH_MAX];
	const char *name = s->list.files[number].name;
	int r = file_path(path, sizeof(path), "%s/%s", s->path, name);
	if (r < 0)
		return err_errno(err, r, "%s/%s", s->path, name);
	return source_read_image(path, conf, planes, sha, err);
}

static int fit_idx_image(const struct source *s, uint8_t *raw, const struct dataset_conf *conf,
			 uint8_t *planes, uint8_t sha[SHA_BYTES], struct err *err)
{
	const struct image im = {s->cols, s->rows, 1, raw};
	int r = image_fit(&im, conf->center_crop, conf->width, conf->height, conf->channels,
			  planes);
	if (r >= 0)
		r = sha_bytes(raw, (size_t)s->rows * s->cols, sha);
	return r < 0 ? err_errno(err, r, "%s", s->pair.images) : 0;
}

static int read_idx_image(const struct source *s, uint32_t number, const struct dataset_conf *conf,
			  uint8_t *planes, uint8_t sha[SHA_BYTES], struct err *err)
{
	_cleanup_free_ uint8_t *raw = malloc((size_t)s->rows * s->cols);
	if (!raw)
		return err_errno(err, -ENOMEM, "%s", s->pair.images);
	int r = idx_read_one(s->pair.images, s->rows, s->cols, number, raw, err);
	return r < 0 ? r : fit_idx_image(s, raw, conf, planes, sha, err);
}

int source_read(const struct source *s, const struct entry *e, const struct dataset_conf *conf,
		uint8_t *planes, struct err *err)
{
	uint8_t sha[SHA_BYTES];
	struct err why = {0};
	bool idx = s->kind == SOURCE_IDX;
	int r = idx ? read_idx_image(s, e->number, conf, planes, sha, &why)
		    : read_file_image(s, e->number, conf, planes, sha, &why);
	if (r < 0)
		return err_set(err, is_ours(r) ? r : -ESTALE, "%s", why.text);
	if (!memcmp(sha, e->px->sha, SHA_BYTES))
		return 0;
	if (idx)
		return err_set(err, -ESTALE, "%s: image %u has changed since the data were read",
			       s->pair.images, e->number);
	return err_set(err, -ESTALE, "%s/%s: has changed since the data were read", s->path,
		       s->list.files[e->number].name);
}

static int load_file(const struct loader *l, struct entry *e, struct err *err)
{
	struct err fault = {0};
	uint8_t sha[SHA_BYTES];
	int r = read_file_image(l->s, e->number, l->conf, l->planes, sha, &fault);
	if (is_ours(r))
		return err_set(err, r, "%s", fault.text);
	if (r >= 0)
		e->px = pixels_new(l, sha);
	else
		e->fault = strdup(fault.text);
	return e->px || e->fault ? 0 : err_errno(err, -ENOMEM, "%s", l->s->path);
}

/* Every class folder must have a readable image; files of one class stand together. */
static int check_readable(const struct source *s, const struct classes *classes, struct err *err)
{
	for (size_t i = 0, next; i < s->n; i = next) {
		size_t readable = 0;
		for (next = i; next < s->n && s->entries[next].label == s->entries[i].label; next++)
			readable += s->entries[next].px != NULL;
		if (!readable)
			return err_set(err, -ENODATA,
				       "%s/%s: class folder without a readable image (%zu files): "
				       "%.300s",
				       s->path, classes->names[s->entries[i].label], next - i,
				       s->entries[i].fault);
	}
	return 0;
}

static int load_folder(const struct loader *l, struct err *err)
{
	struct source *s = l->s;
	for (size_t i = 0; i < s->n; i++) {
		struct entry *e = &s->entries[i];
		int r = e->px || e->fault ? 0 : load_file(l, e, err);
		looked_at_one(l);
		if (r < 0)
			return r;
	}
	return check_readable(s, l->classes, err);
}

/* A stream that is unpacked cannot be read image by image. */
static int check_room(const struct loader *l, const struct idx *x, struct err *err)
{
	uint64_t each = held_bytes(l->conf);
	if (x->plain || x->n <= *l->room_bytes / each)
		return 0;
	return err_set(err, -E2BIG,
		       "%s: %u images need %llu KiB of memory, %llu KiB are left: unpack the file, "
		       "and they are read as they are needed",
		       x->path, x->n, (unsigned long long)(x->n * each >> 10),
		       (unsigned long long)(*l->room_bytes >> 10));
}

static int load_idx_images(const struct loader *l, struct idx *x, struct err *err)
{
	struct source *s = l->s;
	uint8_t sha[SHA_BYTES];
	_cleanup_free_ uint8_t *raw = malloc((size_t)x->rows * x->cols);
	s->entries = calloc(x->n, sizeof(*s->entries));
	s->rows = x->rows;
	s->cols = x->cols;
	if (!raw || !s->entries)
		return err_errno(err, -ENOMEM, "%s", x->path);
	for (uint32_t i = 0; i < x->n; i++) {
		if (x->labels[i] >= l->classes->n)
			return err_set(err, -EINVAL,
				       "%s: label %u of image %u, expected below the "
				       "number of classes, %zu",
				       s->pair.labels, x->labels[i], i, l->classes->n);
		int r = idx_next(x, raw, err);
		if (r >= 0)
			r = fit_idx_image(s, raw, l->conf, l->planes, sha, err);
		if (r < 0)
			return r;
		struct entry *e = &s->entries[s->n++];
		*e = (struct entry){x->labels[i], i, pixels_new(l, sha), NULL};
		if (!e->px)
			return err_errno(err, -ENOMEM, "%s", x->path);
		looked_at_one(l);
	}
	return idx_end(x, err);
}

struct ranked {
	uint64_t rank;
	size_t at;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* Frees all but the `keep` entries that come first by rank. */
static int keep_first(const struct loader *l, uint32_t keep, struct err *err)
{
	struct source *s = l->s;
	_cleanup_free_ struct ranked *order = calloc(s->n, sizeof(*order));
	if (!order)
		return err_errno(err, -ENOMEM, "%s", s->path);
	for (size_t i = 0; i < s->n; i++) {
		struct image_key k;
		int r = image_key(l->conf->seed, s->entries[i].px->sha, &k);
		if (r < 0)
			return err_errno(err, r, "%s", s->path);
		order[i] = (struct ranked){k.rank, i};
	}
	qsort(order, s->n, sizeof(*order), compare_ranked);
	for (size_t i = keep; i < s->n; i++) {
		struct entry *e = &s->entries[order[i].at];
		if (e->px->held)
			*l->room_bytes += held_bytes(l->conf);
		entry_done(e);
	}
	size_t n = 0;
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].px)
			s->entries[n++] = s->entries[i];
	s->n = n;
	return 0;
}

static int load_idx(const struct loader *l, uint32_t keep, struct err *err)
{
	if (l->s->entries)
		return 0; /* taken over */
	struct idx x;
	int r = idx_open(&l->s->pair, &x, err);
	if (r < 0)
		return r;
	r = check_room(l, &x, err);
	if (r >= 0)
		r = load_idx_images(l, &x, err);
	idx_done(&x);
	return r >= 0 && keep && l->s->n > keep ? keep_first(l, keep, err) : r;
}

/* What was read when there was no room and still is what it was: room may be there now. */
static int hold_more(const struct loader *l, struct err *err)
{
	struct err why = {0};
	for (size_t i = 0; i < l->s->n && *l->room_bytes >= held_bytes(l->conf); i++) {
		struct entry *e = &l->s->entries[i];
		if (!e->px || e->px->held)
			continue;
		int r = source_read(l->s, e, l->conf, l->planes, &why);
		looked_at_one(l);
		struct pixels *px = r < 0 ? NULL : pixels_new(l, e->px->sha);
		if (is_ours(r) || (r >= 0 && !px))
			return err_errno(err, r < 0 ? r : -ENOMEM, "%s", l->s->path);
		if (!px)
			continue;
		pixels_unref(e->px);
		e->px = px;
	}
	return 0;
}

int source_load(struct source *s, const struct dataset_conf *conf, const struct classes *classes,
		uint32_t keep, uint64_t *room_bytes, struct err *err)
{
	if (s->kind == SOURCE_NONE)
		return 0;
	_cleanup_free_ uint8_t *planes = malloc(image_bytes(conf));
	if (!planes)
		return err_errno(err, -ENOMEM, "%s", s->path);
	const struct loader l = {s, conf, classes, room_bytes, planes};
	int r = s->kind == SOURCE_IDX ? load_idx(&l, keep, err) : load_folder(&l, err);
	return r < 0 ? r : hold_more(&l, err);
}
