/* Two steps: how much of each class a part gets (`deal`, once), then the part of each image (choose()).
 *
 * Invariant: what decides here has nothing in common with what decides about the same image when a
 * part is opened later (its split and its rank under a limit, source.h): the hash is salted. Unsalted,
 * a part would consist of images whose split and rank are alike. */
#include "common/dataset/share.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/dataset/source.h"

#define TO_TEST	     -1
#define BALANCE_MAX  500  /* rounds; it takes a few dozen unless --skew is extreme */
#define BALANCE_NEAR 1e-6 /* of a part's share: less than an image in a million is off */

struct deal {
	const struct share_conf *conf;
	double weights[SHARE_PARTS_MAX];
	uint32_t counts[DATASET_CLASSES_MAX]; /* images by class */
};

static double factor(const struct share_conf *c, size_t part, size_t label)
{
	return c->parts[part].favours[label] ? c->skew : 1;
}

/* What part i can expect of all images, under the weights as they are. */
static void expect(const struct deal *d, double ret[SHARE_PARTS_MAX])
{
	const struct share_conf *c = d->conf;
	memset(ret, 0, sizeof(double[SHARE_PARTS_MAX]));
	for (size_t label = 0; label < DATASET_CLASSES_MAX; label++) {
		double total = 0;
		if (!d->counts[label])
			continue;
		for (size_t i = 0; i < c->n_parts; i++)
			total += d->weights[i] * factor(c, i, label);
		for (size_t i = 0; i < c->n_parts; i++)
			ret[i] += d->counts[label] * d->weights[i] * factor(c, i, label) / total;
	}
}

/* Finds the weights under which each part's share of the whole is what was asked for although some
 * favour classes: iterative proportional fitting (Deming and Stephan 1940) of parts by classes. The
 * ratio of favoured to other classes between two parts stays `skew`. */
static void balance(struct deal *d)
{
	const struct share_conf *c = d->conf;
	double asked = 0, images = 0, worst = 1;
	for (size_t i = 0; i < c->n_parts; i++)
		asked += d->weights[i] = c->parts[i].weight;
	for (size_t label = 0; label < DATASET_CLASSES_MAX; label++)
		images += d->counts[label];
	for (int round = 0; images > 0 && worst > BALANCE_NEAR && round < BALANCE_MAX; round++) {
		double expected[SHARE_PARTS_MAX];
		expect(d, expected);
		worst = 0;
		for (size_t i = 0; i < c->n_parts; i++) {
			double change = c->parts[i].weight / asked * images / expected[i];
			d->weights[i] *= change;
			worst = fmax(worst, fabs(change - 1));
		}
	}
}

/* A number from 0 to 1, of seed, question and content. */
static int draw(const struct share_conf *c, const char *question, const uint8_t sha[SHA_BYTES],
		double *ret)
{
	uint8_t text[32 + SHA_BYTES], salted[SHA_BYTES];
	struct image_key key;
	size_t len = strlen(question);
	memcpy(text, question, len);
	memcpy(text + len, sha, SHA_BYTES);
	int r = sha_bytes(text, len + SHA_BYTES, salted);
	if (r == 0)
		r = image_key(c->seed, salted, &key);
	if (r == 0)
		*ret = (double)key.split * 0x1p-64;
	return r;
}

/* The part an image of `label` goes to, or TO_TEST. */
static int choose(const struct deal *d, bool own_test, uint32_t label, const uint8_t sha[SHA_BYTES],
		  int *ret)
{
	const struct share_conf *c = d->conf;
	double u = 0, total = 0;
	int r = draw(c, "share: test?", sha, &u);
	if (r < 0)
		return r;
	if (!own_test && u < c->test_share) {
		*ret = TO_TEST;
		return 0;
	}
	r = draw(c, "share: part?", sha, &u);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->n_parts; i++)
		total += d->weights[i] * factor(c, i, label);
	u *= total;
	size_t i = 0;
	for (; i + 1 < c->n_parts && u >= d->weights[i] * factor(c, i, label); i++)
		u -= d->weights[i] * factor(c, i, label);
	*ret = (int)i;
	return 0;
}

