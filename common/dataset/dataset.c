/* A data set is its sources (folders with their images in memory) and, made from them, an index
 * per split: entries sorted by content hash and label. The index only points into the sources, and
 * both are replaced together, so a rescan that fails leaves everything as it was. */
#include "common/dataset/dataset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/crypto/hash.h"
#include "common/dataset/augment.h"
#include "common/dataset/image.h"
#include "common/dataset/source.h"

#define INPUT_MAX (64u * 1024 * 1024) /* width x height x channels */

enum { SLOT_PATH, SLOT_T10K, SLOT_TEST, SLOT_VALIDATION, SLOT_STAY, SLOT_N };

#define SPLITS (SPLIT_N + 1) /* with SPLIT_STAY */

struct index {
	const struct entry **at;
	uint32_t n;
};

struct content {
	struct source sources[SLOT_N];
	struct index splits[SPLITS];
	const char *skipped[DATASET_SKIPPED_NAMED]; /* point into the sources */
	uint32_t n_skipped;
};

struct dataset {
	struct dataset_conf conf;
	struct classes classes;
	struct content content;
};

static const char *const split_names[SPLITS] = {"train", "validation", "test", "stay"};

const char *split_name(enum split s)
{
	return (unsigned)s < SPLITS ? split_names[s] : "?";
}

int split_parse(const char *s, enum split *ret)
{
	for (unsigned i = 0; i < SPLIT_N; i++)
		if (!strcmp(s, split_names[i])) {
			*ret = (enum split)i;
			return 0;
		}
	return -EINVAL;
}

static void content_done(struct content *c)
{
	for (size_t i = 0; i < SPLITS; i++)
		free(c->splits[i].at);
	for (size_t i = 0; i < SLOT_N; i++)
		source_done(&c->sources[i]);
	*c = (struct content){0};
}

static int check_shape(const struct dataset_conf *c, const char *path, struct err *err)
{
	if ((c->channels == 1 || c->channels == 3) && c->width && c->height &&
	    c->width <= DATASET_SIDE_MAX && c->height <= DATASET_SIDE_MAX &&
	    (uint64_t)c->width * c->height * c->channels <= INPUT_MAX)
		return 0;
	return err_set(err, -EINVAL,
		       "%s: images of %u x %u with %u channels are asked for, expected 1 to %d a "
		       "side and 1 or 3 channels",
		       path, c->width, c->height, c->channels, DATASET_SIDE_MAX);
}

static int check_conf(const struct dataset_conf *c, const struct classes *classes, struct err *err)
{
	if (!c->path[0])
		return err_set(err, -EINVAL, "data set: no path is given");
	if (!classes->n || classes->n > DATASET_CLASSES_MAX)
		return err_set(err, -EINVAL, "%s: %zu classes, expected 1 to %d", c->path,
			       classes->n, DATASET_CLASSES_MAX);
	int r = check_shape(c, c->path, err);
	if (r < 0)
		return r;
	if (!(c->validation_share >= 0 && c->validation_share <= 0.9))
		return err_set(err, -EINVAL, "%s: validation_share %g, expected 0 to 0.9", c->path,
			       c->validation_share);
	if (!(c->test_share >= 0 && c->test_share <= 0.9) ||
	    c->validation_share + c->test_share >= 1)
		return err_set(err, -EINVAL,
			       "%s: test_share %g, expected 0 to 0.9 and with validation_share "
			       "below 1",
			       c->path, c->test_share);
	return 0;
}

static int scan(const struct dataset *d, struct content *c, struct err *err)
{
	const struct dataset_conf *f = &d->conf;
	int r = 0;
	if (!f->test_path[0])
		r = source_scan(f->path, SOURCE_T10K, &d->classes, &c->sources[SLOT_T10K], err);
	if (r >= 0)
		r = source_scan(f->path, SOURCE_TRAIN, &d->classes, &c->sources[SLOT_PATH], err);
	if (r >= 0 && f->test_path[0])
		r = source_scan(f->test_path, SOURCE_GIVEN, &d->classes, &c->sources[SLOT_TEST],
				err);
	if (r >= 0 && f->validation_path[0])
		r = source_scan(f->validation_path, SOURCE_GIVEN, &d->classes,
				&c->sources[SLOT_VALIDATION], err);
	if (r >= 0 && f->stay_path[0])
		r = source_scan(f->stay_path, SOURCE_TRAIN, &d->classes, &c->sources[SLOT_STAY],
				err);
	if (r < 0)
		return r;
	if (c->sources[SLOT_PATH].kind == SOURCE_NONE && c->sources[SLOT_T10K].kind == SOURCE_NONE)
		return err_set(err, -ENOENT,
			       "%s: has t10k files only, expected train-images-idx3-"
			       "ubyte and train-labels-idx1-ubyte",
			       f->path);
	if (f->stay_path[0] && c->sources[SLOT_STAY].kind == SOURCE_NONE)
		return err_set(err, -ENOENT, "%s: has t10k files only, expected training images",
			       f->stay_path);
	return 0;
}

