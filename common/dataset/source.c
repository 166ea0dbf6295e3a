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
	if (from->fault && !(to->fault = strdup(from->fault)))
		return -ENOMEM;
	to->px = from->px;
	if (to->px)
		to->px->refs++;
	return 0;
}

uint64_t source_image_bytes(const struct dataset_conf *conf)
{
	return sizeof(struct pixels) + (uint64_t)conf->width * conf->height * conf->channels;
}

static int check_room(const char *path, uint64_t n, const struct dataset_conf *conf,
		      const struct source_limits *limits, struct err *err)
{
	uint64_t each = source_image_bytes(conf);
	if (n <= limits->room_bytes / each)
		return 0;
	return err_set(err, -E2BIG, "%s: %llu images need %llu KiB of memory, %llu KiB are left",
		       path, (unsigned long long)n, (unsigned long long)(n * each >> 10),
		       (unsigned long long)(limits->room_bytes >> 10));
}

static struct pixels *pixels_new(const struct dataset_conf *conf)
{
	struct pixels *px = malloc(source_image_bytes(conf));
	if (px)
		px->refs = 1;
	return px;
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

static int load_file(const struct source *s, const char *name, const struct dataset_conf *conf,
		     struct entry *e, struct err *err)
{
	struct err fault = {0};
	char path[FILE_PATH_MAX];
	_cleanup_free_ struct pixels *px = pixels_new(conf);
	if (!px)
		return err_errno(err, -ENOMEM, "%s/%s", s->path, name);
	int r = file_path(path, sizeof(path), "%s/%s", s->path, name);
	if (r < 0)
		err_errno(&fault, r, "%s/%s", s->path, name);
	else
		r = source_read_image(path, conf, px->planes, px->sha, &fault);
	/* Ours, not the image's fault. */
	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		return err_set(err, r, "%s", fault.text);
	if (r >= 0) {
		e->px = TAKE_PTR(px);
		return 0;
	}
	e->fault = strdup(fault.text);
	return e->fault ? 0 : err_errno(err, -ENOMEM, "%s/%s", s->path, name);
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

static int load_folder(struct source *s, const struct source *old, const struct dataset_conf *conf,
		       const struct classes *classes, const struct source_limits *limits,
		       struct err *err)
{
	int r = check_room(s->path, s->list.n, conf, limits, err);
	if (r < 0)
		return r;
	s->entries = calloc(s->list.n, sizeof(*s->entries));
	if (!s->entries)
		return err_errno(err, -ENOMEM, "%s", s->path);
	size_t j = 0, n_old = old && old->kind == SOURCE_FOLDER ? old->n : 0;
	for (size_t i = 0; i < s->list.n; i++) {
		const struct folder_file *f = &s->list.files[i];
		struct entry *e = &s->entries[s->n++];
		e->label = f->label;
		while (j < n_old && strcmp(old->list.files[j].name, f->name) < 0)
			j++;
		bool same = j < n_old && !strcmp(old->list.files[j].name, f->name) &&
			    stamp_equal(&old->list.files[j].stamp, &f->stamp);
		r = same ? entry_share(&old->entries[j], e) : load_file(s, f->name, conf, e, err);
		if (conf->on_image)
			conf->on_image(conf->on_image_user);
		if (r < 0)
			return same ? err_errno(err, r, "%s", s->path) : r;
	}
	return check_readable(s, classes, err);
}

static int load_idx_images(struct source *s, struct idx *x, const struct dataset_conf *conf,
			   const struct classes *classes, struct err *err)
{
	size_t len = (size_t)x->rows * x->cols;
	_cleanup_free_ uint8_t *raw = malloc(len);
	s->entries = calloc(x->n, sizeof(*s->entries));
	if (!raw || !s->entries)
		return err_errno(err, -ENOMEM, "%s", x->path);
	const struct image im = {x->cols, x->rows, 1, raw};
	for (uint32_t i = 0; i < x->n; i++) {
		if (x->labels[i] >= classes->n)
			return err_set(err, -EINVAL,
				       "%s: label %u of image %u, expected below the "
				       "number of classes, %zu",
				       s->pair.labels, x->labels[i], i, classes->n);
		int r = idx_next(x, raw, err);
		if (r < 0)
			return r;
		struct entry *e = &s->entries[s->n++];
		e->label = x->labels[i];
		e->px = pixels_new(conf);
		r = e->px ? image_fit(&im, conf->center_crop, conf->width, conf->height,
				      conf->channels, e->px->planes)
			  : -ENOMEM;
		if (r >= 0)
			r = sha_bytes(raw, len, e->px->sha);
		if (conf->on_image)
			conf->on_image(conf->on_image_user);
		if (r < 0)
			return err_errno(err, r, "%s", x->path);
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
static int keep_first(struct source *s, uint64_t seed, uint32_t keep, struct err *err)
{
	_cleanup_free_ struct ranked *order = calloc(s->n, sizeof(*order));
	if (!order)
		return err_errno(err, -ENOMEM, "%s", s->path);
	for (size_t i = 0; i < s->n; i++) {
		struct image_key k;
		int r = image_key(seed, s->entries[i].px->sha, &k);
		if (r < 0)
			return err_errno(err, r, "%s", s->path);
		order[i] = (struct ranked){k.rank, i};
	}
	qsort(order, s->n, sizeof(*order), compare_ranked);
	for (size_t i = keep; i < s->n; i++)
		entry_done(&s->entries[order[i].at]);
	size_t n = 0;
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].px)
			s->entries[n++] = s->entries[i];
	s->n = n;
	return 0;
}

static int load_idx(struct source *s, const struct source *old, const struct dataset_conf *conf,
		    const struct classes *classes, const struct source_limits *limits,
		    struct err *err)
{
	if (old && old->kind == SOURCE_IDX && idx_equal(s, old)) {
		s->entries = calloc(MAX_OF(old->n, 1u), sizeof(*s->entries));
		for (; s->entries && s->n < old->n; s->n++)
			entry_share(&old->entries[s->n], &s->entries[s->n]); /* no fault to copy */
		return s->entries ? 0 : err_errno(err, -ENOMEM, "%s", s->path);
	}
	struct idx x;
	int r = idx_open(&s->pair, &x, err);
	if (r < 0)
		return r;
	r = check_room(s->pair.images, x.n, conf, limits, err);
	if (r >= 0)
		r = load_idx_images(s, &x, conf, classes, err);
	idx_done(&x);
	if (r >= 0 && limits->keep && s->n > limits->keep)
		r = keep_first(s, conf->seed, limits->keep, err);
	return r;
}

int source_load(struct source *s, const struct source *old, const struct dataset_conf *conf,
		const struct classes *classes, const struct source_limits *limits, struct err *err)
{
	switch (s->kind) {
	case SOURCE_IDX:
		return load_idx(s, old, conf, classes, limits, err);
	case SOURCE_FOLDER:
		return load_folder(s, old, conf, classes, limits, err);
	case SOURCE_NONE:
		break;
	}
	return 0;
}