static const char *part_name(const struct share_conf *c, int part)
{
	return part == TO_TEST ? "test" : c->parts[part].name;
}

/* One party's images of an IDX data set, collected before they are written. */
struct pile {
	uint8_t *pixels, *labels;
	uint32_t n, room;
};

static void piles_free(struct pile *piles, size_t n)
{
	for (size_t i = 0; piles && i < n; i++) {
		free(piles[i].pixels);
		free(piles[i].labels);
	}
	free(piles);
}

static int pile_add(struct pile *p, const uint8_t *pixels, size_t bytes, uint8_t label)
{
	if (p->n == p->room) {
		uint32_t room = p->room ? p->room * 2 : 256;
		uint8_t *grown = realloc(p->pixels, room * bytes);
		if (!grown)
			return -ENOMEM;
		p->pixels = grown;
		grown = realloc(p->labels, room);
		if (!grown)
			return -ENOMEM;
		p->labels = grown;
		p->room = room;
	}
	memcpy(p->pixels + p->n * bytes, pixels, bytes);
	p->labels[p->n++] = label;
	return 0;
}

/* Deals the images of one pair of files; `fixed_test`: all of them are test images. */
static int deal_pair(const struct idx_pair *pair, struct deal *d, bool own_test, bool fixed_test,
		     struct pile *piles, struct idx *x, struct err *err)
{
	int r = idx_open(pair, x, err);
	if (r < 0)
		return r;
	if (!fixed_test) {
		for (uint32_t i = 0; i < x->n; i++)
			d->counts[x->labels[i]]++;
		balance(d);
	}
	size_t bytes = (size_t)x->rows * x->cols;
	_cleanup_free_ uint8_t *pixels = malloc(bytes);
	if (!pixels)
		return err_errno(err, -ENOMEM, "%s", pair->images);
	for (uint32_t i = 0; i < x->n; i++) {
		uint8_t sha[SHA_BYTES];
		int part = TO_TEST;
		r = idx_next(x, pixels, err);
		if (r < 0)
			return r;
		r = sha_bytes(pixels, bytes, sha);
		if (r == 0 && !fixed_test)
			r = choose(d, own_test, x->labels[i], sha, &part);
		if (r == 0)
			r = pile_add(&piles[part == TO_TEST ? (int)d->conf->n_parts : part], pixels,
				     bytes, x->labels[i]);
		if (r < 0)
			return err_errno(err, r, "%s", pair->images);
	}
	return idx_end(x, err);
}