static int load(const struct dataset *d, struct content *c, struct err *err)
{
	uint64_t room_bytes = d->conf.memory_max_bytes;
	int r = 0;
	for (size_t i = 0; i < SLOT_N && r >= 0; i++)
		r = source_share(&c->sources[i], &d->content.sources[i], &d->conf, &room_bytes,
				 err);
	for (size_t i = 0; i < SLOT_N && r >= 0; i++)
		r = source_load(&c->sources[i], &d->conf, &d->classes,
				i == SLOT_PATH ? d->conf.limit : 0, &room_bytes, err);
	return r;
}

struct ranked {
	struct image_key key;
	const struct entry *entry;
};

static int compare_entries(const struct entry *x, const struct entry *y)
{
	int r = memcmp(x->px->sha, y->px->sha, SHA_BYTES);
	return r ? r : (x->label > y->label) - (x->label < y->label);
}

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->key.rank != y->key.rank)
		return x->key.rank < y->key.rank ? -1 : 1;
	return compare_entries(x->entry, y->entry);
}

static int compare_index(const void *a, const void *b)
{
	return compare_entries(*(const struct entry *const *)a, *(const struct entry *const *)b);
}

/* share * 2^64, without overflow at 1. */
static uint64_t threshold(double share)
{
	return share >= 1 ? UINT64_MAX : (uint64_t)(share * 0x1p64);
}

/* The readable images of `path`, at most conf.limit of them, with what decides their split. */
static int rank(const struct dataset *d, const struct source *s, struct ranked *ret, size_t *ret_n)
{
	size_t n = 0;
	for (size_t i = 0; i < s->n; i++) {
		if (!s->entries[i].px)
			continue;
		int r = image_key(d->conf.seed, s->entries[i].px->sha, &ret[n].key);
		if (r < 0)
			return r;
		ret[n++].entry = &s->entries[i];
	}
	if (d->conf.limit && n > d->conf.limit) {
		qsort(ret, n, sizeof(*ret), compare_ranked);
		n = d->conf.limit;
	}
	*ret_n = n;
	return 0;
}

static int split_path(const struct dataset *d, struct content *c)
{
	const struct source *s = &c->sources[SLOT_PATH];
	_cleanup_free_ struct ranked *all = calloc(s->n + 1, sizeof(*all));
	size_t n = 0;
	int r = all ? rank(d, s, all, &n) : -ENOMEM;
	if (r < 0)
		return r;
	bool own_test = !d->conf.test_path[0] && c->sources[SLOT_T10K].kind == SOURCE_NONE;
	double test = own_test ? d->conf.test_share : 0;
	double validation = d->conf.validation_path[0] ? 0 : d->conf.validation_share;
	uint64_t test_below = threshold(test), validation_below = threshold(test + validation);
	for (size_t i = 0; i < n; i++) {
		uint64_t v = all[i].key.split;
		enum split to = v < test_below         ? SPLIT_TEST
				: v < validation_below ? SPLIT_VALIDATION
						       : SPLIT_TRAIN;
		c->splits[to].at[c->splits[to].n++] = all[i].entry;
	}
	return 0;
}

static void add_all(const struct source *s, struct index *to)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].px)
			to->at[to->n++] = &s->entries[i];
}

/* What is in both goes from the one. Both are sorted; an image is the same whatever its label. */
static void leave_out(struct index *from, const struct index *other)
{
	uint32_t n = 0;
	for (uint32_t i = 0, k = 0; i < from->n; i++) {
		const uint8_t *sha = from->at[i]->px->sha;
		while (k < other->n && memcmp(other->at[k]->px->sha, sha, SHA_BYTES) < 0)
			k++;
		if (k == other->n || memcmp(other->at[k]->px->sha, sha, SHA_BYTES) != 0)
			from->at[n++] = from->at[i];
	}
	from->n = n;
}

static void note_skipped(struct content *c)
{
	for (size_t i = 0; i < SLOT_N; i++)
		for (size_t j = 0; j < c->sources[i].n; j++) {
			const struct entry *e = &c->sources[i].entries[j];
			if (e->px)
				continue;
			if (c->n_skipped < DATASET_SKIPPED_NAMED)
				c->skipped[c->n_skipped] = e->fault;
			c->n_skipped++;
		}
}

static int make_index(const struct dataset *d, struct content *c, struct err *err)
{
	size_t total = 0;
	for (size_t i = 0; i < SLOT_N; i++)
		total += c->sources[i].n;
	for (size_t i = 0; i < SPLITS; i++) {
		c->splits[i].at = calloc(total + 1, sizeof(*c->splits[i].at));
		if (!c->splits[i].at)
			return err_errno(err, -ENOMEM, "%s", d->conf.path);
	}
	int r = split_path(d, c);
	if (r < 0)
		return err_errno(err, r, "%s", d->conf.path);
	add_all(&c->sources[SLOT_T10K], &c->splits[SPLIT_TEST]);
	add_all(&c->sources[SLOT_TEST], &c->splits[SPLIT_TEST]);
	add_all(&c->sources[SLOT_VALIDATION], &c->splits[SPLIT_VALIDATION]);
	add_all(&c->sources[SLOT_STAY], &c->splits[SPLIT_STAY]);
	for (size_t i = 0; i < SPLITS; i++)
		qsort(c->splits[i].at, c->splits[i].n, sizeof(*c->splits[i].at), compare_index);
	leave_out(&c->splits[SPLIT_TRAIN], &c->splits[SPLIT_STAY]);
	leave_out(&c->splits[SPLIT_STAY], &c->splits[SPLIT_VALIDATION]);
	leave_out(&c->splits[SPLIT_STAY], &c->splits[SPLIT_TEST]);
	note_skipped(c);
	return 0;
}

static int classes_copy(const struct classes *from, struct classes *to)
{
	to->names = calloc(from->n, sizeof(*to->names));
	if (!to->names)
		return -ENOMEM;
	for (; to->n < from->n; to->n++)
		if (!(to->names[to->n] = strdup(from->names[to->n])))
			return -ENOMEM;
	return 0;
}

static uint64_t memory_default(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	uint64_t half = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : UINT64_MAX;
	return MIN_OF(half, DATASET_MEMORY_MAX);
}

static void dataset_freep(struct dataset **d)
{
	dataset_free(*d);
}

int dataset_open(const struct dataset_conf *conf, const struct classes *classes,
		 struct dataset **ret, struct err *err)
{
	int r = check_conf(conf, classes, err);
	if (r < 0)
		return r;
	_cleanup_(dataset_freep) struct dataset *d = calloc(1, sizeof(*d));
	if (!d)
		return err_errno(err, -ENOMEM, "%s", conf->path);
	d->conf = *conf;
	if (!d->conf.memory_max_bytes)
		d->conf.memory_max_bytes = memory_default();
	if (classes_copy(classes, &d->classes) < 0)
		return err_errno(err, -ENOMEM, "%s", conf->path);
	bool changed;
	r = dataset_rescan(d, &changed, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(d);
	return 0;
}

void dataset_free(struct dataset *d)
{
	if (!d)
		return;
	content_done(&d->content);
	classes_done(&d->classes);
	free(d);
}

static bool content_equal(const struct content *a, const struct content *b)
{
	bool same = a->n_skipped == b->n_skipped;
	for (size_t s = 0; s < SPLITS && same; s++) {
		same = a->splits[s].n == b->splits[s].n;
		for (uint32_t i = 0; same && i < a->splits[s].n; i++)
			same = !compare_entries(a->splits[s].at[i], b->splits[s].at[i]);
	}
	return same;
}

int dataset_rescan(struct dataset *d, bool *ret_changed, struct err *err)
{
	_cleanup_(content_done) struct content c = {0};
	int r = scan(d, &c, err);
	if (r < 0)
		return r;
	bool same = d->content.splits[SPLIT_TRAIN].at != NULL; /* not so when it is being opened */
	for (size_t i = 0; same && i < SLOT_N; i++)
		same = source_equal(&c.sources[i], &d->content.sources[i]);
	if (same) {
		*ret_changed = false;
		return 0;
	}
	r = load(d, &c, err);
	if (r >= 0)
		r = make_index(d, &c, err);
	if (r < 0)
		return r;
	struct content old = d->content;
	d->content = c;
	c = old;
	*ret_changed = !content_equal(&c, &d->content);
	return 0;
}

uint32_t dataset_count(const struct dataset *d, enum split s)
{
	return d->content.splits[s].n;
}

uint32_t dataset_label(const struct dataset *d, enum split s, uint32_t i)
{
	return d->content.splits[s].at[i]->label;
}

uint32_t dataset_classes(const struct dataset *d)
{
	return (uint32_t)d->classes.n;
}

const char *dataset_class_name(const struct dataset *d, uint32_t c)
{
	return c < d->classes.n ? d->classes.names[c] : NULL;
}

void dataset_snapshot(const struct dataset *d, enum split s, char out[HASH_SIZE])
{
	const struct index *x = &d->content.splits[s];
	struct hash *h = NULL;
	int r = hash_new(&h);
	for (uint32_t i = 0; r >= 0 && i < x->n; i++) {
		uint32_t label = x->at[i]->label;
		const uint8_t le[4] = {(uint8_t)label, (uint8_t)(label >> 8),
				       (uint8_t)(label >> 16), (uint8_t)(label >> 24)};
		r = hash_update(h, x->at[i]->px->sha, SHA_BYTES);
		if (r >= 0)
			r = hash_update(h, le, sizeof(le));
	}
	if (r >= 0)
		r = hash_hex(h, out);
	hash_free(h);
	if (r < 0) /* out of memory: a name that no snapshot has, so nothing compares equal */
		out[0] = 0;
}

uint64_t dataset_bytes(const struct dataset *d)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < SLOT_N; i++) {
		const struct source *s = &d->content.sources[i];
		if (s->kind == SOURCE_IDX)
			bytes += s->images_stamp.size + s->labels_stamp.size;
		for (size_t k = 0; s->kind == SOURCE_FOLDER && k < s->list.n; k++)
			bytes += s->list.files[k].stamp.size;
	}
	return bytes;
}