static int write_piles(const char *out, const struct share_conf *c, const struct pile *piles,
		       uint32_t rows, uint32_t cols, struct err *err)
{
	for (size_t i = 0; i <= c->n_parts; i++) {
		int part = i == c->n_parts ? TO_TEST : (int)i;
		char dir[FILE_PATH_MAX];
		if (!piles[i].n)
			return err_set(err, -EINVAL, "%s: no image is left for '%s'", out,
				       part_name(c, part));
		if (file_path(dir, sizeof(dir), "%s/%s", out, part_name(c, part)) < 0)
			return err_set(err, -ENAMETOOLONG, "%s", out);
		int r = file_mkdirs(dir, err);
		if (r == 0)
			r = idx_write(dir, part == TO_TEST ? "t10k" : "train", piles[i].n, rows, cols,
				      piles[i].pixels, piles[i].labels, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int share_idx(const struct idx_pair *train, const char *data, const char *out,
		     struct deal *d, struct err *err)
{
	const struct share_conf *c = d->conf;
	struct idx_pair test;
	struct idx x = {0}, tx = {0};
	int own_test = idx_find(data, "t10k", &test, err);
	if (own_test < 0)
		return own_test;
	struct pile *piles = calloc(c->n_parts + 1, sizeof(*piles));
	int r = piles ? deal_pair(train, d, own_test, false, piles, &x, err)
		      : err_errno(err, -ENOMEM, "%s", data);
	if (r == 0 && own_test)
		r = deal_pair(&test, d, true, true, piles, &tx, err);
	if (r == 0 && own_test && (tx.rows != x.rows || tx.cols != x.cols))
		r = err_set(err, -EBADMSG, "%s: images of %ux%u, expected %ux%u as in %s", test.images,
			    tx.cols, tx.rows, x.cols, x.rows, train->images);
	if (r == 0)
		r = write_piles(out, c, piles, x.rows, x.cols, err);
	idx_done(&x);
	idx_done(&tx);
	piles_free(piles, c->n_parts + 1);
	return r;
}

/* OUT/<part>/<class>/<file> -> the original */
static int link_image(const char *original, const char *out, const char *part, const char *name,
		      struct err *err)
{
	char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
	const char *slash = strchr(name, '/');
	if (file_path(dir, sizeof(dir), "%s/%s/%.*s", out, part, (int)(slash - name), name) < 0 ||
	    file_path(path, sizeof(path), "%s/%s/%s", out, part, name) < 0)
		return err_set(err, -ENAMETOOLONG, "%s/%s/%s", out, part, name);
	int r = file_mkdirs(dir, err);
	if (r == 0 && symlink(original, path) < 0)
		r = err_errno(err, -errno, "%s", path);
	return r;
}

static int share_folders(const char *data, const char *out, const struct classes *classes,
			 struct deal *d, struct err *err)
{
	struct folder_list list = {0};
	_cleanup_free_ char *root = realpath(data, NULL);
	if (!root)
		return err_errno(err, -errno, "%s", data);
	int r = folder_list(root, classes, &list, err);
	for (size_t i = 0; r == 0 && i < list.n; i++)
		d->counts[list.files[i].label]++;
	if (r == 0)
		balance(d);
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		char path[FILE_PATH_MAX];
		_cleanup_free_ char *bytes = NULL;
		size_t len;
		uint8_t sha[SHA_BYTES];
		int part = 0;
		if (file_path(path, sizeof(path), "%s/%s", root, list.files[i].name) < 0)
			r = err_set(err, -ENAMETOOLONG, "%s/%s", root, list.files[i].name);
		else
			r = file_read(path, DATASET_FILE_BYTES_MAX, &bytes, &len, err);
		if (r < 0)
			break;
		if (sha_bytes(bytes, len, sha) < 0 ||
		    choose(d, false, list.files[i].label, sha, &part) < 0)
			r = err_set(err, -EIO, "%s: its hash could not be made", path);
		else
			r = link_image(path, out, part_name(d->conf, part), list.files[i].name,
				       err);
	}
	folder_list_done(&list);
	return r;
}

static int write_classes(const char *out, const struct classes *classes, struct err *err)
{
	char path[FILE_PATH_MAX];
	size_t bytes = classes->n * (DATASET_CLASS_NAME_MAX + 1) + 1, len = 0;
	_cleanup_free_ char *text = malloc(bytes);
	if (!text)
		return err_errno(err, -ENOMEM, "%s", out);
	for (size_t i = 0; i < classes->n; i++)
		len += (size_t)snprintf(text + len, bytes - len, "%s\n", classes->names[i]);
	if (file_path(path, sizeof(path), "%s/classes.txt", out) < 0)
		return err_set(err, -ENAMETOOLONG, "%s", out);
	return file_write(path, text, len, err);
}

int share_write(const char *data, const char *out, const struct share_conf *conf, struct err *err)
{
	struct classes classes = {0};
	struct idx_pair train;
	struct deal deal = {.conf = conf};
	if (file_exists(out))
		return err_set(err, -EEXIST, "%s: exists already; the parts go into a new folder", out);
	int is_idx = idx_find(data, "train", &train, err);
	if (is_idx < 0)
		return is_idx;
	int r = classes_from_data(data, &classes, err);
	if (r == 0)
		r = file_mkdirs(out, err);
	if (r == 0)
		r = is_idx ? share_idx(&train, data, out, &deal, err)
			   : share_folders(data, out, &classes, &deal, err);
	if (r == 0)
		r = write_classes(out, &classes, err);
	classes_done(&classes);
	return r;
}