uint32_t dataset_skipped(const struct dataset *d)
{
	return d->content.n_skipped;
}

const char *dataset_skipped_name(const struct dataset *d, uint32_t i)
{
	return i < MIN_OF(d->content.n_skipped, (uint32_t)DATASET_SKIPPED_NAMED)
		       ? d->content.skipped[i]
		       : NULL;
}

/* Of which source an entry is; only for those that are not held. */
static const struct source *source_of(const struct dataset *d, const struct entry *e)
{
	const struct source *s = d->content.sources;
	while (!s->n || e < s->entries || e >= s->entries + s->n)
		s++;
	return s;
}

int dataset_pixels(const struct dataset *d, enum split s, uint32_t i, const struct augment *a,
		   struct rng *rng, float *out, struct err *err)
{
	const struct dataset_conf *c = &d->conf;
	const struct entry *e = d->content.splits[s].at[i];
	const uint8_t *planes = e->px->planes;
	_cleanup_free_ uint8_t *read = NULL;
	_cleanup_free_ float *scratch = NULL;
	if (a) {
		scratch = malloc(augment_scratch(c->width, c->height) * sizeof(*scratch));
		if (!scratch)
			return err_errno(err, -ENOMEM, "%s", c->path);
	}
	if (!e->px->held) {
		planes = read = malloc((size_t)c->width * c->height * c->channels);
		int r = read ? source_read(source_of(d, e), e, c, read, err)
			     : err_errno(err, -ENOMEM, "%s", c->path);
		if (r < 0)
			return r;
	}
	augment_apply(a, rng, planes, c->width, c->height, c->channels, scratch, out);
	return 0;
}

uint32_t dataset_held(const struct dataset *d)
{
	uint32_t n = 0;
	for (size_t s = 0; s < SPLITS; s++)
		for (uint32_t i = 0; i < d->content.splits[s].n; i++)
			n += d->content.splits[s].at[i]->px->held;
	return n;
}

void dataset_shape(const struct dataset *d, uint32_t *width, uint32_t *height, uint32_t *channels)
{
	*width = d->conf.width;
	*height = d->conf.height;
	*channels = d->conf.channels;
}

void dataset_order(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *ret)
{
	/* Twice through the generator: streams of neighbouring seeds and epochs do not overlap. */
	struct rng rng;
	rng_init(&rng, seed);
	rng_init(&rng, rng_u64(&rng) + epoch);
	rng_init(&rng, rng_u64(&rng));
	for (uint32_t i = 0; i < n; i++)
		ret[i] = i;
	for (uint32_t i = n; i > 1; i--) { /* Fisher and Yates, as Durstenfeld wrote it */
		uint32_t j = rng_below(&rng, i), t = ret[i - 1];
		ret[i - 1] = ret[j];
		ret[j] = t;
	}
}

int dataset_read_image(const char *path, uint32_t width, uint32_t height, uint32_t channels,
		       uint32_t center_crop, float *out, struct err *err)
{
	const struct dataset_conf conf = {
		.width = width, .height = height, .channels = channels, .center_crop = center_crop};
	int r = check_shape(&conf, path, err);
	if (r < 0)
		return r;
	_cleanup_free_ uint8_t *planes = malloc((size_t)width * height * channels);
	if (!planes)
		return err_errno(err, -ENOMEM, "%s", path);
	r = source_read_image(path, &conf, planes, NULL, err);
	if (r >= 0)
		augment_apply(NULL, NULL, planes, width, height, channels, NULL, out);
	return r;
}
